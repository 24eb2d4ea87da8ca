"""P2P: links between sockets, over which tiles of different sockets stream without HBM or DDR.

What it is     Ports of a socket, each way, that join an AGCU of a tile to one of another socket's; what is sent
               stops in no memory on the way, and collectives are built on it (MICRO 2024, sections IV-D and VII).

                   socket 0 ==links==> socket 1       every socket of a node has links of its own to every other one,
                   socket 0 ==links==> socket 2       and they carry both ways at once
                   socket 0 <==links== socket 2

The law        links per peer = floor(ports / (sockets - 1)), each with bandwidth / ports.
               A message enters when the links to its target are free, keeps them for
               ceil(bytes x clock / bandwidth to a peer) cycles, and has arrived latency cycles after that. A message
               without bytes is not sent and takes no time.
               Streams to the same peer share its links fairly (see sharing.py); streams to different peers do not meet.
Modelled       messages between any two sockets of a node, bandwidth per peer and way, latency, sharing, ports as a
               resource. Collectives over these links are in collectives.py, their time in collective_times.py.
Not modelled   packet headers, retries, ports that are left over (they may lead out of the node), routes over a third
               socket, what AGCUs and the top-level network take at both ends (they are units of their own).
Sources        MICRO 2024; bandwidth, latency and the full mesh of a node are assumptions of the machine.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, describe
from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Exact, Number, Priced, ceil_div, common, exact, is_exact, ratio, whole
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.units import capacity
from rdujax.units.sharing import Flow, finish_cycles, unless_nothing
from rdujax.units.tally import tile_bytes
from rdujax.units.unit import UNITS, Unit

declare("p2p.sent_bytes", unit="byte", doc="bytes that sockets sent to other sockets")
declare("p2p.messages", unit="message", doc="messages that sockets sent to other sockets; free, their bytes are priced")


@record()
class Config:
    """Facts of the links of one socket to its peers.

    sockets: sockets of a node. ports: links per socket. bandwidth_bytes_per_s: all ports together, each way.
    latency_s: from socket to socket.
    """

    sockets: Fact
    ports: Fact
    bandwidth_bytes_per_s: Fact
    latency_s: Fact


def send(stream: Stream, how: Executor = "whole", tally: bool = True) -> tuple[Stream, Counts]:
    """Streams a tensor to another socket, tile by tile: the same bits there, and the counts, one entry per tile.

    Words at rest stay words at rest; what crosses is the valid part of each tile at the width of its format.
    Derivatives pass unchanged. Raises ArgumentError for a tile of 2 GiB or more.
    """
    if not tally:
        return stream, Counts()
    sent = tile_bytes(stream.layout, stream.fmt, how)
    return stream, Counts({"p2p.messages": jnp.ones_like(sent), "p2p.sent_bytes": sent})


def predict(size_bytes: int, tiles: int) -> Counts:
    """The counts of sending a tensor of `size_bytes`, cut into `tiles`, from its shape alone."""
    return Counts({"p2p.messages": tiles, "p2p.sent_bytes": size_bytes})


def links_per_peer(config: Config) -> Priced:
    """Links from a socket to each other one of its node; exact, or relaxed with the slope of ports / (sockets - 1).

    Raises ArgumentError for a node whose ports do not reach all peers.
    """
    ports, sockets = common(config.ports.value, config.sockets.value)
    if not is_exact(ports):
        return ceil_div(ports - sockets + 2, sockets - 1)
    if sockets < 2 or ports < sockets - 1:
        raise ArgumentError(
            describe(
                "a node in which not every socket has a link to every other one",
                given=f"{sockets} sockets with {ports} ports each",
                allowed="2 sockets or more, and a port for every peer",
                where="p2p.ports",
            )
        )
    return ports // (sockets - 1)


def occupied_cycles(config: Config, clock_hz: Number, size_bytes: Number) -> Priced:
    """Cycles for which a message of `size_bytes` keeps the links to its target; exact, or differentiable in the facts.

    Raises ArgumentError for a negative size.

    >>> from rdujax.machines import sn40l
    >>> [occupied_cycles(sn40l().p2p, 1_600_000_000, size) for size in (0, 1, 275, 276)]
    [0, 1, 16, 17]
    """
    links = links_per_peer(config)
    size, clock, ports, links, bandwidth = common(
        whole(size_bytes, what="size_bytes"), clock_hz, config.ports.value, links, config.bandwidth_bytes_per_s.value
    )
    return ceil_div(size * clock * ports, bandwidth * links)


def latency_cycles(config: Config, clock_hz: Number) -> Priced:
    """Cycles from the end of a message at its source to its end at its target."""
    latency, clock = common(config.latency_s.value, clock_hz)
    return ceil_div(latency * clock, 1)


def transfer_cycles(config: Config, clock_hz: Number, size_bytes: Number) -> Priced:
    """Cycles until a message that finds its links free has arrived; one without bytes takes none."""
    occupied, latency = common(occupied_cycles(config, clock_hz, size_bytes), latency_cycles(config, clock_hz))
    return unless_nothing(size_bytes, occupied + latency)


def shared_cycles(config: Config, clock_hz: Number, flows: Sequence[Flow]) -> dict[str, Exact]:
    """When each of several streams from one socket to one peer has arrived, by name; exact Fractions of a cycle.

    The streams share the links to that peer fairly, from their starts on. Not differentiable; errors as
    `sharing.finish_cycles`.
    """
    ports, clock = exact(config.ports.value), exact(clock_hz)
    rate = ratio(exact(config.bandwidth_bytes_per_s.value) * links_per_peer(config), ports * clock)
    return finish_cycles(flows, rate, latency_cycles(config, clock_hz))


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses more ports than the socket has, with the list of what is needed (law L6)."""
    capacity.check(
        "P2P port", needs, int(config.ports.value), where=where, do="let streams to one peer share its links"
    )


def check_sockets(config: Config, sockets: int) -> None:
    """Refuses a collective over more sockets than a node has; ArgumentError."""
    there = config.sockets.value
    if is_exact(there) and sockets > there:
        raise ArgumentError(
            describe("more sockets than a node has", given=sockets, allowed=f"1 to {there}", where="p2p.sockets")
        )


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which the sent bytes, evenly to all peers, keep the links of one socket to them busy.

    Ports that are left over carry nothing (see `links_per_peer`); to fewer peers the same bytes take longer.
    """
    sent, clock, bandwidth, ports, sockets, links = common(
        counts["p2p.sent_bytes"],
        clock_hz,
        config.bandwidth_bytes_per_s.value,
        config.ports.value,
        config.sockets.value,
        links_per_peer(config),
    )
    return ceil_div(sent * clock * ports, bandwidth * links * (sockets - 1))


UNIT = UNITS.add("p2p", Unit("p2p", Config, ("p2p.sent_bytes", "p2p.messages"), price))
