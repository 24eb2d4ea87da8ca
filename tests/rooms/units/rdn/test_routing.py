"""Routes are trees that deliver once, dimension order is minimal, and the switches' tables lead the same way."""

from dataclasses import replace

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError, UnknownNameError
from rdujax.units.rdn.mesh import Endpoint, Link, Mesh, Port
from rdujax.units.rdn.routing import ALONG, Route, check_route, circuits, dimension_order, flow_tables, multicast
from tests.rooms.units.rdn.network_of import random_route, units_of

MESH = Mesh(3, 4)
SOURCE, TARGET = Endpoint(2, 0, Port.AGCU), Endpoint(0, 2, Port.PCU)


def reached(route: Route) -> list[Endpoint]:
    """Where a packet gets to, by following the links from switch to switch."""
    at, ends = {(route.source.row, route.source.column)}, []
    for link in route.links[1:]:
        assert (link.row, link.column) in at
        if link.target:
            ends.append(link.target)
        else:
            at.add(link.head)
    return ends


@pytest.mark.parametrize("along", ALONG)
def test_dimension_order_turns_once_and_is_as_short_as_can_be(along):
    units = units_of(MESH)
    for source in units:
        for target in units:
            route = dimension_order(MESH, source, target, along)
            check_route(MESH, route)
            assert reached(route) == [target]
            distance = abs(source.row - target.row) + abs(source.column - target.column)
            assert route.hops == 2 + distance and route.depths() == {target: 2 + distance}
            across = [link.port in (Port.EAST, Port.WEST) for link in route.links[1:-1]]
            assert across == sorted(across, reverse=along == "row")


def test_a_route_link_by_link():
    route = dimension_order(MESH, SOURCE, TARGET)
    assert [str(link) for link in route.links] == [
        "agcu(2,0)->switch(2,0)",
        "switch(2,0)->switch(2,1)",
        "switch(2,1)->switch(2,2)",
        "switch(2,2)->switch(1,2)",
        "switch(1,2)->switch(0,2)",
        "switch(0,2)->pcu(0,2)",
    ]
    first_column = dimension_order(MESH, SOURCE, TARGET, "column")
    assert str(first_column.links[1]) == "switch(2,0)->switch(1,0)"


@pytest.mark.parametrize("along", ALONG)
def test_a_multicast_is_the_union_of_its_paths(rng, along):
    for _ in range(200):
        route = random_route(rng, MESH, 6, along)
        check_route(MESH, route)
        assert sorted(reached(route)) == sorted(route.targets)
        paths = [dimension_order(MESH, route.source, target, along) for target in route.targets]
        assert set(route.links) == {link for path in paths for link in path.links}
        assert route.depths() == {path.targets[0]: path.hops for path in paths}
        after = route.next_links()
        assert sorted(each for links in after.values() for each in links) == sorted(route.links[1:])


def test_bad_requests_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown dimension to travel first[\s\S]*did you mean 'row'"):
        dimension_order(MESH, SOURCE, TARGET, "rows")
    with pytest.raises(ArgumentError, match="no such unit on the mesh"):
        dimension_order(MESH, Endpoint(0, 1, Port.AGCU), TARGET)
    with pytest.raises(ArgumentError, match="no such unit on the mesh"):
        dimension_order(MESH, SOURCE, Endpoint(3, 0, Port.PMU))
    with pytest.raises(ArgumentError, match=r"delivers once to each of its targets[\s\S]*no target"):
        multicast(MESH, SOURCE, [])
    with pytest.raises(ArgumentError, match=r"delivers once to each of its targets[\s\S]*pcu\(0,2\)"):
        multicast(MESH, SOURCE, [TARGET, TARGET])


def links_of(*texts: tuple) -> tuple[Link, ...]:
    return tuple(Link(*text) for text in texts)


IN, OUT = (0, 0, Port.PMU, False), (0, 1, Port.PCU)
EAST, SOUTH = (0, 0, Port.EAST), (0, 0, Port.SOUTH)
DETOUR = links_of(IN, SOUTH, (1, 0, Port.EAST), (1, 1, Port.NORTH), OUT)


def test_a_route_by_hand_may_take_any_way():
    check_route(MESH, Route(Endpoint(0, 0, Port.PMU), (Endpoint(0, 1, Port.PCU),), DETOUR))


@pytest.mark.parametrize(
    ("links", "text"),
    [
        (links_of(EAST, OUT), "the first link, and no other, comes in from pmu"),
        (links_of((0, 0, Port.PCU, False), EAST, OUT), "the first link, and no other, comes in from pmu"),
        (links_of(IN, (0, 1, Port.PMU, False), EAST, OUT), "the first link, and no other, comes in from pmu"),
        (links_of(IN, OUT), "a link that leaves a switch which the route has entered before"),
        (links_of(IN, OUT, EAST), "a link that leaves a switch which the route has entered before"),
        (links_of(IN, EAST, (0, 1, Port.WEST), OUT), r"each switch entered once; this one was over pmu\(0,0\)"),
        ((*DETOUR, Link(*EAST)), r"each switch entered once; this one was over switch\(1,1\)->switch\(0,1\)"),
        (links_of(IN, EAST, OUT, OUT), "each link once"),
        (links_of(IN, EAST, OUT, SOUTH), "every branch ends at a target"),
        (links_of(IN), "every branch ends at a target"),
        (links_of(IN, (0, 0, Port.NORTH), OUT), "a link that the mesh does not have"),
        (links_of(IN, EAST, OUT, (0, 0, Port.PCU)), r"does not end at its targets[\s\S]*given:   pcu\(0,0\)"),
        (links_of(IN, (0, 0, Port.PCU)), r"does not end at its targets[\s\S]*given:   pcu\(0,0\), pcu\(0,1\)"),
        ((), r"does not end at its targets[\s\S]*given:   pcu\(0,1\)"),
    ],
)
def test_what_is_no_tree_is_refused(links, text):
    with pytest.raises(ArgumentError, match=text):
        check_route(MESH, Route(Endpoint(0, 0, Port.PMU), (Endpoint(0, 1, Port.PCU),), links))


def test_a_target_named_twice_is_refused():
    route = multicast(MESH, SOURCE, [TARGET])
    with pytest.raises(ArgumentError, match="delivers once to each of its targets"):
        check_route(MESH, replace(route, targets=(TARGET, TARGET)))


def test_switches_lead_packets_the_way_of_their_routes(rng):
    routes = [random_route(rng, MESH, 5, ALONG[i % 2]) for i in range(60)]
    tables = flow_tables(routes, 60)
    for index, route in enumerate(routes):
        taken = tables.walk(index)
        assert len(taken) == len(set(taken)) == route.hops and set(taken) == set(route.links)
    assert len(tables.entries) == sum(route.hops for route in routes)
    for link in MESH.links:
        numbers = sorted(number for at, number in tables.entries if at == link)
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(("make", "what"), [(flow_tables, "flow"), (circuits, "control wire")])
def test_a_full_link_fits_and_one_more_is_refused(make, what):
    full = [dimension_order(MESH, SOURCE, TARGET)] * 4
    assert max(number for _, number in make(full, 4).entries) == 3
    text = rf"routes need more {what}s than a link has[\s\S]*5 needed on the fullest link, 1 too many"
    text += rf"[\s\S]* 5 {what}s  switch\(2,2\)->switch\(1,2\)[\s\S]*allowed: 4\n[\s\S]*agcu\(2,0\) to pcu\(0,2\)"
    with pytest.raises(CapacityError, match=text):
        make([*full, dimension_order(MESH, SOURCE, TARGET)], 4)


def test_the_list_of_full_links_is_cut():
    far = dimension_order(Mesh(1, 12), Endpoint(0, 0, Port.PMU), Endpoint(0, 11, Port.PMU))
    with pytest.raises(CapacityError, match="and 5 more links"):
        flow_tables([far, far], 1)


def test_random_routes_are_of_many_kinds(rng):
    routes = [random_route(rng, MESH, 5) for _ in range(100)]
    assert len({len(route.targets) for route in routes}) == 5
    assert np.unique([route.hops for route in routes]).size > 8
