"""What a kernel costs at least, from sums alone: how the fusion knows which kernels need no planning.

A kernel of nodes i..j moves every value that it reads from outside and every value that others need, once or more, and
makes every multiply-accumulate of its contractions. So it takes no less than each tier's bytes over its bandwidth, and
no less than its contractions over all PCUs; whatever its tiling, for a pipeline turns no faster than its slowest stage.
Each of these values takes an AGCU, so that a kernel of too many does not fit.
"""

from collections import defaultdict
from collections.abc import Iterator

from rdujax.graph.graph import Graph
from rdujax.ledger.numbers import exact
from rdujax.machines.machine import Machine
from rdujax.ops.op import Work
from rdujax.units import pcu


class Bounds:
    """Lower bounds of the cycles of all kernels of consecutive nodes of one graph on one machine."""

    def __init__(self, graph: Graph, machine: Machine, tiers: dict[int, str], launch_cycles: int):
        self.graph, self.tiers, self.launch_cycles = graph, tiers, launch_cycles
        clock = exact(machine.clock_hz.value)
        self.bytes_per_cycle = {
            tier: exact(machine.tier(tier).bandwidth_bytes_per_s.value)
            * exact(machine.tier(tier).efficiency.value)
            / clock
            for tier in set(tiers.values())
        }
        self.work = [_pcu_cycles(graph, i, machine) for i in range(len(graph.nodes))]
        self.pcus, self.agcus = int(machine.pcu.count.value), int(machine.agcu.count.value)
        self.last_use: dict[int, int] = {}
        for i, node in enumerate(graph.nodes):
            self.last_use |= dict.fromkeys(node.operands, i)
        end = len(graph.nodes)
        self.last_use |= dict.fromkeys(graph.outputs, end)
        self.dies_at: dict[int, list[int]] = defaultdict(list)
        for value, last in self.last_use.items():
            self.dies_at[last].append(value)

    def from_node(self, first: int) -> Iterator[int | None]:
        """The bounds of the kernels that begin with node `first`: of one node, of two ...; None where it cannot fit."""
        types, nodes = self.graph.types, self.graph.nodes
        moved: dict[str, int] = defaultdict(int)
        inside, loaded, stored, work = set(), set(), set(), 0
        for i in range(first, len(nodes)):
            for value in nodes[i].operands:
                if value not in inside and value not in loaded:
                    loaded.add(value)
                    moved[self.tiers[value]] += types[value].size_bytes
            result = nodes[i].result
            inside.add(result)
            stored.add(result)
            moved[self.tiers[result]] += types[result].size_bytes
            for value in self.dies_at[i]:  # nobody after this node needs it: it need not be stored
                if value in stored:
                    stored.remove(value)
                    moved[self.tiers[value]] -= types[value].size_bytes
            work += self.work[i]
            transfer = max(int(amount / self.bytes_per_cycle[tier]) for tier, amount in moved.items())
            fits = len(loaded) + len(stored) <= self.agcus
            yield self.launch_cycles + max(transfer, work // self.pcus) if fits else None


def _pcu_cycles(graph: Graph, i: int, machine: Machine) -> int:
    """Cycles of one PCU that the contraction of a node takes with every cell busy; 0 for other nodes."""
    node = graph.nodes[i]
    if not isinstance(node.op, Work):
        return 0
    operands = graph.types_of(node.operands)
    macs = node.op.work(*operands)["pcu.macs"]
    if not macs:
        return 0
    rows, columns = pcu.array(machine.pcu, operands[0].fmt)
    return int(macs // (rows * columns))
