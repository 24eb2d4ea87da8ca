"""What a unit did, in counts: tiles, vectors, turns, packets, bytes (law L3: counts and prices are apart).

`Counts` maps the name of a counter to an amount. The amount is a Python int when it is predicted from shapes, and
an int32 array when it is tallied while a program executes: a scalar inside one step, a stacked array once
`lax.scan` or `vmap` has gathered many steps. `total` folds a tally on the host into exact Python ints, so that
predicted and tallied counts can be compared with `==`.

A tally that passes 2**31 - 1 inside one step does not wrap silently: it sticks at -1, and `total` refuses it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.compat import is_tracer
from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, ShapeError, describe
from rdujax.base.registry import Registry

Amount: TypeAlias = int | jax.Array | np.ndarray

_LARGEST = 2**31 - 1
_OVERFLOWED = -1
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


@dataclass(frozen=True)
class Counter:
    """One declared counter: its name, the unit of its amounts, and what one of them is."""

    name: str
    unit: str
    doc: str


COUNTERS: Registry[Counter] = Registry("counter", do="declare it in the file of the unit that counts it")


def declare(name: str, *, unit: str, doc: str) -> str:
    """Declares a counter and returns its name. Called once, in the file of the hardware unit that counts.

    `name` is the unit file and the quantity, as in "pcu.systolic_macs"; `unit` is the singular, as in "MAC".
    Raises ArgumentError for a malformed or second name, and for an empty unit or doc.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(describe("a malformed counter name", given=repr(name), allowed="like 'pcu.systolic_macs'"))
    if not unit.strip() or not doc.strip():
        raise ArgumentError(
            describe("a counter needs a unit and a doc", given=f"unit={unit!r}, doc={doc!r}", where=name)
        )
    return COUNTERS.add(name, Counter(name, unit, doc)).name


@jax.tree_util.register_pytree_with_keys_class
class Counts(Mapping[str, Amount]):
    """An immutable mapping from declared counter names to amounts; a JAX pytree whose names are static.

    `Counts()` is zero, `a + b` is both, `c * n` is a loop of n turns; a counter that is absent counts 0, also in
    `==`. Refused: undeclared names (UnknownNameError), negative amounts (ArgumentError), amounts that are neither
    ints nor int32 arrays (FormatError), and adding tallies of different shapes, which would count the smaller one
    several times (ShapeError).
    """

    __slots__ = ("_amounts",)

    def __init__(self, amounts: Mapping[str, Amount] | None = None):
        given = dict(amounts or {})
        self._amounts: dict[str, Amount] = {name: _amount(given[name], name) for name in sorted(given, key=str)}

    def __getitem__(self, name: str) -> Amount:
        return self._amounts.get(COUNTERS[name].name, 0)

    def __contains__(self, name: object) -> bool:
        return name in self._amounts

    def __iter__(self) -> Iterator[str]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def __add__(self, other: "Counts") -> "Counts":
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts({name: _plus(self[name], other[name], name) for name in {**self._amounts, **other._amounts}})

    def __mul__(self, turns: int) -> "Counts":
        if isinstance(turns, bool) or not isinstance(turns, int | np.integer) or turns < 0:
            raise ArgumentError(
                describe("a loop turns a whole number of times", given=repr(turns), allowed="an int, 0 or more")
            )
        return Counts({name: _times(amount, int(turns)) for name, amount in self._amounts.items()})

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        return all(
            np.array_equal(_concrete(self[name], name), _concrete(other[name], name))
            for name in {**self._amounts, **other._amounts}
        )

    def __hash__(self) -> int:
        return hash(frozenset((name, amount) for name, amount in self._amounts.items() if not _is_zero(amount)))

    def __repr__(self) -> str:
        if not self._amounts:
            return "Counts: nothing"
        texts = {name: _text(amount) for name, amount in self._amounts.items()}
        name_width, amount_width = max(map(len, texts)), max(map(len, texts.values()))
        lines = [f"  {n:<{name_width}}  {text:>{amount_width}} {COUNTERS[n].unit}" for n, text in texts.items()]
        return "\n".join(["Counts:", *lines])

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple[str, ...]]:
        """Amounts as leaves, names as static structure (the JAX pytree protocol)."""
        keyed = tuple((jax.tree_util.DictKey(name), amount) for name, amount in self._amounts.items())
        return keyed, tuple(self._amounts)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], amounts: tuple) -> "Counts":
        """The inverse; unchecked, since JAX also puts its own placeholders where amounts were."""
        counts = object.__new__(cls)
        counts._amounts = dict(zip(names, amounts, strict=True))
        return counts


def total(counts: Counts) -> Counts:
    """The same counts with every tally summed over all its steps into an exact Python int.

    Raises ConcretenessError on a tracer, and ArgumentError for a tally that overflowed or went negative.
    """
    return Counts({name: _fold(_concrete(amount, name), name) for name, amount in counts.items()})


def _amount(amount: Any, name: str) -> Amount:
    where = f"counter {COUNTERS[name].name}"
    if isinstance(amount, int | np.integer) and not isinstance(amount, bool):
        if amount < 0:
            raise ArgumentError(describe("a negative count", given=str(amount), allowed="0 or more", where=where))
        return int(amount)
    if isinstance(amount, jax.Array | np.ndarray) and amount.dtype == np.int32:
        return amount
    kind = f"an array of type {amount.dtype}" if isinstance(amount, jax.Array | np.ndarray) else f"{amount!r}"
    kind += f" ({type(amount).__name__})"
    raise FormatError(
        describe("a count is a whole number", given=kind, allowed="an int or an int32 array", where=where)
    )


def _is_zero(amount: Amount) -> bool:
    return isinstance(amount, int) and amount == 0


def _plus(a: Amount, b: Amount, name: str) -> Amount:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if _is_zero(a) or _is_zero(b):
        return b if _is_zero(a) else a
    a, b = _tally(a, name), _tally(b, name)
    if a.shape != b.shape:
        raise ShapeError(
            describe(
                "tallies over different steps cannot be added step by step",
                given=f"{list(a.shape)} and {list(b.shape)}",
                where=f"counter {name}",
                do="fold each with total() first",
            )
        )
    both = a + b
    return jnp.where((a < 0) | (b < 0) | (both < 0), _OVERFLOWED, both)


def _times(amount: Amount, turns: int) -> Amount:
    if isinstance(amount, int):
        return amount * turns
    limit = _LARGEST // turns if turns else _LARGEST
    factor = min(turns, _LARGEST)  # beyond int32 only zeros survive the limit
    return jnp.where((amount < 0) | (amount > limit), _OVERFLOWED, amount * jnp.int32(factor))


def _tally(amount: Amount, name: str) -> jax.Array:
    if isinstance(amount, int) and amount > _LARGEST:
        raise ArgumentError(
            describe(
                "a predicted amount too large to add to a tally of one step",
                given=f"{amount:,}",
                allowed=f"at most {_LARGEST:,}",
                where=f"counter {name}",
                do="fold the tally with total() first",
            )
        )
    return jnp.asarray(amount, jnp.int32)


def _concrete(amount: Amount, name: str) -> int | np.ndarray:
    if isinstance(amount, int):
        return amount
    if is_tracer(amount):
        raise ConcretenessError(
            describe(
                "the amount of a count is not known while a function is traced",
                given=f"a tracer of shape {list(amount.shape)}",
                where=f"counter {name}",
                do="return the Counts from the traced function and fold or compare them outside",
            )
        )
    return np.asarray(amount)


def _fold(amount: int | np.ndarray, name: str) -> int:
    if isinstance(amount, int):
        return amount
    if amount.size and amount.min() < 0:
        raise ArgumentError(
            describe(
                "a tally of one step passed the largest int32",
                given=f"{int(np.sum(amount < 0)):,} of {amount.size:,} steps",
                allowed=f"at most {_LARGEST:,} in one step",
                where=f"counter {name}",
                do="tally smaller steps: let lax.scan stack them instead of adding them up in its carry",
            )
        )
    # 2**32 steps of 2**31 would be needed to overflow int64: more than a host can hold.
    return int(amount.sum(dtype=np.int64))


def _text(amount: Amount) -> str:
    if isinstance(amount, int):
        return f"{amount:,}"
    if isinstance(amount, jax.Array | np.ndarray):
        return f"int32{list(amount.shape)}" if amount.ndim or is_tracer(amount) else f"{int(amount):,}"
    return repr(amount)
