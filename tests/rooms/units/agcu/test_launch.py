"""Launches: who waits for what, against a simulation by events, and the sum that programs are priced with."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest
import simpy

import rdujax as rdu
from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.machines import sn40l, tiny
from rdujax.units.agcu.launch import BEGINNINGS, ORCHESTRATIONS, Kernel, end_s, launch_s, timeline

CONFIG = tiny().launch
FACTS = ("host_s", "program_load_s", "argument_load_s", "execute_s")
PHASES = ("host", "program", "argument", "advance", "execute", "run")
HOST, PROGRAM, ARGUMENT, EXECUTE = (Fraction(str(getattr(CONFIG, name).value)) for name in FACTS)
ADVANCE = Fraction(str(CONFIG.advance_s.value))
EACH, ARGUMENTS = Fraction(str(CONFIG.host_argument_s.value)), (3, 0, 20, 1)  # of each of four kernels
MODES = [("software", False), ("hardware", False), ("hardware", True), ("looped", False), ("looped", True)]
LOOPED = ("launch", "advance", "launch", "argument")  # of each of four kernels, where looped
RUNS = {
    "short": [Fraction(1, 10**6)] * 4,
    "long": [Fraction(1, 100), Fraction(0), Fraction(3, 1000), Fraction(1, 10**7)],
    "one": [Fraction(1, 3)],
    "none": [],
}


def beginnings(orchestration: str) -> tuple[str, ...]:
    """How each of four kernels begins."""
    return LOOPED if orchestration == "looped" else ("launch",) * 4


def simulate(runs: list[Fraction], orchestration: str, prefetch: bool) -> list[tuple[str, str, Fraction, Fraction]]:
    """A loader and a tile as processes; the host, where it is asked, sends the next kernel once the last is done.

    The loader passes over what is configured already; the tile knows how that goes on.
    """
    begins = beginnings(orchestration)
    env = simpy.Environment(initial_time=Fraction(0))
    programs = simpy.Store(env)
    executing = [env.event() for _ in runs]
    done = [env.event() for _ in runs]
    found = []

    def phase(kernel, name, seconds):
        start = env.now
        yield env.timeout(seconds)
        found.append((kernel, name, start, env.now))

    def loader():
        for i in (i for i in range(len(runs)) if begins[i] == "launch"):
            if i and not prefetch:
                yield done[i - 1]
            if i and prefetch:
                yield executing[i - 1]
            if orchestration == "software":
                yield from phase(f"k{i}", "host", HOST + EACH * ARGUMENTS[i])
            yield from phase(f"k{i}", "program", PROGRAM)
            yield programs.put(i)

    def tile():
        for i in range(len(runs)):
            if begins[i] == "launch":
                assert (yield programs.get()) == i
            changes = ("advance", ADVANCE) if begins[i] == "advance" else ("argument", ARGUMENT)
            yield from phase(f"k{i}", *changes)
            executing[i].succeed()
            yield from phase(f"k{i}", "execute", EXECUTE)
            yield from phase(f"k{i}", "run", runs[i])
            done[i].succeed()

    env.process(loader())
    env.process(tile())
    env.run()
    return sorted(found, key=lambda p: (int(p[0][1:]), PHASES.index(p[1])))


@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(("orchestration", "prefetch"), MODES)
def test_phases_are_those_of_the_simulation(runs, orchestration, prefetch):
    begins = beginnings(orchestration)
    kernels = [Kernel(f"k{i}", run, ARGUMENTS[i], begins[i]) for i, run in enumerate(runs)]
    phases = timeline(CONFIG, kernels, orchestration, prefetch=prefetch)
    assert [(p.kernel, p.name, p.start_s, p.end_s) for p in phases] == simulate(runs, orchestration, prefetch)
    assert end_s(phases) == (phases[-1].end_s if runs else 0)
    if not prefetch:
        before = (launch_s(CONFIG, orchestration, k.arguments, k.beginning) for k in kernels)
        assert end_s(phases) == sum(runs) + sum(before)


def test_what_is_configured_already_takes_no_program_and_its_own_addresses_no_load():
    config = sn40l().launch
    took = [launch_s(config, "looped", 20, beginning) for beginning in BEGINNINGS]
    assert took == [launch_s(config, "hardware", 20), Fraction(4, 10**6), Fraction(31, 10**7)]
    assert took[0] - took[1] == Fraction(str(config.program_load_s.value)) and took[2] > config.execute_s.value


def test_a_launch_takes_ten_microseconds_and_by_software_what_the_host_says():
    config = sn40l().launch
    assert launch_s(config, "hardware", 20) == launch_s(config, "hardware") == Fraction(10, 10**6)
    assert launch_s(config, "software") == Fraction(11, 10**6)
    assert launch_s(config, "software", 20) == Fraction(11, 10**6) + 20 * Fraction(str(config.host_argument_s.value))
    for orchestration in ORCHESTRATIONS:
        assert sn40l().launch_s(orchestration, 7) == launch_s(config, orchestration, 7)


def test_a_kernel_begins_exactly_when_what_it_waits_for_has_ended():
    """The next argument load waits for the later of two things; at a run of PROGRAM - EXECUTE they end together."""
    even = PROGRAM - EXECUTE
    tick = Fraction(1, 10**9)
    for run, wait in ((even - tick, tick), (even, 0), (even + tick, 0)):
        phases = timeline(CONFIG, [Kernel("a", run), Kernel("b", 0)], "hardware", prefetch=True)
        start = {(p.kernel, p.name): p.start_s for p in phases}
        ends = {(p.kernel, p.name): p.end_s for p in phases}
        assert start["b", "program"] == start["a", "execute"]
        assert start["b", "argument"] == max(ends["a", "run"], ends["b", "program"]) == ends["a", "run"] + wait
    plain = timeline(CONFIG, [Kernel("a", even), Kernel("b", 0)], "hardware")
    assert plain[4].start_s == plain[3].end_s and (plain[4].kernel, plain[4].name) == ("b", "program")


def test_prefetch_hides_the_program_load_behind_a_long_run_and_never_harms():
    for runs in RUNS.values():
        kernels = [Kernel(f"k{i}", run) for i, run in enumerate(runs)]
        ahead = end_s(timeline(CONFIG, kernels, "hardware", prefetch=True))
        assert ahead <= end_s(timeline(CONFIG, kernels, "hardware"))
    long = [Kernel(f"k{i}", Fraction(1, 100)) for i in range(5)]
    saved = end_s(timeline(CONFIG, long, "hardware")) - end_s(timeline(CONFIG, long, "hardware", prefetch=True))
    assert saved == 4 * PROGRAM


@pytest.mark.parametrize("orchestration", ORCHESTRATIONS)
def test_a_program_is_priced_as_its_timeline(orchestration):
    def layer(x, w):
        return jnp.tanh(x @ w)

    shapes = (jax.ShapeDtypeStruct((8, 8), jnp.bfloat16), jax.ShapeDtypeStruct((8, 8), jnp.bfloat16))
    program = rdu.compile(layer, *shapes, machine="tiny", fusion="none", orchestration=orchestration)
    cost, streams = program.cost(), [len(kernel.streams) for kernel in program.plan.kernels]
    kernels = [Kernel(kernel.name, kernel.run_s, n) for kernel, n in zip(cost.kernels, streams, strict=True)]
    assert len(kernels) > 1 and end_s(timeline(CONFIG, kernels, orchestration)) == cost.total_s


def test_times_are_differentiable_in_the_facts():
    config = jax.tree.map(jnp.float32, CONFIG)

    def end(c, prefetch):
        return end_s(timeline(c, [Kernel("a", 1e-6), Kernel("b", 1e-6)], "hardware", prefetch=prefetch))

    plain, ahead = (jax.grad(end)(config, prefetch) for prefetch in (False, True))
    assert float(end(config, False)) == pytest.approx(float(2 * launch_s(CONFIG, "hardware")) + 2e-6, rel=1e-6)
    assert [getattr(plain, name).value for name in FACTS] == [0, 2, 2, 2]
    # Runs are short: the second program load is what the second kernel waits for, and it begins with the first execute.
    assert [getattr(ahead, name).value for name in FACTS] == [0, 2, 2, 1]


def test_bad_schedules_are_refused():
    with pytest.raises(ArgumentError, match="cannot be loaded ahead of a launch(.|\n)*orchestration 'software'"):
        timeline(CONFIG, [], "software", prefetch=True)
    with pytest.raises(UnknownNameError, match="unknown orchestration(.|\n)*did you mean 'hardware'"):
        timeline(CONFIG, [], "hardwired")
    with pytest.raises(ArgumentError, match="every run is launched\n  given:   'advance', orchestration 'hardware'"):
        launch_s(CONFIG, "hardware", 1, "advance")
    with pytest.raises(ArgumentError, match="nothing is configured before the first(.|\n)*'argument'(.|\n)*where:   a"):
        timeline(CONFIG, [Kernel("a", 1, 1, "argument")], "looped")
    with pytest.raises(UnknownNameError, match="unknown beginning of a run(.|\n)*did you mean 'advance'"):
        launch_s(CONFIG, "looped", 1, "advanced")
    with pytest.raises(ArgumentError, match="cannot run for less than no time\n  given:   -1 s\n  where:   a"):
        timeline(CONFIG, [Kernel("a", -1)], "hardware")
