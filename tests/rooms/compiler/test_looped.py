"""Loops in one launch: what they cost, how reports and timelines show them, when the compiler fuses for them; bits."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.compiler import periods, planner
from rdujax.machines import tiny
from tests.rooms.compiler.samples import assert_same, draw

RNG = np.random.default_rng(23)
X, W, WS = draw(RNG, 8, 12), draw(RNG, 12, 12), draw(RNG, 5, 12, 12)
LAUNCH = tiny().launch
PROGRAM, ARGUMENT, EXECUTE, ADVANCE = (
    Fraction(str(getattr(LAUNCH, f"{name}_s").value))
    for name in ("program_load", "argument_load", "execute", "advance")
)
FREE = {f"launch.{name}_s": 0 for name in ("program_load", "argument_load", "execute", "advance")}


def layer(x, w):
    """A product, and what reads it."""
    return jnp.tanh(x @ w) * x


def layers(x, ws):
    """Layers in a loop, and something after it."""
    return lax.scan(lambda x, w: (layer(x, w), None), x, ws)[0].T


def written(x, ws):
    """The same without a loop."""
    for i in range(len(ws)):
        x = layer(x, ws[i])
    return x.T


def course(x, ws, n):
    """A loop of which only values know how often it turns."""
    x = layers(x, ws).T
    return lax.while_loop(lambda c: c[1] < n, lambda c: (layer(c[0], ws[0]), c[1] + 1), (x, 0))[0]


def looped(fn=layers, *args, **choices) -> rdu.Program:
    """A program whose loops are launched once."""
    return rdu.compile(fn, *(args or (X, WS)), machine="tiny", orchestration="looped", **choices)


def cut_layers() -> rdu.Program:
    """Written out, a kernel for each layer."""
    program = rdu.compile(written, X, WS, machine="tiny")
    ends = [node.label for node in program.graph.nodes if node.label.startswith("mul")]
    return program.replace(fusion=rdu.cut_after(*ends), orchestration="looped")


def test_a_loop_of_one_kernel_pays_one_launch_and_advances():
    program = looped()
    cost, plain = program.cost(), program.relaunched("hardware").cost()
    body = cost.kernels[0]
    assert (body.launches, body.runs, cost.launches, cost.runs) == (1, 5, 2, 6) and plain.launches == plain.runs == 6
    assert body.launch_s == PROGRAM + ARGUMENT + EXECUTE and body.again_s == 4 * (ADVANCE + EXECUTE)
    assert cost.launch_s == 2 * (PROGRAM + ARGUMENT + EXECUTE) + 4 * (ADVANCE + EXECUTE) < plain.launch_s
    assert (cost.run_s, cost.cost, cost.flops) == (plain.run_s, plain.cost, plain.flops)  # all but launches is the same
    assert str(cost).startswith("2 kernels launched 2 times, run 6 times, ")
    assert str(plain).startswith("2 kernels launched 6 times, ")


def test_layers_that_were_written_out_load_their_addresses():
    cost = cut_layers().cost()
    assert [(k.launches, k.runs) for k in cost.kernels] == [(1, 1), *[(0, 1)] * 4, (1, 1)]
    assert cost.launch_s == 2 * (PROGRAM + ARGUMENT + EXECUTE) + 4 * (ARGUMENT + EXECUTE)


@pytest.mark.parametrize("fusion", ["none", "primitives"])
def test_a_body_of_several_kernels_is_launched_as_by_hardware(fusion):
    program = looped(fusion=fusion)
    assert program.cost() == program.relaunched("hardware").cost() and program.cost().launches > 6


def test_what_values_decide_is_launched_anew():
    program = looped(course, X, WS, jnp.int32(0))
    for trips in (0, 1, 4):
        cost = program.cost(trips={"while": trips})
        body = next(k for k in cost.kernels if "while, body" in str(k.inside))
        assert body.launches == body.runs == trips and cost.runs - cost.launches == 4  # those of the scan


def test_a_price_has_derivatives_by_what_looping_takes():
    program = looped()
    slope = jax.grad(lambda m: program.cost(m).total_s)(program.machine.relaxed()).launch
    assert slope.advance_s.value == 4 and slope.execute_s.value == 6
    assert slope.program_load_s.value == slope.argument_load_s.value == 2 and slope.host_s.value == 0
    slope = jax.grad(lambda m: cut_layers().cost(m).total_s)(program.machine.relaxed()).launch
    assert (slope.advance_s.value, slope.argument_load_s.value, slope.program_load_s.value) == (0, 6, 2)
    plain = program.relaunched("hardware")
    assert jax.grad(lambda m: plain.cost(m).total_s)(program.machine.relaxed()).launch.advance_s.value == 0
    dear = program.machine.replace({"launch.advance_s": 1})
    assert dear.facts()["launch.advance_s"].confidence == "overridden"
    assert program.cost(dear).total_s - program.cost().total_s == 4 * (1 - ADVANCE)


@pytest.mark.parametrize("program", [looped(), cut_layers(), looped(fusion="none")], ids=["loop", "written", "cut"])
def test_reports_and_timelines_add_up(program):
    cost, report, shown = program.cost(), program.report(), program.timeline()
    rows, total = report.data["kernels"], report.data["total"]
    assert [(row["launches"], row["runs"]) for row in rows] == [(k.launches, k.runs) for k in cost.kernels]
    assert (total["launches"], total["runs"]) == (cost.launches, cost.runs)
    assert sum(row["cycles"] * row["runs"] for row in rows) == total["cycles"] == cost.cycles
    assert sum(row["cycles"] for row in report.data["attribution"]) == total["cycles_with_launches"]
    assert Fraction(shown.cycles) / shown.clock_hz == cost.total_s
    spans = [(k.begin_cycles - k.launch_cycles, k.begin_cycles + k.cycles) for k in shown.kernels]
    spans = sorted([*spans, *((r.begin_cycles, r.begin_cycles + r.cycles) for r in shown.repeats)])
    assert all(end == begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False))


def test_runs_without_a_launch_are_said():
    text, shown = str(looped().report()), looped().timeline()
    assert "  launched 1 time, runs 5 times: scan, body x 5" in text
    assert "total  2 kernels launched 2 times, run 6 times" in text
    assert list(shown.kernels[0].launch) == ["program", "argument", "execute"]
    [rest] = shown.repeats
    clock = shown.clock_hz
    assert rest.name == "4 further trips of scan"
    assert rest.cycles == 4 * (shown.kernels[0].cycles + (ADVANCE + EXECUTE) * clock)
    cut = cut_layers()
    assert "  launched 0 times, runs 1 time\n" in str(cut.report())
    assert [list(k.launch) for k in cut.timeline().kernels[1:3]] == [["argument", "execute"]] * 2
    assert "configured already, begins (argument and execute) in 50 cycles" in str(cut.timeline())
    slices = [name for name, *_ in cut.timeline().groups()[0].named["kernels"]]
    assert sum(name.startswith("program of kernel") for name in slices) == 2
    assert sum(name.startswith("argument of kernel") for name in slices) == 6


def test_no_bit_and_no_count_depends_on_who_launches():
    plain = rdu.compile(layers, X, WS, machine="tiny")
    want, counts = plain(X, WS), plain.predicted_counts()
    for program in (looped(), plain.relaunched("looped"), plain.relaunched("software"), plain):
        assert_same(program(X, WS), want)
        assert program.predicted_counts() == counts == program.tally(X, WS)


def heavy(x, ws):
    """Two products that are faster apart, with all units for each."""
    return lax.scan(lambda x, w: (jnp.tanh(jnp.tanh(x @ w) @ w), None), x, ws)[0]


def test_one_kernel_is_preferred_where_it_is_launched_once():
    """A launch takes less than a cut saves in a trip. By hardware a cut costs one launch, looped nearly two."""
    args = draw(RNG, 32, 16), draw(RNG, 4, 16, 16)
    apart = rdu.compile(heavy, *args, machine=tiny().replace({**FREE, "pcu.count": 6}))
    whole = apart.replace(fusion=rdu.cut_after())
    saved_s = (whole.cost().total_s - apart.cost().total_s) / 4  # in each trip
    assert len(apart.plan.kernels) == 2 and len(whole.plan.kernels) == 1 and saved_s > 0
    for share, kernels in (("1/2", 2), ("5/6", 1), ("7/6", 1)):  # of what is saved; 4/7 and more is too much, looped
        launch_s = Fraction(share) * saved_s
        dear = apart.machine.replace({"launch.program_load_s": launch_s})
        plain, once = (apart.replace(machine=dear, orchestration=o) for o in ("hardware", "looped"))
        assert len(plain.plan.kernels) == (2 if launch_s < saved_s else 1) and len(once.plan.kernels) == kernels
        assert once.cost().total_s <= plain.relaunched("looped").cost().total_s


def test_one_kernel_is_preferred_for_layers_that_were_written_out(monkeypatch):
    """Layers long enough for stretches of their own. A launch takes less than a cut saves in a layer."""
    for module in (periods, planner):
        monkeypatch.setattr(module, "LONG", 10)
    monkeypatch.setattr(periods, "SHORT", 5)
    args = draw(RNG, 32, 16), [draw(RNG, 16, 16) for _ in range(12)]

    def fn(x, ws):
        for w in ws:
            x = jnp.tanh(jnp.sin(x @ w) @ w)
        return x

    apart = rdu.compile(fn, *args, machine=tiny().replace({**FREE, "pcu.count": 6}))
    dear = apart.machine.replace({"launch.program_load_s": Fraction(30, apart.machine.clock_hz.value)})
    plain, once = (apart.replace(machine=dear, orchestration=o) for o in ("hardware", "looped"))
    assert len(plain.plan.kernels) == 24 and len(once.plan.kernels) == 12
    assert once.cost().launches < 6 and plain.relaunched("looped").cost().launches == 24
    assert once.cost().total_s < plain.relaunched("looped").cost().total_s
    assert_same(once(*args), plain(*args))


def test_an_orchestration_is_checked_and_keeps_the_plan():
    program = looped()
    other = program.relaunched("software")
    assert other.choices.orchestration == other.plan.orchestration == "software"
    assert other.plan.launched("looped") == program.plan and other.relaunched("looped").cost() == program.cost()
    with pytest.raises(rdu.UnknownNameError, match="unknown orchestration(.|\n)*did you mean 'looped'"):
        program.relaunched("loop")


def test_kernels_are_not_planned_again_for_another_launcher(monkeypatch):
    """What is known of kernels is taken over, and the plan is that which is made anew."""
    made = []
    real = planner.tile
    monkeypatch.setattr(planner, "tile", lambda *args: made.append(args) or real(*args))
    machine = tiny().replace({"pmu.count": 12})
    program = rdu.compile(written, X, WS, machine=machine)
    first = len(made)
    again = program.replace(orchestration="software")
    second = len(made) - first
    anew = rdu.compile(written, X, WS, machine=machine, orchestration="software")
    assert again.plan.kernels == anew.plan.kernels and again.cost() == anew.cost()
    assert second < len(made) - first - second  # fewer than it takes anew
    wide = program.replace(stage_buffer_format="fp32")
    assert wide.plan.kernels == rdu.compile(written, X, WS, machine=machine, stage_buffer_format="fp32").plan.kernels
