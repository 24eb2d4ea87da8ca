"""The network of a tile as a unit: its settings for a kernel, its latency and its price."""

import jax
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.ledger.counts import Counts
from rdujax.units import rdn
from rdujax.units.rdn.legality import Token
from rdujax.units.rdn.mesh import Endpoint, Port
from rdujax.units.rdn.routing import Route, dimension_order, multicast
from tests.rooms.units.rdn.network_of import network, random_route
from tests.rooms.units.rdn.test_legality import ring

CONFIG = network()
MESH = rdn.mesh_of(CONFIG)
ROUTE = dimension_order(MESH, Endpoint(0, 0, Port.PMU), Endpoint(1, 2, Port.PCU))


def test_the_fabrics_of_a_kernel_are_set_beside_one_another(rng):
    own = [random_route(rng, MESH, 3) for _ in range(4)]
    settings = rdn.configure(CONFIG, own, own[:3], own[2:])
    for tables, routes in ((settings.vector, own), (settings.scalar, own[:3]), (settings.control, own[2:])):
        assert len(tables.first) == len(routes)
        assert all(set(tables.walk(i)) == set(route.links) for i, route in enumerate(routes))


def test_each_fabric_is_full_by_itself():
    """Eight flow ids and four wires per link."""
    rdn.configure(CONFIG, [ROUTE] * 8, [ROUTE] * 8, [ROUTE] * 4)
    with pytest.raises(CapacityError, match=r"more flows than a link has[\s\S]*9 needed[\s\S]*allowed: 8"):
        rdn.configure(CONFIG, vector=[ROUTE] * 9)
    with pytest.raises(CapacityError, match=r"more flows than a link has[\s\S]*9 needed[\s\S]*allowed: 8"):
        rdn.configure(CONFIG, scalar=[ROUTE] * 9)
    with pytest.raises(CapacityError, match=r"more control wires than a link has[\s\S]*5 needed[\s\S]*allowed: 4"):
        rdn.configure(CONFIG, control=[ROUTE] * 5)


def test_circles_are_refused_in_packets_and_harmless_in_circuits():
    for fabric in rdn.FABRICS:
        with pytest.raises(ArgumentError, match="routes that close a circle of credits"):
            rdn.configure(CONFIG, **{fabric: ring()})
    assert len(rdn.configure(CONFIG, control=ring()).control.first) == 4
    routes = ring()
    assert rdn.configure(CONFIG, vector=routes[:2], scalar=routes[2:]).vector.first[0][0] == routes[0].links[0]


@pytest.mark.parametrize("fabric", ["vector", "scalar", "control"])
def test_what_is_no_route_is_refused(fabric):
    broken = Route(ROUTE.source, ROUTE.targets, ROUTE.links[:-1])
    with pytest.raises(ArgumentError, match="a route that is no tree from its source"):
        rdn.configure(CONFIG, **{fabric: [ROUTE, broken]})


def test_transit_is_exact_for_terabytes_and_refuses_no_links():
    config = network(credits=8)
    assert rdn.transit_cycles(config, 10**15, 7) == 10**15 - 1 + 14
    assert rdn.transit_cycles(config, 0, 7) == 0
    with pytest.raises(ArgumentError, match=r"a packet travels over links[\s\S]*given:   0"):
        rdn.transit_cycles(config, 1, 0)


@pytest.mark.parametrize(("name", "slope"), [("hop_cycles", 7.0), ("packets_per_cycle", -100.0)])
def test_transit_is_differentiable_in_the_facts(name, slope):
    """At full rate: 7 x hop + ceil(100 / rate) - 1."""
    config = jax.tree.map(np.float32, network(credits=8))
    value, slopes = jax.value_and_grad(lambda c: rdn.transit_cycles(c, 100, 7))(config)
    assert value == rdn.transit_cycles(network(credits=8), 100, 7) == 113
    assert getattr(slopes, name).value == slope and all(np.isfinite(jax.tree.leaves(slopes)))


def test_fabrics_work_beside_one_another():
    counts = Counts({"rdn.vector_packets": 7, "rdn.scalar_packets": 4, "rdn.hops": 99, "rdn.stall_cycles": 99})
    assert rdn.price(CONFIG, counts, 1) == 7
    assert rdn.price(network(packets_per_cycle=2), counts, 1) == 4
    assert rdn.price(CONFIG, Counts({"rdn.scalar_packets": 9, "rdn.vector_packets": 7}), 1) == 9


def test_a_tree_delivers_at_its_depths():
    tree = multicast(MESH, Endpoint(0, 0, Port.PMU), [Endpoint(0, 1, Port.PCU), Endpoint(3, 3, Port.PMU)])
    arrivals = {at: rdn.transit_cycles(CONFIG, 1, links) for at, links in tree.depths().items()}
    assert arrivals == {Endpoint(0, 1, Port.PCU): 6, Endpoint(3, 3, Port.PMU): 16}


def test_tokens_that_deadlock_are_refused_with_the_routes():
    loop = [Token("load", "gemm"), Token("gemm", "load")]
    with pytest.raises(ArgumentError, match=r"tokens that deadlock[\s\S]*load -> gemm -> load|gemm -> load -> gemm"):
        rdn.configure(CONFIG, [ROUTE], tokens=loop)
    buffered = [Token("load", "gemm"), Token("gemm", "load", initial=2)]
    assert rdn.configure(CONFIG, [ROUTE], tokens=buffered) == rdn.configure(CONFIG, [ROUTE])


def test_transit_is_traced_in_its_packets():
    """Exact and relaxed agree at every number of packets, nothing included."""
    relaxed = jax.jit(lambda n: rdn.transit_cycles(CONFIG, n, 3))
    for packets in range(12):
        assert relaxed(np.float32(packets)) == rdn.transit_cycles(CONFIG, packets, 3)
    for packets in (-1, 0.5):
        with pytest.raises(ArgumentError, match="packets must be a whole number, 0 or more"):
            rdn.transit_cycles(CONFIG, packets, 3)
