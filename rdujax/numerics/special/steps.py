"""The single steps that FP32 special functions are made of, and unevaluated pairs of FP32 numbers.

A step is one IEEE operation behind a wall (see `rdujax.numerics.bits`), so no compiler fuses, reorders or folds
two of them. The functions built on it keep every step that matters away from the denormal range; only
`scaled` can leave the normal range, and it does so on integers. So it makes no difference to any bit whether the
hardware flushes, keeps or folds denormals.

A pair (high, low) stands for the real number high + low with |low| at most about one ulp of high: some 45
significant bits out of FP32 steps, after Dekker 1971 and Knuth. Everything here has zero gradient: the public
functions carry their own derivatives.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.bits import INF_BITS, MAGNITUDE_MASK, QNAN_BITS, SIGN_BIT, from_bits, to_bits

Pair = tuple[jax.Array, jax.Array]
Operand = jax.Array | np.float32

EXPONENT_BIAS = np.int32(127)
MANTISSA_BITS = np.int32(23)
MANTISSA_MASK = np.int32(0x007FFFFF)
ONE_BITS = np.int32(0x3F800000)
# Adding and taking away 1.5 * 2**23 rounds to the nearest integer, which then also stands in the low bits.
_ROUNDER = np.float32(1.5 * 2.0**23)
_ROUNDER_BITS = np.int32(_ROUNDER.view(np.int32))
_UPPER_HALF = np.int32(~0xFFF)


def wall(x: Operand) -> jax.Array:
    """The same number, where XLA cannot look through (`bits.isolate` without its derivative)."""
    return from_bits(jnp.minimum(jax.lax.bitcast_convert_type(x, jnp.int32), QNAN_BITS))


def add(x: Operand, y: Operand) -> jax.Array:
    """x + y, one rounding."""
    return wall(x + y)


def sub(x: Operand, y: Operand) -> jax.Array:
    """x - y, one rounding."""
    return wall(x - y)


def mul(x: Operand, y: Operand) -> jax.Array:
    """x * y, one rounding."""
    return wall(x * y)


def horner(x: jax.Array, coefficients: Sequence[Operand]) -> jax.Array:
    """The polynomial with these two or more coefficients, lowest power first: two roundings per power."""
    *lower, second, first = coefficients
    total = add(mul(x, first), second)
    for coefficient in reversed(lower):
        total = add(mul(total, x), coefficient)
    return total


def nearest(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest integer, ties to even, as float32 and as int32, for |x| < 2**22."""
    shifted = add(x, _ROUNDER)
    return sub(shifted, _ROUNDER), to_bits(shifted) - _ROUNDER_BITS


def power_of_two(n: jax.Array) -> jax.Array:
    """2**n for int32 n in -126 .. 127."""
    return from_bits((n + EXPONENT_BIAS) << MANTISSA_BITS)


def scaled(x: jax.Array, n: jax.Array) -> jax.Array:
    """x * 2**n for a normal x and int32 n: below 2**-126 a zero of its sign, above the range an infinity (N3)."""
    bits = to_bits(x)
    exponent = ((bits & MAGNITUDE_MASK) >> MANTISSA_BITS) + n
    sign = bits & SIGN_BIT
    moved = jnp.where(exponent <= 0, sign, bits + (n << MANTISSA_BITS))
    return from_bits(jnp.where(exponent >= 255, sign | INF_BITS, moved))


def normalized(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(m, n) with x = m * 2**n and 1 <= |m| < 2, for normal x; m is +-1 and n -127 where x is zero."""
    bits = to_bits(x)
    n = ((bits & MAGNITUDE_MASK) >> MANTISSA_BITS) - EXPONENT_BIAS
    return from_bits((bits & (SIGN_BIT | MANTISSA_MASK)) | ONE_BITS), n


def magnitude_of(x: jax.Array) -> jax.Array:
    """|x|, on the bits."""
    return from_bits(to_bits(x) & MAGNITUDE_MASK)


def with_sign_of(x: jax.Array, source: jax.Array) -> jax.Array:
    """x, its sign flipped where `source` is negative."""
    return from_bits(to_bits(x) ^ (to_bits(source) & SIGN_BIT))


def sorted_sum(x: Operand, y: Operand) -> Pair:
    """x + y exactly, where |x| >= |y| or x is zero."""
    high = add(x, y)
    return high, sub(y, sub(high, x))


def exact_sum(x: Operand, y: Operand) -> Pair:
    """x + y exactly, in any order of size."""
    high = add(x, y)
    from_y = sub(high, x)
    return high, add(sub(x, sub(high, from_y)), sub(y, from_y))


def _halves(x: jax.Array) -> Pair:
    upper = from_bits(to_bits(x) & _UPPER_HALF)
    return upper, sub(x, upper)


def exact_product(x: jax.Array, y: jax.Array) -> Pair:
    """x * y exactly, while the product's low end stays in the normal range.

    Halves of 12 bits multiply exactly, and added from the large to the small every partial sum fits into 24 bits.
    """
    high = mul(x, y)
    (a, b), (c, d) = _halves(x), _halves(y)
    return high, add(add(add(sub(mul(a, c), high), mul(a, d)), mul(b, c)), mul(b, d))


def exact_square(x: jax.Array) -> Pair:
    """x * x exactly, as `exact_product`."""
    high = mul(x, x)
    a, b = _halves(x)
    cross = mul(a, b)
    return high, add(add(sub(mul(a, a), high), add(cross, cross)), mul(b, b))


def pair_product(x: Pair, y: Pair) -> Pair:
    """x * y to about 2**-44 of itself."""
    high, low = exact_product(x[0], y[0])
    return high, add(low, add(mul(x[0], y[1]), mul(x[1], y[0])))


def pair_quotient(x: Pair, y: Pair, inverse: jax.Array) -> jax.Array:
    """x / y rounded almost correctly, given `inverse`, 1 / y[0] to one ulp."""
    return add(*quotient_pair(x, y, inverse))


def quotient_pair(x: Pair, y: Pair, inverse: jax.Array) -> Pair:
    """x / y as a first quotient, which may be two ulp off, and its correction by the exact remainder."""
    quotient = mul(x[0], inverse)
    high, low = exact_product(quotient, y[0])
    remainder = add(sub(sub(x[0], high), low), sub(x[1], mul(quotient, y[1])))
    return quotient, mul(remainder, inverse)
