"""Runs a planned program through the units, bit by bit.

For every kernel: AGCUs load streams from memory, PCUs compute stages, PMUs deliver one stage's result to the next
under its access pattern, AGCUs store. The executor (see streams/lift.py) decides how tiles are walked and changes no
bit; "whole" takes each tensor as one tile, the others use the tiles of the plan. Loops and branches are in regions.py.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import jax
import numpy as np

from rdujax.emulate.node import StageRun, addressed, run_stage
from rdujax.emulate.regions import Mode, Result, run_region
from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Fetch, Read, Stage, Write
from rdujax.graph.plan import Plan, PlannedKernel, Tiling, delivered, layout_of, stored
from rdujax.ledger.counts import Counts
from rdujax.machines.machine import Machine
from rdujax.numerics import convert
from rdujax.numerics.formats import Format
from rdujax.ops.op import visits as grid_visits
from rdujax.streams import layout as layouts
from rdujax.streams.access import Access, chain_read
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream, untile
from rdujax.units import agcu, pmu

PLAIN = Mode()


def run(plan: Plan, machine: Machine, operands: Mapping[int, jax.Array], mode: Mode = PLAIN) -> Result:
    """Executes all steps on the machine that they were planned for.

    operands: carriers of the graph's inputs and constants, by value number. Pure: jit, vmap and forward derivatives
    pass through; backward ones, too, where no `while` loop turns.
    """
    memory, counts = dict(operands), []
    captured: dict[int, jax.Array] = {}
    turned: dict[str, jax.Array] = {}
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            kernel = _Kernel(plan, step, machine, mode)
            with jax.named_scope(f"kernel_{step.kernel.name.split(':')[0]}"):
                memory |= kernel.run(memory)
            counts += kernel.counted
            captured |= kernel.results
            continue
        with jax.named_scope(step.node.label.replace("/", ".")):
            given = [memory[v] for v in step.node.operands]
            results, inside = run_region(step, given, lambda body, inputs: run(body, machine, inputs, mode), mode)
        memory |= inside.memory | dict(zip(step.node.results, results, strict=True))
        counts += inside.counts
        captured |= inside.captured
        turned |= inside.turned
    return Result(memory, tuple(counts), captured, turned)


class _Kernel:
    """One launch: the streams that are alive while it runs. results: of every stage, where they are captured."""

    def __init__(self, plan: Plan, planned: PlannedKernel, machine: Machine, mode: Mode):
        self.graph, self.plan, self.planned, self.agcu = plan.graph, plan, planned, machine.agcu
        self.how: Executor = mode.how
        self.tally, self.capture = mode.tally, mode.capture
        self.streams: dict[int, Stream] = {}
        self.results: dict[int, jax.Array] = {}
        self.counted: list[Counts] = []

    def run(self, memory: Mapping[int, jax.Array]) -> dict[int, jax.Array]:
        """Values left in memory."""
        kernel = self.planned.kernel
        for step in kernel.in_order:
            if isinstance(step, Stage):
                with jax.named_scope(step.label.replace("/", ".")):
                    self._stage(step)
            elif step in kernel.fetched:
                self._fetch(kernel.fetched[step], memory)
            else:
                self._load(step, memory[step])
        written: dict[int, jax.Array] = {}
        for write in kernel.writes:
            written[write.value] = self._store(write, {**memory, **written})
        return written

    def _store(self, write: Write, memory: Mapping[int, jax.Array]) -> jax.Array:
        """What is in memory after a write: what was stored, or what was there with a part of it overwritten."""
        shape = write.kind(self.graph).shape
        layout = layouts.whole(shape) if self.how == "whole" else stored(self.graph, self.planned.tiling, write)
        stream = self._read(write.read, layout, self.graph.types[write.value].fmt)
        self._count_read(write.read.value, layout)
        moved, counts = agcu.store(
            self.agcu, stream, self.plan.tiers[write.value], self.how, self.tally, slice_bytes=write.slice_bytes
        )
        self._count(counts)
        if write.update is None:
            return moved
        places = []
        for place in write.places:
            whole = layouts.whole(place.shape(self.graph))
            places.append(untile(self._read(place, whole, self.graph.types[place.value].fmt)))
            self._count_read(place.value, whole)
        fmt, over = self.graph.types[write.value].fmt, memory[write.update.over]
        return addressed(write.update.op, fmt, *write.operands(over, moved, places))

    def _count_read(self, value: int, layout: Layout) -> None:
        """Counts the bytes of a buffer that AGCUs read, once."""
        if self.tally:
            self._count(pmu.read(layout, self.planned.held(self.graph, value), self.how))

    def _load(self, value: int, carriers: jax.Array, slice_bytes: int = 0) -> None:
        tier = self.plan.tiers[self.planned.kernel.source(value)]
        fmt, layout = self.graph.types[value].fmt, self._layout(value)
        order = visits(self.planned.tiling, value, layout) if self.tally else None
        self.streams[value], counts = agcu.load(
            self.agcu, carriers, layout, fmt, tier, order, self.how, self.tally, slice_bytes=slice_bytes
        )
        self._count(counts)

    def _fetch(self, fetch: Fetch, memory: Mapping[int, jax.Array]) -> None:
        """Loads what lies at the places that are read from buffers: its addresses are all that is computed."""
        whole = chain_read(fetch.read.chain, memory[fetch.read.value])
        if fetch.op is not None:
            places = [untile(place) for place in self._places(fetch)]
            whole = addressed(fetch.op, self.graph.types[fetch.value].fmt, whole, *places)
        self._load(fetch.value, whole, fetch.slice_bytes)
        if self.capture:
            self.results[fetch.value] = whole

    def _places(self, fetch: Fetch) -> list[Stream]:
        """What says where a load lies, cut like the load; read once for each of its tiles that is asked for."""
        shapes = [place.shape(self.graph) for place in fetch.places]
        result = self._layout(fetch.value)
        found = []
        for place, shape, axes in zip(fetch.places, shapes, fetch.walks(self.graph), strict=True):
            layout = result.of_walking(shape, axes)
            fmt = self.planned.held(self.graph, place.value)
            found.append(self._read(place, layout, self.graph.types[place.value].fmt))
            if self.tally:
                times = grid_visits(axes, result.grid) * self.planned.tiling.sweeps(fetch.value)
                self._count(pmu.read(layout, fmt, self.how) * times)
        return found

    def _stage(self, stage: Stage) -> None:
        layout = self._layout(stage.result)
        output = self.planned.held(self.graph, stage.result)
        held = tuple(self.planned.held(self.graph, read.value) for read in stage.reads)
        reads = self._reads(stage, held, layout)
        setup = StageRun(stage.op, reads, held, layout, output, self.how, self.tally, self.capture)
        stream, counted, result = run_stage(setup, *(self.streams[read.value] for read in stage.reads))
        self.counted += counted
        tiling = self.planned.tiling
        if self.tally and stage.result in tiling.sums:
            self._count(pmu.partial_sums_tally(self.graph.types[stage.result].elements, tiling.turns))
        self.streams[stage.result] = stream
        if result is not None:
            self.results[stage.result] = result

    def _reads(
        self, stage: Stage, held: Sequence[Format], result: Layout
    ) -> tuple[tuple[tuple[Access, ...], Layout, Format], ...]:
        """How operands are read: cut like the result along the axes that they walk, whole along the others.

        What adds up turn by turn takes the tiles as they come.
        """
        shapes = [read.shape(self.graph) for read in stage.reads]
        adds = self.how != "whole" and stage.result in self.planned.tiling.sums
        found = []
        for read, shape, axes, fmt in zip(stage.reads, shapes, stage.op.walks(*shapes), held, strict=True):
            declared, tiling = self.graph.types[read.value].fmt, self.planned.tiling
            layout = delivered(self.graph, tiling, read) if adds else result.of_walking(shape, axes)
            found.append((read.chain, layout, fmt if stage.op.reads_wide else declared))
        return tuple(found)

    def _read(self, read: Read, layout: Layout, fmt: Format) -> Stream:
        return pmu.buffer(self.streams[read.value], read.chain, layout, fmt)

    def _layout(self, value: int) -> Layout:
        shape = self.graph.types[value].shape
        if self.how == "whole":
            return layouts.whole(shape)
        return layout_of(self.planned.tiling, value, shape)

    def _count(self, counts: Counts) -> None:
        if self.tally:
            self.counted.append(counts)


def visits(tiling: Tiling, value: int, layout: Layout) -> np.ndarray:
    """Which tiles of a loaded value the nest asks for, turn after turn, as indices in order of arrival.

    A tile that is still there from the turn before, or that stays on chip, is not asked for again.
    """
    if value in tiling.resident or not any(tiling.walks(value)):
        return np.arange(layout.n_tiles, dtype=np.int32)
    asked: list[int] = []
    nest = tiling.nest(value)
    for turn in product(*(range(loop.trips) for loop in nest)):
        at = [0] * len(layout.shape)
        for loop, index in zip(nest, turn, strict=True):
            for v, axis in loop.members:
                if v == value:
                    at[axis] = index
        tile = int(layout.places[tuple(at)])
        if not asked or asked[-1] != tile:
            asked.append(tile)
    return np.array(asked, np.int32)


def enter(graph: Graph, values: Sequence[int], arrays: Sequence[jax.Array]) -> dict[int, jax.Array]:
    """Public arrays to carriers: entering the machine flushes denormals and makes every NaN the one NaN (N11)."""
    return {v: _entered(graph.types[v].fmt, x) for v, x in zip(values, arrays, strict=True)}


@partial(jax.jit, static_argnums=0)
def _entered(fmt: Format, x: jax.Array) -> jax.Array:
    return convert.enter(x, fmt)


def leave(graph: Graph, value: int, carriers: jax.Array) -> jax.Array:
    """Carriers to the public dtype of a value."""
    return convert.leave(carriers, graph.types[value].fmt)
