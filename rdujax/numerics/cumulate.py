"""Running results along an axis, one value after the other (N9): y[0] = x[0], y[i] = combine(y[i - 1], x[i]).

    sum, prod    FP32, each y one result; INT32 and UINT32 wrap
    max, min     FP32 by N5, INT32, bool; the order shows in no bit
    logsumexp    FP32: max(y, x) + log1p(exp(-|y - x|)), each step one result of the machine

In reverse they run from the last value to the first. Partial results are FP32 and are not rounded on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.base.registry import Registry
from rdujax.numerics import integer, registers
from rdujax.numerics.bits import canonicalize
from rdujax.numerics.formats import BOOL, FP32, INT32, UINT32, Format
from rdujax.numerics.special import SPECIAL

Combine = Callable[[jax.Array, jax.Array], jax.Array]
RUNNING: Registry["Running"] = Registry("running result", do="rdujax.numerics.cumulate.RUNNING lists them all")


@dataclass(frozen=True)
class Running:
    """One running result by format; a format that it does not have is None.

    operations: SIMD instructions of a step. signed: INT32's step is not that of UINT32.
    """

    name: str
    fp32: Combine
    int32: Combine | None = None
    predicate: Combine | None = None
    operations: int = 1
    signed: bool = False

    def form(self, fmt: Format) -> Combine | None:
        """The step on carriers of `fmt`."""
        unsigned = None if self.signed else self.int32
        return self.fp32 if fmt.is_float else {INT32: self.int32, UINT32: unsigned, BOOL: self.predicate}.get(fmt)

    def check(self, fmt: Format, output: Format) -> None:
        """Raises FormatError where there is no such running result from `fmt` to `output`."""
        if self.form(fmt) is None or not (output.is_float if fmt.is_float else output is fmt):
            formats = [str(kind) for kind in (INT32, UINT32, BOOL) if self.form(kind)]
            allowed = ", ".join(["bf16 or fp32 to either", *formats])
            raise FormatError(
                describe("formats of a running result", given=f"{fmt} to {output}", allowed=allowed, where=self.name)
            )


@partial(jax.jit, static_argnames=("name", "axis", "reverse"))
def cumulate(name: str, x: jax.Array, axis: int, reverse: bool = False) -> jax.Array:
    """The running results of `name` along `axis` of carriers (float32, int32 or bool): carriers of the same shape.

    Derivatives: those of the steps. Raises UnknownNameError for a running result that does not exist, FormatError for a
    format that it does not have, ShapeError for an axis that does not exist.
    """
    fmt = FP32 if x.dtype == jnp.float32 else INT32 if x.dtype == jnp.int32 else BOOL
    RUNNING[name].check(fmt, fmt)
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(describe("no axis to run along", given=f"axis {axis} of {list(x.shape)}", where=name))
    combine = RUNNING[name].form(fmt)
    assert combine is not None
    rows = jnp.moveaxis(canonicalize(x) if fmt is FP32 else x, axis, 0)

    def step(so_far: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        so_far = combine(so_far, row)
        return so_far, so_far

    first, rest = (rows[-1], rows[:-1]) if reverse else (rows[0], rows[1:])
    found = jax.lax.scan(step, first, rest, reverse=reverse)[1]
    joined = jnp.concatenate([found, first[None]] if reverse else [first[None], found])
    return jnp.moveaxis(joined, 0, axis)


def log_add_exp(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(e**x + e**y) in five results; equal infinities give themselves."""
    same = x == y
    zero = np.float32(0.0)
    difference = registers.sub(jnp.where(same, zero, x), jnp.where(same, zero, y))
    smaller = SPECIAL["exp"].fp32(registers.neg(registers.absolute(difference)))
    return registers.add(registers.maximum(x, y), SPECIAL["log1p"].fp32(smaller))


for _running in (
    Running("sum", registers.add, integer.add),
    Running("prod", registers.mul, integer.mul),
    Running("max", registers.maximum, integer.maximum, jnp.logical_or, signed=True),
    Running("min", registers.minimum, integer.minimum, jnp.logical_and, signed=True),
    Running("logsumexp", log_add_exp, operations=7),
):
    RUNNING.add(_running.name, _running)
