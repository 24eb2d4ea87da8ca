"""Link loads in closed form equal those of routes walked link by link."""

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ShapeError, UnknownNameError
from rdujax.units.rdn.loads import bottleneck_cycles, busiest, link_loads, route_loads
from rdujax.units.rdn.mesh import Endpoint, Link, Mesh, Port
from rdujax.units.rdn.routing import ALONG
from tests.rooms.units.rdn.network_of import random_route

ONE = ([[0, 0, Port.PMU]], [[1, 2, Port.PCU]], [5])


@pytest.mark.parametrize("along", ALONG)
def test_loads_are_those_of_the_routes(rng, along):
    for _ in range(80):
        mesh = Mesh(*map(int, rng.integers(1, 6, 2)))
        routes = [random_route(rng, mesh, 4, along) for _ in range(int(rng.integers(0, 12)))]
        packets = rng.integers(0, 1000, len(routes))
        ends = [(number, target) for number, route in enumerate(routes) for target in route.targets]
        order = rng.permutation(len(ends))
        sources = np.array([route.source for route in routes], np.int64).reshape(-1, 3)
        targets = np.array([ends[i][1] for i in order], np.int64).reshape(-1, 3)
        flow = np.array([ends[i][0] for i in order], np.int64)
        loads = link_loads(mesh, sources, targets, packets, flow, along)
        assert loads.dtype == np.int64 and loads.shape == mesh.shape
        assert np.array_equal(loads, route_loads(mesh, routes, packets.tolist()))
        by_hand = sum(int(carried) * route.hops for route, carried in zip(routes, packets, strict=True))
        assert loads.sum() == by_hand


def test_a_shared_link_of_a_multicast_is_loaded_once():
    targets = [[0, 2, Port.PCU], [0, 2, Port.PMU], [2, 2, Port.PCU]]
    loads = link_loads(Mesh(3, 3), [[0, 0, Port.PMU]], targets, [7], flow=[0, 0, 0])
    alone = link_loads(Mesh(3, 3), [[0, 0, Port.PMU]] * 3, targets, [7] * 3)
    east = Link(0, 0, Port.EAST)
    assert loads[east.row, east.column, east.slot] == 7
    assert alone[east.row, east.column, east.slot] == 21
    assert loads.sum() == 7 * (1 + 2 + 2 + 2 + 1)


def test_terabytes_do_not_overflow():
    loads = link_loads(Mesh(1, 2), [[0, 0, Port.PMU]] * 2, [[0, 1, Port.PMU]] * 2, [2**60, 2**60])
    assert bottleneck_cycles(loads, 1) == 2**61


def test_the_busiest_links_come_first():
    sources = [[0, 0, Port.PMU], [0, 1, Port.PMU]]
    loads = link_loads(Mesh(1, 3), sources, [[0, 2, Port.PCU], [0, 2, Port.PMU]], [4, 3])
    assert busiest(loads, 2) == [(Link(0, 1, Port.EAST), 7), (Link(0, 0, Port.EAST), 4)]
    assert bottleneck_cycles(loads, 1) == 7 and bottleneck_cycles(loads, 2) == 4
    assert bottleneck_cycles(np.zeros((1, 3, 10), np.int64), 1) == 0


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"packets": [5, 5]}, r"flows that do not fit together[\s\S]*sources \(1, 3\)[\s\S]*packets \(2,\)"),
        ({"targets": [[0, 0]]}, r"flows that do not fit together[\s\S]*targets \(1, 2\)"),
        ({"flow": [0, 0]}, r"flows that do not fit together[\s\S]*flow \(2,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed, text):
    given = dict(zip(("sources", "targets", "packets"), ONE, strict=True)) | changed
    with pytest.raises(ShapeError, match=text):
        link_loads(Mesh(2, 3), **given)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"packets": [-1]}, r"a negative number of packets[\s\S]*given:   -1"),
        ({"flow": [1]}, "a flow without a target, or a target without a flow"),
        ({"flow": [-1]}, "a flow without a target, or a target without a flow"),
        ({"targets": [[2, 0, Port.PCU]]}, r"no such unit on the mesh[\s\S]*pcu\(2,0\)"),
        ({"targets": [[0, -1, Port.PCU]]}, r"no such unit on the mesh[\s\S]*pcu\(0,-1\)"),
        ({"sources": [[1, 1, Port.AGCU]]}, r"no such unit on the mesh[\s\S]*agcu\(1,1\)"),
        ({"sources": [[1, 1, Port.EAST]]}, r"not the port of a unit[\s\S]*given:   1\n[\s\S]*PCU 4, PMU 5, AGCU 6"),
        ({"sources": [[1, 1, 12]]}, r"not the port of a unit[\s\S]*given:   12"),
    ],
)
def test_units_and_flows_that_are_not_there_are_refused(changed, text):
    given = dict(zip(("sources", "targets", "packets"), ONE, strict=True)) | changed
    with pytest.raises(ArgumentError, match=text):
        link_loads(Mesh(2, 3), **given)


def test_unknown_dimensions_and_missing_numbers_are_refused():
    with pytest.raises(UnknownNameError, match="unknown dimension to travel first"):
        link_loads(Mesh(2, 3), *ONE, along="rows")
    with pytest.raises(ShapeError, match=r"one number of packets per route[\s\S]*2 for 0 routes"):
        route_loads(Mesh(2, 3), [], [1, 2])


def test_endpoints_are_rows_of_the_arrays():
    sources, targets = [Endpoint(0, 0, Port.PMU)], [Endpoint(1, 2, Port.PCU)]
    assert np.array_equal(link_loads(Mesh(2, 3), sources, targets, [5]), link_loads(Mesh(2, 3), *ONE))
