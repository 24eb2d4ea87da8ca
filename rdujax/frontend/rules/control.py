"""Loops and branches: `scan`, `while` and `cond` become regions; bodies become graphs of their own.

    fori_loop with bounds that are numbers    scan        switch    clamp, cond
    fori_loop with computed bounds            while       cond on a number of the text    its branch, in place
    platform_dependent                        its default, in place

What a body reads of the function around it is a constant of the region. A part of the carry that the body returns as it
was is one, too; what nobody reads of the carry, the xs and the ys is left out. The rest of what a body returns is in
places of its own: where it returns an input, one value twice, or what a `while` loop computes, it copies.

Many `while` loops at once, as `vmap` makes them, turn for as long as the condition of one holds.
Keys of random numbers and complex values go in and out as their two parts, empty arrays not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from rdujax.base import compat
from rdujax.frontend.builder import Builder
from rdujax.frontend.rule import RULES, Empty, Key, Operand, Pair, Scalar, Site, rule
from rdujax.frontend.rules import random
from rdujax.frontend.rules.empties import is_empty
from rdujax.graph.regions import Branch, Loop
from rdujax.ops.move import Move
from rdujax.ops.op import TensorType
from rdujax.streams.access import Reshape

# Adds the equations of a body to a builder, in a scope; the outputs that are read, None for the others.
Enter = Callable[..., Sequence[Operand | None]]
Results = Sequence[Operand | None]


def apply(site: Site, wanted: Sequence[bool], enter: Enter) -> Results:
    """The results of a loop or branch that are wanted; None for the others.

    Raises UnsupportedError for a loop without trips, and what the equations of its bodies raise.
    """
    return REGIONS[site.primitive](site, wanted, enter)


def _scan(site: Site, wanted: Sequence[bool], enter: Enter) -> Results:
    given, label = site.parameters, _label(site)
    if given["length"] < 1:
        raise site.unsupported("a loop without a trip", "leave it out, or give it one")
    n_consts, n_carry = compat.scan_counts(given)
    consts, carry, xs = _cut(site.operands, n_consts, n_carry)
    read = [True] * n_carry + list(wanted[n_carry:])
    body = _body(site, enter, given["jaxpr"], consts, carry, xs, label, read, n_carry)
    live = _live(body, _each(wanted[:n_carry], site.results[:n_carry]), set())
    outputs = _placed(body, [*(body.made[k] for k in live), *body.ys], label, site.source)
    inputs, operands, n_consts = _inputs(body, live, body.same, outputs)
    graph = body.builder.graph(outputs, inputs)
    loop = Loop(graph, n_consts, len(live), given["length"], bool(given["reverse"]))
    return _loop_results(site, wanted, n_carry, body, live, loop, operands, label)


def _while(site: Site, wanted: Sequence[bool], enter: Enter) -> Results:
    given, label = site.parameters, _label(site)
    asked, consts, carry = _cut(site.operands, given["cond_nconsts"], given["body_nconsts"])
    body = _body(site, enter, given["body_jaxpr"], consts, carry, (), label, [True] * len(carry), len(carry))
    asks = _body(site, enter, given["cond_jaxpr"], asked, carry, (), f"{label}/condition", [True], 0)
    if shape := asks.builder.types[asks.ys[0]].shape:
        body, axes = _each_for_itself(site, body, asked, enter, f"{label}/holds"), tuple(range(len(shape)))
        some = _added(site, asks.builder, f"{label}/condition", "reduce_or", (), asks.ys, {"axes": axes})
        asks = replace(asks, ys=[some])
    needed = asks.builder.needs(asks.ys)
    live = _live(body, _each(wanted, site.results), {k for k, v in enumerate(asks.carry) if v in needed})
    outputs = _placed(body, [body.made[k] for k in live], label, site.source)
    inputs, operands, n_consts = _inputs(body, live, body.same, outputs)
    asks_inputs, asks_operands, n_asks = _inputs(asks, live, body.same, asks.ys)
    condition, graph = asks.builder.graph(asks.ys, asks_inputs), body.builder.graph(outputs, inputs)
    loop = Loop(graph, n_consts, len(live), None, False, condition)
    return _loop_results(site, wanted, len(carry), body, live, loop, [*asks_operands[:n_asks], *operands], label)


def _cond(site: Site, wanted: Sequence[bool], enter: Enter) -> Results:
    index, *given = site.operands
    branches, label = site.parameters["branches"], _label(site)
    if isinstance(index, Scalar):
        chosen = branches[int(np.clip(int(index.value), 0, len(branches) - 1))]
        return enter(site.builder, chosen, given, label, wanted)
    scopes = [f"{label}/branch{i}" for i in range(len(branches))]
    bodies = [
        _body(site, enter, branch, given, (), (), scope, wanted, 0)
        for branch, scope in zip(branches, scopes, strict=True)
    ]
    outputs = [_placed(body, body.ys, scope, site.source) for body, scope in zip(bodies, scopes, strict=True)]
    shared: dict[int, None] = {}  # what some branch reads; all take it
    for body, returned in zip(bodies, outputs, strict=True):
        used = body.builder.needs(returned)
        shared |= dict.fromkeys(v for v, inside in body.builder.captured.items() if inside in used)
    graphs = tuple(
        body.builder.graph(returned, [body.builder.capture(v) for v in shared])
        for body, returned in zip(bodies, outputs, strict=True)
    )
    values = site.builder.add_region(Branch(graphs), [site.value(0), *shared], label, site.source)
    return _results(site.results, wanted, values)


@rule("platform_index")
def _platform(site: Site) -> tuple[Any, ...]:
    """Which branch of `jax.lax.platform_dependent` is taken: the default, for the machine is no platform of JAX."""
    platforms = site.parameters["platforms"]
    if None not in platforms:
        named = ", ".join(name for group in platforms for name in group)
        raise site.unsupported(f"functions for {named} and no default", "give a default, or call the one you mean")
    return (Scalar(np.int32(platforms.index(None)), np.dtype(np.int32)),)


REGIONS: dict[str, Callable[[Site, Sequence[bool], Enter], Results]] = {"scan": _scan, "while": _while, "cond": _cond}


@dataclass(frozen=True)
class _Body:
    """A body under construction, everything in parts.

    first, carry: the carry outside and inside. xs, slices: alike. made: the carry that it returns. ys: what else it
    returns that is read: slices, results of a branch, the answer of a condition.
    """

    builder: Builder
    first: list[int]
    carry: list[int]
    xs: list[int]
    slices: list[int]
    made: list[int]
    ys: list[int]

    @property
    def same(self) -> frozenset[int]:
        """Parts of the carry that are returned as they were."""
        return frozenset(k for k, (a, b) in enumerate(zip(self.carry, self.made, strict=True)) if a == b)


def _body(
    site: Site, enter: Enter, closed: Any, consts: Sequence[Operand], carry: Sequence[Operand], xs: Sequence[Operand],
    scope: str, read: Sequence[bool], n_made: int,
) -> _Body:  # fmt: skip
    """Enters a body. read: the outputs that are of use. n_made: how many of them are `made`; the others are `ys`."""
    outer, inner = site.builder, Builder(site.builder)
    jaxpr, _ = compat.open_jaxpr(closed)
    _, of_carry, of_xs = _cut([v.aval for v in jaxpr.invars], len(consts), len(carry))
    first, wholes = _parts(outer, carry, of_carry), _parts(outer, xs, of_xs)
    known = [_captured(inner, operand) for operand in consts]
    given = [inner.local(outer.types[v], outer.labels[v]) for v in first]
    slices = [inner.local(TensorType(outer.types[v].shape[1:], outer.types[v].fmt), outer.labels[v]) for v in wholes]
    operands = [*known, *_joined(of_carry, given), *_joined(of_xs, slices)]
    outputs, kinds = enter(inner, closed, operands, scope, read), [v.aval for v in jaxpr.outvars]
    made, ys = (_parts(inner, outputs[part], kinds[part]) for part in (slice(n_made), slice(n_made, None)))
    return _Body(inner, first, given, wholes, slices, made, ys)


def _each_for_itself(site: Site, body: _Body, asked: Sequence[Operand], enter: Enter, scope: str) -> _Body:
    """The body of many loops at once: each keeps its carry from when its condition holds no more."""
    jaxpr, inner = site.parameters["cond_jaxpr"], body.builder
    kinds = [v.aval for v in compat.open_jaxpr(jaxpr)[0].invars][len(asked) :]
    consts = [_captured(inner, operand) for operand in asked]
    answer = enter(inner, jaxpr, [*consts, *_joined(kinds, body.carry)], scope)
    [holds] = _parts(inner, answer, [v.aval for v in compat.open_jaxpr(jaxpr)[0].outvars])
    axes, made = tuple(range(len(inner.types[holds].shape))), []
    for old, new in zip(body.carry, body.made, strict=True):
        if old != new:
            shape = inner.types[old].shape
            spread = _added(site, inner, scope, "broadcast_in_dim", shape, [holds], {"broadcast_dimensions": axes})
            new = _added(site, inner, scope, "select_n", shape, [spread, old, new])
        made.append(new)
    return replace(body, made=made)


def _added(
    site: Site, builder: Builder, scope: str, primitive: str, shape: tuple[int, ...], operands: Sequence[int],
    parameters: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """One more equation, with a result of the last operand's dtype."""
    result = jax.ShapeDtypeStruct(shape, builder.types[operands[-1]].fmt.dtype)
    return RULES[primitive](
        replace(
            site, builder=builder, primitive=primitive, operands=tuple(operands), parameters=dict(parameters or {}),
            results=(result,), scope=scope,
        )
    )[0]  # fmt: skip


def _live(body: _Body, read: Sequence[bool], asked: set[int]) -> list[int]:
    """The parts of the carry that turn: those that somebody reads after the loop, or that such a part or y needs.

    asked: those that a condition reads.
    """
    live = ({k for k, wanted in enumerate(read) if wanted} | asked) - body.same
    while True:
        used = body.builder.needs([*(body.made[k] for k in live), *body.ys])
        more = {k for k, v in enumerate(body.carry) if v in used} - body.same - live
        if not more:
            return sorted(live)
        live |= more


def _inputs(body: _Body, live: Sequence[int], same: frozenset[int], outputs: Sequence[int]) -> tuple[Any, Any, int]:
    """(inputs of the graph, operands of the region, how many of them are constants), unused ones left out."""
    used = body.builder.needs(outputs)
    pairs = [*body.builder.captured.items(), *((body.first[k], body.carry[k]) for k in sorted(same))]
    constants = [(whole, inside) for whole, inside in pairs if inside in used]
    slices = [(whole, inside) for whole, inside in zip(body.xs, body.slices, strict=True) if inside in used]
    every = [*constants, *((body.first[k], body.carry[k]) for k in live), *slices]
    return [inside for _, inside in every], [whole for whole, _ in every], len(constants)


def _placed(body: _Body, outputs: Sequence[int], scope: str, source: str) -> list[int]:
    """What a body returns, each in a place of its own: inputs, and what is returned twice, are copied.

    So is what a `while` loop computes, which lies where its last trip left it.
    """
    taken, placed = set(body.builder.inputs), []
    for node in body.builder.nodes:
        if isinstance(node.op, Loop) and node.op.trips is None:
            taken |= set(node.results)
    for value in outputs:
        if value in taken:
            copy = Move(Reshape(body.builder.types[value].shape))
            value = body.builder.add(copy, (value,), scope=f"{scope}/copy", source=source)
        taken.add(value)
        placed.append(value)
    return placed


def _loop_results(
    site: Site, wanted: Sequence[bool], n_carry: int, body: _Body, live: Sequence[int], loop: Loop,
    operands: Sequence[int], label: str,
) -> Results:  # fmt: skip
    """Adds the loop, if anything turns in it, and tells what it computes."""
    values = list(site.builder.add_region(loop, operands, label, site.source)) if live or body.ys else []
    last = [values[live.index(k)] if k in live else v for k, v in enumerate(body.first)]
    read = _each(wanted[:n_carry], site.results[:n_carry])
    parts = [v for v, is_read in zip(last, read, strict=True) if is_read] + values[len(live) :]
    return _results(site.results, wanted, parts)


def _results(kinds: Sequence[Any], wanted: Sequence[bool], parts: Sequence[int]) -> Results:
    """The operands that parts make, for the results that are read."""
    made = iter(_joined([kind for kind, read in zip(kinds, wanted, strict=True) if read], parts))
    return [next(made) if read else None for read in wanted]


def _label(site: Site) -> str:
    return site.builder.unique(f"{site.scope}/{site.primitive}" if site.scope else site.primitive)


def _cut(items: Sequence[Any], *counts: int) -> list[Any]:
    """Consecutive pieces of so many items, and the rest."""
    pieces = []
    for count in counts:
        pieces.append(items[:count])
        items = items[count:]
    return [*pieces, items]


def _width(kind: Any) -> int:
    """How many parts a value of this abstract type has; an empty one none."""
    if is_empty(kind):
        return 0
    return 2 if random.is_key(kind.dtype) or kind.dtype == np.complex64 else 1


def _each(flags: Sequence[bool], kinds: Sequence[Any]) -> list[bool]:
    """A flag for every part."""
    return [flag for flag, kind in zip(flags, kinds, strict=True) for _ in range(_width(kind))]


def _parts(builder: Builder, operands: Sequence[Operand | None], kinds: Sequence[Any]) -> list[int]:
    """Operands of these abstract types as values in memory; none for what is not there."""
    found: list[int] = []
    for operand, kind in zip(operands, kinds, strict=True):
        parts = _halves(operand, kind)
        dtype = np.float32 if kind.dtype == np.complex64 else kind.dtype
        for part in parts:
            if isinstance(part, Scalar):
                part = builder.constant(np.full(kind.shape, part.value, dtype), str(part.value))
            found.append(part)
    return found


def _halves(operand: Operand | None, kind: Any) -> tuple[int | Scalar, ...]:
    if operand is None or isinstance(operand, Empty):
        return ()
    if isinstance(operand, Key):
        return operand.first, operand.second
    if isinstance(operand, Pair):
        return operand.real, operand.imaginary
    if isinstance(operand, Scalar) and kind.dtype == np.complex64:
        return tuple(
            Scalar(np.float32(part), np.dtype(np.float32)) for part in (np.real(operand.value), np.imag(operand.value))
        )
    return (operand,)


def _joined(kinds: Sequence[Any], parts: Sequence[int]) -> list[Operand]:
    """The operands of these abstract types that parts make."""
    rest, made = iter(parts), []
    for kind in kinds:
        both = [next(rest) for _ in range(_width(kind))]
        if not both:
            made.append(Empty(tuple(kind.shape), kind.dtype))
            continue
        made.append(both[0] if len(both) == 1 else (Key if random.is_key(kind.dtype) else Pair)(*both))
    return made


def _captured(inner: Builder, operand: Operand) -> Operand:
    """A constant of a region as its body knows it; a number of the text stays one."""
    if isinstance(operand, Scalar | Empty):
        return operand
    if isinstance(operand, int):
        return inner.capture(operand)
    if isinstance(operand, Key):
        return Key(inner.capture(operand.first), inner.capture(operand.second))
    return Pair(*(p if isinstance(p, Scalar) else inner.capture(p) for p in (operand.real, operand.imaginary)))
