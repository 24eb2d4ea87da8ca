"""A planned kernel as a pipeline: one stage per stream and per PCU stage, one edge per stage buffer.

Every memory tier is shared statically: in each turn a tier moves the bytes of all its streams, so each of them is busy
for as long as all of them together take. Before the first turn, what stays on chip is loaded at full bandwidth.
"""

from dataclasses import replace
from typing import Any

from rdujax.graph.graph import Graph
from rdujax.graph.plan import MemoryStream, PlannedKernel
from rdujax.ledger import pipeline as timing
from rdujax.ledger.numbers import maximum
from rdujax.machines.machine import Machine
from rdujax.units import agcu


def pipeline_of(graph: Graph, planned: PlannedKernel, machine: Machine) -> timing.Pipeline:
    """The pipeline whose makespan over `planned.tiling.turns` turns is the kernel's time in cycles."""
    stages = [_stream_stage(planned, stream, machine) for stream in planned.streams]
    for stage, share in zip(planned.kernel.stages, planned.shares, strict=True):
        cycles = stage.op.cycles(machine.pcu, share, *planned.turn(graph, stage))
        stages.append(timing.Stage(stage.label, cycles))
    pipeline = timing.Pipeline(tuple(stages), tuple(_edges(planned)))
    return replace(pipeline, edges=tuple(_unhindered(pipeline, planned)))


def _unhindered(pipeline: timing.Pipeline, planned: PlannedKernel) -> list[timing.Edge]:
    """The edges, those of loads that stay on chip deep enough that no reader holds up another.

    Such a buffer has one slot, which is filled once and never given back: its readers do not wait for one another. In
    the pipeline it is filled anew every turn, in no time, and so it gets the depth with which that costs nothing.
    """
    level = dict(zip((stage.name for stage in pipeline.stages), pipeline.levels, strict=True))
    stays = {s.label for s in planned.streams if not s.is_store and s.value in planned.tiling.resident}
    return [
        replace(e, depth=level[e.consumer] - level[e.producer] + 1) if e.producer in stays else e
        for e in pipeline.edges
    ]


def _edges(planned: PlannedKernel) -> list[timing.Edge]:
    """One edge per buffer and reader, with the buffer's depth."""
    source = {s.value: s.label for s in planned.streams if not s.is_store}
    source |= {s.result: s.label for s in planned.kernel.stages}
    depths = {b.value: b.depth for b in planned.buffers}
    found = {(r.value, s.label) for s in planned.kernel.stages for r in s.reads}
    stores = {s.value: s.label for s in planned.streams if s.is_store}
    found |= {(w.read.value, stores[w.value]) for w in planned.kernel.writes}
    return [timing.Edge(source[value], reader, depths[value]) for value, reader in sorted(found)]


def _stream_stage(planned: PlannedKernel, stream: MemoryStream, machine: Machine) -> timing.Stage:
    peers = [s for s in planned.streams if s.tier == stream.tier]
    loads = sum(s.turn_bytes for s in peers if not s.is_store)
    stores = sum(s.turn_bytes for s in peers if s.is_store)
    if planned.tiling.turns == 1:  # nothing is stored while the only turn still loads
        loads, stores = (0, stores) if stream.is_store else (loads, 0)
    service = _busy(stream, stream.turn_bytes, loads, stores, machine)
    if stream.is_store:
        return timing.Stage(stream.label, service)
    first = sum(s.first_bytes for s in peers if not s.is_store)
    return timing.Stage(stream.label, service, _busy(stream, stream.first_bytes, first, 0, machine))


def _busy(stream: MemoryStream, own: int, read: int, written: int, machine: Machine) -> Any:
    """Cycles for which a stream moves `own` of the bytes that its tier reads and writes meanwhile."""
    if own == 0:
        return 0
    shared = machine.transfer_cycles(stream.tier, read, written)
    return maximum(shared, agcu.cycles(machine.agcu, own, stream.agcus))
