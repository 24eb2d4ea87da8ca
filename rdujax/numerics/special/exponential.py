"""FP32 exp, exp2 and expm1, and the pair that other functions build on.

All three reduce x to n * ln 2 + r with |r| <= ln 2 / 2 and scale by 2**n on the exponent field. The coefficients
are minimax fits rounded to FP32 one after the other, the rest refitted each time.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.special.steps import (
    Pair,
    add,
    horner,
    mul,
    nearest,
    power_of_two,
    scaled,
    sorted_sum,
    sub,
)

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts: the first has 15 bits, so that n times it is exact for every n that can occur.
_LN2_HIGH = np.float32(0.69314575195312500)
_LN2_LOW = np.float32(0.693147180559945309 - 0.69314575195312500)
# (e**r - 1 - r) / r**2; the error in e**r is below 2**-28.2.
_EXP = tuple(map(np.float32, (0.49999994, 0.16666521, 0.041668266, 0.008368677, 0.0013820734)))
# (e**r - 1 - r - r**2 / 2) / r**3; the error in e**r is below 2**-33.2.
_EXP_CUBIC = tuple(map(np.float32, (0.16666666, 0.041666463, 0.0083335716, 0.0013935087, 0.00019739472)))
# (2**r - 1) / r - 1/2 for |r| <= 1/2; the error in 2**r is below 2**-28.7.
_EXP2 = tuple(map(np.float32, (0.1931472, 0.24022648, 0.055503394, 0.0096184667, 0.001339691, 0.00015343972)))

# Beyond these the result is an infinity or, after rounding, below 2**-126.
_EXP_RANGE = (np.float32(-104.0), np.float32(89.0))
_EXP2_RANGE = (np.float32(-151.0), np.float32(129.0))
# Below this expm1 rounds to -1.
_EXPM1_RANGE = (np.float32(-18.0), np.float32(89.0))


def held(x: jax.Array, limits: tuple[np.float32, np.float32]) -> jax.Array:
    """x held inside limits; NaN becomes the upper limit."""
    low, high = limits
    return jnp.where(x < high, jnp.where(x > low, x, low), high)


def _reduced(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(n, r, shift, rest): x = n * ln 2 + r + rest with r one FP32 number, for |x| <= 110; n as int32."""
    n, n_int = nearest(mul(x, _LOG2_E))
    above = sub(x, mul(n, _LN2_HIGH))
    below = mul(n, _LN2_LOW)
    r = sub(above, below)
    return n_int, r, above, below


def exp(x: jax.Array) -> jax.Array:
    """e**x of one Horner polynomial of degree 6 whose last two sums start from the reduction's exact part.

    n = rint(x log2 e), r = (x - n L1) - n L2, e**r = 1 + ((x - n L1) + (r**2 P(r) - n L2)), and the exponent shift.
    """
    n, r, above, below = _reduced(held(x, _EXP_RANGE))
    tail = mul(mul(r, r), horner(r, _EXP))
    return scaled(add(_ONE, add(above, sub(tail, below))), n)


def exp2(x: jax.Array) -> jax.Array:
    """2**x: n = rint(x), r = x - n exactly, 2**r = 1 + (r/2 + r Q(r)), and the exponent shift."""
    kept = held(x, _EXP2_RANGE)
    n, n_int = nearest(kept)
    r = sub(kept, n)
    return scaled(add(_ONE, add(mul(_HALF, r), mul(r, horner(r, _EXP2)))), n_int)


def exp_pair(x: jax.Array) -> tuple[Pair, jax.Array]:
    """((high, low), n) with e**x = (high + low) * 2**n to about 2**-27 of itself, for |x| <= 110."""
    n, (r, low) = _expm1_reduced(x)
    high, rest = sorted_sum(_ONE, r)
    return sorted_sum(high, add(rest, low)), n


def _expm1_reduced(x: jax.Array) -> tuple[jax.Array, Pair]:
    """(n, (r, low)) with e**(x - n ln 2) - 1 = r + low, for |x| <= 110; as good for tiny x."""
    n, r, above, below = _reduced(x)
    lost = sub(sub(above, r), below)
    square = mul(r, r)
    tail = add(mul(_HALF, square), mul(mul(square, r), horner(r, _EXP_CUBIC)))
    return n, (r, add(add(lost, mul(lost, r)), tail))


def expm1_pair(x: jax.Array) -> tuple[Pair, jax.Array]:
    """((high, low), n) with e**x - 1 = (high + low) * 2**n, for -80 <= x <= 89."""
    n, (r, low) = _expm1_reduced(x)
    # 1 - 2**-n is 0 for n = 0, and at least 1/2 in magnitude, so above |r|, otherwise; it is inexact from n = 25 on.
    whole, lost = sorted_sum(_ONE, -power_of_two(jnp.maximum(-n, -126)))
    high, rest = sorted_sum(whole, r)
    return sorted_sum(high, add(add(rest, lost), low)), n


def expm1(x: jax.Array) -> jax.Array:
    """e**x - 1, of x itself where x is so small that the next term is lost; keeps the sign of zero."""
    (value, _), n = expm1_pair(held(x, _EXPM1_RANGE))
    value = scaled(value, n)
    is_small = jnp.abs(x) < np.float32(2.0**-25)
    return jnp.where(is_small, x, value)
