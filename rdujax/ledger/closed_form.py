"""The makespan of a pipeline in closed form: fill, and turns of the slowest stage.

It holds where no stage ever waits for a free slot and every stage turns once per iteration. It is the form to compare
thousands of tilings by, and smooth in services and in the number of turns; `makespan.py` has the exact time of every
pipeline.
"""

from collections.abc import Sequence

from rdujax.base.errors import UnsupportedError, describe
from rdujax.ledger.numbers import Number, Priced, common, is_exact, maximum, minimum
from rdujax.ledger.pipeline import Pipeline, check_iterations


def closed_form_cycles(pipeline: Pipeline, turns: Number) -> Priced:
    """Makespan when no stage ever waits for a free slot: fill + (turns - 1) x the slowest stage.

    Of all ways through the graph, the one where [its cycles] + (turns - 1) x [the slowest stage on it] is largest; in a
    chain that is the fill and the slowest stage of the whole, and a way's turn 0 takes the first service. It is exact
    for every chain of depth 2 or more without longer first turns, and never more than `makespan_cycles`.

    Exact on ints. On JAX values (services, turns) differentiable almost everywhere: the gradient by a stage's service
    is the number of its turns on the critical path, and ties share evenly. Relaxed turns between 1 and 2 interpolate.

    Raises UnsupportedError where stages turn more than once per iteration, pass several tiles or share a resource.
    """
    if not pipeline.is_single_rate:
        raise UnsupportedError(
            describe(
                "the closed form is that of stages that turn once per iteration, on one tile, and share nothing",
                given=", ".join(_beyond(pipeline)),
                do="use makespan_cycles, which is exact, fast and differentiable for any pipeline",
            )
        )
    n = check_iterations(turns) if is_exact(turns) else turns
    stages = pipeline.stages
    *cycles, n = common(*(s.first_cycles for s in stages), *(s.service_cycles for s in stages), n)
    first, service = cycles[: len(stages)], cycles[len(stages) :]
    fill = _filled(pipeline, first)
    ways = zip(_entered(pipeline, fill, service), service, _drained(pipeline, service), strict=True)
    more = maximum(n - 2, 0)
    twice_or_more = maximum(*(head + tail - slowest + more * slowest for head, slowest, tail in ways))
    once = maximum(*fill)
    return once + (twice_or_more - once) * minimum(n - 1, 1)


def _beyond(pipeline: Pipeline) -> list[str]:
    """What keeps a pipeline from having a closed form."""
    stages = [f"stage {stage.name!r} with {stage.repeats} turns" for stage in pipeline.stages if stage.repeats > 1]
    edges = [f"{edge} with several tiles" for edge in pipeline.edges if (edge.produced, edge.consumed) != (1, 1)]
    return [*stages, *edges, *map(str, pipeline.shared)]


def _filled(pipeline: Pipeline, first: Sequence) -> list:
    """Finish of turn 0 of every stage."""
    fill: list = [None] * len(first)
    for stage in pipeline.order:
        ready = [fill[producer] for producer in pipeline.producers[stage]]
        fill[stage] = first[stage] + maximum(*ready) if ready else first[stage]
    return fill


def _entered(pipeline: Pipeline, fill: Sequence, service: Sequence) -> list:
    """Finish of turn 1 of every stage when the stages before it need no more than that."""
    entered: list = [None] * len(fill)
    for stage in pipeline.order:
        ready = [entered[producer] for producer in pipeline.producers[stage]]
        entered[stage] = maximum(fill[stage], *ready) + service[stage]
    return entered


def _drained(pipeline: Pipeline, service: Sequence) -> list:
    """Cycles from the start of a stage to the end of the pipeline, within one turn."""
    drain: list = [None] * len(service)
    for stage in reversed(pipeline.order):
        after = [drain[consumer] for consumer, _ in pipeline.consumers[stage]]
        drain[stage] = service[stage] + maximum(*after) if after else service[stage]
    return drain
