"""How runs begin: against a program that is unrolled trip by trip; what counts as the same configuration."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import rdujax as rdu
from rdujax.graph.configuration import configuration
from rdujax.graph.graph import Graph
from rdujax.graph.launches import Course, launches
from rdujax.graph.plan import Plan, PlannedKernel
from rdujax.graph.regions import Loop

X, W = jnp.ones((8, 12), jnp.bfloat16), jnp.ones((12, 12), jnp.bfloat16)
WS, FEW = jnp.ones((3, 12, 12), jnp.bfloat16), jnp.ones((2, 3, 12, 12), jnp.bfloat16)


def layer(x, w):
    """One kernel."""
    return jnp.tanh(x @ w), None


def loop(x, ws):
    """One kernel, again and again."""
    return lax.scan(layer, x, ws)[0]


def loops(x, few):
    """A loop in a loop, and nothing else in it."""
    return lax.scan(lambda x, ws: (loop(x, ws), None), x, few)[0]


def around(x, few):
    """The inner loop is interrupted."""
    return lax.scan(lambda x, ws: (loop(x, ws) * 2, None), x, few)[0]


def asked(x, ws):
    """A loop of which only values know how often it turns, and a branch, in and between loops."""
    x = lax.while_loop(lambda x: x[0, 0] > 3, lambda x: loop(x, ws), loop(x, ws))
    return loop(lax.cond(x[0, 0] > 2, jnp.tanh, lambda x: x * 2, loop(x, ws)), ws)


def written(x, ws):
    """A layer three times, one of another width of results, the layer again twice."""
    for w in ws:
        x, _ = layer(x, w)
    x = jnp.concatenate([x, x], 1) @ jnp.concatenate([ws[0], ws[1]])
    return layer(layer(x, ws[1])[0], ws[2])[0]


CASES = [(loop, WS), (loops, FEW), (around, FEW), (asked, WS), (written, WS)]


def unrolled(plan: Plan, course: Course) -> Iterator[tuple[Plan, PlannedKernel, tuple[int, ...]] | None]:
    """Every run in order, with the trips that it is in; None where values decide what comes next."""
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            yield plan, step, ()
            continue
        turns, known = course.turns(step.node), isinstance(step.op, Loop) and step.op.trips is not None
        if not known:
            yield None
        for body, count in zip(step.plans, turns, strict=True):
            for trip in range(count):
                for run in unrolled(body, course):
                    yield run and (*run[:2], (trip, *run[2]))
                if not known:
                    yield None


def expected(plan: Plan, course: Course) -> dict[str, Counter[str]]:
    """How the runs of each kernel begin: what is not like the one just before is launched."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    last = None
    for run in unrolled(plan, course):
        if run is not None:
            (at, kernel, _), begins = run, "launch"
            if last and last[1] is kernel:
                begins = "advance"
            elif last and configuration(last[0].graph, last[1]) == configuration(at.graph, kernel):
                begins = "argument"
            found[kernel.kernel.name][begins] += 1
        last = run
    return found


@pytest.mark.parametrize("fusion", ["streaming", "none", "primitives"])
@pytest.mark.parametrize(("fn", "weights"), CASES, ids=[fn.__name__ for fn, _ in CASES])
def test_runs_begin_as_in_the_program_unrolled(fn, weights, fusion):
    program = rdu.compile(fn, X, weights, machine="tiny", fusion=fusion, orchestration="looped")
    said = {"while": 2} if fn is asked else {}
    course = Course(program.graph, said, {"cond": 1} if fn is asked else {})
    want = expected(program.plan, course)
    for each in launches(program.plan, course):
        assert each.beginnings == want.get(each.kernel.kernel.name, {}) and sum(each.beginnings.values()) == each.times
    for each in launches(program.plan.launched("hardware"), course):
        assert each.beginnings == ({"launch": each.times} if each.times else {})


@pytest.mark.parametrize(
    ("fn", "weights", "launched", "runs"), [(loop, WS, 1, 3), (loops, FEW, 1, 6), (around, FEW, 4, 8)]
)
def test_a_loop_of_one_kernel_is_launched_once(fn, weights, launched, runs):
    cost = rdu.compile(fn, X, weights, machine="tiny", orchestration="looped").cost()
    assert (cost.launches, cost.runs) == (launched, runs)


def test_layers_that_were_written_out_are_launched_once():
    program = rdu.compile(written, X, WS, machine="tiny", orchestration="looped", fusion="none")
    tanhs = [k for k in program.cost().kernels if "tanh" in k.name]
    assert len(tanhs) == 5 and all(k.launches == k.runs == 1 for k in tanhs)  # product and tanh take turns
    layers = [node.label for node in program.graph.nodes if node.label.startswith("tanh")]
    cut = program.replace(fusion=rdu.cut_after(*layers)).cost()
    assert [(k.launches, k.runs) for k in cut.kernels][1:3] == [(0, 1), (0, 1)]


def planned(fn, *shapes, **choices) -> tuple[Graph, PlannedKernel]:
    """A function as one kernel."""
    program = rdu.compile(
        fn, *(jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes), machine="tiny", fusion=rdu.cut_after(), **choices
    )
    return program.graph, program.plan.kernels[0]


def test_a_configuration_is_all_but_names_and_values():
    first = planned(lambda x, w: jnp.tanh(x @ w) + x, (8, 8), (8, 8))
    same = planned(lambda name, other: other.T.T * 0 + jnp.tanh(name @ other) + name, (8, 8), (8, 8))
    again = planned(lambda a, b: jnp.tanh(a @ b) + a, (8, 8), (8, 8))
    assert configuration(*first) == configuration(*again) and hash(configuration(*first)) == hash(configuration(*again))
    others = [
        same,
        planned(lambda x, w: jnp.tanh(x @ w) + w, (8, 8), (8, 8)),
        planned(lambda x, w: jnp.sin(x @ w) + x, (8, 8), (8, 8)),
        planned(lambda x, w: jnp.tanh(x @ w) + x, (16, 8), (8, 8)),
        planned(lambda x, w: jnp.tanh(x @ w) + x, (8, 8), (8, 8), tiers={"w": "ddr"}),
        planned(lambda x, w: jnp.tanh(x @ w) + x, (8, 8), (8, 8), stage_buffer_format="fp32"),
    ]
    assert all(configuration(*other) != configuration(*first) for other in others)
    graph, kernel = first
    deeper = replace(kernel, buffers=tuple(replace(b, depth=b.depth + 1) for b in kernel.buffers))
    assert configuration(graph, deeper) != configuration(graph, kernel)


def test_where_a_slice_begins_is_an_address_and_its_stride_is_not():
    first, second, wide = (
        configuration(*planned(lambda x, ws, cut=cut: x @ ws[cut], (8, 8), (24, 8)))
        for cut in (slice(0, 8), slice(16, 24), slice(0, 16, 2))
    )
    assert first == second != wide
