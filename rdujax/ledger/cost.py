"""The price of work, as a value with an algebra: zero, one after the other, n turns, side by side.

All amounts are exact whole numbers on the host, or floating JAX values under `jax.grad` and `jax.vmap` (law L3:
one definition for both). Bytes are kept per tier of memory, reading apart from writing.

|             | `a + b`, one after the other | `cost * n`, n turns  | `parallel(a, b)`, at the same time |
|-------------|------------------------------|----------------------|------------------------------------|
| cycles      | sum                          | n times              | the longer                         |
| flops, bytes| sum                          | n times              | sum                                |
| peak bytes  | the larger                   | the same (0 if n = 0)| sum: both are alive at once        |
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from rdujax.base.compat import is_tracer
from rdujax.base.errors import ArgumentError, ConcretenessError, describe, unknown
from rdujax.ledger.numbers import Number, Priced, common, exact, is_exact, is_relaxed, maximum, ratio, whole


@jax.tree_util.register_pytree_with_keys_class
class PerTier(Mapping[str, Number]):
    """Bytes per memory tier: an immutable mapping, a pytree with static names; an absent tier reads as 0 bytes."""

    __slots__ = ("_bytes",)

    def __init__(self, amounts: Mapping[str, Number] | None = None, *, what: str = "bytes"):
        given = dict(amounts or {})
        for tier in given:
            if not isinstance(tier, str) or not tier:
                raise ArgumentError(describe("a memory tier is named by a string", given=repr(tier), where=what))
        self._bytes = {tier: whole(given[tier], what=what, where=f"tier {tier!r}") for tier in sorted(given)}

    def __getitem__(self, tier: str) -> Priced:
        return self._bytes.get(tier, 0)

    def __contains__(self, tier: object) -> bool:
        return tier in self._bytes

    def __iter__(self) -> Iterator[str]:
        return iter(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PerTier):
            return NotImplemented
        return all(_same(self[tier], other[tier]) for tier in {**self._bytes, **other._bytes})

    def __hash__(self) -> int:
        return hash(frozenset((tier, amount) for tier, amount in self._bytes.items() if is_relaxed(amount) or amount))

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{tier}: {_text(amount)}" for tier, amount in self._bytes.items()) + "}"

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple[str, ...]]:
        """Bytes as leaves, tiers as static structure (the JAX pytree protocol)."""
        return tuple((jax.tree_util.DictKey(t), b) for t, b in self._bytes.items()), tuple(self._bytes)

    @classmethod
    def tree_unflatten(cls, tiers: tuple[str, ...], amounts: tuple) -> "PerTier":
        """The inverse; unchecked, since JAX also puts its own placeholders where amounts were."""
        value = object.__new__(cls)
        value._bytes = dict(zip(tiers, amounts, strict=True))
        return value


_FIELDS = ("cycles", "flops", "read_bytes", "written_bytes", "peak_bytes")


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, eq=False)
class Cost:
    """What something costs. `Cost()` is zero; the module's table is the algebra; mappings may be plain dicts.

    Raises ArgumentError for a negative or fractional exact amount. On JAX values nothing is checked, and
    derivatives go through every operation (where two cycle counts tie in `parallel`, they share it evenly).
    """

    cycles: Priced = 0
    flops: Priced = 0
    read_bytes: Mapping[str, Priced] = field(default_factory=PerTier)
    written_bytes: Mapping[str, Priced] = field(default_factory=PerTier)
    peak_bytes: Mapping[str, Priced] = field(default_factory=PerTier)

    def __post_init__(self) -> None:
        for name in ("cycles", "flops"):
            object.__setattr__(self, name, whole(getattr(self, name), what=name, where="Cost"))
        for name in ("read_bytes", "written_bytes", "peak_bytes"):
            value = getattr(self, name)
            object.__setattr__(self, name, value if isinstance(value, PerTier) else PerTier(value, what=name))

    def __add__(self, other: "Cost") -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        return _combine(self, other, cycles=_plus, peak=maximum)

    def __mul__(self, turns: Number) -> "Cost":
        turns = whole(turns, what="turns", where="Cost * turns")
        never = is_exact(turns) and turns == 0

        def times(amount: Number) -> Number:
            a, n = common(amount, turns)
            return a * n

        return Cost(
            times(self.cycles),
            times(self.flops),
            PerTier({tier: times(amount) for tier, amount in self.read_bytes.items()}),
            PerTier({tier: times(amount) for tier, amount in self.written_bytes.items()}),
            PerTier() if never else self.peak_bytes,
        )

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cost):
            return NotImplemented
        scalars = all(_same(getattr(self, name), getattr(other, name)) for name in ("cycles", "flops"))
        return scalars and all(getattr(self, name) == getattr(other, name) for name in _FIELDS[2:])

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in _FIELDS))

    def __str__(self) -> str:
        rows = [(f"{name}:", getattr(self, name)) for name in _FIELDS]
        return "\n".join(f"{name:<15}{value if isinstance(value, PerTier) else _text(value)}" for name, value in rows)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The names of all tiers that the cost mentions, sorted."""
        return tuple(sorted({*self.read_bytes, *self.written_bytes, *self.peak_bytes}))

    def moved_bytes(self, tier: str) -> Priced:
        """Bytes read plus bytes written at one tier."""
        return _plus(self.read_bytes[tier], self.written_bytes[tier])

    def seconds(self, clock_hz: Number) -> Priced:
        """The cycles at `clock_hz`, in seconds: an exact int or Fraction, or a JAX value. Raises as `ratio`."""
        return ratio(self.cycles, clock_hz, where="clock_hz")

    def operational_intensity(self, tier: str) -> Priced:
        """FLOPs per byte moved at `tier` (the roofline's axis).

        Raises UnknownNameError for a tier that the cost does not mention, ArgumentError where no byte is moved.
        """
        if tier not in self.tiers:
            raise unknown("memory tier of this cost", tier, self.tiers)
        return ratio(self.flops, self.moved_bytes(tier), where=f"bytes moved at tier {tier!r}")

    def tree_flatten_with_keys(self) -> tuple[tuple, None]:
        """All five fields as children (the JAX pytree protocol)."""
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in _FIELDS), None

    @classmethod
    def tree_unflatten(cls, _: None, values: tuple) -> "Cost":
        """The inverse; unchecked, since JAX also puts its own placeholders where amounts were."""
        cost = object.__new__(cls)
        for name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(cost, name, value)
        return cost


def parallel(*costs: Cost) -> Cost:
    """The cost of all of them running at the same time; zero for none."""
    both = Cost()
    for cost in costs:
        both = _combine(both, cost, cycles=maximum, peak=_plus)
    return both


def _combine(a: Cost, b: Cost, *, cycles: Callable, peak: Callable) -> Cost:
    return Cost(
        cycles(a.cycles, b.cycles),
        _plus(a.flops, b.flops),
        _per_tier(a.read_bytes, b.read_bytes, _plus),
        _per_tier(a.written_bytes, b.written_bytes, _plus),
        _per_tier(a.peak_bytes, b.peak_bytes, peak),
    )


def _per_tier(a: Mapping[str, Priced], b: Mapping[str, Priced], how: Callable[[Number, Number], Priced]) -> PerTier:
    return PerTier({tier: how(a.get(tier, 0), b.get(tier, 0)) for tier in {**a, **b}})


def _plus(a: Number, b: Number) -> Priced:
    one, other = common(a, b)
    return one + other


def _same(a: Number, b: Number) -> bool:
    if is_tracer(a) or is_tracer(b):
        raise ConcretenessError(
            describe("costs cannot be compared while a function is traced", do="return them and compare outside")
        )
    return bool(np.array_equal(np.asarray(a), np.asarray(b))) if not is_exact(a, b) else exact(a) == exact(b)


def _text(amount: Number) -> str:
    return f"{amount:,}" if isinstance(amount, int) else str(amount)
