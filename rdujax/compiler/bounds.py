"""What a kernel costs at least, from sums alone: how the fusion knows which kernels need no planning.

A kernel of nodes i..j moves every value that it reads from outside and every value that others need, once or more, and
makes every multiply-accumulate of its contractions. So it takes no less than each tier's bytes over its bandwidth, and
no less than its contractions over all PCUs; whatever its tiling, for a pipeline turns no faster than its slowest stage.
A value of which a part may be loaded by itself counts as no byte.
Each of these values takes an AGCU, or a segment of those that all share, so that a kernel of too many does not fit.
"""

from collections.abc import Sequence

import numpy as np

from rdujax.compiler.stages import VIEWS
from rdujax.graph.graph import Graph
from rdujax.ledger.numbers import exact
from rdujax.machines.machine import Machine
from rdujax.ops.move import Move
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.op import Work
from rdujax.streams.access import Slice
from rdujax.units import pcu

WINDOW = 256  # nodes that a kernel is first thought to have at most
ROUNDING = 1 - 1e-12  # sums of bytes are exact in float64, their quotients are not


class Bounds:
    """Lower bounds of the cycles of all kernels of consecutive nodes of one graph on one machine."""

    def __init__(self, graph: Graph, machine: Machine, tiers: dict[int, str], launch_cycles: int):
        self.launch_cycles, self.count = launch_cycles, len(graph.nodes)
        self.most = max(int(machine.agcu.count.value), int(machine.agcu.segments.value))
        macs = [_pcu_cycles(graph, i, machine) for i in range(self.count)]
        self.work = np.concatenate([[0], np.cumsum(macs)]) / int(machine.pcu.count.value)
        self.reads = _reads(graph)
        self.results = _results(graph)
        names = sorted(set(tiers.values()))
        at = np.zeros(max(graph.types, default=0) + 1, int)
        size = np.zeros(len(at))
        parted = _parted(graph)
        for value, tier in tiers.items():
            at[value], size[value] = names.index(tier), 0 if value in parted else graph.types[value].size_bytes
        self.tier, self.size = at, size
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
        for (nodes, values), sign in ((loads, 1), (made, 1), (dies, -1)):
            for tier, amount in enumerate(moved):
                own = self.tier[values] == tier
                amount += sign * np.bincount(nodes[own] - first, self.size[values[own]], window)
            count += sign * np.bincount(nodes - first, minlength=window)
        cycles = self.work[first + 1 : first + window + 1] - self.work[first]
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


def _parted(graph: Graph) -> set[int]:
    """Values of which something takes a part, perhaps through a view."""
    found: set[int] = set()
    for node in reversed(graph.nodes):
        op = node.op
        takes = isinstance(op, OnBuffers) and op.slice_bytes(*graph.types_of(node.operands)) is not None
        if isinstance(op, Move):
            takes = isinstance(op.access, Slice) or (isinstance(op.access, VIEWS) and node.result in found)
        if takes:
            found.add(node.operands[0])
    return found


def _reads(graph: Graph) -> np.ndarray:
    """int [reads, 4]: node, value, the node that makes it (-1: none), the node that read it before (-1: none)."""
    made = {node.result: i for i, node in enumerate(graph.nodes)}
    before: dict[int, int] = {}
    rows = []
    for i, node in enumerate(graph.nodes):
        for value in dict.fromkeys(node.operands):
            rows.append((i, value, made.get(value, -1), before.get(value, -1)))
            before[value] = i
    return np.array(rows, int).reshape(-1, 4)


def _results(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Two tables int [results, 4] of (node, value, the node that makes it, 0).

    Of the first, the node is that which makes the value; of the second, the last that needs it: behind it, nobody does.
    """
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.operands}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    made = [(i, node.result, i, 0) for i, node in enumerate(graph.nodes)]
    dies = sorted((last.get(v, i), v, i, 0) for i, v, _, _ in made)
    return np.array(made, int).reshape(-1, 4), np.array(dies, int).reshape(-1, 4)


def _pcu_cycles(graph: Graph, i: int, machine: Machine) -> int:
    """Cycles of one PCU that the contraction of a node takes with every cell busy; 0 for other nodes."""
    node = graph.nodes[i]
    if not isinstance(node.op, Work):
        return 0
    operands: Sequence = graph.types_of(node.operands)
    macs = node.op.work(*operands)["pcu.macs"]
    if not macs:
        return 0
    rows, columns = pcu.array(machine.pcu, operands[0].fmt)
    return int(macs // (rows * columns))
