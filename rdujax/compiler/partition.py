"""The cheapest partition of a row of nodes into consecutive kernels, of which few are planned to find it.

Up to `EXHAUSTIVE` nodes it is exact: a shortest path over best[j] = min over i of best[i] + cost(nodes i..j), sought
with bounds in the place of costs that are not known yet. The groups of the path found are planned, and the search is
repeated until it finds one that is planned throughout; no other can be cheaper, for none costs less than its bounds.

Of more nodes the bounds, sums of bytes, of multiplications and of what links carry, are too far from the costs to end
that search. There it begins with halves (`_halve`), and goes on by parting anew every kernel, and every two that follow
one another, by a shortest path over what is promised: what is known, and where nothing is, bounds as far from the costs
as those of the kernels that they replace were. Where that promises nothing, bounds are trusted more; then several moves
at once are tried. Whatever was planned is remembered, so that the partition taken is the best of all that is known.

Groups end where few bytes cross, everywhere within what does not fit or costs much more than its bound, and in the end
beside the borders that were found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from rdujax.base.errors import CapacityError
from rdujax.graph.graph import Graph

EXHAUSTIVE = 12  # nodes of a program up to which the search is not cut short
WITHIN = 0.01  # of a larger one, the search ends where the cheapest possibly costs no more than this share less
PATIENCE = 30  # or where so many groups were planned without anything cheaper
# Powers of how far costs are from bounds: of unknown groups as far as of those that they replace, or half as far.
TRUST = (1.0, 0.5)
DEAR = 1.5  # a kernel that costs so many times its bound may be cut everywhere

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
    begin: Sequence[Group] = (),
    patience: int = PATIENCE,
) -> list[Group]:
    """The cheapest partition into consecutive groups; of more than `EXHAUSTIVE` nodes, one that is hard to better.

    cost: for nodes i..j, cycles as one kernel (CapacityError where it does not fit), and where all stretches begin that
    are like them. bounds: for a node, no more than the cost of the groups that begin with it, of one node, of two ...,
    and infinity for one that cannot fit. A longer group may fit where a shorter does not, for it keeps more values to
    itself: each is asked by itself. within: the nodes to part, all by default.

    Of more nodes: begin, a partition to begin with, in the place of halves; patience, how many groups are planned
    without finding anything cheaper before the search ends. Raises CapacityError where no partition fits.
    """
    first, end = within or (0, len(graph.nodes))
    rows = [np.asarray(bounds(i), float)[: end - i] for i in range(first, end)]
    own = _counted_from(first, end, cost)
    few = len(rows) <= EXHAUSTIVE
    known = _Known(own, rows)
    crossing = crossing_bytes(graph)[first : end + 1]
    began = [(i - first, j - first) for i, j in begin]
    path = _proved(known) if few else _Search(known, crossing, patience).found(began)
    if path is None:
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
    every = np.arange(len(known.least) + 1)
    while True:
        least, best = _shortest(known.least.__getitem__, every), _shortest(known.costs.__getitem__, every)
        if least is None:
            return None
        if best is not None and best[1] <= least[1]:
            return best[0]
        known.ask_all(least[0])


class _Search:
    """Looks for the cheapest partition of many nodes.

    places: where groups may begin and end, in order: `narrows`, and what was opened.
    """

    def __init__(self, known: "_Known", crossing: np.ndarray, patience: int):
        self.known, self.crossing, self.patience = known, crossing, patience
        self.places = np.array(narrows(crossing))
        # What was promised in the place of groups at some trust, and how many groups had been planned by then.
        self.promises: dict[tuple[tuple[Group, ...], float], tuple[int, tuple[float, list[Group]] | None]] = {}

    def found(self, begin: Sequence[Group]) -> list[Group] | None:
        """The best partition that is found; None where none fits. begin: one to begin with, or nothing."""
        known = self.known
        self.places = np.union1d(self.places, [place for group in begin for place in group]).astype(int)
        known.ask_all(begin)
        if not begin:
            self._halve(0, len(known.least))
        cost, since = np.inf, known.plans
        while True:
            least = _shortest(known.least.__getitem__, self.places)
            if least is None:
                if not self._opened(0, len(known.least)):
                    return None
                continue
            best = _shortest(known.costs.__getitem__, self.places)
            if best is None:
                known.ask_all(least[0])
                continue
            path, total = best
            if total < cost:
                cost, since = total, known.plans
            if total > least[1] * (1 + WITHIN) and known.plans - since <= self.patience:
                known.ask_all(self._next(path) or least[0])
            elif self._open_dear(path) or self._open_borders(path):
                since = known.plans
            else:
                return path

    def _halve(self, first: int, end: int) -> None:
        """Plans nodes first..end, and where two kernels may be cheaper, both sides of a narrow place near the middle.

        So that the search begins with a partition that is not far from the best: all its bounds are near one another.
        """
        known = self.known
        fits = known.ask(first, end)
        cut = self._middle(first, end, fits)
        if cut is None and not fits and self._opened(first, end):
            cut = self._middle(first, end, fits)
        if cut is None:
            return
        if not fits or known.bound(first, cut) + known.bound(cut, end) < known.cost_of(first, end):
            self._halve(first, cut)
            self._halve(cut, end)

    def _middle(self, first: int, end: int, fits: bool) -> int | None:
        """The narrowest place in the middle third of nodes first..end; of what does not fit, of all if none is."""
        third = (end - first) // 3
        inner = self._within(first, end)[1:-1]
        near = inner[(inner >= first + third) & (inner <= end - third)]
        near = near if len(near) or fits else inner
        return min(near.tolist(), key=lambda at: (self.crossing[at], abs(first + end - 2 * at)), default=None)

    def _within(self, first: int, end: int) -> np.ndarray:
        """The places from `first` to `end`, both included."""
        return self.places[np.searchsorted(self.places, first) : np.searchsorted(self.places, end) + 1]

    def _opened(self, first: int, end: int) -> bool:
        """Opens all places from `first` to `end`; whether any was not."""
        before = len(self.places)
        self.places = np.union1d(self.places, np.arange(first, end + 1))
        if len(self.places) == before:
            return False
        self.promises.clear()
        return True

    def _open_dear(self, path: list[Group]) -> bool:
        """Opens all places within the groups that cost much more than their bounds; whether any was not."""
        return any([self._opened(*group) for group in path if self.known.usual([group]) > DEAR])

    def _open_borders(self, path: list[Group]) -> bool:
        """Opens the places just before and just behind all borders; whether any was not."""
        return any([self._opened(at - 1, at + 1) for at, _ in path[1:]])

    def _next(self, path: list[Group]) -> list[Group]:
        """Groups, not all planned, that may be of a cheaper partition than the path; none where nothing promises it."""
        planned = self.known.planned
        for trust in TRUST:
            saved, groups = max(self._moves(path, trust), key=lambda move: move[0], default=(0.0, path))
            if saved > 0:
                return [max((g for g in groups if g not in planned), key=lambda group: group[1] - group[0])]
        several = _shortest(self.known.halfway(path), self.places)
        return several[0] if several is not None and not planned.issuperset(several[0]) else []

    def _moves(self, path: list[Group], trust: float) -> Iterator[tuple[float, list[Group]]]:
        """(cycles that are promised to be saved, groups in the place of others) of every kernel, and of every two."""
        for old in [*([group] for group in path), *map(list, pairwise(path))]:
            found = self._promised(old, trust)
            if found is not None and not self.known.planned.issuperset(found[1]):
                yield found

    def _promised(self, old: list[Group], trust: float) -> tuple[float, list[Group]] | None:
        """See `_Known.promised`; asked again where one of the nodes was planned in another group since."""
        first, end = old[0][0], old[-1][1]
        key = (tuple(old), trust)
        since, found = self.promises.get(key, (0, None))
        if key not in self.promises or any(first <= i and j <= end for i, j in self.known.asked[since:]):
            found = self.known.promised(old, trust, self._within(first, end))
            self.promises[key] = len(self.known.asked), found
        return found


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


class _Known:
    """What is known of the costs of groups: costs (infinity: nothing, or it does not fit), and no more than these."""

    def __init__(self, cost: Cost, least: list[np.ndarray]):
        self.cost = cost
        self.bounds, self.least = [row.copy() for row in least], least  # [first][length - 1]
        self.costs = [np.full(len(row), np.inf) for row in least]
        self.planned: set[Group] = set()
        self.asked: list[Group] = []  # these, in order
        self.plans = 0  # groups that were planned
        self.refusal: CapacityError | None = None

    def bound(self, first: int, end: int) -> float:
        """No more than the cost of nodes first..end; infinity where they cannot fit."""
        row = self.least[first]
        return float(row[end - first - 1]) if end - first <= len(row) else np.inf

    def cost_of(self, first: int, end: int) -> float:
        """The cost of nodes first..end; infinity where they were not planned, or do not fit."""
        row = self.costs[first]
        return float(row[end - first - 1]) if end - first <= len(row) else np.inf

    def halfway(self, path: list[Group]) -> Callable[[int], np.ndarray]:
        """Costs: known ones, and others half as far from their bounds as those of the path, where they meet it."""
        usual = np.ones(len(self.least))
        for first, end in path:
            usual[first:end] = self.usual([(first, end)])
        total = np.concatenate([[0], np.cumsum(usual)])

        def row(i: int) -> np.ndarray:
            costs, least = self.costs[i], self.least[i]
            mean = (total[i + 1 : i + 1 + len(least)] - total[i]) / np.arange(1, len(least) + 1)
            return np.where(costs < np.inf, costs, least * np.sqrt(mean))

        return row

    def promised(self, old: list[Group], trust: float, places: np.ndarray) -> tuple[float, list[Group]] | None:
        """(cycles that they promise to save, groups in the place of others of the path); None where none are known.

        trust: how far what is not known is from its bounds, as a power of how far the others are.
        """
        usual = self.usual(old) ** trust
        found = _shortest(lambda i: np.where(self.costs[i] < np.inf, self.costs[i], self.least[i] * usual), places)
        return found and (sum(self.cost_of(*group) for group in old) - found[1], found[0])

    def usual(self, groups: list[Group]) -> float:
        """How far the costs of groups are from their bounds, as a factor. One that had no bound was like another."""
        bound = sum(self.bounds[first][end - first - 1] for first, end in groups)
        return sum(self.cost_of(*group) for group in groups) / bound if 0 < bound < np.inf else 1.0

    def ask_all(self, groups: Iterable[Group]) -> None:
        """Plans all of these."""
        for group in groups:
            self.ask(*group)

    def ask(self, first: int, end: int) -> bool:
        """Whether nodes first..end fit; plans them, once."""
        length = end - first
        if (first, end) in self.planned or self.bound(first, end) == np.inf:
            return self.cost_of(first, end) < np.inf
        self.plans += 1
        try:
            cycles, starts = self.cost(first, end)
        except CapacityError as error:
            self.refusal, cycles, starts = self.refusal or error, np.inf, [first]
        for start in starts:
            self.planned.add((start, start + length))
            self.asked.append((start, start + length))
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


def _shortest(costs: Callable[[int], np.ndarray], places: np.ndarray) -> tuple[list[Group], float] | None:
    """The cheapest way from the first place to the last, as (first, end) of every group, and its cost; or None.

    costs: by the first node of groups, those of one node, of two ... Of equally cheap ways, that with the longer groups
    at the end.
    """
    best, begin = np.full(len(places), np.inf), np.zeros(len(places), int)
    best[0] = 0
    for at, i in enumerate(places[:-1].tolist()):
        if best[at] == np.inf:
            continue
        row, lengths = costs(i), places[at + 1 :] - i
        lengths = lengths[: np.searchsorted(lengths, len(row), side="right")]
        there, new = slice(at + 1, at + 1 + len(lengths)), best[at] + row[lengths - 1]
        begin[there][new < best[there]] = at
        np.minimum(best[there], new, out=best[there])
    if best[-1] == np.inf:
        return None
    path, end = [], len(places) - 1
    while end:
        path.append((int(places[begin[end]]), int(places[end])))
        end = begin[end]
    return path[::-1], float(best[-1])
