"""How long a pipeline takes, and which turns it waits for: exactly, for streams of any length.

`makespan_cycles` is the last finish of the recurrence (`recurrence.py`), which is arithmetic wherever it goes on
evenly. On JAX values it is the same recurrence in floats (`relaxed.py`), with derivatives: the gradient by the services
is the critical path.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rdujax.ledger.numbers import Priced, is_exact
from rdujax.ledger.pipeline import Pipeline, check_iterations
from rdujax.ledger.recurrence import Run, run
from rdujax.ledger.relaxed import relaxed_makespan_cycles
from rdujax.ledger.waits import Cause, Wait


def makespan_cycles(pipeline: Pipeline, iterations: int) -> Priced:
    """The cycle in which the last stage finishes the last turn: exact for streams of any length.

    Equal to `finish_times(pipeline, iterations).max()` always. Where a stage holds a JAX value, a float scalar with
    derivatives (`relaxed_makespan_cycles`): under `jax.grad`, cycles become turns on the critical path.

        >>> import jax
        >>> from rdujax.ledger import Edge, Pipeline, Stage, makespan_cycles
        >>> def cycles(load, work):
        ...     stages = Stage("load", load), Stage("work", work)
        ...     return makespan_cycles(Pipeline(stages, (Edge("load", "work"),)), 100)
        >>> cycles(3, 5), [float(turns) for turns in jax.grad(cycles, argnums=(0, 1))(3.0, 5.0)]
        (503, [1.0, 100.0])

    Raises ArgumentError for iterations < 1 and for a deadlock, and as `relaxed_makespan_cycles`.
    """
    iterations = check_iterations(iterations)
    if not is_exact(*(cycles for stage in pipeline.stages for cycles in (stage.service_cycles, stage.first_cycles))):
        return relaxed_makespan_cycles(pipeline, iterations)
    return max(run(part, iterations).makespan_cycles for part in pipeline.parts)


@dataclass(frozen=True)
class Attribution:
    """Every cycle of a makespan, given to the turn that was running on one critical path.

    cycles: by (stage, why the next turn on the path waited for this one: a `Cause`, or None for the last turn of all).
    On a critical path nothing ever idles, so there is no waiting to attribute: SLOT, say, tells the cycles of a stage
    during which a producer stood still for want of a free slot. All sum to the makespan, exactly. turns: how many
    turns of each stage are on the path. Where several paths are critical, it is one of them, always the same.
    """

    cycles: Mapping[tuple[str, Cause | None], int]
    turns: Mapping[str, int]

    @property
    def makespan_cycles(self) -> int:
        """The sum of all."""
        return sum(self.cycles.values())

    def by_stage(self) -> dict[str, int]:
        """Cycles of every stage, those that are never on the path included."""
        return {name: sum(c for (stage, _), c in self.cycles.items() if stage == name) for name in self.turns}

    def __str__(self) -> str:
        rows = sorted(self.cycles.items(), key=lambda row: -row[1])
        return "\n".join(
            f"{cycles:>16,}  {stage}: then {'the end' if why is None else f'a turn that waited for {why.value}'}"
            for (stage, why), cycles in rows
        )


def attribution(pipeline: Pipeline, iterations: int) -> Attribution:
    """The makespan of a stream, split over the stages on a critical path and over what the path waited for.

    Raises as `makespan_cycles`, and ConcretenessError where a stage holds a JAX value.
    """
    iterations = check_iterations(iterations)
    longest = max((run(part, iterations) for part in pipeline.parts), key=lambda times: times.makespan_cycles)
    cycles: Counter[tuple[str, Cause | None]] = Counter()
    turns = Counter(dict.fromkeys(pipeline.index, 0))
    for (stage, why), (visits, took) in _critical_path(longest).items():
        name = longest.form.stages[stage]
        cycles[name, why] += took
        turns[name] += visits
    return Attribution(dict(cycles), dict(turns))


def critical_path_cycles(pipeline: Pipeline, iterations: int) -> dict[str, int]:
    """How the makespan splits over the stages: cycles of each on one critical path; they sum to the makespan.

    Where several paths are critical, it is one of them, always the same.
    """
    return attribution(pipeline, iterations).by_stage()


def critical_stage(pipeline: Pipeline, iterations: int) -> str:
    """The stage with most cycles on the critical path: the bottleneck (the first of equals)."""
    cycles = critical_path_cycles(pipeline, iterations)
    return max(cycles, key=cycles.__getitem__)


Path = dict[tuple[int, Cause | None], tuple[int, int]]  # (stage, why the next turn waited for it) -> turns, cycles


def _add(path: Path, stage: int, why: Cause | None, turns: int, cycles: int) -> None:
    before = path.get((stage, why), (0, 0))
    path[stage, why] = before[0] + turns, before[1] + cycles


def _critical_path(times: Run) -> Path:
    """A critical path, walked from the last finish back to cycle 0."""
    path: Path = {}
    round_ = times.rounds - 1
    last = times.row(round_)
    node, why = last.index(max(last)), None
    seen: dict[tuple, tuple[int, Path]] = {}
    while True:
        if (zone := times.even(round_)) is not None:
            # What a turn waited for is the same in every lap; once the path itself repeats, whole laps are counted.
            begin, period = zone
            phase = (begin, round_ % period, node, why)
            if phase in seen:
                before, then = seen[phase]
                lap = before - round_
                laps = (round_ - begin) // lap
                for key, (turns, cycles) in list(path.items()):
                    was = then.get(key, (0, 0))
                    _add(path, *key, laps * (turns - was[0]), laps * (cycles - was[1]))
                round_ -= laps * lap
            else:
                seen[phase] = (round_, dict(path))
        service = times.service(round_, node)
        if times.lives(round_, node):
            _add(path, times.form.turns[node][0], why, 1, service)
        wait = _waited_for(times, round_, node, times.finish(round_, node) - service)
        if wait is None:
            assert times.finish(round_, node) == service, "a turn that waits for nothing starts in cycle 0"
            return path
        why = wait.cause if times.lives(round_, node) else why
        round_, node = round_ - wait.delay, wait.on


def _waited_for(times: Run, round_: int, node: int, start: int) -> Wait | None:
    waits = times.form.waits[node] if times.lives(round_, node) else times.form.waits[node][:1]
    return next((w for w in waits if w.delay <= round_ and times.finish(round_ - w.delay, w.on) == start), None)
