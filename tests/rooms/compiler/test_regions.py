"""What loops and branches cost, how reports and timelines show them, and `validate` inside of them (laws L2, L5)."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from tests.rooms.compiler.samples import draw, small

RNG = np.random.default_rng(21)
X, W, WS = draw(RNG, 8, 12), draw(RNG, 12, 12), draw(RNG, 3, 12, 12)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    """A product that arithmetic reads, and that in FP32 keeps more."""
    h = x @ w
    return jnp.tanh(h) * h


def layers(x: jax.Array, ws: jax.Array) -> jax.Array:
    """Layers from the last to the first."""
    return lax.scan(lambda x, w: (layer(x, w), None), x, ws, reverse=True)[0]


def course(x: jax.Array, ws: jax.Array, n: jax.Array) -> jax.Array:
    """A loop over layers; another, so often as it is told, with a branch in it."""

    def step(c):
        x, i = c
        return lax.cond((i & 1) == 0, lambda x: jnp.tanh(x @ ws[0]), lambda x: x * 2, x), i + 1

    return lax.while_loop(lambda c: c[1] < n, step, (layers(x, ws), 0))[0]


PROGRAM = rdu.compile(course, X, WS, jnp.int32(0), machine="tiny")


def said(trips: int, branch: int = 0) -> dict:
    """A course of the program."""
    return {"trips": {"while": trips}, "branches": {"while/cond": branch}}


def test_a_loop_costs_its_body_as_often_as_it_turns():
    """Against the body compiled by itself: cycles, launches, bytes and work; the launch of every trip is paid."""
    whole, body = (rdu.compile(fn, X, w, machine=small()).cost() for fn, w in ((layers, WS), (layer, W)))
    assert whole.cycles == 3 * body.cycles and whole.flops == 3 * body.flops
    assert whole.launches == 3 * len(body.kernels) and len(whole.kernels) == len(body.kernels)
    assert whole.launch_s == 3 * body.launch_s and whole.total_s == 3 * body.total_s
    assert whole.moved_bytes() == 3 * body.moved_bytes()
    assert whole.cost.peak_bytes["sram"] == body.cost.peak_bytes["sram"]
    assert f"launched {whole.launches} times" in str(whole) and "launched" not in str(body)


def test_a_loop_that_values_end_costs_what_is_said():
    costs = [PROGRAM.cost(**said(n)) for n in (0, 1, 2, 40)]
    once = costs[1].total_s - costs[0].total_s
    assert once > 0 and [c.total_s - costs[0].total_s for c in costs] == [n * once for n in (0, 1, 2, 40)]
    assert costs[3].cycles - costs[0].cycles == 40 * (costs[1].cycles - costs[0].cycles)
    assert PROGRAM.cost(**said(2, 1)).flops > PROGRAM.cost(**said(2, 0)).flops
    assert PROGRAM.cost(trips={"while": 0}) == PROGRAM.cost(**said(0))  # a branch that nobody comes to


def test_a_price_with_loops_has_derivatives():
    """Of a loop, so many times that of its body."""

    def slope(program, **said):
        def seconds(bandwidth):
            return program.cost(program.machine.replace({"hbm.bandwidth_bytes_per_s": bandwidth}), **said).total_s

        return jax.grad(seconds)(float(program.machine.hbm.bandwidth_bytes_per_s.value))

    whole, body = (slope(rdu.compile(fn, X, w, machine="tiny")) for fn, w in ((layers, WS), (layer, W)))
    assert body < 0
    np.testing.assert_allclose(whole, 3 * body, rtol=1e-6)
    assert slope(PROGRAM, **said(5, 1)) < slope(PROGRAM, **said(4, 1)) < whole


def test_a_report_says_how_often_and_adds_up():
    cost, report = PROGRAM.cost(**said(4, 1)), PROGRAM.report(**said(4, 1))
    rows, total = report.data["kernels"], report.data["total"]
    assert [row["launches"] for row in rows] == [k.launches for k in cost.kernels]
    assert sum(row["cycles"] * row["launches"] for row in rows) == total["cycles"] == cost.cycles
    assert total["launches"] == cost.launches == sum(row["launches"] for row in rows)
    assert sum(row["cycles"] for row in report.data["attribution"]) == total["cycles_with_launches"]
    text = str(report)
    assert (
        "launched 3 times: scan, body x 3" in text and "launched 4 times: while, body x 4; while/cond, branch 1" in text
    )
    assert "launched 5 times: while, condition x 5" in text
    assert "launched 0 times: while, body x 4; while/cond, branch 0" in text
    for i in range(len(rows)):
        assert {legend.name for legend in PROGRAM.floorplan(i).stages} == {
            stage.label for stage in PROGRAM.plan.kernels[i].kernel.stages
        }


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_a_timeline_draws_the_first_trip_and_adds_up(trips: int):
    cost, shown = PROGRAM.cost(**said(trips)), PROGRAM.timeline(**said(trips))
    assert Fraction(shown.cycles) / shown.clock_hz == cost.total_s
    spans = [(k.begin_cycles - k.launch_cycles, k.begin_cycles + k.cycles) for k in shown.kernels]
    spans = sorted([*spans, *((r.begin_cycles, r.begin_cycles + r.cycles) for r in shown.repeats)])
    assert spans[0][0] == 0 and spans[-1][1] == shown.cycles
    assert all(end == begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False))  # no gap, no overlap
    names = ["2 further trips of scan"]
    names += {0: [], 1: ["the condition again of while"], 4: ["3 further trips of while"]}[trips]
    assert [r.name for r in shown.repeats] == names
    assert all(name in str(shown) for name in names)
    drawn = {k.name for k in shown.kernels}
    assert drawn == {k.name for k in cost.kernels if k.launches}
    assert sum(name.endswith("not drawn") for name, *_ in shown.groups()[0].named["kernels"]) == len(names)


def test_loops_in_loops_are_drawn_once(tmp_path):
    def fn(x):
        inner = lambda c: lax.fori_loop(0, 3, lambda i, c: jnp.tanh(c) * 2, c)  # noqa: E731
        return lax.fori_loop(0, 5, lambda i, c: inner(c) @ W, x)

    program = rdu.compile(fn, X, machine="tiny")
    shown, cost = program.timeline(), program.cost()
    assert Fraction(shown.cycles) / shown.clock_hz == cost.total_s
    assert [r.name for r in shown.repeats] == ["2 further trips of scan/scan", "4 further trips of scan"]
    assert len(shown.kernels) == 2 and shown.save(tmp_path / "trace.json").stat().st_size > 0


def test_fusion_changes_no_bit_inside_of_loops():
    found = rdu.validate(course, X, WS, jnp.int32(3), machine="tiny")
    assert found.bit_equal and all(d.mismatches == 0 and d.reason == "" for d in found.nodes)
    by_label = {d.label: d for d in found.nodes}
    assert by_label["scan/gemm"].elements == 3 * X.size and by_label["scan"].elements == X.size
    assert by_label["while/cond"].elements == 3 * X.size
    assert by_label["while/cond/branch1/gemm"].elements == 2 * X.size  # in trips 0 and 2
    assert by_label["while/condition/less"].elements == 4


def test_a_difference_in_a_loop_is_named_with_its_trip():
    """FP32 in a stage buffer acts in every trip; from the second on the carry brings differences, too."""
    found = rdu.validate(layers, X, WS, machine="tiny", stage_buffer_format="fp32")
    by_label = {d.label: d for d in found.nodes}
    gemm = by_label["scan/gemm"]
    assert gemm.made_by == ("stage_buffer_format=fp32",) and gemm.trip == (0,)
    assert gemm.inherited_from == ("scan/mul",) and "first in trip 0" in gemm.reason
    assert by_label["scan/mul"].inherited_from == ("scan/gemm",) and by_label["scan/mul"].made_by == ()
    [last] = found.outputs
    assert last.label == "scan" and last.inherited_from == ("scan/mul",) and last.mismatches == found.mismatches > 0
    assert not found.bit_equal and "first in trip 0" in str(found)


def test_a_difference_that_begins_in_a_later_trip_is_named_there():
    """K in segments is exact on small integers, until a trip reads weights that are none."""
    x, ones = jnp.ones((4, 12), jnp.float32), jnp.ones((12, 12), jnp.float32)
    rough = jnp.asarray(RNG.normal(size=(12, 12)), jnp.float32)

    def fn(x, ws):
        return lax.scan(lambda c, w: ((c @ w) * 0.0 + 1.0, c @ w), x, ws)[1]

    found = rdu.validate(fn, x, jnp.stack([ones, ones, rough, ones]), machine="tiny", k_splits={"scan/gemm#2": 3})
    [gemm] = [d for d in found.nodes if d.mismatches and d.made_by]
    assert gemm.trip == (2,) and gemm.made_by == ("k_splits=3",) and "first in trip 2" in gemm.reason


def test_errors_in_a_loop_are_against_float64_in_the_same_trip():
    found = rdu.validate(layers, X, WS, machine="tiny")
    exact, error = np.asarray(X, np.float64), 0.0
    x, one = X, rdu.compile(layer, X, W, machine="tiny")
    product = rdu.compile(lambda x, w: x @ w, X, W, machine="tiny")
    for w in WS[::-1]:
        h = exact @ np.asarray(w, np.float64)
        error = max(error, np.abs(np.asarray(product(x, w), np.float64) - h).max())
        exact, x = np.tanh(h) * h, one(x, w)
    [gemm] = [d for d in found.nodes if d.label == "scan/gemm"]
    np.testing.assert_allclose(gemm.error, error, rtol=1e-12)
    assert gemm.error == gemm.baseline_error


def test_loops_that_turn_a_different_number_of_times_are_compared_where_both_are():
    """The program's own choice ends its loop later or sooner than the baseline's."""

    def fn(x, w):
        return lax.while_loop(lambda c: c[0][0, 0] < 100.0, lambda c: (c[0] @ w, c[1] + 1), (x, 0))

    x = jnp.ones((1, 6), jnp.float32)
    w = jnp.full((6, 6), 1 / 3, jnp.float32).at[3:].multiply(1.0000002)
    found = rdu.validate(fn, x, w, machine="tiny", k_splits=2)
    labels = {d.label for d in found.nodes}
    assert {"while/gemm", "while/condition/less", "while[0]", "while[1]"} <= labels
    assert found.mismatches >= 0 and all(np.isfinite(d.error) for d in found.nodes)
