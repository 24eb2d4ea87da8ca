"""Flows and link loads: every packet arrives, and loads equal those of packets walked switch by switch."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.compiler.flows import Flow, flows, multicasts
from rdujax.compiler.grid import Grid, Place
from rdujax.compiler.place import place
from rdujax.compiler.routes import routed, trees
from rdujax.compiler.wires import loads_of, wires
from rdujax.units.pcu.systolic import Fork
from rdujax.units.rdn.legality import check_credits
from rdujax.units.rdn.loads import route_loads
from rdujax.units.rdn.mesh import Mesh, Port
from rdujax.units.rdn.routing import check_route
from tests.rooms.compiler.kernels import without_sums
from tests.rooms.compiler.samples import samples, small

GRID = Grid(2, Mesh(3, 4), 24, 24, 0)


def places(*spots):
    return tuple(Place(*spot) for spot in spots)


def parts(grid, every):
    """(tile, origin, targets, packets, number of the multicast) of every tree within a tile; and what crosses."""
    last = grid.mesh.columns - 1
    found, crossings, die_crossings, number = [], Counter(), Counter(), -1
    for flow in every:
        for group, row in zip(flow.groups, flow.sent.tolist(), strict=True):
            for source, packets in zip(flow.sources, row, strict=True):
                if not packets:
                    continue
                number += 1
                by_tile = {tile: sorted(t for t in group if t.tile == tile) for tile in range(grid.tiles)}
                away = [tile for tile in range(grid.tiles) if by_tile[tile] and tile != source.tile]
                if away:
                    by_tile[source.tile].append(source._replace(column=0 if source.column <= last / 2 else last))
                if by_tile[source.tile]:
                    found.append((source, by_tile[source.tile], packets))
                for tile in away:
                    targets = by_tile[tile]
                    west, east = max(t.column for t in targets), last - min(t.column for t in targets)
                    nearer = 0 if source.column <= last / 2 else last
                    column = nearer if west == east else 0 if west < east else last
                    middle = targets[(len(targets) - 1) // 4 :][: (len(targets) + 1) // 2]
                    row_of_entry = middle[int(number * (5**0.5 - 1) / 2 % 1 * len(middle))].row
                    found.append((Place(tile, row_of_entry, column), targets, packets))
                    crossings[source.tile, tile] += packets
                for die in {tile // 2 for tile in away} - {source.tile // 2}:
                    die_crossings[source.tile // 2, die] += packets
    return found, crossings, die_crossings


def walked(every):
    """Packets per link between switches, each multicast walked path by path, in the shorter of the two forms."""
    loads = Counter()
    for origin, targets, packets in every:
        along_row, along_column = (
            set().union(*(path(origin, t, first) for t in targets)) for first in ("row", "column")
        )
        east = all(t.column >= origin.column for t in targets)
        for step in along_column if east and len(along_column) < len(along_row) else along_row:
            loads[step] += packets
    return loads


def path(a, b, first):
    """Directed steps from switch to switch, along one dimension first and then along the other."""
    steps, at = set(), a
    for dimension in ("row", "column") if first == "row" else ("column", "row"):
        field = "column" if dimension == "row" else "row"
        while getattr(at, field) != getattr(b, field):
            step = 1 if getattr(b, field) > getattr(at, field) else -1
            after = at._replace(**{field: getattr(at, field) + step})
            steps.add((at, after))
            at = after
    return steps


def as_steps(grid, loads):
    """Loads of links between switches, as `walked` names them."""
    moves = {Port.NORTH: (-1, 0), Port.EAST: (0, 1), Port.SOUTH: (1, 0), Port.WEST: (0, -1)}
    found = {}
    for (tile, row, column, slot), packets in np.ndenumerate(loads):
        if slot in list(moves) and packets:
            down, right = moves[Port(slot)]
            found[Place(tile, row, column), Place(tile, row + down, column + right)] = int(packets)
    return found


def random_flow(rng, name, grid=GRID):
    def draw(count):
        spots = rng.choice(len(grid.curve), count, replace=False)
        return tuple(grid.curve[i] for i in spots)

    targets = draw(int(rng.integers(1, 9)))
    cuts = sorted({0, len(targets), *rng.integers(0, len(targets) + 1, 2).tolist()})
    groups = tuple(targets[a:b] for a, b in zip(cuts, cuts[1:], strict=False))
    packets, in_blocks = int(rng.integers(0, 40)), bool(rng.integers(2))
    return Flow(name, draw(int(rng.integers(1, 6))), Port.PMU, groups, Port.PCU, packets, in_blocks)


def random_flows(seed, grid=GRID):
    rng = np.random.default_rng(seed)
    return [random_flow(rng, str(i), grid) for i in range(8)]


def trees_of(grid, every):
    nets = multicasts(every)
    return trees(grid.mesh, grid.tiles, nets, np.array(nets.units))


@pytest.mark.parametrize("seed", range(12))
def test_loads_equal_those_of_packets_walked_step_by_step(seed):
    grid = (GRID, Grid(5, Mesh(2, 3), 30, 30, 0), Grid(1, Mesh(4, 5), 20, 20, 0))[seed % 3]
    every = random_flows(seed, grid)
    got = loads_of(grid, every)
    found, crossings, die_crossings = parts(grid, every)
    loads = walked(found)
    assert as_steps(grid, got.loads) == {step: n for step, n in loads.items() if n}
    assert {pair: int(n) for pair, n in np.ndenumerate(got.crossings) if n} == dict(crossings)
    assert {pair: int(n) for pair, n in np.ndenumerate(got.die_crossings) if n} == dict(die_crossings)
    assert got.hops == sum(loads.values()) and got.busiest == max(loads.values())


def test_multicasts_to_the_same_units_of_another_tile_enter_in_different_rows():
    grid = Grid(2, Mesh(9, 4), 72, 72, 0)
    targets = tuple(Place(1, row, column) for row in range(9) for column in range(4))
    sources = places(*((0, row, 1) for row in range(4)))
    every = [Flow("", sources, Port.PMU, (targets,), Port.PCU, 40)]
    loads = loads_of(grid, every).loads[1]
    assert loads[:, :-1, Port.EAST].max() == 10  # of each row that one enters in, all of the way: none has two
    assert (loads[:, 0, Port.EAST] > 0).sum() == 4


@pytest.mark.parametrize("seed", range(8))
def test_routes_are_trees_that_carry_the_loads_and_never_deadlock(seed):
    every = trees_of(GRID, random_flows(seed))
    rng = np.random.default_rng(seed)
    for turned in (
        every.shorter_in_columns,
        every.may_turn,
        every.may_turn & rng.integers(0, 2, len(every.tile), bool),
    ):
        routes, loads = every.routes(turned), every.loads(turned)
        assert every.hops(turned) == loads[..., : Port.PCU].sum()
        assert (every.links(turned) == loads[..., : Port.PCU]).all()
        for tile in range(GRID.tiles):
            here = [(route, packets) for at, route, packets in routes if at == tile]
            for route, _ in here:
                check_route(GRID.mesh, route)
            check_credits([route for route, _ in here])
            again = route_loads(GRID.mesh, [route for route, _ in here], [packets for _, packets in here])
            assert (loads[tile] == again).all()


@pytest.mark.parametrize("seed", range(8))
def test_trees_turn_only_where_a_link_is_over_capacity_and_then_for_the_better(seed):
    every = trees_of(GRID, random_flows(seed))
    shortest = every.loads(every.shorter_in_columns)
    peak = int(shortest[..., : Port.PCU].max())
    turned, loads = routed(every, peak)  # as much as fits
    assert (turned == every.shorter_in_columns).all() and (loads == shortest).all()
    turned, loads = routed(every, peak - 1)
    assert loads[..., : Port.PCU].max() <= peak and not (turned & ~every.may_turn).any()
    assert (loads == every.loads(turned)).all()
    assert loads[..., Port.PCU :].sum() == shortest[..., Port.PCU :].sum()


def test_flows_over_one_link_take_different_ways():
    """Two PMUs of one switch, each a link's fill to the far corner: along the row, and along the column."""
    flows = [Flow(str(i), places((0, 0, 0)), Port.PMU, (places((0, 2, 3)),), Port.PCU, 100) for i in range(2)]
    assert loads_of(GRID, flows).busiest == 200
    got = loads_of(GRID, flows, 100)
    assert got.busiest == 100 and got.hops == 2 * 5 * 100


def test_what_leaves_a_die_is_priced_by_its_links_and_what_stays_by_the_top_level_network():
    machine = rdu.machines.sn40l()
    grid = Grid(4, Mesh(2, 3), 24, 24, 0)

    def cycles(packets, *targets):
        return loads_of(grid, [Flow("f", places((0, 0, 0)), Port.PMU, (places(*targets),), Port.PCU, packets)])

    links = int(machine.d2d.links.value)
    for packets, d2d_cycles in ((links - 1, 1), (links, 1), (links + 1, 2)):
        # A multicast to both tiles of the other die crosses between the dies once.
        got = cycles(packets, (2, 0, 0), (3, 1, 1))
        assert got.crossings.sum() == 2 * packets and got.die_crossings.sum() == packets
        assert got.least_cycles(machine)["D2D"] == d2d_cycles and got.least_cycles(machine)["TLN"] == 0
    per_cycle = int(machine.tln.bytes_per_cycle.value) // 64
    for packets, tln_cycles in ((per_cycle, 1), (per_cycle + 1, 2)):
        got = cycles(packets, (1, 0, 0)).least_cycles(machine)
        assert got["TLN"] == tln_cycles and got["D2D"] == 0
    got = cycles(7, (0, 0, 2)).least_cycles(machine)
    assert got == {"link": 7, "D2D": 0, "TLN": 0}
    assert cycles(7, (0, 0, 2)).least_cycles(machine.replace({"rdn.packets_per_cycle": 2}))["link"] == 4


@pytest.mark.parametrize("in_blocks", [True, False])
@pytest.mark.parametrize(("sources", "groups", "packets"), [(1, 1, 7), (3, 5, 10), (5, 3, 10), (4, 2, 1), (7, 7, 0)])
def test_every_group_gets_its_packets_and_sources_share_them(sources, groups, packets, in_blocks):
    units = places(*((0, 0, i) for i in range(sources)))
    flow = Flow("f", units, Port.PMU, tuple((u,) for u in range(groups)), Port.PCU, packets, in_blocks)
    assert flow.sent.shape == (groups, sources) and (flow.sent >= 0).all()
    assert flow.sent.sum(1).tolist() == [packets] * groups
    assert np.ptp(flow.sent.sum(0)) <= 1
    if in_blocks:  # of two sources, the later one has nothing for an earlier group
        firsts = [np.flatnonzero(column)[[0, -1]].tolist() for column in flow.sent.T if column.any()]
        assert all(a[1] <= b[0] for a, b in zip(firsts, firsts[1:], strict=False))
    else:
        assert (np.ptp(flow.sent, axis=1) <= 1).all()


@pytest.mark.parametrize("sample", samples(), ids=str)
def test_all_that_is_sent_arrives(sample):
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    for kernel in program.plan.kernels:
        placement = place(program.graph, kernel, program.machine)
        every = flows(program.graph, kernel, placement.units, program.machine)
        loads = wires(program.graph, kernel, placement, program.machine).loads
        for port in (Port.PCU, Port.PMU, Port.AGCU):
            arriving = sum(f.packets * sum(map(len, f.groups)) for f in every if f.target_port is port)
            leaving = sum(f.packets * len(f.groups) for f in every if f.source_port is port)
            assert loads[..., port].sum() == arriving
            assert loads[..., port + 3].sum() == leaving


def test_memory_streams_carry_their_bytes():
    program = rdu.compile(lambda x: -x, jax.ShapeDtypeStruct((64, 64), jnp.bfloat16), machine="sn40l")
    [kernel] = program.plan.kernels
    units = place(program.graph, kernel, program.machine).units
    by_name = {f.name: f for f in flows(program.graph, kernel, units, program.machine)}
    for stream in kernel.streams:
        flow = by_name[stream.label]
        assert 0 <= flow.packets * len(flow.groups) * 64 - stream.total_bytes < 64 * len(flow.groups)
    assert (by_name["load x"].source_port, by_name["load x"].target_port) == (Port.AGCU, Port.PMU)


def test_an_array_is_fed_a_vector_per_cycle_on_its_rows_and_less_on_its_columns():
    """One PCU of 32 x 6 cells, K = 128: each pass takes 128 vectors of 32 BF16 rows and 128 of 6 columns."""
    structs = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((64, 128), (128, 12))]
    program = rdu.compile(lambda a, b: a @ b, *structs, machine=rdu.machines.sn40l().replace({"pcu.count": 1}))
    [kernel] = program.plan.kernels
    assert kernel.shares[0].pcus == 1 and not kernel.shares[0].transposed
    units = place(program.graph, kernel, program.machine).units
    packets = {f.name: f.packets for f in flows(program.graph, kernel, units, program.machine)}
    passes = 2 * 2
    assert packets["a -> gemm"] == passes * 128
    assert packets["b -> gemm"] == passes * 128 * 12 // 64


def test_what_is_joined_goes_from_buffer_to_buffer():
    """A stage without PCUs: each operand's own vectors, shared by the PMUs of the result."""
    structs = [jax.ShapeDtypeStruct((rows, 64), jnp.bfloat16) for rows in (64, 16)]
    program = rdu.compile(lambda x, y: jnp.concatenate([x, y]), *structs, machine="sn40l")
    [kernel] = program.plan.kernels
    assert kernel.pcus == 0
    placement = place(program.graph, kernel, program.machine)
    every = {f.name: f for f in flows(program.graph, kernel, placement.units, program.machine)}
    for label, rows in (("x", 64), ("y", 16)):
        flow = every[f"{label} -> concatenate"]
        assert (flow.source_port, flow.target_port) == (Port.PMU, Port.PMU)
        assert set(flow.sources) == set(placement.units.pmus[label])
        assert [g[0] for g in flow.groups] == list(placement.units.pmus["concatenate"])
        # A row of 64 BF16 is two vectors; in every turn, the last of each PMU may not be full.
        assert 0 <= flow.packets * len(flow.groups) - 2 * rows < len(flow.groups) * kernel.tiling.turns


def test_rows_of_a_fork_share_one_operand_and_columns_the_other():
    """Of each product of a batch; PCUs of different ones share nothing."""

    def fn(x, w, u):
        return jnp.einsum("bij,bkj->bik", jnp.einsum("ij,bjk->bik", x, w), u)

    structs = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((128, 512), (3, 512, 1408), (3, 512, 1408))]
    program = without_sums(rdu.compile(fn, *structs, machine="sn40l", fusion=rdu.cut_after()))
    [kernel] = program.plan.kernels
    units = place(program.graph, kernel, program.machine).units
    every = {f.name: f for f in flows(program.graph, kernel, units, program.machine)}
    assert any(isinstance(share, Fork) and share.batches > 1 for share in kernel.shares)
    for stage, share in zip(kernel.kernel.stages, kernel.shares, strict=True):
        assert isinstance(share, Fork)
        pcus = units.pcus[stage.label]
        labels = {b.value: b.label for b in kernel.buffers}
        left, right = (every[f"{labels[r.value]} -> {stage.label}"].groups for r in stage.reads)
        by_row, by_column = (right, left) if share.transposed else (left, right)
        assert (len(by_row), len(by_column)) == (share.rows * share.batches, share.columns * share.batches)
        for groups in (by_row, by_column):
            assert sorted(p for group in groups for p in group) == sorted(pcus)
        shared = [len(set(r) & set(c)) for r in by_row for c in by_column]
        assert set(shared) <= {0, 1} and sum(shared) == share.pcus
