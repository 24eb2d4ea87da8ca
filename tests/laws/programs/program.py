"""Programs as text: lines of plain JAX, each with what may be said of its error, so that a program prints itself.

A program returns the results of any of its lines. That makes every line a law of its own: it is judged on the operands
that the emulator itself computed, so that no error of an earlier line has to be estimated.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FORMATS: dict[str, Any] = {"BF16": jnp.bfloat16, "F32": jnp.float32, "I32": jnp.int32, "U32": jnp.uint32}
# For what is computed once: the code is not made better. No bit depends on it, which makes a second road of it.
QUICK = {"xla_backend_optimization_level": 0}
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 3e38, -3e38, 1e-38, -2e-38, 1e-30, 0.5, 1e20)
PRELUDE = f"""\
import jax, jax.extend, jax.numpy as jnp, numpy as np
from jax import lax
import rdujax as rdu

BF16, F32, I32, U32, BOOL = jnp.bfloat16, jnp.float32, jnp.int32, jnp.uint32, jnp.bool_
SPECIAL = {SPECIAL}
""".replace("inf", "np.inf").replace("nan", "np.nan")  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A name with shape, format and the range that its numbers are known to be in (infinite in a wild program)."""

    name: str
    shape: tuple[int, ...]
    fmt: str
    low: float
    high: float

    @property
    def most(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Region:
    """The loop or branch of a line. captured: names around that the bodies read. limit: a while loop's, or the index.

    first: operands that are a loop's first carry or a branch's arguments; xs: those that it slices.
    """

    kind: str
    bodies: tuple["Function", ...]
    captured: tuple[str, ...]
    first: tuple[str, ...]
    xs: tuple[str, ...] = ()
    limit: str = ""
    reverse: bool = False


@dataclass(frozen=True)
class Step:
    """One line: `results = text`.

    bound: largest error of an FP32 result before it is rounded to the result's format, as an expression in float64 of
    the operands, of `y`, the exact result, `u`, half an ulp of 1 in FP32, `tiny`, the smallest number, and `ulp` of a
    value; None where the results are those of plain JAX, bit by bit.
    """

    results: tuple[Value, ...]
    text: str
    operands: tuple[str, ...]
    bound: str | None = None
    region: Region | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Names that the line needs, those that bodies capture included."""
        return (*self.operands, *(self.region.captured if self.region else ()))

    def lines(self) -> Iterator[str]:
        """The text, functions of a region before the line that calls them."""
        for body in self.region.bodies if self.region else ():
            yield from body.lines()
        yield f"{', '.join(v.name for v in self.results)} = {self.text}"


@dataclass(frozen=True)
class Function:
    """Parameters, lines, and what is returned. heads: lines in front, which open parameters that are tuples."""

    name: str
    parameters: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    heads: tuple[str, ...] = ()
    given: str = ""
    returned: str = ""

    @cached_property
    def values(self) -> dict[str, Value]:
        """All results by name."""
        return {v.name: v for step in self.steps for v in step.results}

    def lines(self) -> Iterator[str]:
        """The definition."""
        yield f"def {self.name}({self.given or ', '.join(self.parameters)}):"
        body = [*self.heads, *(line for step in self.steps for line in step.lines())]
        for line in [*body, f"return {self.returned or ', '.join(self.outputs)}"]:
            yield f"    {line}"

    def returning_all(self, captured: Sequence[str] = ()) -> "Function":
        """The same with every line's results returned, and what it captures as parameters in front."""
        outputs = tuple(self.values)
        return replace(
            self, parameters=(*captured, *self.parameters), outputs=outputs, heads=(), given="",
            returned=f"({', '.join(outputs)},)",
        )  # fmt: skip

    def compiled(self, **formats: Any) -> Callable[..., Any]:
        """The Python function; formats: what other dtype a format's name stands for."""
        names = namespace() | formats
        exec("\n".join(self.lines()), names)  # noqa: S102  (our own text)
        return names[self.name]


@dataclass(frozen=True)
class Program:
    """A function and the texts that make its arguments from a generator of a seed."""

    seed: int
    arguments: tuple[tuple[Value, str], ...]
    function: Function

    @property
    def args(self) -> tuple[jax.Array, ...]:
        """The arguments."""
        return self.drawn()

    def drawn(self, **formats: Any) -> tuple[jax.Array, ...]:
        """The arguments; formats: as for `Function.compiled`."""
        names = namespace() | formats | {"rng": np.random.default_rng(self.seed)}
        return tuple(eval(text, names) for _, text in self.arguments)  # noqa: S307

    @property
    def source(self) -> str:
        """A Python program that draws the arguments, runs the function and compares it."""
        names = ", ".join(v.name for v, _ in self.arguments)
        drawn = [f"{value.name} = {text}" for value, text in self.arguments]
        return "\n".join(
            [PRELUDE, f"rng = np.random.default_rng({self.seed})", *drawn, "", *self.function.lines(), "",
             f"print(rdu.validate(program, {names}))"]
        )  # fmt: skip

    def cone(self, names: Sequence[str]) -> "Program":
        """What the results with these names need, and no more: a failure's smaller program."""
        needed, steps = set(names), []
        for step in reversed(self.function.steps):
            if needed & {v.name for v in step.results}:
                steps.append(step)
                needed |= {*step.reads}
        function = replace(self.function, steps=tuple(reversed(steps)), outputs=tuple(names))
        return replace(self, function=function)


def namespace() -> dict[str, Any]:
    """What the lines of a program may name."""
    found = {"jax": jax, "jnp": jnp, "np": np, "lax": lax, "BOOL": jnp.bool_, "SPECIAL": SPECIAL}
    return found | FORMATS


def ulp(x: jax.Array) -> jax.Array:
    """The distance of FP32 numbers at the size of x; 0 at infinity and NaN."""
    finite = jnp.where(jnp.isfinite(x), abs(x), 0.0)
    exponent = jnp.frexp(jnp.maximum(finite, 2.0**-126))[1] - 1
    return jnp.where(jnp.isfinite(x), jnp.ldexp(1.0, exponent - 23), 0.0)


def rounded(error: np.ndarray, y: np.ndarray, fmt: str) -> np.ndarray:
    """A bound of the error after an FP32 result with this error is rounded to the format; FP32 itself stays."""
    largest = np.where(np.isfinite(y), np.abs(y), 0.0) + error
    exponent = np.frexp(np.maximum(largest, 2.0**-126))[1] - 1.0
    return error + (np.exp2(exponent - 8) if fmt == "BF16" else 0.0) + 2.0**-126
