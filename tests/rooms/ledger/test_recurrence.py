"""The rows of a stream: cut short where they repeat, and the same as if they were not."""

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.ledger import Pipeline, Stage
from rdujax.ledger.recurrence import run
from tests.rooms.ledger.pipelines import bypass, chain, load_work_store, random_rates_that_run, transposed


def turn_by_turn(pipeline: Pipeline, iterations: int) -> dict[str, list[int]]:
    """Services that the recurrence cannot know to repeat."""
    return {s.name: [s.first_cycles] + [s.service_cycles] * (iterations * s.repeats - 1) for s in pipeline.stages}


def test_a_run_that_is_cut_short_tells_every_row():
    for pipeline in random_rates_that_run(2, 40, shared=2):
        for part in pipeline.parts:
            short, whole = run(part, 300), run(part, 300, turn_by_turn(part, 300))
            assert [len(stretch.rows) for stretch in whole.stretches] == [300]
            assert [short.row(r) for r in range(short.rounds)] == [whole.row(r) for r in range(whole.rounds)]
            np.testing.assert_array_equal(short.finishes(), whole.finishes())
            np.testing.assert_array_equal(short.services(), whole.services())


@pytest.mark.parametrize(
    "pipeline", [bypass(12, depth=7), transposed(4, 3, 5, depth=6), load_work_store(3, 1, 2)], ids=str
)
def test_long_streams_are_cut_short(pipeline):
    times = run(pipeline, 10**12)
    last = times.stretches[-1]
    assert sum(len(stretch.rows) for stretch in times.stretches) < 100 and last.laps is None
    assert len({tuple(step) for step in last.steps}) == 1 and len(set(last.steps[0])) == 1
    assert times.row(10**11) == [f + last.steps[0][0] for f in times.row(10**11 - last.period)]
    assert times.finish(10**11, 0) == times.row(10**11)[0]


def test_the_period_of_a_shallow_buffer_is_of_several_turns():
    last = run(bypass(12, depth=7), 1000).stretches[-1]
    assert (last.period, last.steps[0][0]) == (7, 120)  # twelve stages of 10 cycles, seven tiles at a time


def test_turns_that_there_are_not_take_no_time():
    times = run(load_work_store(7, 2, 4), 2)
    assert times.form.lags == (0, 1, 2) and times.rounds == 4
    assert [[times.lives(r, node) for node in range(3)] for r in range(4)] == [
        [True, False, False],
        [True, True, False],
        [False, True, True],
        [False, False, True],
    ]
    assert [times.service(r, 2) for r in range(4)] == [0, 0, 4, 4]
    assert times.row(0) == [7, 0, 0] and times.row(3) == [14, 16, 22]


def test_times_beyond_int64_are_refused_as_arrays_only():
    one = Pipeline((Stage("a", 2**62),))
    assert run(one, 3).makespan_cycles == 3 * 2**62
    with pytest.raises(ArgumentError, match="largest int64"):
        run(one, 2).finishes()
    assert run(Pipeline((Stage("a", 2**62 - 1, 2**62),)), 2).finishes().tolist() == [[2**62], [2**63 - 1]]


def test_a_chain_is_even_after_its_fill():
    [stretch] = run(chain([3, 5, 2]), 10**9).stretches
    assert (stretch.period, stretch.laps, stretch.steps) == (1, None, [[5, 5, 5]])
