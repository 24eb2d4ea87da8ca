"""Reductions in a PCU: lanes add up in time, and a tree across the lanes makes one value of them.

What it is     The SIMD pipeline with its accumulators kept, and the optional cross-lane tree behind it (MICRO 2024,
               IV-A: a cross-lane tree; a lane-wise reduction).

                   vectors in time > [ lane 0: acc ]--+
                                     [ lane 1: acc ]--+--+
                                     [ lane 2: acc ]--+  +--> one value per row
                                     [ lane 3: acc ]--+--+

The law        Row of n values, L lanes (N9, order "lanes"): lane l combines x[l], x[l + L], x[l + 2 L] ... in that
               order, beginning with the identity, which changes nothing; then the lanes are halved, i with i + L/2,
               until one is left. Sums of BF16 are FP32 results. Without the tree the L lanes are what is delivered.
               Cutting a row into tiles changes no bit, for a tile is a whole number of vectors.
               cycles = rows x ceil(n / L) + stages - 1 + (ceil(log2 L) with the tree)
Modelled       sum, prod, max and min in FP32 (BF16 operands are exact in it) and INT32; and, or, xor of INT32;
               ragged rows, whose missing values are the identity.
Not modelled   the latency of an accumulator: one value per lane and cycle is assumed, also for FP32.
Sources        MICRO 2024, IV-A; the order in time and across lanes is the choice of N9. BF16 operands are assumed to
               have an FP32 accumulator in each of their lanes, as the cells of the array do.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div, is_relaxed
from rdujax.numerics import convert
from rdujax.numerics.bits import to_bits
from rdujax.numerics.formats import FP32, INT32, Format
from rdujax.numerics.reductions import REDUCTIONS, Form, Tree
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles, taken
from rdujax.streams.stream import Stream, poisoned
from rdujax.units import pcu, pmu  # noqa: F401  (pmu declares what a stage reads)


@dataclass(frozen=True)
class Reducer:
    """What the lanes are configured to do: `function` by name, on `lanes` lanes, with the tree or without."""

    function: str
    lanes: int
    tree: bool = True

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ArgumentError(describe("too few lanes", given=self.lanes, allowed="1 or more", where=self.function))

    def form(self, fmt: Format) -> Form:
        """The reduction on values of `fmt`; FormatError where it has none, UnknownNameError for no reduction at all."""
        found = REDUCTIONS[self.function]
        form = found.form(fmt)
        if form is None:
            formats = "bf16, fp32, int32" if found.fp32 else "int32"
            raise FormatError(
                describe("a format that this reduction does not have", given=fmt, allowed=formats, where=self.function)
            )
        return form

    def layout(self, of: Layout) -> Layout:
        """The layout of the result: the last axis is gone, or holds the lanes."""
        rank = len(of.shape) - 1
        order = tuple(axis for axis in of.order if axis != rank)
        ends, last = ((), ()) if self.tree else ((self.lanes,), (rank,))
        return Layout(of.shape[:-1] + ends, of.tile[:-1] + ends, order + last)


@partial(jax.tree_util.register_dataclass, data_fields=["lanes", "seen", "equals"], meta_fields=["fmt"])
@dataclass(frozen=True)
class State:
    """lanes: [*rows, L], the accumulators, FP32 carriers or int32. seen: int32 [], values of each row so far.

    equals: int32 [*rows, L], how many of its values an accumulator is equal to, of the maximum and minimum of floats;
    None of others. It is what a derivative is divided by, and no part of the machine.
    """

    lanes: jax.Array
    seen: jax.Array
    equals: jax.Array | None
    fmt: Format


def init(config: Reducer, rows: tuple[int, ...], fmt: Format) -> State:
    """Accumulators for [*rows], each at the identity; fmt: the format of the operands."""
    form, shape = config.form(fmt), (*rows, config.lanes)
    equals = jnp.zeros(shape, jnp.int32) if form.chooses else None
    return State(jnp.full(shape, form.identity, fmt.carrier), jnp.zeros((), jnp.int32), equals, fmt)


def step(config: Reducer, state: State, tile: jax.Array, extent: jax.Array) -> tuple[State, Counts]:
    """Takes in one tile of every row.

    tile: [*rows, width] carriers, the row's next values; extent: int32 [rank], how many are valid along each axis.
    A tile that is followed by another must be a whole number of vectors, or lanes would change hands.
    Derivatives: of a sum, one; of max and min, that of the value chosen, shared evenly among its equals in the row.
    """
    form, width = config.form(state.fmt), tile.shape[-1]
    inside = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32) < extent[-1], tile.shape)
    vectors = _vectors(config, jnp.where(inside, tile, jnp.asarray(form.identity, tile.dtype)), form.identity)
    seen = state.seen + extent[-1]
    if state.equals is None:
        after = State(form.in_time(state.lanes, vectors), seen, None, state.fmt)
    else:
        met = jnp.concatenate([state.lanes[None], vectors])
        counted = jnp.concatenate([state.equals[None], _vectors(config, inside.astype(jnp.int32), 0)])
        chosen = _chosen(form.tree, 0, met, counted)
        after = State(chosen, seen, _shared(met, chosen, counted, 0), state.fmt)
    return after, _tally(config, extent, state.seen)


def _vectors(config: Reducer, tile: jax.Array, fill: float | int) -> jax.Array:
    """[*rows, width] -> [steps, *rows, L]."""
    tails = [(0, 0)] * (tile.ndim - 1) + [(0, -tile.shape[-1] % config.lanes)]
    vectors = jnp.pad(tile, tails, constant_values=jnp.asarray(fill, tile.dtype))
    return jnp.moveaxis(vectors.reshape(*tile.shape[:-1], -1, config.lanes), -2, 0)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _chosen(tree: Tree, axis: int, x: jax.Array, counted: jax.Array) -> jax.Array:
    """The value over `axis` that `tree` chooses. counted: int32 [*shape], for how many values each of `x` stands."""
    return tree(x, axis)


@_chosen.defjvp
def _chosen_jvp(
    tree: Tree, axis: int, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, Any]
) -> tuple[jax.Array, jax.Array]:
    """An identity stands for no value and has no share."""
    x, counted = primals
    chosen = _chosen(tree, axis, x, counted)
    weights = jnp.where(_same(x, chosen, axis), counted, 0).astype(jnp.float32)  # not emulated: a derivative
    shares = weights / jnp.maximum(jnp.sum(weights, axis, keepdims=True), 1)  # not emulated: a derivative
    return chosen, jnp.sum(shares * tangents[0], axis)  # not emulated: a derivative


def _shared(x: jax.Array, chosen: jax.Array, counted: jax.Array, axis: int) -> jax.Array:
    return jnp.sum(jnp.where(_same(x, chosen, axis), counted, 0), axis, dtype=jnp.int32)  # not emulated: a number


def _same(x: jax.Array, chosen: jax.Array, axis: int) -> jax.Array:
    """Where canonical carriers have the bits of what was chosen over `axis`: NaN is NaN, and -0 is not +0."""
    return to_bits(x) == jnp.expand_dims(to_bits(chosen), axis)


def drain(config: Reducer, state: State, extent: jax.Array) -> tuple[jax.Array, Counts]:
    """What the lanes deliver: [*rows] by the tree, or [*rows, L] without; carriers of FP32 or INT32.

    Derivatives as `step`.
    """
    if not config.tree:
        return state.lanes, Counts()
    tree = config.form(state.fmt).tree
    value = tree(state.lanes, -1) if state.equals is None else _chosen(tree, -1, state.lanes, state.equals)
    return value, _tally_tree(config, extent, state.seen)


def _tally(config: Reducer, extent: jax.Array, seen: jax.Array) -> Counts:
    """Pairs combined in time: the first value of a lane is combined with nothing."""
    begun = jnp.minimum(seen + extent[-1], config.lanes) - jnp.minimum(seen, config.lanes)
    return Counts({"pcu.lane_reductions": jnp.prod(extent[:-1], dtype=jnp.int32) * (extent[-1] - begun)})


def _tally_tree(config: Reducer, extent: jax.Array, seen: jax.Array) -> Counts:
    rows = jnp.prod(extent[:-1], dtype=jnp.int32)
    return Counts({"pcu.lane_reductions": rows * (jnp.minimum(seen, config.lanes) - 1)})


def reduce_rows(
    config: Reducer, stream: Stream, output: Format | None = None, how: Executor = "whole", tally: bool = True
) -> tuple[Stream, Counts]:
    """Reduces the last axis of a stream; tiles of a row are taken in increasing order.

    Returns the stream of `config.layout(stream.layout)`, converted to `output` by the tail (default: FP32, or INT32),
    and the counts, one entry for each tile of the result. Derivatives: see `step`.
    Raises ShapeError for a scalar stream, and for tiles that cut a row within a vector.

    >>> row = streams.tile(jnp.asarray([[1e8, 1.0, 0.0, 0.0, -1e8, 0.0, 0.0, 0.0]]), fmt=FP32)
    >>> [float(reduce_rows(Reducer("sum", lanes), row)[0].data[0, 0]) for lanes in (1, 4)]
    [0.0, 1.0]
    """
    _check(config, stream.layout)
    result = config.layout(stream.layout)
    output = output or (INT32 if stream.fmt is INT32 else FP32)
    row_elements = prod(stream.layout.tile[:-1]) * stream.layout.shape[-1]
    must_fit_int32(row_elements * stream.fmt.width_bytes, "operations or bytes of a tile of rows")
    of_rows = Reducer(config.function, config.lanes).layout(stream.layout)
    at = stream.layout.places[tuple(of_rows.arrivals.T)].reshape(of_rows.n_tiles, -1)
    values, counts = _run((config, output, how, tally), streams.carriers(stream), stream.layout.extents, at)
    return Stream(values, result, output), counts


@partial(jax.jit, static_argnums=0)
def _run(
    setup: tuple[Reducer, Format, Executor, bool], stream: Stream, extents: jax.Array, at: jax.Array
) -> tuple[jax.Array, Counts]:
    """at: int32 [tiles of the result, tiles of a row], which tiles of the stream make each."""
    config, output, how, tally = setup
    held, result = INT32 if stream.fmt is INT32 else FP32, config.layout(stream.layout)

    def tile_step(of: jax.Array) -> tuple[jax.Array, Counts]:
        def body(state: State, at: jax.Array) -> tuple[State, Counts]:
            return step(config, state, taken(stream.data, at), extents[at])

        state, counts = jax.lax.scan(body, init(config, stream.layout.tile[:-1], stream.fmt), of)
        rows = extents[of[0]]
        value, drained = drain(config, state, rows)
        value = convert.convert(value, held, output) if output is not held else value
        value = poisoned(value, rows[:-1] if config.tree else rows.at[-1].set(config.lanes), result, output)
        return value, _read(stream, extents[of], counts, drained) if tally else Counts()

    return over_tiles(tile_step, how, at)


def _read(stream: Stream, extents: jax.Array, in_time: Counts, tree: Counts) -> Counts:
    elements = jnp.sum(jnp.prod(extents, axis=-1, dtype=jnp.int32), dtype=jnp.int32)
    folded = Counts({name: jnp.sum(jnp.asarray(amount), dtype=jnp.int32) for name, amount in in_time.items()})
    return folded + tree + Counts({"pmu.read_bytes": elements * stream.fmt.width_bytes})


def predict(config: Reducer, shape: tuple[int, ...], held: Format) -> Counts:
    """The counts of reducing the last axis of [*shape], read from a buffer that holds `held`, from shapes alone."""
    rows, n = prod(shape[:-1]), shape[-1]
    pairs = n - (1 if config.tree else min(n, config.lanes))
    return Counts({"pcu.lane_reductions": rows * pairs, "pmu.read_bytes": rows * n * held.width_bytes})


def _check(config: Reducer, layout: Layout) -> None:
    if not layout.shape:
        raise ShapeError(describe("no axis to reduce", given=str(layout), allowed="one axis or more"))
    if layout.grid[-1] > 1 and layout.tile[-1] % config.lanes:
        raise ShapeError(
            describe(
                "tiles that cut a row within a vector",
                given=f"{layout}, {config.lanes} lanes",
                allowed="a multiple of the lanes along the last axis, or the whole row in one tile",
            )
        )


def cycles(config: pcu.Config, fmt: Format, rows: Any, width: Any, tree: bool = True) -> Any:
    """Cycles that one turn of `rows` rows of `width` values keeps a PCU busy; exact, or differentiable in the facts."""
    lane_count = pcu.lane_count(config, fmt)
    vectors = rows * ceil_div(width, lane_count)
    return vectors + config.simd_stages.value - 1 + (tree_cycles(lane_count) if tree else 0)


def tree_cycles(lane_count: Any) -> Any:
    """Stages of the tree, ceil(log2 lanes), one cycle each. On JAX values the slope is that of log2."""
    if not is_relaxed(lane_count):
        return (int(lane_count) - 1).bit_length()
    smooth = jnp.log2(lane_count)
    whole = jnp.frexp(lane_count - 1)[1].astype(smooth.dtype)
    return smooth + jax.lax.stop_gradient(whole - smooth)
