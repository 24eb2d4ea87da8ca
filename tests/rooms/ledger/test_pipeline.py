"""The recurrence of bounded buffers, and what a pipeline refuses to be."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError, ShapeError, UnknownNameError
from rdujax.ledger import Edge, Pipeline, Stage, finish_times, full_rate_depths, makespan_cycles
from tests.rooms.ledger.pipelines import at_full_rate, bypass, chain, random_pipeline


def test_a_chain_by_hand():
    # Depth 1: the producer waits until the consumer has finished with the only slot. Depth 2: they overlap.
    assert finish_times(chain([3, 5], depth=1), 3).tolist() == [[3, 8], [11, 16], [19, 24]]
    assert finish_times(chain([3, 5], depth=2), 4).tolist() == [[3, 8], [6, 13], [11, 18], [16, 23]]
    assert finish_times(chain([3, 5], depth=3), 4).tolist() == [[3, 8], [6, 13], [9, 18], [12, 23]]


def test_the_first_turn_may_take_longer():
    pipeline = Pipeline((Stage("load", 2), Stage("work", 4, first_service_cycles=100)), (Edge("load", "work", 2),))
    assert finish_times(pipeline, 4).tolist() == [[2, 102], [4, 106], [104, 110], [108, 114]]


def test_turns_of_unequal_service():
    ragged = finish_times(chain([3, 5]), 3, service_cycles=[[3, 5], [3, 5], [1, 2]])
    assert ragged.tolist() == [[3, 8], [6, 13], [9, 15]]
    same = finish_times(chain([3, 5]), 3, service_cycles=np.array([[3, 5]] * 3))
    np.testing.assert_array_equal(same, finish_times(chain([3, 5]), 3))
    for wrong in ([[3, 5]] * 2, [[3, 5], [3, 5], [3]]):
        with pytest.raises(ShapeError, match=r"allowed: \[3, 2\]"):
            finish_times(chain([3, 5]), 3, service_cycles=wrong)


@pytest.mark.parametrize(("depth", "cycles_per_tile"), [(1, 120), (2, 60), (4, 30), (8, 15), (11, None), (12, 10)])
def test_a_residual_edge_across_twelve_stages(depth, cycles_per_tile):
    pipeline = bypass(12, depth)
    assert full_rate_depths(pipeline)["s0", "s11"] == 12
    slower = makespan_cycles(pipeline, 24_000) - makespan_cycles(pipeline, 12_000)
    if depth == 11:  # one slot less than the rule is not enough
        assert slower == 12_000 * 120 // 11 + 1
    else:
        assert slower == 12_000 * cycles_per_tile


def test_the_skip_rule_keeps_full_rate():
    rng = random.Random(5)
    for _ in range(40):
        pipeline = at_full_rate(random_pipeline(rng, slowest_cycles=9))
        slowest = max(stage.service_cycles for stage in pipeline.stages)
        assert makespan_cycles(pipeline, 9000) - makespan_cycles(pipeline, 6000) == 3000 * slowest


def test_edges_between_the_same_stages_are_two_buffers():
    both = Pipeline((Stage("a", 3), Stage("b", 5)), (Edge("a", "b", 3), Edge("a", "b", 1)))
    np.testing.assert_array_equal(finish_times(both, 5), finish_times(chain([3, 5], depth=1), 5))


def test_a_cycle_is_named():
    with pytest.raises(ArgumentError, match="form a cycle\n  given:   ((a|b|c) -> ){3}(a|b|c)\n"):
        Pipeline(
            tuple(Stage(name, 1) for name in "abcd"),
            (Edge("a", "b"), Edge("b", "c"), Edge("c", "a"), Edge("c", "d")),
        )
    with pytest.raises(ArgumentError, match="a -> a"):
        Pipeline((Stage("a", 1),), (Edge("a", "a"),))


def test_the_named_cycle_follows_the_edges():
    with pytest.raises(ArgumentError) as error:
        Pipeline(tuple(Stage(name, 1) for name in "abc"), (Edge("a", "b"), Edge("b", "c"), Edge("c", "a")))
    assert any(loop in str(error.value) for loop in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"))


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(UnknownNameError, match="edge 'gemm0' -> 'gem1'(.|\n)*did you mean 'gemm1'"):
        Pipeline((Stage("gemm0", 1), Stage("gemm1", 1)), (Edge("gemm0", "gem1"),))
    with pytest.raises(ArgumentError, match="two stages of one name\n  given:   'a'"):
        Pipeline((Stage("a", 1), Stage("b", 1), Stage("a", 2)))
    with pytest.raises(ArgumentError, match="without stages"):
        Pipeline(())
    with pytest.raises(ArgumentError, match="named by a string"):
        Stage("", 1)


@pytest.mark.parametrize("depth", [0, -1, 1.5])
def test_a_buffer_has_a_slot(depth):
    with pytest.raises(ArgumentError, match="edge 'a' -> 'b'"):
        Edge("a", "b", depth)


@pytest.mark.parametrize("bad", [{"service_cycles": -1}, {"service_cycles": 2.5}, {"first_service_cycles": -2}])
def test_services_are_whole(bad):
    with pytest.raises(ArgumentError, match=f"{next(iter(bad))} must be a whole number(.|\n)*stage 'a'"):
        Stage(**{"name": "a", "service_cycles": 1, **bad})


@pytest.mark.parametrize("turns", [0, -1, 1.5])
@pytest.mark.parametrize("time", [finish_times, makespan_cycles])
def test_a_pipeline_turns(time, turns):
    with pytest.raises(ArgumentError, match="turns at least once"):
        time(chain([1, 2]), turns)


def test_relaxed_services_have_no_exact_time():
    with pytest.raises(ConcretenessError, match="stage 's0'"):
        makespan_cycles(chain([jnp.float32(3), 4]), 5)
    with pytest.raises(ConcretenessError, match="stage 's0'"):
        jax.jit(lambda c: finish_times(chain([c, 4]), 5))(3.0)


def test_times_beyond_int64_are_refused_and_the_last_below_is_not():
    one = Pipeline((Stage("a", 2**62 - 1, first_service_cycles=2**62),))
    assert finish_times(one, 2)[-1, 0] == 2**63 - 1
    with pytest.raises(ArgumentError, match="largest int64"):
        finish_times(chain([2**62, 2**62]), 1)
    assert makespan_cycles(chain([2**62, 2**62]), 3) == 2**64
