"""A planned kernel as processes of SimPy, from the prose of plans and from nothing that makes pipelines of them.

A stage takes its operands whole, but for a load that streams by: of that it takes slice after slice, and makes its
tile in as many. Whoever reads the tile waits for all of it. A slot of a buffer is taken when the turn or slice that
fills it begins, and is free again when the last reader is done with it. What stays on chip is loaded once and never
given back.

Where a kernel turns but once and loads stream by, a tier does one thing at a time: first the loads, in the order in
which the stages need them (of those that one stage needs, that which streams by comes last; what is only copied comes
last of all), then the stores in the order in which they are made. A load stands still while its buffer is full.

To sums every turn adds its part, and nobody takes them. When the last turn is through everything that turns, what is
made of them, and stored, is made and stored once.
"""

from collections.abc import Iterator
from math import prod

import numpy as np
import simpy

from rdujax.graph.graph import Graph
from rdujax.graph.plan import MemoryStream, PlannedKernel, Stage
from rdujax.machines.machine import Machine
from rdujax.units import agcu

Cycles = dict[str, tuple[int, int]]  # of the first turn or slice of a stage or stream, and of each further one


class Buffer:
    """One stage buffer: what is in it for each reader, and how much room each of them leaves."""

    def __init__(self, env: simpy.Environment, readers: list[str], slots: int, stays: bool):
        self.stays = stays
        self.full = {reader: simpy.Container(env) for reader in readers}
        self.room = {reader: simpy.Container(env, init=slots) for reader in readers}

    def reserve(self) -> Iterator[simpy.Event]:
        """The events that every reader leaves a slot."""
        yield from (room.get(1) for room in self.room.values() if not self.stays)

    def fill(self) -> None:
        """One more tile or slice is there."""
        for full in self.full.values():
            full.put(1)


def simulate(planned: PlannedKernel, cycles: Cycles) -> dict[str, np.ndarray]:
    """Finish of every turn, or slice of a turn, of every stage and stream by label; once, of what stays on chip."""
    return _Simulation(planned, cycles).run()


def in_turn_cycles(graph: Graph, planned: PlannedKernel, machine: Machine) -> Cycles:
    """Cycles of a kernel whose streams take turns: each has its tier to itself, and moves equal slices."""
    found = {}
    for stream in planned.streams:
        slices = 1 if stream.is_store else planned.tiling.slices(stream.value)
        size = int(np.ceil(stream.total_bytes / slices))
        alone = machine.transfer_cycles(stream.tier, *((0, size) if stream.is_store else (size, 0)))
        each = max(alone, agcu.cycles(machine.agcu, size, stream.agcus)) if size else 0
        found[stream.label] = each, each
    for stage, share in zip(planned.kernel.stages, planned.shares, strict=True):
        each = stage.op.cycles(machine, share, *planned.turn(graph, stage))
        found[stage.label] = each, each
    return found


class _Simulation:
    def __init__(self, planned: PlannedKernel, cycles: Cycles):
        self.env, self.planned, self.cycles = simpy.Environment(), planned, cycles
        kernel, tiling = planned.kernel, planned.tiling
        self.turns = prod(loop.trips for loop in tiling.loops)
        self.inner = {value: loop.trips for loop in tiling.inner for value, _ in loop.members}
        self.stores = {s.value: s for s in planned.streams if s.is_store}
        self.loads = {s.value: s for s in planned.streams if not s.is_store}
        self.source = {w.value: w.read.value for w in kernel.writes}
        readers: dict[int, list[str]] = {b.value: [] for b in planned.buffers}
        for stage in kernel.stages:
            for value in {read.value for read in stage.reads}:
                readers[value].append(stage.label)
        for write in kernel.writes:
            readers[write.read.value].append(self.stores[write.value].label)
        self.buffers = {}
        for b in planned.buffers:
            made_in = self.inner.get(b.value, 1) if b.value not in self.loads else 1
            stays = b.value in tiling.resident | tiling.sums | tiling.late
            self.buffers[b.value] = Buffer(self.env, readers[b.value], b.depth * made_in, stays)
        self.finish: dict[str, list[int]] = {label: [] for label in cycles}
        self.late_stores = {w.value for w in kernel.writes if w.read.value in tiling.sums | tiling.late}

    def run(self) -> dict[str, np.ndarray]:
        late, begun = self.planned.tiling.late, []
        for stage in self.planned.kernel.stages:
            if stage.result not in late:
                begun.append(self.env.process(self._stage(stage)))
        if self.turns == 1 and self.planned.tiling.inner:
            for tier in {s.tier for s in self.planned.streams}:
                self.env.process(self._tier(tier))
        else:
            for stream in self.planned.streams:
                if not (stream.is_store and stream.value in self.late_stores):
                    begun.append(self.env.process(self._store(stream) if stream.is_store else self._load(stream)))
        through = self.env.all_of(begun)
        for stage in self.planned.kernel.stages:
            if stage.result in late:
                self.env.process(self._late_stage(stage, through))
        for value in self.late_stores:
            self.env.process(self._late_store(self.stores[value], through))
        self.env.run()
        return {label: np.array(times, np.int64) for label, times in self.finish.items()}

    def _work(self, label: str):
        first, later = self.cycles[label]
        yield self.env.timeout(later if self.finish[label] else first)
        self.finish[label].append(int(self.env.now))

    def _stage(self, stage: Stage):
        slices = self.inner.get(stage.result, 1)
        read = {r.value for r in stage.reads}
        by = {value for value in read if value in self.loads and self.inner.get(value, 1) > 1}
        once = stage.result in self.planned.tiling.resident
        for turn in range(1 if once else self.turns):
            for at in range(slices):
                yield from self.buffers[stage.result].reserve()
                for value in read - by if at == 0 else ():
                    yield from self._take(value, stage.label, turn)
                for value in by:
                    yield self.buffers[value].full[stage.label].get(1)
                yield from self._work(stage.label)
                self.buffers[stage.result].fill()
                for value in by:
                    yield self.buffers[value].room[stage.label].put(1)
            for value in read - by:
                yield from self._give_back(value, stage.label)

    def _late_stage(self, stage: Stage, through: simpy.Event):
        yield through
        for value in {r.value for r in stage.reads} & self.planned.tiling.late:
            yield self.buffers[value].full[stage.label].get(1)
        yield from self._work(stage.label)
        self.buffers[stage.result].fill()

    def _late_store(self, stream: MemoryStream, through: simpy.Event):
        yield through
        value = self.source[stream.value]
        if value in self.planned.tiling.late:
            yield self.buffers[value].full[stream.label].get(1)
        yield from self._work(stream.label)

    def _parts(self, value: int) -> int:
        """In how many parts a tile of a value gets into its buffer."""
        return self.inner.get(value, 1)

    def _take(self, value: int, reader: str, turn: int):
        if self.buffers[value].stays:
            if turn == 0:
                yield self.buffers[value].full[reader].get(1)
            return
        yield self.buffers[value].full[reader].get(self._parts(value))

    def _give_back(self, value: int, reader: str):
        if not self.buffers[value].stays:
            yield self.buffers[value].room[reader].put(self._parts(value))

    def _load(self, stream: MemoryStream):
        buffer = self.buffers[stream.value]
        for _ in range(1 if buffer.stays else self.turns * self.inner.get(stream.value, 1)):
            yield from buffer.reserve()
            yield from self._work(stream.label)
            buffer.fill()

    def _store(self, stream: MemoryStream):
        value = self.source[stream.value]
        for turn in range(self.turns):
            yield from self._take(value, stream.label, turn)
            yield from self._work(stream.label)
            yield from self._give_back(value, stream.label)

    def _tier(self, tier: str):
        stages = self.planned.kernel.stages
        made = {stage.result: at for at, stage in enumerate(stages)}

        def needed(stream: MemoryStream) -> tuple[int, bool]:
            at = [i for i, stage in enumerate(stages) if stream.value in {r.value for r in stage.reads}]
            return min(at, default=len(stages)), self.inner.get(stream.value, 1) > 1

        own = [s for s in self.planned.streams if s.tier == tier]
        for stream in sorted((s for s in own if not s.is_store), key=needed):
            yield from self._load(stream)
        for stream in sorted((s for s in own if s.is_store), key=lambda s: made.get(self.source[s.value], -1)):
            yield from self._store(stream)
