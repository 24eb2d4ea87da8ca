"""Reads and writes at places that are computed: dynamic slices, gather, scatter."""

from math import prod
from typing import Any

import jax
import numpy as np

from rdujax.base import compat
from rdujax.frontend.rule import Empty, Scalar, Site, rule
from rdujax.frontend.rules.access import sliced
from rdujax.numerics.formats import BOOL, INT32, UINT32, Format
from rdujax.ops.dynamic import DynamicSlice, DynamicUpdate
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.ops.put import Put
from rdujax.ops.take import Mode, Places, Take
from rdujax.streams.access import Reshape
from rdujax.units.pcu.expression import BITCAST, IMMEDIATE, Expression, Instruction

SCATTERS = {
    "scatter": "set", "scatter-add": "add", "scatter-sub": "sub", "scatter-mul": "mul", "scatter-min": "min",
    "scatter-max": "max",
}  # fmt: skip


LAST = 2**31 - 1  # of INT32


@rule("dynamic_slice")
def _dynamic_slice(site: Site) -> tuple[int, ...]:
    x, sizes = site.value(0), tuple(site.parameters["slice_sizes"])
    shape, starts = site.builder.types[x].shape, site.operands[1:]
    if all(isinstance(s, Scalar) for s in starts):
        places = [_within(s, n, size) for s, n, size in zip(starts, shape, sizes, strict=True)]
        limits = tuple(p + size for p, size in zip(places, sizes, strict=True))
        return (sliced(site, tuple(places), limits, (1,) * len(places)),)
    axes = tuple(a for a, (n, size) in enumerate(zip(shape, sizes, strict=True)) if size != n)
    if not axes:
        return (x,)
    op = DynamicSlice(axes, tuple(sizes[a] for a in axes))
    return (site.add(op, x, *(_place(site, 1 + a) for a in axes)),)


@rule("dynamic_update_slice")
def _dynamic_update(site: Site) -> tuple[int, ...]:
    x, update = site.value(0), site.value(1)
    shape, new = site.builder.types[x].shape, site.builder.types[update].shape
    axes = tuple(a for a, (n, size) in enumerate(zip(shape, new, strict=True)) if size != n)
    if not axes:
        return (update,)
    return (site.add(DynamicUpdate(axes), x, update, *(_place(site, 2 + a) for a in axes)),)


@rule("gather")
def _gather(site: Site) -> tuple[int, ...]:
    numbers, x = site.parameters["dimension_numbers"], site.value(0)
    if isinstance(site.operands[1], Empty):
        return (_fixed(site, x),)
    mode = _mode(site)
    places = Places(
        tuple(numbers.offset_dims),
        tuple(numbers.collapsed_slice_dims),
        tuple(numbers.start_index_map),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.start_indices_batching_dims),
    )
    fill = _fill_value(site.parameters.get("fill_value"), site.builder.types[x].fmt) if mode == "fill" else 0
    return (site.add(Take(places, tuple(site.parameters["slice_sizes"]), mode, fill), x, _signed(site, site.value(1))),)


@rule(*SCATTERS)
def _scatter(site: Site) -> tuple[int, ...]:
    numbers, x = site.parameters["dimension_numbers"], site.value(0)
    if site.primitive == "scatter" and not _only_writes(site.parameters["update_jaxpr"]):
        raise site.unsupported("a function of what is there", "write x.at[i].set(f(x[i])) for x.at[i].apply(f)")
    places = Places(
        tuple(numbers.update_window_dims),
        tuple(numbers.inserted_window_dims),
        tuple(numbers.scatter_dims_to_operand_dims),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.scatter_indices_batching_dims),
    )
    if isinstance(site.operands[1], Empty):
        return (_all_of_it(site, x),)
    op = Put(places, SCATTERS[site.primitive], site.builder.types[x].fmt, _mode(site))
    return (site.add(op, x, _signed(site, site.value(1)), site.value(2)),)


def _fixed(site: Site, x: int) -> int:
    """A slice whose place no index names: it begins where the tensor does."""
    sizes, shape = tuple(site.parameters["slice_sizes"]), tuple(site.results[0].shape)
    part = sliced(site, (0,) * len(sizes), sizes, (1,) * len(sizes))
    if prod(shape) != prod(sizes):
        raise site.unsupported("one slice many times, by indices of no axis", "use jnp.broadcast_to")
    return part if shape == sizes else site.add(Move(Reshape(shape)), part)


def _all_of_it(site: Site, x: int) -> int:
    """An update whose place no index names: of the whole tensor."""
    kind, update, function = site.builder.types[x], site.value(2), SCATTERS[site.primitive]
    shape = site.builder.types[update].shape
    if prod(shape) != kind.elements:
        raise site.unsupported("an update of a part by indices of no axis", "update all of it, or name the part")
    if shape != kind.shape:
        update = site.add(Move(Reshape(kind.shape)), update)
    if function == "set":
        return update
    return site.add(Map(Expression((kind.fmt, kind.fmt), (Instruction(function, kind.fmt, (0, 1)),))), x, update)


def _only_writes(combiner: Any) -> bool:
    """Whether the update takes the place of what is there."""
    if combiner is None:
        return True
    jaxpr, _ = compat.open_jaxpr(combiner)
    return jaxpr.outvars == [jaxpr.invars[1]]


def _place(site: Site, i: int) -> int:
    """Operand i as an INT32 scalar in memory."""
    operand = site.operands[i]
    if isinstance(operand, Scalar):
        place = min(int(operand.value), LAST)
        return site.builder.constant(np.asarray(place, np.int32), str(place))
    return _signed(site, site.value(i))


def _signed(site: Site, places: int) -> int:
    """Places in INT32; UINT32 ones that it cannot hold lie beyond every tensor, and so does the largest it can."""
    fmt = site.builder.types[places].fmt
    if fmt is INT32:
        return places
    if fmt is not UINT32:
        raise site.unsupported(f"places of {fmt}", "use int32")
    steps = (
        Instruction(BITCAST, UINT32, (0,), target=INT32),
        Instruction(IMMEDIATE, INT32, (), 0),
        Instruction("less", INT32, (1, 2)),
        Instruction(IMMEDIATE, INT32, (), LAST),
        Instruction("select", INT32, (3, 4, 1)),
    )
    return site.add(Map(Expression((UINT32,), steps)), places)


def _within(place: Any, length: int, size: int) -> int:
    return int(np.clip(int(place.value), 0, length - size))


def _mode(site: Site) -> Mode:
    """What becomes of slices that reach beyond the tensor."""
    modes = jax.lax.GatherScatterMode
    mode = site.parameters.get("mode")
    found: dict[Any, Mode] = {
        modes.CLIP: "clip", modes.FILL_OR_DROP: "fill", modes.PROMISE_IN_BOUNDS: "promised", None: "fill",
    }  # fmt: skip
    if mode not in found:
        raise site.unsupported(f"the mode {mode}", "use clip, fill or promise_in_bounds")
    return found[mode]


def _fill_value(given: Any, fmt: Format) -> float | int | bool:
    """What JAX documents for `fill_value=None`: NaN, the least integer or the largest without a sign, or True."""
    if given is not None:
        return Scalar(given, fmt.dtype).number
    if fmt.is_float:
        return float("nan")
    return True if fmt is BOOL else -(2**31) if fmt is INT32 else 2**32 - 1
