"""A pipeline of stages with bounded buffers, and the recurrence that its time obeys.

A stage turns once per tile. A turn starts when the stage is idle, when every producer has delivered the tile, and
when every buffer that it writes has a free slot; the slot is reserved at the start of the producer's turn and
returned at the end of the consumer's. With `depth` slots on the edge from s to v:

    start[t, s]  = max(finish[t-1, s], finish[t, u] for edges u -> s, finish[t - depth, v] for edges s -> v)
    finish[t, s] = start[t, s] + service[t, s]

A transfer over a link or to a memory tier is one more stage. What is modelled: any single-rate acyclic graph, fan-in,
fan-out, a longer first turn (weights that become resident), and turns of unequal service in `finish_times`. What is
not: stages of unequal rates, and buffers that free a slot when the consumer starts (such a first-in-first-out queue
is written with zero-service stages around it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe, unknown
from rdujax.ledger.numbers import Number, exact, whole

_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Stage:
    """One stage: cycles per turn, and of turn 0 where that differs (both whole; JAX floats for `closed_form_cycles`).

    Raises ArgumentError for an empty name and for negative or fractional cycles.
    """

    name: str
    service_cycles: Number
    first_service_cycles: Number | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentError(describe("a stage is named by a string", given=repr(self.name)))
        where = f"stage {self.name!r}"
        object.__setattr__(self, "service_cycles", whole(self.service_cycles, what="service_cycles", where=where))
        if self.first_service_cycles is not None:
            first = whole(self.first_service_cycles, what="first_service_cycles", where=where)
            object.__setattr__(self, "first_service_cycles", first)

    @property
    def first_cycles(self) -> Number:
        """Cycles of turn 0."""
        return self.service_cycles if self.first_service_cycles is None else self.first_service_cycles


@dataclass(frozen=True)
class Edge:
    """A stage buffer of `depth` slots, of one tile each, from `producer` to `consumer`.

    Raises ArgumentError for a depth below 1: no tile could pass.
    """

    producer: str
    consumer: str
    depth: int = 2

    def __post_init__(self) -> None:
        depth = exact(self.depth, where=f"depth of {self}")
        if not isinstance(depth, int) or depth < 1:
            raise ArgumentError(
                describe("a stage buffer needs a slot", given=str(depth), allowed="an int, 1 or more", where=str(self))
            )
        object.__setattr__(self, "depth", depth)

    def __str__(self) -> str:
        return f"edge {self.producer!r} -> {self.consumer!r}"


@dataclass(frozen=True)
class Pipeline:
    """Stages and the buffers between them; checked when it is made.

    Raises ArgumentError for no stages, for two stages of one name and for a cycle of edges (which is named: its
    stages would wait for one another for ever), UnknownNameError for an edge to a stage that is not there.
    """

    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "edges", tuple(self.edges))
        names = [stage.name for stage in self.stages]
        if not names:
            raise ArgumentError(describe("a pipeline without stages", allowed="one stage or more"))
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ArgumentError(describe("two stages of one name", given=", ".join(map(repr, twice))))
        for edge in self.edges:
            for name in (edge.producer, edge.consumer):
                if name not in names:
                    raise unknown("stage", name, names, where=str(edge))
        try:
            _ = self.order
        except CycleError as error:
            loop = " -> ".join(names[stage] for stage in error.args[1])
            raise ArgumentError(
                describe("the edges of a pipeline form a cycle", given=loop, do="carry the value between turns instead")
            ) from None

    @cached_property
    def index(self) -> dict[str, int]:
        """The position of every stage by name."""
        return {stage.name: position for position, stage in enumerate(self.stages)}

    @cached_property
    def producers(self) -> tuple[tuple[int, ...], ...]:
        """For every stage, the positions of the stages that it reads from."""
        return tuple(
            tuple(self.index[edge.producer] for edge in self.edges if edge.consumer == stage.name)
            for stage in self.stages
        )

    @cached_property
    def consumers(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For every stage, the position of each stage that reads from it and the depth of the buffer between."""
        return tuple(
            tuple((self.index[edge.consumer], edge.depth) for edge in self.edges if edge.producer == stage.name)
            for stage in self.stages
        )

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Positions of the stages, producers before consumers."""
        return tuple(TopologicalSorter(dict(enumerate(self.producers))).static_order())

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """For every stage, the number of edges on the longest way to it."""
        levels = [0] * len(self.stages)
        for stage in self.order:
            levels[stage] = max((levels[producer] + 1 for producer in self.producers[stage]), default=0)
        return tuple(levels)

    def service(self, turn: int) -> list[int]:
        """Exact cycles of every stage at one turn. Raises ConcretenessError where a stage holds a JAX value."""
        return [
            int(exact(stage.service_cycles if turn else stage.first_cycles, where=f"stage {stage.name!r}"))
            for stage in self.stages
        ]


def full_rate_depths(pipeline: Pipeline) -> dict[tuple[str, str], int]:
    """For every edge, the depth with which it never slows the pipeline below the rate of its slowest stage.

    level(consumer) - level(producer) + 1: 2 between neighbours, d + 1 for an edge that skips to d levels on. Of every
    circuit of waiting, the slots are then at least as many as the stages, so its cycles per turn are at most those
    of the slowest of them.
    """
    level = {stage.name: at for stage, at in zip(pipeline.stages, pipeline.levels, strict=True)}
    return {(e.producer, e.consumer): level[e.consumer] - level[e.producer] + 1 for e in pipeline.edges}


def next_row(pipeline: Pipeline, rows: Sequence[Sequence[int]], service: Sequence[int]) -> list[int]:
    """The recurrence: finish of every stage at turn `len(rows)`, from the rows of all earlier turns."""
    turn = len(rows)
    row = [0] * len(pipeline.stages)
    for stage in pipeline.order:
        start = rows[-1][stage] if turn else 0
        for producer in pipeline.producers[stage]:
            start = max(start, row[producer])
        for consumer, depth in pipeline.consumers[stage]:
            if depth <= turn:
                start = max(start, rows[-depth][consumer])
        row[stage] = start + service[stage]
    return row


def finish_times(
    pipeline: Pipeline, turns: int, service_cycles: Sequence[Sequence[int]] | np.ndarray | None = None
) -> np.ndarray:
    """The cycle in which each stage finishes each turn: int64 [turns, stages], by the recurrence, turn after turn.

    `service_cycles`, of shape [turns, stages], replaces the stages' own cycles where turns differ (a ragged tail).
    Raises ArgumentError for turns < 1 and for times beyond int64, ShapeError for services of another shape. Exact
    only: not differentiable (see `closed_form_cycles`).
    """
    turns = check_turns(turns)
    if service_cycles is None:
        services = [pipeline.service(0)] + [pipeline.service(1)] * (turns - 1)
    else:
        services = _checked_services(pipeline, turns, service_cycles)
    if (most := sum(map(sum, services))) > _LARGEST:
        raise ArgumentError(
            describe("finish times may pass the largest int64", given=f"{most:,} cycles", do="use makespan_cycles")
        )
    rows: list[list[int]] = []
    for service in services:
        rows.append(next_row(pipeline, rows, service))
    return np.array(rows, np.int64)


def check_turns(turns: Number) -> int:
    """`turns` as an int of 1 or more; ArgumentError otherwise."""
    number = exact(turns, where="turns")
    if not isinstance(number, int) or number < 1:
        raise ArgumentError(describe("a pipeline turns at least once", given=str(number), allowed="an int, 1 or more"))
    return number


def _checked_services(pipeline: Pipeline, turns: int, services: Sequence[Sequence[int]] | np.ndarray) -> list:
    rows = [[whole(value, what="service_cycles", where=f"turn {t}") for value in row] for t, row in enumerate(services)]
    if len(rows) != turns or any(len(row) != len(pipeline.stages) for row in rows):
        raise ShapeError(
            describe(
                "service cycles of another shape than the pipeline's turns and stages",
                given=f"{len(rows)} rows of lengths {sorted({len(row) for row in rows})}",
                allowed=f"[{turns}, {len(pipeline.stages)}]",
            )
        )
    return rows
