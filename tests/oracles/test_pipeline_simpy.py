"""The pipeline recurrence against discrete-event simulation: two independent roads to every finish time (law L4).

Two kinds of buffer are simulated. *Slots* (`pipeline_simulation.py`): a slot is taken when the producer starts and
given back when the consumer finishes; this is the machine's stage buffer. *Queues* (here): a consumer takes its tile
out when it starts, and a producer holds its finished tile until the queue has room; queues are not the machine's, but a
pipeline with zero-service stages around each queue has their timing, so that known tables of queue networks test the
same recurrence.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
import simpy

from rdujax.base.errors import ArgumentError
from rdujax.ledger import Edge, Pipeline, Shared, Stage, closed_form_cycles, finish_times, makespan_cycles, schedule
from tests.oracles.pipeline_simulation import Stuck, simulate
from tests.rooms.ledger.pipelines import at_full_rate, bypass, random_pipeline, random_rates


def simulate_slots(pipeline: Pipeline, services: np.ndarray) -> np.ndarray:
    """Finish times [turns, stages] of one turn per iteration by SimPy; services [turns, stages]."""
    by_stage = {stage.name: services[:, at].tolist() for at, stage in enumerate(pipeline.stages)}
    finish = simulate(pipeline, len(services), by_stage)
    return np.stack([finish[stage.name] for stage in pipeline.stages], axis=1)


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


def random_services(pipeline: Pipeline, iterations: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {stage.name: rng.integers(0, 30, iterations * stage.repeats) for stage in pipeline.stages}


def agree(pipeline: Pipeline, iterations: int, services: dict | None = None) -> bool:
    """Asserts that both finish every turn in the same cycle, or both find a deadlock; True for the first."""
    try:
        simulated = simulate(pipeline, iterations, services)
    except Stuck:
        with pytest.raises(ArgumentError, match="a deadlock"):
            schedule(pipeline, iterations, services)
        return False
    times = schedule(pipeline, iterations, services)
    assert list(times.finish) == list(simulated)
    for name, finish in simulated.items():
        np.testing.assert_array_equal(times.finish[name], finish)
    if services is None:
        assert makespan_cycles(pipeline, iterations) == max(finish[-1] for finish in simulated.values())
    return True


def check_random_rates(seed: int, count: int, shared: int) -> tuple[int, int]:
    """How many of `count` random pipelines run, and how many are stuck."""
    rng = random.Random(seed)
    run = 0
    for i in range(count):
        pipeline = random_rates(rng, shared=rng.randint(1, shared) if shared else 0)
        iterations = rng.choice([1, 2, 3, 7, 24])
        services = random_services(pipeline, iterations, i) if i % 4 == 3 else None
        run += agree(pipeline, iterations, services)
    return run, count - run


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_unequal_rates_barriers_and_shared_resources(shared):
    run, stuck = check_random_rates(20 + shared, 25, shared)
    assert run > 10 and stuck > 0


@pytest.mark.full
@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_three_hundred_more_graphs_of_unequal_rates(seed, shared):
    run, stuck = check_random_rates(100 + 3 * seed + shared, 50, shared)
    assert run > 25 and stuck > 0


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
def test_three_hundred_more_single_rate_graphs(seed):
    rng = random.Random(1000 + seed)
    for i in range(60):
        pipeline = random_pipeline(rng, most_stages=10, slowest_cycles=rng.choice([2, 25]), first=i % 2 == 1)
        names = [stage.name for stage in pipeline.stages]
        pipeline = at_full_rate(pipeline) if i % 5 == 4 else pipeline
        if i % 3 == 2:
            users = tuple(rng.sample(names, rng.randint(1, len(names))))
            pipeline = replace(pipeline, shared=(Shared("port", users),))
        assert agree(pipeline, 60)
