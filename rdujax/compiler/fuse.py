"""Pass: which nodes make which kernel.

primitives one node, one kernel: every result is written to memory. Views (reshape, broadcast) cost nothing, as in an
           operator-by-operator framework; a transpose is a kernel of its own that moves its operand.
none       one operator of such a framework, one kernel: what it gives is written to memory, what it only needs inside
           is streamed. `Node.operator` says which nodes are one operator, `frontend/operators.py` how that is found:
           a softmax, a norm, a matrix product, a scope marked by the user. Where one does not fit, it is cut.
streaming  the cheapest partition of the program into consecutive kernels that fit, see `partition.py`.
greedy     from the first node on, each kernel as long as it fits: a baseline.
Cuts       after the named nodes, and nowhere else.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from rdujax.base.errors import CapacityError, unknown
from rdujax.compiler.partition import cheapest
from rdujax.graph.graph import Graph, Node
from rdujax.ops.move import Move

BY_OPERATOR = ("none", "primitives")
SEARCHED = ("streaming", "greedy")  # of these, the compiler says which nodes follow one another
FUSIONS = (*SEARCHED, *BY_OPERATOR)
OUTSIDE = -1  # the reader of what a graph returns


@dataclass(frozen=True)
class Cuts:
    """A partition by hand: a kernel ends after each of the nodes with these labels."""

    after: tuple[str, ...]

    def __str__(self) -> str:
        return f"cut after {', '.join(self.after)}" if self.after else "one kernel"


def cut_after(*labels: str) -> Cuts:
    """Ends a kernel after each node of these labels (see `program.graph` or an error's list for the labels)."""
    return Cuts(labels)


def primitives(graph: Graph) -> list[list[Node]]:
    """One group per node that is no view; views join the groups of all that read them."""
    views = _views(graph)
    groups = [_with_views([node], views) for node in graph.nodes if node.result not in views]
    return groups + _trailing(graph, views)


def operators(graph: Graph, cost: Callable[[Sequence[Node]], int], launch_cycles: int) -> list[list[Node]]:
    """One group per operator; views join the groups of all that read them.

    An operator that does not fit as one kernel is cut into the cheapest consecutive ones that do. cost: cycles of nodes
    as one kernel (CapacityError where it does not fit). launch_cycles: what each kernel costs at least.
    """
    views = _views(graph)
    found: list[list[Node]] = []
    for _, group in groupby((n for n in graph.nodes if n.result not in views), lambda n: n.operator or n.result):
        nodes = list(group)
        found += _parts(graph, nodes, cost, launch_cycles, views) if len(nodes) > 1 else [nodes]
    return [_with_views(group, views) for group in found] + _trailing(graph, views)


def _parts(
    graph: Graph,
    nodes: list[Node],
    cost: Callable[[Sequence[Node]], int],
    launch_cycles: int,
    views: Mapping[int, Node],
) -> list[list[Node]]:
    """The nodes of one operator as one kernel, or where that does not fit, as the cheapest consecutive ones."""
    try:
        cost(_with_views(nodes, views))
    except CapacityError:
        pass
    else:
        return [nodes]

    def own(first: int, end: int) -> tuple[int, list[int]]:
        return cost(_with_views(nodes[first:end], views)), [first]

    def bounds(first: int) -> np.ndarray:
        return np.full(len(nodes) - first, float(launch_cycles))

    return [nodes[i:j] for i, j in cheapest(replace(graph, nodes=tuple(nodes)), own, bounds)]


class Left:
    """What operators of a graph leave in memory: what others read, or read through views, and what is returned."""

    def __init__(self, graph: Graph):
        self.views = _views(graph)
        # Of values that are no views: what is made of them, directly or through views.
        self.readers: dict[int, set[int]] = defaultdict(set)
        for node in graph.nodes:
            if node.result not in self.views:
                for value in node.operands:
                    self.readers[_base(value, self.views)].add(node.result)
        for value in graph.outputs:
            self.readers[_base(value, self.views)].add(OUTSIDE)

    def by(self, group: Sequence[Node]) -> frozenset[int]:
        """The values that a group leaves.

        A view is a part of every group that reads through it, and is written by the group that is there for it alone.
        """
        if all(node.result in self.views for node in group):
            return frozenset({group[-1].result})
        inside = {node.result for node in group if node.result not in self.views}
        return frozenset(value for value in inside if self.readers[value] - inside)


def _views(graph: Graph) -> dict[int, Node]:
    return {node.result: node for node in graph.nodes if isinstance(node.op, Move) and node.op.is_view}


def _base(value: int, views: Mapping[int, Node]) -> int:
    """The value that is read where a view, or a view of a view, is."""
    while value in views:
        (value,) = views[value].operands
    return value


def _with_views(group: Sequence[Node], views: Mapping[int, Node]) -> list[Node]:
    """The group with the views that its operands are read through."""
    needed: dict[int, Node] = {node.result: node for node in group}
    todo = [v for node in group for v in node.operands]
    while todo:
        view = views.get(todo.pop())
        if view is not None and view.result not in needed:
            needed[view.result] = view
            todo.extend(view.operands)
    return sorted(needed.values(), key=lambda node: node.result)


def _trailing(graph: Graph, views: Mapping[int, Node]) -> list[list[Node]]:
    """Views that the program returns: a kernel that only writes them, for nothing else would."""
    return [_with_views([view], views) for view in views.values() if view.result in graph.outputs]


def by_cuts(graph: Graph, cuts: Cuts) -> list[list[Node]]:
    """Groups that end after the named nodes; raises UnknownNameError for a label that no node has."""
    labels = [node.label for node in graph.nodes]
    for label in cuts.after:
        if label not in labels:
            raise unknown("node to cut after", label, labels)
    groups: list[list[Node]] = [[]]
    for node in graph.nodes:
        groups[-1].append(node)
        if node.label in cuts.after:
            groups.append([])
    return [group for group in groups if group]
