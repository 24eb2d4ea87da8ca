"""A program that is being drawn: values to choose from, with the range of each, and lines to add."""

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np

from tests.laws.programs.program import Region, Step, Value

LENGTHS = (1, 2, 3, 5, 7, 9, 12)
MOST_ELEMENTS = 500
FLOATS, WORDS, NUMBERS = ("F32", "BF16"), ("I32", "U32"), ("F32", "BF16", "I32", "U32")
KINDS = (*NUMBERS, "BOOL")
LIMITS = {"I32": (-(2.0**31), 2.0**31 - 1), "U32": (0.0, 2.0**32 - 1), "BOOL": (0.0, 1.0)}
Recipe = Callable[["Draft"], None]
RECIPES: dict[str, Recipe] = {}


def recipe(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers what draws a line; of several names, each is passed to the function."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        for name in names:
            assert name not in RECIPES, name
            RECIPES[name] = function if len(names) == 1 else lambda draft, name=name: function(draft, name)
        return function

    return wrap


class Draft:
    """Lines so far. wild: arguments are special numbers, and no recipe keeps its floats within its domain.

    outer: the draft around that of a body, whose values may be read.
    """

    def __init__(self, rng: np.random.Generator, wild: bool = False, outer: "Draft | None" = None):
        self.rng, self.wild, self.outer = rng, wild, outer
        self.values: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.arguments: list[tuple[Value, str]] = []
        self.numbers = outer.numbers if outer else count()
        self.captured: dict[str, None] = {}

    def chance(self, share: float) -> bool:
        """True in this share of draws."""
        return bool(self.rng.random() < share)

    def one(self, *choices):  # noqa: ANN002, ANN201
        """One of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, least: int = 1, most: int = 3) -> tuple[int, ...]:
        """A shape of so many axes."""
        while True:
            drawn = tuple(int(n) for n in self.rng.choice(LENGTHS, self.integer(least, most)))
            if np.prod(drawn) <= MOST_ELEMENTS:
                return drawn

    def argument(self, shape: Sequence[int], fmt: str, low: float | None = None, high: float | None = None) -> Value:
        """A new argument; floats from -2 to 2 by default, words of all sizes up to 2^20."""
        if self.outer:
            return self.capture(self.outer.argument(shape, fmt, low, high))
        least, most = {"BOOL": (0, 1), "U32": (0, 2**20), "I32": (-(2**20), 2**20)}.get(fmt, (-2.0, 2.0))
        ranged = low is not None
        low, high, shape = least if low is None else low, most if high is None else high, tuple(shape)
        if fmt == "BOOL":
            text = f"jnp.asarray(rng.random({shape}) < 0.5)"
        elif fmt in WORDS:
            text = f"jnp.asarray(rng.integers({int(low)}, {int(high)}, {shape}, endpoint=True), {fmt})"
        elif self.wild and not ranged:
            text = f"jnp.asarray(np.where(rng.random({shape}) < 0.5, rng.choice(SPECIAL, {shape}), "
            text += f"rng.uniform({low}, {high}, {shape})), {fmt})"
            low, high = -np.inf, np.inf
        else:
            text = f"jnp.asarray(rng.uniform({low}, {high}, {shape}), {fmt})"
        value = Value(f"a{next(self.numbers)}", shape, fmt, low, high)
        self.arguments.append((value, text))
        self.values[value.name] = value
        return value

    def capture(self, value: Value) -> Value:
        """A value of the draft around, read by a body."""
        self.captured[value.name] = None
        self.values[value.name] = value
        return value

    def pick(self, *fmts: str, least: int = 0, most: int = 4, test: Callable[[Value], bool] | None = None) -> Value:
        """A value of one of the formats with so many axes, late ones more often; a new argument if there is none."""
        if self.outer and self.chance(0.2):
            found = _fitting(self.outer.values, fmts, least, most, test)
            if found:
                return self.capture(self.one(*found))
        found = _fitting(self.values, fmts, least, most, test)
        if found and not self.chance(0.15):
            late = np.arange(1, len(found) + 1) ** 2.0
            return found[int(self.rng.choice(len(found), p=late / late.sum()))]
        for _ in range(50):
            value = Value("", self.shape(max(least, 1), max(most, 1)), self.one(*fmts), 0, 0)
            if test is None or test(value):
                return self.argument(value.shape, value.fmt)
        raise LookupError(f"no shape for {fmts}, {least} to {most} axes")

    def like(self, value: Value, *fmts: str) -> Value:
        """Another value of the same shape, or the same one; of its format by default."""
        fmts = fmts or (value.fmt,)
        found = _fitting(self.values, fmts, 0, 9, lambda v: v.shape == value.shape)
        return self.one(*found) if found and self.chance(0.6) else self.argument(value.shape, self.one(*fmts))

    def add(
        self, text: str, operands: Sequence[Value], shape: Sequence[int], fmt: str, low: float, high: float,
        bound: str | None = None,
    ) -> Value:  # fmt: skip
        """A line with one result."""
        return self.add_all(text, operands, [(shape, fmt, low, high)], bound)[0]

    def add_all(self, text, operands, results, bound=None, region: Region | None = None) -> list[Value]:  # noqa: ANN001
        """A line with several results: (shape, format, low, high) each."""
        made = []
        for shape, fmt, low, high in results:
            if self.wild and fmt in FLOATS:
                low, high = -np.inf, np.inf
            made.append(Value(f"v{next(self.numbers)}", tuple(map(int, shape)), fmt, float(low), float(high)))
        names = tuple(dict.fromkeys(v.name for v in operands))
        self.steps.append(Step(tuple(made), text, names, bound, region))
        self.values |= {v.name: v for v in made}
        return made

    def within(self, value: Value, low: float, high: float) -> Value:
        """The value, brought into a range by lines that do so, if it is not there."""
        if (low <= value.low and value.high <= high) or value.fmt == "BOOL":
            return value
        if self.wild and value.fmt in FLOATS:
            return value
        if value.fmt in WORDS:
            return self._word_within(value, int(low), int(high))
        if low >= 0 and value.low < 0:
            value = self.add(f"abs({value.name})", [value], value.shape, value.fmt, 0, value.most)
        if value.most == np.inf:
            return self.add(f"jnp.clip({value.name}, {low}, {high})", [value], value.shape, value.fmt, low, high)
        room = high - low if low >= 0 else min(-low, high)
        if value.most > room:
            factor = 2.0 ** np.floor(np.log2(room / value.most))
            text, ends = f"{value.name} * {factor}", sorted((value.low * factor, value.high * factor))
            value = self.add(text, [value], value.shape, value.fmt, *ends, bound=half_ulp())
        if low > 0:
            ends = (value.low + low, value.high + low)
            value = self.add(f"{value.name} + {low}", [value], value.shape, value.fmt, *ends, bound=half_ulp())
        return value

    def _word_within(self, value: Value, low: int, high: int) -> Value:
        """A remainder that has the right size, moved to where the range begins."""
        count = high - low + 1
        text = f"lax.rem({value.name}, np.{'int' if value.fmt == 'I32' else 'uint'}32({count}))"
        if value.fmt == "I32" and value.low < 0:
            text = f"abs({text})"
        value = self.add(text, [value], value.shape, value.fmt, 0, count - 1)
        if low:
            value = self.add(f"{value.name} + {low}", [value], value.shape, value.fmt, low, high)
        return value


def half_ulp(ulps: float = 0.5) -> str:
    """The bound of an element-wise result."""
    return f"{ulps} * ulp(y)"


def product_bound(d: Draft, count: int) -> str:
    """The bound of a product of so many factors; what passes through infinity or 0 on the way says nothing."""
    return "jnp.inf" if d.wild else f"{count} * u * (1 + u) ** {count} * abs(y) + {count} * tiny"


def wraps(low: float, high: float, fmt: str) -> tuple[float, float]:
    """A range of words, or all words where it is beyond them."""
    least, most = LIMITS.get(fmt, (-np.inf, np.inf))
    return (low, high) if least <= low and high <= most else (least, most)


def _fitting(values, fmts, least, most, test) -> list[Value]:  # noqa: ANN001
    return [
        v for v in values.values()
        if v.fmt in fmts and least <= len(v.shape) <= most and v.size <= MOST_ELEMENTS and (test is None or test(v))
    ]  # fmt: skip
