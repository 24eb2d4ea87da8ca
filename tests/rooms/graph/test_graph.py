"""A graph keeps its grammar, and a tiling's sweeps and walks are those of the loop nest."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import rdujax as rdu
from rdujax.emulate.run import visits
from rdujax.graph.graph import check, text
from rdujax.graph.plan import Loop, Tiling, layout_of
from rdujax.numerics.formats import FP32
from rdujax.ops.move import Move
from rdujax.ops.op import TensorType
from tests.rooms.compiler.samples import monarch, random_sample, samples

ARGS = samples()[0].args
GRAPH = rdu.compile(monarch, *ARGS, machine="tiny").graph


def test_every_traced_graph_keeps_the_grammar():
    for sample in (*samples(), *(random_sample(seed) for seed in range(8))):
        graph = rdu.compile(sample.fn, *sample.args, machine="sn40l", fusion="none").graph
        check(graph)
        assert len(text(graph).splitlines()) == len(graph.inputs) + len(graph.constants) + len(graph.nodes) + 1


def test_the_grammar_refuses_what_is_wrong():
    first, second, *rest = GRAPH.nodes
    wrong = {
        "out of order": replace(GRAPH, nodes=(second, first, *rest)),
        "another type": replace(GRAPH, types=GRAPH.types | {first.result: TensorType((1,), FP32)}),
        "nothing computes": replace(GRAPH, outputs=(99,)),
        "one label": replace(GRAPH, nodes=(first, replace(second, label=first.label), *rest)),
    }
    for message, graph in wrong.items():
        with pytest.raises(rdu.ArgumentError, match=message):
            check(graph)


def test_dead_nodes_and_unused_constants_are_left_out_and_unused_inputs_stay():
    captured = np.ones((4, 4), np.float32)

    def fn(x, unused):
        _ = x @ x + captured
        return x * 2.0

    x = np.ones((4, 4), np.float32)
    graph = rdu.compile(fn, x, x, machine="tiny").graph
    assert [node.op.name for node in graph.nodes] == ["mul"] and not graph.constants
    assert [graph.labels[v] for v in graph.inputs] == ["x", "unused"]


def test_moves_and_flops():
    gemm, mul, move, last = GRAPH.nodes
    assert mul.operands[0] == gemm.result
    assert isinstance(move.op, Move) and move.operands == (mul.result,) and last.operands[1] == move.result
    assert GRAPH.flops() == 2 * 42 * 24 * 20 + 42 * 20 + 2 * 12 * 20 * 42


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_sweeps_are_the_tiles_that_the_nest_asks_for(order):
    """Loads that walk both loops, one of them, or none: bytes by `sweeps` against the tiles one by one."""
    shapes = {1: (10, 6), 2: (10, 3), 3: (6, 5)}
    loops = (Loop(10, 4, frozenset({(1, 0), (2, 0)})), Loop(6, 2, frozenset({(1, 1), (3, 0)})))
    tiling = Tiling(tuple(loops[i] for i in order), frozenset())
    assert tiling.turns == 9
    for value, shape in shapes.items():
        layout = layout_of(tiling, value, shape)
        moved = int(layout.extents[visits(tiling, value, layout)].prod(axis=1).sum())
        assert moved == tiling.sweeps(value) * np.prod(shape), value
        resident = Tiling(tiling.loops, frozenset({value}))
        assert resident.sweeps(value) == 1 and not resident.is_streamed(value)


def test_a_tile_is_fetched_again_only_if_another_came_between():
    """The nest walked turn by turn, keeping only the tile of the turn before."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        lengths, sizes = rng.integers(2, 9, 3), rng.integers(1, 4, 3)
        walked = [bool(b) for b in rng.integers(0, 2, 3)]
        axes = [axis for axis in range(3) if walked[axis]]
        loops = tuple(
            Loop(int(n), int(min(s, n)), frozenset({(0, axes.index(i))} if walked[i] else {(1, 0)}))
            for i, (n, s) in enumerate(zip(lengths, sizes, strict=True))
        )
        tiling, fetched, before = Tiling(loops, frozenset()), 0, None
        for turn in product(*(range(loop.trips) for loop in loops)):
            now = tuple(turn[i] for i in axes)
            fetched, before = fetched + (now != before), now
        grid = int(np.prod([loops[i].trips for i in axes], dtype=int))
        assert fetched == tiling.sweeps(0) * grid
