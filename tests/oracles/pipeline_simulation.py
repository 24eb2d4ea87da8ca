"""Pipelines as processes of SimPy, written from the law in prose and from nothing that the ledger computes.

A stage takes slots, tiles and its place at every shared resource, works, and hands on. Who may go when is decided by
the simulation alone, but for the order of service at a shared resource, which is part of the law: it is found here
with a linear program (the least period of a schedule in which every stage takes one unit of time per iteration, then
the earliest starts at it).
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm

import numpy as np
import simpy
from scipy.optimize import linprog

from rdujax.ledger import Edge, Pipeline, Shared

FAR = 12  # an iteration far enough from the first one that all of a turn's waits lie in iterations that exist


class Stuck(Exception):
    """Nothing is left that could happen, and turns have not run: a deadlock."""


class Turnstile:
    """Lets turns pass one at a time, in a given order."""

    def __init__(self, env: simpy.Environment, order: Sequence[tuple[str, int]]):
        self._passes = [env.event() for _ in order]
        self._place = {turn: at for at, turn in enumerate(order)}
        self._passes[0].succeed()

    def enter(self, stage: str, turn: int) -> simpy.Event:
        """The event that the turns before have left."""
        return self._passes[self._place[stage, turn]]

    def leave(self, stage: str, turn: int) -> None:
        """Lets the next one pass."""
        if (after := self._place[stage, turn] + 1) < len(self._passes):
            self._passes[after].succeed()


def simulate(
    pipeline: Pipeline, iterations: int, services: Mapping[str, Sequence[int]] | None = None
) -> dict[str, np.ndarray]:
    """Finish of every turn of every stage. services: cycles of every turn, in place of the stages' own."""
    env = simpy.Environment()
    tiles = [simpy.Container(env) for _ in pipeline.edges]
    slots = [simpy.Container(env, init=edge.depth, capacity=edge.depth) for edge in pipeline.edges]
    stiles = [(r, Turnstile(env, order_of_service(pipeline, r, iterations))) for r in pipeline.shared]
    finish: dict[str, list[int]] = {stage.name: [] for stage in pipeline.stages}

    def work(name: str, cycles: Sequence[int]):
        reads = [(i, edge) for i, edge in enumerate(pipeline.edges) if edge.consumer == name]
        writes = [(i, edge) for i, edge in enumerate(pipeline.edges) if edge.producer == name]
        held = [stile for resource, stile in stiles if name in resource.stages]
        for turn, service in enumerate(cycles):
            emits = [(i, edge.produced) for i, edge in writes if turn % edge.every == edge.every - 1]
            for i, count in emits:
                yield slots[i].get(count)
            for i, edge in reads:
                if turn % edge.reuse == 0:
                    yield tiles[i].get(edge.consumed)
            for stile in held:
                yield stile.enter(name, turn)
            yield env.timeout(service)
            finish[name].append(env.now)
            for i, count in emits:
                yield tiles[i].put(count)
            for i, edge in reads:
                if turn % edge.reuse == edge.reuse - 1:
                    yield slots[i].put(edge.consumed)
            for stile in held:
                stile.leave(name, turn)

    for stage in pipeline.stages:
        turns = iterations * stage.repeats
        own = [int(stage.first_cycles)] + [int(stage.service_cycles)] * (turns - 1)
        env.process(work(stage.name, (services or {}).get(stage.name, own)))
    env.run()
    if any(len(finish[stage.name]) < iterations * stage.repeats for stage in pipeline.stages):
        raise Stuck({name: len(turns) for name, turns in finish.items()})
    return {name: np.array(turns, np.int64) for name, turns in finish.items()}


def order_of_service(pipeline: Pipeline, resource: Shared, iterations: int) -> list[tuple[str, int]]:
    """The turns that a resource serves, first to last."""
    start, period = nominal_schedule(pipeline)
    levels = _levels(pipeline)
    served = [
        (start[stage.name, turn] + i * period, levels[stage.name], at, i * stage.repeats + turn, stage.name)
        for at, stage in enumerate(pipeline.stages)
        if stage.name in resource.stages
        for i in range(iterations)
        for turn in range(stage.repeats)
    ]
    return [(name, turn) for _, _, _, turn, name in sorted(served)]


def nominal_schedule(pipeline: Pipeline) -> tuple[dict[tuple[str, int], Fraction], Fraction]:
    """Start of every turn of iteration 0, and the period, if every stage takes one unit of time per iteration."""
    turns = [(stage.name, turn) for stage in pipeline.stages for turn in range(stage.repeats)]
    repeats = {stage.name: stage.repeats for stage in pipeline.stages}
    column = {turn: at for at, turn in enumerate(turns)}
    rows, least = [], []
    for (later, turn), (sooner, on), iterations_ago in _waits(pipeline, repeats):
        row = np.zeros(len(turns) + 1)  # start[sooner] + length - iterations_ago x period - start[later] <= 0
        row[column[sooner, on]] += 1
        row[column[later, turn]] -= 1
        row[-1] = -iterations_ago
        rows.append(row)
        least.append(-1 / repeats[sooner])
    matrix, bound = np.array(rows), np.array(least)
    fastest = linprog(np.eye(len(turns) + 1)[-1], matrix, bound, method="highs")
    if not fastest.success:
        raise Stuck("no schedule repeats")
    period = Fraction(fastest.fun).limit_denominator(1000)
    pinned = [(0, None)] * len(turns) + [(float(period), float(period) + 1e-9)]
    earliest = linprog(np.append(np.ones(len(turns)), 0), matrix, bound, bounds=pinned, method="highs")
    grain = period.denominator * lcm(*repeats.values())
    return {turn: Fraction(round(earliest.x[at] * grain), grain) for turn, at in column.items()}, period


def _waits(pipeline: Pipeline, repeats: Mapping[str, int]):
    """((stage, turn), (stage, turn that it waits for), iterations ago), found by counting tiles turn by turn."""
    for name, count in repeats.items():
        for turn in range(count):
            yield (name, turn), (name, (turn - 1) % count), int(turn == 0)
    for edge in pipeline.edges:
        u, v = repeats[edge.producer], repeats[edge.consumer]
        emitted = [_emitted(edge, turn) for turn in range(2 * FAR * u)]
        back = [_given_back(edge, turn) for turn in range(2 * FAR * v)]
        for turn in range(v):
            needed = edge.consumed * ((FAR * v + turn) // edge.reuse + 1)
            on = next(t for t, tiles in enumerate(emitted) if tiles >= needed)
            yield (edge.consumer, turn), (edge.producer, on % u), FAR - on // u
        for turn in range(u):
            needed = emitted[FAR * u + turn] - edge.depth
            on = next(t for t, tiles in enumerate(back) if tiles >= needed)
            assert on > 0, "the depth is of more iterations than are looked back"
            yield (edge.producer, turn), (edge.consumer, on % v), FAR - on // v


def _emitted(edge: Edge, turn: int) -> int:
    """Tiles emitted by the end of a turn."""
    return sum(edge.produced for t in range(turn + 1) if t % edge.every == edge.every - 1)


def _given_back(edge: Edge, turn: int) -> int:
    """Slots given back by the end of a turn."""
    return sum(edge.consumed for t in range(turn + 1) if t % edge.reuse == edge.reuse - 1)


def _levels(pipeline: Pipeline) -> dict[str, int]:
    """Edges on the longest way to each stage."""
    levels = {stage.name: 0 for stage in pipeline.stages}
    for _ in pipeline.stages:
        for edge in pipeline.edges:
            levels[edge.consumer] = max(levels[edge.consumer], levels[edge.producer] + 1)
    return levels
