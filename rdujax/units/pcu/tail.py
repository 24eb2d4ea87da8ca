"""Tail of a PCU: special functions, conversion, random words and stochastic rounding, on the way out of the body.

What it is     The last part of the data path, in front of the output FIFO (MICRO 2024, IV-A: transcendental functions,
               random numbers, stochastic rounding, format conversion, fused with the work of the body).

                   body > [ special functions ] > [ conversion ] > output FIFO
                                                       ^ 16 random bits per element
                   key, draw, place of the element > [ generator ]

The law        Each function in turn, rounded to the stream's format (N10), then the conversion (N6). Rounding to BF16
               is to nearest, or stochastic: the low half of a random word is added to the FP32 word and cut off. The
               word of an element is the first of Threefry-2x32-20(key, (place, draw)), where place is its row-major
               index in the tensor: it depends on the seed, the draw and the element, and neither on tiles and their
               order nor on batching and devices. A value that BF16 holds is not changed.
               cycles = vectors + functions + (1 if anything is converted) - 1, one stage each
Modelled       the functions of the tail (see expression.py), conversions between all formats, the generator's words.
Not modelled   how wide a generator of the chip is, or which; stochastic rounding to formats other than BF16.
Sources        MICRO 2024, IV-A; the generator is a choice: Salmon et al., SC 2011 (see numerics/threefry.py).
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, describe, unknown
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, FP32, INT32, Format
from rdujax.numerics.functions import apply
from rdujax.numerics.threefry import threefry
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.streams.stream import Stream, poisoned
from rdujax.units import pcu
from rdujax.units.pcu.expression import TABLES

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS: tuple[Rounding, ...] = ("nearest", "stochastic")


@dataclass(frozen=True)
class Tail:
    """What a tail is configured to do: functions in turn, in the format of the stream, then the conversion to `output`.

    Raises UnknownNameError for a function that a tail does not have, or a rounding that does not exist.
    """

    output: Format
    functions: tuple[str, ...] = ()
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        for name in self.functions:
            if name not in TABLES:
                raise unknown("function of a tail", name, TABLES, do="compute it in the body")
        if self.rounding not in ROUNDINGS:
            raise unknown("rounding", self.rounding, ROUNDINGS)

    def operations(self, fmt: Format) -> int:
        """Operations per element of a stream of `fmt`: the functions, and the conversion if there is one."""
        return len(self.functions) + (self.output is not fmt)


@partial(jax.tree_util.register_dataclass, data_fields=["key", "draw"], meta_fields=[])
@dataclass(frozen=True)
class Generator:
    """key: uint32 [2], the seed. draw: uint32 [], how many streams have drawn from it: the next words differ."""

    key: jax.Array
    draw: jax.Array


def generator(seed: int) -> Generator:
    """A generator that has not been drawn from; seed: 0 up to 2^64 - 1, low word first."""
    if not 0 <= seed < 2**64:
        raise ArgumentError(describe("a seed of more than two words", given=seed, allowed="0 up to 2^64 - 1"))
    return Generator(jnp.asarray([seed & 0xFFFFFFFF, seed >> 32], jnp.uint32), jnp.zeros((), jnp.uint32))


def words(state: Generator, places: jax.Array) -> jax.Array:
    """uint32, one random word for each place (uint32) of the coming draw."""
    return threefry(state.key, places, state.draw)[0]


def step(config: Tail, state: Generator | None, tile: jax.Array, places: jax.Array, fmt: Format) -> jax.Array:
    """One tile: carriers of `fmt` -> carriers of `config.output`.

    places: uint32, the row-major index of each element in its tensor. The generator is read and not advanced: all tiles
    of a stream are one draw. Derivatives: those of the functions; rounding, stochastic too, is straight-through.
    Raises FormatError for stochastic rounding of anything but FP32 to BF16, and for a function that the format does not
    have; ArgumentError for stochastic rounding without a generator.
    """
    drawn_from = _drawing(config, state, fmt) if config.rounding == "stochastic" else None
    for name in config.functions:
        tile = apply(name, fmt, tile)
    if drawn_from is not None:
        return convert.round_stochastic(tile, words(drawn_from, places))
    return tile if config.output is fmt else convert.convert(tile, fmt, config.output)


def tail(
    config: Tail, state: Generator | None, stream: Stream, how: Executor = "whole", tally: bool = True
) -> tuple[Generator | None, Stream, Counts]:
    """Passes a stream through the tail: (generator after it, stream of `config.output`, counts per tile).

    state: the generator, or None where rounding is to nearest. Under vmap, tensors that share a generator share its
    words; map over generators for words of their own.
    Errors: those of `step`, and ArgumentError for stochastic rounding of tensors of more than 2^32 elements.

    >>> between = streams.tile(jnp.full((8,), 1 + 2**-9, jnp.float32), fmt=FP32)
    >>> state, rounded, counts = tail(Tail(BF16, rounding="stochastic"), generator(0), between)
    >>> sorted(set(rounded.data[0].tolist())), int(state.draw), int(counts["pcu.random_words"][0])
    ([1.0, 1.0078125], 1, 8)
    """
    layout, drawn = stream.layout, config.rounding == "stochastic"
    if drawn:
        state = _drawing(config, state, stream.fmt)
        _check_size(layout)
    if tally:
        must_fit_int32(prod(layout.tile) * max(1, config.operations(stream.fmt)), "operations of a tile")
    setup = (config, layout, stream.fmt, how, tally)
    values, counts = _pass(setup, state, streams.carriers(stream).data, layout.extents, _origins(layout))
    return _advanced(state) if drawn and state else state, Stream(values, layout, config.output), counts


@partial(jax.jit, static_argnums=0)
def _pass(
    setup: tuple[Tail, Layout, Format, Executor, bool],
    state: Generator | None,
    data: jax.Array,
    extents: jax.Array,
    origins: jax.Array,
) -> tuple[jax.Array, Counts]:
    config, layout, fmt, how, tally = setup
    operations, drawn = config.operations(fmt), int(config.rounding == "stochastic")

    def tile_step(tile: jax.Array, extent: jax.Array, origin: jax.Array) -> tuple[jax.Array, Counts]:
        value = step(config, state, tile, _places(layout, origin), fmt)
        return poisoned(value, extent, layout, config.output), _tally(extent, operations, drawn) if tally else Counts()

    return over_tiles(tile_step, how, data, extents, origins)


def draw(
    state: Generator, layout: Layout, fmt: Format = INT32, how: Executor = "whole", tally: bool = True
) -> tuple[Generator, Stream, Counts]:
    """A stream of random numbers: (generator after it, stream, counts per tile).

    fmt: INT32 for whole words; FP32 for multiples of 2^-24 in [0, 1), the upper 24 bits of each word. Nothing carries a
    tangent. Raises FormatError for other formats, ArgumentError for tensors of more than 2^32 elements.
    """
    if fmt not in (INT32, FP32):
        raise FormatError(describe("random numbers of another format", given=fmt, allowed="int32, fp32"))
    _check_size(layout)
    if tally:
        must_fit_int32(prod(layout.tile), "words of a tile")
    values, counts = _drawn((layout, fmt, how, tally), state, layout.extents, _origins(layout))
    return _advanced(state), Stream(values, layout, fmt), counts


@partial(jax.jit, static_argnums=0)
def _drawn(
    setup: tuple[Layout, Format, Executor, bool], state: Generator, extents: jax.Array, origins: jax.Array
) -> tuple[jax.Array, Counts]:
    layout, fmt, how, tally = setup

    def tile_step(extent: jax.Array, origin: jax.Array) -> tuple[jax.Array, Counts]:
        word = words(state, _places(layout, origin))
        value = word.astype(jnp.int32) if fmt is INT32 else _unit_interval(word)
        return poisoned(value, extent, layout, fmt), _tally(extent, 0, 1) if tally else Counts()

    return over_tiles(tile_step, how, extents, origins)


def _unit_interval(word: jax.Array) -> jax.Array:
    # A number below 2^24 is exact in FP32, and so is its product with a power of two.
    whole = convert.convert((word >> np.uint32(8)).astype(jnp.int32), INT32, FP32)
    return apply("mul", FP32, whole, jnp.full_like(whole, np.float32(2.0**-24)))


def _advanced(state: Generator) -> Generator:
    return Generator(state.key, state.draw + np.uint32(1))


def _origins(layout: Layout) -> np.ndarray:
    """uint32 [n_tiles, rank]: the first element of each tile."""
    return (layout.arrivals * np.asarray(layout.tile, np.int64)).astype(np.uint32)


def _places(layout: Layout, origin: jax.Array) -> jax.Array:
    """uint32 [*tile]: row-major index in the tensor of each element of the tile at `origin`, anything beyond it."""
    places = jnp.zeros(layout.tile, jnp.uint32)
    for axis in range(len(layout.tile)):
        stride = np.uint32(prod(layout.shape[axis + 1 :]) & 0xFFFFFFFF)
        index = jax.lax.broadcasted_iota(jnp.uint32, layout.tile, axis) + origin[axis]
        places = places + index * stride
    return places


def _tally(extent: jax.Array, operations: int, drawn: int) -> Counts:
    elements = jnp.prod(extent, dtype=jnp.int32)
    return Counts({"pcu.tail_operations": elements * operations, "pcu.random_words": elements * drawn})


def predict(config: Tail, shape: tuple[int, ...], fmt: Format) -> Counts:
    """The counts of a tensor [*shape] of `fmt` in the tail, from shapes alone."""
    drawn = config.rounding == "stochastic"
    return Counts(
        {"pcu.tail_operations": prod(shape) * config.operations(fmt), "pcu.random_words": prod(shape) * drawn}
    )


def _drawing(config: Tail, state: Generator | None, fmt: Format) -> Generator:
    """The generator that a stochastic tail draws from."""
    if (fmt, config.output) != (FP32, BF16):
        given = f"{fmt} to {config.output}"
        raise FormatError(describe("stochastic rounding of other formats", given=given, allowed="fp32 to bf16"))
    if state is None:
        raise ArgumentError(
            describe("stochastic rounding without random words", given="no generator", do="pass generator(seed)")
        )
    return state


def _check_size(layout: Layout) -> None:
    if prod(layout.shape) > 2**32:
        raise ArgumentError(
            describe("more elements than a counter word tells apart", given=str(layout), allowed="2^32 elements a draw")
        )


def cycles(config: pcu.Config, of: Tail, fmt: Format, elements: Any) -> Any:
    """Cycles that one turn of `elements` of `fmt` keeps a tail busy: a stage for each operation, one vector a cycle."""
    widest = next((f for f in (fmt, of.output) if f.width_bytes == 4), BF16)
    return ceil_div(elements, pcu.lane_count(config, widest)) + max(1, of.operations(fmt)) - 1
