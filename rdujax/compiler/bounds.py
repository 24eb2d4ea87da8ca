"""What a kernel costs at least, from sums alone: how the fusion knows which kernels need no planning.

A kernel of nodes i..j moves every value that it reads from outside and every value that others need, once or more, and
makes every multiply-accumulate of its contractions. So it takes no less than each tier's bytes over its bandwidth, no
less than its contractions over all PCUs, and no less than what its exchanges keep the links of a socket busy; whatever
its tiling, for a pipeline turns no faster than its slowest stage.
A value of which parts may be loaded by themselves counts as no byte, but these do where no kernel can need the whole of
it. An update in place writes its part; who reads its result loads all of it.
Each of these values takes an AGCU, or a segment of those that all share, so that a kernel of too many does not fit.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rdujax.compiler.stages import VIEWS
from rdujax.graph.graph import Graph, Node, Region
from rdujax.ledger.numbers import exact
from rdujax.machines.machine import Machine
from rdujax.ops.contract import Contract
from rdujax.ops.exchange import Exchange
from rdujax.ops.move import Move
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.op import Op, TensorType
from rdujax.streams.access import Slice
from rdujax.units import pcu

WINDOW = 256  # nodes that a kernel is first thought to have at most
ROUNDING = 1 - 1e-12  # sums of bytes are exact in float64, their quotients are not


class Bounds:
    """Lower bounds of the cycles of all kernels of consecutive nodes of one graph on one machine."""

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        tiers: dict[int, str],
        launch_cycles: int,
        in_place: frozenset[int] = frozenset(),
    ):
        self.launch_cycles, self.count = launch_cycles, len(graph.nodes)
        self.most = max(int(machine.agcu.count.value), int(machine.agcu.segments.value))
        macs = [pcu_cycles(node.op, graph.types_of(node.operands), machine) for node in graph.nodes]
        self.work = np.concatenate([[0], np.cumsum(macs)]) / int(machine.pcu.count.value)
        self.links = np.concatenate([[0], np.cumsum([_link_cycles(node, graph, machine) for node in graph.nodes])])
        parts = _Parts(graph)
        self.reads = _reads(graph, in_place, parts)
        self.results = _results(graph, in_place)
        names = sorted(set(tiers.values()))
        at = np.zeros(max(graph.types, default=0) + 1, int)
        size = np.zeros(len(at))
        for value, tier in tiers.items():
            at[value], size[value] = names.index(tier), graph.types[value].size_bytes
        self.loaded, self.written = (at.copy(), size.copy()), (at, size)  # the tier of a value, and its bytes
        self.loaded[1][list(parts.parted)] = 0
        for part, whole in parts.alone.items():
            self.loaded[0][part] = at[whole]
        for node in graph.nodes:
            if node.result in in_place:
                self.written[1][node.result] = _updated_bytes(graph, node)
        clock = exact(machine.clock_hz.value)
        self.bytes_per_cycle = [
            float(exact(machine.tier(t).bandwidth_bytes_per_s.value) * exact(machine.tier(t).efficiency.value) / clock)
            for t in names
        ]

    def from_node(self, first: int) -> np.ndarray:
        """float64 [lengths]: the bounds of the kernels that begin with node `first`, of one node, of two ...

        Infinite where it cannot fit; the row ends where no longer one can fit.
        """
        window = min(WINDOW, self.count - first)
        while True:
            found, loaded = self._within(first, window)
            too_many = int(np.searchsorted(loaded, self.most, side="right"))  # every longer one loads as many
            if too_many < window or first + window == self.count:
                return found[:too_many]
            window = min(2 * window, self.count - first)

    def _within(self, first: int, window: int) -> tuple[np.ndarray, np.ndarray]:
        """(bounds, values loaded) of the kernels of up to `window` nodes."""
        moved, count = [np.zeros(window) for _ in self.bytes_per_cycle], np.zeros(window)
        loads = self._some(self.reads, first, window, lambda made, before: (made < first) & (before < first))
        loaded = np.cumsum(np.bincount(loads[0] - first, minlength=window))
        made = self._some(self.results[0], first, window, lambda at, _: at >= first)
        dies = self._some(self.results[1], first, window, lambda at, _: at >= first)
        for (nodes, values), of, sign in ((loads, self.loaded, 1), (made, self.written, 1), (dies, self.written, -1)):
            at, size = of
            for tier, amount in enumerate(moved):
                own = at[values] == tier
                amount += sign * np.bincount(nodes[own] - first, size[values[own]], window)
            count += sign * np.bincount(nodes - first, minlength=window)
        ends = slice(first + 1, first + window + 1)
        cycles = np.maximum(self.work[ends] - self.work[first], self.links[ends] - self.links[first])
        for amount, rate in zip(moved, self.bytes_per_cycle, strict=True):
            cycles = np.maximum(cycles, np.cumsum(amount) / rate)  # not emulated: sizes
        bounds = self.launch_cycles + np.floor(cycles * ROUNDING)
        return np.where(np.cumsum(count) <= self.most, bounds, np.inf), loaded

    def _some(self, table: np.ndarray, first: int, window: int, wanted) -> tuple[np.ndarray, np.ndarray]:
        """(nodes, values) of the rows of a table (sorted by node) that lie in the window and are wanted."""
        begin, end = np.searchsorted(table[:, 0], [first, first + window])
        rows = table[begin:end]
        rows = rows[wanted(rows[:, 2], rows[:, 3])]
        return rows[:, 0], rows[:, 1]


class _Parts:
    """What may be loaded in part. parted: values of which something takes a part, perhaps through a view.

    alone: by part, the value that it is taken of, where all kernels load only parts of that, for these are less.
    """

    def __init__(self, graph: Graph):
        self.parted: set[int] = set()
        taken: dict[int, list[int]] = defaultdict(list)  # of each value the nodes that take a part of it
        whole = set(graph.outputs)  # of which somebody needs all
        base = {}  # of a view, the value in memory that it shows
        for node in graph.nodes:
            access = node.op.access if isinstance(node.op, Move) else None
            is_view = isinstance(access, VIEWS)
            takes = isinstance(node.op, OnBuffers) and node.op.slice_bytes(*graph.types_of(node.operands)) is not None
            for at, value in enumerate(node.operands):
                of = base.get(value, value)
                if at == 0 and (takes or isinstance(access, Slice)):
                    taken[of].append(node.result)
                elif not is_view:
                    whole.add(of)
            if is_view:
                base[node.result] = base.get(node.operands[0], node.operands[0])
        whole |= {base[v] for v in graph.outputs if v in base}
        self.parted = set(taken) | {view for view, of in base.items() if of in taken}
        inner = {
            v for parts in taken.values() for v in parts if v in base
        }  # a slice, of which parts may be taken again
        self.alone: dict[int, int] = {}
        for value, parts in taken.items():
            total = sum(graph.types[v].size_bytes for v in parts)
            if value not in whole and total < graph.types[value].size_bytes and not inner & set(parts):
                self.alone |= dict.fromkeys(parts, value)


def _updated_bytes(graph: Graph, node: Node) -> int:
    assert isinstance(node.op, OnBuffers)
    at = node.op.update_at(len(node.operands))
    assert at is not None
    return graph.types[node.operands[at[0]]].size_bytes


def _reads(graph: Graph, in_place: frozenset[int], parts: _Parts) -> np.ndarray:
    """int [reads, 4]: node, value, the node that makes it (-1: none), the node that read it before (-1: none).

    What is updated in place is not made: whoever reads it has loaded what was there. A part is read by what takes it.
    """
    made = {node.result: i for i, node in enumerate(graph.nodes) if node.result not in in_place}
    before: dict[int, int] = {}
    rows = []
    for i, node in enumerate(graph.nodes):
        for value in dict.fromkeys(node.operands[1:] if node.result in in_place else node.operands):
            rows.append((i, value, made.get(value, -1), before.get(value, -1)))
            before[value] = i
        if node.result in parts.alone:
            rows.append((i, node.result, made.get(parts.alone[node.result], -1), -1))
    return np.array(rows, int).reshape(-1, 4)


def _results(graph: Graph, in_place: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
    """Two tables int [results, 4] of (node, value, the node that makes it, 0).

    Of the first, the node is that which makes the value; of the second, the last that needs it: behind it, nobody does.
    An update in place is always written.
    """
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.operands}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    made = [(i, node.result, i, 0) for i, node in enumerate(graph.nodes)]
    dies = sorted((last.get(v, i), v, i, 0) for i, v, _, _ in made if v not in in_place)
    return np.array(made, int).reshape(-1, 4), np.array(dies, int).reshape(-1, 4)


def pcu_cycles(op: Op | Region, operands: Sequence[TensorType], machine: Machine) -> int:
    """Cycles of one PCU that a contraction takes with every cell busy; 0 for whatever else."""
    if not isinstance(op, Contract):
        return 0
    rows, columns = pcu.array(machine.pcu, operands[0].fmt)
    return int(op.work(*operands)["pcu.macs"] // (rows * columns))


def _link_cycles(node: Node, graph: Graph, machine: Machine) -> int:
    """Cycles for which an exchange of a whole value keeps the links of a socket busy; 0 for other nodes."""
    if not isinstance(node.op, Exchange):
        return 0
    operands = graph.types_of(node.operands)
    every = int(machine.pcu.count.value)
    return min((cycles for cycles, _ in node.op.shares(machine, every, *operands)), default=0)
