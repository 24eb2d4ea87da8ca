"""FP32 atan, asin, acos and atan2: one angle of a quotient of pairs, y / x.

The smaller is divided by the larger: t = y / x <= 1, c = t to a sixteenth, and atan t = atan c + atan r with
r = (y - c x) / (x + c y), |r| <= 1/32, from a table of pairs and a short series. Beyond the diagonal it is pi/2 less
that, left of it pi less that.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics import arithmetic, registers
from rdujax.numerics.bits import INF_BITS, QNAN_BITS, from_bits, magnitude, one_nan, to_bits
from rdujax.numerics.special import exact
from rdujax.numerics.special.steps import (
    Pair,
    add,
    exact_product,
    exact_sum,
    horner,
    magnitude_of,
    mul,
    nearest,
    normalized,
    power_of_two,
    quotient_pair,
    sorted_sum,
    sub,
    with_sign_of,
)

_ONE, _ZERO, _HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)
_INF, _NAN = np.float32(np.inf), np.float32(np.nan)
_STEPS = 16
# (atan r / r - 1) / r**2 in r**2; the next term is below 2**-42.
_SERIES = tuple(map(np.float32, (-1 / 3, 1 / 5, -1 / 7)))
_HALF_PI = (np.float32(1.5707963705062866), np.float32(-4.3711388286737929e-08))
_PI = (np.float32(3.1415927410125732), np.float32(-8.7422776573475858e-08))
# Up to here the angle is its tangent, and its sine, to a third of an ulp.
_SMALL = np.float32(2.0**-12)


def _less(whole: tuple[np.float32, np.float32], part: Pair) -> Pair:
    """whole - part, for whole at least as large."""
    high, rest = sorted_sum(whole[0], -part[0])
    return sorted_sum(high, add(rest, sub(whole[1], part[1])))


def _angle(y: Pair, x: Pair, left: jax.Array) -> jax.Array:
    """The angle of the point (x, y), of (-x, y) where `left`; both not negative, not both zero, not far from one."""
    steep = y[0] > x[0]
    small = tuple(jnp.where(steep, a, b) for a, b in zip(x, y, strict=True))
    large = tuple(jnp.where(steep, a, b) for a, b in zip(y, x, strict=True))
    whole, row = nearest(mul(mul(small[0], arithmetic.reciprocal(large[0])), np.float32(_STEPS)))
    c = mul(whole, np.float32(1 / _STEPS))
    product, product_low = exact_product(large[0], c)
    top, lost = exact_sum(small[0], -product)
    top, top_low = exact_sum(top, add(lost, sub(sub(small[1], product_low), mul(c, large[1]))))
    product, product_low = exact_product(small[0], c)
    bottom, lost = sorted_sum(large[0], product)
    bottom_low = add(lost, add(product_low, add(large[1], mul(c, small[1]))))
    r, r_low = sorted_sum(*quotient_pair((top, top_low), (bottom, bottom_low), arithmetic.reciprocal(bottom)))
    square = mul(r, r)
    bend = mul(mul(r, square), horner(square, _SERIES))
    angle, angle_low = (jnp.asarray(line).at[row].get(mode="promise_in_bounds") for line in exact.angles(_STEPS))
    high, rest = sorted_sum(angle, r)
    high, low = sorted_sum(high, add(rest, add(angle_low, add(bend, r_low))))
    for turned, limit in ((steep, _HALF_PI), (left, _PI)):
        other = _less(limit, (high, low))
        high, low = (jnp.where(turned, a, b) for a, b in zip(other, (high, low), strict=True))
    return add(high, low)


def _single(x: jax.Array) -> Pair:
    return x, jnp.zeros_like(x)


def _other_side(x: jax.Array) -> Pair:
    """sqrt((1 - x)(1 + x)) as a pair, for 0 <= x <= 1."""
    a, a_low = sorted_sum(_ONE, -x)
    b, b_low = sorted_sum(_ONE, x)
    product, low = exact_product(a, b)
    low = add(low, add(mul(a, b_low), mul(a_low, b)))
    root = registers.sqrt(product)
    square, square_low = exact_product(root, root)
    rest = add(sub(sub(product, square), square_low), low)
    half = mul(_HALF, arithmetic.reciprocal(jnp.where(root == _ZERO, _ONE, root)))
    return root, mul(rest, half)


def atan(x: jax.Array) -> jax.Array:
    """The angle whose tangent is x, -pi/2 to pi/2; x itself where it is small. Keeps the sign of zero."""
    size = jnp.clip(magnitude_of(x), _SMALL, np.float32(2.0**30))
    value = _angle(_single(size), _single(jnp.ones_like(x)), jnp.zeros_like(x, bool))
    return jnp.where(magnitude_of(x) < _SMALL, x, with_sign_of(value, x))


def asin(x: jax.Array) -> jax.Array:
    """The angle whose sine is x, -pi/2 to pi/2; NaN beyond 1. Keeps the sign of zero."""
    size = magnitude_of(x)
    inside = jnp.clip(size, _SMALL, _ONE)
    value = with_sign_of(_angle(_single(inside), _other_side(inside), jnp.zeros_like(x, bool)), x)
    return jnp.where(size > _ONE, _NAN, jnp.where(size < _SMALL, x, value))


def acos(x: jax.Array) -> jax.Array:
    """The angle whose cosine is x, 0 to pi; NaN beyond 1."""
    size = magnitude_of(x)
    inside = jnp.where(size < np.float32(2.0**-40), _ZERO, jnp.minimum(size, _ONE))
    value = _angle(_other_side(inside), _single(inside), x < _ZERO)
    return jnp.where(size > _ONE, _NAN, value)


@jax.custom_jvp
def atan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """The angle of the point (x, y), -pi to pi, as C's atan2, signs of zeros included. NaN for a NaN operand."""
    is_nan = (magnitude(to_bits(x)) > INF_BITS) | (magnitude(to_bits(y)) > INF_BITS)
    value = _atan2(jnp.where(is_nan, _ONE, y), jnp.where(is_nan, _ONE, x))
    return from_bits(jnp.where(is_nan, QNAN_BITS, one_nan(to_bits(value))))


@atan2.defjvp
def _atan2_jvp(primals: Pair, tangents: Pair) -> Pair:
    """In plain float32, scaled so that no square overflows."""
    (y, x), (dy, dx) = primals, tangents
    size = jnp.maximum(jnp.maximum(jnp.abs(x), jnp.abs(y)), np.float32(2.0**-126))
    u, v = y / size, x / size
    return atan2(y, x), (v * dy - u * dx) / ((u * u + v * v) * size)


def _atan2(y: jax.Array, x: jax.Array) -> jax.Array:
    up, across, left = magnitude_of(y), magnitude_of(x), to_bits(x) < 0
    both = (up == across) & ((up == _ZERO) | (up == _INF))  # of two zeros or infinities: the axis, or the diagonal
    ordinary_up, ordinary = jnp.where(both, _ONE, up), jnp.where(both, _ONE, across)
    (m, n), (k, shift) = normalized(ordinary_up), normalized(ordinary)
    apart = jnp.where(ordinary_up == _INF, 60, jnp.where(ordinary == _INF, -60, n - shift))
    small = np.float32(2.0**-40)  # of anything of the other: less than a part of an ulp of pi/2
    scaled_up = jnp.where(ordinary_up == _ZERO, small, mul(m, power_of_two(jnp.clip(apart, -40, 0))))
    scaled = jnp.where(ordinary == _ZERO, small, mul(k, power_of_two(jnp.clip(-apart, -40, 0))))
    value = _angle(_single(scaled_up), _single(scaled), left)
    flat = ~left & ((apart < -13) | (ordinary_up == _ZERO))
    value = jnp.where(flat, registers.div(ordinary_up, ordinary), value)
    axis = jnp.where(left, _PI[0], _ZERO)
    return with_sign_of(jnp.where(both & (up == _ZERO), axis, value), y)
