"""PMU: pattern memory unit, 0.5 MiB of banked SRAM with its own address pipelines and data alignment.

What it is     The memory between two pipeline stages. A producer writes tiles in one order, consumers read them in
               another: the access pattern may change across the buffer, so that a transpose, a reshape or a broadcast
               costs no stage and no arithmetic (MICRO 2024, sections IV-B and VII).

                   producer --tiles--> [ bank bank bank ... ] --access pattern--> consumer(s)

               This file holds the facts, the counters and the price of a PMU, and stage buffers as a program sees them:
               tiles under an access pattern. The insides, word by word, are expression.py (address ALUs), address.py
               (address streams), pattern.py (those of tensors), banks.py (single ports, conflicts), alignment.py
               (transpose, gather, scatter ...), scratchpad.py (memory and its cycles), aligned.py (reads through the
               alignment), parts.py (one tensor in several PMUs) and nbuffer.py (double and deeper buffers).
               Who writes address streams by hand calls `address.check` on those of a PMU before the program runs,
               and `scratchpad.refuse_unwritten` on its folded counts afterwards.
The law        A buffer of depth d holds d tiles. PMUs = max(ceil(bytes / PMU bytes), ceil(read bytes per cycle / port),
               ceil(written bytes per cycle / port)); never less than one.
               cycles = latency + max(bank cycles, ceil(read bytes / port), ceil(written bytes / port),
               ceil(addresses / addresses per cycle)); 0 for no work.
Modelled       capacity, depth, access patterns, interleaving over PMUs for bandwidth, splitting for capacity; banks,
               address streams, alignment, latency in the files named above.
Not modelled   bank conflicts of stage buffers in a compiled program: its buffers count bytes, and are taken to be
               striped so that no bank waits. A hand-written address stream counts its conflicts.
Sources        MICRO 2024; port widths, banks, stages and latency are assumptions of the machine.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Priced, ceil_div, maximum
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.streams import stream as streams
from rdujax.streams.access import Access
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32
from rdujax.streams.stream import Stream
from rdujax.units import capacity, tally
from rdujax.units.unit import UNITS, Unit

COUNTERS = (
    declare("pmu.written_bytes", unit="byte", doc="bytes that stages wrote into stage buffers"),
    declare("pmu.read_bytes", unit="byte", doc="bytes that stages and stores read of their operands, in every turn"),
    declare(
        "pmu.addresses",
        unit="address",
        doc="addresses that PMUs generated: one a vector, or one for each odd lane",
    ),
    declare("pmu.bank_cycles", unit="cycle", doc="cycles that single-ported banks took for the accesses of them"),
    declare("pmu.conflict_cycles", unit="cycle", doc="of the bank cycles, what conflicts added; free beside them"),
    declare("pmu.unwritten_reads", unit="element", doc="elements read that nobody had written; free: a fault, no work"),
)


@record()
class Config:
    """Facts of one PMU and how many a socket has.

    count: PMUs per socket. capacity_bytes: SRAM of one. port_bytes_per_cycle: width of its read and its write port.
    banks: single-ported banks of one. address_stages: integer ALU stages of its address pipeline.
    addresses_per_cycle: addresses that it generates per cycle. latency_cycles: from address to data.
    """

    count: Fact
    capacity_bytes: Fact
    port_bytes_per_cycle: Fact
    banks: Fact
    address_stages: Fact
    addresses_per_cycle: Fact
    latency_cycles: Fact


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
    return Counts({"pmu.written_bytes": tally.tile_bytes(layout, fmt, how)})


def read(layout: Layout, fmt: Format, how: Executor) -> Counts:
    """The tally of a store reading all tiles of a buffer once."""
    return Counts({"pmu.read_bytes": tally.tile_bytes(layout, fmt, how)})


def partial_sums(elements: int, turns: int) -> Counts:
    """What sums of 4 bytes take that a buffer keeps while turns add to them, before the last one writes the result.

    All turns but the first read what was there, and all but the last write what is not complete yet.
    """
    moved = elements * FP32.width_bytes * (turns - 1)
    return Counts({"pmu.read_bytes": moved, "pmu.written_bytes": moved})


def partial_sums_tally(elements: int, turns: int) -> Counts:
    """The tally of `partial_sums`, turn by turn; raises ArgumentError for more bytes than a step can count."""
    each = elements * FP32.width_bytes
    must_fit_int32(each, "bytes of sums")
    moved = jnp.full(turns - 1, each, jnp.int32)
    return Counts({"pmu.read_bytes": moved, "pmu.written_bytes": moved})


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles of one PMU from its first address to its last data; 0 for no work. Exact, or smooth in the facts.

    Ports, banks and address pipeline work side by side: the busiest of them decides. The clock does not matter.

    >>> from rdujax.machines import sn40l
    >>> one_tile = Counts({"pmu.read_bytes": 32 * 64, "pmu.addresses": 32, "pmu.bank_cycles": 32})
    >>> price(sn40l().pmu, one_tile, 1_600_000_000)
    38
    """
    if not any(counts[name] for name in ("pmu.written_bytes", "pmu.read_bytes", "pmu.addresses", "pmu.bank_cycles")):
        return 0
    port = config.port_bytes_per_cycle.value
    busiest = maximum(
        counts["pmu.bank_cycles"],
        ceil_div(counts["pmu.written_bytes"], port),
        ceil_div(counts["pmu.read_bytes"], port),
        ceil_div(counts["pmu.addresses"], config.addresses_per_cycle.value),
    )
    return busiest + config.latency_cycles.value


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


UNIT = UNITS.add("pmu", Unit("pmu", Config, COUNTERS, price))
