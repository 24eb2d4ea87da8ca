"""A planned kernel as a pipeline: one stage per stream and per PCU stage, one edge per stage buffer.

An iteration is one turn of the kernel's outer loops. A stage with an inner loop turns once for each slice of its tile,
and so does the load that streams through it; whoever reads the result waits for all slices of a tile.

Where a kernel turns often, every memory tier is shared statically: in each turn a tier moves the bytes of all its
streams, so each of them is busy for as long as all of them together take; and so are the links to other sockets by the
exchanges. Where it turns once, exchanges go one after the other. Before the first turn, what stays on chip is loaded at
full bandwidth. Where everything is loaded slice by slice within one turn, streams take turns: loads in the
order in which the stages need them, each as far ahead as its buffer allows, and then the stores.

What is made of sums and stored behind the last turn is a pipeline of its own: it begins when the last turn has left the
first one, and turns once.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rdujax.estimate.queues import first_readers, in_order, queues
from rdujax.graph.graph import Graph
from rdujax.graph.plan import MemoryStream, PlannedKernel
from rdujax.ledger import pipeline as timing
from rdujax.ledger.closed_form import closed_form_cycles
from rdujax.ledger.numbers import ceil_div, common, maximum
from rdujax.machines.machine import Machine
from rdujax.ops.exchange import Links
from rdujax.units import agcu


@dataclass(frozen=True)
class Phase:
    """A pipeline and its turns."""

    pipeline: timing.Pipeline
    turns: int


def phases_of(graph: Graph, planned: PlannedKernel, machine: Machine) -> tuple[Phase, ...]:
    """The pipelines of a kernel, one after another: the sum of their makespans is its time in cycles."""
    turning = Phase(pipeline_of(graph, planned, machine), planned.tiling.turns)
    return (turning, Phase(_behind(graph, planned, machine), 1)) if planned.tiling.sums else (turning,)


def pipeline_of(graph: Graph, planned: PlannedKernel, machine: Machine) -> timing.Pipeline:
    """The pipeline of the `planned.tiling.turns` turns of a kernel."""
    late = _late(planned)
    stages = [_stream_stage(planned, stream, machine) for stream in planned.streams if stream.label not in late]
    stages += _computing(graph, planned, machine)
    stages += _on_their_way(graph, planned, machine)
    stages = [stage for stage in stages if stage.name not in late]
    edges = _between(_edges(planned), stages)
    levels = timing.Pipeline(tuple(stages), tuple(edges)).levels
    edges = _unhindered(edges, dict(zip((stage.name for stage in stages), levels, strict=True)), planned)
    if planned.tiling.turns == 1:
        edges += _links_in_turn(planned, stages)
    if planned.tiling.in_turn:
        edges += _one_after_another(planned)
    return timing.Pipeline(tuple(stages), tuple(edges))


def _behind(graph: Graph, planned: PlannedKernel, machine: Machine) -> timing.Pipeline:
    """The pipeline of what comes behind the last turn. All stores of a tier share it statically."""
    late = _late(planned)
    stages = [*_computing(graph, planned, machine), *_on_their_way(graph, planned, machine)]
    stages = [stage for stage in stages if stage.name in late]
    stores = [stream for stream in planned.streams if stream.label in late]
    for store in stores:
        together = sum(each.total_bytes for each in stores if each.tier == store.tier)
        stages.append(timing.Stage(store.label, _busy(store, store.total_bytes, 0, together, machine)))
    edges = _between(_edges(planned), stages) + _links_in_turn(planned, stages)
    return timing.Pipeline(tuple(stages), tuple(edges))


def _late(planned: PlannedKernel) -> Collection[str]:
    """The stages and stores that come behind the last turn."""
    late = planned.tiling.late
    stages = [s for s in planned.kernel.stages if s.result in late]
    stores = {write.value for write in planned.kernel.writes if planned.tiling.is_late(write)}
    streams = (s.label for s in planned.streams if s.is_store and s.value in stores)
    return {*(s.label for s in stages), *(arriving(s.label) for s in stages if s.op.group > 1), *streams}


def _between(edges: Iterable[timing.Edge], stages: Iterable[timing.Stage]) -> list[timing.Edge]:
    """The edges of which both ends are among these stages: what lies between two phases waits for all of the first."""
    names = {stage.name for stage in stages}
    return [edge for edge in edges if edge.producer in names and edge.consumer in names]


def estimated_cycles(graph: Graph, planned: PlannedKernel, machine: Machine) -> Any:
    """Cycles of a kernel in closed form, for comparing thousands; never more than the makespans of `phases_of`.

    Exact on plain facts, differentiable in traced ones. It knows no waiting for free slots, but for those of loads that
    stream by. Of kernels of one turn it is the makespan.
    """
    if planned.tiling.in_turn:
        return _in_turn_cycles(graph, planned, machine)
    total: Any = 0
    for phase in phases_of(graph, planned, machine):
        total, cycles = common(total, closed_form_cycles(_once_per_turn(phase.pipeline), phase.turns))
        total = total + cycles
    return total


def _once_per_turn(pipeline: timing.Pipeline) -> timing.Pipeline:
    """A pipeline that is never later, in which every stage has one turn for all of its slices.

    A stage that takes slices of a load as they come begins with the first of them, and ends no sooner than its own last
    slice after the last of the load's. A stage cannot wait for only a part of another one's turn, so both of these
    slices are stages of their own beside the two.
    """
    if pipeline.is_single_rate:
        return pipeline
    stage = {s.name: s for s in pipeline.stages}
    pairs = {e.consumer: e for e in pipeline.edges if e.consumed == 1 < stage[e.producer].repeats}
    stages, edges = [], []
    for s in pipeline.stages:
        stages.append(_all_slices(s, pairs.get(s.name), stage))
        if s.name in pairs:
            load = stage[pairs[s.name].producer]
            stages.append(timing.Stage(_first(load.name), load.service_cycles, load.first_cycles))
            stages.append(timing.Stage(_last(s.name), s.service_cycles))
    for e in pipeline.edges:
        if pairs.get(e.consumer) is e:
            edges.append(timing.Edge(_first(e.producer), e.consumer))
            edges.append(timing.Edge(e.producer, _last(e.consumer)))
        else:
            edges.append(timing.Edge(e.producer, e.consumer))
            edges += [timing.Edge(_last(e.producer), e.consumer)] if e.producer in pairs else []
    return timing.Pipeline(tuple(stages), tuple(edges))


def _all_slices(stage: timing.Stage, by: timing.Edge | None, stages: Mapping[str, timing.Stage]) -> timing.Stage:
    """The stage in one turn for all of its slices; by: the buffer of the load that streams through it, if one does.

    Such a load is ahead of its stage by the slots of its buffer at the most, and waits for the rest.
    """
    each: Any = stage.service_cycles
    turn = each * stage.repeats
    if by is not None and by.depth < stage.repeats:
        load: Any = stages[by.producer].service_cycles
        turn = maximum(turn, each + load * (stage.repeats - by.depth) + each)
    return timing.Stage(stage.name, turn, stage.first_cycles + turn - each)


def _first(name: str) -> str:
    return f"first slice of {name}"


def _last(name: str) -> str:
    return f"last slice of {name}"


def _computing(graph: Graph, planned: PlannedKernel, machine: Machine) -> list[timing.Stage]:
    pairs = list(zip(planned.kernel.stages, planned.shares, strict=True))
    tiling = planned.tiling
    own = {s.label: s.op.cycles(machine, share, *planned.turn(graph, s)) for s, share in pairs}
    for stage in (s for s, _ in pairs if s.result in tiling.sums):
        more = stage.op.resuming_cycles(machine, *planned.turn(graph, stage))
        cycles, more = common(own[stage.label], more)
        own[stage.label] = cycles + more
    once = tiling.resident | tiling.late
    together = sum(own[s.label] for s, share in pairs if isinstance(share, Links) and s.result not in once)
    found = []
    for stage, share in pairs:
        shared = tiling.turns > 1 and isinstance(share, Links) and stage.result not in once
        cycles = together if shared else own[stage.label]
        if stage.result in tiling.resident:  # made in the first turn, and there in all others
            found.append(timing.Stage(stage.label, 0, own[stage.label]))
        else:
            found.append(timing.Stage(stage.label, cycles, repeats=tiling.slices(stage.result)))
    return found


def _arriving(graph: Graph, planned: PlannedKernel, machine: Machine) -> dict[str, Any]:
    """Cycles for which an exchange is on its way while the next one may begin, by the name of the stage for it."""
    return {
        arriving(stage.label): stage.op.arrival_cycles(machine, *planned.turn(graph, stage))
        for stage in planned.kernel.stages
        if stage.op.group > 1
    }


def _on_their_way(graph: Graph, planned: PlannedKernel, machine: Machine) -> list[timing.Stage]:
    """The stages that stand for exchanges on their way; what is made once arrives once."""
    once = {arriving(s.label) for s in planned.kernel.stages if s.result in planned.tiling.resident}
    late = _arriving(graph, planned, machine)
    return [timing.Stage(name, 0, time) if name in once else timing.Stage(name, time) for name, time in late.items()]


def arriving(label: str) -> str:
    """The stage of the pipeline behind an exchange, which fills its buffer."""
    return f"{label} arriving"


def fillers(planned: PlannedKernel) -> dict[int, str]:
    """For every value on chip, the stage of the pipeline that fills its buffer."""
    found = {s.value: s.label for s in planned.streams if not s.is_store}
    return found | {s.result: arriving(s.label) if s.op.group > 1 else s.label for s in planned.kernel.stages}


def _unhindered(edges: list[timing.Edge], level: dict[str, int], planned: PlannedKernel) -> list[timing.Edge]:
    """The edges, those of what stays on chip deep enough that no reader holds up another.

    Such a buffer has one slot, which is filled once and never given back: its readers do not wait for one another. In
    the pipeline it is filled anew every turn, in no time, and so it gets the depth with which that costs nothing.
    """
    resident = planned.tiling.resident
    stays = {s.label for s in planned.streams if not s.is_store and s.value in resident}
    stays |= {name for value, name in fillers(planned).items() if value in resident}
    return [
        timing.Edge(e.producer, e.consumer, level[e.consumer] - level[e.producer] + 1, reuse=e.reuse)
        if e.producer in stays
        else e
        for e in edges
    ]


def _edges(planned: PlannedKernel) -> list[timing.Edge]:
    """One edge per buffer and reader, with the buffer's depth in slices."""
    tiling = planned.tiling
    source = fillers(planned)
    depths = {b.value: b.depth for b in planned.buffers}
    found = {(r.value, s.label): tiling.slices(s.result) for s in planned.kernel.stages for r in s.reads}
    stores = {s.value: s.label for s in planned.streams if s.is_store}
    found |= {(r.value, stores[w.value]): 1 for w in planned.kernel.writes for r in (w.read, *w.places)}
    found |= {(p.value, source[f.value]): tiling.slices(f.value) for f in planned.kernel.fetches for p in f.places}
    edges = [  # of two updates of one array, the later one comes later
        timing.Edge(stores[w.update.over], stores[w.value], 2)
        for w in planned.kernel.writes
        if w.update is not None and w.update.over in stores
    ]
    edges += [timing.Edge(s.label, arriving(s.label), 2) for s in planned.kernel.stages if s.op.group > 1]
    for (value, reader), turns in sorted(found.items()):
        slices = tiling.slices(value)
        if slices > 1 and value in planned.kernel.loads:  # slice by slice into the one stage that it has
            edges.append(timing.Edge(source[value], reader, depths[value]))
        else:
            depth = depths[value] * slices
            edges.append(timing.Edge(source[value], reader, depth, consumed=slices, reuse=turns))
    return edges


def _one_after_another(planned: PlannedKernel) -> list[timing.Edge]:
    """Edges that let no stream of a tier begin before the one ahead of it has moved its last byte."""
    edges = []
    for streams in queues(planned).values():
        for before, after in pairwise(streams):
            ahead, behind = planned.tiling.slices(before.value), planned.tiling.slices(after.value)
            ahead, behind = (1 if s.is_store else n for s, n in ((before, ahead), (after, behind)))
            edges.append(timing.Edge(before.label, after.label, ahead, consumed=ahead, reuse=behind))
    return edges


def _links_in_turn(planned: PlannedKernel, stages: Iterable[timing.Stage]) -> list[timing.Edge]:
    """Edges that let no exchange among these stages begin before the one ahead of it has left the links."""
    names = {stage.name for stage in stages}
    linked = [stage.label for stage in planned.kernel.stages if stage.op.group > 1 and stage.label in names]
    return [timing.Edge(before, after) for before, after in pairwise(linked)]


def _stream_stage(planned: PlannedKernel, stream: MemoryStream, machine: Machine) -> timing.Stage:
    slices = 1 if stream.is_store else planned.tiling.slices(stream.value)
    if planned.tiling.in_turn:
        cycles = _alone(stream, slices, machine)
        return timing.Stage(stream.label, cycles, repeats=slices)
    peers = [s for s in planned.streams if s.tier == stream.tier]
    loads = sum(s.turn_bytes for s in peers if not s.is_store)
    stores = sum(s.turn_bytes for s in peers if s.is_store)
    if planned.tiling.turns == 1:  # nothing is stored while the only turn still loads
        loads, stores = (0, stores) if stream.is_store else (loads, 0)
    service = ceil_div(_busy(stream, stream.turn_bytes, loads, stores, machine), slices)
    if stream.is_store:
        return timing.Stage(stream.label, service)
    first = sum(s.first_bytes for s in peers if not s.is_store)
    return timing.Stage(stream.label, service, _busy(stream, stream.first_bytes, first, 0, machine), slices)


def _busy(stream: MemoryStream, own: int, read: int, written: int, machine: Machine) -> Any:
    """Cycles for which a stream moves `own` of the bytes that its tier reads and writes meanwhile."""
    if own == 0:
        return 0
    shared = machine.transfer_cycles(stream.tier, read, written)
    return maximum(shared, agcu.cycles(machine.agcu, own, stream.agcus))


def _alone(stream: MemoryStream, slices: int, machine: Machine) -> Any:
    """Cycles of one slice of a stream that has its tier to itself."""
    own = -(-stream.total_bytes // slices)
    return _busy(stream, own, *((0, own) if stream.is_store else (own, 0)), machine)


def wanted_depths(graph: Graph, planned: PlannedKernel, machine: Machine) -> dict[int, int]:
    """For every load that streams by within the one turn, slices of its buffer with which its tier never stands still.

    In the order of their turns; each as if those ahead of it had what they want.
    """
    wanted: dict[int, int] = {}

    def depth(stream: MemoryStream, wait_cycles: int, each_cycles: int) -> int:
        ahead = 1 + max(1, ceil_div(max(wait_cycles, 0), max(each_cycles, 1)))
        wanted[stream.value] = min(ahead, planned.tiling.slices(stream.value))
        return wanted[stream.value]

    _in_turn_cycles(graph, planned, machine, depth)
    return wanted


Depth = Callable[[MemoryStream, Any, Any], int]


def _in_turn_cycles(graph: Graph, planned: PlannedKernel, machine: Machine, depth: Depth | None = None) -> Any:
    """The makespan of a kernel of one turn whose streams take turns, stage after stage.

    depth: slices of the buffer of a load that streams by, from the cycles that it waits for its stage and those of a
    slice; as planned by default.
    """
    tiling, needed = planned.tiling, first_readers(planned)
    depths = {b.value: b.depth for b in planned.buffers}
    todo = deque(s for s in in_order(planned) if not s.is_store)
    free: dict[str, Any] = {s.tier: 0 for s in planned.streams}  # when the tier has moved all that was asked for
    ends: dict[int, Any] = {}
    places = {f.value: [place.value for place in f.places] for f in planned.kernel.fetches if f.places}

    def load(position: int) -> MemoryStream | None:
        """Loads all that the stage needs, of every tier; returns the one that streams by."""
        by, behind = None, []
        while todo and needed[todo[0].value] <= position:
            stream = todo.popleft()
            tier = stream.tier
            if by is not None and by.tier == tier:
                behind.append(stream)
                continue
            free[tier] = maximum(free[tier], *(ends[place] for place in places.get(stream.value, ())))
            if tiling.slices(stream.value) > 1:
                by = stream
            else:
                ends[stream.value] = free[tier] = free[tier] + _alone(stream, 1, machine)
        todo.extendleft(reversed(behind))
        return by

    works, links_free = _computing(graph, planned, machine), 0
    late = _arriving(graph, planned, machine)
    for i, (work, stage, share) in enumerate(zip(works, planned.kernel.stages, planned.shares, strict=True)):
        own, cycles, n = load(i), work.service_cycles, work.repeats
        ready = maximum(0, *(ends[r.value] for r in stage.reads if own is None or r.value != own.value))
        ready = maximum(ready, links_free) if isinstance(share, Links) else ready
        if own is None:
            ends[stage.result] = ready + cycles * n
        else:
            each, begin = _alone(own, n, machine), free[own.tier]
            slots = depth(own, ready + cycles - begin, each) if depth else depths[own.value]
            ends[stage.result], free[own.tier] = _streamed_by(ready, begin, cycles, each, n, slots)
            load(i)
        if isinstance(share, Links):
            links_free = ends[stage.result]
            ends[stage.result] = links_free + late.get(arriving(stage.label), 0)
    load(len(works))
    needs = {w.value: [r.value for r in (w.read, *w.places)] for w in planned.kernel.writes}
    for tier, streams in queues(planned).items():
        for store in (s for s in streams if s.is_store):
            free[tier] = maximum(free[tier], *(ends[v] for v in needs[store.value])) + _alone(store, 1, machine)
    return maximum(*ends.values(), *free.values())


def _streamed_by(ready: Any, begin: Any, cycles: Any, each: Any, n: int, depth: int) -> tuple[Any, Any]:
    """(end of a stage, end of its load): n slices that take `cycles` each; it waits from `ready` on.

    The load may begin in cycle `begin`, takes `each` a slice and runs `depth` slices ahead, 2 or more: then it stands
    still until the stage gives back a slot. With one slot, stage and load would wait for each other all along.
    """
    end = [ready + cycles * n, begin + each + cycles * n, begin + each * n + cycles]
    loaded = [begin + each * n]
    if n > depth:
        more = n - depth
        end.append(ready + cycles + each * more + cycles)
        loaded += [ready + cycles + each * more, ready + cycles * more + each, begin + each + cycles * more + each]
    return maximum(*end), maximum(*loaded)
