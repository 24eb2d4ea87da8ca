"""Reads and writes at places that are computed: dynamic slices, gather, scatter."""

from typing import Any

import jax
import numpy as np

from rdujax.frontend.rule import Scalar, Site, rule
from rdujax.frontend.rules.access import sliced
from rdujax.numerics.formats import BOOL, INT32, Format, format_of
from rdujax.ops.dynamic import DynamicSlice, DynamicUpdate
from rdujax.ops.put import Put
from rdujax.ops.take import Mode, Places, Take

SCATTERS = {
    "scatter": "set", "scatter-add": "add", "scatter-mul": "mul", "scatter-min": "min", "scatter-max": "max",
}  # fmt: skip


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
    mode = _mode(site)
    places = Places(
        tuple(numbers.offset_dims),
        tuple(numbers.collapsed_slice_dims),
        tuple(numbers.start_index_map),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.start_indices_batching_dims),
    )
    fill = _fill_value(site.parameters.get("fill_value"), site.builder.types[x].fmt) if mode == "fill" else 0
    return (site.add(Take(places, tuple(site.parameters["slice_sizes"]), mode, fill), x, site.value(1)),)


@rule(*SCATTERS)
def _scatter(site: Site) -> tuple[int, ...]:
    numbers, x = site.parameters["dimension_numbers"], site.value(0)
    places = Places(
        tuple(numbers.update_window_dims),
        tuple(numbers.inserted_window_dims),
        tuple(numbers.scatter_dims_to_operand_dims),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.scatter_indices_batching_dims),
    )
    op = Put(places, SCATTERS[site.primitive], site.builder.types[x].fmt, _mode(site))
    return (site.add(op, x, site.value(1), site.value(2)),)


def _place(site: Site, i: int) -> int:
    """Operand i as an INT32 scalar in memory."""
    if format_of(_dtype(site, i), where=site.source) is not INT32:
        raise site.unsupported(f"a place of {_dtype(site, i)}", "use int32")
    return site.value(i)


def _dtype(site: Site, i: int) -> Any:
    operand = site.operands[i]
    return operand.dtype if isinstance(operand, Scalar) else site.builder.types[site.value(i)].fmt.dtype


def _within(place: Any, length: int, size: int) -> int:
    return int(np.clip(int(place.value), 0, length - size))


def _mode(site: Site) -> Mode:
    """What becomes of slices that reach beyond the tensor; what is promised not to happen is clipped."""
    modes = jax.lax.GatherScatterMode
    mode = site.parameters.get("mode")
    found: dict[Any, Mode] = {
        modes.CLIP: "clip", modes.PROMISE_IN_BOUNDS: "clip", modes.FILL_OR_DROP: "fill", None: "fill",
    }  # fmt: skip
    if mode not in found:
        raise site.unsupported(f"the mode {mode}", "use clip, fill or promise_in_bounds")
    return found[mode]


def _fill_value(given: Any, fmt: Format) -> float | int | bool:
    """What JAX documents for `fill_value=None`: NaN, the least integer, or True."""
    if given is not None:
        return np.asarray(given).item()
    return float("nan") if fmt.is_float else True if fmt is BOOL else -(2**31)
