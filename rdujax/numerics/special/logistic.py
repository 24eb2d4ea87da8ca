"""FP32 sigmoid, silu and tanh: quotients of exponentials."""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics import arithmetic
from rdujax.numerics.special import exponential
from rdujax.numerics.special.steps import (
    add,
    exact_product,
    exact_sum,
    magnitude_of,
    mul,
    normalized,
    pair_quotient,
    power_of_two,
    scaled,
    sorted_sum,
    with_sign_of,
)

_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
# silu is below 2**-126 in magnitude left of this, and tanh rounds to one right of that.
_SILU_LIMIT = np.float32(104.0)
_TANH_LIMIT = np.float32(10.0)
# Up to here tanh x = x to a third of an ulp.
_TANH_SMALL = np.float32(2.0**-12)


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x)): three results of the machine, exp as `exponential.exp` (N10)."""
    negated = arithmetic.neg(x)
    return arithmetic.div(_ONE, arithmetic.add(_ONE, exponential.exp(negated)))


def silu(x: jax.Array) -> jax.Array:
    """x * sigmoid(x) as one quotient of pairs: x / (1 + E) or x E / (1 + E), where E = exp(-|x|) cannot overflow."""
    m, shift = normalized(x)
    size = jnp.minimum(magnitude_of(x), _SILU_LIMIT)
    (high, low), n = exponential.exp_pair(-size)
    unit = power_of_two(jnp.maximum(n, -100))
    bottom, rest = sorted_sum(_ONE, mul(high, unit))
    divisor = bottom, add(rest, mul(low, unit))
    product, product_low = exact_product(m, high)
    is_negative = x < _ZERO
    dividend = (
        jnp.where(is_negative, product, m),
        jnp.where(is_negative, add(product_low, mul(m, low)), _ZERO),
    )
    ratio = pair_quotient(dividend, divisor, arithmetic.reciprocal(bottom))
    value = scaled(ratio, shift + jnp.where(is_negative, n, 0))
    return jnp.where(x < -_SILU_LIMIT, -_ZERO, value)


def tanh(x: jax.Array) -> jax.Array:
    """(e**2a - 1) / (e**2a + 1) with a = |x| as one quotient of pairs; x itself where it is small."""
    a = jnp.minimum(magnitude_of(x), _TANH_LIMIT)
    (high, low), n = exponential.expm1_pair(add(a, a))
    bottom, rest = exact_sum(high, power_of_two(1 - n))
    divisor = bottom, add(rest, low)
    ratio = pair_quotient((high, low), divisor, arithmetic.reciprocal(bottom))
    return jnp.where(magnitude_of(x) < _TANH_SMALL, x, with_sign_of(ratio, x))
