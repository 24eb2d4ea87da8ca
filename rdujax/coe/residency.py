"""What is in HBM, to the byte: pinned programs, activation copies of experts, and the cache of keys and values.

    capacity >= pinned + experts + cache, at every moment

The home copies stay in DDR, and an expert's weights are read-only there and here: who leaves HBM is not written back,
except for what its runs change (`state_bytes`). What is in use, or on its way in, does not leave.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rdujax.base.errors import ArgumentError, CapacityError, describe
from rdujax.coe.policies import Expert, Policy


@dataclass(frozen=True)
class Sizes:
    """Bytes of an expert. weights_bytes: copied in, never back. state_bytes: copied in and, when it leaves, back."""

    weights_bytes: int
    state_bytes: int = 0

    def __post_init__(self) -> None:
        for name in ("weights_bytes", "state_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ArgumentError(describe(f"{name} of an expert", given=repr(value), allowed="integers from 0 on"))

    @property
    def in_bytes(self) -> int:
        """What comes in."""
        return self.weights_bytes + self.state_bytes


class Residency:
    """The HBM of a node. Amounts are in bytes, and exact.

    pinned: what never leaves, by name (the router, programs, experts that a user pins).
    Raises CapacityError where not even what is pinned fits.
    """

    def __init__(self, capacity_bytes: int, policy: Policy, pinned: Mapping[Expert, int] | None = None):
        self.capacity_bytes, self.policy = capacity_bytes, policy
        self._pinned = dict(pinned or {})
        self._experts: dict[Expert, Sizes] = {}
        self._cache_bytes = 0
        self._used_bytes = 0
        self._take(sum(self._pinned.values()), "what is pinned")

    def __contains__(self, expert: Expert) -> bool:
        return expert in self._experts or expert in self._pinned

    @property
    def experts(self) -> tuple[Expert, ...]:
        """Who has an activation copy, in the order in which they came; without those that are pinned."""
        return tuple(self._experts)

    @property
    def used_bytes(self) -> int:
        """Of everything."""
        return self._used_bytes

    def use(self, expert: Expert) -> None:
        """Says that an expert is used now. Raises ArgumentError where it is not resident."""
        if expert not in self:
            raise ArgumentError(describe("an expert that is used has to be in HBM", given=repr(expert)))
        self.policy.used(expert)

    def admit(
        self, expert: Expert, sizes: Sizes, kept: frozenset[Expert] = frozenset(), upcoming: Sequence[Expert] = ()
    ) -> dict[Expert, Sizes]:
        """Brings an expert in, and says who had to leave; nobody of `kept` does.

        Raises CapacityError where there is no room even without all others: then nothing has changed.
        """
        if expert in self:
            raise ArgumentError(describe("an expert comes into HBM once", given=repr(expert)))
        left = self._make_room(sizes.in_bytes, kept, upcoming, f"expert {expert!r}")
        self._take(sizes.in_bytes, f"expert {expert!r}")
        self._experts[expert] = sizes
        self.policy.came(expert)
        return left

    def reserve_cache(
        self, cache_bytes: int, kept: frozenset[Expert] = frozenset(), upcoming: Sequence[Expert] = ()
    ) -> dict[Expert, Sizes]:
        """Room for keys and values; who had to leave. Raises CapacityError as `admit`."""
        left = self._make_room(cache_bytes, kept, upcoming, "the cache of keys and values")
        self._take(cache_bytes, "the cache of keys and values")
        self._cache_bytes += cache_bytes
        return left

    def release_cache(self, cache_bytes: int) -> None:
        """Gives room for keys and values back."""
        if cache_bytes > self._cache_bytes:
            raise ArgumentError(
                describe("more cache is given back than there is", given=cache_bytes, allowed=self._cache_bytes)
            )
        self._cache_bytes -= cache_bytes
        self._used_bytes -= cache_bytes

    def _make_room(
        self, needed_bytes: int, kept: frozenset[Expert], upcoming: Sequence[Expert], what: str
    ) -> dict[Expert, Sizes]:
        missing = self._used_bytes + needed_bytes - self.capacity_bytes
        if missing <= 0:
            return {}
        free = {name: sizes for name, sizes in self._experts.items() if name not in kept}
        if sum(sizes.in_bytes for sizes in free.values()) < missing:
            raise self._too_much(needed_bytes, what)
        left: dict[Expert, Sizes] = {}
        while missing > 0:
            name = self.policy.victim(free.keys(), upcoming)
            left[name] = free.pop(name)
            missing -= left[name].in_bytes
            del self._experts[name]
            self._used_bytes -= left[name].in_bytes
            self.policy.left(name)
        return left

    def _take(self, needed_bytes: int, what: str) -> None:
        if self._used_bytes + needed_bytes > self.capacity_bytes:
            raise self._too_much(needed_bytes, what)
        self._used_bytes += needed_bytes

    def _too_much(self, needed_bytes: int, what: str) -> CapacityError:
        experts = sum(sizes.in_bytes for sizes in self._experts.values())
        pinned = ", ".join(f"{name} {size:,}" for name, size in self._pinned.items()) or "nothing"
        return CapacityError(
            describe(
                f"HBM is too small for {what}",
                given=f"{needed_bytes:,} bytes",
                allowed=f"{self.capacity_bytes:,} bytes, of which pinned: {pinned}; experts {experts:,}; "
                f"keys and values {self._cache_bytes:,}",
                do="pin less, take fewer tokens or prompts at once, or a machine with more HBM",
            )
        )
