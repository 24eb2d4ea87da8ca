"""Pass: which nodes make which kernel.

none       one operator, one kernel: every result is written to memory. Views (reshape, broadcast) cost nothing, as in
           an operator-by-operator framework; a transpose is a kernel of its own that moves its operand.
streaming  the cheapest partition of the program into consecutive kernels that fit, by dynamic programming:
           best[j] = min over i of best[i] + cost(nodes i..j), over all kernels that fit.
Cuts       after the named nodes, and nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rdujax.base.errors import CapacityError, unknown
from rdujax.graph.graph import Graph, Node
from rdujax.ops.move import Move

FUSIONS = ("streaming", "none")


@dataclass(frozen=True)
class Cuts:
    """A partition by hand: a kernel ends after each of the nodes with these labels."""

    after: tuple[str, ...]

    def __str__(self) -> str:
        return f"cut after {', '.join(self.after)}" if self.after else "one kernel"


def cut_after(*labels: str) -> Cuts:
    """Ends a kernel after each node of these labels (see `program.graph` or an error's list for the labels)."""
    return Cuts(labels)


def operators(graph: Graph) -> list[list[Node]]:
    """One group per operator; views join the groups of all that read them."""
    groups, views = [], []
    for node in graph.nodes:
        if isinstance(node.op, Move) and node.op.is_view:
            views.append(node)
        else:
            groups.append([node])
    return [_with_views(graph, group, views) for group in groups] + _trailing(graph, groups, views)


def _with_views(graph: Graph, group: list[Node], views: list[Node]) -> list[Node]:
    """The group with the views that its operands are read through."""
    by_result = {view.result: view for view in views}
    needed: list[Node] = []
    todo = [v for node in group for v in node.operands]
    while todo:
        view = by_result.get(todo.pop())
        if view is not None and view not in needed:
            needed.append(view)
            todo.extend(view.operands)
    return sorted([*needed, *group], key=lambda node: node.result)


def _trailing(graph: Graph, groups: list[list[Node]], views: list[Node]) -> list[list[Node]]:
    """Views that the program returns: a kernel that only writes them, for nothing else would."""
    last = [view for view in views if view.result in graph.outputs]
    return [_with_views(graph, [view], views) for view in last]


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


def streaming(graph: Graph, cost: Callable[[Sequence[Node]], int]) -> list[list[Node]]:
    """The cheapest partition into consecutive groups; `cost` raises CapacityError for a group that does not fit.

    Every group is tried: a longer one may fit where a shorter does not, for it keeps more values to itself.
    Raises the first CapacityError where no partition fits.
    """
    nodes = list(graph.nodes)
    best: list[tuple[int, int] | None] = [(0, 0)]  # of the first j nodes: (cost, where the last group begins)
    refusal: CapacityError | None = None
    for j in range(1, len(nodes) + 1):
        found: tuple[int, int] | None = None
        for i in range(j - 1, -1, -1):
            before = best[i]
            if before is None:
                continue
            try:
                price = before[0] + cost(nodes[i:j])
            except CapacityError as error:
                refusal = refusal or error
                continue
            if found is None or price <= found[0]:
                found = (price, i)
        best.append(found)
    if best[-1] is None:
        assert refusal is not None
        raise refusal
    groups: list[list[Node]] = []
    j = len(nodes)
    while j:
        chosen = best[j]
        assert chosen is not None
        i = chosen[1]
        groups.insert(0, nodes[i:j])
        j = i
    return groups
