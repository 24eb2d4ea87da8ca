"""How loaded every link of the on-chip network is while a placed kernel runs once.

Routes go along the row first and then along the column (`units/rdn/routing.py`); a multicast loads a shared link once.
A flow to another tile leaves its own at the nearer edge of its row, crosses the top-level network, and comes in at an
edge again. Not modelled: the AGCUs that such crossings take.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdujax.compiler.flows import Flow, flows
from rdujax.compiler.place import Grid, Place, Placement
from rdujax.graph.graph import Graph
from rdujax.graph.plan import PlannedKernel
from rdujax.machines.machine import Machine
from rdujax.units.rdn.loads import link_loads
from rdujax.units.rdn.mesh import Port


@dataclass(frozen=True, eq=False)
class Wires:
    """Loads of the links while a kernel runs once.

    loads: int64 [tiles, rows, columns, slots], vector packets per link (see `units.mesh.Link.slot`). crossings: int64
    [tiles, tiles], packets from tile to tile.
    """

    loads: np.ndarray
    crossings: np.ndarray

    @property
    def hops(self) -> int:
        """Packets times links between switches: the length of all wires, weighted by what they carry."""
        return int(self.loads[..., : Port.PCU].sum(dtype=np.int64))

    @property
    def busiest(self) -> int:
        """Packets on the busiest link between switches."""
        return int(self.loads[..., : Port.PCU].max(initial=0))


def wires(graph: Graph, planned: PlannedKernel, placement: Placement, machine: Machine) -> Wires:
    """The load of every link of a placed kernel."""
    return loads_of(placement.grid, flows(graph, planned, placement.units, machine))


def loads_of(grid: Grid, every: Sequence[Flow[Place]]) -> Wires:
    """The load of every link. A tree that leaves its tile ends at the edge too, and begins anew in each other tile."""
    loads = np.zeros((grid.tiles, *grid.mesh.shape), np.int64)
    crossings = np.zeros((grid.tiles, grid.tiles), np.int64)
    for flow in every:
        sources, packets, targets, owner = _arrays(flow)
        inside = sources[owner, 0] == targets[:, 0]
        away, to = owner[~inside], targets[~inside]
        leaving = np.unique(away)
        local, local_owner = [targets[inside], _edge(grid, sources[leaving])], [owner[inside], leaving]
        _add(grid, loads, sources, packets, np.concatenate(local), np.concatenate(local_owner))
        _, first, leg = np.unique(away * grid.tiles + to[:, 0], return_index=True, return_inverse=True)
        carried = packets[away[first]]
        _add(grid, loads, _edge(grid, to[first]), carried, to, leg)
        np.add.at(crossings, (sources[away[first], 0], to[first, 0]), carried)
    return Wires(loads, crossings)


def _arrays(flow: Flow[Place]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Multicasts from one source to one group: (sources [n, 4], packets [n], targets [m, 4], owner of each target).

    A row is (tile, row, column, port).
    """
    sources = np.array([(*place, flow.source_port) for place in flow.sources], np.int64)
    targets = np.array([(*place, flow.target_port) for group in flow.groups for place in group], np.int64)
    sent = flow.sent
    group, source = np.nonzero(sent)
    sizes = np.array([len(units) for units in flow.groups])
    first = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(group)), sizes[group])
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes[group]) - sizes[group], sizes[group])
    return sources[source], sent[group, source], targets[first[group][owner] + within], owner


def _edge(grid: Grid, places: np.ndarray) -> np.ndarray:
    """The AGCU port at the nearer end of each place's row."""
    last = grid.mesh.columns - 1
    edge = places.copy()
    edge[:, 2] = np.where(places[:, 2] * 2 <= last, 0, last)
    edge[:, 3] = Port.AGCU
    return edge


def _add(
    grid: Grid, loads: np.ndarray, sources: np.ndarray, packets: np.ndarray, targets: np.ndarray, owner: np.ndarray
) -> None:
    """Adds multicasts that stay within their tiles."""
    for tile in range(grid.tiles):
        here = targets[:, 0] == tile
        used, flow = np.unique(owner[here], return_inverse=True)
        if used.size:
            loads[tile] += link_loads(grid.mesh, sources[used, 1:], targets[here, 1:], packets[used], flow)
