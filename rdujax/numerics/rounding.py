"""Whole numbers of floating values, on the bits alone: exact in FP32, and in BF16 for BF16 values (N5).

    floor, ceil         down, up
    round               to the nearest, ties away from zero
    round_even          to the nearest, ties to even
    is_finite           neither infinite nor NaN
    next_after          the next FP32 number

Zeros, infinities and NaN stay as they are; a result that is zero has the sign of its operand. No derivative: these are
steps. Canonical float32 carriers in and out (is_finite: bool).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.bits import INF_BITS, MIN_NORMAL_BITS, QNAN_BITS, SIGN_BIT, from_bits, magnitude, to_bits

_MANTISSA_BITS = np.int32(23)
_BIAS = np.int32(127)
_ONE_BITS = np.int32(0x3F800000)
_HALF_BITS = np.int32(0x3F000000)

Carry = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Choice = Callable[[jax.Array, jax.Array], jax.Array]


def _rounded(x: jax.Array, carry: Carry, below_one: Choice) -> jax.Array:
    """x without its fraction, `carry` added before.

    carry(bits of |x|, mask of the fraction, x > 0): what is added to the bits. below_one(bits of |x|, x > 0): whether
    a magnitude below one becomes one, or else zero.
    """
    bits = to_bits(jax.lax.stop_gradient(x))
    size, up = magnitude(bits), bits >= 0
    exponent = (size >> _MANTISSA_BITS) - _BIAS
    unit = np.int32(1) << (_MANTISSA_BITS - jnp.clip(exponent, 0, _MANTISSA_BITS))  # one, in the last places
    fraction = unit - 1
    above = (size + carry(size, fraction, up)) & ~fraction
    below = jnp.where(below_one(size, up), _ONE_BITS, np.int32(0))
    whole = jnp.where(exponent < 0, below, above)
    # Infinity and NaN have no fraction and pass as they are.
    return from_bits(jnp.where(exponent >= _MANTISSA_BITS, size, whole) | (bits & SIGN_BIT))


def floor(x: jax.Array) -> jax.Array:
    """The largest whole number that is not above x."""
    return _rounded(x, lambda _, fraction, up: jnp.where(up, 0, fraction), lambda size, up: ~up & (size > 0))


def ceil(x: jax.Array) -> jax.Array:
    """The smallest whole number that is not below x."""
    return _rounded(x, lambda _, fraction, up: jnp.where(up, fraction, 0), lambda size, up: up & (size > 0))


def round_away(x: jax.Array) -> jax.Array:
    """The nearest whole number; of two, the one farther from zero."""
    return _rounded(x, lambda _, fraction, up: (fraction + 1) >> 1, lambda size, _: size >= _HALF_BITS)


def round_even(x: jax.Array) -> jax.Array:
    """The nearest whole number; of two, the even one."""

    def carry(size: jax.Array, fraction: jax.Array, up: jax.Array) -> jax.Array:
        odd = (size & (fraction + 1)) != 0
        # Of one, whose leading bit is not written, the last place is the exponent's, which is odd for it.
        return jnp.where(fraction == 0, 0, (fraction >> 1) + jnp.where(odd, 1, 0))

    return _rounded(x, carry, lambda size, _: size > _HALF_BITS)


def next_after(x: jax.Array, y: jax.Array) -> jax.Array:
    """The FP32 number next to x on the way to y, y where they are equal: from zero to 2**-126, the smallest."""
    bits, target = to_bits(jax.lax.stop_gradient(x)), to_bits(jax.lax.stop_gradient(y))
    size = magnitude(bits)
    outwards = (y > x) == (bits >= 0)
    moved = size + jnp.where(outwards, np.int32(1), np.int32(-1))
    moved = jnp.where(moved < MIN_NORMAL_BITS, np.int32(0), moved) | (bits & SIGN_BIT)
    moved = jnp.where(size == 0, MIN_NORMAL_BITS | (target & SIGN_BIT), moved)
    nan = jnp.maximum(size, magnitude(target)) > INF_BITS
    return from_bits(jnp.where(nan, QNAN_BITS, jnp.where(x == y, target, moved)))


def is_finite(x: jax.Array) -> jax.Array:
    """Whether x is neither infinite nor NaN."""
    return magnitude(to_bits(jax.lax.stop_gradient(x))) < INF_BITS
