"""Loops and branches as data: types, float64 values, work, text, places in memory, and the course that is said."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.graph.graph import Graph, all_nodes, check, evaluate, rewritten, text
from rdujax.graph.launches import Course, launches
from rdujax.graph.regions import Branch, Loop
from rdujax.numerics.formats import FP32
from rdujax.ops.op import TensorType

RNG = np.random.default_rng(4)
X, WS = (jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((4, 6), (3, 6, 6)))


def model(x, ws):
    """A loop over layers, a loop in it, a branch, a loop that values end."""
    x, seen = lax.scan(lambda c, w: (jnp.tanh(c @ w), c.sum()), x, ws, reverse=True)
    x = lax.fori_loop(0, 2, lambda i, c: lax.fori_loop(0, 3, lambda j, c: c * 0.5, c) + 1, x)
    x = lax.cond(x[0, 0] > 1.5, lambda x: x @ ws[0], lambda x: -x, x)
    return lax.while_loop(lambda c: c[1] < 4, lambda c: (c[0] * 2 + 1, c[1] + 1), (x, 0)), seen


PROGRAM = rdu.compile(model, X, WS, machine="sn40l")
GRAPH = PROGRAM.graph
LABELS = ["scan", "scan#2", "scan#2/scan", "cond", "while"]


def regions(graph: Graph) -> dict:
    """The regions of a graph by label."""
    return {node.label: node for node in all_nodes(graph) if isinstance(node.op, Loop | Branch)}


def test_all_regions_are_there_and_the_grammar_goes_into_them():
    assert list(regions(GRAPH)) == LABELS
    check(GRAPH)
    node = regions(GRAPH)["scan"]
    body = node.op.bodies[0]
    first, *rest = body.nodes
    wrong = {
        "out of order": replace(body, nodes=(*rest, first)),
        "another type": replace(body, types=body.types | {first.result: TensorType((1,), FP32)}),
        "nothing computes": replace(body, outputs=(9999, *body.outputs[1:])),
        "one label": replace(body, nodes=(replace(first, label=rest[0].label), *rest)),
    }
    for message, bad in wrong.items():
        broken = replace(node, op=replace(node.op, body=bad))
        with pytest.raises((rdu.ArgumentError, KeyError), match=message if message != "nothing computes" else "."):
            check(replace(GRAPH, nodes=tuple(broken if n is node else n for n in GRAPH.nodes)))


def test_float64_values_are_those_of_the_function_in_float64():
    """The reference of the graph against JAX in float64: two independent roads."""
    x, ws = (np.asarray(a, np.float64) for a in (X, WS))
    constants = [
        np.asarray(c, np.float64 if np.asarray(c).dtype == np.float32 else None) for c in GRAPH.constants.values()
    ]
    got = evaluate(GRAPH, [x, ws, *constants])
    seen = np.zeros(3)
    for i in (2, 1, 0):
        seen[i], x = x.sum(), np.tanh(x @ ws[i])
    for _ in range(2):
        x = x * 0.125 + 1
    x, steps = (x @ ws[0] if x[0, 0] > 1.5 else -x), 0
    while steps < 4:
        x, steps = x * 2 + 1, steps + 1
    for ours, want in zip(got, (x, steps, seen), strict=True):
        np.testing.assert_allclose(ours, want, rtol=1e-12)


def test_what_is_seen_inside_is_named_by_its_trips():
    found: dict = {}
    body = regions(GRAPH)["scan#2/scan"].op.body
    constants = [np.asarray(c) for c in GRAPH.constants.values()]
    evaluate(
        GRAPH, [np.asarray(X), np.asarray(WS), *constants], seen=lambda v, t, a: found.setdefault(v, {}).update({t: a})
    )
    assert list(found[body.outputs[0]]) == [(i, j) for i in range(2) for j in range(3)]
    condition = regions(GRAPH)["while"].op.condition
    asked = list(found[condition.outputs[0]])
    assert asked == [(i,) for i in range(len(asked))] and not found[condition.outputs[0]][asked[-1]]
    assert found[GRAPH.outputs[1]][()] == len(asked) - 1


def test_work_counts_as_often_as_a_loop_turns():
    layer, _, inner, cond, ends = (regions(GRAPH)[label].op for label in LABELS)
    assert layer.flops() == 3 * layer.body.flops() >= 3 * 2 * 4 * 6 * 6
    assert inner.flops() == 3 * 4 * 6
    for op, message in ((cond, "branches of different work"), (ends, "as often as values say")):
        with pytest.raises(rdu.ArgumentError, match=message):
            op.flops()
    with pytest.raises(rdu.ArgumentError, match="different work"):
        GRAPH.flops()
    assert Branch((cond.branches[0],) * 2).flops() == cond.branches[0].flops()


def test_regions_refuse_what_does_not_fit():
    node = regions(GRAPH)["scan"]
    given = GRAPH.types_of(node.operands)
    assert node.op.infer(*given) == GRAPH.types_of(node.results)
    short = replace(node.op, trips=2)
    with pytest.raises(rdu.ArgumentError, match="xs of another length"):
        short.infer(*given)
    with pytest.raises(rdu.ArgumentError, match="inputs of the body: other types"):
        node.op.infer(given[1], given[0])
    with pytest.raises(rdu.ArgumentError, match="number of times or while"):
        replace(node.op, trips=None).infer(*given)
    cond = regions(GRAPH)["cond"]
    index, *inputs = GRAPH.types_of(cond.operands)
    with pytest.raises(rdu.ArgumentError, match="the index of a branch"):
        cond.op.infer(TensorType((), FP32), *inputs)
    with pytest.raises(rdu.ArgumentError, match="inputs of a branch"):
        cond.op.infer(index, *inputs[1:])


def test_the_text_nests_and_is_stable():
    lines = text(GRAPH).splitlines()
    assert lines == text(rdu.compile(model, X, WS, machine="sn40l").graph).splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("# scan#2"))
    assert "scan of 2 trips" in lines[at] and lines[at + 1] == "  body"
    nested = next(i for i, line in enumerate(lines) if line.endswith("# scan#2/scan"))
    assert lines[nested].startswith("    node") and lines[nested + 1] == "      body"
    assert any(line.startswith("        output") for line in lines)
    assert "scan of 3 trips, reversed" in text(GRAPH)
    assert [line for line in str(PROGRAM).splitlines() if line == "  condition"] == ["  condition"] * 2


def test_rewriting_reaches_into_every_body():
    seen = []

    def change(graph, node):
        seen.append(node.label)
        return node

    assert text(rewritten(GRAPH, change)) == text(GRAPH)
    assert seen == [node.label for node in all_nodes(GRAPH) if node.label not in LABELS]


def test_the_course_multiplies():
    course = Course(GRAPH, {"while": 4}, {"cond": 1})
    times = {
        each.kernel.kernel.nodes[0].label.rpartition("/")[0]: each.times for each in launches(PROGRAM.plan, course)
    }
    assert times["scan"] == 3 and times["scan#2"] == 2 and times["scan#2/scan"] == 6
    assert times["while"] == 4 and times["while/condition"] == 5
    assert times["cond/branch0"] == 0 and times["cond/branch1"] == 1
    [inner] = [e for e in launches(PROGRAM.plan, course) if len(e.inside) == 2]
    assert inner.inside == ("scan#2, body x 2", "scan#2/scan, body x 3")


def test_a_course_is_said_and_not_guessed():
    for given, message in (
        ({}, r"which branch is taken(.|\n)*'cond' in branches(.|\n)*test_regions.py(.|\n)*branches=\{'cond': ...\}"),
        ({"branches": {"cond": 0}}, r"how often a while loop turns(.|\n)*test_regions.py(.|\n)*trips=\{'while': ...\}"),
        ({"branches": {"cond": 0}, "trips": {"while": -1}}, "trips of a loop(.|\n)*-1(.|\n)*0 or more"),
        ({"branches": {"cond": 0}, "trips": {"while": True}}, "trips of a loop"),
        ({"branches": {"cond": 2}, "trips": {"while": 1}}, "index of a branch(.|\n)*2(.|\n)*from 0 to 1"),
    ):
        for ask in (PROGRAM.cost, PROGRAM.predicted_counts, PROGRAM.report, PROGRAM.timeline):
            with pytest.raises(rdu.ArgumentError, match=message):
                ask(**given)
    with pytest.raises(rdu.UnknownNameError, match="unknown while loop(.|\n)*'while'"):
        PROGRAM.cost(trips={"whale": 1})
    with pytest.raises(rdu.UnknownNameError, match="unknown while loop"):
        PROGRAM.cost(trips={"scan": 3})  # it says its trips itself
    with pytest.raises(rdu.UnknownNameError, match="unknown branch"):
        PROGRAM.cost(branches={"while": 1})


def test_what_is_never_come_to_needs_no_course():
    def fn(p, x):
        return lax.cond(p, lambda x: lax.while_loop(lambda c: c.max() < 9, lambda c: c * 2, x), lambda x: x + 1, x)

    program = rdu.compile(fn, jnp.asarray(True), X, machine="sn40l")
    assert program.cost(branches={"cond": 0}).cycles > 0
    with pytest.raises(rdu.ArgumentError, match="'cond/branch1/while' in trips"):
        program.cost(branches={"cond": 1})


@pytest.mark.parametrize("trips", [1, 3])
def test_bytes_in_memory_are_those_of_places(trips: int):
    """x, ws, the last carry, a second place for it where trips take turns, the ys; slices have none."""

    def fn(x, ws):
        return lax.scan(lambda c, w: (jnp.tanh(c @ w), c * 2), x, ws)

    program = rdu.compile(fn, X, WS[:trips], machine="sn40l")
    one, weights = 4 * 4 * 6, 4 * 36 * trips
    expected = one + weights + one + (one if trips > 1 else 0) + one * trips
    assert program.plan.peak_bytes("hbm") == expected
    tight = program.machine.replace({"hbm.capacity_bytes": expected})
    assert program.replace(machine=tight).plan.peak_bytes("hbm") == expected
    with pytest.raises(rdu.CapacityError, match="scan"):
        program.replace(machine=program.machine.replace({"hbm.capacity_bytes": expected - 1}), tier="hbm")


def test_cuts_and_segments_of_k_are_named_inside_of_loops():
    labels = [node.label for node in all_nodes(GRAPH)]
    cut = PROGRAM.replace(fusion=rdu.cut_after("scan/gemm"))
    assert len(cut.plan.kernels) == len(PROGRAM.replace(fusion=rdu.cut_after()).plan.kernels) + 1
    split = PROGRAM.replace(k_splits={"scan/gemm": 3}).graph
    assert [n.op.config.k_splits for n in all_nodes(split) if n.label == "scan/gemm"] == [3]
    with pytest.raises(rdu.UnknownNameError, match="node to cut after"):
        PROGRAM.replace(fusion=rdu.cut_after("scan/gem"))
    assert "scan/gemm" in labels


def test_a_program_of_a_loop_compares_by_its_text_for_shapes_alone():
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (X, WS)]
    assert str(rdu.compile(model, *structs, machine="sn40l")) == str(PROGRAM)
