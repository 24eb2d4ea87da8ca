"""Several PCUs on one piece of work: data, tensor and pipeline parallel.

What it is     The three ways in which PCUs share work (MICRO 2024, IV-A), as functions of streams:

                   data       tiles dealt in turn     > [PCU 0] [PCU 1] [PCU 2]   > taken up in turn
                   tensor     rows, columns or K forked > [PCU 0] [PCU 1] [PCU 2] > joined; partial sums chained
                   pipeline   tiles > [PCU 0] > [PCU 1] > [PCU 2] > tiles

The law        The bits that each implies:
               data      those of one PCU: no tile knows of the others.
               tensor    over rows and columns those of one PCU: no output depends on M or N (N8). Over K those of
                         N8 with `k_splits`: each segment from +0, the partial sums added in increasing order.
               pipeline  those of the stages one after the other, in the format that each hands on: to round to BF16
                         between two PCUs, or to hand on FP32, is a choice that shows.
               Cycles: data ceil(tiles / PCUs) x tile; tensor as `systolic.cycles` of the fork; pipeline
               the sum of the stages for the first tile + the slowest stage for each further one.
Modelled       values, counts of every PCU by itself, cycles with equal tiles.
Not modelled   the network between the PCUs, and tokens that hold a stage back (see ledger/makespan.py).
Sources        MICRO 2024, IV-A; the order of the chain is the choice of N8.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div, common, maximum
from rdujax.numerics import convert
from rdujax.numerics.formats import FP32, INT32, Format
from rdujax.numerics.functions import apply
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.streams.stream import POISON, POISON_WORD, Stream, poisoned
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.systolic import Fork, systolic

Unit = Callable[..., tuple[Stream, Counts]]


@dataclass(frozen=True)
class Split:
    """How `pcus` share the tiles along `axis`: dealt one by one in turn, or forked into blocks of neighbours.

    Forked blocks are of ceil(tiles / pcus) tiles, the last one shorter.
    """

    axis: int
    pcus: int
    dealt: bool = False

    def owners(self, layout: Layout) -> np.ndarray:
        """int [tiles along the axis]: the PCU of each. Raises ShapeError where a PCU would get nothing."""
        grid = layout.grid[self.axis] if -len(layout.grid) <= self.axis < len(layout.grid) else 0
        block = max(1, -(-grid // max(1, self.pcus)))
        found = np.arange(grid) % max(1, self.pcus) if self.dealt else np.arange(grid) // block
        if self.pcus < 1 or len(set(found.tolist())) != self.pcus:
            raise ShapeError(
                describe(
                    "tiles that so many PCUs cannot share",
                    given=f"{self.pcus} PCUs along axis {self.axis} of {layout}, {grid} tiles",
                    allowed="one tile or more for each PCU",
                    do="use fewer PCUs or smaller tiles",
                )
            )
        return found


def split(stream: Stream, how: Split) -> tuple[Stream, ...]:
    """The share of each PCU, as a stream of its own: its tiles in the order in which they arrived.

    Derivatives pass through. Raises ShapeError where there are too few tiles.

    >>> tiles = streams.tile(jnp.arange(5, dtype=jnp.int32), (1,), fmt=INT32)
    >>> [streams.untile(share).tolist() for share in split(tiles, Split(0, 2, dealt=True))]
    [[0, 2, 4], [1, 3]]
    >>> [streams.untile(share).tolist() for share in split(tiles, Split(0, 2))]
    [[0, 1, 2], [3, 4]]
    """
    owners = how.owners(stream.layout)
    return tuple(_share(stream, how.axis, owners, pcu) for pcu in range(how.pcus))


def _share(stream: Stream, axis: int, owners: np.ndarray, pcu: int) -> Stream:
    layout = _share_layout(stream.layout, axis, owners, pcu)
    data = stream.data[np.flatnonzero(owners[stream.layout.arrivals[:, axis]] == pcu)]
    if layout.tile != stream.layout.tile:  # a share that is a ragged tile and nothing else
        data = jax.lax.slice_in_dim(data, 0, layout.tile[axis], axis=axis % len(layout.tile) + 1)
    return Stream(data, layout, stream.fmt)


def _share_layout(layout: Layout, axis: int, owners: np.ndarray, pcu: int) -> Layout:
    lengths = np.minimum(layout.tile[axis], layout.shape[axis] - layout.tile[axis] * np.arange(layout.grid[axis]))
    length = int(lengths[owners == pcu].sum())  # not emulated: a length
    shape, tile = list(layout.shape), list(layout.tile)
    shape[axis], tile[axis] = length, min(length, tile[axis])
    return Layout(tuple(shape), tuple(tile), layout.order)


def join(shares: Sequence[Stream], how: Split, layout: Layout) -> Stream:
    """The inverse of `split`: the stream of `layout` of which the shares are shares.

    Raises ShapeError for shares that are not those of the layout.
    """
    owners = how.owners(layout)
    wanted = [_share_layout(layout, how.axis, owners, pcu) for pcu in range(how.pcus)]
    if [share.layout for share in shares] != wanted:
        raise ShapeError(
            describe("shares of another tensor", given=", ".join(str(s.layout) for s in shares),
                     allowed=", ".join(map(str, wanted)))
        )  # fmt: skip
    full = jnp.concatenate([_filled(share, layout.tile) for share in shares])
    came = [np.flatnonzero(owners[layout.arrivals[:, how.axis]] == pcu) for pcu in range(how.pcus)]
    return Stream(full[np.argsort(np.concatenate(came))], layout, shares[0].fmt)


def _filled(share: Stream, tile: tuple[int, ...]) -> jax.Array:
    """The tiles of a share as tiles of the whole: a share of a ragged tile alone has smaller ones."""
    if share.layout.tile == tile:
        return share.data
    poison = jnp.asarray(POISON_WORD if share.is_packed else POISON[share.fmt], share.data.dtype)
    fill = [(0, 0)] + [(0, length - has) for length, has in zip(tile, share.layout.tile, strict=True)]
    return jnp.pad(share.data, fill, constant_values=poison)


def data_parallel(
    unit: Unit, how: Split, *operands: Stream, layout: Layout | None = None
) -> tuple[Stream, tuple[Counts, ...]]:
    """Each PCU runs `unit` on its share of the tiles of every operand: (stream, counts of each PCU).

    unit: (*streams) -> (stream, counts), which treats every index of the axis alike and keeps the axis in its place.
    layout: that of the result (default: that of the first operand).
    """
    shares = zip(*(split(operand, how) for operand in operands), strict=True)
    results, counts = zip(*(unit(*share) for share in shares), strict=True)
    return join(results, how, layout or operands[0].layout), counts


def tensor_parallel(
    config: Contraction, fork: Fork, a: Stream, b: Stream, layout: Layout, output: Format, how: Executor = "whole"
) -> tuple[Stream, tuple[Counts, ...]]:
    """A contraction forked over the first axis of each kind (batch, free, contracted): (stream, counts of each PCU).

    fork: PCUs over products of a batch, rows, columns and segments of K. The bits are those of `systolic` with the same
    `config`, whose `k_splits` alone decides about segments. Counts: batch by batch, row by row, column by column,
    segment by segment; a PCU that adds its segment to the partial sums counts one operation per output.
    Raises ArgumentError where fork and config disagree about segments, or K has several axes and is split; ShapeError
    for more PCUs along an axis than there are tiles.
    """
    _check(config, fork, a, b)
    if fork.batches > 1:
        return _batches(config, fork, a, b, layout, output, how)
    n_batch, n_left = len(config.lhs_batch), len(config.lhs_free(len(a.shape)))
    on_left, on_right = (fork.columns, fork.rows) if fork.transposed else (fork.rows, fork.columns)
    # An axis is looked up only where it is forked: a result without one cannot be.
    over_left = Split(config.lhs_free(len(a.shape))[0], on_left) if on_left > 1 else None
    over_right = Split(config.rhs_free(len(b.shape))[0], on_right) if on_right > 1 else None
    of_result = (Split(n_batch, on_left), Split(n_batch + n_left, on_right))
    strips, counts = [], []
    for left in split(a, over_left) if over_left else (a,):
        blocks = []
        for right in split(b, over_right) if over_right else (b,):
            part = _part_layout(config, left.layout, right.layout, layout)
            block, each = _segments(config, fork.splits, left, right, part, output, how)
            blocks.append(block)
            counts += each
        strip = _with_axis(layout, n_batch, blocks[0].layout)
        strips.append(join(blocks, of_result[1], strip) if over_right else blocks[0])
    return join(strips, of_result[0], layout) if over_left else strips[0], tuple(counts)


def _batches(
    config: Contraction, fork: Fork, a: Stream, b: Stream, layout: Layout, output: Format, how: Executor
) -> tuple[Stream, tuple[Counts, ...]]:
    """The shares of the batch, each on PCUs of its own."""
    parts, counts, alone = [], [], replace(fork, batches=1)
    of_a, of_b = Split(config.lhs_batch[0], fork.batches), Split(config.rhs_batch[0], fork.batches)
    for x, y in zip(split(a, of_a), split(b, of_b), strict=True):
        part, spent = tensor_parallel(
            config, alone, x, y, _part_layout(config, x.layout, y.layout, layout), output, how
        )
        parts.append(part)
        counts += spent
    return join(parts, Split(0, fork.batches), layout), tuple(counts)


def _part_layout(config: Contraction, a: Layout, b: Layout, whole: Layout) -> Layout:
    return Layout(config.shape_of(a.shape, b.shape), config.shape_of(a.tile, b.tile), whole.order)


def _with_axis(layout: Layout, axis: int, part: Layout) -> Layout:
    """The layout with one axis as the part has it."""
    if axis >= len(layout.shape):
        return layout
    shape, tile = list(layout.shape), list(layout.tile)
    shape[axis], tile[axis] = part.shape[axis], part.tile[axis]
    return Layout(tuple(shape), tuple(tile), layout.order)


def _segments(
    config: Contraction, splits: int, a: Stream, b: Stream, layout: Layout, output: Format, how: Executor
) -> tuple[Stream, list[Counts]]:
    """One block of the result: its segments of K, chained, then converted."""
    if splits == 1:
        result, counts = systolic(replace(config, k_splits=1), a, b, layout, output, how)
        return result, [counts]
    sums = INT32 if a.fmt is INT32 else FP32
    left, right = _cut_k(a, config.lhs_contract[0], config), _cut_k(b, config.rhs_contract[0], config)
    total, counts = None, []
    for x, y in zip(left, right, strict=True):
        segment, spent = systolic(replace(config, k_splits=1), x, y, layout, sums, how)
        if total is not None:
            segment, added = _chained(total, segment, how)
            spent = spent + added
        total = segment
        counts.append(spent)
    assert total is not None
    return (total if output is sums else _converted(total, output, how)), counts


def _cut_k(stream: Stream, axis: int, config: Contraction) -> tuple[Stream, ...]:
    length = stream.shape[axis]
    tile = tuple(-(-length // config.k_splits) if i == axis else t for i, t in enumerate(stream.layout.tile))
    return split(streams.retile(stream, tile, stream.layout.order), Split(axis, config.segments(length)))


def _chained(total: Stream, segment: Stream, how: Executor) -> tuple[Stream, Counts]:
    """The partial sums so far plus those of the next segment."""
    layout, fmt = total.layout, total.fmt
    must_fit_int32(prod(layout.tile), "operations of a tile")
    data, counts = _added((layout, fmt, how), total.data, segment.data, layout.extents)
    return Stream(data, layout, fmt), counts


@partial(jax.jit, static_argnums=0)
def _added(
    setup: tuple[Layout, Format, Executor], total: jax.Array, segment: jax.Array, extents: jax.Array
) -> tuple[jax.Array, Counts]:
    layout, fmt, how = setup

    def tile_step(x: jax.Array, y: jax.Array, extent: jax.Array) -> tuple[jax.Array, Counts]:
        operations = jnp.prod(extent, dtype=jnp.int32)
        return poisoned(apply("add", fmt, x, y), extent, layout, fmt), Counts({"pcu.simd_operations": operations})

    return over_tiles(tile_step, how, total, segment, extents)


def _converted(total: Stream, output: Format, how: Executor) -> Stream:
    setup = (total.layout, total.fmt, output, how)
    return Stream(_rounded(setup, total.data, total.layout.extents), total.layout, output)


@partial(jax.jit, static_argnums=0)
def _rounded(setup: tuple[Layout, Format, Format, Executor], total: jax.Array, extents: jax.Array) -> jax.Array:
    layout, fmt, output, how = setup

    def tile_step(x: jax.Array, extent: jax.Array) -> jax.Array:
        return poisoned(convert.convert(x, fmt, output), extent, layout, output)

    return over_tiles(tile_step, how, total, extents)


def _check(config: Contraction, fork: Fork, a: Stream, b: Stream) -> None:
    segments = config.segments(config.extent(a.shape, b.shape).k)
    if fork.splits != segments:
        raise ArgumentError(
            describe(
                "a fork of K that the contraction does not declare",
                given=f"{fork.splits} PCUs along K, {segments} segments",
                allowed=f"splits={segments}",
                do="set k_splits of the contraction: it decides the bits",
            )
        )
    if fork.splits > 1 and len(config.lhs_contract) > 1:
        raise ArgumentError(
            describe("K of several axes cannot be forked here", given=f"axes {config.lhs_contract}", allowed="one axis")
        )
    for name, free, pcus in (
        ("left operand has no axis", config.lhs_free(len(a.shape)), fork.columns if fork.transposed else fork.rows),
        ("right operand has no axis", config.rhs_free(len(b.shape)), fork.rows if fork.transposed else fork.columns),
        ("contraction has no batch", config.lhs_batch, fork.batches),
    ):
        if pcus > 1 and not free:
            raise ShapeError(describe(f"the {name} to fork", given=f"{pcus} PCUs", allowed="one PCU along it"))


def pipeline_parallel(stages: Sequence[Unit], stream: Stream) -> tuple[Stream, tuple[Counts, ...]]:
    """A stream through PCUs in chain, each a unit (stream) -> (stream, counts): (stream, counts of each stage)."""
    if not stages:
        raise ArgumentError(describe("a pipeline without stages", given=0, allowed="one stage or more"))
    counts = []
    for stage in stages:
        stream, spent = stage(stream)
        counts.append(spent)
    return stream, tuple(counts)


def data_parallel_cycles(tiles: Any, pcus: Any, tile_cycles: Any) -> Any:
    """Cycles until the last of `pcus` has done its share of equal tiles; exact, or differentiable."""
    return ceil_div(tiles, pcus) * tile_cycles


def pipeline_cycles(tiles: Any, stage_cycles: Sequence[Any]) -> Any:
    """Cycles until the last of `tiles` equal tiles (at least one) has left the chain; exact, or differentiable."""
    turns, *services = common(tiles, *stage_cycles)
    return sum(services) + (turns - 1) * maximum(*services)
