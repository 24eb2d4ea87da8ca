"""Host link: PCIe and its DMA, between host memory and HBM, DDR or a tile.

What it is     The port over which the host fills the memory of a socket and fetches results, and over which it can
               stream straight into or out of a tile (MICRO 2024, section IV).

                   host memory --to_device--> HBM, DDR        host memory --to_tile---> tile stream
                   host memory <--to_host---- HBM, DDR        host memory <--from_tile- tile stream

The law        Entering the device reads denormals as zeros of their sign and makes every NaN the one NaN (N11); nothing
               else changes a bit, and leaving changes none. Cycles of a transfer, alone = ceil((latency + bytes /
               bandwidth) x clock), and none for no bytes; both directions run at the same time, transfers of one
               direction share it fairly.
Modelled       both directions, latency, bandwidth, sharing, bytes of the link and of both tiers.
Not modelled   PCIe packets and their headers, page tables of the host, interrupts.
Sources        MICRO 2024, section IV and Figure 5; width and latency are assumptions of the machine.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import unknown
from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Amount, Counts, declare
from rdujax.ledger.numbers import Exact, Number, Priced, ceil_div, common, exact, maximum, ratio, whole
from rdujax.numerics import convert
from rdujax.numerics.formats import Format
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.units import sharing, tally
from rdujax.units.memory import check_tier
from rdujax.units.sharing import Flow, unless_nothing
from rdujax.units.unit import UNITS, Unit

declare("host_link.in_bytes", unit="byte", doc="bytes that the host link carried into the device")
declare("host_link.out_bytes", unit="byte", doc="bytes that the host link carried out of the device")
declare(
    "host_link.transfers", unit="transfer", doc="transfers over the host link; free, their latency keeps nothing busy"
)
DIRECTIONS = ("in", "out")
COUNTERS = ("host_link.in_bytes", "host_link.out_bytes", "host_link.transfers")


@record()
class Config:
    """Facts of the host link of one socket.

    bandwidth_bytes_per_s: each way. latency_s: of one transfer.
    """

    bandwidth_bytes_per_s: Fact
    latency_s: Fact


def to_device(x: jax.Array, fmt: Format, tier: str) -> tuple[jax.Array, Counts]:
    """A public array into a tier of the device: (carriers [*shape], counts in pieces of 1 GiB).

    Straight-through derivative. Raises FormatError where `x` is not of the public dtype of `fmt`, UnknownNameError for
    a tier that does not exist.
    """
    carriers = convert.enter(x, fmt)
    return carriers, _carried("in", tally.piece_bytes(carriers, fmt), tier)


def to_host(carriers: jax.Array, fmt: Format, tier: str) -> tuple[jax.Array, Counts]:
    """Carriers from a tier of the device to the host: (public array [*shape], counts in pieces of 1 GiB); exact.

    Raises UnknownNameError for a tier that does not exist, FormatError for anything but carriers of `fmt`.
    """
    return convert.leave(carriers, fmt), _carried("out", tally.piece_bytes(carriers, fmt), tier)


def to_tile(x: jax.Array, layout: Layout, fmt: Format, how: Executor = "whole") -> tuple[Stream, Counts]:
    """A public array as a stream into a tile, without HBM or DDR: (stream, counts per tile)."""
    stream = Stream(streams.cut(convert.enter(x, fmt), layout, fmt), layout, fmt)
    return stream, _carried("in", tally.tile_bytes(layout, fmt, how), None)


def from_tile(stream: Stream, how: Executor = "whole") -> tuple[jax.Array, Counts]:
    """A stream of a tile as a public array in host memory: (array [*shape], counts per tile); exact."""
    words = streams.untile(streams.carriers(stream))
    moved = tally.tile_bytes(stream.layout, stream.fmt, how)
    return convert.leave(words, stream.fmt), _carried("out", moved, None)


def predict(direction: str, amount_bytes: int, tier: str | None = None) -> Counts:
    """The counts of one transfer "in" or "out", from or to a tier of the device, or a tile where there is none.

    Raises UnknownNameError for another direction and for a tier that does not exist.
    """
    return _carried(direction, amount_bytes, tier)


def _carried(direction: str, amount: Amount, tier: str | None) -> Counts:
    """One transfer, whatever its number of pieces: the tally of `transfers` is 1 for the first, 0 for the others."""
    if direction not in DIRECTIONS:
        raise unknown("direction of the host link", direction, DIRECTIONS)
    if tier is not None:
        check_tier(tier, where="host_link")
    once = 1 if isinstance(amount, int) else jnp.zeros_like(amount).at[0].set(1)
    here, there = ("read", "written") if direction == "in" else ("written", "read")
    counts = Counts({f"host_link.{direction}_bytes": amount, "host_link.transfers": once, f"host.{here}_bytes": amount})
    return counts + (Counts() if tier is None else Counts({f"{tier}.{there}_bytes": amount}))


def cycles(config: Config, clock_hz: Number, amount_bytes: Number) -> Priced:
    """Cycles from the start of a transfer until its last byte has arrived, alone on the link, rounded up once.

    No bytes take no time. Exact on plain facts and amounts, differentiable in the facts. Raises ArgumentError for a
    negative amount.

    >>> from rdujax.machines import tiny
    >>> [cycles(tiny().host_link, 1_000_000, amount) for amount in (0, 1, 7)]
    [0, 11, 17]
    """
    latency, amount, clock, bandwidth = common(
        config.latency_s.value,
        whole(amount_bytes, what="amount_bytes"),
        clock_hz,
        config.bandwidth_bytes_per_s.value,
    )
    return unless_nothing(amount, ceil_div((latency * bandwidth + amount) * clock, bandwidth))


def occupied_cycles(config: Config, clock_hz: Number, in_bytes: Number, out_bytes: Number) -> Priced:
    """Cycles for which the bytes of both directions keep the busier one busy, latency not included, rounded up.

    Exact on plain facts and amounts, differentiable in the facts. Raises ArgumentError for a negative amount.

    >>> from rdujax.machines import tiny
    >>> occupied_cycles(tiny().host_link, 1_000_000, in_bytes=7, out_bytes=5)
    7
    """
    inward, outward, clock, bandwidth = common(
        whole(in_bytes, what="in_bytes"),
        whole(out_bytes, what="out_bytes"),
        clock_hz,
        config.bandwidth_bytes_per_s.value,
    )
    return ceil_div(maximum(inward, outward) * clock, bandwidth)


def finish_cycles(config: Config, clock_hz: Number, flows: Sequence[Flow]) -> dict[str, Exact]:
    """When each concurrent transfer of one direction has arrived, under fair sharing; exact Fractions of a cycle."""
    clock = exact(clock_hz)
    width = ratio(exact(config.bandwidth_bytes_per_s.value), clock)
    return sharing.finish_cycles(flows, width, exact(config.latency_s.value) * clock)


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which the counted bytes keep the busier direction busy; exact, and differentiable in the facts."""
    return occupied_cycles(config, clock_hz, counts["host_link.in_bytes"], counts["host_link.out_bytes"])


UNIT = UNITS.add("host_link", Unit("host_link", Config, COUNTERS, price))
