"""The rate in the long run, the circuit that holds it back, and buffers deep enough to hold nothing back."""

import random
from dataclasses import replace
from fractions import Fraction

import jax.numpy as jnp
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError
from rdujax.ledger import Cause, Edge, Pipeline, Shared, Stage, full_rate_depths, makespan_cycles, steady_state
from tests.rooms.ledger.pipelines import (
    at_full_rate,
    bypass,
    chain,
    load_work_store,
    random_pipeline,
    random_rates,
    random_rates_that_run,
    transposed,
)


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


def slowest_stage(pipeline: Pipeline) -> int:
    return max(stage.repeats * stage.service_cycles for stage in pipeline.stages)


def test_the_rule_keeps_full_rate_at_unequal_rates():
    rng = random.Random(6)
    for _ in range(60):
        pipeline = at_full_rate(random_rates(rng))  # whether it was stuck before or not
        assert steady_state(pipeline).cycles_per_iteration == slowest_stage(pipeline)


def test_the_rule_keeps_full_rate_where_ports_are_shared():
    rng = random.Random(8)
    for _ in range(40):
        pipeline = at_full_rate(random_pipeline(rng, slowest_cycles=9))
        names = [stage.name for stage in pipeline.stages]
        service = {stage.name: stage.service_cycles for stage in pipeline.stages}
        port = Shared("port", tuple(rng.sample(names, rng.randint(1, len(names)))))
        busiest = max(slowest_stage(pipeline), sum(service[name] for name in port.stages))
        assert steady_state(replace(pipeline, shared=(port,))).cycles_per_iteration == busiest


@pytest.mark.parametrize(
    ("tiles", "edge", "depth"),
    [
        (8, Edge("a", "b", 8, consumed=8, reuse=8), 16),  # a barrier: all tiles of two iterations
        (8, Edge("a", "b", 8), 2),
        (8, Edge("a", "b", 8, every=8, reuse=8), 2),  # one tile per iteration, read again by every turn
        (8, Edge("a", "b", 8, consumed=4, reuse=4), 8),
        (8, Edge("a", "b", 8, produced=2, consumed=2), 4),
    ],
)
def test_one_slot_less_than_the_rule_is_not_enough(tiles, edge, depth):
    stages = Stage("a", 10, repeats=tiles), Stage("b", 10, repeats=tiles)
    assert full_rate_depths(Pipeline(stages, (edge,))) == {("a", "b"): depth}
    for slots, full in ((depth, True), (depth - 1, False)):
        pipeline = Pipeline(stages, (replace(edge, depth=slots),))
        assert (steady_state(pipeline).cycles_per_iteration == slowest_stage(pipeline)) is full


def test_the_deepest_of_several_edges_counts():
    stages = Stage("a", 1, repeats=4), Stage("b", 1, repeats=4)
    edges = Edge("a", "b", 4), Edge("a", "b", 4, consumed=4, reuse=4)
    assert full_rate_depths(Pipeline(stages, edges)) == {("a", "b"): 8}


def test_a_pipeline_that_is_stuck_is_told_how_deep_it_must_be():
    row = Stage("load", 1, repeats=4), Stage("sum", 1, repeats=4), Stage("divide", 1, repeats=4)
    edges = Edge("load", "sum"), Edge("sum", "divide", every=4, reuse=4), Edge("load", "divide", 1)
    pipeline = Pipeline(row, edges)
    with pytest.raises(ArgumentError, match="a deadlock"):
        steady_state(pipeline)
    assert full_rate_depths(pipeline)["load", "divide"] > 4
    assert steady_state(at_full_rate(pipeline)).cycles_per_iteration == 4


def test_long_streams_settle_at_the_steady_rate():
    for pipeline in random_rates_that_run(13, 50, shared=2):
        steady = steady_state(pipeline)
        laps = 1000 * steady.iterations
        near, far = (makespan_cycles(pipeline, 10**6 + n) for n in (0, laps))
        # Between two laps of the circuit nothing is lost, once the stream is in its period.
        period = steady.cycles_per_iteration * laps
        assert abs(far - near - period) <= sum(s.repeats * s.service_cycles for s in pipeline.stages)
        services = {stage.name: stage.service_cycles for stage in pipeline.stages}
        around = sum(services[stage] for stage, _, _ in steady.circuit)
        assert Fraction(around, steady.iterations) == steady.cycles_per_iteration


def test_the_bottleneck_is_named():
    slow = steady_state(chain([3, 5, 2]))
    assert (slow.cycles_per_iteration, slow.stages, slow.iterations) == (5, ("s1",), 1)
    assert [wait.cause for _, _, wait in slow.circuit] == [Cause.STAGE]
    shallow = steady_state(bypass(12, depth=7))
    assert shallow.cycles_per_iteration == Fraction(120, 7) and shallow.iterations == 7
    assert {wait.cause for _, _, wait in shallow.circuit} == {Cause.TILE, Cause.SLOT}
    assert "a free slot of edge 's0' -> 's11'" in str(shallow)
    port = steady_state(load_work_store(7, 2, 4))
    assert (port.cycles_per_iteration, set(port.stages)) == (11, {"load", "store"})
    assert str(port).startswith("11 cycles per iteration: '")
    assert str(slow) == "5 cycles per iteration: 's1' waits for the turn before"
    assert str(steady_state(chain([1]))).startswith("1 cycle per iteration: ")
    assert str(shallow).startswith("17.1429 cycles per iteration, 7 iterations a lap: 's")
    rows = steady_state(Pipeline((Stage("rows", 2, repeats=2),)))
    assert str(rows) == (
        "4 cycles per iteration: turn 1 of 'rows' waits for the turn before; turn 0 of 'rows' waits for the turn before"
    )
    barrier = steady_state(transposed(4, 3, 5, depth=4))
    assert (barrier.cycles_per_iteration, set(barrier.stages)) == (32, {"load", "work"})


def test_relaxed_services_have_no_exact_rate():
    with pytest.raises(ConcretenessError, match="stage 's0'"):
        steady_state(chain([jnp.float32(3), 4]))
