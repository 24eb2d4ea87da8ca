"""Routes on the mesh: dimension order, multicast trees, and the static tables that switches decode.

        pmu(0,0) > switch(0,0) > switch(0,1) > switch(1,1) > pcu(1,1)        along the row first,
                                           > pcu(0,1)                        forking at a switch

A route is a tree of links from one unit to one or more. Dimension order goes along the row first and then along the
column (or the other way round); the union of such paths from one source is a tree. Any other tree may be given by
hand and is checked. Static flow routing writes the tree into the switches: a packet carries a number, each switch
port decodes it into output ports and rewrites it for each of them (MICRO 2024, section IV-C). A circuit of the control
fabric holds one wire of each link of its tree for as long as the kernel runs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.units.rdn.mesh import Endpoint, Link, Mesh, Port

Along = Literal["row", "column"]
ALONG: tuple[Along, ...] = ("row", "column")


@dataclass(frozen=True)
class Route:
    """A tree of links from one unit to others, in an order in which every link follows the one that leads to it.

    Built by `dimension_order` and `multicast`, or by hand and then held against `check_route`.
    """

    source: Endpoint
    targets: tuple[Endpoint, ...]
    links: tuple[Link, ...]

    @property
    def hops(self) -> int:
        """Links that one packet is copied onto, those from and to units included."""
        return len(self.links)

    def next_links(self) -> dict[Link, tuple[Link, ...]]:
        """For each link the ones that a packet takes from its end: several where the tree forks, none at a unit."""
        leaving: dict[tuple[int, int], list[Link]] = defaultdict(list)
        for link in self.links:
            if link.outward:
                leaving[link.row, link.column].append(link)
        return {link: () if link.target else tuple(leaving[link.head]) for link in self.links}

    def depths(self) -> dict[Endpoint, int]:
        """Links from the source to each target."""
        after, depth = self.next_links(), {self.links[0]: 1}
        for link in self.links:
            depth |= dict.fromkeys(after[link], depth[link] + 1)
        return {link.target: depth[link] for link in self.links if link.target}

    def __str__(self) -> str:
        return f"{self.source} to {', '.join(map(str, self.targets))}"


def dimension_order(mesh: Mesh, source: Endpoint, target: Endpoint, along: Along = "row") -> Route:
    """The route along one dimension and then the other: unique, minimal, and free of deadlock with all of its kind.

    along: the dimension that is travelled first. Raises ArgumentError for units that the mesh does not have.

    >>> route = dimension_order(Mesh(2, 2), Endpoint(0, 0, Port.PMU), Endpoint(1, 1, Port.PCU))
    >>> [str(link) for link in route.links[:2]]
    ['pmu(0,0)->switch(0,0)', 'switch(0,0)->switch(0,1)']
    >>> route.hops
    4
    """
    return multicast(mesh, source, [target], along)


def multicast(mesh: Mesh, source: Endpoint, targets: Sequence[Endpoint], along: Along = "row") -> Route:
    """The tree of all dimension-order paths to `targets`: a link that several paths share carries one copy.

    Raises ArgumentError for units that the mesh does not have, for no targets and for one that is named twice.
    """
    if along not in ALONG:
        raise unknown("dimension to travel first", along, ALONG)
    mesh.check_endpoint(source)
    _check_targets(targets)
    paths = (_path(source, mesh.check_endpoint(target), along) for target in targets)
    links = dict.fromkeys(link for path in paths for link in path)
    return Route(source, tuple(targets), tuple(links))


def _check_targets(targets: Sequence[Endpoint]) -> None:
    twice = [str(target) for target, count in Counter(targets).items() if count > 1]
    if twice or not targets:
        raise ArgumentError(
            describe("a route delivers once to each of its targets", given=", ".join(twice) or "no target")
        )


def _path(source: Endpoint, target: Endpoint, along: Along) -> Iterator[Link]:
    yield Link(*source, outward=False)
    row, column = source.row, source.column
    for dimension in (along, *(each for each in ALONG if each != along)):
        if dimension == "row":
            port, step = (Port.EAST, 1) if target.column > column else (Port.WEST, -1)
            yield from (Link(row, at, port) for at in range(column, target.column, step))
            column = target.column
        else:
            port, step = (Port.SOUTH, 1) if target.row > row else (Port.NORTH, -1)
            yield from (Link(at, column, port) for at in range(row, target.row, step))
            row = target.row
    yield Link(*target)


def check_route(mesh: Mesh, route: Route) -> None:
    """Refuses a route that is no tree from its source to its targets: ArgumentError, with the link that is wrong.

    A switch is entered once at most, every link follows one before it, every branch ends at a target, and every
    target is reached once.
    """
    entered: dict[tuple[int, int], Link] = {}
    for i, link in enumerate(route.links):
        mesh.check(link)
        if (i == 0) is link.outward or (i == 0 and link.source != route.source):
            _refuse(route, link, f"the first link, and no other, comes in from {route.source}")
        if link.outward and (link.row, link.column) not in entered:
            _refuse(route, link, "a link that leaves a switch which the route has entered before")
        if not link.target:
            if link.head in entered:
                _refuse(route, link, f"each switch entered once; this one was over {entered[link.head]}")
            entered[link.head] = link
    twice = [link for link, count in Counter(route.links).items() if count > 1]
    if twice:
        _refuse(route, twice[0], "each link once")
    after = route.next_links()
    dangling = [link for link in route.links if not link.target and not after[link]]
    if dangling:
        _refuse(route, dangling[0], "every branch ends at a target")
    _check_targets(route.targets)
    reached = {link.target for link in route.links if link.target}
    if reached != set(route.targets):
        wrong = sorted(map(str, reached.symmetric_difference(route.targets)))
        raise ArgumentError(
            describe("a route that does not end at its targets", given=", ".join(wrong), where=f"route {route}")
        )


def _refuse(route: Route, link: Link, allowed: str) -> None:
    raise ArgumentError(
        describe("a route that is no tree from its source", given=str(link), allowed=allowed, where=f"route {route}")
    )


Hop = tuple[Link, int]


@dataclass(frozen=True)
class Tables:
    """What the switches decode: for a link and the number that arrives over it, the links and numbers to send on.

    entries: (link, number) -> the next (link, number)s; none where the link ends at a unit.
    first: for each route, the link and the number that its source sends with.
    """

    entries: dict[Hop, tuple[Hop, ...]]
    first: tuple[Hop, ...]

    def walk(self, route: int) -> tuple[Link, ...]:
        """The links that a packet of one route takes, as the switches decode its numbers."""
        waiting, taken = [self.first[route]], []
        while waiting:
            link, number = waiting.pop(0)
            taken.append(link)
            waiting += self.entries[link, number]
        return tuple(taken)


def flow_tables(routes: Sequence[Route], capacity: int) -> Tables:
    """Static flow routing: allots each route a flow id on every link, and fills the tables of the switch ports.

    capacity: flow ids that one port can tell apart. Raises CapacityError where more routes share a link (law L6).
    """
    return _tables(routes, capacity, "flow")


def circuits(routes: Sequence[Route], control_wires: int) -> Tables:
    """Circuit switching: allots each route a wire of every link, and sets the switches.

    control_wires: wires per link and direction. Raises CapacityError where more circuits share a link (law L6).
    """
    return _tables(routes, control_wires, "control wire")


def _tables(routes: Sequence[Route], capacity: int, what: str) -> Tables:
    sharing: dict[Link, list[int]] = defaultdict(list)
    for index, route in enumerate(routes):
        for link in route.links:
            sharing[link].append(index)
    over = {link: users for link, users in sharing.items() if len(users) > capacity}
    if over:
        raise CapacityError(_too_many(over, routes, capacity, what))
    number = {(link, index): at for link, users in sharing.items() for at, index in enumerate(users)}
    entries: dict[Hop, tuple[Hop, ...]] = {}
    for index, route in enumerate(routes):
        for link, after in route.next_links().items():
            entries[link, number[link, index]] = tuple((each, number[each, index]) for each in after)
    first = tuple((route.links[0], number[route.links[0], index]) for index, route in enumerate(routes))
    return Tables(entries, first)


def _too_many(over: dict[Link, list[int]], routes: Sequence[Route], capacity: int, what: str) -> str:
    fullest = sorted(over.items(), key=lambda item: (-len(item[1]), item[0]))
    table = "".join(f"\n    {len(users):>6} {what}s  {link}" for link, users in fullest[:8])
    if len(fullest) > 8:
        table += f"\n    and {len(fullest) - 8} more links"
    link, users = fullest[0]
    return describe(
        f"routes need more {what}s than a link has",
        given=f"{len(users)} needed on the fullest link, {len(users) - capacity} too many:{table}",
        allowed=f"{capacity}",
        where=f"{link}: {'; '.join(str(routes[index]) for index in users[:4])}{' ...' if len(users) > 4 else ''}",
        do="spread the units, route along the other dimension, or cut the kernel",
    )
