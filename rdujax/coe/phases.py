"""How long a node takes for each phase of a request: a table of prices, in whole picoseconds.

    prefill   reads prompts; its end is the first token
    decode    one token more for each of them, longer with what is in the cache

Programs are compiled for shapes: so many prompts, so many tokens of a prompt, a cache of so many positions. What is
asked runs on the smallest shapes that hold it, padded, as it would on the machine. More than the largest is refused.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rdujax.base.errors import ArgumentError, describe


class Phases(Protocol):
    """What a model takes on a node."""

    def prefill_ps(self, prompts: int, tokens: int) -> int:
        """So many prompts of at most so many tokens each."""
        ...

    def decode_ps(self, prompts: int, context: int, tokens: int) -> int:
        """So many tokens more of each prompt, the first with so many positions in the cache, itself included."""
        ...


class Prices:
    """Times by two sizes of a program's shapes: what is asked takes as long as the smallest shapes that hold it."""

    def __init__(self, times_ps: Mapping[tuple[int, int], int], what: tuple[str, str]):
        self.what, self._times_ps = what, dict(times_ps)
        self.sizes = tuple(sorted({key[i] for key in times_ps}) for i in (0, 1))
        if not times_ps or len(times_ps) != len(self.sizes[0]) * len(self.sizes[1]):
            raise ArgumentError(
                describe(f"prices for some pairs of {what[0]} and {what[1]}", given=sorted(times_ps), allowed="all")
            )

    def held(self, axis: int, amount: int) -> int:
        """The smallest size that holds an amount. Raises ArgumentError for less than one and more than the largest."""
        sizes = self.sizes[axis]
        at = bisect_left(sizes, amount)
        if amount < 1 or at == len(sizes):
            raise ArgumentError(
                describe(f"{self.what[axis]} that no program was priced for", given=amount, allowed=f"1 to {sizes[-1]}",
                         do="price larger shapes, or ask for less")
            )  # fmt: skip
        return sizes[at]

    def __getitem__(self, amounts: tuple[int, int]) -> int:
        """Picoseconds."""
        return self._times_ps[self.held(0, amounts[0]), self.held(1, amounts[1])]


@dataclass(frozen=True)
class Table:
    """`Phases` from prices. prefill: by prompts and tokens of each. decode: of one token, by prompts and positions."""

    prefill: Mapping[tuple[int, int], int]
    decode: Mapping[tuple[int, int], int]
    _reading: Prices = field(init=False, repr=False, compare=False)
    _writing: Prices = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reading", Prices(self.prefill, ("prompts", "tokens of a prompt")))
        object.__setattr__(self, "_writing", Prices(self.decode, ("prompts", "positions of the cache")))

    def prefill_ps(self, prompts: int, tokens: int) -> int:
        """See `Phases`."""
        return self._reading[prompts, tokens]

    def decode_ps(self, prompts: int, context: int, tokens: int) -> int:
        """See `Phases`."""
        # Not token by token: each price as many times as contexts run on its cache.
        total, first, last = 0, context, context + tokens - 1
        while first <= last:
            until = min(self._writing.held(1, first), last)
            total += (until - first + 1) * self._writing[prompts, first]
            first = until + 1
        return total
