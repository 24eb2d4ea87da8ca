"""The tracks of a timeline: when each stage turns, and what each of its turns waited for."""

from collections import Counter as Tally
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from rdujax.compiler.tracefile import Track
from rdujax.estimate.queues import queues
from rdujax.graph.plan import PlannedKernel
from rdujax.ledger.timetable import Schedule
from rdujax.ledger.waits import Cause, expand

WAITS = {Cause.TILE: "a tile of", Cause.SLOT: "a free slot, full for", Cause.SHARED: "the turn of"}
Words = Mapping[tuple[str, str], str]


def words(planned: PlannedKernel, times: Schedule) -> Words:
    """What it is, where it is no tile, that a stage waits for of another one: by (that one, the stage).

    A slice, of a load that streams by; or its turn at the tier, behind the stream whose turn it is.
    """
    stages, edges = times.pipeline.index, Tally((e.producer, e.consumer) for e in times.pipeline.edges)
    repeats = {name: times.pipeline.stages[at].repeats for name, at in stages.items()}
    found = {
        (e.producer, e.consumer): "a slice of"
        for e in times.pipeline.edges
        if e.consumed == 1 < repeats[e.producer]
    }  # fmt: skip
    if planned.tiling.in_turn:
        ties = [(a.label, b.label) for streams in queues(planned).values() for a, b in pairwise(streams)]
        found |= {tie: "the turn of" for tie in ties if edges[tie] == 1}  # a store may read what the load before brings
    return found


def of_stage(times: Schedule, label: str, units: str, shown: np.ndarray, words: Words, turning: bool = True) -> Track:
    """The turns of one stage that take time, in the iterations `shown`, and what each of them waited for.

    turning: False for a stage behind the last turn, which is drawn as it is, from where what is behind it begins.
    """
    start, finish = times.start[label], times.finish[label]
    repeats = len(start) // times.iterations
    shown = shown if turning else np.arange(times.iterations)
    begin = 0 if turning else min(int(first[0]) for first in times.start.values())
    waited = start - np.r_[begin, finish[:-1]]
    cause, causes = _causes(times, label, waited, words)
    drawn = (shown[:, None] * repeats + np.arange(repeats)).ravel()
    hidden, gap = len(start) - len(drawn), None
    if hidden:
        gap = int(finish[len(drawn) // 2 - 1]), int(start[-(len(drawn) // 2)])
    works = finish > start
    waits = tuple(int(waited[works & (cause == each)].sum()) for each in range(len(causes)))
    drawn = drawn[works[drawn]]
    return Track(
        label, units, drawn // repeats, start[drawn], finish[drawn], waited[drawn], cause[drawn], causes,
        gap, hidden // repeats, waits, repeats, drawn % repeats,
    )  # fmt: skip


def _causes(times: Schedule, label: str, waited: np.ndarray, words: Words) -> tuple[np.ndarray, tuple[str, ...]]:
    """For each turn of a stage, which of the causes named beside ended when it began; -1 where it did not wait."""
    form = expand(next(part for part in times.pipeline.parts if label in part.index))
    stages = Tally(form.stages[stage] for stage, _ in form.turns)

    def ends(node: int) -> np.ndarray:
        stage, turn = form.turns[node]
        name = form.stages[stage]
        return times.finish[name][turn :: stages[name]]

    cause = np.full(len(waited), -1)
    causes: list[str] = []
    for node in (node for node, (stage, _) in enumerate(form.turns) if form.stages[stage] == label):
        own = slice(form.turns[node][1], None, stages[label])
        for wait in form.waits[node][1:]:
            back = wait.delay + form.lags[wait.on] - form.lags[node]
            at = np.arange(times.iterations) - back
            there = (at >= 0) & (at < times.iterations)
            ended = np.where(there, ends(wait.on)[np.clip(at, 0, times.iterations - 1)], -1)
            binds = (waited[own] > 0) & (cause[own] < 0) & (ended == times.start[label][own])
            if not binds.any():
                continue
            on = form.stages[form.turns[wait.on][0]]
            what = words.get((on, label), WAITS[wait.cause]) if wait.cause is Cause.TILE else WAITS[wait.cause]
            causes += [name for name in [f"{what} {on}"] if name not in causes]
            cause[own][binds] = causes.index(f"{what} {on}")
    return cause, tuple(causes)
