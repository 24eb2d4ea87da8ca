"""How loaded every link of the network is while a placed kernel runs once, and how long the fullest of them takes.

Routes are those of `routes.py`; a multicast loads a shared link once. Between tiles of one die packets cross the
top-level network, between dies the die-to-die link, a multicast once for all tiles of the other die.

A link is shared in time, and so one that is over capacity does not make a kernel illegal: it makes it slow (L6 refuses
what cannot be shared: units, bytes). `least_cycles` is what the wires allow: where that is more than a kernel is priced
at, it is slowed down to it, and the floorplan says so. Placement looks for places where it is not (`place.py`).

Not modelled: ports of units as a limit, memory streams on the top-level network, waiting of packets for one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdujax.compiler.flows import Flow, flows, multicasts
from rdujax.compiler.grid import TILES_PER_DIE, Grid, Place, Placement
from rdujax.compiler.routes import Trees, routed, trees
from rdujax.estimate.pipeline import phases_of
from rdujax.graph.graph import Graph
from rdujax.graph.plan import PlannedKernel
from rdujax.ledger.counts import Counts
from rdujax.ledger.makespan import makespan_cycles
from rdujax.ledger.numbers import ceil_div, exact
from rdujax.machines.machine import Machine
from rdujax.units import d2d, tln
from rdujax.units.rdn.mesh import Port


@dataclass(frozen=True, eq=False)
class Wires:
    """Loads of the links while a kernel runs once.

    loads: int64 [tiles, rows, columns, slots], vector packets per link (see `units.rdn.mesh.Link.slot`). crossings:
    int64 [tiles, tiles], packets from tile to tile. die_crossings: int64 [dies, dies], packets from die to die; 0 from
    a die to itself.
    """

    loads: np.ndarray
    crossings: np.ndarray
    die_crossings: np.ndarray

    @property
    def hops(self) -> int:
        """Packets times links between switches: the length of all wires, weighted by what they carry."""
        return int(self.loads[..., : Port.PCU].sum(dtype=np.int64))

    @property
    def busiest(self) -> int:
        """Packets on the busiest link between switches."""
        return int(self.loads[..., : Port.PCU].max(initial=0))

    def least_cycles(self, machine: Machine) -> dict[str, int]:
        """Cycles for which the fullest network of each kind is busy: no run of the kernel is shorter.

        "link": the busiest one between switches. "D2D": all links from one die to another. "TLN": what the tiles of a
        die exchange. The facts must be plain numbers.
        """
        packet_bytes = int(machine.rdn.vector_bytes.value)
        dies = np.arange(len(self.crossings)) // TILES_PER_DIE
        within = int(self.crossings[dies[:, None] == dies].sum(dtype=np.int64))
        per_packet = ceil_div(packet_bytes, machine.d2d.link_bytes_per_cycle.value)
        d2d_cycles = [
            d2d.price(machine.d2d, Counts({"d2d.packets": n * per_packet, "d2d.bytes": n * packet_bytes}), None)
            for n in self.die_crossings.ravel().tolist()
        ]
        tln_cycles = tln.price(machine.tln, Counts({"tln.bytes": within * packet_bytes}), None)
        link_cycles = ceil_div(self.busiest, machine.rdn.packets_per_cycle.value)
        return {"link": int(link_cycles), "D2D": max(map(int, d2d_cycles)), "TLN": int(tln_cycles)}


def priced_cycles(graph: Graph, planned: PlannedKernel, machine: Machine) -> int:
    """Cycles that a kernel is priced at; the price knows no wires."""
    phases = phases_of(graph, planned, machine)
    return sum(int(makespan_cycles(phase.pipeline, phase.turns)) for phase in phases)


def wires(graph: Graph, planned: PlannedKernel, placement: Placement, machine: Machine) -> Wires:
    """The load of every link of a placed kernel, its trees turned where links would be over capacity."""
    capacity = priced_cycles(graph, planned, machine) * float(exact(machine.rdn.packets_per_cycle.value))
    return loads_of(placement.grid, flows(graph, planned, placement.units, machine), capacity)


def loads_of(grid: Grid, every: Sequence[Flow[Place]], capacity: float = float("inf")) -> Wires:
    """The load of every link; capacity: the packets that one of them can carry in all."""
    nets = multicasts(every)
    return wires_of(grid, trees(grid.mesh, grid.tiles, nets, np.array(nets.units, np.int64).reshape(-1, 3)), capacity)


def wires_of(grid: Grid, every: Trees, capacity: float) -> Wires:
    """The load of every link, of trees that turn where one would be over capacity."""
    _, loads = routed(every, capacity)
    multicast, source, target = every.crossings.T
    crossings = np.zeros((grid.tiles, grid.tiles), np.int64)
    np.add.at(crossings, (source, target), every.crossing_packets)
    dies = -(-grid.tiles // TILES_PER_DIE)
    die_crossings = np.zeros((dies, dies), np.int64)
    out, home = source // TILES_PER_DIE, target // TILES_PER_DIE
    _, first = np.unique(multicast * dies + home, return_index=True)
    first = first[out[first] != home[first]]
    np.add.at(die_crossings, (out[first], home[first]), every.crossing_packets[first])
    return Wires(loads, crossings, die_crossings)
