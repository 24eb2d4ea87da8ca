"""FP32 sinh, cosh and their inverses, and the cube root: sums of pairs of exponentials, logarithms of pairs."""

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics import arithmetic, registers
from rdujax.numerics.special.exponential import exp_pair
from rdujax.numerics.special.logarithm import log1p
from rdujax.numerics.special.power import exp_of_pair, log_pair
from rdujax.numerics.special.steps import (
    Pair,
    add,
    exact_product,
    exact_sum,
    horner,
    magnitude_of,
    mul,
    power_of_two,
    scaled,
    sorted_sum,
    sub,
    with_sign_of,
)

_ONE, _ZERO, _HALF = np.float32(1.0), np.float32(0.0), np.float32(0.5)
_INF, _NAN = np.float32(np.inf), np.float32(np.nan)
_LIMIT = np.float32(91.0)  # beyond, sinh and cosh are infinite
_LARGE = np.float32(2.0**28)  # beyond, the root of x**2 +- 1 is x
_LN2 = (np.float32(0.6931471824645996), np.float32(-1.904654212e-09))
# (sinh x - x) / x**3 in x**2 up to 1: the series, whose next term is below 2**-32.
_SINH = tuple(map(np.float32, (1 / 6, 1 / 120, 1 / 5040, 1 / 362880, 1 / 39916800)))
# (atanh x - x) / x**3 in x**2 up to 1/4: the series, whose next term is below 2**-34.
_ATANH = tuple(map(np.float32, (1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13, 1 / 15)))
_QUARTER = np.float32(0.25)
_SMALL = np.float32(2.0**-12)
_THIRD = (np.float32(0.3333333432674408), np.float32(-9.934107e-09))


def _both(a: jax.Array, sign: np.float32) -> jax.Array:
    """(e**a + sign * e**-a) / 2 for a >= 0."""
    a = jnp.minimum(a, _LIMIT)
    (high, low), n = exp_pair(a)
    (small, small_low), m = exp_pair(-a)
    unit = mul(sign, power_of_two(jnp.maximum(m - n, -120)))
    total, rest = exact_sum(high, mul(small, unit))
    return scaled(add(total, add(rest, add(low, mul(small_low, unit)))), n - 1)


def sinh(x: jax.Array) -> jax.Array:
    """Half of e**x - e**-x; x itself where it is small. Keeps the sign of zero."""
    size = magnitude_of(x)
    inside = jnp.clip(size, _SMALL, _ONE)
    square = mul(inside, inside)
    middle = add(inside, mul(mul(inside, square), horner(square, _SINH)))
    value = with_sign_of(jnp.where(size < _ONE, middle, _both(jnp.maximum(size, _ONE), np.float32(-1.0))), x)
    return jnp.where(size < _SMALL, x, value)


def cosh(x: jax.Array) -> jax.Array:
    """Half of e**x + e**-x."""
    return _both(magnitude_of(x), _ONE)


def _far(x: jax.Array) -> jax.Array:
    """log(2 x) for x > 0; an infinity stays."""
    high, low = log_pair(jnp.where(x < _INF, x, _ONE))
    total, rest = exact_sum(high, _LN2[0])
    return jnp.where(x < _INF, add(total, add(rest, add(low, _LN2[1]))), _INF)


def asinh(x: jax.Array) -> jax.Array:
    """log(x + sqrt(x**2 + 1)) as log1p(x + x**2 / (1 + sqrt(x**2 + 1))) of |x|. Keeps the sign of zero."""
    size = magnitude_of(x)
    inside = jnp.clip(size, _SMALL, _LARGE)
    square = mul(inside, inside)
    root = add(_ONE, registers.sqrt(add(square, _ONE)))
    near = log1p(add(inside, registers.div(square, root)))
    value = jnp.where(size > _LARGE, _far(jnp.maximum(size, _ONE)), near)
    return jnp.where(size < _SMALL, x, with_sign_of(value, x))


def acosh(x: jax.Array) -> jax.Array:
    """log(x + sqrt(x**2 - 1)) as log1p(t + sqrt(2 t + t**2)) with t = x - 1; NaN below 1."""
    inside = jnp.clip(x, _ONE, _LARGE)
    t = sub(inside, _ONE)
    near = log1p(add(t, registers.sqrt(mul(t, add(t, np.float32(2.0))))))
    value = jnp.where(x > _LARGE, _far(jnp.maximum(x, _ONE)), near)
    return jnp.where(x < _ONE, _NAN, value)


def atanh(x: jax.Array) -> jax.Array:
    """Half of log((1 + x) / (1 - x)): infinities at -1 and 1, NaN beyond. Keeps the sign of zero."""
    size = magnitude_of(x)
    small = jnp.clip(size, _SMALL, _QUARTER)
    square = mul(small, small)
    near = add(small, mul(mul(small, square), horner(square, _ATANH)))
    far = _log_quotient(jnp.where(size < _ONE, jnp.maximum(size, _QUARTER), _HALF))
    value = jnp.where(size < _QUARTER, near, jnp.where(size < _ONE, far, _INF))
    return jnp.where(size > _ONE, _NAN, jnp.where(size < _SMALL, x, with_sign_of(value, x)))


def _log_quotient(x: jax.Array) -> jax.Array:
    """Half of log((1 + x) / (1 - x)) for 1/4 <= x < 1: of the rounded quotient, and what it lost."""
    (top, top_low), (bottom, bottom_low) = sorted_sum(_ONE, x), sorted_sum(_ONE, -x)
    quotient = registers.div(top, bottom)
    product, low = exact_product(quotient, bottom)
    lost = add(sub(sub(top, product), low), sub(top_low, mul(quotient, bottom_low)))
    high, rest = log_pair(quotient)
    return mul(_HALF, add(high, add(rest, mul(lost, arithmetic.reciprocal(top)))))


def cbrt(x: jax.Array) -> jax.Array:
    """The cube root, e**(log|x| / 3) with the sign of x; zeros and infinities stay."""
    size = magnitude_of(x)
    ordinary = (size > _ZERO) & (size < _INF)
    high, low = log_pair(jnp.where(ordinary, size, _ONE))
    third = exact_product(high, jnp.full_like(high, _THIRD[0]))
    third = _sum(third, add(mul(low, _THIRD[0]), mul(high, _THIRD[1])))
    return jnp.where(ordinary, with_sign_of(exp_of_pair(third), x), x)


def _sum(x: Pair, y: jax.Array) -> Pair:
    return x[0], add(x[1], y)
