"""Random pipelines for the tests of this room and of the discrete-event oracle."""

import random
from dataclasses import replace

from rdujax.ledger import Edge, Pipeline, Stage, full_rate_depths


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
