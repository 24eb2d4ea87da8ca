"""FP32 log and log1p.

x = 2**n * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), and log(1 + f) = f - f**2 / 2 + f**3 * P(f). The large parts,
n times the upper bits of ln 2 and f, are added exactly.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.bits import from_bits, to_bits
from rdujax.numerics.special.steps import (
    MANTISSA_BITS,
    add,
    exact_square,
    horner,
    mul,
    power_of_two,
    sorted_sum,
    sub,
)

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
# ln 2 in two parts: the first has 15 bits, so that n times it is exact.
LN2_HIGH = np.float32(0.69314575195312500)
LN2_LOW = np.float32(0.693147180559945309 - 0.69314575195312500)
# (log(1 + f) - f + f**2 / 2) / f**3 for sqrt(1/2) - 1 <= f <= sqrt(2) - 1; the error is below 2**-30 of log(1 + f).
_TAIL = tuple(
    map(
        np.float32,
        (0.3333331, -0.24999984, 0.20002253, -0.16669449, 0.14217867, -0.12379996, 0.11876512, -0.11819905, 0.06942296),
    )
)
# 1 / (1 + f) on the same range, to 1 %: it only weighs what was lost in rounding 1 + x.
_INVERSE = tuple(map(np.float32, (1.0017675, -1.0895427, 0.9722731)))


def decomposed(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(n, f) with x = 2**n * (1 + f) for positive normal x; n as int32, f exact."""
    above = to_bits(x) - _SQRT_HALF_BITS
    n = above >> MANTISSA_BITS
    return n, sub(from_bits(to_bits(x) - (n << MANTISSA_BITS)), _ONE)


def _assembled(n: jax.Array, f: jax.Array, lost: jax.Array | None) -> jax.Array:
    """n ln 2 + log(1 + f) + lost."""
    count = n.astype(jnp.float32)
    high, rest = sorted_sum(mul(count, LN2_HIGH), f)
    square, square_low = exact_square(f)
    tail = sub(mul(mul(f, square), horner(f, _TAIL)), mul(_HALF, square_low))
    small = add(rest, add(tail, mul(count, LN2_LOW)))
    if lost is not None:
        small = add(small, lost)
    high, rest = sorted_sum(high, mul(np.float32(-0.5), square))
    return add(high, add(rest, small))


def log(x: jax.Array) -> jax.Array:
    """Natural logarithm: -inf for zeros, NaN for negative numbers."""
    n, f = decomposed(x)
    return _outside_domain(x, _assembled(n, f, None))


def log1p(x: jax.Array) -> jax.Array:
    """log(1 + x): -inf for -1, NaN below; x itself where it is so small that the next term is lost."""
    total = add(_ONE, x)
    n, f = decomposed(total)
    # What the sum lost: exact, each difference is between numbers within a factor of two or has x or 1 as its result.
    lost = jnp.where(x < _ONE, sub(x, sub(total, _ONE)), sub(_ONE, sub(total, x)))
    weight = mul(power_of_two(-jnp.minimum(n, 126)), horner(f, _INVERSE))
    near_one = n == 0
    f = jnp.where(near_one, x, f)
    lost = jnp.where(near_one, np.float32(0.0), mul(lost, weight))
    is_small = jnp.abs(x) < np.float32(2.0**-25)
    return jnp.where(is_small, x, _outside_domain(total, _assembled(n, f, lost)))


def _outside_domain(x: jax.Array, value: jax.Array) -> jax.Array:
    """The logarithm of zero, negative numbers and infinity put in; NaN is left to the caller."""
    value = jnp.where(x == np.float32(np.inf), x, value)
    value = jnp.where(x == np.float32(0.0), np.float32(-np.inf), value)
    return jnp.where(x < np.float32(0.0), np.float32(np.nan), value)
