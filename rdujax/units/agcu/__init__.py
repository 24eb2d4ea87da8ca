"""AGCU: address generation and coalescing unit, the bridge between a tile and everything outside of it.

What it is     The unit at the edge of a tile that generates addresses for off-chip memory, translates them, coalesces
               requests and streams vectors in and out; it holds no SRAM (MICRO 2024, section IV-D).

                                       counters -> addresses -> segments -> requests
                   HBM, DDR, host --------load, load_strided, gather---------> tile stream -- ...
                   ... -- tile stream ----store, store_strided---------------> HBM, DDR, host
                   ... -- tile stream ----to_tile----------------------------> AGCU of another tile -> tile stream

The law        A load delivers the tiles of a tensor in the order of a loop nest; a tile that the nest asks for again is
               moved again. Moving never changes a bit. Asked bytes = valid elements of all tiles x bytes per element.
               Programs keep a tensor at rest tile by tile, packed, in the order of its tiles: each begins at the byte
               at which the one before ends. So a tile is one run, consecutive tiles join, and neighbours may share a
               granule, of which each is charged its own bytes: moved bytes = asked bytes. A request begins with its
               tile and never spans two: requests of a tile = ceil(bytes / request).
               Slices of less than a request that lie at places of their own are the exception: each is a request,
               and is charged whole granules. Larger ones are charged as packed tiles are.
               Other patterns are coalesced (coalesce.py): moved bytes = granules touched. An address out of bounds is
               refused, or, where it is a value of the program, delivers poison.
               cycles = max(ceil(bytes / port), ceil(requests / addresses per cycle)), beside those of the tier.
Modelled       tile order with repeats, ragged tails, counters, segments (virtual.py), coalescing, asked and moved
               bytes per tier, port width, number of units, other sockets' memory, streams from tile to tile.
Not modelled   the order in which requests come back, bytes that share a granule with another AGCU's; the rest of the
               granules at both ends of a packed tile that is fetched without its neighbours.
Sources        MICRO 2024, section IV-D; number and widths of the units are assumptions of the machine.
"""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Priced, ceil_div, exact, maximum, whole
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, Format
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32
from rdujax.streams.stream import Stream
from rdujax.units import capacity, p2p
from rdujax.units.agcu import coalesce
from rdujax.units.agcu.coalesce import Sizes, Walk
from rdujax.units.memory import check_tier, contents
from rdujax.units.tally import check_visits, tile_bytes, tile_sizes
from rdujax.units.unit import UNITS, Unit

declare(
    "agcu.tiles", unit="tile", doc="tiles that AGCUs loaded, stored or passed on; free, their bytes and requests cost"
)
COUNTERS = ("agcu.tiles", "agcu.requests", "agcu.asked_bytes", "agcu.moved_bytes")


@record()
class Config:
    """Facts of the AGCUs of one socket.

    count: AGCUs per socket. port_bytes_per_cycle: width of one port. segments: translations that one AGCU holds.
    request_bytes: the largest request that it coalesces. granule_bytes: the smallest access of a memory tier.
    addresses_per_cycle: requests that one AGCU can send.
    """

    count: Fact
    port_bytes_per_cycle: Fact
    segments: Fact
    request_bytes: Fact
    granule_bytes: Fact
    addresses_per_cycle: Fact

    @property
    def sizes(self) -> Sizes:
        """Of a request and a granule; raises ArgumentError where requests are not whole granules."""
        return Sizes(int(self.request_bytes.value), int(self.granule_bytes.value))


def to_rest(x: jax.Array, fmt: Format) -> jax.Array:
    """Carriers -> words at rest: uint16 for BF16, unchanged otherwise. Not differentiable in the words."""
    return convert.pack(x) if fmt is BF16 else x


def load(
    config: Config,
    words: jax.Array,
    layout: Layout,
    fmt: Format,
    tier: str,
    visits: np.ndarray | None = None,
    how: Executor = "whole",
    tally: bool = True,
    remote: bool = False,
    slice_bytes: int = 0,
) -> tuple[Stream, Counts]:
    """Streams a tensor from a tier, where its tiles rest packed.

    words: [*shape], words at rest or carriers. layout: the tiles. visits: int [n_visits], the tiles that the loop
    nest asks for, as indices in order of arrival, repeats included (default: each once). remote: the tier is another
    socket's, over P2P, which counts each tile as a message. slice_bytes: of the slices that each tile is made of, where
    they lie apart and are smaller than a request. Returns the stream (each tile once, in order of arrival)
    and the counts, one entry per visit (none without `tally`). Derivatives pass to carriers unchanged. Raises
    FormatError for an array that holds no `fmt`, UnknownNameError for another tier, ArgumentError for a visit of no
    tile.

    >>> from rdujax.ledger import total
    >>> from rdujax.machines import tiny
    >>> from rdujax.numerics.formats import FP32
    >>> from rdujax.streams.layout import tiled
    >>> rows = tiled((3, 4), (2, 4))
    >>> stream, counts = load(tiny().agcu, jnp.ones((3, 4), jnp.float32), rows, FP32, "hbm", how="scan")
    >>> total(counts)
    Counts:
      agcu.asked_bytes  48 byte
      agcu.moved_bytes  48 byte
      agcu.requests      3 request
      agcu.tiles         2 tile
      hbm.read_bytes    48 byte
    """
    _check(words, fmt, tier, "load")
    check_visits(layout, visits)
    stream = Stream(streams.cut(words, layout, fmt), layout, fmt)
    if not tally:
        return stream, Counts()
    return stream, _moved(config, layout, fmt, f"{tier}.read_bytes", visits, how, remote, slice_bytes)


def store(
    config: Config,
    stream: Stream,
    tier: str,
    how: Executor = "whole",
    tally: bool = True,
    remote: bool = False,
    slice_bytes: int = 0,
) -> tuple[jax.Array, Counts]:
    """Streams a tensor to a tier: ([*shape] carriers or words, counts per tile). Ragged tails are cut off.

    slice_bytes: as of `load`.
    Raises FormatError for a stream that does not hold its format, UnknownNameError for another tier.
    """
    _check(stream.data, stream.fmt, tier, "store")
    counter = f"{tier}.written_bytes"
    moving = (config, stream.layout, stream.fmt, counter, None, how, remote, slice_bytes)
    return streams.untile(stream), _moved(*moving) if tally else Counts()


def predict(
    config: Config,
    layout: Layout,
    fmt: Format,
    counter: str,
    sweeps: int = 1,
    remote: bool = False,
    slice_bytes: int = 0,
) -> Counts:
    """The counts of moving every tile of a packed tensor, `sweeps` times, from its shape alone; exact at any size.

    counter: that of the tier, for example "hbm.read_bytes". slice_bytes: as of `load`.
    """
    sizes, request = list(tile_sizes(layout, fmt)), config.sizes.request_bytes
    asked = sum(tiles * size for tiles, size in sizes)
    moved = charged_bytes(config, asked, slice_bytes)
    requests = asked // slice_bytes if slice_bytes else sum(tiles * -(-size // request) for tiles, size in sizes)
    counts = {"agcu.tiles": layout.n_tiles, "agcu.requests": requests, "agcu.asked_bytes": asked}
    counts |= {"agcu.moved_bytes": moved, counter: moved}
    return (Counts(counts) + (p2p.predict(moved, layout.n_tiles) if remote else Counts())) * sweeps


def small_slice_bytes(config: Config, slice_bytes: int) -> int:
    """The bytes of a slice at a place of its own where it is smaller than a request; 0 for a larger one."""
    return slice_bytes if slice_bytes < config.sizes.request_bytes else 0


def charged_bytes(config: Config, asked_bytes: Any, slice_bytes: int) -> Any:
    """What a tier moves for bytes that are asked for: of small slices whole granules, otherwise these bytes.

    >>> from rdujax.machines import tiny  # granules of 8 bytes
    >>> charged_bytes(tiny().agcu, 9 * 4, 0), charged_bytes(tiny().agcu, 9 * 4, 4)
    (36, 72)
    """
    if not slice_bytes:
        return asked_bytes
    granule = config.sizes.granule_bytes
    return asked_bytes // slice_bytes * (-(-slice_bytes // granule) * granule)


def to_tile(stream: Stream, how: Executor = "whole", remote: bool = False) -> tuple[Stream, Counts]:
    """Streams tiles from an AGCU of one tile to one of another, without memory: (the same stream, counts per tile).

    remote: the other tile is on another socket. Both AGCUs count the tile and its bytes; no tier does.
    """
    moved = tile_bytes(stream.layout, stream.fmt, how)
    must_fit_int32(2 * prod(stream.layout.tile) * stream.fmt.width_bytes, "bytes that two AGCUs move for a tile")
    both = Counts({"agcu.asked_bytes": moved, "agcu.moved_bytes": moved, "agcu.tiles": jnp.ones_like(moved)}) * 2
    stream, sent = p2p.send(stream, how, tally=remote)
    return stream, both + sent


def predict_to_tile(size_bytes: int, tiles: int, remote: bool = False) -> Counts:
    """The counts of `to_tile`, from shapes alone."""
    moved = 2 * size_bytes
    counts = Counts({"agcu.tiles": 2 * tiles, "agcu.asked_bytes": moved, "agcu.moved_bytes": moved})
    return counts + (p2p.predict(size_bytes, tiles) if remote else Counts())


def load_strided(
    config: Config,
    words: jax.Array,
    walk: Walk,
    fmt: Format,
    tier: str,
    rest_bytes: int = 0,
    remote: bool = False,
) -> tuple[jax.Array, Counts]:
    """One tile under any affine pattern of addresses: a column, a diagonal, a window, one element again and again.

    words: [n], a symbol at rest (or carriers) in row-major order. walk: its addresses, in bytes from the symbol's
    start. rest_bytes: where in the tier the symbol begins. remote: the tier is another socket's; the granules that are
    moved cross as one message. Returns ([*trips, elements of a run], counts as scalars), predicted by
    `predict_strided`. The derivative of an element that is read several times is the sum of theirs. Raises
    ArgumentError for addresses beyond the symbol or within an element, FormatError and UnknownNameError as `load`.
    """
    _check(words, fmt, tier, "load_strided")
    index = _elements(words, walk, fmt)
    tile = jnp.take(words, index.reshape(-1), axis=0).reshape(index.shape)
    counts = coalesce.tally(config.sizes, walk.moved(rest_bytes), f"{tier}.read_bytes")
    return tile, _sent(counts) if remote else counts


def store_strided(
    config: Config,
    words: jax.Array,
    tile: jax.Array,
    walk: Walk,
    fmt: Format,
    tier: str,
    rest_bytes: int = 0,
    remote: bool = False,
) -> tuple[jax.Array, Counts]:
    """Writes one tile under an affine pattern, the mirror of `load_strided`: (words, counts).

    tile: [*trips, elements of a run], of the kind of `words`. Words that the walk does not name stay as they are.
    Raises ArgumentError for a walk that may write a byte twice, ShapeError for a tile of another shape, and as
    `load_strided`.
    """
    _check(words, fmt, tier, "store_strided")
    index = _elements(words, walk, fmt)
    if not walk.never_overlaps:
        raise ArgumentError(describe("a store that may write a byte twice", given=walk, do="store in several walks"))
    if tile.shape != index.shape or tile.dtype != words.dtype:
        raise ShapeError(
            describe(
                "a tile that does not fit its walk",
                given=f"{tile.dtype.name}{list(tile.shape)}",
                allowed=f"{words.dtype.name}{list(index.shape)}",
            )
        )
    counts = coalesce.tally(config.sizes, walk.moved(rest_bytes), f"{tier}.written_bytes")
    return words.at[index].set(tile), _sent(counts) if remote else counts


def predict_strided(config: Config, walk: Walk, counter: str, rest_bytes: int = 0, remote: bool = False) -> Counts:
    """The counts of `load_strided` and `store_strided`, from the walk alone; counter: that of the tier."""
    counts = coalesce.predict(config.sizes, walk.moved(rest_bytes), counter)
    return _sent(counts) if remote else counts


def gather(
    config: Config, words: jax.Array, rows: jax.Array, fmt: Format, tier: str, remote: bool = False
) -> tuple[jax.Array, Counts]:
    """Rows of a table whose numbers are values of the program: ([n, *row], counts per row, int32 [n]).

    words: [n_rows, *row]. rows: int32 [n]. Rows rest padded to whole requests, so that counts follow from shapes
    (`predict_gather`). A row below 0 or beyond the table is poison, and counts as any other. remote: the tier is
    another socket's; each row is a message of the granules that are moved. Derivatives pass to the rows that were
    read. Raises FormatError for numbers that are not int32 and for a table that holds no `fmt`, UnknownNameError for
    another tier.
    """
    _check(words, fmt, tier, "gather")
    if rows.dtype != jnp.int32 or rows.ndim != 1:
        raise FormatError(
            describe(
                "numbers of rows", given=f"{rows.dtype.name}{list(rows.shape)}", allowed="int32[n]", where="gather"
            )
        )
    known = (rows >= 0) & (rows < words.shape[0])
    found = jnp.take(words, jnp.where(known, rows, 0), axis=0)
    poison = streams.POISON_WORD if words.dtype == jnp.uint16 else streams.POISON[fmt]
    mask = known.reshape(-1, *[1] * (words.ndim - 1))
    tile = jnp.where(mask, found, jnp.asarray(poison, words.dtype))
    return tile, _gathered(config, words, rows, fmt, tier, remote)


def predict_gather(config: Config, row_bytes: int, rows: int, tier: str, remote: bool = False) -> Counts:
    """The counts of `gather`, from shapes alone."""
    row = predict_strided(config, Walk(0, (), (), row_bytes), f"{tier}.read_bytes", remote=remote)
    return (row + Counts({"agcu.tiles": 1})) * rows


def _gathered(config: Config, words: jax.Array, rows: jax.Array, fmt: Format, tier: str, remote: bool) -> Counts:
    row = Walk(0, (), (), prod(words.shape[1:]) * fmt.width_bytes)

    def step(_: jax.Array) -> Counts:
        counts = coalesce.tally(config.sizes, row, f"{tier}.read_bytes")
        return (_sent(counts) if remote else counts) + Counts({"agcu.tiles": jnp.ones((), jnp.int32)})

    return jax.vmap(step)(rows)


def _sent(counts: Counts) -> Counts:
    """Those of a tile, and of the message between sockets that its granules are."""
    moved = counts["agcu.moved_bytes"]
    one = 1 if isinstance(moved, int) else jnp.ones_like(moved)
    return counts + Counts({"p2p.messages": one, "p2p.sent_bytes": moved})


def _check(words: jax.Array, fmt: Format, tier: str, where: str) -> None:
    contents.check_words(words, fmt, where)
    check_tier(tier, where)


def _elements(words: jax.Array, walk: Walk, fmt: Format) -> jax.Array:
    """int32 [*trips, elements of a run]: the elements that a walk names."""
    width, there = fmt.width_bytes, words.size * fmt.width_bytes
    # The stride of a counter that never moves is no part of any address.
    strides = [stride for n, stride in zip(walk.trips, walk.strides_bytes, strict=True) if n > 1]
    numbers = (walk.base_bytes, walk.run_bytes, *strides)
    if words.ndim != 1 or walk.end_bytes > there or any(number % width for number in numbers):
        raise ArgumentError(
            describe(
                "addresses beyond the symbol, or within an element",
                given=f"{walk}, bytes {walk.first_bytes} to {walk.end_bytes}",
                allowed=f"multiples of {width} below {there:,}, of a symbol of one axis (here {words.shape})",
                where=f"{fmt} at rest",
            )
        )
    must_fit_int32(words.size, "elements of a symbol")
    index = jnp.int32(walk.base_bytes // width) + jnp.arange(walk.run_bytes // width, dtype=jnp.int32)
    for n, stride in zip(reversed(walk.trips), reversed(walk.strides_bytes), strict=True):
        outer = jnp.arange(n, dtype=jnp.int32) * jnp.int32(stride // width if n > 1 else 0)
        index = outer.reshape(-1, *[1] * index.ndim) + index[None]
    return index


def _moved(
    config: Config,
    layout: Layout,
    fmt: Format,
    counter: str,
    visits: np.ndarray | None,
    how: Executor,
    remote: bool,
    slice_bytes: int,
) -> Counts:
    asked = tile_bytes(layout, fmt, how, visits)
    if slice_bytes:
        must_fit_int32(charged_bytes(config, prod(layout.tile) * fmt.width_bytes, slice_bytes), "bytes of a tile")
    requests = asked // slice_bytes if slice_bytes else -(-asked // jnp.int32(config.sizes.request_bytes))
    moved = charged_bytes(config, asked, slice_bytes)
    counts = {"agcu.tiles": jnp.ones_like(moved), "agcu.requests": requests, "agcu.asked_bytes": asked}
    counts |= {"agcu.moved_bytes": moved, counter: moved}
    if remote:
        counts |= {"p2p.messages": jnp.ones_like(moved), "p2p.sent_bytes": moved}
    return Counts(counts)


def cycles(config: Config, own_bytes: Any, units: int) -> Any:
    """Cycles that a stream of `own_bytes` occupies the ports of its AGCUs; exact, or differentiable in the facts.

    Requests are not charged here: where a request is as wide as the port and one is sent per cycle, packed tiles of a
    port's width or more never wait for them.
    """
    return ceil_div(whole(own_bytes, what="own_bytes"), config.port_bytes_per_cycle.value * units)


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles that one AGCU would need for what was counted: the slowest of asking, moving and addressing.

    Exact on plain facts, differentiable in them.
    """
    port, rate = config.port_bytes_per_cycle.value, config.addresses_per_cycle.value
    asked, moved = (ceil_div(counts[f"agcu.{side}_bytes"], port) for side in ("asked", "moved"))
    return maximum(asked, moved, ceil_div(counts["agcu.requests"], rate))


def units_for(config: Config, bytes_per_turn: int, turn_cycles: Any) -> int:
    """AGCUs that one stream needs so that its ports carry `bytes_per_turn` within `turn_cycles`."""
    return max(1, ceil_div(bytes_per_turn, exact(config.port_bytes_per_cycle.value) * turn_cycles))


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses more AGCUs than the socket has, with the list of what is needed (law L6)."""
    capacity.check("AGCU", needs, int(config.count.value), where=where, do="cut the kernel into several")


UNIT = UNITS.add("agcu", Unit("agcu", Config, COUNTERS, price))
