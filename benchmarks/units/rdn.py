"""RDN: values that travel against those sent, loads against routes walked, packets in time against closed forms."""

import time
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import total
from rdujax.machines import sn40l
from rdujax.numerics.formats import FP32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream
from rdujax.units import rdn
from rdujax.units.rdn import packets
from rdujax.units.rdn.loads import link_loads, route_loads
from rdujax.units.rdn.mesh import Endpoint, Port
from rdujax.units.rdn.routing import Route, flow_tables, multicast
from rdujax.units.rdn.traffic import Flow, Traffic, simulate

CONFIG = sn40l().rdn
MESH = rdn.mesh_of(CONFIG)


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer tiles, flows and packets where `quick`."""
    yield _copies(16 if quick else 256)
    yield _order(1_000 if quick else 100_000)
    yield _loads(500 if quick else 5_000)
    yield _tables(500 if quick else 5_000)
    yield _alone(100 if quick else 1_000)
    yield _together(200 if quick else 1_000, 10 if quick else 40)


def _routes(count: int, most: int) -> list[Route]:
    """Random trees to 1 up to `most` units."""
    rng = np.random.default_rng(7)
    units = [link.target for link in MESH.links if link.target]
    picks = [rng.choice(len(units), 1 + int(rng.integers(1, most + 1)), replace=False) for _ in range(count)]
    return [multicast(MESH, units[first], [units[i] for i in rest]) for first, *rest in picks]


def _wrong(got: np.ndarray, want: np.ndarray) -> int:
    """Patterns that differ."""
    return int((np.asarray(got).view(np.uint32) != want.view(np.uint32)).sum())


def _copies(tiles: int) -> Row:
    """Bits of ragged tiles at two receivers, and the tally."""
    layout = tiled((tiles * 32 - 5, 30), (32, 32 - 2))
    route = multicast(MESH, Endpoint(3, 0, Port.AGCU), [Endpoint(3, 4, Port.PMU), Endpoint(9, 4, Port.PMU)])
    data = np.full((tiles, 32, 30), np.nan, np.float32)
    data.reshape(-1, 30)[: layout.shape[0]] = np.random.default_rng(1).normal(size=layout.shape)

    def sent(x):
        copies, counts = packets.send(CONFIG, route, Stream(x, layout, FP32), how="vmap")
        return [copy.data for copy in copies], counts

    run = compiled(sent, jnp.asarray(data))
    copies, counts = run.run(jnp.asarray(data))
    wrong = sum(_wrong(copy, data) for copy in copies)
    wrong += total(counts) != packets.predict(CONFIG, route, layout, FP32)
    vectors = int(total(counts)["rdn.vector_packets"])
    seconds = race({"send": run}, 5)["send"]
    return row("rdn", "values of a multicast against those sent", vectors, "vectors", wrong, vectors / seconds)


def _order(count: int) -> Row:
    """Packets that arrive in a random order, put in order by their ids."""
    rng = np.random.default_rng(2)
    data, ids = rng.normal(size=(count, 16)).astype(np.float32), rng.permutation(count).astype(np.int32)
    run = compiled(lambda x, at: packets.reorder(x, at, FP32), jnp.asarray(data[ids]), jnp.asarray(ids))
    wrong = _wrong(run.run(*run.arguments), data)
    seconds = race({"order": run}, 5)["order"]
    return row("rdn", "packets put in order by sequence id", count, "vectors", wrong, count / seconds)


def _loads(count: int) -> Row:
    """Every link of the mesh, in both orders of dimensions for trees of up to four receivers."""
    routes = _routes(count, 4)
    carried = np.arange(count)
    sources, targets = [route.source for route in routes], [at for route in routes for at in route.targets]
    flow = np.repeat(np.arange(count), [len(route.targets) for route in routes])
    starts, ends = np.asarray(sources, np.int64), np.asarray(targets, np.int64)
    start = time.perf_counter()
    loads = link_loads(MESH, starts, ends, carried, flow)
    seconds = time.perf_counter() - start
    wrong = int((loads != route_loads(MESH, routes, carried.tolist())).sum())
    turned = [multicast(MESH, route.source, route.targets, "column") for route in routes]
    other = link_loads(MESH, starts, ends, carried, flow, "column")
    wrong += int((other != route_loads(MESH, turned, carried.tolist())).sum())
    return row("rdn", "link loads of flows against routes walked", count, "flows", wrong, count / seconds)


def _tables(count: int) -> Row:
    """Every route followed through the tables that switches decode."""
    routes = _routes(count, 4)
    start = time.perf_counter()
    tables = flow_tables(routes, count)
    seconds = time.perf_counter() - start
    wrong = sum(sorted(tables.walk(i)) != sorted(route.links) for i, route in enumerate(routes))
    return row("rdn", "flow tables followed against their routes", count, "flows", wrong, count / seconds)


def _alone(count: int) -> Row:
    """Flows each alone on the mesh, of 1 to 100 packets."""
    routes = _routes(count, 1)
    start = time.perf_counter()
    ends = [simulate(CONFIG, [Flow(route, 1 + i % 100)]).makespan_cycles for i, route in enumerate(routes)]
    seconds = time.perf_counter() - start
    wrong = sum(
        end != rdn.transit_cycles(CONFIG, 1 + i % 100, route.hops)
        for i, (end, route) in enumerate(zip(ends, routes, strict=True))
    )
    return row("rdn", "lone flows, cycle by cycle, against the closed form", count, "flows", wrong, count / seconds)


def _together(count: int, each: int) -> Row:
    """Many flows at once: every delivery of every copy is there, in order, and no earlier than alone."""
    routes = _routes(count, 3)
    start = time.perf_counter()
    traffic = simulate(CONFIG, [Flow(route, each) for route in routes])
    seconds = time.perf_counter() - start
    wrong = sum(_misplaced(traffic, number, route, each) for number, route in enumerate(routes))
    loads = np.zeros(MESH.shape, np.int64)
    for link, load in traffic.loads.items():
        loads[link.row, link.column, link.slot] = load
    wrong += int((loads != route_loads(MESH, routes, [each] * count)).sum())
    hops = sum(route.hops * each for route in routes)
    return row("rdn", "hops of traffic together, against routes and bounds", hops, "hops", wrong, hops / seconds)


def _misplaced(traffic: Traffic, number: int, route: Route, each: int) -> int:
    """Packets of one flow that are missing, out of order or too early."""
    wrong = 0
    for at, links in route.depths().items():
        cycles = traffic.taken[number][at]
        alone = [rdn.transit_cycles(CONFIG, n + 1, links) for n in range(each)]
        wrong += each - len(cycles) + int((np.diff(cycles) < 1).sum())
        wrong += sum(cycle < least for cycle, least in zip(cycles.tolist(), alone, strict=False))
        wrong += [packet for flow, packet in traffic.order[at] if flow == number] != list(range(each))
    return wrong
