"""Equal work is done once and dead nodes go, also inside of regions; no bit changes, and what must stay apart does."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.compiler.simplify import simplify
from rdujax.frontend.trace import trace
from rdujax.graph.graph import Graph, Node, Region, all_nodes, check, node_labels, value_labels
from rdujax.graph.regions import Branch, Loop
from tests.rooms.compiler.samples import assert_same, random_sample, samples, small

X = jnp.asarray(np.random.default_rng(3).standard_normal((6, 6)), jnp.float32)
KEY = jax.random.key(5)


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in all_nodes(graph)]


def traced(fn: Callable, *args) -> tuple[Graph, Graph]:
    """The graph as traced, and simplified; both keep the grammar."""
    before = trace(fn, args).graph
    after = simplify(before)
    check(before)
    check(after)
    return before, after


def twice(x):
    return jnp.tanh(x @ x) + jnp.exp(jnp.tanh(x @ x))


def drawn(key, x):
    """The same key twice is the same draw; another key is another one."""
    first, second = (jax.random.bits(key, x.shape) for _ in range(2))
    return first * jnp.uint32(3) + second, jax.random.bits(jax.random.fold_in(key, 1), x.shape)


def looped(x):
    """Equal loops, and equal work in their bodies."""

    def run(x):
        return lax.scan(lambda c, _: (jnp.sin(c) * 0.5 + jnp.sin(c), c.sum()), x, None, length=3)

    one, other = run(x), run(x)
    return one[0] + other[0], one[1] - other[1]


def asked(x):
    """Equal `while` loops and branches; the loop's condition and body both read a value computed twice."""
    limit, again = jnp.abs(x).sum(), jnp.abs(x).sum()

    def halved():
        return lax.while_loop(lambda c: (c * c).sum() + limit > 2 * again, lambda c: c * 0.5 + limit - again, x)

    def chosen():
        return lax.cond(x[0, 0] > 0, lambda x: x + limit, lambda x: x - again, x)

    return halved() + halved() + chosen() * chosen()


def nested(x):
    """Equal loops around loops of several results, which take one array twice as their slices."""

    def inner(c, _):
        return lax.scan(lambda c, s: (c + (s[0] * s[1])[None], c.sum()), c, (x, x))

    def run():
        return lax.scan(inner, x, None, length=2)

    (one, sums), (other, same) = run(), run()
    return one + other, sums - same


CASES = {
    # name: (function, arguments, how often each of these operations is there before, and after)
    "twice": (twice, (X,), {"gemm": (2, 1), "tanh": (2, 1), "exp": (1, 1), "add": (1, 1)}),
    "drawn": (drawn, (KEY, X), {"random_bits": (3, 2)}),
    "looped": (looped, (X,), {"scan": (2, 1), "sin": (4, 1)}),
    "nested": (nested, (X,), {"scan": (4, 2), "mul": (2, 1)}),
    "asked": (asked, (X,), {"while": (2, 1), "cond": (2, 1), "abs": (2, 1)}),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_work_is_done_once_and_no_bit_changes(name: str):
    fn, args, counts = CASES[name]
    before, after = traced(fn, *args)
    for operation, (many, few) in counts.items():
        assert (names(before).count(operation), names(after).count(operation)) == (many, few), operation
    program = rdu.compile(fn, *args, machine="sn40l")
    unsimplified = replace(program, plan=rdu.compiler.driver.placed(before, program.machine, program.choices))
    assert len(list(all_nodes(unsimplified.graph))) > len(list(all_nodes(program.graph)))
    assert_same(program(*args), unsimplified(*args))


def test_the_first_label_stays_and_all_lines_are_named():
    def fn(x):
        a = jnp.tanh(x)
        b = jnp.tanh(x)
        return a + b

    before, after = traced(fn, X)
    assert [node.label for node in before.nodes] == ["tanh", "tanh#2", "add"]
    assert [node.label for node in after.nodes] == ["tanh", "add"]
    lines = after.nodes[0].source.split("; ")
    assert [before.nodes[i].source for i in (0, 1)] == lines and len(set(lines)) == 2


@pytest.mark.parametrize("fn", [looped, nested, asked])
def test_every_label_of_the_function_still_leads_to_its_work(fn: Callable):
    """Node by node: what a label stands for does the operation that it named; values keep all labels."""
    before, after = traced(fn, X)
    operation = {node.label: node.op.name for node in all_nodes(before)}
    there = {node.label: node.op.name for node in all_nodes(after)}
    stands = node_labels(after)
    assert stands.keys() == operation.keys() and len(there) < len(operation)
    assert {label: there[at] for label, at in stands.items()} == operation
    assert {label for label, _ in value_labels(after)} == {label for label, _ in value_labels(before)}


def test_a_kernel_can_be_cut_after_equal_work_by_any_of_its_labels():
    def fn(x):
        return jnp.tanh(x) + 1.0, jnp.tanh(x) * 2.0, lax.fori_loop(0, 2, lambda i, c: jnp.sin(c) + jnp.sin(c) * 0.5, x)

    def kernels(*labels: str) -> list[list[str]]:
        plan = rdu.compile(fn, X, machine="sn40l", fusion=rdu.cut_after(*labels)).plan
        return [[node.label for node in planned.kernel.nodes] for planned in plan.kernels]

    assert kernels("tanh#2") == kernels("tanh") == kernels("tanh", "tanh#2") != kernels()
    assert kernels("tanh#2")[0] == ["tanh"]
    assert kernels("scan/sin#2") == kernels("scan/sin") != kernels()
    with pytest.raises(UnknownNameError, match=r"node to cut after\n  given:   'tanh#3'\n  allowed: .*'tanh#2'"):
        kernels("tanh#3")


def test_a_tier_can_be_said_by_any_label_of_equal_work():
    """Of nodes, of those inside of joined loops, of results of loops, and of constants."""
    table = np.arange(36, dtype=np.float32).reshape(6, 6)

    def fn(x):
        one, other = looped(x)
        return jnp.tanh(x) @ x, jnp.tanh(x) @ one * table, other, x + table.copy()

    def tiers(**choices) -> dict[int, str]:
        plan = rdu.compile(fn, X, machine="sn40l", fusion="primitives", **choices).plan
        inside = {value: tier for at, _ in plan.placed() for value, tier in at.tiers.items()}
        return inside | plan.tiers

    assert "ddr" not in tiers().values()
    labels = {"tanh#2": "tanh", "const1": "const0", "scan#2/sin": "scan/sin", "scan#2[1]": "scan[1]"}
    for gone, stays in labels.items():
        found = tiers(tiers={gone: "ddr"})
        assert found == tiers(tiers={stays: "ddr"}) and "ddr" in found.values()
    assert tiers(tiers={"scan#2...": "ddr"}) == tiers(tiers={"scan...": "ddr"})
    with pytest.raises(ArgumentError, match="cannot be in two tiers\n  given:   'tanh' in hbm, 'tanh#2' in ddr"):
        tiers(tiers={"tanh": "hbm", "tanh#2": "ddr"})
    with pytest.raises(UnknownNameError, match="label of a value\n  given:   'tanh#3'"):
        tiers(tiers={"tanh#3": "ddr"})


def test_the_course_of_joined_loops_can_be_said_by_any_of_their_labels():
    program = rdu.compile(asked, X, machine="sn40l")
    first = program.cost(trips={"while": 3}, branches={"cond": 1})
    assert first.cycles != program.cost(trips={"while": 4}, branches={"cond": 1}).cycles
    for trips in ({"while#2": 3}, {"while": 3, "while#2": 3}):
        assert program.cost(trips=trips, branches={"cond#2": 1}) == first
        assert program.predicted_counts(trips=trips, branches={"cond#2": 1})
    with pytest.raises(ArgumentError, match=r"takes one course\n  given:   'while': 3, 'while#2': 4\n  do: "):
        program.cost(trips={"while": 3, "while#2": 4}, branches={"cond": 1})
    with pytest.raises(ArgumentError, match=r"takes one course\n  given:   'cond#2': 0, 'cond': 1\n  do: "):
        program.cost(trips={"while": 3}, branches={"cond#2": 0, "cond": 1})
    with pytest.raises(UnknownNameError, match=r"while loop\n  given:   'while#3'\n  allowed: 'while', 'while#2'"):
        program.cost(trips={"while#3": 3}, branches={"cond": 1})


def test_a_second_time_changes_nothing():
    graphs = [trace(s.fn, s.args).graph for s in (*samples(), *(random_sample(seed) for seed in range(6)))]
    for graph in [*graphs, *(trace(fn, args).graph for fn, args, _ in CASES.values())]:
        once = simplify(graph)
        again = simplify(once)
        assert (again.nodes, again.outputs, again.types, again.joined) == (
            once.nodes, once.outputs, once.types, once.joined
        )  # fmt: skip
        assert len(once.nodes) <= len(graph.nodes) and once.inputs == graph.inputs


def test_operands_that_became_one_value_are_given_once():
    """To constants, slices and the condition of loops, and to branches; the carry stays as long as it is."""

    def fn(x):
        a, b = jnp.exp(x), jnp.exp(x)
        y, _ = lax.scan(lambda c, s: (c * a + b + (s[0] * s[1]).sum(), None), x, (a, b))
        z = lax.while_loop(lambda c: (c[0] + a).sum() < b.sum() + 40.0, lambda c: (c[0] + jnp.abs(a), c[1] - b), (x, x))
        return y, z, lax.cond(x[0, 0] > 0, lambda: a + b, lambda: a * b)

    before, after = traced(fn, X[:6])
    sizes = [
        [(len(n.operands), *(len(b.inputs) for b in n.op.bodies)) for n in g.nodes if isinstance(n.op, Region)]
        for g in (before, after)
    ]
    assert sizes == [[(5, 5), (6, 4, 4), (3, 2, 2)], [(3, 3), (4, 3, 3), (2, 1, 1)]]
    program = rdu.compile(fn, X, machine="sn40l")
    unsimplified = replace(program, plan=rdu.compiler.driver.placed(before, program.machine, program.choices))
    assert_same(program(X), unsimplified(X))


def test_what_a_body_returns_stays_in_places_of_its_own():
    def fn(x):
        return lax.scan(lambda c, _: (jnp.tanh(c), (jnp.tanh(c), jnp.tanh(c), c)), x, None, length=2)

    before, after = traced(fn, X)
    (node,) = after.nodes
    assert isinstance(node.op, Loop)
    body = node.op.body
    assert len(set(body.outputs)) == 4 and not set(body.outputs) & set(body.inputs)
    assert len(body.nodes) == len(before.nodes[0].op.body.nodes)
    program = rdu.compile(fn, X, machine="sn40l")
    assert_same(program(X), program.replace(fusion="primitives")(X))


def test_a_returned_value_may_stand_for_others_that_are_not_returned():
    """The first of equal nodes is not returned, the second is: one of them does for both."""

    def fn(x):
        def step(c, _):
            a = jnp.sin(c)
            return jnp.sin(c), (a * 2.0, jnp.sin(c))

        return lax.scan(step, x, None, length=2)

    _, after = traced(fn, X)
    body = after.nodes[0].op.bodies[0]
    assert names(body).count("sin") == 2 and len(set(body.outputs)) == 3
    program = rdu.compile(fn, X, machine="sn40l")
    assert_same(program(X), program.replace(fusion="primitives")(X))


def test_top_level_outputs_may_be_one_value():
    _, after = traced(lambda x: (jnp.tanh(x), jnp.tanh(x), x), X)
    assert after.outputs[0] == after.outputs[1] and len(after.nodes) == 1
    program = rdu.compile(lambda x: (jnp.tanh(x), jnp.tanh(x), x), X, machine="tiny")
    got = program(X)
    assert_same(got[0], got[1])
    assert_same(got[2], X)


def test_numbers_that_compare_equal_but_are_not_the_same_stay_apart():
    """0.0 and -0.0 as immediates, as padding, and as constants; a constant of ones as INT32 and as FP32."""
    zeros = [np.full((6, 6), value, np.float32) for value in (0.0, -0.0, 0.0)]
    ones = [np.ones((6, 6), dtype) for dtype in (np.float32, np.int32)]

    def fn(x):
        mine = [jnp.maximum(x, -0.0), jnp.maximum(x, 0.0), jnp.pad(x, 1), jnp.pad(x, 1, constant_values=-0.0)]
        return mine, [x * z for z in zeros], x + ones[0], lax.convert_element_type(x, jnp.int32) + ones[1]

    before, after = traced(fn, X)
    assert len(before.constants) - len(after.constants) == 1
    assert names(before).count("mul") == 3 and names(after).count("mul") == 2
    assert names(after).count("max") == 2 and names(after).count("pad") == 2
    assert_same(rdu.compile(fn, X, machine="sn40l")(X), fn(X))


def test_large_constants_are_one_only_where_they_are_the_same_array():
    one, other = (np.ones((64, 64), np.float32) for _ in range(2))
    constants = [len(traced(lambda x, b=b: x + one + b, one)[1].constants) for b in (one, other)]
    assert constants == [1, 2]


def test_dead_nodes_go_also_inside_of_regions():
    before = trace(looped, (X,)).graph
    body = before.nodes[0].op.bodies[0]
    extra = Node(body.nodes[0].op, body.nodes[0].operands, (900,), "dead")
    wide = replace(body, nodes=(*body.nodes, extra), types=body.types | {900: body.types[body.nodes[0].result]})
    wide = replace(wide, labels=wide.labels | {900: "dead"})
    loop = replace(before.nodes[0], op=before.nodes[0].op.with_bodies([wide]))
    graph = replace(before, nodes=(loop, *before.nodes[1:]))
    check(graph)
    assert "dead" in [node.label for node in all_nodes(graph)]
    assert "dead" not in [node.label for node in all_nodes(simplify(graph))]


@pytest.mark.parametrize("prevent", [True, False])
def test_what_checkpoint_computes_again_is_computed_again(prevent: bool):
    """Unless the user says that it need not be: then memory is not what it is for."""
    block = jax.checkpoint(lambda w, x: jnp.sin(jnp.sin(x @ w)), prevent_cse=prevent)
    before, after = traced(jax.grad(lambda w, x: block(w, block(w, x)).sum()), X, X)
    counts = {name: (names(before).count(name), names(after).count(name)) for name in ("sin", "gemm", "cos")}
    if prevent:
        assert counts == {"sin": (4, 4), "gemm": (6, 6), "cos": (4, 4)}
        assert {node.again for node in after.nodes} == {0, 1, 2}
    else:
        assert counts == {"sin": (4, 3), "gemm": (6, 5), "cos": (4, 4)}


def test_stages_written_by_hand_stay_as_they_are_written():
    @rdu.kernel(machine="tiny")
    def by_hand(x: rdu.Stream, w: rdu.Stream) -> rdu.Stream:
        a, b = rdu.gemm(x, w, pcus=2), rdu.gemm(x, w, pcus=2)
        return rdu.simd(lambda a, b: a + b, a, b)

    program = by_hand.program(X, X)
    assert [node.op.name for node in program.graph.nodes].count("gemm") == 2


def test_segments_of_k_are_part_of_the_work():
    """One of two equal products is summed in segments: they are not equal any more, and validate sees both."""

    def fn(x):
        return x @ x.T, x @ x.T

    args = (jnp.asarray(np.random.default_rng(0).standard_normal((6, 64)), jnp.float32),)
    program = rdu.compile(fn, *args, machine="sn40l")
    assert names(program.graph) == ["transpose", "gemm"]
    split = program.replace(k_splits={"gemm#2": 4})
    assert names(split.graph) == ["transpose", "gemm", "gemm"]
    found = rdu.validate(split, *args)
    assert {d.label: d.made_by for d in found.nodes if d.mismatches} == {"gemm#2": ("k_splits=4",)}
    assert [d.mismatches > 0 for d in found.outputs] == [False, True]


def test_equal_branches_of_different_order_are_not_the_same_work():
    def fn(x):
        def choose(*branches):
            return lax.cond(x[0, 0] > 0, *branches, x)

        return choose(jnp.sin, jnp.cos), choose(jnp.cos, jnp.sin), choose(jnp.sin, jnp.cos)

    _, after = traced(fn, X)
    assert sum(isinstance(node.op, Branch) for node in after.nodes) == 2
    assert_same(rdu.compile(fn, X, machine=small())(X), rdu.compile(fn, X, fusion="primitives")(X))
