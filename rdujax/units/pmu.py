"""PMU: pattern memory unit, 0.5 MiB of banked SRAM with its own address pipelines; here as stage buffers.

What it is     The memory between two pipeline stages. A producer writes tiles in one order, consumers read them in
               another: the access pattern may change across the buffer, so that a transpose, a reshape or a broadcast
               costs no stage and no arithmetic (MICRO 2024, sections IV-B and VII).

                   producer --tiles--> [ bank bank bank ... ] --access pattern--> consumer(s)

The law        A buffer of depth d holds d tiles. PMUs = max(ceil(bytes / PMU bytes), ceil(read bytes per cycle / port),
               ceil(written bytes per cycle / port)); never less than one.
Modelled       capacity, depth, access patterns, interleaving over PMUs for bandwidth, splitting for capacity.
Not modelled   bank conflicts, address-pipeline stages, latency.
Sources        MICRO 2024; port widths are assumptions of the machine.
"""

from dataclasses import dataclass
from math import prod

import jax
import jax.numpy as jnp

from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.streams import stream as streams
from rdujax.streams.access import Access
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.streams.stream import Stream
from rdujax.units import capacity

declare("pmu.written_bytes", unit="byte", doc="bytes that stages wrote into stage buffers")
declare(
    "pmu.read_bytes", unit="byte", doc="bytes of the operand tiles that stages and stores read, again in every turn"
)


@record()
class Config:
    """Facts of one PMU and how many a socket has.

    count: PMUs per socket. capacity_bytes: SRAM of one. port_bytes_per_cycle: width of its read and its write port.
    """

    count: Fact
    capacity_bytes: Fact
    port_bytes_per_cycle: Fact


@dataclass(frozen=True)
class Buffer:
    """What a stage buffer needs: the bytes of one tile, its depth, and the rates of its producer and readers."""

    tile_bytes: int
    depth: int
    read_bytes_per_cycle: int
    written_bytes_per_cycle: int

    @property
    def capacity_bytes(self) -> int:
        """SRAM that holds the buffer."""
        return self.tile_bytes * self.depth


def buffer(stream: Stream, chain: tuple[Access, ...], layout: Layout, fmt: Format) -> Stream:
    """Reads a stage buffer: delivers a stream under an access pattern, in tiles of `layout` and in format `fmt`.

    Where the buffer holds FP32 and `fmt` is BF16, the data alignment unit converts on the way out (RNE). Otherwise bits
    are moved and never changed. Raises ShapeError where the pattern does not fit.
    """
    delivered = streams.read(stream, chain, layout) if chain or layout != stream.layout else stream
    if delivered.fmt is FP32 and fmt is BF16:
        return Stream(convert.round_to(delivered.data, BF16), layout, BF16)
    return delivered


def written(layout: Layout, fmt: Format, how: Executor) -> Counts:
    """The tally of a stage writing its result, in tiles of `layout`, into a buffer that holds `fmt`."""
    return Counts({"pmu.written_bytes": tile_bytes(layout, fmt, how)})


def read(layout: Layout, fmt: Format, how: Executor) -> Counts:
    """The tally of a store reading all tiles of a buffer once."""
    return Counts({"pmu.read_bytes": tile_bytes(layout, fmt, how)})


def tile_bytes(layout: Layout, fmt: Format, how: Executor) -> jax.Array:
    """int32 [n_tiles]: valid bytes of each tile, tallied tile by tile."""
    must_fit_int32(prod(layout.tile) * fmt.width_bytes, f"bytes of a tile of {layout}")

    def step(extent: jax.Array) -> jax.Array:
        return jnp.prod(extent, dtype=jnp.int32) * jnp.int32(fmt.width_bytes)

    return over_tiles(step, how, jnp.asarray(layout.extents))


def units_for(config: Config, need: Buffer) -> int:
    """PMUs that a buffer takes: split for capacity, interleaved for bandwidth."""
    port = int(config.port_bytes_per_cycle.value)
    return max(
        1,
        ceil_div(need.capacity_bytes, int(config.capacity_bytes.value)),
        ceil_div(need.read_bytes_per_cycle, port),
        ceil_div(need.written_bytes_per_cycle, port),
    )


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses more PMUs than the socket has, with the list of what is needed (law L6)."""
    capacity.check("PMU", needs, int(config.count.value), where=where, do="cut the kernel, or make its tiles smaller")
