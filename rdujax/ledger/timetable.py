"""When every turn of every stage starts and finishes, how full every buffer is, and who holds a shared resource.

A `Schedule` is the whole stream as NumPy arrays of int64 cycles. The recurrence is run only where it does not go on
evenly (`stretches.py`); the rest is filled in at memory speed.

    >>> from rdujax.ledger import Edge, Pipeline, Stage, schedule
    >>> times = schedule(Pipeline((Stage("load", 3), Stage("work", 5)), (Edge("load", "work", depth=2),)), 4)
    >>> times.start["load"].tolist(), times.finish["work"].tolist()
    ([0, 3, 8, 13], [8, 13, 18, 23])
    >>> [each.tolist() for each in times.occupancy(times.pipeline.edges[0])]
    [[0, 3, 8, 13, 18, 23], [1, 2, 2, 2, 1, 0]]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe, unknown
from rdujax.ledger.pipeline import Edge, Pipeline, Shared, check_iterations
from rdujax.ledger.recurrence import Services, length, run


@dataclass(frozen=True, eq=False)
class Schedule:
    """Times of a stream through a pipeline, in cycles.

    start, finish: by stage, int64 [iterations * repeats] in the order of its turns. A turn holds its stage from start
    to finish, which are equal where its service is zero.
    """

    pipeline: Pipeline
    iterations: int
    start: dict[str, np.ndarray]
    finish: dict[str, np.ndarray]

    @property
    def makespan_cycles(self) -> int:
        """The cycle in which the last turn finishes."""
        return max(int(finish[-1]) for finish in self.finish.values())

    def busy_cycles(self, stage: str) -> int:
        """Cycles in which a stage works. Raises UnknownNameError for a stage that is not there."""
        if stage not in self.start:
            raise unknown("stage", stage, self.start)
        return int((self.finish[stage] - self.start[stage]).sum())

    def occupancy(self, edge: Edge) -> tuple[np.ndarray, np.ndarray]:
        """(times, tiles): from times[i] until times[i + 1], tiles[i] slots of the buffer are taken; int64 [changes].

        A slot is taken from the start of the turn that emits its tile to the end of the turn that gives it back, so
        tiles in the making are counted; within one cycle, slots come back before others are taken. A buffer with
        several readers, one edge for each, holds the largest of their numbers. Raises UnknownNameError for an edge
        that is not of this pipeline.
        """
        if edge not in self.pipeline.edges:
            raise unknown("edge", edge, map(repr, self.pipeline.edges))
        taken = self.start[edge.producer][edge.every - 1 :: edge.every]
        given = self.finish[edge.consumer][edge.reuse - 1 :: edge.reuse]
        times = np.concatenate([taken, given])
        changes = np.repeat([edge.produced, -edge.consumed], [len(taken), len(given)])
        order = np.argsort(times)
        tiles, times = np.cumsum(changes[order]), times[order]
        last = np.append(np.diff(times) > 0, True)  # of each time, what all of its changes leave
        return times[last], tiles[last]

    def served(self, resource: Shared) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(stages, starts, finishes) of the turns at a shared resource, in the order of time; int64 [turns].

        stages are positions in `pipeline.stages`. Raises UnknownNameError for a resource that is not of this pipeline.
        """
        if resource not in self.pipeline.shared:
            raise unknown("shared resource", resource, map(repr, self.pipeline.shared))
        users = [(self.pipeline.index[name], self.start[name], self.finish[name]) for name in resource.stages]
        none = np.empty(0, np.int64)
        stages = np.concatenate([none, *(np.full(len(start), stage, np.int64) for stage, start, _ in users)])
        starts = np.concatenate([none, *(start for _, start, _ in users)])
        finishes = np.concatenate([none, *(finish for _, _, finish in users)])
        order = np.lexsort((finishes, starts))
        return stages[order], starts[order], finishes[order]


def schedule(pipeline: Pipeline, iterations: int, service_cycles: Services | None = None) -> Schedule:
    """Start and finish of every turn of every stage, exactly.

    service_cycles: for any stages by name, the cycles of each of their iterations * repeats turns, in place of their
    own (a ragged tail); such a stream does not repeat and is run to its end. Raises ArgumentError for iterations < 1,
    for services not given by name, for a deadlock and for times beyond int64, ShapeError for services of another shape,
    UnknownNameError for those of another stage, ConcretenessError where a stage or a turn holds a JAX value. Exact
    only: not differentiable (see `makespan_cycles`).
    """
    iterations = check_iterations(iterations)
    given = {} if service_cycles is None else service_cycles
    if not isinstance(given, Mapping):
        raise ArgumentError(
            describe(
                "services of single turns are given by stage",
                given=f"one {type(given).__name__}",
                allowed="a dict: the name of a stage -> the cycles of each of its turns",
                where="service_cycles",
            )
        )
    if strange := sorted(set(given) - set(pipeline.index), key=str):
        raise unknown("stage", strange[0], pipeline.index, where="service_cycles")
    start, finish = dict.fromkeys(pipeline.index, np.empty(0)), dict.fromkeys(pipeline.index, np.empty(0))
    for part in pipeline.parts:
        own = {name: cycles for name, cycles in given.items() if name in part.index}
        times = run(part, iterations, own or None)
        finishes, services = times.finishes(), times.services()
        for at, stage in enumerate(part.stages):
            nodes = [node for node, (of, _) in enumerate(times.form.turns) if of == at]
            finish[stage.name] = finishes[:, nodes].reshape(-1)
            start[stage.name] = finish[stage.name] - services[:, nodes].reshape(-1)
    return Schedule(pipeline, iterations, start, finish)


def finish_times(
    pipeline: Pipeline, iterations: int, service_cycles: Sequence[Sequence[int]] | np.ndarray | None = None
) -> np.ndarray:
    """The cycle in which each stage has finished each iteration: int64 [iterations, stages].

    `service_cycles`, of the same shape, replaces the stages' own cycles where every stage turns once per iteration.
    Raises as `schedule`, and ShapeError for services of another shape.
    """
    iterations = check_iterations(iterations)
    given = None
    if service_cycles is not None:
        _check_table(service_cycles, iterations, len(pipeline.stages))
        given = {name: [row[at] for row in service_cycles] for name, at in pipeline.index.items()}
    times = schedule(pipeline, iterations, given)
    last = [times.finish[stage.name][stage.repeats - 1 :: stage.repeats] for stage in pipeline.stages]
    return np.stack(last, axis=1)


def _check_table(table: object, rows: int, columns: int) -> None:
    if isinstance(table, Sequence):
        lengths = {length(row) for row in table}
        fits = len(table) == rows and lengths == {str(columns)}
        given = f"{len(table)} rows of lengths {', '.join(sorted(lengths))}"
    else:
        fits, given = getattr(table, "shape", None) == (rows, columns), length(table)
    if not fits:
        problem = "service cycles of another shape than the pipeline's turns and stages"
        raise ShapeError(describe(problem, given=given, allowed=f"[{rows}, {columns}]"))
