"""From a JAX function to a graph: trace it on shapes, walk the jaxpr, enter calls, apply a rule to each equation."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import jax
import numpy as np

from rdujax.base import compat
from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, ShapeError, UnsupportedError, describe
from rdujax.frontend import operators, rules, state  # noqa: F401  (rules fill the table)
from rdujax.frontend.builder import Builder
from rdujax.frontend.rule import RULES, Empty, Key, Operand, Pair, Scalar, Site, missing
from rdujax.frontend.rules import complexes, control, empties, random
from rdujax.frontend.rules.units import UNIT, unit_rule
from rdujax.frontend.sockets import ONE, Sockets, Whole, found
from rdujax.graph.graph import Graph

# Equations that only call a sub-program, by name: their one jaxpr is entered in place.
CALLS = frozenset(
    "jit pjit closed_call core_call call eval_jaxpr custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr "
    "remat remat2 checkpoint custom_lin named_call composite call_hi_primitive".split()
)
ENTERED = CALLS | control.REGIONS.keys()  # and those whose sub-programs become bodies

# How the jit of a compiled program is named, so that it is known where it stands inside of another function.
PROGRAM = "rdu_program_"


@dataclass(frozen=True)
class Traced:
    """A graph and the structures of the arguments and of the results that it belongs to.

    key_inputs, key_outputs: those that are keys of random numbers outside, and UINT32 words [..., 2] in the graph.
    sockets: where several run the graph, each on its parts (see sockets.py).
    """

    graph: Graph
    in_tree: Any
    out_tree: Any
    key_inputs: frozenset[int] = frozenset()
    key_outputs: frozenset[int] = frozenset()
    sockets: Sockets = ONE


def trace(fn: Callable[..., Any], args: Sequence[Any]) -> Traced:
    """Traces `fn` at the shapes and dtypes of `args` (arrays, ShapeDtypeStructs, pytrees of them).

    Raises FormatError for a dtype that the machine does not have, ShapeError for an empty array, UnsupportedError
    for a primitive without a rule, and whatever `fn` itself raises while it is traced.
    """
    if not callable(fn):
        raise ArgumentError(describe("what is compiled must be a function", given=repr(fn), where="argument fn"))
    leaves, in_tree = jax.tree_util.tree_flatten_with_path(tuple(args))
    names = argument_names(fn, len(args))
    labels = [names[path[0].idx] + within(path[1:]) for path, _ in leaves]
    structs = [struct(leaf, label) for (_, leaf), label in zip(leaves, labels, strict=True)]
    builder = Builder()
    values = [_argument(builder, s, n) for s, n in zip(structs, labels, strict=True)]
    with state.refused():
        jaxpr, consts, shapes = compat.trace(fn, *jax.tree.unflatten(in_tree, structs))
    whole, placed = found(jaxpr), ONE
    if whole is None:
        outputs = walk(builder, jaxpr, consts, values, "")
    else:
        builder = Builder()
        placed, values, outputs = _one_socket(builder, whole, jaxpr, consts, structs, labels)
    fixed = tuple(_settled(builder, v) for v in outputs if v is not None)
    taken, given = (
        frozenset(i for i, v in enumerate(each) if isinstance(v, Key)) for each in (values, outputs)
    )  # fmt: skip
    return Traced(
        operators.only_where_several(builder.graph(fixed)), in_tree, jax.tree.structure(shapes), taken, given, placed
    )


def _one_socket(
    builder: Builder, whole: Whole, jaxpr: Any, consts: Sequence[Any],
    structs: Sequence[jax.ShapeDtypeStruct], labels: Sequence[str],
) -> tuple[Sockets, list[Operand], list[Operand | None]]:  # fmt: skip
    """Where a program of several sockets runs, and the values that go in and out of one of them."""
    placed = whole.sockets(jaxpr.invars, labels, structs)
    builder.axes |= dict(placed.axes)
    values: list[Operand] = []
    for i, (given, label) in enumerate(zip(structs, labels, strict=True)):
        part = jax.ShapeDtypeStruct(placed.part_shape(i, given.shape), given.dtype, weak_type=given.weak_type)
        values.append(_argument(builder, part, label))
    known: dict[Any, Operand] = dict(zip(jaxpr.invars, values, strict=True))
    known |= {var: _constant(builder, const, "") for var, const in zip(jaxpr.constvars, consts, strict=True)}
    read = [Scalar(a.val, compat.dtype_of(a)) if isinstance(a, compat.Literal) else known[a] for a in whole.atoms]
    inner, inside = compat.open_jaxpr(whole.body)
    outputs = walk(builder, inner, inside, read, "", caller=whole.source)
    return placed, values, [outputs[i] for i in whole.outputs]


def _argument(builder: Builder, given: jax.ShapeDtypeStruct, label: str) -> Operand:
    if not random.is_key(given.dtype):
        return builder.input(given.shape, given.dtype, label)
    random.check_kind(given.dtype, f"argument {label}")
    return random.from_words(builder, builder.input((*given.shape, 2), np.uint32, label))


def key_words(x: Any, label: str, where: str) -> jax.Array:
    """The UINT32 words [..., 2] of an argument that must be keys; FormatError for anything else."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or str(dtype) != random.THREEFRY:
        raise FormatError(
            describe(
                f"argument {label} has another dtype", given=dtype or repr(x), allowed=random.THREEFRY, where=where,
                do="jax.random.key(seed) makes such a key",
            )
        )  # fmt: skip
    return jax.random.key_data(x)


def argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of the first `count` positional parameters of a function, or "args[i]" where it does not name them."""
    try:
        named = [
            p.name for p in signature(fn).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # built-in callables without a signature
        named = []
    return named[:count] + [f"args[{i}]" for i in range(len(named), count)]


def struct(leaf: Any, label: str) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one argument; raises FormatError for what is no array, ShapeError for an empty one."""
    if compat.is_reference(leaf):
        raise state.reference(jax.typeof(leaf), f"argument {label}")
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        if not isinstance(leaf, int | float | complex | np.generic):
            raise FormatError(
                describe("an argument that is no array", given=type(leaf).__name__, where=f"argument {label}",
                         do="let the function close over it, or fix it: functools.partial(f, name=value)")
            )  # fmt: skip
        raise FormatError(
            describe("a Python number has no format of its own", given=repr(leaf), where=f"argument {label}",
                     allowed="arrays of bfloat16, float32, int32, uint32 or bool",
                     do="pass jnp.asarray(x, jnp.bfloat16), or let the function close over it")
        )  # fmt: skip
    if not all(isinstance(length, int | np.integer) and length >= 0 for length in leaf.shape):
        raise ShapeError(
            describe("a shape with lengths that cannot be", given=f"shape {tuple(leaf.shape)}",
                     allowed="whole numbers, 1 or more", where=f"argument {label}")
        )  # fmt: skip
    if 0 in leaf.shape:
        raise ShapeError(
            describe(
                "an empty array",
                given=f"shape {tuple(leaf.shape)}",
                allowed="at least one element",
                where=f"argument {label}",
            )
        )
    # A weak type decides the dtypes of results, as under plain JAX, and an explicit layout what a shard_map cuts.
    weak, laid = getattr(leaf, "weak_type", False), compat.explicit_sharding(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=weak, sharding=laid)


def within(path: Sequence[Any]) -> str:
    """Where a leaf is in its argument; a variable of Flax is called like the array that it holds."""
    is_held = bool(path) and path[-1] == jax.tree_util.GetAttrKey("value")
    return jax.tree_util.keystr(tuple(path[:-1] if is_held else path))


def walk(
    builder: Builder,
    jaxpr: Any,
    consts: Sequence[Any],
    values: Sequence[Operand],
    scope: str,
    by_hand: bool = False,
    caller: str = "",
    wanted: Sequence[bool] | None = None,
) -> list[Operand | None]:
    """Adds the equations of a jaxpr to the builder and returns its outputs.

    by_hand: the values are tiles of streams, so that only unit calls may touch them. caller: the source line that
    entered this jaxpr, for equations that JAX's own library wrote and that have no line of the user. wanted: the
    outputs that somebody reads (all by default); the others are None, and what only they need is left out, as the
    value of a loss is from its gradient.
    """
    outvars = [v for i, v in enumerate(jaxpr.outvars) if wanted is None or wanted[i]]
    live, needed = _live(jaxpr, outvars)
    known: dict[Any, Operand | None] = {}

    def read(atom: Any) -> Operand | None:
        return Scalar(atom.val, compat.dtype_of(atom)) if isinstance(atom, compat.Literal) else known.get(atom)

    for var, const in zip(jaxpr.constvars, consts, strict=True):
        if compat.is_reference(const):
            lines = (compat.source_line(eqn) for eqn in live if var in eqn.invars)
            raise state.reference(var.aval, next(lines, "") or caller)
        if var in needed:
            known[var] = _constant(builder, const, scope)
    known |= dict(zip(jaxpr.invars, values, strict=True))
    for eqn, operator in zip(live, _operators(builder, jaxpr, live, scope), strict=True):
        read_later = [v in needed for v in eqn.outvars]
        operands = tuple(read(v) for v in eqn.invars)
        with builder.within_operator(operator):
            results = _equation(builder, eqn, operands, scope, by_hand, caller, read_later)  # type: ignore[arg-type]
        known |= dict(zip(eqn.outvars, results, strict=True))
    return [read(v) if wanted is None or wanted[i] else None for i, v in enumerate(jaxpr.outvars)]


def _operators(builder: Builder, jaxpr: Any, live: Sequence[Any], scope: str) -> list[str]:
    """The operator that each of these equations is a part of: all of the one around, if there is one."""
    if builder.operator:
        return [builder.operator] * len(live)
    calls = {id(eqn): call for eqn, call in zip(jaxpr.eqns, operators.calls(jaxpr, scope, ENTERED), strict=True)}
    found: dict[operators.Call, str] = {}
    for eqn in live:
        call = calls[id(eqn)]
        if call not in found:
            found[call] = builder.new_operator(call.name) if call.name else ""
    return [found[calls[id(eqn)]] for eqn in live]


def _live(jaxpr: Any, outvars: Sequence[Any]) -> tuple[list[Any], set[Any]]:
    """The equations that some output needs or that have an effect, in order, and every variable that they read."""
    needed = {v for v in outvars if not isinstance(v, compat.Literal)}
    live = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(v in needed for v in eqn.outvars):
            live.append(eqn)
            needed |= {v for v in eqn.invars if not isinstance(v, compat.Literal)}
    return live[::-1], needed


def _constant(builder: Builder, const: Any, scope: str) -> Operand:
    if compat.is_tracer(const):
        raise ConcretenessError(
            describe("the function closes over a value that JAX is tracing", given=f"{const.aval}", where=scope,
                     do="pass it as an argument, or compile outside of jit, vmap and grad")
        )  # fmt: skip
    if 0 in np.shape(const):
        return Empty(np.shape(const), const.dtype)
    label = f"const{len(builder.constants)}"
    if random.is_key(const.dtype):
        random.check_kind(const.dtype, scope)
        return random.from_words(builder, builder.constant(jax.random.key_data(const), label))
    if np.iscomplexobj(const):
        real, imaginary = (np.asarray(part, np.float32) for part in (np.real(const), np.imag(const)))
        return Pair(builder.constant(real, f"{label}.real"), builder.constant(imaginary, f"{label}.imag"))
    return builder.constant(const, label)


def _equation(
    builder: Builder,
    eqn: Any,
    operands: tuple[Operand, ...],
    outer: str,
    by_hand: bool,
    caller: str,
    wanted: Sequence[bool],
) -> Sequence[Operand | None]:
    name, source = eqn.primitive.name, compat.source_line(eqn) or caller
    scope = "/".join(part for part in (outer, compat.scope(eqn).replace(operators.MARK, "")) if part)
    site = Site(builder, name, operands, dict(eqn.params), tuple(v.aval for v in eqn.outvars), scope, source)
    called = eqn.params.get("name", "")
    if name in ("jit", "pjit") and str(called).startswith(UNIT):
        return unit_rule(site, str(called))
    if name in ("jit", "pjit") and str(called).startswith(PROGRAM):
        raise site.unsupported(
            f"the compiled program {str(called).removeprefix(PROGRAM)} inside of a function to be compiled",
            "compile the function that calls the original one",
        )
    if name in CALLS:
        inner, consts = _callee(eqn)
        inside = "/".join(part for part in (scope, "" if str(called).startswith("<") else str(called)) if part)
        is_again = eqn.params.get("differentiated") and eqn.params.get("prevent_cse")
        with builder.computed_again() if is_again else nullcontext():
            return walk(builder, inner, consts, operands, inside, by_hand, source, wanted)
    if by_hand:
        raise site.unsupported(
            "a JAX operation on the tiles of a stream", "use rdujax.gemm, rdujax.simd or rdujax.transpose"
        )
    if not eqn.effects and all(empties.is_empty(kind) for kind, read in zip(site.results, wanted, strict=True) if read):
        return empties.nothing(site)
    if name in control.REGIONS:

        def enter(inside: Builder, body: Any, given: Sequence[Operand], where: str, read: Sequence[bool] | None = None):
            inner, consts = compat.open_jaxpr(body)
            return walk(inside, inner, consts, given, where, caller=source, wanted=read)

        return control.apply(site, wanted, enter)
    return empties.apply(site, _ruled)


def _ruled(site: Site) -> Sequence[Operand]:
    """The results of an equation by its rule, or by that for keys or complex values."""
    if random.concerns(site):
        return random.apply(site)
    if complexes.is_complex(site):
        return complexes.apply(site)
    if site.primitive not in RULES:
        raise missing(site.primitive, site.scope, site.source)
    return RULES[site.primitive](site)


def _callee(eqn: Any) -> tuple[Any, tuple[Any, ...]]:
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in eqn.params:
            return compat.open_jaxpr(eqn.params[key])
    if eqn.primitive.name == "call_hi_primitive":
        return compat.open_jaxpr(compat.expansion(eqn))
    raise missing(eqn.primitive.name, "", compat.source_line(eqn))


def _settled(builder: Builder, operand: Operand) -> int:
    """An output as a value: a scalar of the text is a constant in memory."""
    if isinstance(operand, Scalar):
        return builder.constant(np.asarray(operand.value, operand.dtype), str(operand.value))
    if isinstance(operand, Key):
        return random.to_words(builder, operand)
    if isinstance(operand, Empty):
        raise ShapeError(
            describe("an empty array", given=f"shape {operand.shape}", allowed="at least one element",
                     where="a result", do="leave it out, and make it where it is needed")
        )  # fmt: skip
    if isinstance(operand, Pair):
        raise UnsupportedError(
            describe("a complex result", given="complex64", do="return its real and its imaginary part")
        )
    return operand
