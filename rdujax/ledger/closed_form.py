"""The makespan of a pipeline in closed form: fill, and turns of the slowest stage.

It holds where no stage ever waits for a free slot and every stage turns once per iteration; `closed_form_is_exact` says
where that is proved. It is the form to compare thousands of tilings by, and smooth in services and in the number of
turns; `makespan.py` has the time of every other pipeline.
"""

from collections.abc import Sequence

from rdujax.base.errors import UnsupportedError, describe
from rdujax.ledger.numbers import Number, Priced, common, is_exact, maximum, minimum
from rdujax.ledger.pipeline import Pipeline, check_iterations


def closed_form_cycles(pipeline: Pipeline, turns: Number) -> Priced:
    """Makespan when no stage ever waits for a free slot: fill + (turns - 1) x the slowest stage.

    Of all ways through the graph, the one where [its cycles] + (turns - 1) x [the slowest stage on it] is largest; in a
    chain that is the fill and the slowest stage of the whole, and a way's turn 0 takes the first service. It is exact
    where `closed_form_is_exact`, among others for every chain of depth 2 or more without longer first turns; anywhere
    else a lower bound.

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


def closed_form_is_exact(pipeline: Pipeline) -> bool:
    """True only if `closed_form_cycles` equals the recurrence for every number of turns. Services must be exact.

    False where stages turn more than once per iteration, pass several tiles or share a resource.

    A finish time is the heaviest walk through (turn, stage): data edges stay in the turn, a stage follows itself one
    turn on, and a returned slot leads back to the producer `depth` turns on. Let b be the slowest stage that a walk
    visits after turn 0: its spare turns are best spent there. Charging a walk a fixed number of cycles, not less than
    b's, for each turn it advances makes walks of all lengths comparable, and the closed form holds if for each b some
    charge makes no walk with returned slots worth more than the best one without, at a stage as slow as the charge.
    """
    first, service = pipeline.service(0), pipeline.service(1)
    if not pipeline.is_single_rate:
        return False
    fill = _filled(pipeline, first)
    ways = zip(_entered(pipeline, fill, service), service, _drained(pipeline, service), strict=True)
    worth = [(cycles, head + tail - cycles) for head, cycles, tail in ways]
    return all(
        any(_returns_lose(pipeline, fill, service, slowest, charge, worth) for charge in {cycles, max(service)})
        for slowest, cycles in enumerate(service)
    )


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


def _returns_lose(
    pipeline: Pipeline, fill: Sequence, service: Sequence, slowest: int, charge: int, worth: Sequence
) -> bool:
    """True if no walk whose slowest stage after turn 0 is `slowest` beats the best way at a stage as slow as `charge`.

    The first turn that is advanced is free of charge, as it is in `worth`.
    """
    allowed = [cycles <= service[slowest] for cycles in service]
    slots = [(u, v, depth * charge) for u, consumers in enumerate(pipeline.consumers) for v, depth in consumers]
    heads: list = [fill[stage] + service[stage] if allowed[stage] else None for stage in range(len(service))]
    for producer, consumer, cost in slots:
        if allowed[producer]:
            heads[producer] = max(heads[producer], fill[consumer] - cost + charge + service[producer])
    tails: list = [service[stage] if allowed[stage] else None for stage in range(len(service))]
    before: list[list[tuple[int, int]]] = [[] for _ in service]
    after: list[list[tuple[int, int]]] = [[] for _ in service]
    for producer, consumer, cost in slots:
        before[consumer].append((producer, 0))
        before[producer].append((consumer, cost))
        after[producer].append((consumer, 0))
        after[consumer].append((producer, cost))
    if not (_settles(heads, before, service) and _settles(tails, after, service)):
        return False
    walk = heads[slowest] + tails[slowest] - service[slowest]
    return walk <= max(best for cycles, best in worth if cycles >= charge)


def _settles(best: list, steps: list[list[tuple[int, int]]], service: Sequence) -> bool:
    """Raises `best` along the steps until it stands still (Bellman and Ford); False for a circuit that gains."""
    for _ in range(len(best) + 1):
        still = True
        for stage, neighbours in enumerate(steps):
            if best[stage] is None:
                continue
            for other, charge in neighbours:
                if best[other] is not None and best[other] - charge + service[stage] > best[stage]:
                    best[stage], still = best[other] - charge + service[stage], False
        if still:
            return True
    return False


def closed_form_path(pipeline: Pipeline, turns: int) -> list[tuple[int, int, int, bool]]:
    """The way that the closed form takes, from the last turn back to the first, in stretches of equal turns.

    Each is (stage, turns, cycles, tile): so many turns of a stage, one after another, and whether what follows them on
    the way waited for a tile of theirs (or else for the same stage, or they are the last). Meant for pipelines where
    `closed_form_is_exact`.
    """
    first, service = pipeline.service(0), pipeline.service(1)
    fill = _filled(pipeline, first)
    if turns == 1:
        return _way_back(pipeline, fill.index(max(fill)), fill, first, False)
    entered, drain = _entered(pipeline, fill, service), _drained(pipeline, service)
    worth = [head + tail + (turns - 3) * slowest for head, tail, slowest in zip(entered, drain, service, strict=True)]
    stage = slowest = worth.index(max(worth))
    after: list[tuple[int, int, int, bool]] = []
    while drain[stage] > service[stage]:
        stage = next(c for c, _ in pipeline.consumers[stage] if drain[c] == drain[stage] - service[stage])
        after.append((stage, 1, service[stage], True))
    way = after[::-1]
    if way:
        way[0] = (*way[0][:3], False)
    way.append((slowest, 1, service[slowest], bool(way)))
    way += [(slowest, turns - 2, (turns - 2) * service[slowest], False)] if turns > 2 else []
    stage = slowest
    while entered[stage] - service[stage] != fill[stage]:
        stage = next(p for p in pipeline.producers[stage] if entered[p] == entered[stage] - service[stage])
        way.append((stage, 1, service[stage], True))
    return way + _way_back(pipeline, stage, fill, first, False)


def _way_back(
    pipeline: Pipeline, stage: int, fill: Sequence[int], first: Sequence[int], tile: bool
) -> list[tuple[int, int, int, bool]]:
    """The way that turn 0 takes to one stage, from there back."""
    way = [(stage, 1, first[stage], tile)]
    while fill[stage] > first[stage]:
        stage = next(p for p in pipeline.producers[stage] if fill[p] == fill[stage] - first[stage])
        way.append((stage, 1, first[stage], True))
    return way
