"""Access patterns: primitives that move values and compute nothing."""

from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from rdujax.frontend.rule import Scalar, Site, rule
from rdujax.numerics.formats import BOOL, format_of
from rdujax.ops.concat import Concat
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.streams.access import Broadcast, Detach, Pad, Reshape, Reverse, Slice, Transpose
from rdujax.units.pcu.expression import IMMEDIATE, Expression, Instruction


@rule("stop_gradient")
def _stop_gradient(site: Site) -> tuple[int, ...]:
    return (site.add(Move(Detach()), site.value(0)),)


@rule("transpose")
def _transpose(site: Site) -> tuple[int, ...]:
    permutation = tuple(site.parameters["permutation"])
    if permutation == tuple(range(len(permutation))):
        return (site.value(0),)
    return (site.add(Move(Transpose(permutation)), site.value(0)),)


@rule("reshape", "squeeze")
def _reshape(site: Site) -> tuple[int, ...]:
    shape, value = tuple(site.results[0].shape), site.value(0)
    order = site.parameters["dimensions"] if site.primitive == "reshape" else None
    if order is not None and tuple(order) != tuple(range(len(order))):
        value = site.add(Move(Transpose(tuple(order))), value)
    if shape == site.builder.types[value].shape:
        return (value,)
    return (site.add(Move(Reshape(shape)), value),)


@rule("broadcast_in_dim")
def _broadcast(site: Site) -> tuple[int, ...]:
    if len(site.operands) != 1:
        raise site.unsupported("a dynamic shape", "use shapes that are known when the function is traced")
    shape, dimensions = tuple(site.results[0].shape), tuple(site.parameters["broadcast_dimensions"])
    value = site.value(0)
    source = site.builder.types[value].shape
    if shape == source:
        return (value,)
    if (
        all(n == 1 for axis, n in enumerate(shape) if axis not in dimensions)
        and tuple(shape[a] for a in dimensions) == source
    ):
        return (site.add(Move(Reshape(shape)), value),)  # only axes of length one are new
    return (site.add(Move(Broadcast(shape, dimensions)), value),)


@rule("slice")
def _slice(site: Site) -> tuple[int, ...]:
    start, limit = tuple(site.parameters["start_indices"]), tuple(site.parameters["limit_indices"])
    return (sliced(site, start, limit, tuple(site.parameters["strides"] or (1,) * len(start))),)


@rule("split")
def _split(site: Site) -> tuple[int, ...]:
    axis, shape = site.parameters["axis"], site.builder.types[site.value(0)].shape
    ends = list(accumulate(map(int, site.parameters["sizes"]), initial=0))
    return tuple(
        sliced(
            site,
            tuple(first if a == axis else 0 for a in range(len(shape))),
            tuple(last if a == axis else n for a, n in enumerate(shape)),
            (1,) * len(shape),
        )
        for first, last in zip(ends, ends[1:], strict=False)
    )


@rule("unstack")
def _unstack(site: Site) -> tuple[int, ...]:
    axis, shape = site.parameters["axis"], site.builder.types[site.value(0)].shape
    start, limit, stride = [0] * len(shape), list(shape), (1,) * len(shape)
    parts = []
    for i in range(shape[axis]):
        start[axis], limit[axis] = i, i + 1
        part = sliced(site, tuple(start), tuple(limit), stride)
        parts.append(site.add(Move(Reshape((*shape[:axis], *shape[axis + 1 :]))), part))
    return tuple(parts)


def sliced(site: Site, start: tuple[int, ...], limit: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """A part of operand 0; the operand itself where it is all of it."""
    access, value = Slice(start, limit, stride), site.value(0)
    if access.shape_of(site.builder.types[value].shape) == site.builder.types[value].shape:
        return value
    return site.add(Move(access), value)


@rule("pad")
def _pad(site: Site) -> tuple[int, ...]:
    value, operand = site.operands[1], site.value(0)
    edges = tuple(tuple(int(n) for n in edge) for edge in site.parameters["padding_config"])
    if not any(any(edge) for edge in edges):
        return (operand,)
    low, high, interior = (tuple(edge[i] for edge in edges) for i in range(3))
    number = value.number if isinstance(value, Scalar) else 0
    padded = site.add(Move(Pad(low, high, interior, number)), operand)
    if isinstance(value, Scalar):
        return (padded,)
    # A value that is computed is chosen wherever there is no element: padding of "an element is here" tells.
    fmt, shape = site.builder.types[operand].fmt, tuple(site.results[0].shape)
    here = site.add(Map(Expression((fmt,), (Instruction(IMMEDIATE, BOOL, (), True),))), operand)
    here = site.add(Move(Pad(low, high, interior, False)), here)
    spread = site.add(Move(Broadcast(shape, ())), site.value(1)) if shape else site.value(1)
    choice = Expression((BOOL, fmt, fmt), (Instruction("select", fmt, (0, 1, 2)),))
    return (site.add(Map(choice), here, padded, spread),)


@rule("rev")
def _reverse(site: Site) -> tuple[int, ...]:
    return (site.add(Move(Reverse(tuple(site.parameters["dimensions"]))), site.value(0)),)


@rule("concatenate")
def _concatenate(site: Site) -> tuple[int, ...]:
    operands = tuple(site.value(i) for i in range(len(site.operands)))
    if len(operands) == 1:
        return operands
    return (site.add(Concat(site.parameters["dimension"]), *operands),)


@rule("stack")
def _stack(site: Site) -> tuple[int, ...]:
    axis = site.parameters["axis"]
    parts = []
    for i in range(len(site.operands)):
        value = site.value(i)
        shape = site.builder.types[value].shape
        parts.append(site.add(Move(Reshape((*shape[:axis], 1, *shape[axis:]))), value))
    return (parts[0],) if len(parts) == 1 else (site.add(Concat(axis), *parts),)


@rule("tile")
def _repeated(site: Site) -> tuple[int, ...]:
    value, repeats = site.value(0), tuple(site.parameters["reps"])
    shape = site.builder.types[value].shape
    if all(n == 1 for n in repeats):
        return (value,)
    spread = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    again = site.add(Move(Broadcast(spread, tuple(2 * a + 1 for a in range(len(shape))))), value)
    return (site.add(Move(Reshape(tuple(n * m for n, m in zip(repeats, shape, strict=True)))), again),)


@rule("empty", "empty2")
def _undefined(site: Site) -> tuple[Any, ...]:
    """Zeros: any value will do for what is not defined, and so the bits are the same in every run.

    JAX makes such values for the residuals of the branches that were not taken, where nothing reads them.
    """
    shape, zero = tuple(site.results[0].shape), Scalar(np.zeros((), site.results[0].dtype), site.results[0].dtype)
    if not shape:
        return (zero,)
    return _broadcast(replace(site, operands=(zero,), parameters={"broadcast_dimensions": ()}))


@rule("iota")
def _iota(site: Site) -> tuple[int, ...]:
    """Numbers along one axis, from memory; the other axes read them again."""
    if site.operands:
        raise site.unsupported("a dynamic shape", "use shapes that are known when the function is traced")
    axis, result = site.parameters["dimension"], site.results[0]
    if format_of(result.dtype, where=site.source) is BOOL:
        raise site.unsupported("iota of bool", "count in int32")
    numbers = np.arange(result.shape[axis]).astype(result.dtype)  # not emulated: a constant of the program
    line = site.builder.constant(numbers, f"iota{len(numbers)}")
    if result.shape == (result.shape[axis],):
        return (line,)
    return (site.add(Move(Broadcast(tuple(result.shape), (axis,))), line),)
