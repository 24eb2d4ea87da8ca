"""Stretches that are told in advance: as long as they can be, and not a lap longer."""

import random
from dataclasses import replace

import numpy as np
import pytest

from rdujax.ledger import Edge, Pipeline, Shared, Stage, attribution, makespan_cycles
from rdujax.ledger.recurrence import Run, run
from rdujax.ledger.stretches import Stretch, laps_ahead, may_repeat, of_round
from rdujax.ledger.waits import expand
from tests.rooms.ledger.pipelines import random_rates_that_run


def filling(depth: int, services: tuple[int, ...] = (90, 99, 100, 98)) -> Pipeline:
    """Buffers that fill up by a tile every so many turns, since each stage is a little quicker than the next."""
    stages = tuple(Stage(f"s{i}", service, repeats=2) for i, service in enumerate(services))
    edges = tuple(Edge(a.name, b.name, depth) for a, b in zip(stages, stages[1:], strict=False))
    return Pipeline(stages, edges)


def turn_by_turn(pipeline: Pipeline, iterations: int) -> Run:
    """The same stream, computed row by row."""
    services = {s.name: [s.first_cycles] + [s.service_cycles] * (iterations * s.repeats - 1) for s in pipeline.stages}
    return run(pipeline, iterations, services)


@pytest.mark.parametrize("depth", [3, 6, 11])
def test_a_buffer_that_fills_is_told_in_a_few_stretches(depth):
    pipeline = filling(depth)
    short, whole = run(pipeline, 3000), turn_by_turn(pipeline, 3000)
    np.testing.assert_array_equal(short.finishes(), whole.finishes())
    assert sum(len(stretch.rows) for stretch in short.stretches) < 200
    finite = [stretch for stretch in short.stretches if stretch.laps]
    # While the buffers fill, the stages keep paces of their own.
    assert finite and len(set(finite[-1].steps[0])) > 1
    assert set(short.stretches[-1].steps[0]) == {200}


def test_a_stretch_ends_in_the_lap_in_which_something_overtakes():
    pipeline = filling(6)
    form, whole = expand(pipeline), turn_by_turn(pipeline, 400)
    rows = whole.stretches[0].rows
    service = [stage.service_cycles for stage in pipeline.stages for _ in range(2)]
    steps, laps = laps_ahead(form, service, rows[:12], 1)  # pyright: ignore[reportGeneralTypeIssues]
    assert laps is not None and laps > 10
    for lap in range(1, laps + 2):
        even = [base + lap * step for base, step in zip(rows[11], steps[0], strict=True)]
        assert (rows[11 + lap] == even) is (lap <= laps)


def test_nearly_equal_stages_of_random_pipelines():
    rng = random.Random(12)
    told = 0
    for pipeline in random_rates_that_run(33, 40, shared=1):
        stages = tuple(replace(s, service_cycles=rng.randint(95, 100) * 12 // s.repeats) for s in pipeline.stages)
        edges = tuple(replace(edge, depth=edge.depth + rng.choice([0, 5, 20])) for edge in pipeline.edges)
        for part in replace(pipeline, stages=stages, edges=edges).parts:
            short, whole = run(part, 900), turn_by_turn(part, 900)
            np.testing.assert_array_equal(short.finishes(), whole.finishes())
            told += len(short.stretches) > 1
            for iterations in (333, 900, 10**7):
                assert attribution(part, iterations).makespan_cycles == makespan_cycles(part, iterations)
    assert told > 3


def test_deep_buffers_of_near_ties_are_arithmetic():
    pipeline = replace(filling(500, (8190, 8191, 8192, 8189)), shared=(Shared("port", ("s0", "s3")),))
    times = run(pipeline, 10**12)
    assert sum(len(stretch.rows) for stretch in times.stretches) < 10_000
    assert times.makespan_cycles == makespan_cycles(pipeline, 10**12) > 2 * 8192 * 10**12
    assert attribution(pipeline, 10**12).makespan_cycles == times.makespan_cycles


def test_what_is_not_even_is_not_told():
    pipeline = filling(6)
    form, rows = expand(pipeline), turn_by_turn(pipeline, 30).stretches[0].rows
    service = [stage.service_cycles for stage in pipeline.stages for _ in range(2)]
    assert laps_ahead(form, service, rows[:12], 1) is not None
    assert laps_ahead(form, service, rows[:3], 1) is None  # the law looks further back
    bent = [list(row) for row in rows[:12]]
    bent[10][0] += 1
    assert laps_ahead(form, service, bent, 1) is None and not may_repeat(bent, 1)
    late = [[finish + 1000 * (node == 7) for node, finish in enumerate(row)] for row in rows[:12]]
    assert may_repeat(late, 1) and laps_ahead(form, service, late, 1) is None  # even, but not what the law gives


def test_rounds_are_looked_up():
    stretches = [Stretch(0, [[0], [2]], 1, [[3]], 4), Stretch(5, [[14], [15]], 2, [[5], [7]], None)]
    assert [of_round(stretches, round_) for round_ in (0, 4, 5, 99)] == [0, 0, 1, 1]
    assert [stretches[0].finish(round_, 0) for round_ in range(5)] == [0, 2, 5, 8, 11]
    assert [stretches[1].finish(round_, 0) for round_ in range(5, 11)] == [14, 15, 19, 22, 24, 29]
