"""PCU as a systolic array: output-stationary matrix multiplication.

What it is     The body of a PCU configured as a two-dimensional array: operands move left to right and top to bottom
               through the broadcast buffer, each cell keeps one sum, sums drain through the tail (MICRO 2024, IV-A).

                       rhs columns
                        v v v v          each cell: acc = fp32(acc + fp32(a * b)), k increasing
               lhs  >  [. . . .]
               rows >  [. . . .] > tail > convert to the output format

The law        out[m, n] = sum over k in increasing order, from +0, product and sum each rounded to FP32 (N8).
               One pass of the array makes rows x columns outputs in as many cycles as its segment of K has steps, and
               fills and empties in rows + columns - 2 more. The sums of a pass leave through the tail while the next
               pass runs: left to right, one column per cycle for all rows (each as late as it was fed), so that a
               pass follows the one before after max(k segment, columns) cycles.
               k segment = ceil(k / splits)
               passes = ceil(row passes / fork rows) x ceil(column passes / fork columns) x batch
               cycles = (passes - 1) x max(k segment, columns) + k segment + rows + columns - 2 + splits - 1
Modelled       either operand on the rows; several PCUs in parallel over rows and columns (fork), each fed by
               multicast; K split over PCUs (bits as declared by N8, the partial sums chained); FP32 and INT32
               operands on the SIMD pipeline instead, at its rate (assumption "no systolic FP32").
               Sums that stay in PMUs while turns add to them come back a column per cycle: those of a pass while the
               one before runs, those of the first pass of a turn ahead of it.
Not modelled   shorter passes of a ragged last tile (a ragged turn is paid in full); a turn that waits for sums which
               the turn before has not brought to their PMUs yet.
Sources        MICRO 2024, IV-A; rows and columns are assumptions of the machine. That sums leave beside the next pass,
               a column per cycle, is an assumption too: the paper says that they drain through the tail, not how fast.
               That they come back as fast, beside the operands, is one as well: "sums come as they leave".
               A single pass takes K + rows + columns - 2 cycles, as published for output-stationary arrays.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div, maximum
from rdujax.numerics import convert, integer
from rdujax.numerics.contract import contract
from rdujax.numerics.formats import BF16, FP32, INT32, Format
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles, taken
from rdujax.streams.stream import Stream, poisoned
from rdujax.units import pcu, pmu  # noqa: F401  (they declare what is counted)
from rdujax.units.pcu.contraction import Contraction, Extent


@dataclass(frozen=True)
class Fork:
    """PCUs that share a contraction: `rows` x `columns` of arrays, `splits` segments of K, `batches` of products."""

    rows: int
    columns: int
    splits: int = 1
    transposed: bool = False  # the right operand on the rows
    batches: int = 1

    @property
    def pcus(self) -> int:
        """PCUs in all."""
        return self.rows * self.columns * self.splits * self.batches

    def __str__(self) -> str:
        return f"fork {self.rows}x{self.columns}x{self.splits}" + (f" x {self.batches}" if self.batches > 1 else "")


def step(config: Contraction, a: jax.Array, b: jax.Array, acc: jax.Array | None, fmt: Format) -> jax.Array:
    """One tile: [*lhs tile], [*rhs tile] carriers (or BF16 words), sums so far -> sums [batch, lhs free, rhs free].

    Sums are FP32 carriers, not yet rounded to an output format (INT32 for INT32 operands, wrapping).
    """
    batch = [a.shape[i] for i in config.lhs_batch]
    free_a, free_b = config.lhs_free(a.ndim), config.rhs_free(b.ndim)
    shape = (*batch, *(a.shape[i] for i in free_a), *(b.shape[i] for i in free_b))
    left = _matrices(a, config.lhs_batch, free_a, config.lhs_contract)
    right = _matrices(b, config.rhs_batch, config.rhs_contract, free_b)
    if acc is not None:
        acc = acc.reshape(left.shape[:-1] + right.shape[-1:])
    if fmt is INT32:
        total = integer.contract(left, right)
        return (total if acc is None else integer.add(acc, total)).reshape(shape)
    if acc is None:
        return contract(left, right, k_splits=config.k_splits, fmt=fmt).reshape(shape)
    return contract(left, right, acc=acc, fmt=fmt).reshape(shape)


def _matrices(x: jax.Array, batch: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...]) -> jax.Array:
    moved = x.transpose(batch + rows + columns)
    sizes = [prod(x.shape[i] for i in group) for group in (batch, rows, columns)]
    return moved.reshape(sizes if batch else sizes[1:])


def systolic(
    config: Contraction,
    a: Stream,
    b: Stream,
    layout: Layout,
    output: Format,
    how: Executor = "whole",
    tally: bool = True,
    held: tuple[Format, Format] | None = None,
) -> tuple[Stream, Counts]:
    """Contracts two streams into tiles of `layout`, in its order of arrival; the tail converts to `output`.

    Operands must be cut alike along contracted and batch axes, and like the result along free ones. Tiles along the
    outermost contracted axis are summed in increasing order, which gives the bits of an uncut K. held: the formats of
    the buffers that the operands are read from, where they differ from the operands' own (they decide the bytes read).
    Raises ShapeError for operands that do not meet, FormatError for operands of different formats.
    """
    _check(config, a, b, layout)
    held = held or (a.fmt, b.fmt)
    if tally:
        _check_tally(config, a.layout, b.layout, held)
    plan = _visits(config, a.layout, b.layout, layout)
    data, counts = _run((config, layout, output, how, tally, held), a, b, *plan)
    return Stream(data, layout, output), counts


@partial(jax.jit, static_argnums=0)
def _run(
    setup: tuple[Contraction, Layout, Format, Executor, bool, tuple[Format, Format]],
    a: Stream,
    b: Stream,
    of_a: jax.Array,
    of_b: jax.Array,
    extents: jax.Array,
    k_lengths: jax.Array,
) -> tuple[jax.Array, Counts]:
    """All result tiles; the plan is that of `_visits`."""
    config, layout, output, how, tally, held = setup

    def tile_step(of_a: jax.Array, of_b: jax.Array, extents: jax.Array) -> tuple[jax.Array, Counts]:
        left, right = _without_poison(config, a, b, of_a, of_b, extents[0])
        if of_a.shape[0] == 1:
            sums = step(config, left[0], right[0], None, a.fmt)
        else:
            sums = _over_k(config, a.shape, left, right, k_lengths, a.fmt)
        result = poisoned(_tail(sums, a.fmt, output), extents[0], layout, output)
        return result, _tally(config, a, b, held, extents) if tally else Counts()

    return over_tiles(tile_step, how, of_a, of_b, extents)


def _without_poison(
    config: Contraction, a: Stream, b: Stream, of_a: jax.Array, of_b: jax.Array, extent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The operand tiles [k tiles, *tile] of one result tile, zero beyond the tensor along the axes that it keeps.

    A product with poison would stay outside of the tensor, but its derivative would not: 0 x NaN is NaN.
    """
    n_batch, free_a, free_b = len(config.lhs_batch), config.lhs_free(len(a.shape)), config.rhs_free(len(b.shape))
    kept_a = (*config.lhs_batch, *free_a)
    kept_b = (*config.rhs_batch, *free_b)
    places_b = (*range(n_batch), *range(len(kept_a), len(kept_a) + len(free_b)))
    left, right = taken(a.data, of_a), taken(b.data, of_b)
    for axis, place in zip(kept_a, range(len(kept_a)), strict=True):
        if a.layout.shape[axis] % a.layout.tile[axis]:
            left = _mask(left, axis + 1, extent[place], 0.0)
    for axis, place in zip(kept_b, places_b, strict=True):
        if b.layout.shape[axis] % b.layout.tile[axis]:
            right = _mask(right, axis + 1, extent[place], 0.0)
    return left, right


def _check_tally(config: Contraction, a: Layout, b: Layout, held: tuple[Format, Format]) -> None:
    """A step is one result tile over all of K, however K is cut."""
    tile, k = config.extent(a.tile, b.tile), config.extent(a.shape, b.shape).k
    macs = tile.batch * tile.m * tile.n * k
    read_bytes = tile.batch * k * (tile.m * held[0].width_bytes + tile.n * held[1].width_bytes)
    must_fit_int32(max(macs, read_bytes), "multiply-accumulates or bytes of a tile")


def _tally(config: Contraction, a: Stream, b: Stream, held: tuple[Format, Format], extents: jax.Array) -> Counts:
    """One result tile: extents int32 [k tiles, result axes + 1], K last."""
    n_batch, n_lhs = len(config.lhs_batch), len(config.lhs_free(len(a.shape)))
    k = extents[:, -1]
    batch, m = extents[:, :n_batch].prod(axis=1), extents[:, n_batch : n_batch + n_lhs].prod(axis=1)
    n = extents[:, n_batch + n_lhs : -1].prod(axis=1)
    read_bytes = batch * m * k * held[0].width_bytes + batch * n * k * held[1].width_bytes
    return Counts({"pcu.macs": (batch * m * n * k).sum(), "pmu.read_bytes": read_bytes.sum()})


def _over_k(
    config: Contraction, shape: tuple[int, ...], left: jax.Array, right: jax.Array, valid_k: jax.Array, fmt: Format
) -> jax.Array:
    at = config.outermost(shape)
    assert at is not None
    axis_a, axis_b = config.lhs_contract[at], config.rhs_contract[at]

    def body(acc: jax.Array, operands: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, y, length = operands
        # -0 x +0 = -0, and adding -0 leaves every sum as it is: a ragged K changes no bit.
        return step(config, _mask(x, axis_a, length, -0.0), _mask(y, axis_b, length, 0.0), acc, fmt), None

    first = step(config, left[0], right[0], None, fmt)
    sums, _ = jax.lax.scan(body, first, (left[1:], right[1:], valid_k[1:]))
    return sums


def _mask(x: jax.Array, axis: int, length: jax.Array, zero: float) -> jax.Array:
    index = jnp.arange(x.shape[axis], dtype=jnp.int32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    words = {"uint16": 0x8000 if np.signbit(zero) else 0, "int32": 0}.get(x.dtype.name, zero)
    return jnp.where(index < length, x, jnp.asarray(words, x.dtype))


def _tail(sums: jax.Array, fmt: Format, output: Format) -> jax.Array:
    held = INT32 if fmt is INT32 else FP32
    return sums if output is held else convert.convert(sums, held, output)


def _visits(config: Contraction, a: Layout, b: Layout, out: Layout) -> tuple[np.ndarray, ...]:
    """Which operand tiles make which result tile, all int32.

    Tiles of a and of b [n_tiles, k tiles]; valid lengths [n_tiles, k tiles, result axes + 1], K last; valid length of
    the k tiles along the outermost contracted axis alone [k tiles].
    """
    n_batch, n_left = len(config.lhs_batch), len(config.lhs_batch) + len(config.lhs_free(len(a.shape)))
    at_k = config.outermost(a.shape)
    cut_a, cut_b = (() if at_k is None else (axes[at_k],) for axes in (config.lhs_contract, config.rhs_contract))
    k_axis = cut_a[0] if cut_a else None
    n_k, k_tile, whole_k = (1, 1, 1) if k_axis is None else (a.grid[k_axis], a.tile[k_axis], a.shape[k_axis])
    k_lengths = np.minimum(k_tile, whole_k - k_tile * np.arange(n_k, dtype=np.int32)).astype(np.int32)
    at = [place[:, None] for place in out.arrivals.T]  # for each result axis, int32 [n_tiles, 1]
    of_a = _tiles(a, (*config.lhs_batch, *config.lhs_free(len(a.shape))), at[:n_left], cut_a)
    at_b = at[:n_batch] + at[n_left:]
    of_b = _tiles(b, (*config.rhs_batch, *config.rhs_free(len(b.shape))), at_b, cut_b)
    extents = np.empty((out.n_tiles, n_k, len(out.shape) + 1), np.int32)
    extents[..., :-1] = out.extents[:, None, :]
    extents[..., -1] = k_lengths * prod(a.shape[i] for i in config.lhs_contract if i != k_axis)
    return np.broadcast_to(of_a, extents.shape[:2]), np.broadcast_to(of_b, extents.shape[:2]), extents, k_lengths


def _tiles(layout: Layout, kept: tuple[int, ...], at: list[np.ndarray], cut: tuple[int, ...]) -> np.ndarray:
    """Tiles of an operand at `at` along the axes that it keeps, at every step of K: of a shape that spreads to both.

    cut: the axis that K is cut along, if any.
    """
    grid: list[Any] = [0] * len(layout.shape)
    for axis, place in zip(kept, at, strict=True):
        grid[axis] = place
    for axis in cut:
        grid[axis] = np.arange(layout.grid[axis])
    return layout.places[tuple(grid)]


def _check(config: Contraction, a: Stream, b: Stream, out: Layout) -> None:
    if a.fmt is not b.fmt or a.fmt not in (BF16, FP32, INT32):
        allowed = "both bf16, both fp32 or both int32"
        raise FormatError(describe("operands of a contraction", given=f"{a.fmt} and {b.fmt}", allowed=allowed))
    shape = config.shape_of(a.shape, b.shape)
    cut = config.shape_of(a.layout.tile, b.layout.tile)
    if (shape, cut) != (out.shape, out.tile):
        raise ShapeError(
            describe("the result is cut in another way than its operands", given=str(out),
                     allowed=f"{shape} in tiles of {cut}")
        )  # fmt: skip
    outermost = config.outermost(a.shape)
    uncut = all(a.layout.grid[axis] == 1 for i, axis in enumerate(config.lhs_contract) if i != outermost)
    if not uncut or (config.k_splits > 1 and any(a.layout.grid[axis] > 1 for axis in config.lhs_contract)):
        raise ArgumentError(
            describe("K may be cut along its outermost axis only, and not together with k_splits",
                     given=f"{a.layout}, k_splits={config.k_splits}")
        )  # fmt: skip


def cycles(rows: Any, columns: Any, extent: Extent, fork: Fork) -> Any:
    """Cycles that one turn keeps the PCUs of `fork` busy; rows and columns are those of the array (facts).

    Exact, or differentiable in the facts.
    """
    on_rows, on_columns = (extent.n, extent.m) if fork.transposed else (extent.m, extent.n)
    shares = ceil_div(ceil_div(on_rows, rows), fork.rows) * ceil_div(ceil_div(on_columns, columns), fork.columns)
    passes, segment = shares * ceil_div(extent.batch, fork.batches), ceil_div(extent.k, fork.splits)
    return _cycles(rows, columns, passes, segment, fork.splits)


def _cycles(rows: Any, columns: Any, passes: Any, segment: Any, splits: int) -> Any:
    """Cycles of so many passes over a segment of K, on the arrays of one PCU and those that its sums go on to."""
    last = segment + rows + columns - 2
    return (passes - 1) * maximum(segment, columns) + last + splits - 1


def feeds(rows: int, columns: int, fork: Fork, fmt: Format) -> tuple[int, int]:
    """Bytes per cycle that the left and the right operand's buffers must deliver while the arrays run."""
    arrays = fork.splits * fork.batches
    on_rows, on_columns = rows * fork.rows * arrays * fmt.width_bytes, columns * fork.columns * arrays * fmt.width_bytes
    return (on_columns, on_rows) if fork.transposed else (on_rows, on_columns)


@lru_cache(maxsize=4096)
def forks(rows: int, columns: int, extent: Extent, splits: int, most: int) -> tuple[tuple[int, Fork], ...]:
    """The useful ways to share a contraction among at most `most` PCUs, as (cycles, fork).

    Fewer PCUs later, no entry both slower and larger than another. Empty where `most` is less than `splits`.
    """
    found: list[tuple[int, int, int, bool, int, int]] = []  # cycles, PCUs, batches, transposed, rows, columns
    segment = -(-extent.k // splits)
    for batches in _useful(extent.batch, most // splits):
        products = -(-extent.batch // batches)
        for transposed in (False, True):
            on_rows, on_columns = (extent.n, extent.m) if transposed else (extent.m, extent.n)
            in_rows, in_columns = -(-on_rows // rows), -(-on_columns // columns)
            for r in _useful(in_rows, most // splits // batches):
                for c in _useful(in_columns, most // splits // batches // r):
                    time = _cycles(rows, columns, products * -(-in_rows // r) * -(-in_columns // c), segment, splits)
                    found.append((time, r * c * splits * batches, batches, transposed, r, c))
    best: list[tuple[int, Fork]] = []
    fewest = most + 1
    for time, pcus, batches, transposed, r, c in sorted(found):
        if pcus < fewest:
            best.append((time, Fork(r, c, splits, transposed, batches)))
            fewest = pcus
    return tuple(best)


def _useful(blocks: int, most: int) -> list[int]:
    """The smallest number of sharers for each possible quotient ceil(blocks / sharers), up to `most`."""
    sharers: list[int] = []
    quotient = blocks
    while quotient >= 1:
        n = -(-blocks // quotient)
        if n > most:
            break
        sharers.append(n)
        quotient = -(-blocks // n) - 1
    return sharers
