"""How long a pipeline takes: exactly and fast for long streams, in closed form, and which stages it waits for.

`makespan_cycles` always equals the last finish of the recurrence in `pipeline.py`. It takes the closed form where that
is proved equal, and otherwise runs the recurrence until its state repeats (the last rows, as many as the deepest
buffer has slots, all advanced by one constant). Max-plus recurrences of connected graphs end in such a cycle, so the
rest is arithmetic on Python ints; a stream that ends first has simply been run to its end. The number of turns before
the cycle grows with depth x service / (slowest service - next slowest); no more than the whole stream is ever run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rdujax.ledger.numbers import Number, Priced, common, is_exact, maximum, minimum
from rdujax.ledger.pipeline import Pipeline, check_turns, next_row


def closed_form_cycles(pipeline: Pipeline, turns: Number) -> Priced:
    """Makespan when no stage ever waits for a free slot: fill + (turns - 1) x the slowest stage.

    Of all ways through the graph, the one where [its cycles] + (turns - 1) x [the slowest stage on it] is largest; in a
    chain that is the fill and the slowest stage of the whole, and a way's turn 0 takes the first service. It is exact
    where `closed_form_is_exact`, among others for every chain of depth 2 or more without longer first turns; anywhere
    else a lower bound.

    Exact on ints. On JAX values (services, turns) differentiable almost everywhere: the gradient by a stage's service
    is the number of its turns on the critical path, and ties share evenly. Relaxed turns between 1 and 2 interpolate.
    """
    n = check_turns(turns) if is_exact(turns) else turns
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

    A finish time is the heaviest walk through (turn, stage): data edges stay in the turn, a stage follows itself one
    turn on, and a returned slot leads back to the producer `depth` turns on. Let b be the slowest stage that a walk
    visits after turn 0: its spare turns are best spent there. Charging a walk a fixed number of cycles, not less than
    b's, for each turn it advances makes walks of all lengths comparable, and the closed form holds if for each b some
    charge makes no walk with returned slots worth more than the best one without, at a stage as slow as the charge.
    """
    first, service = pipeline.service(0), pipeline.service(1)
    fill = _filled(pipeline, first)
    ways = zip(_entered(pipeline, fill, service), service, _drained(pipeline, service), strict=True)
    worth = [(cycles, head + tail - cycles) for head, cycles, tail in ways]
    return all(
        any(_returns_lose(pipeline, fill, service, slowest, charge, worth) for charge in {cycles, max(service)})
        for slowest, cycles in enumerate(service)
    )


def makespan_cycles(pipeline: Pipeline, turns: int) -> int:
    """The cycle in which the last stage finishes the last turn: exact for streams of any length.

    Equal to `finish_times(pipeline, turns).max()` always. Raises ArgumentError for turns < 1 and ConcretenessError
    where a stage holds a JAX value.
    """
    turns = check_turns(turns)
    return max(_makespan(part, turns) for part in _parts(pipeline))


def critical_path_cycles(pipeline: Pipeline, turns: int) -> dict[str, int]:
    """How the makespan splits over the stages: cycles of each on one critical path; they sum to the makespan.

    Where several paths are critical, it is one of them, always the same.
    """
    turns = check_turns(turns)
    parts = _parts(pipeline)
    part = parts[0] if len(parts) == 1 else max(parts, key=lambda part: _makespan(part, turns))
    cycles = _closed_path(part, turns) if closed_form_is_exact(part) else _walk_back(part, _run(part, turns), turns)
    on_path = dict(zip(part.index, cycles, strict=True))
    return {name: on_path.get(name, 0) for name in pipeline.index}


def critical_stage(pipeline: Pipeline, turns: int) -> str:
    """The stage with most cycles on the critical path: the bottleneck (the first of equals)."""
    cycles = critical_path_cycles(pipeline, turns)
    return max(cycles, key=cycles.__getitem__)


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


def _parts(pipeline: Pipeline) -> list[Pipeline]:
    """The connected parts: they never wait for one another, and only a connected part is sure to turn periodic."""
    group = {name: {name} for name in pipeline.index}
    for edge in pipeline.edges:
        joined = group[edge.producer] | group[edge.consumer]
        group.update(dict.fromkeys(joined, joined))
    parts = {frozenset(names): None for names in group.values()}
    if len(parts) == 1:
        return [pipeline]
    return [
        replace(
            pipeline,
            stages=tuple(stage for stage in pipeline.stages if stage.name in names),
            edges=tuple(edge for edge in pipeline.edges if edge.producer in names),
        )
        for names in parts
    ]


@dataclass(frozen=True)
class _Run:
    """Rows of the recurrence; from turn `anchor` on, each is the one `period` turns before it plus `advance`."""

    rows: list[list[int]]
    anchor: int = 0
    period: int = 0
    advance: int = 0

    def row(self, turn: int) -> list[int]:
        if turn < len(self.rows):
            return self.rows[turn]
        laps, phase = divmod(turn - self.anchor, self.period)
        return [finish + laps * self.advance for finish in self.rows[self.anchor + phase]]


def _run(pipeline: Pipeline, turns: int) -> _Run:
    """The recurrence, until it repeats or ends. The anchor moves on in doublings (Brent), so no period is missed."""
    rows = [next_row(pipeline, [], pipeline.service(0))]
    service = pipeline.service(1)
    depth = max((edge.depth for edge in pipeline.edges), default=1)
    anchor = depth
    for turn in range(1, turns):
        rows.append(next_row(pipeline, rows, service))
        if turn > anchor:
            advance = rows[turn][0] - rows[anchor][0]
            if all(_advanced(rows[turn - k], rows[anchor - k], advance) for k in range(depth)):
                return _Run(rows, anchor, turn - anchor, advance)
            if turn == 2 * anchor:
                anchor = turn
    return _Run(rows)


def _advanced(later: Sequence[int], earlier: Sequence[int], advance: int) -> bool:
    return all(b - a == advance for a, b in zip(earlier, later, strict=True))


def _makespan(pipeline: Pipeline, turns: int) -> int:
    if closed_form_is_exact(pipeline):
        return closed_form_cycles(pipeline, turns)
    return max(_run(pipeline, turns).row(turns - 1))


def _closed_path(pipeline: Pipeline, turns: int) -> list[int]:
    """Cycles of every stage on the way that the closed form takes."""
    first, service = pipeline.service(0), pipeline.service(1)
    fill = _filled(pipeline, first)
    if turns == 1:
        return _way_back(pipeline, fill.index(max(fill)), fill, first)
    entered, drain = _entered(pipeline, fill, service), _drained(pipeline, service)
    worth = [head + tail + (turns - 3) * slowest for head, tail, slowest in zip(entered, drain, service, strict=True)]
    stage = slowest = worth.index(max(worth))
    cycles = [0] * len(service)
    cycles[slowest] = (turns - 2) * service[slowest]
    while drain[stage] > service[stage]:
        stage = next(c for c, _ in pipeline.consumers[stage] if drain[c] == drain[stage] - service[stage])
        cycles[stage] += service[stage]
    stage = slowest
    while entered[stage] - service[stage] != fill[stage]:
        cycles[stage] += service[stage]
        stage = next(p for p in pipeline.producers[stage] if entered[p] == entered[stage] - service[stage])
    cycles[stage] += service[stage]
    return [a + b for a, b in zip(cycles, _way_back(pipeline, stage, fill, first), strict=True)]


def _way_back(pipeline: Pipeline, stage: int, fill: Sequence[int], first: Sequence[int]) -> list[int]:
    """Cycles of every stage on the way that turn 0 takes to one stage."""
    cycles = [0] * len(first)
    cycles[stage] = first[stage]
    while fill[stage] > first[stage]:
        stage = next(p for p in pipeline.producers[stage] if fill[p] == fill[stage] - first[stage])
        cycles[stage] = first[stage]
    return cycles


def _walk_back(pipeline: Pipeline, run: _Run, turns: int) -> list[int]:
    """Cycles of every stage on the critical path, from the last finish back to cycle 0."""
    cycles = [0] * len(pipeline.stages)
    last = run.row(turns - 1)
    turn, stage = turns - 1, last.index(max(last))
    seen: dict[tuple[int, int], tuple[int, list[int]]] | None = {}
    first, later = pipeline.service(0), pipeline.service(1)
    while True:
        if seen is not None and run.period and turn > run.anchor:
            # What a turn waited for repeats with the period; once the path itself repeats, whole laps are counted.
            phase = (turn % run.period, stage)
            if phase in seen:
                before, then = seen[phase]
                lap = before - turn
                laps = (turn - run.anchor - 1) // lap
                cycles = [now + laps * (now - was) for now, was in zip(cycles, then, strict=True)]
                turn, seen = turn - laps * lap, None
            else:
                seen[phase] = (turn, list(cycles))
        service = later[stage] if turn else first[stage]
        cycles[stage] += service
        start = run.row(turn)[stage] - service
        before = _waited_for(pipeline, run, turn, stage, start)
        if before is None:
            return cycles
        turn, stage = before


def _waited_for(pipeline: Pipeline, run: _Run, turn: int, stage: int, start: int) -> tuple[int, int] | None:
    candidates = [(turn - 1, stage)]
    candidates += [(turn, producer) for producer in pipeline.producers[stage]]
    candidates += [(turn - depth, consumer) for consumer, depth in pipeline.consumers[stage]]
    return next(((t, s) for t, s in candidates if t >= 0 and run.row(t)[s] == start), None)
