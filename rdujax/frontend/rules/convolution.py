"""Convolutions as matrix products: windows of the left operand, read from a buffer, against the kernel.

    out[n, g F + f, p] = sum over k, c of  x[n, g C + c, (p stride + k dilation - low) / base] * w[g F + f, c, k]

p, k: places of the result and of the kernel along the spatial axes. base: the left operand's dilation. low: its
padding in front, negative where elements are cut off. g: feature groups; groups of the batch take their share of n.

The order of the sum (N8) defines the bits: K runs over the places of the kernel, row-major in the order in which the
dimension numbers list the spatial axes, and at each of them over the C channels of the group; so it is whatever the
layouts, strides and groups. Padding around the operand is zeros, which are multiplied, summed and counted as the array
does it: against an infinite weight they give NaN. Between the elements of a dilated operand nothing is multiplied,
summed or counted: the places of the result that meet the same places of the kernel, its phases, are contracted by
themselves and then interleaved, with zeros where a phase meets none. A kernel's dilation is a step of the window.

    stride 1, base 2, low 1, kernel of 3     p even: w[1] x[p / 2]     p odd: w[0] x[(p - 1) / 2] + w[2] x[(p + 1) / 2]

Neighbouring phases whose windows lie alike are one contraction, with the phases as further columns. Where the result is
no multiple of the phases long, up to one place of each phase is computed beyond its end, counted, and dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from rdujax.frontend.rule import Site, rule
from rdujax.frontend.rules.contraction import widened
from rdujax.numerics.formats import format_of
from rdujax.ops.concat import Concat
from rdujax.ops.contract import Contract
from rdujax.ops.move import Move
from rdujax.streams.access import Access, Broadcast, Pad, Reshape, Reverse, Slice, Transpose, Window
from rdujax.units.pcu.contraction import Contraction


@dataclass(frozen=True)
class _Run:
    """Neighbouring phases whose windows of the left operand lie alike: as many columns of one contraction.

    Phase j multiplies kernel places `first + j step + i apart` with elements `q stride + i dilation - low` of the
    operand, for i below `taps`, at place q of the phase.
    """

    width: int
    taps: int
    first: int
    step: int
    low: int


@dataclass(frozen=True)
class _Along:
    """One spatial axis: places p = q phases + phase of the result, q below `places`; steps as in `_Run`."""

    name: str
    phases: int
    places: int
    stride: int
    dilation: int
    apart: int
    runs: tuple[_Run, ...]

    @property
    def tap(self) -> str:
        """The name of the axis of kernel places."""
        return f"tap {self.name}"

    @property
    def phase(self) -> str:
        """The name of the axis of phases, there where the operand is dilated."""
        return f"phase {self.name}"


@dataclass(frozen=True)
class _Named:
    """A value and what its axes are."""

    value: int
    axes: tuple[str, ...]


@rule("conv_general_dilated")
def _convolution(site: Site) -> tuple[int, ...]:
    lhs_spec, rhs_spec, out_spec = site.parameters["dimension_numbers"]
    space = tuple(f"space {i}" for i in range(len(lhs_spec) - 2))
    of_features, of_batch = site.parameters["feature_group_count"], site.parameters["batch_group_count"]
    x = _Named(widened(site, 0), _in_order(("batch", "channel", *space), lhs_spec))
    w = _Named(widened(site, 1), _in_order(("filter", "channel", *space), rhs_spec))
    along = tuple(_along(site, i, name, _length(site, x, name), _length(site, w, name)) for i, name in enumerate(space))
    if of_features * of_batch > 1:
        x = _grouped(site, x, "channel" if of_features > 1 else "batch", of_features * of_batch)
        w = _grouped(site, w, "filter", of_features * of_batch)
    product = _interleaved(site, x, w, along, ())
    if product is None:  # no place of the result meets an element
        shape = tuple(site.results[0].shape)
        zero = site.builder.constant(np.zeros((), site.results[0].dtype), "0")
        return (site.add(Move(Broadcast(shape, ())), zero),)
    return (_laid_out(site, product, along, _in_order(("batch", "filter", *space), out_spec)),)


def _in_order(names: Sequence[str], spec: Sequence[int]) -> tuple[str, ...]:
    """The names, of which spec says the places, by place."""
    return tuple(name for _, name in sorted(zip(spec, names, strict=True)))


def _length(site: Site, x: _Named, name: str) -> int:
    return site.builder.types[x.value].shape[x.axes.index(name)]


def _along(site: Site, i: int, name: str, length: int, kernel: int) -> _Along:
    stride, apart, base = (
        int(site.parameters[key][i]) for key in ("window_strides", "rhs_dilation", "lhs_dilation")
    )  # fmt: skip
    low = int(site.parameters["padding"][i][0])
    phases, step = base // gcd(base, stride), base // gcd(base, apart)
    runs = _runs(phases, step, kernel, stride, apart, base, low)
    result = site.results[0].shape[site.parameters["dimension_numbers"][2][2 + i]]
    return _Along(name, phases, -(-result // phases), stride * phases // base, apart * step // base, step, runs)


def _runs(phases: int, step: int, kernel: int, stride: int, apart: int, base: int, low: int) -> tuple[_Run, ...]:
    """The phases in runs: kernel places `step` apart meet elements, from the first one that does."""
    runs: list[_Run] = []
    for phase in range(phases):
        begin = phase * stride - low
        meet = [k for k in range(min(step, kernel)) if (begin + k * apart) % base == 0]
        first = meet[0] if meet else 0
        run = _Run(1, -(-(kernel - first) // step), first, 0, -((begin + first * apart) // base))
        run = run if meet else _Run(1, 0, 0, 0, 0)
        if runs and _continues(runs[-1], run):
            last = runs.pop()
            run = _Run(last.width + 1, run.taps, last.first, last.step or run.first - last.first, run.low)
        runs.append(run)
    return tuple(runs)


def _continues(last: _Run, run: _Run) -> bool:
    ends = last.first + (last.width - 1) * last.step
    return (last.taps, last.low) == (run.taps, run.low) and (last.width == 1 or run.first - ends == last.step)


def _grouped(site: Site, x: _Named, name: str, groups: int) -> _Named:
    """Axis `name` as the groups and what each has of it."""
    at, shape = x.axes.index(name), site.builder.types[x.value].shape
    split = (*shape[:at], groups, shape[at] // groups, *shape[at + 1 :])
    return _read(site, x, Reshape(split), (*x.axes[:at], "group", *x.axes[at:]))


def _interleaved(site: Site, x: _Named, w: _Named, along: Sequence[_Along], chosen: tuple[_Run, ...]) -> _Named | None:
    """The phases of the axes that are not chosen yet, one run beside the other; None where all are zeros."""
    if len(chosen) == len(along):
        if not all(run.taps for run in chosen):
            return None
        taps = tuple(each.tap for each in along)
        return _contracted(site, _windows(site, x, along, chosen), _kernel(site, w, along, chosen), taps)
    here, joined, before = along[len(chosen)], list[_Named](), 0
    for run in here.runs:
        part = _interleaved(site, x, w, along, (*chosen, run))
        if part is None and joined:
            joined[-1] = _with_zeros(site, joined[-1], here.phase, 0, run.width)
        elif part is None:
            before += run.width
        else:
            joined.append(_with_zeros(site, part, here.phase, before, 0))
            before = 0
    if len(joined) < 2:
        return joined[0] if joined else None
    axes = joined[0].axes
    return _Named(site.add(Concat(axes.index(here.phase)), *(part.value for part in joined)), axes)


def _with_zeros(site: Site, x: _Named, name: str, low: int, high: int) -> _Named:
    if not low + high:
        return x
    before, after = (tuple(n if axis == name else 0 for axis in x.axes) for n in (low, high))
    return _read(site, x, Pad(before, after, (0,) * len(x.axes), 0), x.axes)


def _windows(site: Site, x: _Named, along: Sequence[_Along], chosen: Sequence[_Run]) -> _Named:
    """What every place of these phases meets of the left operand."""
    low, high = [0] * len(x.axes), [0] * len(x.axes)
    slid: list[tuple[int, _Along, _Run]] = []
    for each, run in zip(along, chosen, strict=True):
        axis = x.axes.index(each.name)
        low[axis] = run.low
        reach = (each.places - 1) * each.stride + (run.taps - 1) * each.dilation + 1
        high[axis] = reach - run.low - _length(site, x, each.name)
        if run.taps > 1 or each.stride > 1:
            slid.append((axis, each, run))
    if any((*low, *high)):
        x = _read(site, x, Pad(tuple(low), tuple(high), (0,) * len(low), 0), x.axes)
    if not slid:
        return x
    slid.sort(key=lambda s: s[0])
    access = Window(
        tuple(axis for axis, _, _ in slid),
        tuple(run.taps for _, _, run in slid),
        tuple(each.stride for _, each, _ in slid),
        tuple(each.dilation for _, each, _ in slid),
    )
    return _read(site, x, access, (*x.axes, *(each.tap for _, each, _ in slid)))


def _kernel(site: Site, w: _Named, along: Sequence[_Along], chosen: Sequence[_Run]) -> _Named:
    """The places of the kernel that these phases meet, as axes of phases and of taps; those of one tap are left out."""
    ends = {}
    for each, run in zip(along, chosen, strict=True):
        reach = (run.width - 1) * abs(run.step) + (run.taps - 1) * each.apart + 1
        begin = run.first + min(0, (run.width - 1) * run.step)
        ends[each.name] = (begin, begin + reach, each.apart if each.phases == 1 else 1)
    bounds = [ends.get(name, (0, n, 1)) for name, n in zip(w.axes, site.builder.types[w.value].shape, strict=True)]
    if bounds != [(0, n, 1) for n in site.builder.types[w.value].shape]:
        begin, limit, stride = (tuple(bound[i] for bound in bounds) for i in range(3))
        w = _read(site, w, Slice(begin, limit, stride), w.axes)
    names = {each.name: each.tap if each.phases == 1 else each.phase for each in along}
    w = _Named(w.value, tuple(names.get(name, name) for name in w.axes))
    slid = [(w.axes.index(each.phase), each, run) for each, run in zip(along, chosen, strict=True) if each.phases > 1]
    if slid:
        slid.sort(key=lambda s: s[0])
        access = Window(
            tuple(axis for axis, _, _ in slid),
            tuple(run.taps for _, _, run in slid),
            tuple(max(1, abs(run.step)) for _, _, run in slid),
            tuple(each.apart for _, each, _ in slid),
        )
        w = _read(site, w, access, (*w.axes, *(each.tap for _, each, _ in slid)))
        if back := tuple(axis for axis, _, run in slid if run.step < 0):
            w = _read(site, w, Reverse(back), w.axes)
    single = {each.tap for each, run in zip(along, chosen, strict=True) if run.taps == 1 and each.stride == 1}
    if not single:
        return w
    kept = [(name, n) for name, n in zip(w.axes, site.builder.types[w.value].shape, strict=True) if name not in single]
    return _read(site, w, Reshape(tuple(n for _, n in kept)), tuple(name for name, _ in kept))


def _contracted(site: Site, x: _Named, w: _Named, taps: Sequence[str]) -> _Named:
    """[group, what x keeps, what w keeps]; K is the taps in the order of the spatial axes, then the channels."""
    summed = (*(name for name in taps if name in x.axes), "channel")
    groups = tuple(name for name in x.axes if name == "group")

    def places(side: _Named, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(side.axes.index(name) for name in names)

    config = Contraction(places(x, summed), places(w, summed), places(x, groups), places(w, groups))
    output = format_of(site.results[0].dtype, where=site.source)
    kept = [name for side in (x, w) for name in side.axes if name not in (*summed, *groups)]
    return _Named(site.add(Contract(config, output), x.value, w.value), (*groups, *kept))


def _laid_out(site: Site, x: _Named, along: Sequence[_Along], axes: Sequence[str]) -> int:
    """The product with its axes in this order: groups joined with filters, phases with places."""
    inner = {"filter": ("group", "filter")} | {each.name: (each.name, each.phase) for each in along}
    parts = [[name for name in inner.get(axis, (axis,)) if name in x.axes] for axis in axes]
    order = tuple(name for part in parts for name in part)
    x = _read(site, x, Transpose(tuple(x.axes.index(name) for name in order)), order)
    shape = tuple(prod(_length(site, x, name) for name in part) for part in parts)
    x = _read(site, x, Reshape(shape), axes)
    limit = tuple(site.results[0].shape)
    return _read(site, x, Slice((0,) * len(limit), limit, (1,) * len(limit)), axes).value


def _read(site: Site, x: _Named, access: Access, axes: Sequence[str]) -> _Named:
    """The value under an access pattern; itself where that changes nothing."""
    shape = site.builder.types[x.value].shape
    in_place = isinstance(access, Reshape | Slice) or access == Transpose(tuple(range(len(shape))))
    if in_place and access.shape_of(shape) == shape:
        return _Named(x.value, tuple(axes))
    return _Named(site.add(Move(access), x.value), tuple(axes))
