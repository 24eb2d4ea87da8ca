"""INT32 arithmetic of the machine (N7): everything wraps, and division has an answer for every operand.

Functions take int32 arrays or Python integers (NumPy broadcasting) and return int32 (comparisons: bool).
Nothing here carries a tangent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.numerics.bits import as_integers

_INT32_MIN = np.int32(-(2**31))
_WIDTH = np.int32(32)


@jax.jit
def add(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x + y, wrapping."""
    x, y = as_integers("integer add", x, y)
    return x + y


@jax.jit
def sub(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x - y, wrapping."""
    x, y = as_integers("integer sub", x, y)
    return x - y


@jax.jit
def mul(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x * y, wrapping."""
    x, y = as_integers("integer mul", x, y)
    return x * y


def _safe_divisor(x, y):
    # Division by zero, folded at compile time, kills the process, so the divisor is never zero; INT_MIN / -1 is
    # INT_MIN / 1 with the same quotient (INT_MIN) and remainder (0).
    return jnp.where((y == 0) | ((x == _INT32_MIN) & (y == -1)), np.int32(1), y)


@jax.jit
def div(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x / y truncated toward zero; x/0 = -1; INT_MIN/-1 = INT_MIN."""
    x, y = as_integers("integer div", x, y)
    return jnp.where(y == 0, np.int32(-1), jax.lax.div(x, _safe_divisor(x, y)))


@jax.jit
def rem(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Remainder of `div`, with the sign of x; x rem 0 = x."""
    x, y = as_integers("integer rem", x, y)
    return jnp.where(y == 0, x, jax.lax.rem(x, _safe_divisor(x, y)))


@jax.jit
def neg(x: ArrayLike) -> jax.Array:
    """-x, wrapping: -INT_MIN = INT_MIN."""
    (x,) = as_integers("integer neg", x)
    return -x


@jax.jit
def absolute(x: ArrayLike) -> jax.Array:
    """|x|, wrapping: |INT_MIN| = INT_MIN."""
    (x,) = as_integers("integer absolute", x)
    return jnp.where(x < 0, -x, x)


@jax.jit
def sign(x: ArrayLike) -> jax.Array:
    """-1, 0 or 1."""
    (x,) = as_integers("integer sign", x)
    return jnp.sign(x)


@jax.jit
def maximum(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The larger operand."""
    return jnp.maximum(*as_integers("integer maximum", x, y))


@jax.jit
def minimum(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The smaller operand."""
    return jnp.minimum(*as_integers("integer minimum", x, y))


@jax.jit
def clamp(lo: ArrayLike, x: ArrayLike, hi: ArrayLike) -> jax.Array:
    """minimum(maximum(x, lo), hi)."""
    lo, x, hi = as_integers("integer clamp", lo, x, hi)
    return jnp.minimum(jnp.maximum(x, lo), hi)


@jax.jit
def select(pred: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> jax.Array:
    """on_true where bool `pred`, else on_false."""
    return jnp.where(jnp.asarray(pred, bool), *as_integers("integer select", on_true, on_false))


def _in_range(amount):
    return (amount >= 0) & (amount < _WIDTH)


def _amount(amount):
    # An amount outside 0..31 is undefined in some back ends, even where its result is not selected.
    return jnp.where(_in_range(amount), amount, np.int32(0))


@jax.jit
def shift_left(x: ArrayLike, amount: ArrayLike) -> jax.Array:
    """x << amount; 0 for amounts of 32 or more. Amounts are read as unsigned."""
    x, amount = as_integers("shift_left", x, amount)
    return jnp.where(_in_range(amount), jax.lax.shift_left(x, _amount(amount)), np.int32(0))


@jax.jit
def shift_right_logical(x: ArrayLike, amount: ArrayLike) -> jax.Array:
    """x >> amount, zeros shifted in; 0 for amounts of 32 or more. Amounts are read as unsigned."""
    x, amount = as_integers("shift_right_logical", x, amount)
    return jnp.where(_in_range(amount), jax.lax.shift_right_logical(x, _amount(amount)), np.int32(0))


@jax.jit
def shift_right_arithmetic(x: ArrayLike, amount: ArrayLike) -> jax.Array:
    """x >> amount, signs shifted in; the sign alone for amounts of 32 or more. Amounts are read as unsigned."""
    x, amount = as_integers("shift_right_arithmetic", x, amount)
    return jax.lax.shift_right_arithmetic(x, jnp.where(_in_range(amount), amount, _WIDTH - 1))


@jax.jit
def bit_and(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x & y."""
    x, y = as_integers("bit_and", x, y)
    return x & y


@jax.jit
def bit_or(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x | y."""
    x, y = as_integers("bit_or", x, y)
    return x | y


@jax.jit
def bit_xor(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x ^ y."""
    x, y = as_integers("bit_xor", x, y)
    return x ^ y


@jax.jit
def bit_not(x: ArrayLike) -> jax.Array:
    """~x."""
    (x,) = as_integers("bit_not", x)
    return ~x


@jax.jit
def population_count(x: ArrayLike) -> jax.Array:
    """How many bits are one."""
    (x,) = as_integers("population_count", x)
    return jax.lax.population_count(x)


@jax.jit
def count_leading_zeros(x: ArrayLike) -> jax.Array:
    """How many bits are zero before the first one; 32 for 0."""
    (x,) = as_integers("count_leading_zeros", x)
    # XLA's folding of constants counts -32 in a negative one.
    return jnp.where(x < 0, np.int32(0), jax.lax.clz(x))


@jax.jit
def equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x == y, bool."""
    x, y = as_integers("integer equal", x, y)
    return x == y


@jax.jit
def not_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x != y, bool."""
    x, y = as_integers("integer not_equal", x, y)
    return x != y


@jax.jit
def less(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x < y, bool."""
    x, y = as_integers("integer less", x, y)
    return x < y


@jax.jit
def less_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x <= y, bool."""
    x, y = as_integers("integer less_equal", x, y)
    return x <= y


@jax.jit
def greater(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x > y, bool."""
    x, y = as_integers("integer greater", x, y)
    return x > y


@jax.jit
def greater_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x >= y, bool."""
    x, y = as_integers("integer greater_equal", x, y)
    return x >= y


def integer_power(x: ArrayLike, n: int) -> jax.Array:
    """x**n for a Python integer n >= 0, wrapping; n = 0 gives 1. Raises ArgumentError for n < 0."""
    if n < 0:
        raise ArgumentError(describe("a negative power of integers", given=n, allowed="n >= 0", where="integer_power"))
    (x,) = as_integers("integer integer_power", x)
    return x ** int(n)


@jax.jit
def contract(a: ArrayLike, b: ArrayLike) -> jax.Array:
    """a [..., M, K] times b [..., K, N], int32, wrapping (so the order of the sum is irrelevant): [..., M, N].

    Leading batch axes must be equal. Raises ShapeError otherwise, and for K = 0.
    """
    (a,), (b,) = as_integers("integer contract", a), as_integers("integer contract", b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2] or a.shape[-1] == 0:
        raise ShapeError(
            describe("operands that cannot be contracted", given=f"a {list(a.shape)}, b {list(b.shape)}",
                     allowed="a [..., M, K], b [..., K, N], the same leading axes, K >= 1", where="integer contract")
        )  # fmt: skip
    return jnp.matmul(a, b)
