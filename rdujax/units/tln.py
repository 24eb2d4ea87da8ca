"""TLN: top-level network, which joins the tiles of a socket to HBM, DDR, host and peers.

What it is     The network on the die between AGCUs on one side and memory controllers, host port and P2P ports on the
               other (MICRO 2024, section IV).

                   AGCU --->|     |---> HBM, DDR controller
                   AGCU --->| TLN |---> host port
                   AGCU <---|     |<--- P2P port

The law        cycles of a transfer, alone = latency + ceil(bytes / bytes per cycle); nothing for no bytes.
               Concurrent streams share the network max-min fairly, each limited by the ports that it enters through.
               Moving never changes a bit. Bytes of both directions are counted together: the price of counts that go
               both ways is the time of all of them one way, at most twice that of both ways at once. Where it matters,
               count and price each direction by itself.
Modelled       one bandwidth per direction for all ports together, latency, sharing between streams, bytes.
Not modelled   topology, arbitration, packets: where they are not public, ports are taken to be joined without conflict.
Sources        MICRO 2024, section IV; bandwidth and latency are assumptions of the machine.
"""

from collections.abc import Sequence
from typing import Any

from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Exact, Number, Priced, ceil_div, common, whole
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.units import sharing, tally
from rdujax.units.sharing import Flow, unless_nothing
from rdujax.units.unit import UNITS, Unit

declare("tln.bytes", unit="byte", doc="bytes that the top-level network carried, either way")


@record()
class Config:
    """Facts of the top-level network of one socket.

    bytes_per_cycle: what it carries per direction, all ports together. latency_cycles: from an AGCU to a controller.
    """

    bytes_per_cycle: Fact
    latency_cycles: Fact


def transfer(stream: Stream, how: Executor = "whole") -> tuple[Stream, Counts]:
    """Carries the tiles of a stream from port to port: (the same stream, int32 counts per tile)."""
    return stream, Counts({"tln.bytes": tally.tile_bytes(stream.layout, stream.fmt, how)})


def predict(amount_bytes: int) -> Counts:
    """The counts of carrying so many bytes."""
    return Counts({"tln.bytes": amount_bytes})


def cycles(config: Config, amount_bytes: Number) -> Priced:
    """Cycles from the first byte's entry to the last byte's exit, alone on the network.

    Exact on plain facts and amounts, differentiable in the facts; no bytes take no time. Raises ArgumentError for a
    negative amount.

    >>> from rdujax.machines import tiny
    >>> [cycles(tiny().tln, amount) for amount in (0, 1, 48, 49)]
    [0, 5, 5, 6]
    """
    amount = whole(amount_bytes, what="amount_bytes")
    latency, moving = common(config.latency_cycles.value, ceil_div(amount, config.bytes_per_cycle.value))
    return unless_nothing(amount, latency + moving)


def finish_cycles(config: Config, flows: Sequence[Flow]) -> dict[str, Exact]:
    """When the last byte of each concurrent stream of one direction has left; exact Fractions of a cycle."""
    return sharing.finish_cycles(flows, config.bytes_per_cycle.value, config.latency_cycles.value)


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which the counted bytes, as if all went one way, keep it busy; the latency keeps nothing busy."""
    return ceil_div(counts["tln.bytes"], config.bytes_per_cycle.value)


UNIT = UNITS.add("tln", Unit("tln", Config, ("tln.bytes",), price))
