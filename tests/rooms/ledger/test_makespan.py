"""Long streams without simulating them, and the critical path: every cycle of the makespan given to a stage."""

import doctest
import random
import sys
from dataclasses import replace

from rdujax.ledger import (
    Cause,
    Edge,
    Pipeline,
    Stage,
    attribution,
    closed_form_cycles,
    critical_path_cycles,
    critical_stage,
    finish_times,
    makespan_cycles,
    schedule,
)
from tests.rooms.ledger.pipelines import (
    bypass,
    chain,
    load_work_store,
    random_pipelines,
    random_rates_that_run,
    transposed,
)

TURNS = (1, 2, 3, 4, 7, 12, 30, 59, 60, 400)


def test_every_evaluator_agrees_with_the_recurrence():
    equal = above = 0
    for pipeline in random_pipelines(7, 250):
        by_recurrence = finish_times(pipeline, max(TURNS)).max(axis=1)
        for turns in TURNS:
            makespan = int(by_recurrence[turns - 1])
            closed = closed_form_cycles(pipeline, turns)
            assert makespan_cycles(pipeline, turns) == makespan
            assert closed <= makespan
            equal, above = equal + (closed == makespan), above + (closed < makespan)
            assert sum(critical_path_cycles(pipeline, turns).values()) == makespan
    assert equal > 500 and above > 500


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
    # Turn after turn, this would take some thousand years.
    makespans = [makespan_cycles(pipeline, 10**15) for pipeline in pipelines]
    slowest = max(stage.service_cycles for stage in pipelines[1].stages)
    assert makespans[1] == sum(s.service_cycles for s in pipelines[1].stages) + (10**15 - 1) * slowest
    assert makespans[0] > makespans[1] > 2**62


def test_chains_of_thousands_of_stages():
    """Linear in the stages: anything cubic (a proof per stage over all stages) would take hours here."""
    services = [i % 7 + 1 for i in range(3000)]
    pipeline = chain(services)
    assert makespan_cycles(pipeline, 1000) == sum(services) + 999 * 7
    found = attribution(pipeline, 1000)
    assert found.makespan_cycles == makespan_cycles(pipeline, 1000)
    assert sorted(set(found.turns.values())) == [1, 1000] and sum(found.turns.values()) == 2999 + 1000


def test_the_critical_path_by_hand():
    assert critical_path_cycles(chain([3, 5, 2]), 10) == {"s0": 3, "s1": 50, "s2": 2}
    assert critical_path_cycles(chain([3, 5], depth=1), 10) == {"s0": 30, "s1": 50}
    assert critical_stage(chain([3, 5, 2]), 10) == "s1"
    assert critical_stage(chain([30, 5, 2]), 1) == "s0"
    loaded = Pipeline((Stage("a", 3), Stage("b", 4, first_service_cycles=100)), (Edge("a", "b"),))
    assert critical_path_cycles(loaded, 5) == {"a": 3, "b": 116}


def test_slowing_a_stage_costs_at_least_its_turns_on_the_critical_path():
    for pipeline in random_pipelines(23, 60):
        pipeline = replace(pipeline, stages=tuple(Stage(s.name, s.service_cycles + 1) for s in pipeline.stages))
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


def test_unequal_rates_and_shared_resources_are_extrapolated_exactly():
    for pipeline in random_rates_that_run(17, 40, shared=2):
        for iterations in (1, 2, 3, 5, 50, 600):
            # Services turn by turn keep the recurrence from being cut short.
            services = {
                s.name: [s.first_cycles] + [s.service_cycles] * (iterations * s.repeats - 1) for s in pipeline.stages
            }
            last = schedule(pipeline, iterations, services).makespan_cycles
            assert makespan_cycles(pipeline, iterations) == last
            assert attribution(pipeline, iterations).makespan_cycles == last


def test_a_barrier_by_hand():
    # Twice the tiles: loading and working overlap. Once the tiles, and one more: they all but do not.
    assert makespan_cycles(transposed(10, 3, 5, depth=20), 10**6) == 30 + 50 * 10**6
    assert makespan_cycles(transposed(10, 3, 5, depth=10), 10**6) == (30 + 50) * 10**6
    assert makespan_cycles(transposed(10, 3, 5, depth=11), 10**6) == 3 + (27 + 50) * 10**6


def test_a_shared_port_by_hand():
    # Load i + 2 comes before store i, so that the port never rests: 7 + 4 cycles an iteration.
    assert makespan_cycles(load_work_store(7, 2, 4), 1) == 13
    assert makespan_cycles(load_work_store(7, 2, 4), 10**6) == 11 * 10**6
    # One slot: a tile is loaded only once the tile before it has been worked on.
    assert makespan_cycles(load_work_store(7, 2, 4, depth=1), 10**6) == 13 * 10**6


def test_attribution_by_hand():
    cycles = attribution(chain([3, 5, 2]), 10)
    assert cycles.cycles == {("s0", Cause.TILE): 3, ("s1", Cause.STAGE): 45, ("s1", Cause.TILE): 5, ("s2", None): 2}
    assert cycles.turns == {"s0": 1, "s1": 10, "s2": 1}
    full = attribution(chain([3, 5], depth=1), 10)
    assert full.cycles == {("s0", Cause.TILE): 30, ("s1", Cause.SLOT): 45, ("s1", None): 5}
    assert str(full).splitlines() == [
        "              45  s1: then a turn that waited for a free slot",
        "              30  s0: then a turn that waited for a tile",
        "               5  s1: then the end",
    ]
    port = attribution(load_work_store(7, 2, 4), 1000)
    assert port.by_stage() == {"load": 7000, "work": 0, "store": 4000}
    assert port.cycles["load", Cause.SHARED] + port.cycles["store", Cause.SHARED] > 10_900


def test_turns_times_service_are_the_cycles():
    for pipeline in random_rates_that_run(29, 30, shared=1):
        even = replace(pipeline, stages=tuple(replace(s, first_service_cycles=None) for s in pipeline.stages))
        for iterations in (1, 3, 200, 10**9):
            found = attribution(even, iterations)
            assert found.makespan_cycles == makespan_cycles(even, iterations)
            for stage in even.stages:
                assert found.by_stage()[stage.name] == found.turns[stage.name] * stage.service_cycles
                assert found.turns[stage.name] <= iterations * stage.repeats


def test_slowing_a_stage_of_any_rate_costs_its_turns_on_the_critical_path():
    for pipeline in random_rates_that_run(31, 25, shared=1):
        # Long and odd services: where one path wins by more than a cycle, its turns are the derivative exactly.
        stages = tuple(Stage(s.name, 1000 + 97 * i * i, repeats=s.repeats) for i, s in enumerate(pipeline.stages))
        pipeline = replace(pipeline, stages=stages)
        before, turns = makespan_cycles(pipeline, 20), attribution(pipeline, 20).turns
        for at, stage in enumerate(stages):
            for more in (1, -1):
                moved = replace(stage, service_cycles=stage.service_cycles + more)
                after = makespan_cycles(replace(pipeline, stages=(*stages[:at], moved, *stages[at + 1 :])), 20)
                assert after - before >= more * turns[stage.name]


def test_the_example_of_the_docstring():
    result = doctest.testmod(sys.modules[makespan_cycles.__module__])
    assert result.attempted == 4 and result.failed == 0
