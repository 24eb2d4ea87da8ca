"""The mesh: which links there are, where they lead, and who sits at the edges."""

import pytest

from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.machines.machine import MACHINES
from rdujax.units import rdn
from rdujax.units.rdn.mesh import SLOTS, UNIT_PORTS, Endpoint, Link, Mesh, Port, link_of

SHAPES = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 5), (26, 10)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_shape
def test_the_links_are_those_of_a_grid(shape):
    rows, columns = shape
    mesh = Mesh(rows, columns)
    between = 2 * (rows * (columns - 1) + (rows - 1) * columns)
    edges = rows * min(2, columns)
    assert len(mesh.switches) == rows * columns
    assert len(mesh.links) == len(set(mesh.links)) == between + 2 * (2 * rows * columns + edges)


@each_shape
def test_every_link_between_switches_has_its_way_back(shape):
    mesh = Mesh(*shape)
    ways = {((link.row, link.column), link.head) for link in mesh.links if link.outward and not link.target}
    assert ways == {(head, tail) for tail, head in ways}
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in ways)


@each_shape
def test_a_unit_has_one_link_to_it_and_one_from_it(shape):
    mesh = Mesh(*shape)
    to = sorted(link.target for link in mesh.links if link.target)
    assert to == sorted(link.source for link in mesh.links if link.source)
    assert len(to) == len(set(to))
    assert all(mesh.check_endpoint(unit) is unit for unit in to)


def test_slots_number_the_links_of_a_switch():
    mesh = Mesh(3, 3)
    assert mesh.shape == (3, 3, SLOTS)
    assert all(link_of(link.row, link.column, link.slot) == link for link in mesh.links)
    assert sorted(link.slot for link in mesh.links if (link.row, link.column) == (1, 0)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@each_shape
def test_agcus_fill_the_edges_evenly(shape):
    mesh = Mesh(*shape)
    ports = mesh.rows * min(2, mesh.columns)
    for count in range(ports + 1):
        places = mesh.agcus(count)
        assert len(places) == len(set(places)) == count
        assert all(mesh.check_endpoint(place).column in (0, mesh.columns - 1) for place in places)
        west = sum(place.column == 0 for place in places)
        assert mesh.columns == 1 or west - (count - west) in (0, 1)
    assert set(mesh.agcus()) == {link.target for link in mesh.links if link.target and link.target.port is Port.AGCU}


def test_one_agcu_more_than_ports_is_refused():
    with pytest.raises(
        CapacityError, match=r"more AGCUs than ports[\s\S]*given:   9[\s\S]*allowed: 8 on mesh of 4 x 4"
    ):
        Mesh(4, 4).agcus(9)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (-1, 2)], ids=str)
def test_a_mesh_without_switches_is_refused(shape):
    with pytest.raises(ArgumentError, match="a mesh without switches"):
        Mesh(*shape)


@pytest.mark.parametrize(
    "link",
    [
        Link(0, 0, Port.NORTH),
        Link(0, 0, Port.WEST),
        Link(2, 3, Port.EAST),
        Link(2, 3, Port.SOUTH),
        Link(1, 1, Port.AGCU),
        Link(1, 1, Port.AGCU, outward=False),
        Link(1, 1, Port.EAST, outward=False),
        Link(3, 0, Port.PMU),
        Link(0, -1, Port.PCU),
    ],
    ids=repr,
)
def test_links_that_are_not_there_are_refused(link):
    mesh = Mesh(3, 4)
    assert not mesh.has(link) and link not in mesh.links
    with pytest.raises(ArgumentError, match=r"a link that the mesh does not have[\s\S]*mesh of 3 x 4 switches"):
        mesh.check(link)


@pytest.mark.parametrize(
    "endpoint", [Endpoint(0, 0, Port.EAST), Endpoint(3, 0, Port.PMU), Endpoint(1, 1, Port.AGCU)], ids=str
)
def test_units_that_are_not_there_are_refused(endpoint):
    with pytest.raises(
        ArgumentError, match=r"no such unit on the mesh[\s\S]*an AGCU at those of the west and east edge"
    ):
        Mesh(3, 4).check_endpoint(endpoint)


def test_links_read_as_from_and_to():
    assert str(Link(0, 0, Port.AGCU, outward=False)) == "agcu(0,0)->switch(0,0)"
    assert str(Link(1, 2, Port.NORTH)) == "switch(1,2)->switch(0,2)"
    assert str(Link(1, 2, Port.PMU)) == "switch(1,2)->pmu(1,2)"


@pytest.mark.parametrize("name", MACHINES)
def test_the_mesh_of_a_machine_serves_all_its_units(name):
    machine = MACHINES[name]()
    mesh, tiles = rdn.mesh_of(machine.rdn), machine.rdn.tiles.value
    assert len(mesh.switches) * tiles >= max(machine.pcu.count.value, machine.pmu.count.value)
    assert len(mesh.agcus(machine.agcu.count.value // tiles)) * tiles == machine.agcu.count.value
    assert set(UNIT_PORTS) == {link.port for link in mesh.links if not link.outward}
