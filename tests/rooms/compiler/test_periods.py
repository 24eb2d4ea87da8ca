"""Long programs in stretches: where they end, which are alike, and that a copy is what planning it anew gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.compiler import periods, planner
from rdujax.compiler.alike import Alike
from rdujax.compiler.driver import Choices
from rdujax.compiler.partition import WITHIN
from rdujax.compiler.periods import LONG, SHORT, stretches
from rdujax.compiler.planner import Planner
from rdujax.graph.graph import Graph
from tests.rooms.compiler.samples import assert_same, small

WIDTH = 8


def layers(x: jax.Array, weights: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """A gated layer with a residual, again and again."""
    for up, down in weights:
        hidden = x @ up
        x = x + (hidden * jax.nn.sigmoid(hidden)) @ down
    return x * jnp.bfloat16(2)


def arguments(count: int) -> tuple:
    w = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16)
    return jax.ShapeDtypeStruct((4, WIDTH), jnp.bfloat16), [(w, w)] * count


def in_hbm(graph: Graph) -> dict[int, str]:
    return dict.fromkeys(graph.types, "hbm")


def covers(found: list[tuple[int, int]], count: int) -> bool:
    return [i for first, end in found for i in range(first, end)] == list(range(count))


def test_a_short_program_is_one_stretch():
    assert stretches(np.zeros(0, int), np.zeros(1)) == []
    assert stretches(np.zeros(LONG, int), np.zeros(LONG + 1)) == [(0, LONG)]


@pytest.mark.parametrize("period", [5, 60, LONG, LONG + 31])
def test_stretches_of_a_repetition_are_whole_periods_from_narrow_place_to_narrow_place(period: int, rng):
    before, after, times = 7, 11, 4 + 2 * LONG // period
    kinds = np.concatenate([100 + np.arange(before), np.tile(np.arange(period), times), 1000 + np.arange(after)])
    crossing = rng.integers(10, 99, len(kinds) + 1)
    narrow = before + 3 + period * np.arange(times)
    crossing[narrow] = 1
    found = stretches(kinds, crossing)
    assert covers(found, len(kinds))
    length = period * max(1, SHORT // period)
    assert {(first - before - 3) % period for first, end in found if end - first == length} == {0}
    alike = [kinds[first:end] for first, end in found if end - first == length]
    assert len(alike) >= 2 and all(np.array_equal(each, alike[0]) for each in alike)


def test_without_a_period_stretches_end_where_little_crosses(rng):
    count = 5 * LONG
    crossing = rng.integers(2, 99, count + 1)
    crossing[LONG - 10] = 1
    found = stretches(rng.permutation(count), crossing)
    assert covers(found, count) and found[0] == (0, LONG - 10)
    assert all(end - first <= LONG for first, end in found)
    assert all(end - first >= LONG // 2 for first, end in found[:-1])


def test_two_repetitions_are_no_period(rng):
    kinds = np.concatenate([np.arange(LONG), np.arange(LONG)])
    found = stretches(kinds, np.ones(2 * LONG + 1))
    assert covers(found, 2 * LONG) and found[0] == (0, LONG)


def test_alike_tells_what_ties_nodes_together():
    """The same operations, but of the second product the operands are exchanged; of the third another is read again."""

    def fn(x, y):
        a = x * y
        b = a + x
        c = b * y
        d = c + b
        return d

    vector = jax.ShapeDtypeStruct((4,), jnp.bfloat16)
    graph = rdu.compile(fn, vector, vector, machine=small(), fusion="none").graph
    alike = Alike(graph, in_hbm(graph))
    assert [node.op == graph.nodes[0].op for node in graph.nodes] == [True, False, True, False]
    assert alike.starts(0, 1) == [0, 2] and alike.starts(1, 2) == [1, 3]
    assert alike.starts(0, 2) == [0, 2], "both read what the first made, and something from outside"
    assert alike.starts(2, 4) == [0, 2]
    elsewhere = in_hbm(graph) | {graph.nodes[2].result: "ddr"}
    assert Alike(graph, elsewhere).starts(0, 2) == [0], "the same from another tier"
    with_reuse = rdu.compile(lambda x, y: ((x * y) + x) + ((x * y) * y), vector, vector, machine=small(), fusion="none")
    assert Alike(with_reuse.graph, in_hbm(with_reuse.graph)).starts(0, 2) == [0], "one adds, the other multiplies"


FEW_BRIDGES = small().replace({"agcu.count": 5, "agcu.segments": 5})
MACHINES = {"small": small(), "few bridges": FEW_BRIDGES, "sn40l": rdu.machines.sn40l()}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
def test_what_is_said_of_a_copy_is_what_planning_it_gives(machine):
    program = rdu.compile(layers, *arguments(60), machine=machine)
    graph = program.graph
    assert len(graph.nodes) > LONG
    place = {node.result: i for i, node in enumerate(graph.nodes)}
    alike, seen = Alike(graph, in_hbm(graph)), 0
    for planned in program.plan.kernels:
        nodes = planned.kernel.nodes
        starts = alike.starts(place[nodes[0].result], place[nodes[-1].result] + 1)
        fresh = Planner(graph, machine, Choices(), in_hbm(graph)).planned(nodes)
        fresh = fresh.kernel.__class__(planned.kernel.name, *(getattr(fresh.kernel, f) for f in FIELDS)), fresh
        assert fresh[0] == planned.kernel and fresh[1].tiling == planned.tiling
        assert (fresh[1].shares, fresh[1].buffers, fresh[1].streams) == (
            planned.shares,
            planned.buffers,
            planned.streams,
        )
        seen += len(starts) > 1
    assert seen >= 2, "nothing is alike: this test would see nothing"


FIELDS = ("loads", "stages", "writes", "nodes")


def test_copies_have_the_bits_of_operators(rng, monkeypatch):
    for module in (periods, planner):
        monkeypatch.setattr(module, "LONG", 10)
    monkeypatch.setattr(periods, "SHORT", 5)
    weights = [tuple(jnp.asarray(rng.standard_normal((WIDTH, WIDTH)) * 0.3, jnp.bfloat16) for _ in range(2))] * 6
    x = jnp.asarray(rng.standard_normal((4, WIDTH)), jnp.bfloat16)
    program = rdu.compile(layers, x, weights, machine=small())
    assert len(program.graph.nodes) > 3 * 10
    assert_same(program(x, weights), program.replace(fusion="none")(x, weights), "fused")
    assert program.tally(x, weights) == program.predicted_counts()


def test_layers_written_out_cost_what_a_loop_over_them_costs():
    """The middle is the body again and again; only both ends may be fused otherwise."""
    count = 64
    x, weights = arguments(count)
    w = jax.ShapeDtypeStruct((count, WIDTH, WIDTH), jnp.bfloat16)

    def looped(x, up, down):
        step = lambda x, w: (layers(x, [w]), None)  # noqa: E731
        return jax.lax.scan(step, x, (up, down))[0]

    def written_out(x, weights):
        for pair in weights:
            x = layers(x, [pair])
        return x

    machine = small()
    body = rdu.compile(looped, x, w, w, machine=machine).cost()
    out = rdu.compile(written_out, x, weights, machine=machine).cost()
    assert out.flops == body.flops
    assert out.launches <= body.launches + 1 and out.total_s <= body.total_s * (1 + 2 * WITHIN)
