"""FP32 sin, cos and tan for every finite argument.

The argument is reduced by whole numbers (Payne and Hanek 1983): its 24-bit integer times a 96-bit window of 2/pi gives
the quadrant and 62 bits of the fraction of it, whatever the exponent. Nothing is lost for huge arguments, where one ulp
is many turns.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics import arithmetic
from rdujax.numerics.bits import MAGNITUDE_MASK, from_bits, to_bits
from rdujax.numerics.special import exact
from rdujax.numerics.special.steps import (
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
    pair_quotient,
    sorted_sum,
    sub,
    with_sign_of,
)

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
# Up to here tan x = x to a third of an ulp.
_SMALL = np.float32(2.0**-12)
_HIDDEN_BIT = np.int32(1 << 23)
# The largest FP32 number below pi/4: up to here the argument needs no reduction.
_QUARTER_PI = np.float32(0.78539813)
# pi/2 in two parts, times 2**-40: the fraction is counted in units of 2**-40 quadrants.
_HALF_PI = (np.float32(1.5707963705062866 * 2.0**-40), np.float32(-4.3711388286737929e-08 * 2.0**-40))
# (sin r / r - 1) / r**2 and (cos r - 1 + r**2 / 2) / r**4 in r**2 for |r| <= pi/4; errors below 2**-32 and 2**-36.
_SIN = tuple(map(np.float32, (-0.16666667, 0.0083333803, -0.00019853498, 2.8372472e-06)))
_COS = tuple(map(np.float32, (0.041666668, -0.001388898, 2.4822008e-05, -2.8878452e-07)))


def _upper_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """The upper 32 bits of x * y, for uint32 x below 2**24 and any uint32 y."""
    x_high, x_low = x >> 16, x & 0xFFFF
    y_high, y_low = y >> 16, y & 0xFFFF
    middle = x_low * y_high + ((x_low * y_low) >> 16)
    return x_high * y_high + (middle >> 16) + ((x_high * y_low + (middle & 0xFFFF)) >> 16)


def _turned(bits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The product with 2/pi modulo 4 in 64 bits, two of them before the point: (upper, lower) as uint32."""
    field = (bits & MAGNITUDE_MASK) >> MANTISSA_BITS
    whole = ((bits & MANTISSA_MASK) | _HIDDEN_BIT).astype(jnp.uint32)
    first, second, third = (
        jnp.asarray(line).at[field].get(mode="promise_in_bounds") for line in exact.quadrant_windows()
    )
    middle = whole * second
    lower = middle + _upper_product(whole, third)
    carry = (lower < middle).astype(jnp.uint32)
    return whole * first + _upper_product(whole, second) + carry, lower


def _reduced(x: jax.Array) -> tuple[jax.Array, Pair]:
    """(quadrant, (r, low)): |x| = quadrant * pi/2 + r + low modulo 2 pi, with |r| <= pi/4; quadrant as int32."""
    upper, lower = _turned(to_bits(x))
    quadrant = (upper + np.uint32(1 << 29)) >> 30
    signed = (upper - (quadrant << 30)).astype(jnp.int32)
    # Three pieces of 16, 24 and 22 bits, each exact in FP32, whose units are 2**-16, 2**-40 and 2**-62 quadrants.
    coarse = (signed >> 14).astype(jnp.float32)
    medium = (((signed & 0x3FFF) << 10) | (lower >> 22).astype(jnp.int32)).astype(jnp.float32)
    fine = (lower & 0x3FFFFF).astype(jnp.int32).astype(jnp.float32)
    high, rest = sorted_sum(mul(coarse, np.float32(2.0**24)), medium)
    high, rest = sorted_sum(high, add(rest, mul(fine, np.float32(2.0**-22))))
    product, low = exact_product(high, jnp.full_like(high, _HALF_PI[0]))
    low = add(low, add(mul(high, _HALF_PI[1]), mul(rest, _HALF_PI[0])))
    r, low = sorted_sum(product, low)
    size = magnitude_of(x)
    near = size <= _QUARTER_PI
    return (
        jnp.where(near, 0, quadrant.astype(jnp.int32)),
        (jnp.where(near, size, r), jnp.where(near, np.float32(0.0), low)),
    )


def _both(r: jax.Array, low: jax.Array) -> tuple[Pair, Pair]:
    """(sin, cos) of r + low for |r| <= pi/4, each a large part and what is to be added."""
    square, square_low = exact_square(r)
    half = mul(_HALF, square)
    sine_tail = add(mul(mul(r, square), horner(square, _SIN)), sub(low, mul(half, low)))
    top, rest = sorted_sum(_ONE, -half)
    cosine_tail = sub(mul(mul(square, square), horner(square, _COS)), add(mul(_HALF, square_low), mul(r, low)))
    return (r, sine_tail), (top, add(rest, cosine_tail))


def _quarter_turned(x: jax.Array, turns: int) -> jax.Array:
    """sin(|x| + turns * pi/2)."""
    quadrant, rest = _reduced(x)
    quadrant = quadrant + turns
    sine, cosine = (add(*pair) for pair in _both(*rest))
    value = jnp.where((quadrant & 1) == 0, sine, cosine)
    turned = from_bits(to_bits(value) ^ ((quadrant & 2) << 30))
    return jnp.where(magnitude_of(x) == np.float32(np.inf), np.float32(np.nan), turned)


def sin(x: jax.Array) -> jax.Array:
    """Sine of x radians; NaN at the infinities. Keeps the sign of zero."""
    return with_sign_of(_quarter_turned(x, 0), x)


def cos(x: jax.Array) -> jax.Array:
    """Cosine of x radians; NaN at the infinities."""
    return _quarter_turned(x, 1)


def tan(x: jax.Array) -> jax.Array:
    """Tangent of x radians, the quotient of the pairs; x itself where it is small, NaN at the infinities."""
    size = jnp.maximum(magnitude_of(x), _SMALL)
    quadrant, rest = _reduced(size)
    sine, cosine = (exact_sum(*pair) for pair in _both(*rest))
    swapped = (quadrant & 1) == 1
    top, top_low = (jnp.where(swapped, -c, s) for s, c in zip(sine, cosine, strict=True))
    bottom, bottom_low = (jnp.where(swapped, s, c) for s, c in zip(sine, cosine, strict=True))
    value = pair_quotient((top, top_low), (bottom, bottom_low), arithmetic.reciprocal(bottom))
    value = jnp.where(size == np.float32(np.inf), np.float32(np.nan), with_sign_of(value, x))
    return jnp.where(magnitude_of(x) < _SMALL, x, value)
