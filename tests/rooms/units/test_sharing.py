"""Fair sharing of a channel: against a simulation by events, against slices of time, and by its edges."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simpy

from rdujax.base.errors import ArgumentError
from rdujax.units.sharing import Flow, fair_rates, finish_cycles, unless_nothing


def level_rates(limits: dict[str, Fraction | None], width: Fraction) -> dict[str, Fraction]:
    """Max-min fairness: the level of all flows rises until each is held by its limit or the width is full."""
    rates = dict.fromkeys(limits, Fraction(0))
    free = set(limits)
    while free and width > 0:
        step = width / len(free)
        for name in free:
            limit = limits[name]
            step = step if limit is None else min(step, limit - rates[name])
        for name in free:
            rates[name] += step
        width -= step * len(free)
        free = {name for name in free if limits[name] is None or rates[name] < limits[name]}
    return rates


def simulate(flows: list[Flow], width: Fraction, latency: Fraction) -> dict[str, Fraction]:
    """One process per flow: whenever the set of active flows changes, all are interrupted and go on at new rates."""
    env = simpy.Environment(initial_time=Fraction(0))
    active: dict[str, simpy.Process] = {}
    limits = {f.name: None if f.limit_bytes_per_cycle is None else Fraction(f.limit_bytes_per_cycle) for f in flows}
    done = {}

    def rates():
        return level_rates({name: limits[name] for name in active}, width)

    def disturb(but: str):
        for name, process in active.items():
            if name != but:
                process.interrupt()

    def move(flow: Flow):
        yield env.timeout(Fraction(flow.start_cycles))
        left = Fraction(flow.amount_bytes)
        if not left:
            done[flow.name] = env.now
            return
        active[flow.name] = env.active_process
        disturb(flow.name)
        while left:
            rate, since = rates()[flow.name], env.now
            try:
                yield env.timeout(left / rate)
                left = Fraction(0)
            except simpy.Interrupt:
                left -= rate * (env.now - since)
        if flow.name in active:
            del active[flow.name]
            disturb(flow.name)
        done[flow.name] = env.now + latency

    for flow in flows:
        env.process(move(flow))
    env.run()
    return done


def random_flows(rng: np.random.Generator) -> list[Flow]:
    """Two to six flows, some empty, some late, some with a limit."""
    return [
        Flow(
            f"f{i}",
            int(rng.integers(0, 200)) * int(rng.random() < 0.9),
            int(rng.integers(0, 30)) * int(rng.random() < 0.6),
            Fraction(int(rng.integers(1, 40)), int(rng.integers(1, 4))) if rng.random() < 0.5 else None,
        )
        for i in range(int(rng.integers(2, 7)))
    ]


@pytest.mark.parametrize("n", [40, pytest.param(600, marks=pytest.mark.full)])
def test_finish_times_are_those_of_the_simulation(rng, n):
    for _ in range(n):
        flows, width = random_flows(rng), Fraction(int(rng.integers(1, 50)), int(rng.integers(1, 5)))
        latency = Fraction(int(rng.integers(0, 9)), 2)
        assert finish_cycles(flows, width, latency) == simulate(flows, width, latency), flows


def test_rates_are_those_of_the_rising_level(rng):
    for _ in range(200):
        limits = {f.name: f.limit_bytes_per_cycle for f in random_flows(rng)}
        width = Fraction(int(rng.integers(1, 80)), 3)
        rates = fair_rates(limits, width)
        assert rates == level_rates(limits, width)
        assert sum(rates.values()) == min(width, sum(width if n is None else n for n in limits.values()))


def test_small_slices_of_time_come_close(rng):
    """A twentieth of a cycle at a time, each flow its share: off by a few slices and no more."""
    for _ in range(5):
        flows, slice_cycles = random_flows(rng), 0.05
        left, now, late = {f.name: float(f.amount_bytes) for f in flows}, 0.0, {}
        while len(late) < len(flows):
            late |= {f.name: now for f in flows if f.name not in late and not left[f.name] and f.start_cycles <= now}
            active = {f.name: f.limit_bytes_per_cycle for f in flows if f.start_cycles <= now and f.name not in late}
            for name, rate in fair_rates(active, 16).items():
                left[name] = max(0.0, left[name] - float(rate) * slice_cycles)
            now += slice_cycles
        exact = finish_cycles(flows, 16)
        assert all(abs(late[name] - float(exact[name])) < 0.5 for name in late)


def test_equal_streams_end_together_and_a_byte_more_ends_later():
    assert finish_cycles([Flow("a", 64), Flow("b", 64)], 16) == {"a": 8, "b": 8}
    assert finish_cycles([Flow("a", 64), Flow("b", 65)], 16) == {"a": 8, "b": Fraction(129, 16)}


def test_a_stream_held_by_its_port_leaves_the_rest_to_the_others():
    flows = [Flow("slow", 40, 0, 4), Flow("fast", 120)]
    assert finish_cycles(flows, 16) == {"slow": 10, "fast": 10}
    assert finish_cycles([Flow("only", 40, 3, 4)], 16, latency_cycles=2) == {"only": 15}


def test_nothing_arrives_before_all_bytes_could(rng):
    """Bounds that hold for every way to share: each flow's own limit, and all bytes over the bandwidth."""
    for _ in range(50):
        flows = [Flow(f.name, f.amount_bytes, 0, f.limit_bytes_per_cycle) for f in random_flows(rng)]
        done = finish_cycles(flows, 16)
        assert max(done.values()) >= Fraction(sum(int(f.amount_bytes) for f in flows), 16)
        assert all(done[f.name] >= Fraction(f.amount_bytes) / (f.limit_bytes_per_cycle or 16) for f in flows)


def test_terabytes_stay_exact():
    done = finish_cycles([Flow("a", 10**15 + 1), Flow("b", 10**15)], Fraction(956_250_000, 10**6))
    assert done["b"] == 2 * 10**15 / Fraction("956.25") and done["a"] == (2 * 10**15 + 1) / Fraction("956.25")


def test_flows_that_cannot_be_are_refused():
    for bad in (dict(start_cycles=-1), dict(limit_bytes_per_cycle=0)):
        with pytest.raises(ArgumentError, match="begins at cycle 0 or later(.|\n)*where:   flow 'a'"):
            Flow("a", 1, **bad)
    with pytest.raises(ArgumentError, match="amount_bytes must be a whole number"):
        Flow("a", -1)
    for flows, width in (([Flow("a", 1), Flow("a", 1)], 1), ([Flow("a", 1)], 0)):
        with pytest.raises(ArgumentError, match="flows of different names, some bandwidth"):
            finish_cycles(flows, width)
    assert finish_cycles([], 1) == {}


def test_what_does_not_move_waits_for_nothing():
    assert [unless_nothing(amount, 7) for amount in (0, 1, 10**15)] == [0, 7, 7]
    for amount, cycles in ((0, 0), (0.5, 7), (3, 7)):
        assert unless_nothing(jnp.float32(amount), 7) == cycles
        slope = jax.grad(lambda n: unless_nothing(n, 7 + 2 * n))(jnp.float32(amount))
        assert slope == (2 if amount else 0)
