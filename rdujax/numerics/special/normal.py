"""FP32 erf, erfc and gelu, all from one tail function: exp(-s a**2 / 2) * w(a), a = |x|.

w is smooth and slow (erfc itself falls through the whole exponent range); it is read from a small table of Taylor
coefficients, eight rows per unit of a. The square and the exponential are pairs, so the tail is good to a small part of
an ulp wherever it is a normal number.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.special import exact
from rdujax.numerics.special.exponential import exp_pair
from rdujax.numerics.special.steps import (
    Pair,
    add,
    exact_product,
    exact_square,
    horner,
    magnitude_of,
    mul,
    nearest,
    normalized,
    pair_product,
    scaled,
    sorted_sum,
    sub,
    with_sign_of,
)

_ROWS_PER_UNIT = 8
_TERMS = 7
# The last row's centre; from somewhat before it, the function is below 2**-126.
_ERFC_ROWS = 10 * _ROWS_PER_UNIT + 1
_GELU_ROWS = 13 * _ROWS_PER_UNIT + 4
_ERFC_LIMIT = np.float32((_ERFC_ROWS - 1) / _ROWS_PER_UNIT)
_GELU_LIMIT = np.float32((_GELU_ROWS - 1) / _ROWS_PER_UNIT)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
# erf(x) / x - 1 in x**2 for |x| <= 1/2; the error is below 2**-29.1 of erf.
_ERF_SMALL = np.float32(0.5)
ERF = tuple(map(np.float32, (0.12837917, -0.3761261, 0.112828486, -0.026757954, 0.0047182157)))


def _tail(a: jax.Array, steepness: int, rows: int) -> tuple[Pair, jax.Array]:
    """((high, low), n): (high + low) * 2**n is erfc(a) for steepness 2, half of erfc(a / sqrt 2) for steepness 1."""
    row, index = nearest(mul(a, np.float32(_ROWS_PER_UNIT)))
    offset = sub(a, mul(row, np.float32(1.0 / _ROWS_PER_UNIT)))
    table = exact.normal_tail(steepness, rows, _ROWS_PER_UNIT, _TERMS)
    constant, *higher, lost = (jnp.asarray(line).at[index].get(mode="promise_in_bounds") for line in table)
    smooth = sorted_sum(constant, add(mul(offset, horner(offset, higher)), lost))

    half = np.float32(steepness / 2)
    square, square_low = exact_square(a)
    (high, low), n = exp_pair(-mul(half, square))
    falling = high, sub(low, mul(high, mul(half, square_low)))
    return pair_product(falling, smooth), n


def _complement(whole: np.float32, part: Pair, n: jax.Array) -> Pair:
    """whole - part * 2**n, for whole at least as large."""
    high, rest = sorted_sum(whole, -scaled(part[0], n))
    return high, sub(rest, scaled(part[1], n))


def erfc_pair(a: jax.Array) -> tuple[Pair, jax.Array]:
    """((high, low), n) with erfc(a) = (high + low) * 2**n, for 0 <= a up to where it is below 2**-126."""
    return _tail(jnp.minimum(a, _ERFC_LIMIT), 2, _ERFC_ROWS)


def erfc(x: jax.Array) -> jax.Array:
    """1 - erf(x), exact in its far tail as well: zero only where it is below 2**-126."""
    part, n = erfc_pair(magnitude_of(x))
    return jnp.where(x < _ZERO, add(*_complement(np.float32(2.0), part, n)), scaled(add(*part), n))


def erf(x: jax.Array) -> jax.Array:
    """The error function: an odd polynomial up to 1/2, 1 - erfc beyond. Keeps the sign of zero."""
    part, n = erfc_pair(magnitude_of(x))
    large = with_sign_of(add(*_complement(_ONE, part, n)), x)
    # The factor x is applied without its exponent, so that nothing underflows on the way.
    m, shift = normalized(x)
    small = scaled(add(m, mul(m, horner(mul(x, x), ERF))), shift)
    return jnp.where(magnitude_of(x) < _ERF_SMALL, small, large)


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution function of x (the erf form); minus zero at minus infinity."""
    (high, low), n = _tail(jnp.minimum(magnitude_of(x), _GELU_LIMIT), 1, _GELU_ROWS)
    right, right_low = _complement(_ONE, (high, low), n)
    is_negative = x < _ZERO
    m, shift = normalized(x)
    gate, gate_low = jnp.where(is_negative, high, right), jnp.where(is_negative, low, right_low)
    product, product_low = exact_product(m, gate)
    value = scaled(add(product, add(product_low, mul(m, gate_low))), shift + jnp.where(is_negative, n, 0))
    return jnp.where(x < -_GELU_LIMIT, -_ZERO, value)
