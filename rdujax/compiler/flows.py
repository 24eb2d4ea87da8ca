"""Who sends how much to whom while a kernel runs once: flows of vector packets between its PCUs, PMUs and AGCUs.

    AGCUs --> PMUs of a load's buffer --> PCUs of each reader --> PMUs of the result's buffer --> AGCUs of a store

The arrays of a fork take a vector of one operand per cycle on their rows and a narrower one of the other on their
columns; those of a row of the fork need the same, and get it by multicast, and so do those of a column. Each copy of a
chain gets its share of each operand once a turn, and passes it on from link to link. Units that share a tile hold
blocks of it, in order, and talk only where their blocks overlap. Where a result is read in another order than it was
written (under an access pattern, or as the right operand of a contraction), every PMU talks to every reader.

Not modelled: sums of the splits of K within a fork, control tokens; ragged tiles count as whole ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Read, Stage
from rdujax.graph.plan import LINKS, BufferPlan, MemoryStream, PlannedKernel
from rdujax.ledger.numbers import ceil_div
from rdujax.machines.machine import Machine
from rdujax.ops.contract import Contract
from rdujax.ops.exchange import Links
from rdujax.ops.op import Share
from rdujax.units import pcu
from rdujax.units.pcu import systolic
from rdujax.units.pcu.simd import Chain
from rdujax.units.pcu.systolic import Fork
from rdujax.units.rdn.mesh import Port

Unit = TypeVar("Unit")


@dataclass(frozen=True)
class Units(Generic[Unit]):
    """The units of a kernel, by whatever stands for one: PCUs by stage, PMUs by buffer, AGCUs by stream, each by label.

    The PCUs of a stage are in the order of its share: of a fork row by row (split by split in each place of it), of a
    chain copy by copy, link after link.
    """

    pcus: Mapping[str, tuple[Unit, ...]]
    pmus: Mapping[str, tuple[Unit, ...]]
    agcus: Mapping[str, tuple[Unit, ...]]


@dataclass(frozen=True)
class Flow(Generic[Unit]):
    """Packets from units of one kind to units of another.

    Each of the `groups` gets `packets` packets, and all units of a group get every one. in_blocks: all packets in order
    of the groups come from the sources in blocks of equal size; otherwise each group's come from all sources in turn.
    """

    name: str
    sources: tuple[Unit, ...]
    source_port: Port
    groups: tuple[tuple[Unit, ...], ...]
    target_port: Port
    packets: int
    in_blocks: bool = True

    @property
    def sent(self) -> np.ndarray:
        """int64 [groups, sources]: the packets that a group gets from each source."""
        n_sources, n_groups = len(self.sources), len(self.groups)
        ends = np.arange(n_groups + 1)[:, None] * self.packets
        if self.in_blocks:
            blocks = np.arange(n_sources + 1)[None, :] * n_groups * self.packets // n_sources
            # Of all packets before the end of a group, those before the end of a block.
            return np.diff(np.diff(np.minimum(ends, blocks), axis=0), axis=1)
        return np.diff(-(-(ends - np.arange(n_sources)[None, :]) // n_sources), axis=0)


@dataclass(frozen=True, eq=False)
class Multicasts(Generic[Unit]):
    """Flows taken apart: packets from one unit to the units of one group each, as arrays.

    units: all that send or receive; the arrays name them by their place in it. source, packets,
    source_port, target_port: int64 [n]. target, owner: int64 [m], a unit that receives and the multicast that it
    belongs to, in increasing order.
    """

    units: tuple[Unit, ...]
    source: np.ndarray
    packets: np.ndarray
    source_port: np.ndarray
    target_port: np.ndarray
    target: np.ndarray
    owner: np.ndarray


def multicasts(every: Sequence[Flow[Unit]], first: Iterable[Unit] = ()) -> Multicasts[Unit]:
    """The multicasts of flows: one for every group of targets and each source that sends packets to it.

    first: units that are numbered before all others, in this order.
    """
    index = {unit: number for number, unit in enumerate(first)}
    parts: list[tuple[np.ndarray, ...]] = []
    count = 0
    for flow in every:
        sources = np.array([index.setdefault(unit, len(index)) for unit in flow.sources], np.int64)
        members = np.array([index.setdefault(u, len(index)) for group in flow.groups for u in group], np.int64)
        sizes = np.array([len(group) for group in flow.groups], np.int64)
        group, source = np.nonzero(flow.sent)
        owner = np.repeat(np.arange(len(group)), sizes[group])
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes[group]) - sizes[group], sizes[group])
        target = members[(np.cumsum(sizes) - sizes)[group][owner] + within]
        ports = (np.full(len(group), port, np.int64) for port in (flow.source_port, flow.target_port))
        parts.append((sources[source], flow.sent[group, source], *ports, target, owner + count))
        count += len(group)
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)] or [np.zeros(0, np.int64)] * 6
    return Multicasts(tuple(index), *joined)


def flows(graph: Graph, planned: PlannedKernel, units: Units[Unit], machine: Machine) -> list[Flow[Unit]]:
    """All flows of one run of a kernel, in vector packets."""
    vector_bytes, turns = int(machine.rdn.vector_bytes.value), planned.tiling.turns
    buffers = {b.value: b for b in planned.buffers}
    loads = set(planned.kernel.loads)
    found = []
    for stream in planned.streams:
        agcus, pmus = units.agcus[stream.units], units.pmus[buffer_of(planned, stream)]
        ends = ((pmus, Port.PMU), (agcus, Port.AGCU)) if stream.is_store else ((agcus, Port.AGCU), (pmus, Port.PMU))
        found.append(_spread(stream.label, *ends, _vectors(stream.total_bytes, len(ends[1][0]), vector_bytes)))
        for place in _places(planned, stream):
            buffer = buffers[place.value]
            name, packets = f"{buffer.label} -> {stream.label}", _vectors(buffer.tile_bytes, len(agcus), vector_bytes)
            reads = turns if stream.turn_bytes else 1  # of a load ahead of all turns, or a store behind them, once
            found.append(_spread(name, (units.pmus[buffer.label], Port.PMU), (agcus, Port.AGCU), packets * reads))
    for stage, share in zip(planned.kernel.stages, planned.shares, strict=True):
        once = planned.tiling.resident | planned.tiling.late
        turns = 1 if stage.result in once else planned.tiling.turns
        pcus, result = units.pcus[stage.label], buffers[stage.result]
        slices = turns * planned.tiling.slices(stage.result)
        if isinstance(share, Links) and share.agcus:
            found += _over_links(stage, pcus, units, buffers, turns, vector_bytes)
            continue
        if not share.pcus:  # from buffers straight into a buffer
            for read, operand in zip(stage.reads, planned.turn(graph, stage), strict=True):
                source, moved_bytes = buffers[read.value].label, min(operand.size_bytes, result.tile_bytes)
                packets = _vectors(moved_bytes, result.pmus, vector_bytes) * slices
                ends = (units.pmus[source], Port.PMU), (units.pmus[result.label], Port.PMU)
                found.append(_spread(f"{source} -> {stage.label}", *ends, packets))
            continue
        for i, read in enumerate(stage.reads):
            buffer = buffers[read.value]
            groups = _groups(share, pcus, i)
            if isinstance(share, Fork):
                packets = _vectors(_fed_bytes(graph, planned, stage, share, machine, i), 1, vector_bytes) * slices
            else:
                slid = turns * planned.tiling.slices(read.value) if read.value in loads else turns
                packets = _vectors(buffer.tile_bytes, len(groups), vector_bytes) * slid
            name = f"{buffer.label} -> {stage.label}"
            in_order = read.value in loads or not (read.chain or (isinstance(stage.op, Contract) and i))
            found.append(Flow(name, units.pmus[buffer.label], Port.PMU, groups, Port.PCU, packets, in_order))
        if isinstance(share, Chain):
            packets = _vectors(result.tile_bytes, share.copies, vector_bytes) * turns
            for at in range(len(pcus) - 1):
                if (at + 1) % share.links:
                    found.append(_spread(stage.label, ((pcus[at],), Port.PCU), ((pcus[at + 1],), Port.PCU), packets))
            pcus = pcus[share.links - 1 :: share.links]
        packets = _vectors(result.tile_bytes, result.pmus, vector_bytes) * turns
        name, ends = f"{stage.label} -> {result.label}", ((pcus, Port.PCU), (units.pmus[result.label], Port.PMU))
        found.append(_spread(name, *ends, packets))
        if stage.result in planned.tiling.sums:
            packets = _vectors(result.tile_bytes, len(pcus), vector_bytes) * (turns - 1)
            found.append(_spread(f"{result.label} -> {stage.label}", ends[1], ends[0], packets))
    return found


def _over_links(
    stage: Stage,
    pcus: tuple[Unit, ...],
    units: Units[Unit],
    buffers: Mapping[int, BufferPlan],
    turns: int,
    vector_bytes: int,
) -> list[Flow[Unit]]:
    """An exchange: all of its operand leaves the tile, and what comes back is added up on the way to the buffer."""
    agcus, result = (units.agcus[LINKS], Port.AGCU), buffers[stage.result]
    found = []
    for read in stage.reads:
        source = buffers[read.value]
        packets = _vectors(source.tile_bytes, len(agcus[0]), vector_bytes) * turns
        found.append(_spread(f"{source.label} -> {stage.label}", (units.pmus[source.label], Port.PMU), agcus, packets))
        if pcus:
            packets = _vectors(source.tile_bytes, len(pcus), vector_bytes) * turns
            found.append(_spread(stage.label, agcus, (pcus, Port.PCU), packets))
            packets = _vectors(result.tile_bytes, len(agcus[0]), vector_bytes) * turns
            found.append(_spread(stage.label, (pcus, Port.PCU), agcus, packets))
        packets = _vectors(result.tile_bytes, result.pmus, vector_bytes) * turns
        found.append(_spread(f"{stage.label} -> {result.label}", agcus, (units.pmus[result.label], Port.PMU), packets))
    return found


def _places(planned: PlannedKernel, stream: MemoryStream) -> tuple[Read, ...]:
    """What tells the AGCUs of a stream where to read or write."""
    each = planned.kernel.writes if stream.is_store else planned.kernel.fetches
    return next((one.places for one in each if one.value == stream.value), ())


def buffer_of(planned: PlannedKernel, stream: MemoryStream) -> str:
    """The buffer that a stream fills or empties."""
    value = stream.value
    if stream.is_store:
        value = next(w.read.value for w in planned.kernel.writes if w.value == stream.value)
    return next(b.label for b in planned.buffers if b.value == value)


def _vectors(total_bytes: int, shares: int, vector_bytes: int) -> int:
    return ceil_div(total_bytes, shares * vector_bytes)


def _spread(
    name: str, sources: tuple[tuple[Unit, ...], Port], targets: tuple[tuple[Unit, ...], Port], packets: int
) -> Flow[Unit]:
    """A flow that gives each target its own packets."""
    return Flow(name, *sources, tuple((place,) for place in targets[0]), targets[1], packets)


def _groups(share: Share, pcus: Sequence[Unit], operand: int) -> tuple[tuple[Unit, ...], ...]:
    """The PCUs that need the same part of an operand, for each part; of a chain, the first link of each copy."""
    if isinstance(share, Chain):
        return tuple((place,) for place in pcus[:: share.links])
    assert isinstance(share, Fork)
    rows, columns, splits, batches = map(range, (share.rows, share.columns, share.splits, share.batches))

    def at(row: int, column: int, split: int, batch: int) -> Unit:
        return pcus[((batch * share.rows + row) * share.columns + column) * share.splits + split]

    if (operand == 0) is not share.transposed:  # on the rows of the arrays
        return tuple(tuple(at(r, c, s, b) for c in columns) for b in batches for r in rows for s in splits)
    return tuple(tuple(at(r, c, s, b) for r in rows) for b in batches for c in columns for s in splits)


def _fed_bytes(graph: Graph, planned: PlannedKernel, stage: Stage, share: Fork, machine: Machine, operand: int) -> int:
    """Bytes of an operand that each array takes in a turn: the width that it is fed per cycle, for all its passes."""
    rows, columns = pcu.array(machine.pcu, graph.types[stage.reads[0].value].fmt)
    lhs, rhs = planned.turn(graph, stage)
    assert isinstance(stage.op, Contract)
    extent = stage.op.config.extent(lhs.shape, rhs.shape)
    alone = replace(share, rows=1, columns=1, splits=1, batches=1)
    per_cycle = systolic.feeds(rows, columns, alone, planned.held(graph, stage.reads[operand].value))[operand]
    on_rows, on_columns = (extent.n, extent.m) if share.transposed else (extent.m, extent.n)
    passes = ceil_div(on_rows, rows * share.rows) * ceil_div(on_columns, columns * share.columns)
    return per_cycle * passes * ceil_div(extent.batch, share.batches) * ceil_div(extent.k, share.splits)
