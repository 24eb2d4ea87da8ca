"""Starts and finishes of every turn, slots taken over time, and turns at a shared resource."""

import doctest
import sys
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError, ShapeError, UnknownNameError
from rdujax.ledger import Edge, Pipeline, Shared, Stage, finish_times, schedule
from tests.rooms.ledger.pipelines import chain, load_work_store, random_rates_that_run, transposed


def test_a_barrier_by_hand():
    times = schedule(transposed(3, 2, 4, depth=4), 2)
    # All three tiles first; one more fits beside them, the other two of iteration 1 wait for the slots of iteration 0.
    assert times.start["load"].tolist() == [0, 2, 4, 6, 18, 20]
    assert times.start["work"].tolist() == [6, 10, 14, 22, 26, 30]
    assert times.finish["work"].tolist() == [10, 14, 18, 26, 30, 34]
    changes, tiles = times.occupancy(times.pipeline.edges[0])
    assert changes.tolist() == [0, 2, 4, 6, 18, 20, 34]
    assert tiles.tolist() == [1, 2, 3, 4, 2, 3, 0]


def test_a_reduction_by_hand():
    stages = Stage("rows", 2, repeats=3), Stage("norm", 5)
    times = schedule(Pipeline(stages, (Edge("rows", "norm", 1, every=3),)), 2)
    assert times.start["rows"].tolist() == [0, 2, 4, 6, 8, 11]  # the last one needs the slot of the sum before
    assert times.start["norm"].tolist() == [6, 13]
    changes, tiles = times.occupancy(times.pipeline.edges[0])
    assert list(zip(changes.tolist(), tiles.tolist(), strict=True)) == [(4, 1), (11, 1), (18, 0)]


def test_tiles_that_are_read_again():
    stages = Stage("weights", 10), Stage("rows", 3, repeats=4)
    times = schedule(Pipeline(stages, (Edge("weights", "rows", 1, reuse=4),)), 2)
    assert times.start["rows"].tolist() == [10, 13, 16, 19, 32, 35, 38, 41]
    assert times.start["weights"].tolist() == [0, 22]


def test_a_schedule_is_lawful():
    for pipeline in random_rates_that_run(5, 40, shared=2):
        times = schedule(pipeline, 50)
        for stage in pipeline.stages:
            start, finish = times.start[stage.name], times.finish[stage.name]
            assert start.dtype == finish.dtype == np.int64 and len(start) == 50 * stage.repeats
            assert (start[1:] >= finish[:-1]).all() and start[0] >= 0
            assert (finish - start)[0] == stage.first_cycles and (finish - start)[1:].tolist() == (
                [stage.service_cycles] * (len(start) - 1)
            )
            assert times.busy_cycles(stage.name) == (finish - start).sum()
        for edge in pipeline.edges:
            changes, tiles = times.occupancy(edge)
            assert (np.diff(changes) > 0).all() and (tiles >= 0).all() and tiles[-1] == 0
            assert tiles.max() <= edge.depth
        for resource in pipeline.shared:
            _, starts, finishes = times.served(resource)
            assert (starts[1:] >= finishes[:-1]).all()
            assert len(starts) == sum(50 * s.repeats for s in pipeline.stages if s.name in resource.stages)
        assert times.makespan_cycles == max(finish.max() for finish in times.finish.values())


def test_a_turn_starts_in_the_very_cycle_in_which_its_slot_is_free():
    for service, start in ((8, 8), (9, 9)):
        times = schedule(chain([3, service - 3], depth=1), 2)
        assert times.start["s0"][1] == start
    for depth, start in ((1, 13), (2, 3)):
        assert schedule(chain([3, 10], depth=depth), 2).start["s0"][1] == start


def test_a_buffer_of_several_readers():
    stages = Stage("make", 2), Stage("quick", 1), Stage("slow", 7)
    pipeline = Pipeline(stages, (Edge("make", "quick", 2), Edge("make", "slow", 2)))
    times = schedule(pipeline, 3)
    assert times.start["make"].tolist() == [0, 2, 9]  # the slower reader decides
    quick, slow = (dict(zip(*map(np.ndarray.tolist, times.occupancy(edge)), strict=True)) for edge in pipeline.edges)
    assert quick == {0: 1, 2: 2, 3: 1, 5: 0, 9: 1, 12: 0}
    assert slow == {0: 1, 2: 2, 9: 2, 16: 1, 23: 0}


def test_who_is_served_by_hand():
    times = schedule(load_work_store(7, 2, 4), 2)
    stages, starts, finishes = times.served(times.pipeline.shared[0])
    assert stages.tolist() == [0, 0, 2, 2]
    assert starts.tolist() == [0, 7, 14, 18] and finishes.tolist() == [7, 14, 18, 22]


def test_services_of_single_turns():
    pipeline = transposed(2, 1, 1, depth=4)
    times = schedule(pipeline, 2, {"work": [1, 2, 3, 4]})
    assert times.finish["work"].tolist() == [3, 5, 8, 12]
    assert times.finish["load"].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(schedule(pipeline, 2, {"work": np.array([1, 2, 3, 4])}).finish["work"], [3, 5, 8, 12])
    same = schedule(pipeline, 9, {"load": [1] * 18, "work": [1] * 18})
    for name, finish in schedule(pipeline, 9).finish.items():
        np.testing.assert_array_equal(same.finish[name], finish)


def test_services_that_do_not_fit_are_refused():
    pipeline = transposed(2, 1, 1, depth=4)
    with pytest.raises(ShapeError, match="5 for stage 'load'\n  allowed: 6: 3 iterations of 2 turns"):
        schedule(pipeline, 3, {"load": [1] * 5})
    with pytest.raises(UnknownNameError, match="did you mean 'load'"):
        schedule(pipeline, 3, {"laod": [1] * 6})
    for bad in ([1, -1, 1, 1], np.array([1, -1, 1, 1]), [1, 0.5, 1, 1]):
        with pytest.raises(ArgumentError, match="whole number(.|\n)*turn 1 of stage 'work'"):
            schedule(pipeline, 2, {"work": bad})


@pytest.mark.parametrize(
    ("services", "told"),
    [
        (3, "one int"),
        (np.ones((4, 1), int), r"an array of shape \(4, 1\)"),
        (np.int64(3), r"an array of shape \(\)"),
        ({1: 2}, "one dict"),
        (jnp.ones(3), "3"),
    ],
)
def test_services_that_are_no_row_of_turns_are_refused(services, told):
    with pytest.raises(ShapeError, match=f"given:   {told} for stage 'work'\n  allowed: 4: 2 iterations of 2 turns"):
        schedule(transposed(2, 1, 1, depth=4), 2, {"work": services})


@pytest.mark.parametrize("services", [3, [[1, 1]], np.ones((2, 2), int), "load"])
def test_services_are_given_by_stage(services):
    with pytest.raises(ArgumentError, match="given by stage(.|\n)*where:   service_cycles"):
        schedule(chain([1, 2]), 2, services)


def test_smooth_services_of_turns_have_no_exact_time():
    for smooth in (jnp.array([1.0, 2.0]), [1, jnp.float32(2)]):
        with pytest.raises(ConcretenessError, match="turn [01] of stage 's0'"):
            schedule(chain([1, 2]), 2, {"s0": smooth})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (3, "one int"),
        ([3, 5], "2 rows of lengths one int"),
        ([[3, 5], [3]], "2 rows of lengths 1, 2"),
        (np.ones((2, 2, 2), int), r"an array of shape \(2, 2, 2\)"),
        (np.array(3), r"an array of shape \(\)"),
    ],
)
def test_a_table_of_services_has_the_shape_of_the_turns(table, told):
    with pytest.raises(ShapeError, match=rf"given:   {told}\n  allowed: \[2, 2\]"):
        finish_times(chain([3, 5]), 2, table)


def test_finish_times_are_those_of_an_iterations_last_turn():
    times = schedule(transposed(3, 2, 4, depth=4), 2)
    assert finish_times(times.pipeline, 2).tolist() == [
        [times.finish["load"][2], times.finish["work"][2]],
        [times.finish["load"][5], times.finish["work"][5]],
    ]


def test_parts_are_timed_apart_and_told_in_order():
    fast, slow = chain([3, 3]), Pipeline((Stage("x", 7), Stage("y", 4)), (Edge("x", "y", 1),))
    both = Pipeline((slow.stages[0], *fast.stages, slow.stages[1]), (*slow.edges, *fast.edges))
    times = schedule(both, 5000)
    assert list(times.start) == list(times.finish) == ["x", "s0", "s1", "y"]
    np.testing.assert_array_equal(times.finish["y"], schedule(slow, 5000).finish["y"])
    np.testing.assert_array_equal(times.finish["s1"], schedule(fast, 5000).finish["s1"])


def test_what_is_not_of_the_pipeline_is_refused():
    times = schedule(load_work_store(7, 2, 4), 2)
    with pytest.raises(UnknownNameError, match="unknown stage(.|\n)*did you mean 'load'"):
        times.busy_cycles("laod")
    with pytest.raises(UnknownNameError, match="unknown edge"):
        times.occupancy(replace(times.pipeline.edges[0], depth=7))
    for strange in (Shared("ddr", ()), Shared("hbm", ("load",)), "hbm"):
        with pytest.raises(UnknownNameError, match="unknown shared resource(.|\n)*allowed: (.|\n)*Shared.name='hbm'"):
            times.served(strange)


def test_a_resource_that_nobody_uses_serves_nobody():
    idle = Shared("idle", ())
    served = schedule(replace(chain([1, 2]), shared=(idle,)), 3).served(idle)
    assert [(each.dtype, each.shape) for each in served] == [(np.dtype(np.int64), (0,))] * 3


def test_the_example_of_the_docstring():
    result = doctest.testmod(sys.modules[schedule.__module__])
    assert result.attempted == 4 and result.failed == 0
