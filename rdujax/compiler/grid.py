"""The grid of a socket: the places where units can sit, and where the units of a kernel do.

        tile 0  . . >      tile 3  > . .        each tile is a grid of places, a place one PCU and one PMU at a switch;
                < . .              . . <        the curve runs through the rows of a tile to and fro, down one die and
        tile 1  . . >      tile 2  > . .        up the next, so that what follows on it is near
                < . .              . . <

Which die a tile is on is not public: two tiles per die, as in MICRO 2024, Figure 5.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from rdujax.base.errors import CapacityError, describe
from rdujax.compiler.flows import Units
from rdujax.machines.machine import Machine
from rdujax.units.rdn.mesh import Mesh

TILES_PER_DIE = 2


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
