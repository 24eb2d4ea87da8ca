"""D2D: die-to-die link, over which the tiles of two dies stream without off-chip memory.

What it is     Parallel vector links across the cut between the two dies of a socket, each way; a stream crosses them as
               it crosses a column of the mesh, only later (MICRO 2024, section IV and Figure 5).

                   die 0  tile --packets--> [ link | link | ... ] --packets--> tile  die 1
                   die 0  tile <--packets-- [ link | link | ... ] <--packets-- tile  die 1

The law        A packet carries link bytes per cycle, the last one of a tile may be shorter; a link takes one packet per
               cycle. Packet i (from 0) of a stream over l links that enters in cycle 0 is across at the end of cycle
               latency + floor(i / l) + 1, a whole stream after latency + ceil(packets / l) cycles.
               The links are given to flows; those that share some of them divide their rate fairly (see sharing.py).
               Packets and bytes of both directions are counted together: the price of counts that go both ways is the
               time of all of them one way, at most twice that of both ways at once. Where it matters, count and price
               each direction by itself.
Modelled       packets of each tile, links as a resource of flows, rate and latency each way, sharing.
Not modelled   which row of the mesh a link belongs to, credits across the cut (the rate is never limited by them).
Sources        MICRO 2024 states the link and no number; links, width and latency are assumptions of the machine.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, describe
from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Exact, Number, Priced, ceil_div, common, exact, is_exact, maximum, whole
from rdujax.numerics.formats import Format
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.units import capacity
from rdujax.units.sharing import Flow, finish_cycles, unless_nothing
from rdujax.units.tally import tile_bytes, tile_sizes
from rdujax.units.unit import UNITS, Unit

declare("d2d.bytes", unit="byte", doc="bytes that streams carried from one die to the other, either way")
declare("d2d.packets", unit="packet", doc="vector packets that they filled, the last one of a tile perhaps in part")


@record()
class Config:
    """Facts of the link between the two dies of a socket, per direction.

    links: parallel vector links. link_bytes_per_cycle: width of one. latency_cycles: added to a crossing.
    """

    links: Fact
    link_bytes_per_cycle: Fact
    latency_cycles: Fact


def cross(config: Config, stream: Stream, how: Executor = "whole", tally: bool = True) -> tuple[Stream, Counts]:
    """Streams a tensor to the other die, tile by tile: the same bits there, and the counts, one entry per tile.

    Words at rest stay words at rest. Derivatives pass unchanged. Raises ArgumentError for a tile of 2 GiB or more.
    """
    return stream, _packed(config, tile_bytes(stream.layout, stream.fmt, how)) if tally else Counts()


def _packed(config: Config, sizes_bytes: jax.Array) -> Counts:
    width = jnp.int32(config.link_bytes_per_cycle.value)
    return Counts({"d2d.bytes": sizes_bytes, "d2d.packets": -(-sizes_bytes // width)})


def predict(config: Config, layout: Layout, fmt: Format) -> Counts:
    """The counts of a crossing, from the shape of the stream alone.

    >>> from rdujax.machines import sn40l
    >>> from rdujax.numerics.formats import BF16
    >>> from rdujax.streams.layout import tiled
    >>> predict(sn40l().d2d, tiled((10, 50), (4, 50)), BF16)
    Counts:
      d2d.bytes    1,000 byte
      d2d.packets     18 packet
    """
    width = exact(config.link_bytes_per_cycle.value)
    sizes = list(tile_sizes(layout, fmt))
    packets = sum(tiles * ceil_div(size, width) for tiles, size in sizes)
    return Counts({"d2d.bytes": sum(tiles * size for tiles, size in sizes), "d2d.packets": packets})


def crossing_cycles(config: Config, packets: Number, links: int = 1) -> Priced:
    """Cycles until the last of `packets`, sent over `links` links without a pause, is across.

    Exact, or differentiable in the facts; no packets take no time. Raises ArgumentError for links that are not there
    and for a negative number of packets.

    >>> from rdujax.machines import sn40l
    >>> [crossing_cycles(sn40l().d2d, packets, links=4) for packets in (0, 1, 4, 5)]
    [0, 9, 9, 10]
    """
    _check_links(config, links)
    count = whole(packets, what="packets")
    latency, entering = common(config.latency_cycles.value, ceil_div(count, links))
    return unless_nothing(count, latency + entering)


def links_for(config: Config, bytes_per_turn: int, turn_cycles: Number) -> int:
    """Links that a stream needs so that a turn's bytes cross within the cycles of a turn."""
    size = whole(bytes_per_turn, what="bytes_per_turn")
    return max(1, ceil_div(ceil_div(size, exact(config.link_bytes_per_cycle.value)), turn_cycles))


def shared_cycles(config: Config, flows: Sequence[Flow], links: int = 1) -> dict[str, Exact]:
    """When each of several streams that share `links` links is across, by name; exact Fractions of a cycle.

    A flow's amount_bytes are those of whole packets. Not differentiable; errors as `sharing.finish_cycles`.
    """
    _check_links(config, links)
    return finish_cycles(
        flows, exact(config.link_bytes_per_cycle.value) * links, latency_cycles=config.latency_cycles.value
    )


def _check_links(config: Config, links: int) -> None:
    there = config.links.value
    if links < 1 or (is_exact(there) and links > there):
        raise ArgumentError(
            describe("links that are not there", given=links, allowed=f"1 to {there}", where="d2d.links")
        )


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses flows with more links than the cut has, with the list of what is needed (law L6)."""
    capacity.check("D2D link", needs, int(config.links.value), where=where, do="place more of the kernel on one die")


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which the packets, or the bytes if those weigh more, keep all links busy, as if all went one way."""
    packets, size, links, width = common(
        counts["d2d.packets"], counts["d2d.bytes"], config.links.value, config.link_bytes_per_cycle.value
    )
    return maximum(ceil_div(packets, links), ceil_div(size, links * width))


UNIT = UNITS.add("d2d", Unit("d2d", Config, ("d2d.bytes", "d2d.packets"), price))
