"""The mesh of switches of one tile: who sits where, and the directed links between them.

        agcu <> switch <> switch <> switch <> agcu        row 0, the north edge
                  |         |         |                   each switch also serves one PCU and one PMU
        agcu <> switch <> switch <> switch <> agcu        row 1

A place is (row, column), row 0 in the north and column 0 in the west. A link is directed and named after the switch
that it leaves, or, coming from a unit, that it enters. A mesh is one tile: what joins tiles (die-to-die links, the
top-level network) belongs to other units, so that a route never leaves its mesh.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from rdujax.base.errors import ArgumentError, CapacityError, describe


class Port(IntEnum):
    """A side of a switch: towards a neighbour, or towards a unit that it serves."""

    NORTH = 0
    EAST = 1
    SOUTH = 2
    WEST = 3
    PCU = 4
    PMU = 5
    AGCU = 6

    __hash__ = (
        int.__hash__
    )  # the same as the default in every use, and not written in Python: links are looked up often


UNIT_PORTS = (Port.PCU, Port.PMU, Port.AGCU)
OPPOSITE = {Port.NORTH: Port.SOUTH, Port.SOUTH: Port.NORTH, Port.EAST: Port.WEST, Port.WEST: Port.EAST}
STEPS = {Port.NORTH: (-1, 0), Port.EAST: (0, 1), Port.SOUTH: (1, 0), Port.WEST: (0, -1)}


class Endpoint(NamedTuple):
    """A unit that sends or receives: the PCU, the PMU or the AGCU at the switch (row, column)."""

    row: int
    column: int
    port: Port

    def __str__(self) -> str:
        return f"{self.port.name.lower()}({self.row},{self.column})"


class Link(NamedTuple):
    """A directed link. outward: it leaves the switch at `port`; otherwise it comes in from the unit at `port`."""

    row: int
    column: int
    port: Port
    outward: bool = True

    @property
    def slot(self) -> int:
        """Place among the links of its switch: ports in order, then what comes in from PCU, PMU and AGCU."""
        return self.port if self.outward else self.port + len(UNIT_PORTS)

    @property
    def source(self) -> Endpoint | None:
        """The unit that sends into it; None where a switch does."""
        return None if self.outward else Endpoint(self.row, self.column, self.port)

    @property
    def target(self) -> Endpoint | None:
        """The unit that it ends at; None where it ends at a switch."""
        return Endpoint(self.row, self.column, self.port) if self.outward and self.port in UNIT_PORTS else None

    @property
    def head(self) -> tuple[int, int]:
        """(row, column) of the switch that it ends at, or of the one that serves the unit that it ends at."""
        down, right = STEPS.get(self.port, (0, 0)) if self.outward else (0, 0)
        return self.row + down, self.column + right

    def __str__(self) -> str:
        switch = f"switch({self.row},{self.column})"
        if not self.outward:
            return f"{self.source}->{switch}"
        row, column = self.head
        return f"{switch}->{self.target or f'switch({row},{column})'}"


SLOTS = len(Port) + len(UNIT_PORTS)
_OF_SLOT = [(port, True) for port in Port] + [(port, False) for port in UNIT_PORTS]


def link_of(row: int, column: int, slot: int) -> Link:
    """The link at a slot of a switch: the inverse of `Link.slot`."""
    return Link(row, column, *_OF_SLOT[slot])


@dataclass(frozen=True)
class Mesh:
    """The switches of one tile. Raises ArgumentError for a mesh without rows or columns.

    >>> mesh = Mesh(rows=4, columns=4)
    >>> len(mesh.switches), len(mesh.links), len(mesh.agcus())
    (16, 128, 8)
    >>> str(mesh.check(Link(0, 1, Port.SOUTH)))
    'switch(0,1)->switch(1,1)'
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1:
            raise ArgumentError(
                describe("a mesh without switches", given=f"{self.rows} x {self.columns}", allowed="1 x 1 or more")
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an array with one entry per link: [rows, columns, slots]; see `Link.slot`."""
        return self.rows, self.columns, SLOTS

    @cached_property
    def switches(self) -> tuple[tuple[int, int], ...]:
        """(row, column) of every switch, row by row."""
        return tuple((row, column) for row in range(self.rows) for column in range(self.columns))

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Every link that exists, switch by switch and slot by slot."""
        every = (link_of(*place, slot) for place in self.switches for slot in range(SLOTS))
        return tuple(link for link in every if self.has(link))

    def has(self, link: Link) -> bool:
        """Whether a link exists: no neighbour beyond the edge, no AGCU but at the west and east edge."""
        row, column = link.head
        there = (link.row, link.column) in self and (row, column) in self
        if not link.outward and link.port not in UNIT_PORTS:
            return False
        return there and (link.port is not Port.AGCU or self._is_edge(link.column))

    def check(self, link: Link) -> Link:
        """The link itself; raises ArgumentError where the mesh has none such."""
        if not self.has(link):
            raise ArgumentError(describe("a link that the mesh does not have", given=str(link), allowed=str(self)))
        return link

    def check_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint itself; raises ArgumentError where no such unit sits."""
        if not self.has(Link(*endpoint)) or endpoint.port not in UNIT_PORTS:
            raise ArgumentError(
                describe(
                    "no such unit on the mesh",
                    given=str(endpoint),
                    allowed=f"{self}: a PCU and a PMU at every switch, an AGCU at those of the west and east edge",
                )
            )
        return endpoint

    def agcus(self, count: int | None = None) -> tuple[Endpoint, ...]:
        """Where AGCUs sit: `count` of them, spread evenly over the two edges, west first; by default one at each port.

        Raises CapacityError for more AGCUs than ports.
        """
        edges = sorted({0, self.columns - 1})
        ports = self.rows * len(edges)
        count = ports if count is None else count
        if count > ports:
            raise CapacityError(
                describe("more AGCUs than ports at the edges of the mesh", given=count, allowed=f"{ports} on {self}")
            )
        shares = [-(-count // len(edges)), count // len(edges)]
        places = [(i * self.rows // n, edge) for edge, n in zip(edges, shares, strict=False) for i in range(n)]
        return tuple(Endpoint(row, column, Port.AGCU) for row, column in places)

    def _is_edge(self, column: int) -> bool:
        return column in (0, self.columns - 1)

    def __contains__(self, place: tuple[int, int]) -> bool:
        return 0 <= place[0] < self.rows and 0 <= place[1] < self.columns

    def __str__(self) -> str:
        return f"mesh of {self.rows} x {self.columns} switches"
