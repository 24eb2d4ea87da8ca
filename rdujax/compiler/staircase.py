"""The useful shares of a stage, as arrays: what is asked of them thousands of times is asked of all at once."""

from dataclasses import dataclass

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
