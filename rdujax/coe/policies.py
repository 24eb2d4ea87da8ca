"""Who leaves HBM when another expert must come in: one small interface, and the policies behind it.

    lru          the one that was used longest ago; the paper's
    lfu          the one that was used least, where a use counts half as much after every `half_life` uses of any
    look-ahead   as lru, but none that the queue needs soon, as far as it is known; of these, the one needed last
    belady       the one needed last of all: clairvoyant, so a bound and no policy for a node

A policy is told of every use and asked for a victim. It never knows sizes: a residency asks until there is room.
Prefetched experts count as used when they are used, not when they come in.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from math import log2
from typing import Any, Protocol

from rdujax.base.errors import ArgumentError, describe
from rdujax.base.registry import Registry

Expert = Any  # whatever names an expert: a string, a number

POLICIES: Registry[Callable[[], "Policy"]] = Registry("policy")


class Policy(Protocol):
    """What a residency asks. A policy belongs to one residency: it has a memory."""

    def came(self, expert: Expert) -> None:
        """Told that an expert comes into HBM."""
        ...

    def used(self, expert: Expert) -> None:
        """Told of every use, in order."""
        ...

    def left(self, expert: Expert) -> None:
        """Told that an expert left HBM."""
        ...

    def victim(self, among: Collection[Expert], upcoming: Sequence[Expert]) -> Expert:
        """One of `among`, which is not empty. upcoming: experts that will be used next, in order, as far as known."""
        ...


class LeastRecentlyUsed:
    """The one that was used longest ago; one that came and was never used is as old as its coming."""

    def __init__(self) -> None:
        self._order: OrderedDict[Expert, None] = OrderedDict()

    def came(self, expert: Expert) -> None:
        """See `Policy`."""
        self.used(expert)

    def used(self, expert: Expert) -> None:
        """See `Policy`."""
        self._order[expert] = None
        self._order.move_to_end(expert)

    def left(self, expert: Expert) -> None:
        """See `Policy`."""
        self._order.pop(expert, None)

    def victim(self, among: Collection[Expert], upcoming: Sequence[Expert]) -> Expert:
        """See `Policy`."""
        return next(expert for expert in self._order if expert in among)


class DecayedLeastFrequentlyUsed:
    """The one that was used least, of all uses since ever, where a use is forgotten by and by.

    Without forgetting, what was popular once stays for ever. Weights are kept as logarithms of what they would be at
    the first use: so they never change while an expert is not used, and comparing is all that an eviction takes.
    """

    def __init__(self, half_life: float = 1000.0):
        if not half_life > 0:
            raise ArgumentError(describe("a half-life in uses", given=repr(half_life), allowed="more than 0"))
        self._half_life, self._uses = half_life, 0
        self._weights: dict[Expert, float] = {}

    def came(self, expert: Expert) -> None:
        """See `Policy`."""

    def used(self, expert: Expert) -> None:
        """See `Policy`."""
        now = self._uses / self._half_life
        before = self._weights.get(expert)
        self._weights[expert] = now if before is None else max(now, before) + log2(1 + 2.0 ** -abs(now - before))
        self._uses += 1

    def left(self, expert: Expert) -> None:
        """See `Policy`."""

    def victim(self, among: Collection[Expert], upcoming: Sequence[Expert]) -> Expert:
        """See `Policy`."""
        weights = self._weights
        return min(among, key=lambda expert: weights.get(expert, -1.0))


class LookAhead:
    """As least recently used, but none that is known to be needed soon."""

    def __init__(self) -> None:
        self._recent = LeastRecentlyUsed()

    def came(self, expert: Expert) -> None:
        """See `Policy`."""
        self._recent.came(expert)

    def used(self, expert: Expert) -> None:
        """See `Policy`."""
        self._recent.used(expert)

    def left(self, expert: Expert) -> None:
        """See `Policy`."""
        self._recent.left(expert)

    def victim(self, among: Collection[Expert], upcoming: Sequence[Expert]) -> Expert:
        """See `Policy`."""
        needed = {expert: at for at, expert in reversed(list(enumerate(upcoming)))}
        free = [expert for expert in among if expert not in needed]
        return self._recent.victim(set(free), upcoming) if free else max(among, key=needed.__getitem__)


class Belady:
    """The one whose next use is furthest away, of all uses that there will be: Belady's bound.

    uses: every use, in order. Where a node serves in another order (grouped by expert), it is no longer a bound.
    """

    def __init__(self, uses: Iterable[Expert]):
        self._uses: dict[Expert, deque[int]] = {}
        for at, expert in enumerate(uses):
            self._uses.setdefault(expert, deque()).append(at)

    def came(self, expert: Expert) -> None:
        """See `Policy`."""

    def used(self, expert: Expert) -> None:
        """See `Policy`."""
        self._uses[expert].popleft()

    def left(self, expert: Expert) -> None:
        """See `Policy`."""

    def victim(self, among: Collection[Expert], upcoming: Sequence[Expert]) -> Expert:
        """See `Policy`."""

        def next_use(expert: Expert) -> float:
            left = self._uses.get(expert)
            return left[0] if left else float("inf")

        return max(among, key=next_use)


for _name, _policy in (("lru", LeastRecentlyUsed), ("lfu", DecayedLeastFrequentlyUsed), ("look-ahead", LookAhead)):
    POLICIES.add(_name, _policy)
