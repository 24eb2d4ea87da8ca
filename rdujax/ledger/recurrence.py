"""The recurrence of a pipeline's time in exact integers, for streams of any length.

A row holds the finish of every node of the canonical form (`waits.py`) in one round:

    finish[k] = max over the waits of node k of (finish of that node, `delay` rounds ago) + service[k]

`Run` tells the rows of a whole stream. They are computed one after another until they go on evenly (`stretches.py`);
from there to where that ends, or for ever, they are arithmetic on Python ints. A stream that ends first, or in which
every turn has a service of its own, has simply been run to its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.ledger.numbers import exact, whole
from rdujax.ledger.pipeline import Pipeline
from rdujax.ledger.stretches import Stretch, laps_ahead, may_repeat, of_round
from rdujax.ledger.waits import Form, expand

LARGEST = 2**63 - 1
WORTH = 4  # a stretch shorter than this, in laps and in looks back, is computed row by row
Services = Mapping[str, Sequence[int] | np.ndarray]


@dataclass(frozen=True)
class Run:
    """All finish times of `iterations` of a pipeline, of which `row` tells any.

    stretches: of rounds before `iterations`, in order. tail: rows of the rounds after that. table: services of every
    iteration and node, where they differ.
    """

    form: Form
    iterations: int
    first: Sequence[int]
    later: Sequence[int]
    table: Sequence[Sequence[int]] | None
    stretches: list[Stretch]
    tail: list[list[int]]

    @property
    def rounds(self) -> int:
        """Rounds in all."""
        return self.iterations + self.form.last_lag

    def row(self, round_: int) -> list[int]:
        """Finish of every node in one round; of a node that has no turn in it, of its stage so far."""
        return [self.finish(round_, node) for node in range(len(self.form.turns))]

    def finish(self, round_: int, node: int) -> int:
        """One number of `row`."""
        if round_ >= self.iterations:
            return self.tail[round_ - self.iterations][node]
        return self.stretches[of_round(self.stretches, round_)].finish(round_, node)

    def even(self, round_: int) -> tuple[int, int] | None:
        """(first round, period) of laps around a round in all of which every turn waits for the same; None if none."""
        if round_ >= self.iterations:
            return None
        stretch = self.stretches[of_round(self.stretches, round_)]
        # In the last of some laps, what overtakes next may be waited for as well.
        ended = stretch.laps is not None and round_ >= stretch.told + (stretch.laps - 1) * stretch.period
        return None if round_ < stretch.told or ended else (stretch.told, stretch.period)

    def lives(self, round_: int, node: int) -> bool:
        """True if a node has a turn in a round."""
        return 0 <= round_ - self.form.lags[node] < self.iterations

    def service(self, round_: int, node: int) -> int:
        """Cycles of a node in a round; 0 where it has no turn."""
        iteration = round_ - self.form.lags[node]
        if not 0 <= iteration < self.iterations:
            return 0
        if self.table is not None:
            return self.table[iteration][node]
        return self.later[node] if iteration else self.first[node]

    @cached_property
    def makespan_cycles(self) -> int:
        """The last finish."""
        return max(self.row(self.rounds - 1))

    def finishes(self) -> np.ndarray:
        """Finish of every iteration and node: int64 [iterations, nodes]. Raises ArgumentError beyond int64."""
        if self.makespan_cycles > LARGEST:
            raise ArgumentError(
                describe(
                    "finish times pass the largest int64",
                    given=f"{self.makespan_cycles:,} cycles",
                    do="use makespan_cycles",
                )
            )
        rows = np.empty((self.rounds, len(self.form.turns)), np.int64)
        ends = [stretch.begin for stretch in self.stretches[1:]] + [self.iterations]
        for stretch, end in zip(self.stretches, ends, strict=True):
            known = np.array(stretch.rows, np.int64)[: end - stretch.begin]
            rows[stretch.begin : stretch.begin + len(known)] = known
            if end > stretch.told:
                laps, phases = np.divmod(np.arange(end - stretch.told), stretch.period)
                steps = np.array(stretch.steps, np.int64)
                rows[stretch.told : end] = known[phases - stretch.period] + (laps[:, None] + 1) * steps[phases]
        rows[self.iterations :] = np.array(self.tail, np.int64).reshape(-1, rows.shape[1])
        if not self.form.last_lag:
            return rows
        columns = [rows[lag : lag + self.iterations, node] for node, lag in enumerate(self.form.lags)]
        return np.stack(columns, axis=1)

    def services(self) -> np.ndarray:
        """Cycles of every iteration and node: int64 [iterations, nodes]."""
        if self.table is not None:
            return np.array(self.table, np.int64)
        services = np.tile(np.array(self.later, np.int64), (self.iterations, 1))
        services[0] = self.first
        return services


def run(pipeline: Pipeline, iterations: int, service_cycles: Services | None = None) -> Run:
    """Runs the recurrence until it repeats, or to its end where `service_cycles` gives every turn its own.

    service_cycles: per stage, the cycles of its iterations x repeats turns; a stage that is not named keeps its own.
    Raises ArgumentError for a deadlock, ShapeError for services of another shape, ConcretenessError where a stage or a
    turn holds a JAX value.
    """
    form = expand(pipeline)
    begin, rest = pipeline.service(0), pipeline.service(1)
    first = [rest[stage] if turn else begin[stage] for stage, turn in form.turns]
    later = [rest[stage] for stage, _ in form.turns]
    if service_cycles is not None:
        table = _table(pipeline, form, iterations, first, later, service_cycles)
        return _run(Run(form, iterations, first, later, table, [], []))
    return _run(Run(form, iterations, first, later, None, [], []))


def _run(empty: Run) -> Run:
    form, iterations = empty.form, empty.iterations
    law = [(node, *_split(form.waits[node])) for node in form.order]
    stretches, round_ = [Stretch(0)], 0
    while round_ < iterations:
        stretches[-1] = _stretch(empty, law, stretches[-1])
        last = stretches[-1]
        if last.laps is None or (round_ := last.told + last.laps * last.period) >= iterations:
            break
        begin = round_ - form.reach
        rows = [[stretches[-1].finish(r, node) for node in range(len(law))] for r in range(begin, round_)]
        stretches.append(Stretch(begin, rows))
    known = Run(form, iterations, empty.first, empty.later, empty.table, stretches, [])
    tail: list[list[int]] = []
    if form.last_lag:
        recent = [known.row(r) for r in range(max(0, iterations - form.reach), iterations)]
        for _ in range(form.last_lag):
            recent.append(_edge_row(known, law, recent, iterations + len(tail)))
            tail.append(recent[-1])
    return Run(form, iterations, empty.first, empty.later, empty.table, stretches, tail)


def _stretch(empty: Run, law: "Law", stretch: Stretch) -> Stretch:
    """Rows from the end of a stretch until they go on evenly for a while, or to the end of the stream.

    How far apart to compare rows is found as by Brent: the anchor moves on in doublings, so no period is missed.
    """
    form, rows, late = empty.form, stretch.rows, empty.form.last_lag
    anchor = max(form.reach, late + 1)
    next_try = 0
    for round_ in range(stretch.told, empty.iterations):
        if round_ > late and empty.table is None:
            rows.append(_next_row(law, rows, empty.later))
        else:
            rows.append(_edge_row(empty, law, rows))
        at = len(rows) - 1
        period = at - anchor
        if period > 0 and empty.table is None and at >= next_try and may_repeat(rows, period):
            found = laps_ahead(form, empty.later, rows, period)
            steps, laps = found or ([], 0)
            left = -(-(empty.iterations - 1 - round_) // period)
            if laps is None or laps > left:
                return Stretch(stretch.begin, rows, period, steps, None)
            if laps * period > WORTH * (form.reach + period):
                return Stretch(stretch.begin, rows, period, steps, laps)
            next_try = at + period * max(1, laps)
        if at == 2 * anchor:
            anchor = at
    return Stretch(stretch.begin, rows)


Law = list[tuple[int, list[int], list[tuple[int, int]]]]


def _split(waits: Sequence) -> tuple[list[int], list[tuple[int, int]]]:
    """What a node waits for in its own round, and in earlier ones."""
    now = [wait.on for wait in waits if wait.delay == 0]
    return now, [(wait.on, wait.delay) for wait in waits if wait.delay]


def _next_row(law: Law, rows: Sequence[Sequence[int]], service: Sequence[int]) -> list[int]:
    """The row after `rows`, in which every node has a turn."""
    row = [0] * len(service)
    known = len(rows)
    for node, now, past in law:
        start = 0
        for on in now:
            if row[on] > start:
                start = row[on]
        for on, delay in past:
            if delay <= known and rows[-delay][on] > start:
                start = rows[-delay][on]
        row[node] = start + service[node]
    return row


def _edge_row(empty: Run, law: Law, rows: Sequence[Sequence[int]], round_: int | None = None) -> list[int]:
    """The row after `rows` of a round that need not be like the others: first or late turns, services of their own."""
    at = len(rows) if round_ is None else round_
    if empty.table is not None and not empty.form.last_lag:
        return _next_row(law, rows, empty.table[at])
    service = [empty.service(at, node) for node in range(len(law))]
    if idle := {node for node in range(len(law)) if not empty.lives(at, node)}:
        own = {node: empty.form.waits[node][:1] for node in idle}
        law = [(node, *_split(own[node])) if node in idle else (node, now, past) for node, now, past in law]
    return _next_row(law, rows, service)


def _table(
    pipeline: Pipeline, form: Form, iterations: int, first: Sequence[int], later: Sequence[int], given: Services
) -> list[list[int]]:
    """Services of every iteration and node."""
    table = [list(first)] + [list(later) for _ in range(iterations - 1)]
    for name, services in given.items():
        stage, repeats = pipeline.index[name], pipeline.stages[pipeline.index[name]].repeats
        if (told := length(services)) != str(iterations * repeats):
            raise ShapeError(
                describe(
                    "service cycles for another number of turns than the stage has",
                    given=f"{told} for stage {name!r}",
                    allowed=f"{iterations * repeats}: {iterations} iterations of {repeats} turns",
                )
            )
        nodes = [node for node, (of, _) in enumerate(form.turns) if of == stage]
        for turn, cycles in enumerate(_checked(services, name)):
            table[turn // repeats][nodes[turn % repeats]] = cycles
    return table


def length(row: object) -> str:
    """How many numbers a row has; of what is no row, what it is."""
    if (shape := getattr(row, "shape", None)) is not None:
        return str(shape[0]) if len(shape) == 1 else f"an array of shape {shape}"
    return str(len(row)) if isinstance(row, Sequence) else f"one {type(row).__name__}"


def _checked(services: Sequence[int] | np.ndarray, name: str) -> list[int]:
    """The services of one stage as Python ints."""
    if isinstance(services, np.ndarray) and np.issubdtype(services.dtype, np.integer) and services.min() >= 0:
        return services.tolist()
    turns = [(value, f"turn {turn} of stage {name!r}") for turn, value in enumerate(services)]
    return [whole(exact(value, where=where), what="service_cycles", where=where) for value, where in turns]
