"""One canonical form for every pipeline: turns that repeat, each waiting for others of so many rounds ago.

An iteration is spread out into its turns, one node for turn j of each stage. Whatever a turn waits for (its stage, a
tile, a slot, a shared resource) becomes "node k waits for node m of `delay` rounds ago", with the cause named. All
evaluators work on this form: the exact recurrence, the search for a bottleneck, the way back along a critical path, the
differentiable recurrence, and the search for a deadlock, which is a circuit of waits without any delay.

A round is an iteration, where nothing is shared. A shared resource serves a store of iteration i beside a load of a
later one; node k then belongs in round r to iteration r - lags[k], and turns of iterations that there are not (before
the first, after the last) take no time and wait only for their own stage.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from math import lcm

from rdujax.base.errors import ArgumentError, describe
from rdujax.ledger.circuits import heaviest
from rdujax.ledger.numbers import ceil_div
from rdujax.ledger.pipeline import Edge, Pipeline, Shared

MOST_TURNS = 2**18  # of an iteration; each becomes a node, of some kilobytes and tens of microseconds


class Cause(Enum):
    """Why a turn waits for another one."""

    STAGE = "the stage"
    TILE = "a tile"
    SLOT = "a free slot"
    SHARED = "a shared resource"


@dataclass(frozen=True)
class Wait:
    """A node waits for the end of node `on`, `delay` rounds ago. name: of the stage, the edge or the resource."""

    on: int
    delay: int
    cause: Cause
    name: str

    def __str__(self) -> str:
        return self.name if self.cause in (Cause.STAGE, Cause.SHARED) else f"{self.cause.value} of {self.name}"


@dataclass(frozen=True, eq=False)
class Form:
    """The canonical form. Equal pipelines share one, whatever their services.

    stages: their names. turns: (position of the stage, turn within the iteration) of every node. waits: of every node,
    its own stage first. order: nodes such that waits without delay lead forward. lags: rounds by which every node runs
    late.
    """

    stages: tuple[str, ...]
    turns: tuple[tuple[int, int], ...]
    waits: tuple[tuple[Wait, ...], ...]
    order: tuple[int, ...]
    lags: tuple[int, ...]

    @property
    def arcs(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The waits of every node as (node, delay)."""
        return tuple(tuple((wait.on, wait.delay) for wait in waits) for waits in self.waits)

    @cached_property
    def reach(self) -> int:
        """The largest delay: how many rounds the law looks back."""
        return max(wait.delay for waits in self.waits for wait in waits)

    @cached_property
    def last_lag(self) -> int:
        """Rounds that run after the last iteration has begun."""
        return max(self.lags)

    def turn_name(self, node: int) -> str:
        """A node in words."""
        stage, turn = self.turns[node]
        alone = turn == 0 and (stage, 1) not in self.turns
        return repr(self.stages[stage]) if alone else f"turn {turn} of {self.stages[stage]!r}"


def expand(pipeline: Pipeline) -> Form:
    """The canonical form of a pipeline.

    Raises ArgumentError for a deadlock, with the turns that wait for one another and what each of them waits for, and
    for more than `MOST_TURNS` turns in an iteration.
    """
    if (turns := sum(stage.repeats for stage in pipeline.stages)) > MOST_TURNS:
        most = max(pipeline.stages, key=lambda stage: stage.repeats)
        raise ArgumentError(
            describe(
                "too many turns in an iteration to be timed one by one",
                given=f"{turns:,} turns, {most.repeats:,} of them of stage {most.name!r}",
                allowed=f"{MOST_TURNS:,} in all stages",
                do="let a turn stand for more work, or an iteration for less",
            )
        )
    stages = tuple((stage.name, stage.repeats) for stage in pipeline.stages)
    return _expand(stages, pipeline.edges, pipeline.shared, pipeline.levels)


@lru_cache(maxsize=256)
def _expand(
    stages: tuple[tuple[str, int], ...], edges: tuple[Edge, ...], shared: tuple[Shared, ...], levels: tuple[int, ...]
) -> Form:
    names = tuple(name for name, _ in stages)
    position = {name: at for at, name in enumerate(names)}
    turns = tuple((stage, turn) for stage, (_, repeats) in enumerate(stages) for turn in range(repeats))
    node = {turn: at for at, turn in enumerate(turns)}
    repeats = dict(stages)
    waits: list[list[Wait]] = []
    for stage, turn in turns:
        before = Wait(node[stage, (turn or stages[stage][1]) - 1], int(turn == 0), Cause.STAGE, "its own stage")
        waits.append([before])
    for edge in edges:
        producer, consumer = position[edge.producer], position[edge.consumer]
        for turn, on in _tiles(edge, repeats[edge.consumer]):
            waits[node[consumer, turn]].append(Wait(node[producer, on], 0, Cause.TILE, str(edge)))
        for turn, on, delay in _slots(edge, repeats[edge.producer], repeats[edge.consumer]):
            waits[node[producer, turn]].append(Wait(node[consumer, on], delay, Cause.SLOT, str(edge)))
    form = Form(names, turns, tuple(map(tuple, waits)), (), (0,) * len(turns))
    form = _ordered(form)
    return _served(form, shared, levels) if shared else form


def _tiles(edge: Edge, repeats: int) -> Iterator[tuple[int, int]]:
    """(turn of the consumer, turn of the producer in the same iteration), without waits that an earlier turn had."""
    before = None
    for turn in range(repeats):
        on = edge.every * ceil_div(edge.consumed * (turn // edge.reuse + 1), edge.produced) - 1
        if on != before:
            yield turn, on
        before = on


def _slots(edge: Edge, repeats: int, consumer_repeats: int) -> Iterator[tuple[int, int, int]]:
    """(turn of the producer, turn of the consumer, iterations ago), without waits that an earlier turn had."""

    def last_back(turn: int) -> int:
        back = edge.produced * ((turn + 1) // edge.every) - edge.depth
        return edge.reuse * ceil_div(back, edge.consumed) - 1

    for turn in range(repeats):
        on = last_back(turn)
        if on != last_back(turn - 1):
            later, within = divmod(on, consumer_repeats)
            yield turn, within, -later


def _ordered(form: Form) -> Form:
    """The form with its order of evaluation."""
    now = {node: [wait.on for wait in waits if wait.delay == 0] for node, waits in enumerate(form.waits)}
    try:
        order = tuple(TopologicalSorter(now).static_order())
    except CycleError as error:
        raise _deadlock(form, error.args[1]) from None
    return Form(form.stages, form.turns, form.waits, order, form.lags)


def _deadlock(form: Form, circuit: Sequence[int]) -> ArgumentError:
    """An error that tells a circuit of waits, each node waiting for the one before it."""
    steps, full = [], []
    for on, node in pairwise(circuit):
        wait = next(wait for wait in form.waits[node] if (wait.on, wait.delay) == (on, 0))
        steps.append(f"{form.turn_name(node)} waits for {form.turn_name(on)} ({wait})")
        full += [wait.name] if wait.cause is Cause.SLOT else []
    return ArgumentError(
        describe(
            "a deadlock: turns of a pipeline wait for one another for ever",
            given="; ".join(reversed(steps)),
            do=f"give one of these buffers more slots: {', '.join(dict.fromkeys(full))}",
        )
    )


def nominal_lengths(form: Form) -> tuple[int, ...]:
    """The length of every node's turn if each stage takes the same time per iteration, in turns of equal length."""
    repeats = Counter(stage for stage, _ in form.turns)
    unit = lcm(*repeats.values())
    return tuple(unit // repeats[stage] for stage, _ in form.turns)


def _served(form: Form, shared: tuple[Shared, ...], levels: tuple[int, ...]) -> Form:
    """The form with the turns that shared resources serve, in rounds."""
    steady = heaviest(nominal_lengths(form), form.arcs, form.order)
    period = steady.ratio.numerator
    lags = tuple(start // period for start in steady.starts)
    waits = [
        [Wait(wait.on, wait.delay + lags[node] - lags[wait.on], wait.cause, wait.name) for wait in waits]
        for node, waits in enumerate(form.waits)
    ]
    for resource in shared:
        users = [node for node, (stage, _) in enumerate(form.turns) if form.stages[stage] in resource.stages]
        users.sort(key=lambda node: (steady.starts[node] % period, levels[form.turns[node][0]], form.turns[node]))
        for node, on, delay in _turns_at(users, form.turns):
            waits[node].append(Wait(on, delay, Cause.SHARED, str(resource)))
    return _ordered(Form(form.stages, form.turns, tuple(map(tuple, waits)), (), lags))


def _turns_at(users: Sequence[int], turns: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(node, node, rounds ago): for every user and every other stage, its last turn at the resource before that one.

    One wait for each stage and not only for the user before: near the ends of a stream that one may not exist. A wait
    that the stage's own turn before had already is left out, but not of turn 0: at first there is no turn before it.
    """
    last: dict[int, tuple[int, int, int]] = {}
    for at, (node, lap) in enumerate((node, lap) for lap in (0, 1) for node in users):
        stage, turn = turns[node]
        if lap:
            own = last[stage][0] if turn else -1
            others = [each for other, each in last.items() if other != stage and each[0] > own]
            yield from ((node, on, lap - then) for _, on, then in others)
        last[stage] = (at, node, lap)
