"""Pass: which nodes make which kernel.

none       one operator, one kernel: every result is written to memory. Views (reshape, broadcast) cost nothing, as in
           an operator-by-operator framework; a transpose is a kernel of its own that moves its operand.
streaming  the cheapest partition of the program into consecutive kernels that fit: a shortest path over
           best[j] = min over i of best[i] + cost(nodes i..j), where bounds tell which kernels need no planning.
Cuts       after the named nodes, and nowhere else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rdujax.base.errors import CapacityError, unknown
from rdujax.graph.graph import Graph, Node
from rdujax.ops.move import Move

FUSIONS = ("streaming", "none")
MOST_PLANNED = 48  # kernels that the search for the cheapest partition plans before it is content


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


def streaming(
    graph: Graph,
    cost: Callable[[Sequence[Node]], int],
    bounds: Callable[[int], Iterable[int | None]],
    most_planned: int = MOST_PLANNED,
) -> list[list[Node]]:
    """The cheapest partition into consecutive groups, planning as few of them as that takes.

    cost: cycles of a group as one kernel; CapacityError for one that does not fit. bounds: for a node, no more than the
    cost of the groups that begin with it, of one node, of two ..., and None for one that cannot fit. The cheapest
    partition is sought with the bounds in place of costs that are not known yet; the groups of the one found are
    planned, and the search is repeated until it finds one that is planned throughout. No other can be cheaper, for none
    costs less than its bounds. Once `most_planned` groups have been planned, the cheapest so far is taken.

    Every group is allowed: a longer one may fit where a shorter does not, for it keeps more values to itself. Raises
    the first CapacityError where no partition fits.
    """
    nodes = list(graph.nodes)
    known: list[list[int | None]] = [list(bounds(i)) for i in range(len(nodes))]  # [first][length - 1]
    planned: set[tuple[int, int]] = set()
    refusal: CapacityError | None = None
    while True:
        enough = len(planned) >= most_planned
        path = (_cheapest(_only(known, planned)) if enough else None) or _cheapest(known)
        if path is None:
            break
        missing = [group for group in path if group not in planned]
        if not missing:
            return [nodes[i:j] for i, j in path]
        for i, j in missing:
            planned.add((i, j))
            try:
                known[i][j - i - 1] = cost(nodes[i:j])
            except CapacityError as error:
                refusal = refusal or error
                known[i][j - i - 1] = None
    for node in nodes if refusal is None else ():
        cost([node])  # one of them does not fit even alone: it says so
    assert refusal is not None
    raise refusal


def _only(known: list[list[int | None]], planned: set[tuple[int, int]]) -> list[list[int | None]]:
    """The costs of the groups that were planned."""
    return [
        [own if (i, i + length) in planned else None for length, own in enumerate(costs, 1)]
        for i, costs in enumerate(known)
    ]


def _cheapest(costs: Sequence[Sequence[int | None]]) -> list[tuple[int, int]] | None:
    """The cheapest way from node 0 past the last, as (first, end) of every group; None where there is none."""
    count = len(costs)
    best: list[int | None] = [0] + [None] * count
    begin = [0] * (count + 1)
    for i in range(count):
        before = best[i]
        if before is None:
            continue
        for length, own in enumerate(costs[i], 1):
            if own is None:
                continue
            there = best[i + length]
            if there is None or before + own < there:
                best[i + length], begin[i + length] = before + own, i
    if best[count] is None:
        return None
    path, end = [], count
    while end:
        path.append((begin[end], end))
        end = begin[end]
    return path[::-1]
