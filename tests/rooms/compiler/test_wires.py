"""Flows and link loads: every packet arrives, and loads equal those of packets walked switch by switch."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.compiler.flows import Flow, flows
from rdujax.compiler.place import Grid, Place, place
from rdujax.compiler.wires import loads_of, wires
from rdujax.units.rdn.mesh import Mesh, Port
from tests.rooms.compiler.samples import mlp, samples, small

GRID = Grid(2, Mesh(3, 4), 24, 24, 0)


def places(*spots):
    return tuple(Place(*spot) for spot in spots)


def walked(grid, every):
    """Packets per link between switches, each multicast walked path by path and each of its links counted once."""
    loads, crossings = Counter(), Counter()
    last = grid.mesh.columns - 1
    for flow in every:
        for group, row in zip(flow.groups, flow.sent.tolist(), strict=True):
            for source, packets in zip(flow.sources, row, strict=True):
                steps, tiles = set(), set()
                entries = {}
                for target in group:
                    start = source
                    if target.tile != source.tile:
                        exit_column = 0 if source.column <= last - source.column else last
                        steps |= path(source, source._replace(column=exit_column))
                        entries.setdefault(target.tile, target)
                        first = entries[target.tile]
                        start = first._replace(column=0 if first.column <= last - first.column else last)
                        tiles.add((source.tile, target.tile))
                        steps |= {(None, step) for step in path(start, target)}
                    else:
                        steps |= path(start, target)
                for step in {s[1] if s[0] is None else s for s in steps}:
                    loads[step] += packets
                for pair in tiles:
                    crossings[pair] += packets
    return loads, crossings


def path(a, b):
    """Directed steps from switch to switch, along the row and then along the column."""
    steps, at = set(), a
    while at != b:
        step = 1 if (b.column > at.column or (b.column == at.column and b.row > at.row)) else -1
        after = at._replace(column=at.column + step) if at.column != b.column else at._replace(row=at.row + step)
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


def random_flow(rng, name):
    def draw(count):
        spots = rng.choice(len(GRID.curve), count, replace=False)
        return tuple(GRID.curve[i] for i in spots)

    targets = draw(int(rng.integers(1, 9)))
    cuts = sorted({0, len(targets), *rng.integers(0, len(targets) + 1, 2).tolist()})
    groups = tuple(targets[a:b] for a, b in zip(cuts, cuts[1:], strict=False))
    packets, in_blocks = int(rng.integers(0, 40)), bool(rng.integers(2))
    return Flow(name, draw(int(rng.integers(1, 6))), Port.PMU, groups, Port.PCU, packets, in_blocks)


@pytest.mark.parametrize("seed", range(12))
def test_loads_equal_those_of_packets_walked_step_by_step(seed):
    rng = np.random.default_rng(seed)
    every = [random_flow(rng, str(i)) for i in range(8)]
    got = loads_of(GRID, every)
    loads, crossings = walked(GRID, every)
    assert as_steps(GRID, got.loads) == {step: n for step, n in loads.items() if n}
    assert {pair: int(n) for pair, n in np.ndenumerate(got.crossings) if n} == {k: n for k, n in crossings.items() if n}
    assert got.hops == sum(loads.values()) and got.busiest == max(loads.values())


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
    structs = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((128, 512), (512, 1408), (512, 1408), (1408, 512))]
    program = rdu.compile(mlp, *structs, machine="sn40l", fusion=rdu.cut_after())
    [kernel] = program.plan.kernels
    units = place(program.graph, kernel, program.machine).units
    every = {f.name: f for f in flows(program.graph, kernel, units, program.machine)}
    for stage, share in zip(kernel.kernel.stages, kernel.shares, strict=True):
        if not hasattr(share, "rows"):
            continue
        pcus = units.pcus[stage.label]
        labels = {b.value: b.label for b in kernel.buffers}
        left, right = (every[f"{labels[r.value]} -> {stage.label}"].groups for r in stage.reads)
        by_row, by_column = (right, left) if share.transposed else (left, right)
        assert (len(by_row), len(by_column)) == (share.rows, share.columns)
        for groups in (by_row, by_column):
            assert sorted(p for group in groups for p in group) == sorted(pcus)
        assert all(len(set(r) & set(c)) == 1 for r in by_row for c in by_column)
