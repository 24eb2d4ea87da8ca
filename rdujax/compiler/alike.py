"""Which stretches of a graph are alike: the same operations on the same types, tied to one another in the same way.

Layers of a model that were written out one after the other are planned once. What is planned for one stretch is said
of another by putting its values and labels in their place (`graph/renamed.py`).
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from rdujax.graph.graph import Graph

FAR = 2**40  # a distance to outside


class Alike:
    """Compares stretches of consecutive nodes of one graph, whose values rest in `tiers`.

    in_place: results of updates that take the place of an operand.
    """

    def __init__(self, graph: Graph, tiers: Mapping[int, str], in_place: frozenset[int] = frozenset()):
        nodes = graph.nodes
        self.width = max((len(node.operands) for node in nodes), default=0) + 1
        kinds: dict[tuple, int] = {}
        self.kind = np.zeros(len(nodes), int)
        self.made, self.before = (np.full((len(nodes), self.width), FAR) for _ in range(2))
        last = {v: i for i, node in enumerate(nodes) for v in node.operands}
        last |= dict.fromkeys(graph.outputs, FAR)
        self.last = np.array([last.get(node.result, i) - i for i, node in enumerate(nodes)], int)
        self.places: dict[int, list[int]] = defaultdict(list)
        made: dict[int, int] = {}
        read: dict[int, int] = {}  # where a value was read before: node x width + operand
        for i, node in enumerate(nodes):
            where = tuple(tiers[value] for value in (node.result, *node.operands))
            key = (node.op, graph.types[node.result], graph.types_of(node.operands), node.pins, where,
                   node.result in in_place)  # fmt: skip
            self.kind[i] = kinds.setdefault(key, len(kinds))
            self.places[int(self.kind[i])].append(i)
            for at, value in enumerate(node.operands):
                here = i * self.width + at
                if value in made:
                    self.made[i, at] = i - made[value]
                if value in read:
                    self.before[i, at] = here - read[value]
                read[value] = here
            made[node.result] = i

    def signatures(self, far: int) -> np.ndarray:
        """int [nodes]: equal for nodes that do the same on the same types, taken from as far; `far` is the most."""
        made = np.where(self.made < far, self.made, far)
        return np.unique(np.column_stack([self.kind, made]), axis=0, return_inverse=True)[1].reshape(-1)

    def starts(self, first: int, end: int) -> list[int]:
        """Where the stretches begin that are like nodes first..end, that one included."""
        length, wanted = end - first, self._tied(first, end)
        return [
            start
            for start in self.places[int(self.kind[first])]
            if start + length <= len(self.kind)
            and np.array_equal(self.kind[start : start + length], self.kind[first:end])
            and all(map(np.array_equal, self._tied(start, start + length), wanted))
        ]

    def _tied(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Who makes and who read before what each node reads, where that is within; and which results others need."""
        inside = np.arange(end - first)
        places = inside[:, None] * self.width + np.arange(self.width)[None, :]
        made = np.where(self.made[first:end] <= inside[:, None], self.made[first:end], FAR)
        before = np.where(self.before[first:end] <= places, self.before[first:end], FAR)
        return made, before, self.last[first:end] >= end - first - inside
