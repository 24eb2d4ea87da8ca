"""The pipeline recurrence against discrete-event simulation: two independent roads to every finish time (law L4).

The simulation is written with SimPy processes that know nothing of the recurrence. Two kinds of buffer are simulated.
*Slots*: a slot is taken when the producer starts and given back when the consumer finishes; this is the machine's stage
buffer. *Queues*: a consumer takes its tile out when it starts, and a producer holds its finished tile until the queue
has room; queues are not the machine's, but a pipeline with zero-service stages around each queue has their timing, so
that known tables of queue networks test the same recurrence.
"""

import random

import numpy as np
import pytest
import simpy

from rdujax.ledger import Edge, Pipeline, Stage, closed_form_cycles, finish_times
from tests.rooms.ledger.pipelines import at_full_rate, bypass, random_pipeline


def simulate_slots(pipeline: Pipeline, services: np.ndarray) -> np.ndarray:
    """Finish times [turns, stages] by SimPy; services [turns, stages]."""
    env = simpy.Environment()
    tiles = [simpy.Container(env) for _ in pipeline.edges]
    slots = [simpy.Container(env, init=edge.depth) for edge in pipeline.edges]
    finish = np.full(services.shape, -1, np.int64)

    def work(column: int, name: str):
        reads = [i for i, edge in enumerate(pipeline.edges) if edge.consumer == name]
        writes = [i for i, edge in enumerate(pipeline.edges) if edge.producer == name]
        for turn, service in enumerate(services[:, column].tolist()):
            for buffer in writes:
                yield slots[buffer].get(1)
            for buffer in reads:
                yield tiles[buffer].get(1)
            yield env.timeout(service)
            finish[turn, column] = env.now
            for buffer in writes:
                yield tiles[buffer].put(1)
            for buffer in reads:
                yield slots[buffer].put(1)

    for column, stage in enumerate(pipeline.stages):
        env.process(work(column, stage.name))
    env.run()
    return finish


def simulate_queues(services: np.ndarray, depth: int) -> np.ndarray:
    """Times [turns, stages] at which each stage of a chain is rid of each tile; services [turns, stages]."""
    env = simpy.Environment()
    stages = services.shape[1]
    queues = [simpy.Store(env, capacity=depth) for _ in range(stages - 1)]
    out = np.full(services.shape, -1, np.int64)

    def work(stage: int):
        for turn, service in enumerate(services[:, stage].tolist()):
            if stage:
                yield queues[stage - 1].get()
            yield env.timeout(service)
            if stage < stages - 1:
                yield queues[stage].put(turn)
            out[turn, stage] = env.now

    for stage in range(stages):
        env.process(work(stage))
    env.run()
    return out


def queue_pipeline(stages: int, depth: int) -> Pipeline:
    """A chain with queues, in slots: work -(1)-> push -(depth)-> pop -(1)-> work ..., push and pop taking no time."""
    names = ["work0"] + [f"{kind}{i}" for i in range(1, stages) for kind in ("push", "pop", "work")]
    depths = [1, depth, 1] * (stages - 1)
    edges = [Edge(a, b, d) for a, b, d in zip(names, names[1:], depths, strict=False)]
    # A stage takes its next tile only when it is rid of the one before, not already when it has computed it.
    edges += [Edge(f"pop{i}", f"push{i + 1}", 1) for i in range(1, stages - 1)]
    return Pipeline([Stage(name, 0) for name in names], edges)


def queue_times(services: np.ndarray, depth: int) -> np.ndarray:
    """What `simulate_queues` gives, by the recurrence."""
    turns, stages = services.shape
    pipeline = queue_pipeline(stages, depth)
    spread = np.zeros((turns, len(pipeline.stages)), np.int64)
    spread[:, ::3] = services
    times = finish_times(pipeline, turns, service_cycles=spread)
    return np.concatenate([times[:, 1::3], times[:, -1:]], axis=1)  # a tile is out once it is pushed


def constant_services(pipeline: Pipeline, turns: int) -> np.ndarray:
    return np.array([pipeline.service(turn) for turn in range(turns)])


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs_finish_every_tile_in_the_same_cycle(seed):
    rng = random.Random(seed)
    for i in range(10):
        pipeline = random_pipeline(rng, slowest_cycles=25, first=i % 2 == 1)
        pipeline = at_full_rate(pipeline) if i % 5 == 4 else pipeline
        services = constant_services(pipeline, 24)
        np.testing.assert_array_equal(finish_times(pipeline, 24), simulate_slots(pipeline, services))


def test_random_services_in_every_turn():
    rng = random.Random(99)
    for _ in range(20):
        pipeline = random_pipeline(rng)
        services = np.random.default_rng(rng.randrange(2**32)).integers(0, 30, (24, len(pipeline.stages)))
        by_recurrence = finish_times(pipeline, 24, service_cycles=services)
        np.testing.assert_array_equal(by_recurrence, simulate_slots(pipeline, services))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12])
def test_a_residual_edge_across_twelve_stages(depth):
    pipeline = bypass(12, depth)
    services = constant_services(pipeline, 60)
    np.testing.assert_array_equal(finish_times(pipeline, 60), simulate_slots(pipeline, services))


@pytest.mark.parametrize(
    ("services", "turns", "finish"),
    [
        ([10, 30, 20], 16, 510),
        ([32] * 4, 64, 2_144),
        ([5, 50, 5, 50, 5], 100, 5_065),
        ([7, 13, 11, 29, 3, 17], 200, 5_851),
        ([94, 126, 94], 1000, 126_188),
    ],
)
def test_constant_services_through_queues_of_any_depth(services, turns, finish):
    table = np.tile(np.array(services), (turns, 1))
    for depth in (1, 3):
        assert simulate_queues(table, depth)[-1, -1] == queue_times(table, depth)[-1, -1] == finish
    slots = Pipeline(
        [Stage(f"s{i}", s) for i, s in enumerate(services)],
        [Edge(f"s{i}", f"s{i + 1}", 2) for i in range(len(services) - 1)],
    )
    assert closed_form_cycles(slots, turns) == finish_times(slots, turns)[-1, -1] == finish


@pytest.mark.parametrize(
    ("stages", "phase", "slow", "fast", "turns", "finish"),
    [
        (3, 8, 40, 10, 96, {1: 3_440, 2: 3_200, 4: 3_020, 8: 2_810, 64: 2_420}),
        (4, 4, 100, 20, 64, {1: 5_380, 2: 4_780, 4: 4_300, 8: 3_820, 64: 3_580}),
    ],
)
def test_a_bottleneck_that_wanders_through_queues(stages, phase, slow, fast, turns, finish):
    turn, stage = np.indices((turns, stages))
    services = np.where((turn // phase) % stages == stage, slow, fast)
    for depth, last in finish.items():
        by_recurrence = queue_times(services, depth)
        assert by_recurrence[-1, -1] == last
        np.testing.assert_array_equal(by_recurrence, simulate_queues(services, depth))
