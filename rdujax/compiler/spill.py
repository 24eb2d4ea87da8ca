"""Which values leave a full tier for another one: those for which the fewest bytes are moved, so that both hold theirs.

A first choice sends away what is moved least per byte that it frees, passing over what the other tier does not hold;
then what need not have gone comes back, the most moved first. A search goes on from there: through all choices of a few
groups, through some of many. It gives what moves fewer bytes, or what fits where the first choice does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import numpy as np

EVERY = 11  # groups of which all choices are looked at
NODES = 4096  # of the search: enough for that
# Choices of which a tier would hold all that is alive at once and not the gaps between addresses, times groups: to find
# addresses takes long where groups are many, and one choice that leaves gaps is followed by others that leave the same.
GAPS = 4096
TIGHTER = 8  # first choices, each for smaller tiers than the one before, where addresses leave gaps
ROUNDING = 1 - 1e-12  # bytes are exact in float64, quotients of them are not


@dataclass(frozen=True)
class Group:
    """Values that rest in one tier together, and may go.

    alive_bytes: int64 [moments], of the places that are alive. moved_bytes: what all launches load and write. places:
    (bytes, moments as bits of a number) of each; groups with the same ones take the same room.
    """

    number: int
    alive_bytes: np.ndarray
    moved_bytes: int
    places: tuple[tuple[int, int], ...]

    @property
    def freed_bytes(self) -> int:
        """The most bytes that are free at once when it has gone."""
        return int(self.alive_bytes.max(initial=0))

    @property
    def rank(self) -> tuple[float, int, int]:
        """Sorts: what is moved least per byte that it frees, then what frees most, so that fewer have to go."""
        return self.moved_bytes / max(self.freed_bytes, 1), -self.freed_bytes, self.number


@dataclass(frozen=True)
class Tiers:
    """The tier that groups leave and the one that they go to, in this order everywhere.

    stay_bytes: int64 [2, moments], alive of what does not move. rooms_bytes: what they hold. excess_bytes: for groups
    that go, by how much the addresses that both tiers then need exceed them.
    """

    stay_bytes: np.ndarray
    rooms_bytes: tuple[int, int]
    excess_bytes: Callable[[frozenset[int]], tuple[int, int]]

    def hold(self, gone: frozenset[int]) -> bool:
        """Whether both tiers hold all when these groups have gone."""
        return max(self.excess_bytes(gone)) <= 0


def spill(groups: Sequence[Group], tiers: Tiers) -> frozenset[int] | None:
    """The numbers of the groups to send away; None where no choice that was looked at fits.

    Always the same for the same groups. Of up to eleven groups all choices are looked at: those for which the fewest
    bytes are moved are found, and None says that there are none.
    """
    return _Choices(groups, tiers).best()


class _Choices:
    """All choices of what goes. Moments with the same bytes of everything are one."""

    def __init__(self, groups: Sequence[Group], tiers: Tiers):
        self.tiers, self.groups = tiers, sorted(groups, key=lambda group: group.rank)
        rows = np.concatenate([tiers.stay_bytes, *(group.alive_bytes[None] for group in self.groups)])
        rows = np.unique(rows, axis=1)
        self.stay, self.alive = rows[:2], rows[2:]

    def best(self) -> frozenset[int] | None:
        """The numbers of the best choice that is found."""
        rooms = np.array(self.tiers.rooms_bytes, np.int64)
        first = None
        for _ in range(TIGHTER):
            chosen = self._first(rooms)
            if chosen is None:
                break
            excess = np.array(self.tiers.excess_bytes(self._numbers(chosen)))
            if (excess <= 0).all():
                first = chosen
                break
            # Addresses leave gaps: as many bytes more have to be free, and others than these have to go.
            rooms = np.where(excess > 0, np.minimum(rooms, self._most_alive(chosen)) - excess, rooms)
        found = self._searched(first)
        return None if found is None else self._numbers(found)

    def _numbers(self, chosen: frozenset[int]) -> frozenset[int]:
        return frozenset(self.groups[i].number for i in chosen)

    def _moved_bytes(self, chosen: frozenset[int]) -> int:
        return sum(self.groups[i].moved_bytes for i in chosen)

    def _most_alive(self, chosen: frozenset[int]) -> np.ndarray:
        """int64 [2]: the most bytes that are alive at once in both tiers when these have gone."""
        goes = np.isin(np.arange(len(self.groups)), list(chosen))
        return (self.stay + np.stack([self.alive[~goes].sum(0), self.alive[goes].sum(0)])).max(1)

    def _first(self, rooms: np.ndarray) -> frozenset[int] | None:
        """The least moved per byte go where the other tier holds them, until no more than `rooms` is alive at once."""
        here, there = self.stay[0] + self.alive.sum(0), self.stay[1].copy()
        gone: list[int] = []
        for i, own in enumerate(self.alive):
            full = here > rooms[0]
            if own[full].any() and (there + own <= rooms[1]).all():
                gone.append(i)
                here, there = here - own, there + own
        if (here > rooms[0]).any():
            return None
        for i in gone[::-1]:
            if (here + self.alive[i] <= rooms[0]).all():
                gone.remove(i)
                here = here + self.alive[i]
        return frozenset(gone)

    def _searched(self, first: frozenset[int] | None) -> frozenset[int] | None:
        """Depth first, large groups before small ones, each as in the first choice before the other way."""
        best, fewest = first, inf if first is None else self._moved_bytes(first)
        gaps = max(GAPS // max(len(self.groups), 1), 1) if len(self.groups) > EVERY else NODES
        todo = [_Branch(0, self.stay[0], self.stay[1], 0, frozenset())]
        for _ in range(NODES):
            if not todo:
                break
            at = todo.pop()
            if at.moved_bytes + self._least_moved(at) * ROUNDING >= fewest:
                continue
            if at.depth < len(self.order):
                todo += self._ways(at, first or frozenset())
            elif self.tiers.hold(self._numbers(at.gone)):
                best, fewest = at.gone, at.moved_bytes
            else:
                gaps -= 1
                if not gaps:
                    break
        return best

    def _ways(self, at: "_Branch", first: frozenset[int]) -> list["_Branch"]:
        """How it may go on with the next group; the last one of these is to be tried first."""
        i = self.order[at.depth]
        stays = replace(at, depth=at.depth + 1, here=at.here + self.alive[i])
        goes = replace(
            at, depth=at.depth + 1, there=at.there + self.alive[i], gone=at.gone | {i},
            moved_bytes=at.moved_bytes + self.groups[i].moved_bytes,
        )  # fmt: skip
        ways = [stays, goes] if i in first else [goes, stays]
        before = self.order[at.depth - 1]
        if at.depth and self._kind(before) == self._kind(i) and before not in at.gone:
            ways = [stays]  # of groups that are alike, the first ones go
        here, there = self.tiers.rooms_bytes
        return [way for way in ways if (way.here <= here).all() and (way.there <= there).all()]

    def _least_moved(self, at: "_Branch") -> float:
        """No more bytes than the groups that are still to go will move: as if the last one could go in part."""
        too_many = at.here + self._left[at.depth] - self.tiers.rooms_bytes[0]
        moment = int(too_many.argmax())
        if too_many[moment] <= 0:
            return 0
        own = self.alive[self.order[at.depth :], moment]
        moved = np.array([self.groups[i].moved_bytes for i in self.order[at.depth :]], float)[own > 0]
        own = own[own > 0]
        cheapest = np.argsort(moved / own)  # not emulated: sizes
        freed = np.cumsum(own[cheapest])
        if not freed.size or freed[-1] < too_many[moment]:
            return inf
        last = int(np.searchsorted(freed, too_many[moment]))
        over = int(freed[last]) - int(too_many[moment])
        one = cheapest[last]
        return float(moved[cheapest[: last + 1]].sum() - moved[one] * over / own[one])  # not emulated: sizes

    @cached_property
    def order(self) -> list[int]:
        """Groups in the order of the search: those that are alike stand together."""
        return sorted(range(len(self.groups)), key=lambda i: (*self._kind(i), i))

    def _kind(self, i: int) -> tuple[int, tuple[tuple[int, int], ...], int]:
        return -self.groups[i].freed_bytes, self.groups[i].places, self.groups[i].moved_bytes

    @cached_property
    def _left(self) -> np.ndarray:
        """int64 [depth, moments]: alive of all groups from a place of the order on."""
        alive = self.alive[self.order]
        return np.concatenate([np.cumsum(alive[::-1], axis=0)[::-1], np.zeros((1, alive.shape[1]), np.int64)])


@dataclass(frozen=True, eq=False)
class _Branch:
    """Choices for the first groups of an order. here, there: int64 [moments], alive of what stays and what has gone."""

    depth: int
    here: np.ndarray
    there: np.ndarray
    moved_bytes: int
    gone: frozenset[int]
