"""Analysis: a long program as stretches that are fused one by one, layers that are alike among them.

A model that was written out layer by layer is the same stretch of nodes again and again. Where a graph repeats itself,
each stretch is one period of it, or as many as make no more than `SHORT` nodes together, from one narrow place to the
next; otherwise stretches end where few bytes cross. No kernel spans the border of two: of the cheapest partition, that
loses what could have been saved there and no more, and equal stretches are fused once.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

LONG = 192  # nodes up to which a program is one stretch; of a longer one without a period, so long is each at most
SHORT = LONG // 2  # nodes up to which periods are put together
FEWEST = 3  # repetitions that make a period


def stretches(kinds: np.ndarray, crossing: np.ndarray) -> list[tuple[int, int]]:
    """A program as (first, end) of consecutive stretches.

    kinds: int [nodes], equal for nodes that do the same on the same types and take it from as far. crossing:
    [nodes + 1], bytes that are made before a place and needed after it.
    """
    count = len(kinds)
    if count <= LONG:
        return [(0, count)] if count else []
    found = _period(kinds)
    if found is None:
        return _narrowest(crossing, 0, count)
    begin, end, period = found
    length = period * max(1, SHORT // period)
    borders = list(range(_narrow_place(crossing, begin, begin + period), end + 1, length))
    inner = list(zip(borders, borders[1:], strict=False))
    return [*_narrowest(crossing, 0, borders[0]), *inner, *_narrowest(crossing, borders[-1], count)]


def _period(kinds: np.ndarray) -> tuple[int, int, int] | None:
    """(first, end, length) of the longest run of repetitions, and of those the shortest; None where nothing repeats."""
    gaps: Counter[int] = Counter()
    last: dict[int, int] = {}
    for i, kind in enumerate(kinds.tolist()):
        if kind in last:
            gaps[i - last[kind]] += 1
        last[kind] = i
    best: tuple[int, int, int, int] | None = None
    for period, _ in sorted(gaps.most_common(16)):
        first, length = _longest_run(kinds[:-period] == kinds[period:])
        if length >= (FEWEST - 1) * period and (best is None or length + period > best[0]):
            best = (length + period, first, first + length + period, period)
    return None if best is None else best[1:]


def _longest_run(same: np.ndarray) -> tuple[int, int]:
    """(first, length) of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    at = int(np.argmax(lengths))
    return int(edges[2 * at]), int(lengths[at])


def _narrowest(crossing: Sequence[float] | np.ndarray, first: int, end: int) -> list[tuple[int, int]]:
    """Nodes first..end in stretches of at most `LONG`, each up to the last place where the fewest bytes cross."""
    found = []
    while end - first > LONG:
        border = _narrow_place(crossing, first + LONG // 2, first + LONG + 1)
        found.append((first, border))
        first = border
    return [*found, (first, end)] if end > first else found


def _narrow_place(crossing: Sequence[float] | np.ndarray, first: int, end: int) -> int:
    """Of places first..end - 1, the last where the fewest bytes cross."""
    window = np.asarray(crossing[first:end])
    return first + int(np.flatnonzero(window == window.min())[-1])
