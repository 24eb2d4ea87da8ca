"""Prices of a planned program: cycles, seconds, bytes per tier, per kernel and in total; from shapes alone.

Exact in integers on a machine of plain facts. On a machine whose facts JAX traces, the same definition gives floats
with derivatives (the closed form of the pipeline: fill and turns of the slowest stage, buffers as deep as planned):
float64 where JAX has it enabled and a fact is of that type, or else float32.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

from rdujax.base import facts
from rdujax.base.errors import unknown
from rdujax.base.words import counted
from rdujax.estimate.pipeline import Phase, estimated_cycles, phases_of
from rdujax.graph.configuration import configuration
from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Fetch
from rdujax.graph.launches import Course, Launches, launches
from rdujax.graph.plan import Plan, PlannedKernel, layout_of, stored
from rdujax.ledger.cost import Cost, parallel
from rdujax.ledger.counts import Counts
from rdujax.ledger.makespan import critical_path_cycles, makespan_cycles
from rdujax.ledger.numbers import common, is_exact, is_relaxed, ratio
from rdujax.ledger.pipeline import Pipeline
from rdujax.machines.machine import Machine
from rdujax.ops.op import visits
from rdujax.streams.layout import tiled
from rdujax.units import agcu, pmu
from rdujax.units.memory import TIERS


@dataclass(frozen=True)
class KernelCost:
    """What one run of a kernel costs.

    cycles: from the first load to the last store. launch_s: overhead of one launch. critical: cycles of each stage on
    the critical path (they sum to `cycles`). launches: how often it is launched, more than once inside of a loop and
    never in a branch that is not taken. inside: the regions around it, the outermost first. runs: how often it runs:
    as often as it is launched, or where looped more often. again_s: overhead of all its runs that are no launch.
    """

    name: str
    cost: Cost
    launch_s: Any
    run_s: Any
    critical: dict[str, int]
    launches: int = 1
    inside: tuple[str, ...] = ()
    runs: int = 1
    again_s: Any = 0

    @property
    def total_s(self) -> Any:
        """Seconds of one launch with its overhead."""
        launch, run = common(self.launch_s, self.run_s)
        return launch + run


@dataclass(frozen=True)
class ProgramCost:
    """What a program costs: its kernels one after another, each as often as it runs.

    Of a program of several sockets, one of them: all run at the same time and wait for one another in collectives.
    `node` is what they cost together.

    A loop launches the kernels of its body anew in every trip, but where it is looped: then a body of one kernel is
    launched once (`graph/launches.py`). What launches them reads a condition or an index from memory at no cost. cost:
    cycles, flops and bytes per tier of all kernels together. peak bytes: what the tiers hold while it runs. sockets:
    how many there are. sent_bytes: what all of them together send to one another.
    """

    kernels: tuple[KernelCost, ...]
    cost: Cost
    clock_hz: Any
    sockets: int = 1
    sent_bytes: int = 0

    @property
    def node(self) -> Cost:
        """Of all sockets together: the cycles of one, its flops and bytes as often as there are sockets.

        Where sums are made in uneven parts, flops are those of the socket that makes most.
        """
        return parallel(*[self.cost] * self.sockets)

    @property
    def cycles(self) -> int:
        """Cycles of all kernels, launches not included."""
        return self.cost.cycles  # type: ignore[return-value]

    @property
    def run_s(self) -> Any:
        """Seconds of all kernels, launches not included."""
        return _sum(_times(k.run_s, k.runs) for k in self.kernels)

    @property
    def launch_s(self) -> Any:
        """Seconds of all launches, and of what goes before runs that are none."""
        return _sum(x for k in self.kernels for x in (_times(k.launch_s, k.launches), k.again_s))

    @property
    def launches(self) -> int:
        """Launches of all kernels."""
        return sum(k.launches for k in self.kernels)

    @property
    def runs(self) -> int:
        """Runs of all kernels: as many as launches, or where looped more."""
        return sum(k.runs for k in self.kernels)

    @property
    def total_s(self) -> Any:
        """Seconds of everything."""
        return _sum((self.run_s, self.launch_s))

    @property
    def flops(self) -> int:
        """Floating operations."""
        return self.cost.flops  # type: ignore[return-value]

    def moved_bytes(self, tier: str = "hbm") -> int:
        """Bytes read from and written to a tier; raises UnknownNameError for a tier that no machine has."""
        if tier not in (*TIERS, "sram"):
            raise unknown("memory tier", tier, TIERS)
        return self.cost.moved_bytes(tier)  # type: ignore[return-value]

    def peak_bytes(self, tier: str = "hbm") -> int:
        """Bytes that a tier holds at most while it runs; raises UnknownNameError for a tier that no machine has."""
        if tier not in (*TIERS, "sram"):
            raise unknown("memory tier", tier, (*TIERS, "sram"))
        return self.cost.peak_bytes[tier]  # type: ignore[return-value]

    def operational_intensity(self, tier: str = "hbm") -> float:
        """FLOP per byte moved at a tier."""
        return float(self.cost.operational_intensity(tier))

    def __str__(self) -> str:
        parts = [
            launched(len(self.kernels), self.launches, self.runs),
            f"{self.cycles:,} cycles",
            f"{float(self.total_s) * 1e6:,.2f} us ({float(self.launch_s) * 1e6:,.2f} us of launches)",
        ]
        one = ", ".join(parts + _amounts(self.cost))
        if self.sockets == 1:
            return one
        sent = f"{self.sent_bytes:,} bytes sent"
        return f"{one}; {self.sockets} sockets together: {', '.join([*_amounts(self.node), sent])}"


def launched(kernels: int, launches: int, runs: int) -> str:
    """How many kernels there are, how often they are launched, and how often they run, where these differ."""
    words = counted(kernels, "kernel")
    if (kernels, launches) != (launches, runs):
        words += f" launched {counted(launches, 'time')}"
    return words if runs == launches else f"{words}, run {counted(runs, 'time')}"


def _amounts(cost: Cost) -> list[str]:
    """Operations, and bytes of the tiers that move any, in words."""
    moved = ((tier, cost.moved_bytes(tier)) for tier in cost.tiers)
    return [f"{cost.flops:,} FLOP", *(f"{tier} {amount:,} bytes" for tier, amount in moved if amount)]


def price(plan: Plan, machine: Machine, course: Course, sockets: int = 1) -> ProgramCost:
    """The cost of a planned program on a machine: the one it was planned for, or one with other facts.

    Only facts may differ that change no decision of the plan (bandwidths, clock, overheads): the plan stays as it is.
    Differentiable in every fact that is a JAX value. sockets: on how many it runs at once. Raises ArgumentError for a
    loop or branch whose course is not said.
    """
    every = launches(plan, course)
    kernels = tuple(_kernels(every, machine))
    total = sum((k.cost * k.runs for k in kernels), Cost())
    peak = {tier: plan.peak_bytes(tier) for tier in TIERS if plan.peak_bytes(tier)}
    sram = max((k.cost.peak_bytes["sram"] for k in kernels if k.runs), default=0)
    total = Cost(total.cycles, total.flops, total.read_bytes, total.written_bytes, {**peak, "sram": sram})
    return ProgramCost(kernels, total, machine.clock_hz.value, sockets, sum(_sent_bytes(k, sockets) for k in every))


def _sent_bytes(each: Launches, sockets: int) -> int:
    """Bytes that all sockets send to one another in all runs of a kernel."""
    work = Counts()
    for stage in each.kernel.kernel.stages:
        if stage.op.group > 1:
            work = work + stage.op.work(*stage.operands(each.plan.graph)) * (sockets // stage.op.group)
    return int(work["p2p.sent_bytes"]) * each.times


def kernel_cycles(graph: Graph, planned: PlannedKernel, machine: Machine) -> int:
    """Cycles of one kernel, in closed form: what the compiler compares tilings by."""
    return estimated_cycles(graph, planned, machine)


def _kernels(all_launches: Iterable[Launches], machine: Machine) -> Iterator[KernelCost]:
    """What each kernel costs. What JAX traces is traced once for layers that are alike, whatever they are called."""
    exact, alike = _is_exact(machine), {}
    for each in all_launches:
        if exact:
            yield _kernel(each, machine)
            continue
        begun = frozenset(each.beginnings.items())
        key = configuration(each.plan.graph, each.kernel), each.plan.orchestration, each.times, begun
        if key not in alike:
            alike[key] = _kernel(each, machine)
        yield replace(alike[key], name=each.kernel.kernel.name, inside=each.inside)


def _kernel(each: Launches, machine: Machine) -> KernelCost:
    plan, planned = each.plan, each.kernel
    if _is_exact(machine):
        timed = [_timed(phase) for phase in phases_of(plan.graph, planned, machine)]
        cycles: Any = sum(makespan for makespan, _ in timed)
        critical = {name: own for _, each in timed for name, own in each.items()}
    else:
        cycles, critical = estimated_cycles(plan.graph, planned, machine), {}
    read: dict[str, int] = {}
    written: dict[str, int] = {}
    for stream in planned.streams:
        side = written if stream.is_store else read
        side[stream.tier] = side.get(stream.tier, 0) + stream.total_bytes
    flops = sum(s.op.flops(*s.operands(plan.graph)) for s in planned.kernel.stages)
    cost = Cost(cycles, flops, read, written, {"sram": planned.sram_bytes})
    launch_s, run_s, again_s = _seconds(each, cycles, machine)
    launched = each.beginnings.get("launch", 0)
    return KernelCost(
        planned.kernel.name, cost, launch_s, run_s, critical, launched, each.inside, each.times, again_s
    )  # fmt: skip


def _timed(phase: Phase) -> tuple[int, dict[str, int]]:
    """Makespan, and cycles of every stage on a critical path."""
    pipeline = phase.pipeline
    names = {stage.name: str(at) for at, stage in enumerate(pipeline.stages)}
    stages = tuple(replace(stage, name=names[stage.name]) for stage in pipeline.stages)
    edges = tuple(replace(e, producer=names[e.producer], consumer=names[e.consumer]) for e in pipeline.edges)
    cycles, critical = _timed_once(Pipeline(stages, edges), phase.turns)
    return cycles, {name: critical[at] for name, at in names.items()}


@lru_cache(maxsize=1024)
def _timed_once(pipeline: Pipeline, turns: int) -> tuple[int, dict[str, int]]:
    """Layers that are alike are timed once, whatever their stages are called."""
    return makespan_cycles(pipeline, turns), critical_path_cycles(pipeline, turns)  # type: ignore[return-value]


def _seconds(each: Launches, cycles: Any, machine: Machine) -> list[Any]:
    """Seconds of one launch, of one run, and before all runs that are no launch.

    Also what rests on none of the traced facts is a JAX value, of their precision, and its derivative is zero.
    """

    def before(beginning: str) -> Any:
        return machine.launch_s(each.plan.orchestration, len(each.kernel.streams), beginning)

    others = {b: times for b, times in each.beginnings.items() if b != "launch"}
    again_s = _sum(_times(before(b), times) for b, times in others.items())
    found = [before("launch"), ratio(cycles, machine.clock_hz.value), again_s]
    traced = (fact.value for _, fact in facts.walk(machine) if is_relaxed(fact.value))
    return list(common(*found, *traced)[: len(found)])


def _is_exact(machine: Machine) -> bool:
    return is_exact(*(fact.value for _, fact in facts.walk(machine)))


def _times(amount: Any, count: int) -> Any:
    amount, count = common(amount, count)
    return amount * count


def _sum(parts: Any) -> Any:
    values = common(*parts, 0)
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def predict(plan: Plan, machine: Machine, course: Course, sockets: int = 1) -> Counts:
    """What the units of all sockets will count when the program executes on them, from shapes alone (law L3).

    Raises ArgumentError for a loop or branch whose course is not said.
    """
    total = Counts()
    for each in launches(plan, course):
        total = total + _predict_kernel(each.plan, each.kernel, machine, sockets) * each.times
    return total


def _predict_kernel(plan: Plan, planned: PlannedKernel, machine: Machine, sockets: int) -> Counts:
    """What all sockets count in one launch of a kernel."""
    together = Counts()
    for stage in planned.kernel.stages:
        together = together + stage.op.work(*stage.operands(plan.graph)) * (sockets // stage.op.group)
    return together + _predict_moved(plan, planned, machine) * sockets


def _predict_moved(plan: Plan, planned: PlannedKernel, machine: Machine) -> Counts:
    """What a socket counts in one launch but for the work of its stages."""
    graph, counts = plan.graph, Counts()
    for stream in planned.streams:
        if stream.is_store:
            continue
        kind, sweeps = graph.types[stream.value], planned.tiling.sweeps(stream.value)
        layout, counter = layout_of(planned.tiling, stream.value, kind.shape), f"{stream.tier}.read_bytes"
        fetch = planned.kernel.fetched.get(stream.value)
        small = 0 if fetch is None else fetch.slice_bytes
        counts = counts + agcu.predict(machine.agcu, layout, kind.fmt, counter, sweeps, slice_bytes=small)
        if fetch is not None:
            counts = counts + _predict_places(graph, planned, fetch) * sweeps
    for stage in planned.kernel.stages:
        result = graph.types[stage.result]
        counts = counts + Counts({"pmu.written_bytes": result.elements * planned.held(graph, stage.result).width_bytes})
        if stage.result in planned.tiling.sums:
            counts = counts + pmu.partial_sums(result.elements, planned.tiling.turns)
        operands = stage.operands(graph)
        tile = planned.tiling.tile(stage.result, result.shape)
        grid = tuple(-(-n // t) for n, t in zip(result.shape, tile, strict=True))
        walks = stage.op.walks(*(o.shape for o in operands))
        for read, operand, axes in zip(stage.reads, operands, walks, strict=True):
            width = planned.held(graph, read.value).width_bytes
            counts = counts + Counts({"pmu.read_bytes": operand.elements * visits(axes, grid) * width})
    tiers = {s.value: s.tier for s in planned.streams if s.is_store}
    for write in planned.kernel.writes:
        layout, counter = stored(graph, planned.tiling, write), f"{tiers[write.value]}.written_bytes"
        fmt, small = graph.types[write.value].fmt, write.slice_bytes
        counts = counts + agcu.predict(machine.agcu, layout, fmt, counter, slice_bytes=small)
        elements = write.kind(graph).elements
        counts = counts + Counts({"pmu.read_bytes": elements * planned.held(graph, write.read.value).width_bytes})
        for place in write.places:
            elements, held = prod(place.shape(graph)), planned.held(graph, place.value)
            counts = counts + Counts({"pmu.read_bytes": elements * held.width_bytes})
    return counts


def _predict_places(graph: Graph, planned: PlannedKernel, fetch: Fetch) -> Counts:
    """Bytes of buffers that are read to know where a part of memory lies, in one sweep over it."""
    shape = graph.types[fetch.value].shape
    grid = tiled(shape, planned.tiling.tile(fetch.value, shape)).grid
    counts = Counts()
    for read, operand, axes in zip(fetch.places, fetch.operands(graph)[1:], fetch.walks(graph), strict=True):
        width = planned.held(graph, read.value).width_bytes
        counts = counts + Counts({"pmu.read_bytes": operand.elements * visits(axes, grid) * width})
    return counts
