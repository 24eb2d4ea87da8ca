"""The makespan on JAX values: the exact one's values, and the critical path as its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ShapeError
from rdujax.ledger import Edge, Pipeline, Stage, attribution, makespan_cycles
from tests.rooms.ledger.pipelines import bypass, chain, load_work_store, random_rates_that_run, transposed


def smooth(pipeline: Pipeline, iterations: int) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """The makespan as a function of the services, [stages] and then those of turn 0 [stages]; and the services."""
    count = len(pipeline.stages)

    def cycles(x: jax.Array) -> jax.Array:
        stages = [
            Stage(s.name, x[i], None if s.first_service_cycles is None else x[count + i], s.repeats)
            for i, s in enumerate(pipeline.stages)
        ]
        return makespan_cycles(Pipeline(tuple(stages), pipeline.edges, pipeline.shared), iterations)

    own = [s.service_cycles for s in pipeline.stages] + [s.first_cycles for s in pipeline.stages]
    return cycles, jnp.array(own, jnp.float32)


def check_values_and_gradients(pipelines, lengths: tuple[int, ...]) -> None:
    """The value is the exact one; services times gradients sum to it, since it is linear along every path."""
    for pipeline in pipelines:
        for iterations in lengths:
            cycles, services = smooth(pipeline, iterations)
            value, gradient = jax.value_and_grad(cycles)(services)
            exact = makespan_cycles(pipeline, iterations)
            assert float(value) == pytest.approx(exact, rel=1e-6 if exact >= 2**24 else 0)
            assert np.isfinite(np.asarray(gradient)).all() and (np.asarray(gradient) >= 0).all()
            assert float((gradient * services).sum()) == pytest.approx(exact, rel=1e-5)


def test_values_and_gradients_of_random_pipelines():
    check_values_and_gradients(random_rates_that_run(19, 2, shared=1), (40,))


def test_values_and_gradients_of_long_streams():
    check_values_and_gradients([load_work_store(7, 2, 4)], (10**9 + 7,))
    check_values_and_gradients([bypass(5, depth=3)], (513,))  # the shortest that is no longer scanned


@pytest.mark.full
def test_values_and_gradients_of_more_pipelines():
    check_values_and_gradients(random_rates_that_run(23, 5, shared=2), (60, 700))


@pytest.mark.parametrize(
    ("pipeline", "iterations"),
    [
        (chain([3, 11, 5], depth=1), 30),
        (bypass(4, depth=3, service_cycles=7), 1000),
        (transposed(3, 4, 9, depth=4), 20),
        (load_work_store(13, 3, 5), 50),
    ],
    ids=["shallow", "bypass", "barrier", "port"],
)
def test_the_gradient_is_the_critical_path(pipeline, iterations):
    # Unequal services, so that one path wins; whole ones, so that its turns can be compared with ==.
    stages = tuple(
        Stage(s.name, s.service_cycles + 100 * i * i, repeats=s.repeats) for i, s in enumerate(pipeline.stages)
    )
    pipeline = Pipeline(stages, pipeline.edges, pipeline.shared)
    cycles, services = smooth(pipeline, iterations)
    gradient = np.asarray(jax.grad(cycles)(services))
    turns = attribution(pipeline, iterations).turns
    np.testing.assert_array_equal(gradient[: len(stages)], list(turns.values()))
    for at in range(len(stages)):
        step = np.eye(len(services), dtype=np.float32)[at] / 4
        difference = (float(cycles(services + step)) - float(cycles(services - step))) * 2
        assert difference == gradient[at]


def test_ties_share_evenly():
    twins = Pipeline((Stage("a", 4.0), Stage("b", 4.0), Stage("join", 1)), (Edge("a", "join"), Edge("b", "join")))
    cycles, services = smooth(twins, 10)
    assert jax.grad(cycles)(services)[:3].tolist() == [5, 5, 1]


def test_eager_jit_and_vmap_give_the_same():
    cycles, services = smooth(load_work_store(7, 2, 4), 20)
    batch = services[None] * jnp.array([[1.0], [2.0], [5.0]], jnp.float32)
    eager = [float(cycles(row)) for row in batch]
    assert [float(jax.jit(cycles)(row)) for row in batch] == eager == [220, 440, 1100]
    assert jax.vmap(cycles)(batch).tolist() == eager
    by_row = [jax.grad(cycles)(row).tolist() for row in batch]
    assert jax.vmap(jax.grad(cycles))(batch).tolist() == by_row


def test_services_need_not_be_whole():
    # 100 turns of the slower stage, and one of the other.
    assert float(makespan_cycles(chain([jnp.float32(2.5), jnp.float32(0.25)]), 100)) == 250.25


def test_what_is_not_one_number_is_refused():
    with pytest.raises(ShapeError, match=r"shape \(2,\)\n  where:   stage 's1'\n  do:      jax.vmap"):
        makespan_cycles(chain([3, jnp.ones(2)]), 5)


def test_too_long_a_stream_through_too_deep_a_buffer_is_refused():
    deep = chain([jnp.float32(3), 4], depth=1000)
    with pytest.raises(ArgumentError, match="1,001 finish times in the state(.|\n)*closed_form_cycles"):
        makespan_cycles(deep, 10**9)
    assert float(makespan_cycles(chain([jnp.float32(3), 4], depth=100), 10**9)) == pytest.approx(
        4 * 10**9 + 3, rel=1e-6
    )
    with pytest.raises(ArgumentError, match="turns at least once"):
        makespan_cycles(deep, 0)
    with pytest.raises(ArgumentError, match="state of at most 65,536"):
        makespan_cycles(chain([jnp.float32(3), 4], depth=10**30), 5)


def test_the_gradient_of_a_long_stream_is_rounded_no_more_than_told():
    pipeline, iterations = chain([3, 7, 5, 2]), 10**12
    cycles, services = smooth(pipeline, iterations)
    gradient, turns = jax.grad(cycles)(services)[:4], list(attribution(pipeline, iterations).turns.values())
    assert turns == [1, iterations, 1, 1]
    assert np.abs(np.asarray(gradient, np.float64) - turns).max() <= 5e-7 * iterations
    # Names of its own: where JAX has traced a form before, it keeps the int32 indices of that time.
    wide = Pipeline(
        tuple(Stage(f"wide{s.name}", s.service_cycles) for s in pipeline.stages),
        tuple(Edge(f"wide{e.producer}", f"wide{e.consumer}") for e in pipeline.edges),
    )
    with jax.enable_x64(True):
        cycles, services = smooth(wide, iterations)
        assert jax.grad(cycles)(services.astype(jnp.float64))[:4].tolist() == turns
