"""Which operator of an operator-by-operator framework an equation is a part of: the outermost call that makes it whole.

An operator is, in this order,

    a scope that the user marks     `with rdujax.operator("rotary"):`, or `jax.named_scope("operator:rotary")`
    a call of a library             made by code that is no library's: a layer of Flax (`nnx.RMSNorm`, the innermost
                                    `__call__` of `flax.nnx.nn`), a loss of Optax, a function of `jax.nn`, `jax.numpy`,
                                    `jax.random`, `jax.scipy`, `jax.lax`, `jax.image`, `jax.ops`, or what `x + y` calls
    one primitive                   everything else

Functions that the user wrote, jitted or not, are no operators; nor are transformations (`jax.vmap`, `jax.checkpoint`),
loops and branches, and the optimisers of Optax: what they call is looked at by itself. The backward pass of an operator
is another one ("softmax_backward").

Calls are told apart by the Python frames that JAX keeps with each equation: which function of the library was entered,
and from where. Where one place calls the same operator again and again with nothing in between, the equations repeat,
and each repetition is a call. Without frames every equation is by itself.
"""

import os
import re
from collections import Counter
from collections.abc import Container, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import jax

from rdujax.base import compat
from rdujax.base.errors import ArgumentError, describe
from rdujax.graph.graph import Graph, Node, Region, all_nodes, rewritten
from rdujax.ops.move import Move

MARK = "operator:"
OPERATORS = ("layer", "loss", "function")  # kinds of library functions
# What takes matrix products alone: each of several, as in a backward pass, is an operator.
_FORWARD = ("matmul", "dot", "einsum", "tensordot", "vdot", "inner", "dot_general", "Linear", "LinearGeneral", "Einsum")
PRODUCTS = frozenset((*_FORWARD, *(f"{name}_backward" for name in _FORWARD)))
_MARKED = re.compile(re.escape(MARK) + r"[^/()]+")
_NAMED = ("nn", "numpy", "random", "scipy", "image", "ops", "lax")  # folders or files of jax/_src
_CONTROL = os.path.join("lax", "control_flow", "")


def operator(name: str) -> AbstractContextManager[Any]:
    """Marks a scope as one operator, for `fusion="none"`: a context manager and a decorator.

    It is `jax.named_scope("operator:" + name)`, and changes no value. Of scopes within each other the outermost counts.
    Raises ArgumentError for a name that is empty or has one of `/()#`.

    >>> @operator("cube")
    ... def cube(x):
    ...     return x * x * x
    """
    if not isinstance(name, str) or not name or set(name) & set("/()#"):
        raise ArgumentError(describe("the name of an operator", given=repr(name), allowed="a str without any of /()#"))
    return jax.named_scope(MARK + name)


class Call(NamedTuple):
    """The call that an equation is a part of: its number within its jaxpr, and the operator's name.

    The name is "" for an equation whose sub-programs are looked at by themselves.
    """

    number: int
    name: str


class _Part(NamedTuple):
    """One equation: the call it may share with its neighbours, its place within, and what the call is named.

    name: None where only the primitives say it, the last of them.
    """

    primitive: str
    call: Hashable
    place: Hashable
    name: str | None


def calls(jaxpr: Any, outer: str, entered: Container[str]) -> list[Call]:
    """For every equation of a jaxpr, the call that it is a part of.

    outer: the scope that the jaxpr stands in. entered: the primitives that have sub-programs.
    """
    parts = [_part(eqn, outer, i, eqn.primitive.name in entered) for i, eqn in enumerate(jaxpr.eqns)]
    found: list[Call] = []
    for number, (begin, end) in enumerate(_pieces(parts)):
        name = parts[begin].name
        found += [Call(number, parts[end - 1].primitive if name is None else name)] * (end - begin)
    return found


def _pieces(parts: "Sequence[_Part]") -> Iterator[tuple[int, int]]:
    """Where each call begins and ends: neighbours share one, but for repetitions and for further matrix products."""
    begin = 0
    for _, group in groupby(parts, key=lambda part: part.call):
        run = list(group)
        if run[0].name in PRODUCTS:
            products = [i for i, part in enumerate(run) if part.primitive == "dot_general"]
            ends = [*products[1:], len(run)]
        else:
            length = _period([part.place for part in run])
            ends = list(range(length, len(run) + 1, length))
        for first, end in pairwise((0, *ends)):
            yield begin + first, begin + end
        begin += len(run)


def only_where_several(graph: Graph) -> Graph:
    """The graph with `Node.operator` kept where several nodes that move or compute something are a part of one."""
    sizes = Counter(n.operator for n in all_nodes(graph) if not isinstance(n.op, Region) and not _is_view(n))
    return rewritten(graph, lambda _, n: n if sizes[n.operator] > 1 or not n.operator else replace(n, operator=""))


def _is_view(node: Node) -> bool:
    return isinstance(node.op, Move) and node.op.is_view


def _part(eqn: Any, outer: str, index: int, is_entered: bool) -> _Part:
    frames, stack = _frames(eqn), compat.scope(eqn)
    entry, scope = _entry(frames), "/".join(filter(None, (outer, stack)))
    primitive, suffix = eqn.primitive.name, "_backward" if "transpose(" in stack else ""
    if marked := _MARKED.search(scope):
        place = (primitive, *(frame.place for frame in frames[: _user(frames) + 1]))
        return _Part(primitive, scope[: marked.end()], place, marked.group().removeprefix(MARK) + suffix)
    if entry is not None:
        inside, outside = frames[: entry + 1], frames[entry + 1 :]
        call = (inside[-1].code, tuple(frame.place for frame in outside), tuple(re.findall(r"\w+\(", stack)))
        names = [frame.name for frame in inside[::-1] if frame.kind == inside[-1].kind and frame.name]
        place = (primitive, *(frame.place for frame in inside))
        return _Part(primitive, call, place, names[0] + suffix if names else None)
    if is_entered:
        file, function = compat.source_function(eqn)
        kind, name = _what(file, function)
        return _Part(primitive, index, index, name + suffix if kind in OPERATORS else "")
    return _Part(primitive, index, index, None)


def _user(frames: "Sequence[_Frame]") -> int:
    """Where the innermost frame of the user stands."""
    return next((i for i, frame in enumerate(frames) if frame.kind == "user"), len(frames))


def _period(places: Sequence[Hashable]) -> int:
    """The length of the shortest piece that the sequence is a repetition of; its own length where it is of none."""
    border = [0] * len(places)  # of every beginning: the longest proper beginning of it that it also ends with
    for i in range(1, len(places)):
        k = border[i - 1]
        while k and places[i] != places[k]:
            k = border[k - 1]
        border[i] = k + (places[i] == places[k])
    period = len(places) - border[-1]
    return period if len(places) % period == 0 else len(places)


class _Frame(NamedTuple):
    """One Python frame: its function and instruction by number, what it is, and the operator's name that it gives."""

    code: int
    instruction: int
    kind: str
    name: str

    @property
    def place(self) -> tuple[int, int]:
        return self.code, self.instruction


def _frames(eqn: Any) -> list[_Frame]:
    """The frames that made an equation, the innermost first."""
    return [_Frame(id(code), at, *_what(code.co_filename, code.co_qualname)) for code, at in compat.frames(eqn)]


def _entry(frames: Sequence[_Frame]) -> int | None:
    """The frame of the library call that is an operator, among those inside of the user's innermost one."""
    kinds = [frame.kind for frame in frames[: _user(frames)]]
    if "layer" in kinds:
        return kinds.index("layer")
    for kind in OPERATORS[1:]:
        if kind in kinds:
            return len(kinds) - 1 - kinds[::-1].index(kind)
    return None


@lru_cache(maxsize=4096)
def _what(file: str, function: str) -> tuple[str, str]:
    """(what a frame is, the name that it gives to an operator): "user", "layer", "loss", "function" or "inner"."""
    flax, optax = compat.package_folder("flax"), compat.package_folder("optax")
    last = function.rpartition(".")[2]
    name = "" if "<locals>" in function or last.startswith("__") else last.strip("_").removeprefix("operator_")
    if flax and file.startswith(flax):
        if not file.startswith(os.path.join(flax, "nnx", "nn", "")):
            return "user", ""
        return ("layer", function.rpartition(".")[0]) if last == "__call__" else ("inner", "")
    if optax and file.startswith(optax):
        return ("loss", name) if file.startswith(os.path.join(optax, "losses", "")) else ("user", "")
    if _is_named(file):
        return "function", name
    return ("inner" if compat.is_of_jax(file) else "user"), ""


def _is_named(file: str) -> bool:
    """Whether a file holds functions of JAX that are operators."""
    inside = compat.place_in_jax(file)
    return re.split(r"[./\\]", inside)[0] in _NAMED and not inside.startswith(_CONTROL)
