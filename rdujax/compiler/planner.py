"""Plans groups of nodes: which there are, and what each is as a kernel; each group only once however often it is asked.

The order of the passes, with the reasons, stands in `driver.py`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Protocol

import numpy as np

from rdujax.base.errors import CapacityError
from rdujax.compiler import fuse, partition
from rdujax.compiler.alike import Alike
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.bounds import Bounds
from rdujax.compiler.periods import LONG, stretches
from rdujax.compiler.stages import form
from rdujax.compiler.tile import tile
from rdujax.estimate.price import kernel_cycles
from rdujax.graph.graph import Graph, Node
from rdujax.graph.kernel import Kernel
from rdujax.graph.plan import PlannedKernel
from rdujax.graph.renamed import moved
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import BF16


class Choices(Protocol):
    """What the planner asks of a user's choices."""

    @property
    def fusion(self) -> "str | fuse.Cuts":
        """How nodes are grouped."""
        ...

    @property
    def orchestration(self) -> str:
        """Who launches kernels."""
        ...

    @property
    def stage_buffer_format(self) -> str:
        """What stage buffers hold of BF16 values."""
        ...


@dataclass
class Seen:
    """What is known of kernels, whoever launches them and whatever others there are.

    formed: by their nodes and what they must leave in memory. tiled: by their nodes, what they load and store, and the
    tiers of that: the plan and its cycles, or why there is none. parts: into which stretches of nodes were cut, by who
    launches, the nodes, and the tiers of all values.
    """

    formed: dict[tuple[tuple[int, ...], frozenset[int]], Kernel] = field(default_factory=dict)
    tiled: dict[tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]], tuple[PlannedKernel, int] | CapacityError] = (
        field(default_factory=dict)
    )
    parts: dict[tuple[str, tuple[int, ...], tuple[str, ...]], list[partition.Group]] = field(default_factory=dict)


class Planner:
    """Plans the groups of one graph on one machine.

    tiers: where each value rests. in_place: results of updates that take the place of an operand there. trips: how
    often the graph runs with nothing in between, as the body of a loop. seen: what other planners of the graph know.
    """

    def __init__(
        self, graph: Graph, machine: Machine, choices: Choices, tiers: Mapping[int, str],
        in_place: frozenset[int] = frozenset(), trips: int = 1, seen: Seen | None = None,
    ):  # fmt: skip
        self._seen = Seen() if seen is None else seen
        self.in_place = in_place
        self.graph, self.machine, self.choices = graph, machine, choices
        self.tiers = {value: tiers[value] for value in graph.types}
        self.allocator = Allocator(graph, machine, self.tiers)
        self._known: dict[tuple[int, ...], tuple[PlannedKernel, int]] = {}  # plans, and their cycles
        self._refused: dict[tuple[int, ...], CapacityError] = {}
        self._place = {node.result: i for i, node in enumerate(graph.nodes)}
        self._readers: dict[int, list[int]] = defaultdict(list)
        for node in graph.nodes:
            for value in node.operands:
                self._readers[value].append(node.result)
        # Nodes as (first, end) that run so often in a row, and how each run but the first begins of one kernel of them.
        self._in_a_row: dict[tuple[int, int], tuple[int, str]] = {}
        if trips > 1 and choices.orchestration == "looped":
            self._in_a_row[0, len(graph.nodes)] = trips, "advance"

    def groups(self) -> list[list[Node]]:
        """The groups of nodes that are a kernel each, in order of launch."""
        fusion = self.choices.fusion
        if isinstance(fusion, fuse.Cuts):
            return fuse.by_cuts(self.graph, fusion)
        if fusion == "primitives":
            return fuse.primitives(self.graph)
        if fusion == "none":
            return fuse.operators(self.graph, self._cycles, self.launch_cycles)
        bounds = Bounds(self.graph, self.machine, self.tiers, self.launch_cycles, self.in_place)
        if fusion == "greedy":
            parts = partition.greedy(self.graph, self.cost, self._bounds(bounds))
        else:
            parts = self._streaming(bounds)
        return [list(self.graph.nodes[first:end]) for first, end in parts]

    def _streaming(self, bounds: Bounds) -> list[tuple[int, int]]:
        """The cheapest parts of every stretch; of stretches that are alike, those of the first.

        Kernels on both sides of a border become one where that is cheaper.
        """
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        crossing = partition.crossing_bytes(self.graph)
        apart = stretches(self._alike.signatures(LONG), crossing)
        self._count_in_a_row(apart)
        for first, end in apart:
            like = ((start, start + end - first) for start in self._alike.starts(first, end))
            known = next((stretch for stretch in like if stretch in found), None)
            if known is None:
                found[first, end] = self._parts(bounds, first, end)
            else:
                found[first, end] = [(i + first - known[0], j + first - known[0]) for i, j in found[known]]
        joined: list[tuple[int, int]] = []
        cheaper: dict[tuple[int, int, int], bool] = {}  # for stretches that are alike, by the first of them
        for parts in found.values():
            for at, (first, end) in enumerate(parts):
                if at or not joined:
                    joined.append((first, end))
                    continue
                before = joined[-1][0]
                key = (self._alike.starts(before, end)[0], first - before, end - before)
                if key not in cheaper:
                    cheaper[key] = self._is_one(bounds, before, first, end)
                joined[-1:] = [(before, end)] if cheaper[key] else [joined[-1], (first, end)]
        return joined

    def _parts(self, bounds: Bounds, first: int, end: int) -> list[partition.Group]:
        """The cheapest parts of a stretch. Where the host launches, the search begins with those for hardware."""
        nodes = self.graph.nodes[first:end]
        key = self.choices.orchestration, tuple(node.result for node in nodes), tuple(self.tiers.values())
        if key not in self._seen.parts:
            begin = self._by_hardware(first, end) if self.choices.orchestration == "software" else []
            own = self._bounds(bounds)
            self._seen.parts[key] = partition.cheapest(self.graph, self.cost, own, (first, end), begin)
        return self._seen.parts[key]

    def _by_hardware(self, first: int, end: int) -> list[partition.Group]:
        """The cheapest parts of a stretch, were its kernels launched by hardware."""
        choices = replace(self.choices, orchestration="hardware")  # type: ignore[type-var]
        other = Planner(self.graph, self.machine, choices, self.tiers, self.in_place, seen=self._seen)
        bounds = Bounds(self.graph, self.machine, self.tiers, other.launch_cycles, self.in_place)
        return other._parts(bounds, first, end)

    def _is_one(self, bounds: Bounds, first: int, border: int, end: int) -> bool:
        """Whether the nodes on both sides of a border are cheaper as one kernel than as two."""
        apart = self.cost(first, border)[0] + self.cost(border, end)[0]
        least = self._bounds(bounds)(first)
        if end - first > len(least) or least[end - first - 1] >= apart:
            return False
        try:
            return self.cost(first, end)[0] < apart
        except CapacityError:
            return False

    def planned(self, group: Sequence[Node]) -> PlannedKernel:
        """The group as a kernel; raises CapacityError where it does not fit."""
        return self._priced(group)[0]

    def _priced(self, group: Sequence[Node]) -> tuple[PlannedKernel, int]:
        """The group as a kernel, and its cycles; raises CapacityError where it does not fit."""
        key = tuple(node.result for node in group)
        if key in self._refused:
            raise self._refused[key]
        if key not in self._known:
            self._known[key] = self._moved(group) or self._new(group, key)
        return self._known[key]

    def cost(self, first: int, end: int) -> tuple[int, list[int]]:
        """Cycles of nodes first..end as one kernel, its launch included, and where all that are like them begin.

        Raises CapacityError where they do not fit.
        """
        return self._cycles(self.graph.nodes[first:end]), self._alike.starts(first, end)

    def _cycles(self, group: Sequence[Node]) -> int:
        """Cycles of nodes as one kernel, its launch included: in a row of runs that are launched once, its share."""
        (planned, cycles), first = self._priced(group), self._place[group[0].result]
        row = self._in_a_row.get((first, first + len(group)))
        return cycles + self._launch_cycles(len(planned.streams), row)

    @property
    def launch_cycles(self) -> int:
        """Cycles of the overhead of any launch at least."""
        return self._launch_cycles(1)

    def _launch_cycles(self, arguments: int, row: tuple[int, str] | None = None) -> int:
        """Cycles before a run of a kernel; row: how often it runs in a row, and how each run but the first begins."""
        orchestration, clock = self.choices.orchestration, self.machine.clock_hz.value
        launch_s = self.machine.launch_s(orchestration, arguments)
        if row is None:
            return round(launch_s * clock)
        times, beginning = row
        again_s = self.machine.launch_s(orchestration, arguments, beginning)
        return round((launch_s + (times - 1) * again_s) * clock / times)  # not emulated: sizes

    def _count_in_a_row(self, apart: Sequence[tuple[int, int]]) -> None:
        """Finds stretches that are alike and follow one another: one kernel each is launched once for all of them.

        Of kernels that are alike within a stretch the search takes each to be launched, though the price does not.
        """
        if self.choices.orchestration != "looped" or len(apart) == 1:
            return
        like = [(self._alike.starts(first, end)[0], end - first) for first, end in apart]
        for _, row in groupby(range(len(apart)), key=like.__getitem__):
            places = list(row)
            if len(places) > 1:
                self._in_a_row |= {apart[at]: (len(places), "argument") for at in places}

    def _bounds(self, bounds: Bounds) -> Callable[[int], np.ndarray]:
        """The bounds of kernels by their first node, less what a row of runs saves of each launch."""

        def from_node(first: int) -> np.ndarray:
            found = bounds.from_node(first)
            for (begin, end), row in self._in_a_row.items():
                if begin == first and end - begin <= len(found):
                    found[end - begin - 1] -= self.launch_cycles - self._launch_cycles(1, row)
            return found

        return from_node

    def in_memory(self, kernels: Sequence[PlannedKernel]) -> set[int]:
        """Every value that is in memory at some time: inputs, constants, and what kernels write."""
        return {*self.graph.inputs, *self.graph.constants, *(w.value for k in kernels for w in k.kernel.writes)}

    @cached_property
    def _left(self) -> fuse.Left:
        return fuse.Left(self.graph)

    @cached_property
    def _alike(self) -> Alike:
        return Alike(self.graph, self.tiers, self.in_place)

    def _new(self, group: Sequence[Node], key: tuple[int, ...]) -> tuple[PlannedKernel, int]:
        kernel = self._formed(group, key)
        moved = (*kernel.sources, *(write.value for write in kernel.writes))
        known = key, moved, tuple(self.tiers[value] for value in moved)
        if known not in self._seen.tiled:
            try:
                planned = tile(self.allocator, kernel, self._wide(kernel))
                self._seen.tiled[known] = planned, kernel_cycles(self.graph, planned, self.machine)
            except CapacityError as error:
                self._seen.tiled[known] = error
        found = self._seen.tiled[known]
        if isinstance(found, CapacityError):
            self._refused[key] = found
            raise found
        return found

    def _formed(self, group: Sequence[Node], key: tuple[int, ...]) -> Kernel:
        """The group as a kernel of stages."""
        left = self._materialised(group)
        if (key, left) not in self._seen.formed:
            config = self.machine.agcu
            self._seen.formed[key, left] = form(self.graph, group, _kernel_name(group), left, config, self.in_place)
        return self._seen.formed[key, left]

    def _moved(self, group: Sequence[Node]) -> tuple[PlannedKernel, int] | None:
        """What is known of a stretch of nodes like these, said of them; None where nothing is known of any."""
        first, end = self._place[group[0].result], self._place[group[-1].result] + 1
        if end - first != len(group):
            return None
        for start in self._alike.starts(first, end):
            like = tuple(node.result for node in self.graph.nodes[start : start + len(group)])
            if like in self._known:
                planned, cycles = self._known[like]
                return moved(planned, self.graph, group, _kernel_name(group)), cycles
        return None

    def _materialised(self, group: Sequence[Node]) -> frozenset[int]:
        """Values of the group that something outside of it needs."""
        if self.choices.fusion in fuse.BY_OPERATOR:
            return self._left.by(group)
        inside = {node.result for node in group}
        outside = {v for v in inside if any(reader not in inside for reader in self._readers[v])}
        return frozenset((outside | set(self.graph.outputs)) & inside)

    def _wide(self, kernel: Kernel) -> frozenset[int]:
        if self.choices.stage_buffer_format != "fp32":
            return frozenset()
        return frozenset(
            s.result for s in kernel.stages if self.graph.types[s.result].fmt is BF16 and _read_wide(kernel, s.result)
        )


def _kernel_name(group: Sequence[Node]) -> str:
    labels = [node.label for node in group]
    return " + ".join(labels) if len(labels) <= 4 else f"{labels[0]} ... {labels[-1]} ({len(labels)} operations)"


def _read_wide(kernel: Kernel, value: int) -> bool:
    """Whether some stage takes FP32 where it could have BF16: arithmetic does, a contraction rounds what it reads."""
    return any(r.value == value for s in kernel.stages if s.op.reads_wide for r in s.reads)
