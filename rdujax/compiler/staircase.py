"""The useful shares of a stage, as arrays: what is asked of them thousands of times is asked of all at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from rdujax.machines.machine import Machine
from rdujax.numerics.formats import Format
from rdujax.ops.op import Share, Stairs, TensorType, Work
from rdujax.units.pcu.systolic import Fork


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
    def kinds(self) -> list[tuple[list[int], Share]]:
        """Shares of one kind as one that holds arrays, and where they stand."""
        kinds: dict[tuple, list[int]] = defaultdict(list)
        for at, share in enumerate(self.shares):
            kinds[type(share), isinstance(share, Fork) and share.transposed].append(at)
        return [(places, stacked([self.shares[at] for at in places])) for places in kinds.values()]


class Rates:
    """Bytes per cycle that a stage reads of the buffers of its operands, and at last writes, with each of its shares.

    operands: what decides about it, see `Work.feeds`. formats: what the buffers of the operands and of the result hold.
    """

    def __init__(
        self,
        stairs: Staircase,
        op: Work,
        machine: Machine,
        operands: tuple[TensorType, ...],
        formats: tuple[Format, ...],
    ):
        *self.held, self.output = formats
        self.stairs, self.op, self.machine, self.operands = stairs, op, machine, operands
        self._known: dict[int, list[int]] = {}

    def at(self, place: int) -> list[int]:
        """Those of one of the shares."""
        if place not in self._known:
            rates, written = self._of(self.stairs.shares[place])
            self._known[place] = [*map(int, rates), int(written)]
        return self._known[place]

    @cached_property
    def every(self) -> np.ndarray:
        """int64 [shares, operands + 1]: those of all."""
        found = np.empty((len(self.stairs), len(self.held) + 1), np.int64)
        for places, share in self.stairs.kinds:
            rates, written = self._of(share)
            for at, rate in enumerate((*rates, written)):
                found[places, at] = rate
        return found

    def _of(self, share: Share) -> tuple[list[int], int]:
        return self.op.feeds(self.machine, share, self.operands, self.held, self.output)


def stacked(shares: Sequence[Share]) -> Share:
    """Shares of one class as one: what is not the same in all is an int64 array [shares]."""
    first, values = shares[0], {}
    for each in fields(first):  # type: ignore[arg-type]
        own = [getattr(share, each.name) for share in shares]
        values[each.name] = own[0] if own.count(own[0]) == len(own) else np.array(own, np.int64)
    return type(first)(**values)
