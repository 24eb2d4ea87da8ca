"""Windows that slide over a tensor: sums and extremes of each, as pooling takes them, and what flows back."""

from collections.abc import Sequence

import numpy as np

from rdujax.base import compat
from rdujax.frontend.rule import Scalar, Site, rule
from rdujax.frontend.rules.ordering import taken_along
from rdujax.numerics.formats import INT32, Format, format_of
from rdujax.ops.argument import Argument
from rdujax.ops.concat import Concat
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.ops.put import Put
from rdujax.ops.reduce import Reduce
from rdujax.ops.take import Places, Take
from rdujax.streams.access import Broadcast, Pad, Reshape, Slice, Window
from rdujax.units.pcu.expression import Expression, Instruction

REDUCTIONS = {"reduce_window_sum": "sum", "reduce_window_max": "max", "reduce_window_min": "min"}
COMBINERS = {"add": "sum", "mul": "prod", "max": "max", "min": "min", "and": "and", "or": "or", "xor": "xor"}
# What changes no result: by kind of format, bool, INT32, floating.
IDENTITIES = {
    "sum": (False, 0, -0.0), "prod": (True, 1, 1.0), "and": (True, -1, None), "or": (False, 0, None),
    "xor": (False, 0, None), "max": (False, -(2**31), float("-inf")), "min": (True, 2**31 - 1, float("inf")),
}  # fmt: skip


@rule(*REDUCTIONS)
def _of_each_window(site: Site) -> tuple[int, ...]:
    return (_reduced(site, REDUCTIONS[site.primitive]),)


@rule("reduce_window")
def _combined(site: Site) -> tuple[int, ...]:
    """A combination that has a name, from its identity on."""
    function, first = combination(site), site.operands[-1]
    neutral = identity(function, format_of(site.results[0].dtype, where=site.source))
    if not isinstance(first, Scalar) or first.number != neutral:
        raise site.unsupported(
            "a first value that is not the identity", f"begin with {neutral}, and combine the result with yours"
        )
    return (_reduced(site, function),)


@rule("select_and_gather_add")
def _taken_at_extremes(site: Site) -> tuple[int, ...]:
    """The tangent of a maximum or minimum of windows: that of the first element that is the extreme."""
    if any(n != 1 for key in ("base_dilation", "window_dilation") for n in site.parameters[key]):
        raise site.unsupported("dilated windows", "differentiate in reverse, or leave the dilation out")
    is_max = _is_maximum(site)
    tangents, x = site.value(0), site.value(1)
    window, edges = _window(site), tuple(site.parameters["padding"])
    if not window.axes:
        return (_delivered(site, tangents, window, edges, 0),)
    least = identity("max" if is_max else "min", site.builder.types[x].fmt)
    rows = (*site.results[0].shape, int(np.prod(window.sizes)))
    best = _places_of_extremes(site, _delivered(site, x, window, edges, least), rows, is_max)
    moved = site.add(Move(Reshape(rows)), _delivered(site, tangents, window, edges, 0))
    taken = taken_along(site, moved, best, len(rows) - 1)
    return (site.add(Move(Reshape(rows[:-1])), taken),)


@rule("select_and_scatter_add")
def _back_to_extremes(site: Site) -> tuple[int, ...]:
    """The gradient of a maximum or minimum of windows: each goes to the first element that is the extreme."""
    is_max = _is_maximum(site)
    source, x = site.value(0), site.value(1)
    kind, out = site.builder.types[x], site.builder.types[source].shape
    window, edges = _window(site), tuple(site.parameters["padding"])
    elements = _delivered(site, x, window, edges, identity("max" if is_max else "min", kind.fmt))
    best = _places_of_extremes(site, elements, (*out, int(np.prod(window.sizes))), is_max)
    places = [_coordinate(site, window, i, best, out) for i in range(len(window.axes))]
    indices = site.add(Concat(len(out)), *places) if len(places) > 1 else places[0]
    padded = tuple(low + n + high for n, (low, high) in zip(kind.shape, edges, strict=True))
    empty = site.builder.constant(np.zeros((), kind.fmt.dtype), "0")
    others = tuple(a for a in range(len(out)) if a not in window.axes)
    put = Put(Places((), window.axes, window.axes, others, others), "add", kind.fmt)
    sums = site.add(put, site.add(Move(Broadcast(padded, ())), empty), indices, source)
    if padded == kind.shape:
        return (sums,)
    start = tuple(low for low, _ in edges)
    limit = tuple(low + n for low, n in zip(start, kind.shape, strict=True))
    return (site.add(Move(Slice(start, limit, (1,) * len(start))), sums),)


def _is_maximum(site: Site) -> bool:
    name = str(site.parameters["select_prim"])
    if name not in ("ge", "le"):
        raise site.unsupported(f"selection by {name}", "use the maximum or the minimum of windows")
    return name == "ge"


def _places_of_extremes(site: Site, elements: int, rows: tuple[int, ...], is_max: bool) -> int:
    """Which element of each window is the first extreme: [*windows, 1]. rows: [*windows, elements of one]."""
    flat = site.add(Move(Reshape(rows)), elements)
    return site.add(Move(Reshape((*rows[:-1], 1))), site.add(Argument(len(rows) - 1, is_max), flat))


def _coordinate(site: Site, window: Window, i: int, best: int, out: tuple[int, ...]) -> int:
    """Where element `best` of every window stands along axis i of the windows: [*out, 1]."""
    within = np.indices(window.sizes)[i].reshape(-1).astype(np.int32)
    table = site.builder.constant(within, f"element{len(within)}")
    inside = site.add(Take(Places((), (0,), (0,)), (1,)), table, best)
    axis = window.axes[i]
    first = site.builder.constant(np.arange(out[axis], dtype=np.int32) * np.int32(window.strides[i]), "position")
    spread = site.add(Move(Broadcast(out, (axis,))), first)
    total = Expression((INT32, INT32), (Instruction("add", INT32, (0, 1)),))
    return site.add(Move(Reshape((*out, 1))), site.add(Map(total), inside, spread))


def _reduced(site: Site, function: str) -> int:
    value, output = site.value(0), format_of(site.results[0].dtype, where=site.source)
    fmt, rank = site.builder.types[value].fmt, len(site.builder.types[value].shape)
    window = _window(site)
    neutral = identity(function, fmt)
    read = _delivered(site, value, window, site.parameters["padding"], neutral, site.parameters["base_dilation"])
    if not window.axes:
        return read
    return site.add(Reduce(function, tuple(range(rank, rank + len(window.axes))), output), read)


def _window(site: Site) -> Window:
    """Along the axes on which more than the elements themselves is asked for."""
    sizes, strides = site.parameters["window_dimensions"], site.parameters["window_strides"]
    apart = site.parameters.get("window_dilation") or (1,) * len(sizes)
    axes = tuple(a for a in range(len(sizes)) if sizes[a] > 1 or strides[a] > 1)
    return Window(axes, *(tuple(int(each[a]) for a in axes) for each in (sizes, strides, apart)))


def _delivered(
    site: Site,
    value: int,
    window: Window,
    edges: Sequence[tuple[int, int]],
    edge: float | int | bool,
    base: Sequence[int] | None = None,
) -> int:
    """The elements of every window of a value, padded with `edge`."""
    low, high = (tuple(int(edge[i]) for edge in edges) for i in range(2))
    between = tuple(int(n) - 1 for n in base) if base else (0,) * len(low)
    if any((*low, *high, *between)):
        value = site.add(Move(Pad(low, high, between, edge)), value)
    return site.add(Move(window), value) if window.axes else value


def combination(site: Site) -> str:
    """The name of the function that a reduction combines two values by, from the text of it."""
    jaxpr, _ = compat.open_jaxpr(site.parameters["jaxpr"])
    names = [eqn.primitive.name for eqn in jaxpr.eqns]
    if len(names) != 1 or names[0] not in COMBINERS:
        raise site.unsupported(f"the combination {' '.join(names)}", f"use one of {', '.join(COMBINERS)}")
    return COMBINERS[names[0]]


def identity(function: str, fmt: Format) -> float | int | bool:
    """What changes no result of a combination, in a format."""
    predicate, word, number = IDENTITIES[function]
    found = number if fmt.is_float else word if fmt is INT32 else predicate
    assert found is not None  # JAX's own types refuse it
    return found
