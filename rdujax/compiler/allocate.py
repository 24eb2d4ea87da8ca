"""Pass: PCUs, PMUs and AGCUs for the stages, buffers and streams of a tiled kernel.

Every stage offers its useful shares as (cycles, PCUs), a staircase. Where a kernel turns often, its slowest stage
counts: PCUs by exact water-filling, the smallest turn time at which the cheapest shares of all stages fit together with
their buffers and streams; a turn shorter than what the memory tiers need is never paid for. Where it turns but once,
stages work one after the other and every cycle of each counts: all stages trade cycles for PCUs at one price, the
lowest at which they fit.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import TypeVar

from rdujax.base.errors import CapacityError, describe
from rdujax.graph.graph import Graph
from rdujax.graph.plan import BufferPlan, Kernel, MemoryStream, PlannedKernel, Stage, Tiling, held, turn
from rdujax.machines.machine import Machine
from rdujax.ops.op import Share, Stairs
from rdujax.units import agcu, pcu, pmu


def allocate(
    graph: Graph, kernel: Kernel, tiling: Tiling, tiers: dict[int, str], wide: frozenset[int], machine: Machine
) -> PlannedKernel:
    """The kernel with the units of its stages, buffers and streams; raises CapacityError where it does not fit."""
    staircases = [_staircase(graph, tiling, stage, machine) for stage in kernel.stages]
    flows = _flows(graph, kernel, tiling, tiers)
    floor = _memory_cycles(flows, machine)

    def planned(shares: tuple[Share, ...], turn_cycles: int) -> PlannedKernel:
        return _planned(turn_cycles, graph, kernel, tiling, shares, flows, wide, machine)

    slowest = max((stairs[-1][0] for stairs in staircases), default=1)
    least = planned(tuple(stairs[-1][1] for stairs in staircases), max(slowest, floor))
    _check(least, machine)
    if tiling.turns == 1:
        return _first_that_fits(PRICES, lambda price: planned(_at_price(staircases, price), floor), machine) or least

    def at_time(turn_cycles: int) -> PlannedKernel | None:
        shares = _at_time(staircases, turn_cycles)
        return None if shares is None else planned(shares, turn_cycles)

    times = sorted({max(time, floor) for stairs in staircases for time, _ in stairs} | {floor})
    return _first_that_fits(times, at_time, machine) or least


# Cycles that a unit must save to be taken, from nothing at all upward.
PRICES = (0.0, *(2.0**i for i in range(-10, 24)))


Limit = TypeVar("Limit", int, float)


def _first_that_fits(
    limits: Sequence[Limit], at: Callable[[Limit], PlannedKernel | None], machine: Machine
) -> PlannedKernel | None:
    """The plan at the first limit where it fits, by bisection, for later ones need less; None where none fits."""
    low, high, best = 0, len(limits), None
    while low < high:
        middle = (low + high) // 2
        planned = at(limits[middle])
        if planned is not None and _fits(planned, machine):
            best, high = planned, middle
        else:
            low = middle + 1
    return best


def _at_time(staircases: Sequence[Stairs], turn_cycles: int) -> tuple[Share, ...] | None:
    """The fewest PCUs with which every stage takes at most `turn_cycles`; None where one cannot."""
    places = [bisect_right(stairs, turn_cycles, key=lambda step: step[0]) - 1 for stairs in staircases]
    if min(places, default=0) < 0:
        return None
    return tuple(stairs[at][1] for stairs, at in zip(staircases, places, strict=True))


def _at_price(staircases: Sequence[Stairs], price: float) -> tuple[Share, ...]:
    """The shares at which no stage would gain by another unit for `price` cycles; of equal ones, the smallest.

    Units are PCUs, or ports of PMUs where a stage has none.
    """

    def dearness(step: tuple[int, Share]) -> tuple[float, int]:
        units = step[1].pcus + step[1].ports
        return step[0] + price * units, units

    return tuple(min(stairs, key=dearness)[1] for stairs in staircases)


def _staircase(graph: Graph, tiling: Tiling, stage: Stage, machine: Machine) -> Stairs:
    config, most = machine.pcu, int(machine.pcu.count.value)
    if stage.pins.pcus is not None:
        most = min(most, stage.pins.pcus)
    tiles = turn(graph, tiling, stage)
    stairs = stage.op.shares(config, most, *tiles)
    if not stairs:
        raise CapacityError(
            describe("a stage needs more PCUs than it may have", allowed=f"{most} PCUs",
                     given=f"at least {stage.op.fewest(config, *tiles)} PCUs",
                     where=f"stage {stage.label}", do="split the expression or K less, or give it more PCUs")
        )  # fmt: skip
    return stairs[:1] if stage.pins.pcus is not None else stairs


def _flows(graph: Graph, kernel: Kernel, tiling: Tiling, tiers: dict[int, str]) -> list[MemoryStream]:
    flows = []
    for value in kernel.loads:
        total = graph.types[value].size_bytes * tiling.sweeps(value)
        streamed = tiling.is_streamed(value)
        turn = -(-total // tiling.turns) if streamed else 0
        # The first turn waits for a whole tile, later ones for their share of the next.
        kind = graph.types[value]
        first = min(total, prod(tiling.tile(value, kind.shape)) * kind.fmt.width_bytes) if streamed else total
        label = f"load {graph.labels[value]}"
        flows.append(MemoryStream(label, value, tiers[value], False, total, turn, first, 1))
    for write in kernel.writes:
        total = graph.types[write.value].size_bytes
        label = f"store {graph.labels[write.value]}"
        turn = -(-total // tiling.turns)
        flows.append(MemoryStream(label, write.value, tiers[write.value], True, total, turn, turn, 1))
    return flows


def _memory_cycles(flows: Sequence[MemoryStream], machine: Machine) -> int:
    slowest = 1
    for tier in {f.tier for f in flows}:
        read, written = (sum(f.turn_bytes for f in flows if f.tier == tier and f.is_store is s) for s in (False, True))
        slowest = max(slowest, machine.transfer_cycles(tier, read, written))
    return slowest


def _planned(
    turn_cycles: int,
    graph: Graph,
    kernel: Kernel,
    tiling: Tiling,
    shares: tuple[Share, ...],
    flows: Sequence[MemoryStream],
    wide: frozenset[int],
    machine: Machine,
) -> PlannedKernel:
    """The kernel with these shares, and AGCUs for turns of `turn_cycles`; whether it fits is not asked."""
    ahead_cycles = {tier: _ahead_cycles(flows, tier, machine) for tier in {f.tier for f in flows}}
    streams = tuple(_stream(f, turn_cycles, ahead_cycles, machine) for f in flows)
    buffers = _buffers(graph, kernel, tiling, shares, streams, wide, machine)
    return PlannedKernel(kernel, tiling, shares, buffers, streams, wide)


def _stream(flow: MemoryStream, turn_cycles: int, ahead_cycles: dict[str, int], machine: Machine) -> MemoryStream:
    if flow.turn_bytes:
        return replace(flow, agcus=agcu.units_for(machine.agcu, flow.turn_bytes, turn_cycles))
    return replace(flow, agcus=agcu.units_for(machine.agcu, flow.first_bytes, max(ahead_cycles[flow.tier], 1)))


def _ahead_cycles(flows: Sequence[MemoryStream], tier: str, machine: Machine) -> int:
    """Cycles in which a tier delivers all that is loaded before the first turn; its streams share them."""
    ahead = sum(f.first_bytes for f in flows if f.tier == tier and not f.turn_bytes)
    return machine.transfer_cycles(tier, ahead)


def levels(kernel: Kernel) -> dict[int, int]:
    """How many stages lie before a value: 0 for loads."""
    level = dict.fromkeys(kernel.loads, 0)
    for stage in kernel.stages:
        level[stage.result] = 1 + max((level[r.value] for r in stage.reads), default=0)
    return level


def _buffers(
    graph: Graph,
    kernel: Kernel,
    tiling: Tiling,
    shares: tuple[Share, ...],
    streams: tuple[MemoryStream, ...],
    wide: frozenset[int],
    machine: Machine,
) -> tuple[BufferPlan, ...]:
    level = levels(kernel)
    written = {s.value: s.agcus * int(machine.agcu.port_bytes_per_cycle.value) for s in streams if not s.is_store}
    reading: dict[int, int] = {}
    last: dict[int, int] = {}
    for stage, share in zip(kernel.stages, shares, strict=True):
        rates, result_rate = _rates(graph, stage, share, wide, machine)
        written[stage.result] = result_rate
        for read, rate in zip(stage.reads, rates, strict=True):
            reading[read.value] = reading.get(read.value, 0) + rate
            last[read.value] = max(last.get(read.value, 0), level[stage.result])
    for write, stream in zip(kernel.writes, (s for s in streams if s.is_store), strict=True):
        source = write.read.value
        reading[source] = reading.get(source, 0) + stream.agcus * int(machine.agcu.port_bytes_per_cycle.value)
        last[source] = max(last.get(source, 0), level[source] + 1)
    plans = []
    for value in [*kernel.loads, *(s.result for s in kernel.stages)]:
        kind = graph.types[value]
        fmt = held(graph, wide, value)
        tile_bytes = fmt.width_bytes
        for length in tiling.tile(value, kind.shape) if value not in tiling.resident else kind.shape:
            tile_bytes *= length
        stays = value in tiling.resident or tiling.turns == 1
        depth = 1 if stays else last[value] - level[value] + 1
        need = pmu.Buffer(tile_bytes, depth, reading[value], written[value])
        plans.append(BufferPlan(graph.labels[value], value, tile_bytes, depth, fmt, pmu.units_for(machine.pmu, need)))
    return tuple(plans)


def _rates(graph: Graph, stage: Stage, share: Share, wide: frozenset[int], machine: Machine) -> tuple[list[int], int]:
    """Bytes per cycle that a running stage reads of each operand, and that it writes."""
    kept = [held(graph, wide, read.value) for read in stage.reads]
    return stage.op.feeds(machine.pcu, share, stage.operands(graph), kept, held(graph, wide, stage.result))


def _fits(planned: PlannedKernel, machine: Machine) -> bool:
    return (
        planned.pcus <= int(machine.pcu.count.value)
        and planned.pmus <= int(machine.pmu.count.value)
        and planned.agcus <= int(machine.agcu.count.value)
    )


def _check(planned: PlannedKernel, machine: Machine) -> None:
    where = f"kernel {planned.kernel.name}"
    pcu.check(
        machine.pcu,
        {s.label: share.pcus for s, share in zip(planned.kernel.stages, planned.shares, strict=True)},
        where,
    )
    pmu.check(machine.pmu, {f"{b.label} ({b.tile_bytes:,} bytes x {b.depth})": b.pmus for b in planned.buffers}, where)
    agcu.check(machine.agcu, {s.label: s.agcus for s in planned.streams}, where)
