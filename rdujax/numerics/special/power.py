"""FP32 x to the power y: e**(y log |x|), the logarithm and its product with y as pairs.

|x| = 2**n m with sqrt(1/2) <= m < sqrt(2). A table gives an inverse c of m to eight bits and -log(c) as a pair, so that
log m = -log(c) + log(1 + r) with r = m c - 1 exactly, |r| < 2**-7, and a short series in r.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.bits import INF_BITS, QNAN_BITS, SIGN_BIT, from_bits, magnitude, one_nan, to_bits
from rdujax.numerics.special import exact
from rdujax.numerics.special.exponential import exp_pair
from rdujax.numerics.special.logarithm import LN2_HIGH, LN2_LOW, decomposed
from rdujax.numerics.special.steps import (
    EXPONENT_BIAS,
    MANTISSA_BITS,
    MANTISSA_MASK,
    Pair,
    add,
    exact_product,
    exact_square,
    exact_sum,
    horner,
    magnitude_of,
    mul,
    nearest,
    scaled,
    sorted_sum,
    sub,
)

_ONE, _ZERO, _HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)
_INF, _NAN = np.float32(np.inf), np.float32(np.nan)
_HIDDEN_BIT = np.int32(1 << 23)
# (log(1 + r) - r + r**2 / 2) / r**3; the next term is below 2**-47 of r.
_SERIES = tuple(map(np.float32, (1 / 3, -1 / 4, 1 / 5, -1 / 6)))
# Rows of the table: k / 128 for every k from sqrt(1/2) to sqrt(2).
_STEPS, _FIRST, _LAST = 128, 90, 182
# Beyond these every power of an x other than one is an infinity, zero or one.
_LARGEST_Y, _SMALLEST_Y = np.float32(2.0**36), np.float32(2.0**-40)
_LIMITS = (np.float32(-104.0), np.float32(89.0))


@jax.custom_jvp
def power(x: jax.Array, y: jax.Array) -> jax.Array:
    """x**y as C's pow: of a negative x for whole y only, else NaN. But NaN for a NaN operand (N2)."""
    is_nan = (magnitude(to_bits(x)) > INF_BITS) | (magnitude(to_bits(y)) > INF_BITS)
    value = _power(jnp.where(is_nan, _ONE, x), jnp.where(is_nan, _ONE, y))
    return from_bits(jnp.where(is_nan, QNAN_BITS, one_nan(to_bits(value))))


@power.defjvp
def _power_jvp(primals: Pair, tangents: Pair) -> Pair:
    """In plain float32; where x is not positive, the exponent carries none, as in JAX."""
    (x, y), (dx, dy) = primals, tangents
    value = power(x, y)
    of_x = jnp.where(y == 0, 0.0, y * power(x, jnp.where(y == 0, 1.0, y - 1)))
    of_y = jnp.where(x > 0, value * jnp.log(jnp.where(x > 0, x, 1.0)), 0.0)
    return value, of_x * dx + of_y * dy


def _power(x: jax.Array, y: jax.Array) -> jax.Array:
    size = magnitude_of(x)
    ordinary = (size > _ZERO) & (size < _INF)
    value = _positive(jnp.where(ordinary, size, _ONE), y)
    grows = (size > _ONE) == (y > _ZERO)
    value = jnp.where(ordinary, value, jnp.where(grows, _INF, _ZERO))
    whole, odd = _whole(y)
    negative = to_bits(x) < 0
    value = from_bits(to_bits(value) | jnp.where(negative & odd, SIGN_BIT, 0))
    value = jnp.where(negative & ordinary & ~whole, _NAN, value)
    return jnp.where((y == _ZERO) | (x == _ONE), _ONE, value)


def _positive(x: jax.Array, y: jax.Array) -> jax.Array:
    high, low = log_pair(x)
    size = jnp.clip(magnitude_of(y), _SMALLEST_Y, _LARGEST_Y)
    product, rest = exact_product(high, size)
    rest = add(rest, mul(low, size))
    product, rest = _signed(product, y), _signed(rest, y)
    inside = (product > _LIMITS[0]) & (product < _LIMITS[1])
    return exp_of_pair((jnp.clip(product, *_LIMITS), jnp.where(inside, rest, _ZERO)))


def exp_of_pair(x: Pair) -> jax.Array:
    """e**(high + low) for |high| <= 110."""
    (result, low), n = exp_pair(x[0])
    return scaled(add(result, add(low, mul(result, x[1]))), n)


def _signed(x: jax.Array, y: jax.Array) -> jax.Array:
    return from_bits(to_bits(x) ^ (to_bits(y) & SIGN_BIT))


def log_pair(x: jax.Array) -> Pair:
    """(high, low): log x to about 2**-40 of itself, for positive normal x."""
    n, f = decomposed(x)
    m = add(_ONE, f)
    _, row = nearest(mul(m, np.float32(_STEPS)))
    inverse, constant, constant_low = (
        jnp.asarray(line).at[row - _FIRST].get(mode="promise_in_bounds")
        for line in exact.logarithms(_STEPS, _FIRST, _LAST)
    )
    product, product_low = exact_product(m, inverse)
    r, r_low = sorted_sum(sub(product, _ONE), product_low)
    square, square_low = exact_square(r)
    high, rest = sorted_sum(r, mul(-_HALF, square))
    tail = sub(mul(mul(r, square), horner(r, _SERIES)), add(mul(_HALF, square_low), mul(r, r_low)))
    low = add(rest, add(r_low, tail))
    count = n.astype(jnp.float32)
    total, lost = exact_sum(mul(count, LN2_HIGH), constant)
    total, more = exact_sum(total, high)
    low = add(low, add(constant_low, mul(count, LN2_LOW)))
    return sorted_sum(total, add(more, add(lost, low)))


def _whole(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether y is a whole number (infinities are), and whether it is odd."""
    size = magnitude(to_bits(y))
    exponent = (size >> MANTISSA_BITS) - EXPONENT_BIAS
    unit = MANTISSA_BITS - jnp.clip(exponent, 0, MANTISSA_BITS)  # the place of one
    digits = (size & MANTISSA_MASK) | _HIDDEN_BIT
    whole = (exponent >= 0) & ((digits & ((np.int32(1) << unit) - 1)) == 0)
    odd = whole & (exponent <= MANTISSA_BITS) & (((digits >> unit) & 1) == 1)
    return whole | (size == 0), odd
