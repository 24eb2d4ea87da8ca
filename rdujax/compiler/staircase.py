"""The useful shares of a stage, as arrays: what is asked of them thousands of times is asked of all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rdujax.ops.op import Share, Stairs


@dataclass(frozen=True, eq=False)
class Staircase:
    """Shares, the fastest first: cycles of a turn (int64, increasing), and PCUs (fewer and fewer)."""

    shares: tuple[Share, ...]
    cycles: np.ndarray
    pcus: tuple[int, ...]

    @classmethod
    def of(cls, stairs: Stairs) -> "Staircase":
        """What a stage offers."""
        shares = tuple(share for _, share in stairs)
        return cls(shares, np.array([cycles for cycles, _ in stairs], np.int64), tuple(s.pcus for s in shares))

    def __len__(self) -> int:
        return len(self.shares)

    @cached_property
    def corners(self) -> list[int]:
        """Where a price of PCUs in cycles changes which share is the cheapest: the lower convex hull, in order."""
        found: list[int] = []
        points = list(zip(self.pcus, self.cycles.tolist(), strict=True))
        for i, point in enumerate(points):
            while len(found) > 1 and not _is_corner(points[found[-2]], points[found[-1]], point):
                found.pop()
            found.append(i)
        return found


def _is_corner(before: Sequence[int], at: Sequence[int], after: Sequence[int]) -> bool:
    """Whether the way from `before` to `after` turns at a point between, so that more PCUs are saved per cycle."""
    saved, lost = before[0] - at[0], at[1] - before[1]
    return saved * (after[1] - at[1]) > lost * (at[0] - after[0])
