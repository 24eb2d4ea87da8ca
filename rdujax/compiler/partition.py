"""The cheapest partition of a row of nodes into consecutive kernels, of which few are planned to find it.

Up to `EXHAUSTIVE` nodes it is exact: a shortest path over best[j] = min over i of best[i] + cost(nodes i..j), sought
with bounds in the place of costs that are not known yet. The groups of the path found are planned, and the search is
repeated until it finds one that is planned throughout; no other can be cheaper, for none costs less than its bounds.

Of more nodes the bounds, sums of bytes and of multiplications, are too far from the costs to end that search. There it
begins with halves (`_halve`) and goes on by the move that promises most: one kernel becomes two, two become one, or a
border moves. What a move promises is what the bounds say, as far from it as those of the kernels that it replaces were.
Where no move promises anything, several at once may: the partition is tried that is the shortest where all that is not
planned is half as far from its bounds. Whatever was planned is remembered, so that the partition taken is always the
best of all that is known.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from rdujax.base.errors import CapacityError
from rdujax.graph.graph import Graph

EXHAUSTIVE = 12  # nodes of a program up to which the search is not cut short
WITHIN = 0.01  # of a larger one, the search ends where the cheapest possibly costs no more than this share less
PATIENCE = 4  # or where so many times its nodes were planned without anything cheaper

Group = tuple[int, int]  # (first, end) of the nodes of a kernel
Cost = Callable[[int, int], tuple[int, Iterable[int]]]


def greedy(graph: Graph, cost: Cost, bounds: Callable[[int], np.ndarray]) -> list[Group]:
    """Consecutive groups, each as long as it fits: what the cheapest partition is measured against.

    The length is sought by bisection, as if what is longer needed more. See `cheapest`.
    """
    return _Known(cost, [np.asarray(bounds(i), float) for i in range(len(graph.nodes))]).greedy()


def cheapest(
    graph: Graph,
    cost: Cost,
    bounds: Callable[[int], np.ndarray],
    within: Group | None = None,
    patience: float = PATIENCE,
) -> list[Group]:
    """The cheapest partition into consecutive groups; of more than `EXHAUSTIVE` nodes, one that is hard to better.

    cost: for nodes i..j, cycles as one kernel (CapacityError where it does not fit), and where all stretches begin that
    are like them. bounds: for a node, no more than the cost of the groups that begin with it, of one node, of two ...,
    and infinity for one that cannot fit. A longer group may fit where a shorter does not, for it keeps more values to
    itself: each is asked by itself. within: the nodes to part, all by default.

    Of more nodes, groups end at `narrows` only, and none is tried that contains one which did not fit; where nothing
    fits then, the better of two is taken: groups that end at `narrows` and may contain such ones, and groups that may
    end everywhere. patience: times the nodes that are planned without finding anything cheaper before the search
    ends. Raises CapacityError where no partition fits.
    """
    first, end = within or (0, len(graph.nodes))
    rows = [np.asarray(bounds(i), float)[: end - i] for i in range(first, end)]
    own = _counted_from(first, end, cost)
    few = len(rows) <= EXHAUSTIVE
    path = _proved(_Known(own, rows)) if few else _sought(own, rows, crossing_bytes(graph)[first : end + 1], patience)
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


def _proved(known: "_Known") -> list[Group] | None:
    """The cheapest partition, proved by the bounds of all others; None where none fits."""
    while True:
        least, best = _shortest(known.least), _shortest(known.costs)
        if least is None:
            return None
        if best is not None and best[1] <= least[1]:
            return best[0]
        for group in least[0]:
            known.ask(*group)


def _sought(own: Cost, rows: list[np.ndarray], crossing: np.ndarray, patience: float) -> list[Group] | None:
    """The partition of many nodes that `cheapest` takes; None where none fits."""
    narrow, everywhere = narrows(crossing), list(range(len(crossing)))
    path = _improved(_Known(own, _only_at(rows, narrow), grows=True), narrow, crossing, patience)
    if path is not None:
        return path
    found: list[tuple[float, list[Group]]] = []
    for known, places in ((_Known(own, _only_at(rows, narrow)), narrow), (_Known(own, rows), everywhere)):
        path = _improved(known, places, crossing, patience)
        if path is not None:
            found.append((sum(known.cost_of(*group) for group in path), path))
    return min(found)[1] if found else None


def _improved(known: "_Known", places: list[int], crossing: np.ndarray, patience: float) -> list[Group] | None:
    """A partition at `places` that no move promises to better, or none did for long; None where none fits."""
    count = len(known.least)
    _halve(known, places, crossing, 0, count)
    cost, since = np.inf, known.plans
    while True:
        least, best = _shortest(known.least), _shortest(known.costs)
        if least is None:
            return None
        if best is None:
            todo = least[0]
        else:
            path, total = best
            if total < cost:
                cost, since = total, known.plans
            if total <= least[1] * (1 + WITHIN) or known.plans - since > patience * count:
                return path
            todo = _next(known, places, path, least[0])
        for group in todo:
            known.ask(*group)


def _next(known: "_Known", places: Sequence[int], path: list[Group], least: list[Group]) -> list[Group]:
    """Groups, not all planned, that may be of a cheaper partition than the path, where there is one; see above."""
    saved, groups = max(_moves(known, places, path), key=lambda move: move[0], default=(0.0, least))
    if saved <= 0:
        several = _shortest(known.halfway(path))
        if several is not None and not known.planned.issuperset(several[0]):
            return several[0]
    return groups


def _moves(known: "_Known", places: Sequence[int], path: list[Group]) -> Iterator[tuple[float, list[Group]]]:
    """(cycles that it promises to save, groups in the place of others of the path) of every move that may save any."""
    for old, new in _neighbours(places, path):
        if known.may_save(old, new):
            yield known.promised(old, new), new


def _neighbours(places: Sequence[int], path: list[Group]) -> Iterator[tuple[list[Group], list[Group]]]:
    """(groups of the path, others of the same nodes): one as two, two as one, two with another border."""
    for first, end in path:
        yield from (([(first, end)], [(first, at), (at, end)]) for at in places if first < at < end)
    for before, after in pairwise(path):
        first, border, end = *before, after[1]
        yield [before, after], [(first, end)]
        others = (at for at in places if first < at < end and at != border)
        yield from (([before, after], [(first, at), (at, end)]) for at in others)


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
        self.cost, self.grows = cost, grows
        self.bounds, self.least = [row.copy() for row in least], least  # [first][length - 1]
        self.costs = [np.full(len(row), np.inf) for row in least]
        self.planned: set[Group] = set()
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

    def may_save(self, old: list[Group], new: list[Group]) -> bool:
        """Whether groups that are not all planned may cost less than others, which are."""
        least = sum(self.bound(*group) for group in new)
        return least < sum(self.cost_of(*group) for group in old) and not self.planned.issuperset(new)

    def halfway(self, path: list[Group]) -> list[np.ndarray]:
        """Costs: known ones, and others half as far from their bounds as those of the path, where they meet it."""
        usual = np.ones(len(self.least))
        for first, end in path:
            usual[first:end] = self._usual([(first, end)])
        total, found = np.concatenate([[0], np.cumsum(usual)]), []
        for i, (costs, least) in enumerate(zip(self.costs, self.least, strict=True)):
            lengths = np.arange(1, len(least) + 1)
            mean = (total[i + 1 : i + 1 + len(least)] - total[i]) / lengths
            found.append(np.where(costs < np.inf, costs, least * np.sqrt(mean)))
        return found

    def promised(self, old: list[Group], new: list[Group]) -> float:
        """Cycles that groups cost less than others, if these are as far from their bounds as those of the others."""
        cost, usual = sum(self.cost_of(*group) for group in old), self._usual(old)
        known = (self.cost_of(*group) for group in new)
        bounds = (self.bound(*group) for group in new)
        return cost - sum(own if own < np.inf else least * usual for own, least in zip(known, bounds, strict=True))

    def _usual(self, groups: list[Group]) -> float:
        """How far the costs of groups are from their bounds, as a factor. One that had no bound was like another."""
        bound = sum(self.bounds[first][end - first - 1] for first, end in groups)
        return sum(self.cost_of(*group) for group in groups) / bound if 0 < bound < np.inf else 1.0

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

    def greedy(self) -> list[Group]:
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


def _shortest(costs: Sequence[np.ndarray]) -> tuple[list[Group], float] | None:
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
