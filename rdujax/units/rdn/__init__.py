"""RDN: reconfigurable dataflow network, the on-chip mesh of switches.

What it is     Three fabrics beside one another on the mesh of a tile: vector and scalar packets, and control circuits
               of single-bit wires. A switch stands at each PCU-PMU pair, AGCUs at the west and east edge
               (MICRO 2024, section IV-C and Figure 6).

                   agcu > [switch > switch > switch] > agcu        each switch: north, east, south, west,
                              |        |        |                  its PCU and its PMU
                          pcu, pmu  pcu, pmu  pcu, pmu

The law        Moving changes no bit. A tile travels as ceil(bytes / payload) packets, each copied onto every link of
               its tree. Unhindered, n packets over l links take
               l x hop + max(ceil(n / rate) - 1, b x 2 x hop + ceil((n - b x credits) / rate) - 1) cycles,
               with b = ceil(n / credits) - 1: credits are back after 2 x hop cycles.
               An event on a control circuit takes l x hop cycles.
               A link is busy for max(ceil(vector packets / rate), ceil(scalar packets / rate)) cycles.
Modelled       packets, multicast, many-to-one by sequence ids (packets.py); the mesh and its links (mesh.py);
               dimension-order and static-flow routes with flow ids, circuits on control wires (routing.py); refusal
               of what can deadlock (legality.py); link loads (loads.py); credits, arbitration, throttling and stalls,
               cycle by cycle (traffic.py).
Not modelled   links of other units (die-to-die, top-level network): a route stays within a tile. Reconfiguration of
               routes while a kernel runs. Headers of packets.
Sources        fabrics, routing, credits, sequence ids, throttling, counters: MICRO 2024, sections IV-C and VII. Sizes,
               widths and latencies are not public: assumptions of the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rdujax.base.errors import ArgumentError, describe
from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Number, Priced, ceil_div, common, maximum, whole
from rdujax.units.rdn.legality import Token, check_credits, check_tokens
from rdujax.units.rdn.mesh import Mesh
from rdujax.units.rdn.routing import Route, Tables, check_route, circuits, flow_tables
from rdujax.units.sharing import unless_nothing
from rdujax.units.unit import UNITS, Unit

Fabric = Literal["vector", "scalar"]
FABRICS: tuple[Fabric, ...] = ("vector", "scalar")

declare("rdn.vector_packets", unit="packet", doc="packets that units sent into the vector fabric")
declare("rdn.scalar_packets", unit="packet", doc="packets that units sent into the scalar fabric")
declare("rdn.hops", unit="hop", doc="links that packets were copied onto, all summed; free: they are latency of others")
declare("rdn.stall_cycles", unit="cycle", doc="cycles that packets waited at switch ports; free: waiting is no work")


@record()
class Config:
    """Facts of the network of one socket.

    tiles: RDU tiles. rows, columns: PCU-PMU pairs of one tile, one switch each.
    vector_bytes: payload of a vector packet. scalar_bytes: payload of a scalar packet. control_wires: single-bit
        circuits per link and direction.
    packets_per_cycle: packets that one link carries per direction and fabric.
    hop_cycles: cycles from switch to switch, also assumed from and to a unit, and for a credit on its way back.
    credits: packets that the input queue of a switch port holds.
    flows: static flow ids that one switch port can tell apart.
    """

    tiles: Fact
    rows: Fact
    columns: Fact
    vector_bytes: Fact
    scalar_bytes: Fact
    control_wires: Fact
    packets_per_cycle: Fact
    hop_cycles: Fact
    credits: Fact
    flows: Fact


def mesh_of(config: Config) -> Mesh:
    """The switches of one tile.

    >>> from rdujax.machines.tiny import tiny
    >>> str(mesh_of(tiny().rdn))
    'mesh of 4 x 4 switches'
    """
    return Mesh(int(config.rows.value), int(config.columns.value))


@dataclass(frozen=True)
class Settings:
    """What the switches of a tile are set to for a kernel, fabric by fabric."""

    vector: Tables
    scalar: Tables
    control: Tables


def configure(
    config: Config,
    vector: Sequence[Route] = (),
    scalar: Sequence[Route] = (),
    control: Sequence[Route] = (),
    tokens: Sequence[Token] = (),
) -> Settings:
    """Sets the switches of a tile for the routes of a kernel: flow ids for packets, wires for control circuits.

    tokens: the channels of tokens by which the kernel's units wait for one another. Raises ArgumentError for a route
    that is no tree or that closes a circle of credits with others of its fabric and for tokens that deadlock, and
    CapacityError where a link needs more flow ids or control wires than there are (law L6).
    """
    for route in (*vector, *scalar, *control):
        check_route(mesh_of(config), route)
    for packets in (vector, scalar):
        check_credits(packets)
    check_tokens(tokens)
    flows, wires = int(config.flows.value), int(config.control_wires.value)
    return Settings(flow_tables(vector, flows), flow_tables(scalar, flows), circuits(control, wires))


def transit_cycles(config: Config, packets: Number, links: int) -> Priced:
    """Cycles from the first packet sent to the last one taken, over `links` links that nobody else uses.

    links: those from and to the units included. Exact on plain facts, differentiable in facts that JAX traces.
    Zero packets take no time. Also differentiable in the packets, where they are relaxed. Raises ArgumentError for no
    links and for a negative number of packets.
    """
    if links < 1:
        raise ArgumentError(describe("a packet travels over links", given=links, allowed="1 or more"))
    count, hop, credit_count, rate = common(
        whole(packets, what="packets"), config.hop_cycles.value, config.credits.value, config.packets_per_cycle.value
    )
    bursts = ceil_div(count, credit_count) - 1
    held = bursts * hop * 2 + ceil_div(count - bursts * credit_count, rate) - 1
    time = hop * links + maximum(ceil_div(count, rate) - 1, held)
    return unless_nothing(count, time)


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which one link is busy with all packets counted: its fabrics work beside one another."""
    rate = config.packets_per_cycle.value
    return maximum(*(ceil_div(counts[f"rdn.{fabric}_packets"], rate) for fabric in FABRICS))


UNIT = UNITS.add(
    "rdn", Unit("rdn", Config, ("rdn.vector_packets", "rdn.scalar_packets", "rdn.hops", "rdn.stall_cycles"), price)
)
