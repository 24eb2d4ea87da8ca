"""Long streams without simulating them: always equal to the recurrence; the closed form where it claims to be."""

import random
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.ledger import (
    Edge,
    Pipeline,
    Stage,
    closed_form_cycles,
    closed_form_is_exact,
    critical_path_cycles,
    critical_stage,
    finish_times,
    makespan_cycles,
)
from tests.rooms.ledger.pipelines import at_full_rate, bypass, chain, random_pipeline

TURNS = (1, 2, 3, 4, 7, 12, 30, 59, 60, 400)


def random_pipelines(seed: int, count: int):
    rng = random.Random(seed)
    for _ in range(count):
        pipeline = random_pipeline(rng, slowest_cycles=rng.choice([2, 20, 100]), first=rng.random() < 0.5)
        yield at_full_rate(pipeline) if rng.random() < 0.5 else pipeline


def test_every_evaluator_agrees_with_the_recurrence():
    exact_forms = periodic = 0
    for pipeline in random_pipelines(7, 250):
        by_recurrence = finish_times(pipeline, max(TURNS)).max(axis=1)
        claims = closed_form_is_exact(pipeline)
        exact_forms += claims
        periodic += not claims
        for turns in TURNS:
            makespan = int(by_recurrence[turns - 1])
            closed = closed_form_cycles(pipeline, turns)
            assert makespan_cycles(pipeline, turns) == makespan
            assert closed == makespan if claims else closed <= makespan
            assert sum(critical_path_cycles(pipeline, turns).values()) == makespan
    assert exact_forms > 50 and periodic > 50


def test_the_closed_form_claims_all_chains_of_depth_two():
    rng = random.Random(3)
    for _ in range(50):
        services = [rng.randint(0, 30) for _ in range(rng.randint(1, 12))]
        pipeline = chain(services, depth=rng.randint(2, 4))
        assert closed_form_is_exact(pipeline)
        for turns in (1, 2, 17):
            fill_and_steady = sum(services) + (turns - 1) * max(services)
            assert closed_form_cycles(pipeline, turns) == fill_and_steady == finish_times(pipeline, turns).max()


def test_the_closed_form_does_not_claim_what_it_misses():
    assert not closed_form_is_exact(chain([3, 5], depth=1))
    assert not closed_form_is_exact(bypass(12, depth=11))
    assert closed_form_is_exact(bypass(12, depth=12))


def test_two_branches_where_the_longer_is_not_the_slower():
    stages = [("fork", 1), ("slow", 100), ("b0", 50), ("b1", 50), ("b2", 50), ("join", 1)]
    edges = [("fork", "slow"), ("fork", "b0"), ("b0", "b1"), ("b1", "b2"), ("b2", "join"), ("slow", "join")]
    pipeline = at_full_rate(Pipeline([Stage(*s) for s in stages], [Edge(*e) for e in edges]))
    assert closed_form_is_exact(pipeline)
    # One tile fills the longer branch; from the third on, the slow stage alone decides.
    assert [closed_form_cycles(pipeline, turns) for turns in (1, 2, 3)] == [152, 202, 302]
    assert finish_times(pipeline, 3).max(axis=1).tolist() == [152, 202, 302]


def test_full_rate_is_not_always_full_from_the_first_tile():
    # "up" waits at first for the slot that "late" holds while its heavy branch fills: same rate, later by a constant.
    names = ["source", *(f"heavy{i}" for i in range(5)), "late", *(f"light{i}" for i in range(4)), "up", "w0", "w1"]
    service = {name: 1 if name[0] in "sul" and name != "late" else 100 for name in names}
    ways = [["source", *names[1:7]], ["source", *names[7:12], "late"], ["up", "w0", "w1"]]
    edges = [Edge(a, b) for way in ways for a, b in zip(way, way[1:], strict=False)]
    pipeline = at_full_rate(Pipeline([Stage(n, service[n]) for n in names], edges))
    assert not closed_form_is_exact(pipeline)
    gap = [makespan_cycles(pipeline, n) - closed_form_cycles(pipeline, n) for n in (1, 100, 10_000)]
    assert gap[0] == 0 and gap[1] == gap[2] > 0


def test_a_period_of_several_turns_is_extrapolated_exactly():
    pipeline = bypass(12, depth=7)  # 120 cycles every 7 turns
    for turns in (10**9, 10**9 + 1, 10**9 + 6, 10**12 + 3):
        near = 700 + turns % 7
        laps = (turns - near) // 7
        assert makespan_cycles(pipeline, turns) == int(finish_times(pipeline, near).max()) + 120 * laps
        assert sum(critical_path_cycles(pipeline, turns).values()) == makespan_cycles(pipeline, turns)


def test_parts_that_never_wait_for_one_another():
    fast, slow = chain([3, 3], depth=1), Pipeline((Stage("x", 7), Stage("y", 4)), (Edge("x", "y", 1),))
    both = Pipeline((*fast.stages, *slow.stages), (*fast.edges, *slow.edges))
    assert makespan_cycles(both, 10**6) == makespan_cycles(slow, 10**6) == 11 * 10**6
    assert critical_path_cycles(both, 10**6) == {"s0": 0, "s1": 0, "x": 7 * 10**6, "y": 4 * 10**6}


def test_terabyte_streams_are_priced_in_an_instant():
    rng = random.Random(3)
    pipelines = [chain([rng.randint(8000, 8192) for _ in range(30)], depth) for depth in (1, 2)]
    begin = time.perf_counter()
    makespans = [makespan_cycles(pipeline, 10**15) for pipeline in pipelines]
    assert time.perf_counter() - begin < 5  # the recurrence would take some thousand years
    slowest = max(stage.service_cycles for stage in pipelines[1].stages)
    assert makespans[1] == sum(s.service_cycles for s in pipelines[1].stages) + (10**15 - 1) * slowest
    assert makespans[0] > makespans[1] > 2**62


def test_the_critical_path_by_hand():
    assert critical_path_cycles(chain([3, 5, 2]), 10) == {"s0": 3, "s1": 50, "s2": 2}
    assert critical_path_cycles(chain([3, 5], depth=1), 10) == {"s0": 30, "s1": 50}
    assert critical_stage(chain([3, 5, 2]), 10) == "s1"
    assert critical_stage(chain([30, 5, 2]), 1) == "s0"
    loaded = Pipeline((Stage("a", 3), Stage("b", 4, first_service_cycles=100)), (Edge("a", "b"),))
    assert critical_path_cycles(loaded, 5) == {"a": 3, "b": 116}


def test_slowing_a_stage_costs_at_least_its_turns_on_the_critical_path():
    closed = 0
    for pipeline in random_pipelines(23, 60):
        pipeline = replace(pipeline, stages=tuple(Stage(s.name, s.service_cycles + 1) for s in pipeline.stages))
        closed += closed_form_is_exact(pipeline)
        for turns in (1, 2, 50, 3000):
            makespan, cycles = makespan_cycles(pipeline, turns), critical_path_cycles(pipeline, turns)
            for at, stage in enumerate(pipeline.stages):
                visits, rest = divmod(cycles[stage.name], stage.service_cycles)
                slower = [
                    *pipeline.stages[:at],
                    Stage(stage.name, stage.service_cycles + 1),
                    *pipeline.stages[at + 1 :],
                ]
                assert rest == 0 and makespan_cycles(replace(pipeline, stages=slower), turns) >= makespan + visits
    assert 10 < closed < 50


def test_the_critical_path_is_the_gradient_times_the_service():
    services = np.array([3.0, 7.0, 5.0, 2.0], np.float32)
    turns_on_path = jax.grad(lambda s: closed_form_cycles(chain(list(s)), 20))(services)
    exact = critical_path_cycles(chain([3, 7, 5, 2]), 20)
    np.testing.assert_array_equal(np.asarray(turns_on_path) * services, list(exact.values()))


def test_the_relaxed_closed_form_has_the_exact_values():
    for pipeline in random_pipelines(11, 25):
        stages = [
            Stage(s.name, jnp.float32(s.service_cycles), s.first_service_cycles and jnp.float32(s.first_service_cycles))
            for s in pipeline.stages
        ]
        relaxed = Pipeline(stages, pipeline.edges)
        for turns in (1, 2, 60):
            exact = closed_form_cycles(pipeline, turns)
            assert float(closed_form_cycles(relaxed, turns)) == exact
            assert float(closed_form_cycles(pipeline, jnp.float32(turns))) == exact


@pytest.mark.parametrize("turns", [2, 3, 64])
def test_the_gradient_equals_finite_differences(turns):
    edges = (Edge("a", "b"), Edge("a", "c"), Edge("b", "d", 3), Edge("c", "d"), Edge("b", "e"))

    def cycles(x):
        stages = [Stage(name, x[i]) for i, name in enumerate("abcd")] + [Stage("e", x[4], x[5])]
        return closed_form_cycles(Pipeline(stages, edges), turns)

    for seed in range(4):
        # Distinct and far apart, so that a step of one cycle crosses no kink; and small enough to be exact in float32.
        x = np.random.default_rng(seed).permutation(np.array([11, 23, 47, 95, 191, 383], np.float32))
        by_grad = np.asarray(jax.grad(cycles)(x))
        by_difference = [(float(cycles(x + e)) - float(cycles(x - e))) / 2 for e in np.eye(6, dtype=np.float32)]
        np.testing.assert_array_equal(by_grad, by_difference)
        by_turns = jax.grad(lambda n, x=x: closed_form_cycles(chain(list(x)), n))(turns + 0.5)
        assert float(by_turns) == max(x)


def test_the_closed_form_is_vmapped_over_configurations():
    services = jnp.array([[3.0, 5.0], [9.0, 4.0]])
    batch = jax.vmap(lambda s: closed_form_cycles(chain(list(s)), 10))(services)
    assert batch.tolist() == [53, 94]


@pytest.mark.parametrize("turns", [0, 1.5])
def test_the_closed_form_turns_at_least_once(turns):
    with pytest.raises(ArgumentError, match="turns at least once"):
        closed_form_cycles(chain([1, 2]), turns)
