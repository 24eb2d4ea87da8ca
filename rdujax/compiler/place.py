"""Pass: where the units of a planned kernel sit on the grid of the socket.

        tile 0  . . >      tile 3  > . .        each tile is a grid of places, a place one PCU and one PMU at a switch;
                < . .              . . <        the curve runs through the rows of a tile to and fro, down one die and
        tile 1  . . >      tile 2  > . .        up the next, so that what follows on it is near
                < . .              . . <

The PCUs of each stage take consecutive places of the curve, in the order of the pipeline. A stage that would cross to
the next tile starts there instead while spare places last, and a stage with more PMUs around it than PCUs leaves
places free for them. Then each PMU takes the free place with the shortest ways to the PCUs that it serves, weighted by
packets, the busiest first, and each AGCU likewise to its PMUs. So a kernel can be placed exactly if its units can be
counted out (L6). Which die a tile is on is not public: two tiles per die, as in MICRO 2024, Figure 5.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.compiler.flows import Flow, Units, flows
from rdujax.graph.graph import Graph
from rdujax.graph.plan import PlannedKernel
from rdujax.machines.machine import Machine
from rdujax.units.rdn.mesh import Mesh

TILES_PER_DIE = 2
ORDERS = ("near", "counted")
Name = tuple[str, str, int]  # a unit before it has a place: its kind, whose it is, which of them


class Place(NamedTuple):
    """A place of the socket: the switch (row, column) of a tile, with the PCU and the PMU that it serves.

    An AGCU has the place of the edge switch that it hangs on.
    """

    tile: int
    row: int
    column: int

    def __str__(self) -> str:
        return f"tile {self.tile} ({self.row},{self.column})"


@dataclass(frozen=True)
class Grid:
    """The places of a socket: `tiles` meshes of rows x columns. Units exist on the first so many places of the curve.

    Raises CapacityError where the socket has more units of a kind than places, or edges, to put them at.
    """

    tiles: int
    mesh: Mesh
    pcus: int
    pmus: int
    agcus: int

    def __post_init__(self) -> None:
        places = self.tiles * self.mesh.rows * self.mesh.columns
        for kind, count in (("PCUs", self.pcus), ("PMUs", self.pmus)):
            if count > places:
                raise CapacityError(
                    describe(f"more {kind} than places on the grid", given=f"{count:,}", allowed=f"{places:,}, {self}",
                             do="replace rdn.tiles, rdn.rows or rdn.columns of the machine too")
                )  # fmt: skip
        ports = len(self.mesh.agcus())
        if self.agcus > ports * self.tiles:
            raise CapacityError(
                describe("more AGCUs than switches at the west and east edges of the tiles", given=f"{self.agcus:,}",
                         allowed=f"{ports * self.tiles:,}, {self}",
                         do="replace rdn.tiles or rdn.rows of the machine too")
            )  # fmt: skip

    @cached_property
    def curve(self) -> tuple[Place, ...]:
        """All places along the curve."""
        places: list[Place] = []
        for tile in range(self.tiles):
            up = tile // TILES_PER_DIE % 2
            for i in range(self.mesh.rows):
                row = self.mesh.rows - 1 - i if up else i
                columns = range(self.mesh.columns)
                places += [Place(tile, row, c) for c in (columns if i % 2 == 0 else reversed(columns))]
        return tuple(places)

    @cached_property
    def agcu_places(self) -> tuple[Place, ...]:
        """Where AGCUs hang: spread evenly over the tiles, and over the west and east edge of each."""
        shares = [self.agcus * (t + 1) // self.tiles - self.agcus * t // self.tiles for t in range(self.tiles)]
        return tuple(
            Place(tile, end.row, end.column) for tile, share in enumerate(shares) for end in self.mesh.agcus(share)
        )

    def corner(self, tile: int) -> tuple[int, int]:
        """(row, column) of the first place of a tile, all tiles laid out on one sheet: dies side by side."""
        die, down = divmod(tile, TILES_PER_DIE)
        below = TILES_PER_DIE - 1 - down if die % 2 else down
        return below * self.mesh.rows, die * self.mesh.columns

    def spot(self, place: Place) -> tuple[int, int]:
        """(row, column) of a place on that sheet."""
        row, column = self.corner(place.tile)
        return row + place.row, column + place.column

    def __str__(self) -> str:
        return f"{self.tiles} tiles of {self.mesh.rows} x {self.mesh.columns} places"


def grid_of(machine: Machine) -> Grid:
    """The grid of a machine; its facts must be plain numbers."""
    rdn = machine.rdn
    return Grid(
        int(rdn.tiles.value),
        Mesh(int(rdn.rows.value), int(rdn.columns.value)),
        int(machine.pcu.count.value),
        int(machine.pmu.count.value),
        int(machine.agcu.count.value),
    )


@dataclass(frozen=True)
class Placement:
    """The places of a kernel's units on a grid."""

    grid: Grid
    units: Units[Place]


def place(graph: Graph, planned: PlannedKernel, machine: Machine, order: str = "near") -> Placement:
    """Places a planned kernel; the same kernel and machine give the same placement, always.

    order: "near" as above, or "counted", which counts units out along the curve and looks at nothing: what "near" is
    measured against. Raises CapacityError for more units than there are, UnknownNameError for another order.
    """
    if order not in ORDERS:
        raise unknown("order of placement", order, ORDERS)
    grid = grid_of(machine)
    _check_counts(planned, grid)
    stages = [(s.label, share.pcus) for s, share in zip(planned.kernel.stages, planned.shares, strict=True)]
    buffers = [(b.label, b.pmus) for b in planned.buffers]
    streams = [(s.label, s.agcus) for s in planned.streams]
    if order == "counted":
        every = (stages, grid.curve), (buffers, grid.curve), (streams, grid.agcu_places)
        return check_placement(planned, Placement(grid, Units(*(_counted(needs, places) for needs, places in every))))
    pcus = _along_curve(stages, _pmus_beside(planned), grid)
    names = Units(*({label: tuple((kind, label, i) for i in range(n)) for label, n in needs}
                    for kind, needs in (("PCU", stages), ("PMU", buffers), ("AGCU", streams))))  # fmt: skip
    partners = _partners(flows(graph, planned, names, machine))
    at = {unit: spot for label in pcus for unit, spot in zip(names.pcus[label], pcus[label], strict=True)}
    for kind, places in ((names.pmus, grid.curve[: grid.pmus]), (names.agcus, grid.agcu_places)):
        units = [unit for own in kind.values() for unit in own]
        _nearest(grid, sorted(units, key=lambda unit: -sum(partners[unit].values())), list(places), partners, at)
    pmus, agcus = ({label: tuple(at[unit] for unit in own) for label, own in kind.items()}
                   for kind in (names.pmus, names.agcus))  # fmt: skip
    return check_placement(planned, Placement(grid, Units(pcus, pmus, agcus)))


def _partners(every: Sequence[Flow[Name]]) -> dict[Name, dict[Name, int]]:
    """For every unit, the packets that it exchanges with each other one."""
    found: dict[Name, dict[Name, int]] = defaultdict(lambda: defaultdict(int))
    for flow in every:
        sent = flow.sent
        for group, at in zip(*(each.tolist() for each in np.nonzero(sent)), strict=True):
            source, packets = flow.sources[at], int(sent[group, at])
            for target in flow.groups[group]:
                found[source][target] += packets
                found[target][source] += packets
    return found


def neighbours(planned: PlannedKernel) -> dict[str, tuple[str, ...]]:
    """For each buffer, the stages that write or read it, in order of the pipeline."""
    return {
        b.label: tuple(
            s.label for s in planned.kernel.stages if s.result == b.value or any(r.value == b.value for r in s.reads)
        )
        for b in planned.buffers
    }


def check_placement(planned: PlannedKernel, placement: Placement) -> Placement:
    """The placement itself; raises ArgumentError where it has other numbers of units than the kernel, or one twice."""
    stages = {s.label: share.pcus for s, share in zip(planned.kernel.stages, planned.shares, strict=True)}
    grid = placement.grid
    for kind, needs, given, there in (
        ("PCU", stages, placement.units.pcus, grid.curve[: grid.pcus]),
        ("PMU", {b.label: b.pmus for b in planned.buffers}, placement.units.pmus, grid.curve[: grid.pmus]),
        ("AGCU", {s.label: s.agcus for s in planned.streams}, placement.units.agcus, grid.agcu_places),
    ):
        if (counts := {label: len(places) for label, places in given.items()}) != needs:
            raise ArgumentError(
                describe(f"other numbers of {kind}s than planned", given=str(counts), allowed=str(needs))
            )
        used = Counter(place for places in given.values() for place in places)
        if wrong := list(used - Counter(there)):
            raise ArgumentError(
                describe(
                    f"{kind}s that are not there, or used twice", given=", ".join(map(str, wrong)), allowed=str(grid)
                )
            )
    return placement


def _check_counts(planned: PlannedKernel, grid: Grid) -> None:
    for kind, needed, there in (
        ("PCU", planned.pcus, grid.pcus),
        ("PMU", planned.pmus, grid.pmus),
        ("AGCU", planned.agcus, grid.agcus),
    ):
        if needed > there:
            raise CapacityError(
                describe(
                    f"a kernel needs more {kind}s than there are to place",
                    given=f"{needed:,}",
                    allowed=f"{there:,}",
                    where=f"kernel {planned.kernel.name}",
                    do="plan it for this machine",
                )
            )


def _counted(needs: Iterable[tuple[str, int]], places: Sequence[Place]) -> dict[str, tuple[Place, ...]]:
    walk = iter(places)
    return {label: tuple(islice(walk, count)) for label, count in needs}


def _pmus_beside(planned: PlannedKernel) -> dict[str, int]:
    """PMUs of the buffers that begin at each stage: its result, and the loads that it is the first to read."""
    around = neighbours(planned)
    beside: dict[str, int] = {}
    for buffer in planned.buffers:
        for stage in around[buffer.label][:1]:
            beside[stage] = beside.get(stage, 0) + buffer.pmus
    return beside


def _along_curve(stages: Sequence[tuple[str, int]], beside: dict[str, int], grid: Grid) -> dict[str, tuple[Place, ...]]:
    """Consecutive places for each stage; spare ones are left free before a tile's end and beside many PMUs."""
    spare = grid.pcus - sum(count for _, count in stages)
    per_tile = grid.mesh.rows * grid.mesh.columns
    placed: dict[str, tuple[Place, ...]] = {}
    at = 0
    for label, count in stages:
        rest = -at % per_tile
        if rest < count <= per_tile and rest <= spare:
            at, spare = at + rest, spare - rest
        placed[label] = grid.curve[at : at + count]
        room = min(spare, max(0, beside.get(label, 0) - count))
        at, spare = at + count + room, spare - room
    return placed


def _nearest(
    grid: Grid, units: Sequence[Name], free: list[Place], partners: dict[Name, dict[Name, int]], at: dict[Name, Place]
) -> None:
    """Gives each unit in turn the free place with the shortest ways to its partners `at` their places, by packets.

    A way is a number of switches; one to another tile is as much longer as a tile is wide and high. First of equals.
    """
    detour = grid.mesh.rows + grid.mesh.columns
    spots = np.array([(*grid.spot(place), place.tile) for place in free], np.int64)
    taken = np.zeros(len(free), bool)
    for unit in units:
        known = [(*grid.spot(at[o]), at[o].tile, packets) for o, packets in partners[unit].items() if o in at]
        rows, columns, tiles, packets = np.array(known, np.int64).reshape(-1, 4).T
        # A way is a sum over rows and columns, so that each is summed by itself.
        ways = _ways(spots[:, 0], rows, packets) + _ways(spots[:, 1], columns, packets)
        inside = np.bincount(tiles, packets, grid.tiles).astype(np.int64)
        ways += detour * (inside.sum(dtype=np.int64) - inside)[spots[:, 2]]
        ways[taken] = np.iinfo(np.int64).max
        best = int(ways.argmin())
        taken[best], at[unit] = True, free[best]


def _ways(spots: np.ndarray, ends: np.ndarray, packets: np.ndarray) -> np.ndarray:
    """For each coordinate of `spots`, the packets times the distance to their `ends`, summed."""
    every = np.arange(spots.max() + 1)
    weights = np.bincount(ends, packets, len(every)).astype(np.int64)
    return (np.abs(every[:, None] - np.arange(len(weights))) * weights).sum(1, dtype=np.int64)[spots]
