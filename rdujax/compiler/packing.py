"""Addresses for places that are in use at different times, so that they take few bytes together.

This is dynamic storage allocation, which is hard to solve exactly. Places are put down one after the other, each at the
lowest address where it meets nothing that is alive when it is. Some good order of the places leads to the fewest bytes:
large ones first is tried, then long-lived ones, then what reached the highest address is put down earlier. Of a few
places, all orders are searched. What is always alive lies below everything else, where it costs nothing.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SEARCHED = 7  # so many places of limited life are searched exhaustively
REPAIRS, WORK = 64, 50_000  # orders that are tried after the first ones, and places that are put down in all of them


@dataclass(frozen=True)
class Packing:
    """offsets: the address of each place. peak_bytes: the first address above all of them.

    bound_bytes: the largest sum of bytes that are alive at once; no packing takes fewer.
    """

    offsets: tuple[int, ...]
    peak_bytes: int
    bound_bytes: int


class _Places:
    """What is to be packed: bytes and moments of each place, and which of them meet."""

    def __init__(self, sizes: Sequence[int], alive: Sequence[int]):
        self.sizes, self.alive = tuple(sizes), tuple(alive)

    @cached_property
    def bound_bytes(self) -> int:
        """The largest sum of bytes that are alive at once."""
        length = max((moments.bit_length() for moments in self.alive), default=0)
        total = np.zeros(length, np.int64)
        for size, moments in zip(self.sizes, self.alive, strict=True):
            total += size * moments_of(moments, length)
        return int(total.max(initial=0))

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """For each place, those that are alive in some moment together with it and have bytes."""
        first = np.array([(a & -a).bit_length() for a in self.alive], np.int64)
        last = np.array([a.bit_length() for a in self.alive], np.int64)
        there = np.array([size > 0 and a > 0 for size, a in zip(self.sizes, self.alive, strict=True)], bool)
        found = []
        for i, own in enumerate(self.alive):
            near = np.flatnonzero(there & (first <= last[i]) & (last >= first[i]))
            found.append([int(j) for j in near if j != i and self.alive[j] & own] if there[i] else [])
        return found

    @cached_property
    def meets(self) -> list[frozenset[int]]:
        """The same, to be asked."""
        return [frozenset(near) for near in self.neighbours]


def moments_of(alive: int, length: int) -> np.ndarray:
    """bool [length]: the moments of a number's bits."""
    octets = np.frombuffer(alive.to_bytes(-(-length // 8), "little"), np.uint8)
    return np.unpackbits(octets, bitorder="little", count=length).astype(bool)


def pack(sizes: Sequence[int], alive: Sequence[int], enough_bytes: int = 0) -> Packing:
    """Addresses for places of these bytes and moments. No two that are ever alive together share a byte.

    Always the same for the same places; no fewer bytes than the bound. enough_bytes: with so many, no better packing is
    looked for.
    """
    places = _Places(sizes, alive)
    enough_bytes = max(enough_bytes, places.bound_bytes)
    every = 0
    for moments in alive:
        every |= moments
    there = [i for i, moments in enumerate(alive) if moments and sizes[i]]
    bottom: dict[int, int] = {}
    base = 0
    for i in there:
        if alive[i] == every:
            bottom[i], base = base, base + sizes[i]
    rest = [i for i in there if i not in bottom]
    found = _packed(places, rest, base, enough_bytes)
    if len(rest) <= SEARCHED and _peak(places, found, base) > enough_bytes:
        found = _searched(places, rest, base, found)
    return Packing(
        tuple((bottom | found).get(i, 0) for i in range(len(sizes))), _peak(places, found, base), places.bound_bytes
    )


def _peak(places: _Places, found: dict[int, int], base: int) -> int:
    return max((at + places.sizes[i] for i, at in found.items()), default=base)


def _packed(places: _Places, rest: list[int], base: int, enough_bytes: int) -> dict[int, int]:
    """The best of the first orders and of repairs of the best of them, or the first with which it is enough."""
    tried = []
    for order in _first_orders(places, rest):
        tried.append((_put_down(places, order, base), order))
        if _peak(places, tried[-1][0], base) <= enough_bytes:
            break
    found, order = min(tried, key=lambda each: _peak(places, each[0], base))
    latest = found
    for _ in range(min(REPAIRS, WORK // max(len(rest), 1))):
        if _peak(places, found, base) <= enough_bytes:
            break
        highest = max(order, key=lambda i: latest[i] + places.sizes[i])
        at = order.index(highest)
        order = [*order[: at // 2], highest, *order[at // 2 : at], *order[at + 1 :]]
        latest = _put_down(places, order, base)
        found = min(found, latest, key=lambda each: _peak(places, each, base))
    return found


def _first_orders(places: _Places, rest: list[int]) -> list[list[int]]:
    """Large places first; long-lived ones; both at once; those that begin first."""
    size, span = places.sizes, [moments.bit_count() for moments in places.alive]
    first = [moments & -moments for moments in places.alive]
    return [
        sorted(rest, key=lambda i: (-size[i], -span[i], first[i])),
        sorted(rest, key=lambda i: (-span[i], -size[i], first[i])),
        sorted(rest, key=lambda i: (-size[i] * span[i], first[i])),
        sorted(rest, key=lambda i: (first[i], -span[i], -size[i])),
    ]


def _put_down(places: _Places, order: Sequence[int], base: int) -> dict[int, int]:
    """Each at the lowest address from `base` on where it meets none that is there and alive when it is."""
    found: dict[int, int] = {}
    there: list[tuple[int, int, int]] = []  # (first address, end, place) of what is there, in order
    for i in order:
        at, size, meets = base, places.sizes[i], places.meets[i]
        for begin, end, j in there:
            if j in meets:
                if begin - at >= size:
                    break
                if end > at:
                    at = end
        found[i] = at
        insort(there, (at, at + size, i))
    return found


def _lowest(places: _Places, found: dict[int, int], i: int, base: int) -> int:
    at, size = base, places.sizes[i]
    for begin, end in sorted((found[j], found[j] + places.sizes[j]) for j in places.neighbours[i] if j in found):
        if begin - at >= size:
            break
        at = max(at, end)
    return at


def _searched(places: _Places, rest: list[int], base: int, best: dict[int, int]) -> dict[int, int]:
    """The best of all orders.

    Put down in the order of its addresses, a packing loses nothing: only orders of rising addresses are looked at.
    """

    def deeper(found: dict[int, int], least: int) -> None:
        nonlocal best
        if len(found) == len(rest):
            best = found
            return
        for i in rest:
            if i not in found:
                at = _lowest(places, found, i, base)
                if at >= least and at + places.sizes[i] < _peak(places, best, base):
                    deeper(found | {i: at}, at)

    deeper({}, base)
    return best
