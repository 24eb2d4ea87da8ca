"""Pass: which nodes make which kernel.

primitives one node, one kernel: every result is written to memory. Views (reshape, broadcast) cost nothing, as in an
           operator-by-operator framework; a transpose is a kernel of its own that moves its operand.
none       one operator of such a framework, one kernel: what it gives is written to memory, what it only needs inside
           is streamed. `Node.operator` says which nodes are one operator, `frontend/operators.py` how that is found:
           a softmax, a norm, a matrix product, a scope marked by the user. Where one does not fit, it is cut.
streaming  the cheapest partition of the program into consecutive kernels that fit: a shortest path over
           best[j] = min over i of best[i] + cost(nodes i..j), where bounds tell which kernels need no planning.
greedy     from the first node on, each kernel as long as it fits: a baseline.
Cuts       after the named nodes, and nowhere else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from rdujax.base.errors import CapacityError, unknown
from rdujax.graph.graph import Graph, Node
from rdujax.ops.move import Move

BY_OPERATOR = ("none", "primitives")
SEARCHED = ("streaming", "greedy")  # of these, the compiler says which nodes follow one another
FUSIONS = (*SEARCHED, *BY_OPERATOR)
EXHAUSTIVE = 12  # nodes of a program up to which the search is not cut short
OUTSIDE = -1  # the reader of what a graph returns
WITHIN = 0.01  # of a larger one, the share by which the partition taken may cost more than the cheapest possibly does
MOST_PLANNED = 2_000  # nodes of all kernels of a larger one that are planned at the most, unless none fits so far


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

    return [nodes[i:j] for i, j in streaming(replace(graph, nodes=tuple(nodes)), own, bounds)]


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


Cost = Callable[[int, int], tuple[int, Iterable[int]]]


def greedy(graph: Graph, cost: Cost, bounds: Callable[[int], np.ndarray]) -> list[tuple[int, int]]:
    """Consecutive groups as (first, end), each as long as it fits: what the cheapest partition is measured against.

    The length is sought by bisection, as if what is longer needed more. See `streaming`.
    """
    return _Known(cost, [np.asarray(bounds(i), float) for i in range(len(graph.nodes))]).greedy()


def streaming(
    graph: Graph,
    cost: Cost,
    bounds: Callable[[int], np.ndarray],
    within: tuple[int, int] | None = None,
    most_planned: int = MOST_PLANNED,
) -> list[tuple[int, int]]:
    """The cheapest partition into consecutive groups, as (first, end), planning as few of them as that takes.

    cost: for nodes i..j, cycles as one kernel (CapacityError where it does not fit), and where all stretches begin that
    are like them. bounds: for a node, no more than the cost of the groups that begin with it, of one node, of two ...,
    and infinity for one that cannot fit. The cheapest partition is sought with the bounds in place of costs that are
    not known yet; the groups of the one found are planned, and the search is repeated until it finds one that is
    planned throughout. No other can be cheaper, for none costs less than its bounds. A longer group may fit where a
    shorter does not, for it keeps more values to itself: each is asked by itself. within: (first, end) of the nodes to
    part, all by default.

    Of more than `EXHAUSTIVE` nodes, the search begins with halves (see `_halve`), groups end at `narrows` only, where
    that is possible at all, none is tried that contains one which did not fit, and the search ends with a partition
    that costs at most `WITHIN` more than the cheapest could, or with the cheapest so far once groups of `most_planned`
    nodes in all have been planned. Raises CapacityError where no partition fits.
    """
    first, end = within or (0, len(graph.nodes))
    rows = [np.asarray(bounds(i), float)[: end - i] for i in range(first, end)]
    own = _counted_from(first, end, cost)
    if len(rows) <= EXHAUSTIVE:
        path = _searched(_Known(own, rows), 0.0, None)
    else:
        crossing = crossing_bytes(graph)[first : end + 1]
        narrow = narrows(crossing)
        path = _sought(_Known(own, _only_at(rows, narrow), grows=True), narrow, crossing, most_planned)
        path = path or _sought(_Known(own, rows), list(range(len(rows) + 1)), crossing, most_planned)
    if path is None:
        known = _Known(own, rows)
        known.greedy()
        raise known.refused()
    return [(first + i, first + j) for i, j in path]


def _counted_from(first: int, end: int, cost: Cost) -> Cost:
    """The cost of nodes that are counted from `first` on, with the stretches that are like them before `end`."""

    def own(i: int, j: int) -> tuple[int, list[int]]:
        cycles, starts = cost(first + i, first + j)
        return cycles, [start - first for start in starts if first <= start <= end - (j - i)]

    return own


def _sought(
    known: "_Known", places: list[int], crossing: np.ndarray, most_planned: int
) -> list[tuple[int, int]] | None:
    """The groups of a partition at `places` that is near the cheapest; None where none fits."""
    _halve(known, places, crossing, 0, len(known.least))
    return _searched(known, WITHIN, most_planned)


def _halve(known: "_Known", places: list[int], crossing: np.ndarray, first: int, end: int) -> None:
    """Plans nodes first..end, and where two kernels may be cheaper, both sides of the narrowest place near the middle.

    So that the search begins with a partition that is not far from the best: all its bounds are near one another.
    """
    known.ask(first, end)
    third = (end - first) // 3
    middle = [place for place in places if first + third <= place <= end - third and first < place < end]
    if not middle:
        return
    cut = min(middle, key=lambda place: (crossing[place], abs(first + end - 2 * place)))
    if known.bound(first, cut) + known.bound(cut, end) < known.cost_of(first, end):
        _halve(known, places, crossing, first, cut)
        _halve(known, places, crossing, cut, end)


def _searched(known: "_Known", within: float, most_planned: int | None) -> list[tuple[int, int]] | None:
    """The groups of the cheapest partition as (first, end); None where none fits."""
    while True:
        least, best = _cheapest(known.least), _cheapest(known.costs)
        if least is None:
            return None
        spent = most_planned is not None and known.plans >= most_planned
        if best is not None and (best[1] <= least[1] * (1 + within) or spent):
            return best[0]
        for i, j in least[0]:
            known.ask(i, j)


def crossing_bytes(graph: Graph) -> np.ndarray:
    """float64 [nodes + 1]: bytes that are made before each place between nodes and needed after it."""
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.operands}
    change = np.zeros(len(graph.nodes) + 1)
    for i, node in enumerate(graph.nodes):
        for value in node.results:
            size = graph.types[value].size_bytes
            change[i + 1] += size
            if value not in graph.outputs:
                change[last.get(value, i) + 1] -= size
    return np.cumsum(change)


def narrows(crossing: np.ndarray) -> list[int]:
    """Places where fewer bytes cross than just before and just after; both ends, too.

    Of neighbours with as many bytes, the first.
    """
    end = len(crossing) - 1
    steps = [0, *(i for i in range(1, end) if crossing[i] != crossing[i - 1]), end]
    inner = [
        i
        for before, i, after in zip(steps, steps[1:], steps[2:], strict=False)
        if crossing[i] < crossing[before] or before == 0
        if after == end or crossing[i] < crossing[after]
    ]
    return [0, *inner, end]


def _only_at(rows: list[np.ndarray], places: list[int]) -> list[np.ndarray]:
    """The bounds of the groups that begin and end at these places; infinity for all others."""
    allowed = np.zeros(len(rows) + 1, bool)
    allowed[places] = True
    return [np.where(allowed[i] & allowed[i + 1 : i + 1 + len(row)], row, np.inf) for i, row in enumerate(rows)]


class _Known:
    """What is known of the costs of groups: costs (infinity: nothing, or it does not fit), and no more than these.

    grows: what contains a group that does not fit is taken not to fit either, though it may keep a value to itself that
    the smaller one had to store; but for what is known to fit.
    """

    def __init__(self, cost: Cost, least: list[np.ndarray], grows: bool = False):
        self.cost, self.least, self.grows = cost, least, grows  # least: [first][length - 1]
        self.costs = [np.full(len(row), np.inf) for row in least]
        self.planned: set[tuple[int, int]] = set()
        self.plans = 0  # nodes of all groups that were planned
        self.refusal: CapacityError | None = None

    def bound(self, first: int, end: int) -> float:
        """No more than the cost of nodes first..end; infinity where they cannot fit."""
        row = self.least[first]
        return float(row[end - first - 1]) if end - first <= len(row) else np.inf

    def cost_of(self, first: int, end: int) -> float:
        """The cost of nodes first..end; infinity where they were not planned, or do not fit."""
        row = self.costs[first]
        return float(row[end - first - 1]) if end - first <= len(row) else np.inf

    def ask(self, first: int, end: int) -> bool:
        """Whether nodes first..end fit; plans them, once."""
        length = end - first
        if (first, end) in self.planned or self.bound(first, end) == np.inf:
            return self.cost_of(first, end) < np.inf
        self.plans += length
        try:
            cycles, starts = self.cost(first, end)
        except CapacityError as error:
            self.refusal, cycles, starts = self.refusal or error, np.inf, [first]
            for i in range(first + 1 if self.grows else 0):
                longer = slice(end - i - 1, None)
                self.least[i][longer][self.costs[i][longer] == np.inf] = np.inf
        for start in starts:
            self.planned.add((start, start + length))
            self.costs[start][length - 1] = cycles
            self.least[start][length - 1] = cycles
        return cycles < np.inf

    def greedy(self) -> list[tuple[int, int]]:
        """Groups as (first, end), each as long as it fits."""
        groups, first = [], 0
        while first < len(self.least):
            low, high = 0, len(self.least[first])
            if high and self.ask(first, first + high):
                low = high
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self.ask(first, first + middle) else (low, middle - 1)
            if not low:
                raise self.refused(first)
            groups.append((first, first + low))
            first += low
        return groups

    def refused(self, first: int = 0) -> CapacityError:
        """The first refusal; where none was heard, some node from `first` on does not fit even alone and says so."""
        for i in range(first, len(self.least)) if self.refusal is None else ():
            try:
                self.cost(i, i + 1)
            except CapacityError as error:
                return error
        assert self.refusal is not None
        return self.refusal


def _cheapest(costs: Sequence[np.ndarray]) -> tuple[list[tuple[int, int]], float] | None:
    """The cheapest way from node 0 past the last, as (first, end) of every group, and its cost; None if there is none.

    Of equally cheap ones, that with the longer groups at the end.
    """
    count = len(costs)
    best, begin = np.full(count + 1, np.inf), np.zeros(count + 1, int)
    best[0] = 0
    for i, own in enumerate(costs):
        if best[i] == np.inf or not len(own):
            continue
        there, new = best[i + 1 : i + 1 + len(own)], best[i] + own
        better = new < there
        begin[i + 1 : i + 1 + len(own)][better] = i
        np.minimum(there, new, out=there)
    if best[count] == np.inf:
        return None
    path, end = [], count
    while end:
        path.append((int(begin[end]), end))
        end = int(begin[end])
    return path[::-1], float(best[count])
