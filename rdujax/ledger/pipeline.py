"""A pipeline of stages with bounded buffers, and the law that its time obeys.

    read -- tiles --> [ buffer of `depth` slots ] -- tiles --> write
        <-- slots --                             <-- slots --

One iteration is `repeats` turns of every stage. A turn starts as soon as nothing is left to wait for, and takes its
service. It waits

- for the stage's own turn before it;
- for tiles: by the end of turn t a producer has emitted `produced * ((t + 1) // every)` tiles, and turn t of a
  consumer needs `consumed * (t // reuse + 1)` of them;
- for free slots: those of the tiles that a turn emits are reserved when it starts, and come back at the end of the
  last of the `reuse` turns that read them; of the tiles emitted after turn t, all but `depth` must be back before it;
- for shared resources, which serve one turn at a time in a fixed order (`Shared`).

With one tile a turn everywhere, that is

    start[t, s]  = max(finish[t-1, s], finish[t, u] for edges u -> s, finish[t - depth, v] for edges s -> v)
    finish[t, s] = start[t, s] + service[t, s]

Modelled: any acyclic graph, fan-in, fan-out, stages of unequal rates, barriers (a transpose of a whole tensor:
`consumed` all of its tiles, `reuse` its turns on them), reductions over the stream (`every` turns emit one tile),
shared resources, a longer first turn (weights that become resident), turns of unequal service (in `schedule`). A
transfer over a link or to a memory tier is one more stage. Not modelled: arbitration by order of arrival, and buffers
that free a slot when the consumer starts (such a first-in-first-out queue is written with zero-service stages around
it).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.ledger.numbers import Number, exact, whole


@dataclass(frozen=True)
class Stage:
    """One stage: cycles per turn, cycles of turn 0 where that differs, and its turns per iteration.

    Cycles are whole, or JAX floats for the differentiable evaluators. Raises ArgumentError for an empty name, for
    negative or fractional cycles, and for `repeats` below 1.
    """

    name: str
    service_cycles: Number
    first_service_cycles: Number | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentError(describe("a stage is named by a string", given=repr(self.name)))
        where = f"stage {self.name!r}"
        object.__setattr__(self, "service_cycles", whole(self.service_cycles, what="service_cycles", where=where))
        if self.first_service_cycles is not None:
            first = whole(self.first_service_cycles, what="first_service_cycles", where=where)
            object.__setattr__(self, "first_service_cycles", first)
        object.__setattr__(self, "repeats", _positive(self.repeats, "a stage turns in every iteration", where))

    @property
    def first_cycles(self) -> Number:
        """Cycles of turn 0."""
        return self.service_cycles if self.first_service_cycles is None else self.first_service_cycles


@dataclass(frozen=True)
class Edge:
    """A stage buffer of `depth` slots, of one tile each, from `producer` to `consumer`.

    Every `every`-th turn of the producer emits `produced` tiles; the consumer reads `consumed` tiles at once, in
    `reuse` turns, before it gives their slots back. A buffer with several readers is one edge for each: the producer
    waits for the last of them. Raises ArgumentError for ends that are no names, for a number below 1, and for a depth
    less than what is emitted or read at once: no tile could pass.
    """

    producer: str
    consumer: str
    depth: int = 2
    produced: int = 1
    every: int = 1
    consumed: int = 1
    reuse: int = 1

    def __post_init__(self) -> None:
        for end in (self.producer, self.consumer):
            if not isinstance(end, str):
                raise ArgumentError(describe("an edge joins stages by their names", given=repr(end), where=str(self)))
        for name in ("depth", "produced", "every", "consumed", "reuse"):
            if type(value := getattr(self, name)) is not int or value < 1:
                what = "a stage buffer needs a slot" if name == "depth" else f"{name} counts tiles or turns"
                object.__setattr__(self, name, _positive(value, what, str(self)))
        if self.depth < (most := max(self.produced, self.consumed)):
            raise ArgumentError(
                describe(
                    "a stage buffer is too small for the tiles that are emitted or read at once",
                    given=f"depth {self.depth}, produced {self.produced}, consumed {self.consumed}",
                    where=str(self),
                    do=f"give it {most} slots or more",
                )
            )

    def __str__(self) -> str:
        return f"edge {self.producer!r} -> {self.consumer!r}"


@dataclass(frozen=True)
class Shared:
    """A resource that the turns of several stages hold one at a time: a port of a memory tier, a link.

    It serves them in the order in which they would start if nothing were shared and every stage took one unit of time
    per iteration, in turns of equal length, each as early as the steady state of these buffers allows; of equal ones,
    the lower level (`Pipeline.levels`) first, then the one that comes first in the stages of the pipeline (the order of
    `stages` here does not matter). With one turn per iteration and buffers deep enough for full rate, a stage at level
    L is thus served for iteration i in round i + L: a store does not hold up the load of a later tile. The order is
    fixed, whatever the services: the resource waits for a turn that is not ready. It never causes a deadlock by itself.
    """

    name: str
    stages: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentError(describe("a shared resource is named by a string", given=repr(self.name)))
        object.__setattr__(self, "stages", _tuple_of(str, self.stages, "names of stages", str(self)))
        if twice := _repeated(self.stages):
            raise ArgumentError(describe("a stage takes one turn at a time", given=twice, where=str(self)))

    def __str__(self) -> str:
        return f"shared resource {self.name!r}"


@dataclass(frozen=True)
class Pipeline:
    """Stages, the buffers between them, and what they share; checked when it is made.

    Raises ArgumentError for anything but tuples of these, for no stages, for two stages or resources of one name, for a
    cycle of edges (which is named: its stages would wait for one another for ever) and for rates that do not balance,
    UnknownNameError for an edge to a stage that is not there. Buffers too small to go on are found when a time is asked
    for (see `waits.py`).
    """

    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...] = ()
    shared: tuple[Shared, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("stages", Stage), ("edges", Edge), ("shared", Shared)):
            object.__setattr__(self, name, _tuple_of(kind, getattr(self, name), f"{kind.__name__} objects", name))
        names = [stage.name for stage in self.stages]
        if not names:
            raise ArgumentError(describe("a pipeline without stages", allowed="one stage or more"))
        if twice := _repeated(names):
            raise ArgumentError(describe("two stages of one name", given=twice))
        if twice := _repeated(resource.name for resource in self.shared):
            raise ArgumentError(describe("two shared resources of one name", given=twice))
        uses = [(name, edge) for edge in self.edges for name in (edge.producer, edge.consumer)]
        for name, user in [*uses, *((name, resource) for resource in self.shared for name in resource.stages)]:
            if name not in self.index:
                raise unknown("stage", name, names, where=str(user))
        try:
            _ = self.order
        except CycleError as error:
            loop = " -> ".join(names[stage] for stage in error.args[1])
            raise ArgumentError(
                describe("the edges of a pipeline form a cycle", given=loop, do="carry the value between turns instead")
            ) from None
        for edge in self.edges:
            _check_balance(edge, self.stages[self.index[edge.producer]], self.stages[self.index[edge.consumer]])

    @cached_property
    def index(self) -> dict[str, int]:
        """The position of every stage by name."""
        return {stage.name: position for position, stage in enumerate(self.stages)}

    @cached_property
    def producers(self) -> tuple[tuple[int, ...], ...]:
        """For every stage, the positions of the stages that it reads from."""
        producers: list[list[int]] = [[] for _ in self.stages]
        for edge in self.edges:
            producers[self.index[edge.consumer]].append(self.index[edge.producer])
        return tuple(map(tuple, producers))

    @cached_property
    def consumers(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For every stage, the position of each stage that reads from it and the depth of the buffer between."""
        consumers: list[list[tuple[int, int]]] = [[] for _ in self.stages]
        for edge in self.edges:
            consumers[self.index[edge.producer]].append((self.index[edge.consumer], edge.depth))
        return tuple(map(tuple, consumers))

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

    @property
    def is_single_rate(self) -> bool:
        """True if turns are iterations, of one tile on every edge, and nothing is shared: the law in two lines."""
        one_turn = all(stage.repeats == 1 for stage in self.stages)
        return one_turn and not self.shared and all(edge.produced == edge.consumed == 1 for edge in self.edges)

    @cached_property
    def parts(self) -> tuple["Pipeline", ...]:
        """The connected parts: they never wait for one another, and only a connected part is sure to turn periodic."""
        group = {name: {name} for name in self.index}
        ties = [(edge.producer, edge.consumer) for edge in self.edges]
        for tie in [*ties, *(resource.stages for resource in self.shared)]:
            joined = set().union(*(group[name] for name in tie))
            for name in joined:
                group[name] = joined
        parts = {frozenset(names): None for names in group.values()}
        if len(parts) == 1:
            return (self,)
        return tuple(
            Pipeline(
                tuple(stage for stage in self.stages if stage.name in names),
                tuple(edge for edge in self.edges if edge.producer in names),
                tuple(resource for resource in self.shared if names.issuperset(resource.stages) and resource.stages),
            )
            for names in parts
        )

    def service(self, turn: int) -> list[int]:
        """Exact cycles of every stage at one turn. Raises ConcretenessError where a stage holds a JAX value."""
        return [
            int(exact(stage.service_cycles if turn else stage.first_cycles, where=f"stage {stage.name!r}"))
            for stage in self.stages
        ]


def check_iterations(iterations: Number) -> int:
    """`iterations` as an int of 1 or more; ArgumentError otherwise."""
    return _positive(iterations, "a pipeline turns at least once", "")


def _positive(number: Any, problem: str, where: str) -> int:
    value = exact(number, where=where)
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(describe(problem, given=str(value), allowed="an int, 1 or more", where=where))
    return value


def _repeated(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name, times in sorted(Counter(names).items()) if times > 1)


def _tuple_of(kind: type, given: Any, what: str, where: str) -> tuple:
    """`given` as a tuple of `kind`. A string is no tuple of names: it would fall apart into letters."""
    several = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
    wrong = [given] if several is None else [each for each in several if not isinstance(each, kind)]
    if several is None or wrong:
        raise ArgumentError(describe(f"not a tuple of {what}", given=repr(wrong[0]), where=where))
    return several


def _check_balance(edge: Edge, producer: Stage, consumer: Stage) -> None:
    """What is emitted in one iteration is read in it, and no group of `every` or `reuse` turns spans two."""
    emitted, uneven = divmod(edge.produced * producer.repeats, edge.every)
    read, ragged = divmod(edge.consumed * consumer.repeats, edge.reuse)
    if not (uneven or ragged or emitted != read or producer.repeats % edge.every or consumer.repeats % edge.reuse):
        return
    raise ArgumentError(
        describe(
            "the rates of an edge do not balance",
            given=(
                f"produced x repeats / every = {edge.produced} x {producer.repeats} / {edge.every} tiles per iteration "
                f"of {producer.name!r}, consumed x repeats / reuse = {edge.consumed} x {consumer.repeats} / "
                f"{edge.reuse} of {consumer.name!r}"
            ),
            allowed="equal numbers, repeats divisible by every and by reuse",
            where=str(edge),
            do=_balanced(edge),
        )
    )


def _balanced(edge: Edge) -> str:
    """The smallest repeats for which the edge alone balances."""
    groups, reads = edge.consumed, edge.produced
    while reads:
        groups, reads = reads, groups % reads
    emits, reads = edge.consumed // groups, edge.produced // groups
    return (
        f"make the repeats of {edge.producer!r} and {edge.consumer!r} a common multiple of {emits * edge.every} "
        f"and {reads * edge.reuse}, such as exactly these"
    )
