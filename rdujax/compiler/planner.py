"""Plans groups of nodes: which there are, and what each is as a kernel; each group only once however often it is asked.

The order of the passes, with the reasons, stands in `driver.py`.
"""

from collections.abc import Sequence
from typing import Protocol

from rdujax.compiler import fuse
from rdujax.compiler.bounds import Bounds
from rdujax.compiler.stages import form
from rdujax.compiler.tile import tile
from rdujax.estimate.price import kernel_cycles
from rdujax.graph.graph import Graph, Node
from rdujax.graph.plan import Kernel, PlannedKernel
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import BF16
from rdujax.ops.move import Move


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

    @property
    def tier(self) -> str:
        """Where values rest."""
        ...


class Planner:
    """Plans the groups of one graph on one machine."""

    def __init__(self, graph: Graph, machine: Machine, choices: Choices):
        self.graph, self.machine, self.choices = graph, machine, choices
        self.tiers = dict.fromkeys(graph.types, choices.tier)
        self._known: dict[tuple[int, ...], PlannedKernel] = {}

    def groups(self) -> list[list[Node]]:
        """The groups of nodes that are a kernel each, in order of launch."""
        fusion = self.choices.fusion
        if isinstance(fusion, fuse.Cuts):
            return fuse.by_cuts(self.graph, fusion)
        if fusion == "none":
            return fuse.operators(self.graph)
        bounds = Bounds(self.graph, self.machine, self.tiers, self._launch_cycles)
        return fuse.streaming(self.graph, self._cost, bounds.from_node)

    def planned(self, group: Sequence[Node]) -> PlannedKernel:
        """The group as a kernel; raises CapacityError where it does not fit."""
        key = tuple(node.result for node in group)
        if key not in self._known:
            kernel = form(self.graph, group, _kernel_name(group), self._materialised(group))
            self._known[key] = tile(self.graph, kernel, self.tiers, self._wide(kernel), self.machine)
        return self._known[key]

    def tiers_in_use(self, kernels: Sequence[PlannedKernel]) -> dict[int, str]:
        """The tier of every value that is in memory at some time: inputs, constants, and what kernels write."""
        written = {w.value for k in kernels for w in k.kernel.writes}
        there = {*self.graph.inputs, *self.graph.constants, *written}
        return {value: self.tiers[value] for value in sorted(there)}

    @property
    def _launch_cycles(self) -> int:
        return round(self.machine.launch_s(self.choices.orchestration) * self.machine.clock_hz.value)

    def _cost(self, group: Sequence[Node]) -> int:
        """Cycles of the group as one kernel, its launch included."""
        return kernel_cycles(self.graph, self.planned(group), self.machine) + self._launch_cycles

    def _materialised(self, group: Sequence[Node]) -> frozenset[int]:
        """Values of the group that something outside of it needs.

        Operator by operator, a view is a member of every group that reads through it: it is written to memory only by
        the group that exists for nothing else.
        """
        inside = {node.result for node in group}
        views = (
            {n.result for n in group[:-1] if isinstance(n.op, Move) and n.op.is_view}
            if self.choices.fusion == "none"
            else set()
        )
        outside = {v for node in self.graph.nodes if node.result not in inside for v in node.operands}
        return frozenset((outside | set(self.graph.outputs)) & inside - views)

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
