"""The closed form: exact where it claims to be, a lower bound elsewhere, smooth in services and turns."""

import random
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, UnsupportedError
from rdujax.ledger import (
    Edge,
    Pipeline,
    Stage,
    closed_form_cycles,
    critical_path_cycles,
    finish_times,
    makespan_cycles,
)
from tests.rooms.ledger.pipelines import at_full_rate, bypass, chain, load_work_store, random_pipelines, transposed


def test_the_closed_form_is_exact_for_all_chains_of_depth_two():
    rng = random.Random(3)
    for _ in range(50):
        services = [rng.randint(0, 30) for _ in range(rng.randint(1, 12))]
        pipeline = chain(services, depth=rng.randint(2, 4))
        for turns in (1, 2, 17):
            fill_and_steady = sum(services) + (turns - 1) * max(services)
            assert closed_form_cycles(pipeline, turns) == fill_and_steady == finish_times(pipeline, turns).max()


@pytest.mark.parametrize(
    ("pipeline", "waits"), [(chain([3, 5], depth=1), True), (bypass(12, depth=11), True), (bypass(12, depth=12), False)]
)
def test_the_closed_form_knows_nothing_of_waiting_for_slots(pipeline, waits):
    assert (closed_form_cycles(pipeline, 100) < makespan_cycles(pipeline, 100)) is waits


def test_two_branches_where_the_longer_is_not_the_slower():
    stages = [("fork", 1), ("slow", 100), ("b0", 50), ("b1", 50), ("b2", 50), ("join", 1)]
    edges = [("fork", "slow"), ("fork", "b0"), ("b0", "b1"), ("b1", "b2"), ("b2", "join"), ("slow", "join")]
    pipeline = at_full_rate(Pipeline([Stage(*s) for s in stages], [Edge(*e) for e in edges]))
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
    gap = [makespan_cycles(pipeline, n) - closed_form_cycles(pipeline, n) for n in (1, 100, 10_000)]
    assert gap[0] == 0 and gap[1] == gap[2] > 0


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


def test_what_has_no_closed_form_is_refused():
    several = replace(chain([3, 5]), edges=(Edge("s0", "s1", 4, produced=2, consumed=2),))
    for pipeline, named in (
        (load_work_store(3, 5, 2), "shared resource 'hbm'"),
        (transposed(4, 3, 5, 8), "stage 'load' with 4 turns, stage 'work' with 4 turns"),
        (several, "edge 's0' -> 's1' with several tiles"),
    ):
        with pytest.raises(UnsupportedError, match=f"share nothing\n  given:   {named}(.|\n)*use makespan_cycles"):
            closed_form_cycles(pipeline, 10)
