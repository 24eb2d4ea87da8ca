"""FP32 inverse of the error function: an estimate, and one step of Newton's on the pairs that erf is made of.

The estimate is x times a polynomial in w = -log((1 - |x|)(1 + |x|)), in w - 5/2 and, for the tails, in sqrt(w) - 3.
Source: M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2010, the single-precision coefficients.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics import registers
from rdujax.numerics.special import exponential, logarithm, normal
from rdujax.numerics.special.steps import (
    add,
    exact_product,
    horner,
    magnitude_of,
    mul,
    normalized,
    scaled,
    sorted_sum,
    sub,
    with_sign_of,
)

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)
# sqrt(pi) / 2 in two parts: erf_inv(x) / x where x is small.
_SLOPE = np.float32(0.8862269520759583)
_SLOPE_LOW = np.float32(0.8862269254527580 - 0.8862269520759583)
_SMALL = np.float32(2.0**-13)
_MIDDLE = np.float32(5.0)
_CENTRE, _TAIL_CENTRE = np.float32(2.5), np.float32(3.0)
_INNER = tuple(
    map(
        np.float32,
        (1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087, -4.39150654e-06, -3.5233877e-06,
         3.43273939e-07, 2.81022636e-08),
    )
)  # fmt: skip
_OUTER = tuple(
    map(
        np.float32,
        (2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773, -0.00367342844, 0.00134934322,
         0.000100950558, -0.000200214257),
    )
)  # fmt: skip


def erf_inv(x: jax.Array) -> jax.Array:
    """The y with erf(y) = x: infinities at -1 and 1, NaN beyond. Keeps the sign of zero."""
    size = magnitude_of(x)
    # Where x is small, its factor is applied without its exponent, so that nothing underflows on the way.
    m, shift = normalized(x)
    product, low = exact_product(m, jnp.full_like(m, _SLOPE))
    small = scaled(add(product, add(low, mul(m, _SLOPE_LOW))), shift)
    inside = jnp.where((size >= _SMALL) & (size < _ONE), size, _HALF)
    y = _estimate(inside)
    step = mul(mul(_residual(y, inside), _SLOPE), exponential.exp(mul(y, y)))
    value = jnp.where(size < _ONE, add(y, step), np.float32(np.inf))
    value = jnp.where(size > _ONE, np.float32(np.nan), with_sign_of(value, x))
    return jnp.where(size < _SMALL, small, value)


def _estimate(x: jax.Array) -> jax.Array:
    """erf_inv of 2**-13 <= x < 1 to 4 ulp."""
    w = -logarithm.log(mul(sub(_ONE, x), add(_ONE, x)))
    middle = horner(sub(w, _CENTRE), _INNER)
    outer = horner(sub(registers.sqrt(w), _TAIL_CENTRE), _OUTER)
    return mul(x, jnp.where(w < _MIDDLE, middle, outer))


def _residual(y: jax.Array, x: jax.Array) -> jax.Array:
    """x - erf(y) for a y near erf_inv(x): of erf itself up to 1/2, of its complement beyond."""
    high, low = sorted_sum(y, mul(y, horner(mul(y, y), normal.ERF)))
    (part, part_low), n = normal.erfc_pair(y)
    beyond = add(sub(scaled(part, n), sub(_ONE, x)), scaled(part_low, n))
    return jnp.where(x < _HALF, sub(sub(x, high), low), beyond)
