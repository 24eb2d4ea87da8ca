"""Random pipelines for the tests of this room and of the discrete-event oracle."""

import random
from collections.abc import Iterator
from dataclasses import replace
from math import gcd

from rdujax.base.errors import ArgumentError
from rdujax.ledger import Edge, Pipeline, Shared, Stage, full_rate_depths, makespan_cycles


def random_pipeline(
    rng: random.Random,
    *,
    most_stages: int = 8,
    most_depth: int = 4,
    slowest_cycles: int = 20,
    first: bool = False,
) -> Pipeline:
    """An acyclic single-rate pipeline with fan-in and fan-out, in shuffled order, perhaps in several parts."""
    count = rng.randint(1, most_stages)
    stages = [
        Stage(
            f"s{i}",
            rng.randint(0, slowest_cycles),
            rng.randint(0, 3 * slowest_cycles) if first and rng.random() < 0.5 else None,
        )
        for i in range(count)
    ]
    edges = [
        Edge(f"s{i}", f"s{j}", rng.randint(1, most_depth))
        for i in range(count)
        for j in range(i + 1, count)
        if rng.random() < 0.4
    ]
    rng.shuffle(stages)
    rng.shuffle(edges)
    return Pipeline(tuple(stages), tuple(edges))


def random_pipelines(seed: int, count: int) -> Iterator[Pipeline]:
    """So many single-rate pipelines, half of them with the depths of the skip rule."""
    rng = random.Random(seed)
    for _ in range(count):
        pipeline = random_pipeline(rng, slowest_cycles=rng.choice([2, 20, 100]), first=rng.random() < 0.5)
        yield at_full_rate(pipeline) if rng.random() < 0.5 else pipeline


def random_rates(rng: random.Random, *, most_stages: int = 5, slowest_cycles: int = 12, shared: int = 0) -> Pipeline:
    """A pipeline of unequal rates with barriers and reductions over the stream; its buffers may be too small to go on.

    shared: how many resources its stages may share.
    """
    count = rng.randint(2, most_stages)
    stages = [
        Stage(
            f"s{i}",
            rng.randint(0, slowest_cycles),
            rng.choice([None, None, rng.randint(0, 3 * slowest_cycles)]),
            repeats=rng.choice([1, 1, 1, 2, 3, 4]),
        )
        for i in range(count)
    ]
    edges = [
        _random_edge(rng, producer, consumer)
        for i, producer in enumerate(stages)
        for consumer in stages[i + 1 :]
        if rng.random() < 0.45
    ]
    rng.shuffle(stages)
    rng.shuffle(edges)
    names = [stage.name for stage in stages]
    resources = [Shared(f"r{i}", tuple(rng.sample(names, rng.randint(1, min(count, 3))))) for i in range(shared)]
    return Pipeline(tuple(stages), tuple(edges), tuple(resources))


def random_rates_that_run(seed: int, count: int, *, shared: int) -> Iterator[Pipeline]:
    """So many pipelines of unequal rates, without those that are stuck."""
    rng = random.Random(seed)
    while count:
        pipeline = random_rates(rng, shared=rng.randint(0, shared))
        try:
            makespan_cycles(pipeline, 1)
        except ArgumentError as error:
            assert "deadlock" in str(error)
            continue
        count -= 1
        yield pipeline


def _random_edge(rng: random.Random, producer: Stage, consumer: Stage) -> Edge:
    every = rng.choice([n for n in range(1, producer.repeats + 1) if producer.repeats % n == 0])
    reuse = rng.choice([n for n in range(1, consumer.repeats + 1) if consumer.repeats % n == 0])
    emits, reads = producer.repeats // every, consumer.repeats // reuse
    times = rng.choice([1, 1, 2])
    produced, consumed = times * reads // gcd(emits, reads), times * emits // gcd(emits, reads)
    least = max(produced, consumed)
    depth = least + rng.choice([0, 0, 1, 2, 6])
    return Edge(producer.name, consumer.name, depth, produced, every, consumed, reuse)


def at_full_rate(pipeline: Pipeline) -> Pipeline:
    """The same pipeline with the depths of the skip rule."""
    depths = full_rate_depths(pipeline)
    edges = tuple(replace(edge, depth=depths[edge.producer, edge.consumer]) for edge in pipeline.edges)
    return replace(pipeline, edges=edges)


def chain(services: list, depth: int = 2) -> Pipeline:
    """Stages s0, s1 ... one after another."""
    names = [f"s{i}" for i in range(len(services))]
    edges = tuple(Edge(a, b, depth) for a, b in zip(names, names[1:], strict=False))
    return Pipeline(tuple(map(Stage, names, services)), edges)


def bypass(branch_stages: int, depth: int, service_cycles: int = 10) -> Pipeline:
    """A chain of `branch_stages` with a residual edge of `depth` from its first stage to its last."""
    straight = chain([service_cycles] * branch_stages)
    residual = Edge("s0", f"s{branch_stages - 1}", depth)
    return replace(straight, edges=(*straight.edges, residual))


def load_work_store(load: int, work: int, store: int, depth: int = 2) -> Pipeline:
    """A tile is loaded, worked on and stored, load and store through the same port of a memory."""
    stages = Stage("load", load), Stage("work", work), Stage("store", store)
    edges = Edge("load", "work", depth), Edge("work", "store", depth)
    return Pipeline(stages, edges, (Shared("hbm", ("load", "store")),))


def transposed(tiles: int, load: int, work: int, depth: int) -> Pipeline:
    """A barrier: `work` reads all tiles of an iteration across, in as many turns as there are tiles."""
    stages = Stage("load", load, repeats=tiles), Stage("work", work, repeats=tiles)
    return Pipeline(stages, (Edge("load", "work", depth, consumed=tiles, reuse=tiles),))
