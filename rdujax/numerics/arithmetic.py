"""FP32 arithmetic of the machine (N2, N3, N5): one exact rounding per operation, never a fused multiply-add.

Every function takes float32 arrays or Python scalars (NumPy broadcasting) and returns an FP32 carrier, or bool for
comparisons. Denormal operands are read as zeros of their sign, any NaN operand gives NaN, tiny results become zeros of
their sign, and the only NaN that comes out is 0x7FC00000: in jit, eager, vmap and scan, and when XLA folds constants
(its evaluator neither flushes nor reads denormals as zero, which is why operands are flushed explicitly).

Derivatives are those of the real-number function; flushing and rounding are straight-through.
"""

from functools import partial
from operator import index

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rdujax.numerics import registers
from rdujax.numerics.bits import as_carriers, broadcast, canonicalize, flush


def _read(where: str, *operands: ArrayLike) -> list[jax.Array]:
    """The operands as the machine reads them (N2): denormals are zeros; NaN of any pattern is left to the operation."""
    return [flush(x) for x in as_carriers(where, *operands)]


def _moved(where: str, *operands: ArrayLike) -> list[jax.Array]:
    """The operands of operations that pass values on: canonical, because no later rounding cleans a NaN."""
    return [canonicalize(x) for x in as_carriers(where, *operands)]


@jax.jit
def add(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x + y (N3). x + (-x) = +0."""
    return registers.add(*_read("add", x, y))


@jax.jit
def sub(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x - y (N3). x - x = +0."""
    return registers.sub(*_read("sub", x, y))


@jax.jit
def mul(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x * y (N3), tiny judged after rounding with unbounded exponent."""
    return registers.mul(*_read("mul", x, y))


@jax.jit
def div(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x / y (N3). x/0 is an infinity, 0/0 and inf/inf are NaN."""
    return registers.div(*_read("div", x, y))


@jax.jit
def sqrt(x: ArrayLike) -> jax.Array:
    """Square root (N3). sqrt(-0) = -0; of a negative number NaN."""
    return registers.sqrt(*_read("sqrt", x))


@jax.jit
def reciprocal(x: ArrayLike) -> jax.Array:
    """1 / x (N3): one result."""
    return registers.reciprocal(*_read("reciprocal", x))


@jax.jit
def rsqrt(x: ArrayLike) -> jax.Array:
    """1 / sqrt(x): two results (N5), at most 1.5 ulp from the real function."""
    return registers.rsqrt(*_read("rsqrt", x))


@jax.jit
def neg(x: ArrayLike) -> jax.Array:
    """-x: the sign bit (N5)."""
    return registers.neg(*_moved("neg", x))


@jax.jit
def absolute(x: ArrayLike) -> jax.Array:
    """|x|: the sign bit (N5). The derivative at zero is zero."""
    return registers.absolute(*_moved("absolute", x))


@jax.jit
def sign(x: ArrayLike) -> jax.Array:
    """-1, -0, +0 or +1; NaN for NaN. Zero derivative."""
    return registers.sign(*_moved("sign", x))


@jax.jit
def maximum(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The larger by (sign, magnitude), -0 < +0; any NaN gives NaN (N5).

    The derivative is that of the selected operand, half of each where both have the same bits.
    """
    return registers.maximum(*_moved("maximum", x, y))


@jax.jit
def minimum(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The smaller by (sign, magnitude), -0 < +0; any NaN gives NaN (N5). Derivative as `maximum`."""
    return registers.minimum(*_moved("minimum", x, y))


@jax.jit
def clamp(lo: ArrayLike, x: ArrayLike, hi: ArrayLike) -> jax.Array:
    """minimum(maximum(x, lo), hi)."""
    return registers.clamp(*_moved("clamp", lo, x, hi))


@jax.jit
def select(pred: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> jax.Array:
    """on_true where bool `pred`, else on_false: moves values after DAZ (N5)."""
    on_true, on_false = as_carriers("select", on_true, on_false)
    pred, on_true, on_false = broadcast("select", jnp.asarray(pred, bool), on_true, on_false)
    return canonicalize(jnp.where(pred, on_true, on_false))


@partial(jax.jit, static_argnames="n")
def integer_power(x: ArrayLike, n: int) -> jax.Array:
    """x**n for a Python integer n, by squaring from the low bit of |n| up: every product is one result (N3).

    A negative n is the reciprocal of the positive power. n = 0 gives 1, and NaN for NaN (N2).
    """
    (x,) = _moved("integer_power", x)
    return registers.integer_power(x, index(n))


@jax.jit
def equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x == y after DAZ; -0 equals +0; false with NaN."""
    x, y = _read("equal", x, y)
    return x == y


@jax.jit
def not_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The negation of `equal`, as in IEEE 754: true with NaN, so that x != x finds NaN."""
    x, y = _read("not_equal", x, y)
    return x != y


@jax.jit
def less(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x < y after DAZ; false with NaN."""
    x, y = _read("less", x, y)
    return x < y


@jax.jit
def less_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x <= y after DAZ; false with NaN."""
    x, y = _read("less_equal", x, y)
    return x <= y


@jax.jit
def greater(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x > y after DAZ; false with NaN."""
    x, y = _read("greater", x, y)
    return x > y


@jax.jit
def greater_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x >= y after DAZ; false with NaN."""
    x, y = _read("greater_equal", x, y)
    return x >= y
