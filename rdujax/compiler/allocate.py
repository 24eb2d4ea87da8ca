"""Pass: PCUs, PMUs and AGCUs for the stages, buffers and streams of a tiled kernel.

Every stage offers its useful shares as (cycles, PCUs), a staircase. Where a kernel turns often, its slowest stage
counts: PCUs by exact water-filling, the smallest turn time at which the cheapest shares of all stages fit together with
their buffers and streams; a turn shorter than what the memory tiers need is never paid for. Where it turns but once,
stages work one after the other and every cycle of each counts: all stages trade cycles for PCUs at one price, the
lowest at which they fit; a stage through which a load streams need not be faster than that load.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import inf, prod
from typing import NoReturn

import numpy as np

from rdujax.base.errors import CapacityError, describe
from rdujax.compiler.feeds import Feeds
from rdujax.compiler.staircase import Rates, Staircase
from rdujax.estimate.pipeline import wanted_depths
from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Kernel, Stage, Write
from rdujax.graph.plan import BufferPlan, PlannedKernel, Tiling, held, turn
from rdujax.graph.sources import short
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import BF16, FP32, INT32, Format
from rdujax.ops.exchange import Links
from rdujax.ops.op import Share, TensorType
from rdujax.units import agcu, capacity, pcu, pmu

SLICES_AHEAD = 2  # of a load that streams by: one that is read, one that arrives


class Allocator:
    """Allocates the kernels of one graph on one machine; what stages offer is asked once for equal stages."""

    def __init__(self, graph: Graph, machine: Machine, tiers: dict[int, str]):
        self.graph, self.machine, self.tiers = graph, machine, tiers
        self.pcus = int(machine.pcu.count.value)
        self.pmus = int(machine.pmu.count.value)
        self.agcus = int(machine.agcu.count.value)
        self._kept: tuple[Kernel, dict[int, int]] | None = None
        self._stairs: dict[tuple, Staircase] = {}
        self.choices: dict[tuple, np.ndarray] = {}
        self.rates: dict[tuple, Rates] = {}

    def kept_turns(self, kernel: Kernel) -> dict[int, int]:
        """See `kept_turns`; of the kernel that was asked for last, which is tried in many tilings, it is known."""
        if self._kept is None or self._kept[0] is not kernel:
            self._kept = kernel, kept_turns(kernel)
        return self._kept[1]

    def stairs(self, stage: Stage, tiles: tuple[TensorType, ...]) -> Staircase:
        """The useful shares of a stage, the fastest first; raises CapacityError where it may not have enough PCUs."""
        fixed = stage.pins.pcus
        key = (stage.op, tiles, fixed)
        if key not in self._stairs:
            most = self.pcus if fixed is None else min(self.pcus, fixed)
            offered = stage.op.shares(self.machine, most, *tiles)
            self._stairs[key] = Staircase.of(offered if fixed is None else offered[:1])
        found = self._stairs[key]
        if not len(found):
            raise CapacityError(
                describe("a stage needs more PCUs than it may have",
                         allowed=f"{self.pcus if fixed is None else min(self.pcus, fixed)} PCUs",
                         given=f"at least {stage.op.fewest(self.machine, *tiles)} PCUs",
                         where=self._where(stage), do="split the expression or K less, or give it more PCUs")
            )  # fmt: skip
        return found

    def _where(self, stage: Stage) -> str:
        members = set(stage.members)
        at = short(node.source for node in self.graph.nodes if node.label in members)
        return f"stage {stage.label}" + (f", at {at}" if at else "")

    def allocate(self, kernel: Kernel, tiling: Tiling, wide: frozenset[int]) -> PlannedKernel:
        """The kernel with the units of its stages, buffers and streams; raises CapacityError where it does not fit."""
        planned = self.allocated_below(inf, kernel, tiling, wide)
        assert planned is not None
        return planned

    def allocated_below(
        self, cycles: float, kernel: Kernel, tiling: Tiling, wide: frozenset[int]
    ) -> PlannedKernel | None:
        """The same, or None where its PCUs alone tell that it takes `cycles` or more: then no buffer is asked for."""
        return _Tiled(self, kernel, tiling, wide).allocated(cycles)


# Cycles that a PCU must save to be taken, from nothing at all upward.
PRICES = (0.0, *(2.0**i for i in range(-10, 24)))


class _Tiled:
    """One kernel in one tiling: what it needs, whatever its shares."""

    def __init__(self, to: Allocator, kernel: Kernel, tiling: Tiling, wide: frozenset[int]):
        self.to, self.graph, self.machine = to, to.graph, to.machine
        self.kernel, self.tiling, self.wide = kernel, tiling, wide
        self.slices = [tiling.slices(stage.result) for stage in kernel.stages]
        self._check_capacity()
        self.staircases = [to.stairs(stage, turn(to.graph, tiling, stage)) for stage in kernel.stages]
        self.cycles = [self._turn_cycles(i) for i in range(len(self.staircases))]
        self.feeds = Feeds(to.graph, to.machine, to.tiers, kernel, tiling)

    def _check_capacity(self) -> None:
        """Refuses, before anything is asked of the stages, buffers that no number of PMUs below the limit holds."""
        size = int(self.machine.pmu.capacity_bytes.value)
        least = {value: -(-tile_bytes * depth // size) for value, tile_bytes, depth in self._stored}
        if sum(least.values()) > self.to.pmus:
            labels = self.graph.labels
            needs = {f"{labels[v]} ({size:,} bytes x {depth})": least[v] for v, size, depth in self._stored}
            pmu.check(self.machine.pmu, needs, self.kernel.where)

    def allocated(self, below: float) -> PlannedKernel | None:
        """The kernel with the best shares that fit; raises CapacityError where none do.

        below: see `Allocator.allocated_below`.
        """
        last = [len(stairs) - 1 for stairs in self.staircases]
        slowest = max((int(cycles[-1]) for cycles in self.cycles), default=1)
        floor = max(self.feeds.turn_cycles(), self._link_cycles())
        if not self._fits(last, max(slowest, floor)):
            _refuse(self._planned(last, max(slowest, floor)), self.machine)
        once = self.tiling.turns == 1
        limits = range(len(PRICES)) if once else self._times(floor)
        shares = self._at_price if once else self._at_time
        found = bisect_left(limits, True, key=lambda at: self._has_pcus(shares(at)))
        if found < len(limits):
            turn_cycles = self.feeds.one_way_cycles() if once else limits[found]
            if self._least_cycles(shares(limits[found]), turn_cycles) >= below:
                return None
            found = bisect_left(limits, True, found, key=lambda at: self._fits(shares(at), floor if once else at))
        best = (shares(limits[found]), floor if once else limits[found]) if found < len(limits) else None
        planned = self._planned(*(best or (last, max(slowest, floor))))
        return self._deepened(planned) if self.tiling.in_turn else planned

    def _times(self, floor: int) -> list[int]:
        """Every turn time from `floor` on that some stage takes with one of its shares and all can keep."""
        fastest = max([floor, *(int(cycles[0]) for cycles in self.cycles)])
        slower = [cycles[np.searchsorted(cycles, fastest, side="right") :] for cycles in self.cycles]
        return np.unique(np.concatenate([[fastest], *slower])).tolist()

    def _has_pcus(self, places: Sequence[int]) -> bool:
        """Whether there are PCUs for these shares."""
        return sum(stairs.pcus[at] for stairs, at in zip(self.staircases, places, strict=True)) <= self.to.pcus

    def _least_cycles(self, places: Sequence[int], turn_cycles: int) -> int:
        """No more than the cycles of the kernel with these shares, or with slower ones and longer turns.

        Every stage has its turns one after the other, behind what it reads and before what reads it.
        """
        stages, turns = self.kernel.stages, self.tiling.turns
        once = self.tiling.resident | self.tiling.late
        own = [0 if s.result in once else int(c[at]) for s, c, at in zip(stages, self.cycles, places, strict=True)]
        before: dict[int, int] = {}  # cycles until the first turn of a stage has ended, by its result
        for stage, cycles in zip(stages, own, strict=True):
            before[stage.result] = cycles + max((before.get(read.value, 0) for read in stage.reads), default=0)
        behind: dict[int, int] = {}  # cycles behind the last turn of a stage, by its result
        least = turns * turn_cycles
        for stage, cycles in zip(reversed(stages), reversed(own), strict=True):
            rest = behind.get(stage.result, 0)
            least = max(least, before[stage.result] + (turns - 1) * cycles + rest)
            for read in stage.reads:
                behind[read.value] = max(behind.get(read.value, 0), cycles + rest)
        return least

    def _turn_cycles(self, at: int) -> np.ndarray:
        """Cycles of a turn of a stage with each of its shares, the fastest first.

        Of all slices; of what is made once, before or behind all turns, its share of every one.
        """
        stage, stairs, turns = self.kernel.stages[at], self.staircases[at], self.tiling.turns
        result = stage.result
        if result in self.tiling.sums:
            more = int(stage.op.resuming_cycles(self.machine, *turn(self.graph, self.tiling, stage)))
            return stairs.cycles + more
        if result in self.tiling.resident or result in self.tiling.late:
            return -(-stairs.cycles // turns)
        return stairs.cycles * self.slices[at]

    def _at_time(self, turn_cycles: int) -> list[int]:
        """The fewest PCUs with which every stage takes at most `turn_cycles`, or of one that cannot, its fastest."""
        return [max(0, int(np.searchsorted(cycles, turn_cycles, side="right")) - 1) for cycles in self.cycles]

    def _at_price(self, at: int) -> list[int]:
        """The shares at which no stage would gain by another unit for `PRICES[at]` cycles; of equal ones, the fewest.

        Units are PCUs, and the PMUs that the stage reads and fills at once.
        """
        return [int(chosen[at]) for chosen in self._choices]

    @cached_property
    def _choices(self) -> list[np.ndarray]:
        """For every stage its share at each of the prices."""
        found = []
        for i, (stairs, slices, floor) in enumerate(zip(self.staircases, self.slices, self._floors, strict=True)):
            # The allocator keeps the staircase, so that nothing else has its id.
            key = (id(stairs), slices, floor, self._held(self.kernel.stages[i]))
            if key not in self.to.choices:
                units = self._units(i).astype(float)  # not emulated: sizes
                cycles = np.maximum(stairs.cycles, floor) * float(slices)
                dear = cycles[None, ::-1] + np.array(PRICES)[:, None] * units[None, ::-1]
                self.to.choices[key] = len(stairs) - 1 - np.argmin(dear, axis=1)
            found.append(self.to.choices[key])
        return found

    def _units(self, stage: int) -> np.ndarray:
        """Of a stage with each of its shares."""
        port = int(self.machine.pmu.port_bytes_per_cycle.value)
        return np.array(self.staircases[stage].pcus) + np.sum(-(-self._rates[stage].every // port), axis=1)

    def _held(self, stage: Stage) -> tuple[Format, ...]:
        """The formats that the buffers of the operands and of the result hold."""
        return tuple(map(self._buffered, (*(read.value for read in stage.reads), stage.result)))

    def _buffered(self, value: int) -> Format:
        """The format that a buffer holds: of sums that are not complete, FP32."""
        fmt = held(self.graph, self.wide, value)
        return FP32 if value in self.tiling.sums and fmt is BF16 else fmt

    @cached_property
    def _floors(self) -> list[int]:
        """For every stage the cycles that a slice of the load which streams through it takes at least."""
        floors = []
        streams = {s.value: s for s in self.feeds.flows if not s.is_store}
        for stage, slices in zip(self.kernel.stages, self.slices, strict=True):
            by = [streams[r.value] for r in stage.reads if r.value in streams and self.tiling.slices(r.value) > 1]
            floors.append(max((self.machine.transfer_cycles(s.tier, s.turn_bytes // slices) for s in by), default=0))
        return floors

    def _link_cycles(self) -> int:
        """Cycles of a turn for which exchanges keep the links to other sockets busy."""
        pairs = zip(self.cycles, self.staircases, strict=True)
        return sum(int(cycles[-1]) for cycles, stairs in pairs if isinstance(stairs.shares[-1], Links))

    def _fits(self, places: Sequence[int], turn_cycles: int) -> bool:
        """Whether there are PCUs, PMUs and AGCUs for these shares. Later limits need less."""
        if not self._segments_fit or not self._has_pcus(places):
            return False
        agcus = self.feeds.agcus(turn_cycles)
        linked = max((share.agcus for share in self._shares(places) if isinstance(share, Links)), default=0)
        enough = self.feeds.agcus_together(agcus) + linked <= self.to.agcus
        return enough and sum(self._pmus(places, agcus)) <= self.to.pmus

    @property
    def _segments_fit(self) -> bool:
        return not self.tiling.in_turn or len(self.feeds.flows) <= int(self.machine.agcu.segments.value)

    def _planned(self, places: Sequence[int], turn_cycles: int) -> PlannedKernel:
        """The kernel with these shares, and AGCUs for turns of `turn_cycles`; whether it fits is not asked."""
        agcus = self.feeds.agcus(turn_cycles)
        units = zip(self._stored, self._pmus(places, agcus), strict=True)
        buffers = tuple(
            BufferPlan(self.graph.labels[value], value, size, depth, self._buffered(value), pmus)
            for (value, size, depth), pmus in units
        )
        streams = self.feeds.with_agcus(agcus)
        return PlannedKernel(self.kernel, self.tiling, self._shares(places), buffers, streams, self.wide)

    def _shares(self, places: Sequence[int]) -> tuple[Share, ...]:
        return tuple(stairs.shares[at] for stairs, at in zip(self.staircases, places, strict=True))

    def _deepened(self, planned: PlannedKernel) -> PlannedKernel:
        """The kernel with what PMUs are left given to loads that stream by, so that they run ahead of their stages."""
        left = self.to.pmus - planned.pmus
        buffers = {b.value: b for b in planned.buffers}
        size = int(self.machine.pmu.capacity_bytes.value)
        for value, depth in wanted_depths(self.graph, planned, self.machine).items():
            buffer = buffers[value]
            depth = min(depth, (buffer.pmus + left) * size // buffer.tile_bytes)
            if depth > buffer.depth:
                pmus = max(buffer.pmus, -(-buffer.tile_bytes * depth // size))
                left -= pmus - buffer.pmus
                buffers[value] = replace(buffer, depth=depth, pmus=pmus)
        return replace(planned, buffers=tuple(buffers.values()))

    def _fed(self, stage: Stage) -> tuple[TensorType, ...]:
        """What decides how fast a stage reads and writes: its operands, or of sums what a turn adds."""
        return turn(self.graph, self.tiling, stage) if stage.result in self.tiling.sums else stage.operands(self.graph)

    @cached_property
    def _rates(self) -> list[Rates]:
        """For every stage how fast it reads and writes; all that are alike share it, whatever their tiles."""
        found = []
        for stage, stairs in zip(self.kernel.stages, self.staircases, strict=True):
            fed, formats = self._fed(stage), self._held(stage)
            # The allocator keeps the staircase, so that nothing else has its id.
            key = (id(stairs), fed, formats)
            if key not in self.to.rates:
                self.to.rates[key] = Rates(stairs, stage.op, self.machine, fed, formats)
            found.append(self.to.rates[key])
        return found

    @cached_property
    def _stored(self) -> list[tuple[int, int, int]]:
        """(value, bytes of a tile, depth) of every buffer."""
        kernel, tiling, kept = self.kernel, self.tiling, self.to.kept_turns(self.kernel)
        found, loads = [], set(kernel.loads)
        for value in [*kernel.loads, *(s.result for s in kernel.stages)]:
            shape = self.graph.types[value].shape
            streams_by = value in loads and tiling.slices(value) > 1
            tile = tiling.tile(value, shape) if streams_by else tiling.whole_tile(value, shape)
            tile = shape if value in tiling.whole else tile
            depth = 1 if value in tiling.whole or tiling.turns == 1 else kept[value]
            depth = max(depth, SLICES_AHEAD) if streams_by else depth
            found.append((value, prod(tile) * self._buffered(value).width_bytes, depth))
        return found

    def _pmus(self, places: Sequence[int], agcus: Sequence[int]) -> list[int]:
        """PMUs of every buffer: for its bytes, and for what is read and written of it in a cycle."""
        kernel, port = self.kernel, int(self.machine.agcu.port_bytes_per_cycle.value)
        tile_bytes = {value: size for value, size, _ in self._stored}  # no more than that is moved in a cycle
        streams = list(zip(self.feeds.flows, agcus, strict=True))
        written = {f.value: min(each * port, tile_bytes[f.value]) for f, each in streams if not f.is_store}
        reading: dict[int, int] = {}
        for i, stage in enumerate(kernel.stages):
            *rates, rate = self._rates[i].at(places[i])
            written[stage.result] = min(rate, tile_bytes[stage.result])
            if stage.result in self.tiling.sums:  # as fast as they leave the arrays, sums come back to them
                reading[stage.result] = written[stage.result]
            for read, rate in zip(stage.reads, rates, strict=True):
                reading[read.value] = reading.get(read.value, 0) + rate
        for write, each in zip(kernel.writes, (each for f, each in streams if f.is_store), strict=True):
            rate = min(each * port, tile_bytes[write.read.value])
            reading[write.read.value] = reading.get(write.read.value, 0) + rate
        counts = {(f.value, f.is_store): each for f, each in streams}
        for moved in (*kernel.fetches, *kernel.writes):
            for place in moved.places:  # each AGCU takes a place per cycle
                count = counts[moved.value, isinstance(moved, Write)]
                rate = min(count * INT32.width_bytes, tile_bytes[place.value])
                reading[place.value] = reading.get(place.value, 0) + rate
        return [
            pmu.units_for(self.machine.pmu, pmu.Buffer(size, depth, reading[value], written[value]))
            for value, size, depth in self._stored
        ]


def levels(kernel: Kernel) -> dict[int, int]:
    """How many turns lie before a value: none before loads, but for those whose place something before them says."""
    level: dict[int, int] = {}
    for step in kernel.in_order:
        if isinstance(step, Stage):
            way = 2 if step.op.group > 1 else 1  # what is exchanged is on its way for a turn
            level[step.result] = way + max((level[r.value] for r in step.reads), default=0)
        else:
            places = kernel.fetched[step].places if step in kernel.fetched else ()
            level[step] = 1 + max((level[p.value] for p in places), default=-1)
    return level


def kept_turns(kernel: Kernel) -> dict[int, int]:
    """For how many turns every value is kept, that which makes it included.

    As long as until its last reader, however many stages later: otherwise its producer would wait for that.
    """
    level, last = levels(kernel), {}
    for stage in kernel.stages:
        for read in stage.reads:
            last[read.value] = max(last.get(read.value, 0), level[stage.result])
    for fetch in kernel.fetches:
        for place in fetch.places:
            last[place.value] = max(last.get(place.value, 0), level[fetch.value])
    for write in kernel.writes:
        end = 1 + max(level[read.value] for read in (write.read, *write.places))
        for read in (write.read, *write.places):
            last[read.value] = max(last.get(read.value, 0), end)
    return {value: end - level[value] + 1 for value, end in last.items()}


def _refuse(planned: PlannedKernel, machine: Machine) -> NoReturn:
    """Raises CapacityError for the first unit of which there are too few."""
    where = planned.kernel.where
    shares: Sequence[Share] = planned.shares
    pcu.check(machine.pcu, {s.label: n.pcus for s, n in zip(planned.kernel.stages, shares, strict=True)}, where)
    pmu.check(machine.pmu, {f"{b.label} ({b.tile_bytes:,} bytes x {b.depth})": b.pmus for b in planned.buffers}, where)
    agcu.check(machine.agcu, planned.bridges, where)
    if planned.tiling.in_turn:  # each AGCU translates the addresses of all streams that share it
        needs = {s.label: 1 for s in planned.streams}
        segments = int(machine.agcu.segments.value)
        capacity.check("segment", needs, segments, where=where, do="cut the kernel into several")
    raise AssertionError("it fits")
