"""The analytic derivatives of the special functions.

One per function, for its BF16 table and its FP32 algorithm alike: the derivative of the real function at the carrier's
value, in plain float32 JAX, so that it can be differentiated again. Derivatives are no results of the machine and are
not promised bit by bit. They are finite wherever the real derivative is, at the infinities included (except for sin
and cos, which have no limit there); where it is infinite (sqrt at 0, log at 0) they are infinite as well.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from rdujax.base.registry import Registry

_LN2 = 0.6931471805599453
_TWO_OVER_SQRT_PI = 1.1283791670955126
_ONE_OVER_SQRT_2_PI = 0.3989422804014327

DERIVATIVES: Registry[Callable[[jax.Array], jax.Array]] = Registry("derivative of a special function")

DERIVATIVES.add("exp", jnp.exp)
DERIVATIVES.add("exp2", lambda x: _LN2 * jnp.exp2(x))
DERIVATIVES.add("expm1", jnp.exp)
DERIVATIVES.add("log", lambda x: 1.0 / x)
DERIVATIVES.add("log1p", lambda x: 1.0 / (1.0 + x))
DERIVATIVES.add("sqrt", lambda x: 0.5 * jax.lax.rsqrt(x))
DERIVATIVES.add("rsqrt", lambda x: -0.5 * jax.lax.rsqrt(x) / x)
DERIVATIVES.add("sin", jnp.cos)
DERIVATIVES.add("cos", lambda x: -jnp.sin(x))
DERIVATIVES.add("tan", lambda x: 1.0 + jnp.square(jnp.tan(x)))
DERIVATIVES.add("sinh", jnp.cosh)
DERIVATIVES.add("cosh", jnp.sinh)
DERIVATIVES.add("asin", lambda x: jax.lax.rsqrt((1.0 - x) * (1.0 + x)))
DERIVATIVES.add("acos", lambda x: -jax.lax.rsqrt((1.0 - x) * (1.0 + x)))
DERIVATIVES.add("atan", lambda x: 1.0 / (1.0 + x * x))
DERIVATIVES.add("asinh", lambda x: jax.lax.rsqrt(1.0 + x * x))
DERIVATIVES.add("acosh", lambda x: jax.lax.rsqrt(x - 1.0) * jax.lax.rsqrt(x + 1.0))
DERIVATIVES.add("atanh", lambda x: 1.0 / ((1.0 - x) * (1.0 + x)))
DERIVATIVES.add("cbrt", lambda x: 1.0 / (3.0 * jnp.square(jnp.cbrt(x))))
DERIVATIVES.add("erf", lambda x: _TWO_OVER_SQRT_PI * jnp.exp(-x * x))
DERIVATIVES.add("erf_inv", lambda x: jnp.exp(jnp.square(jax.lax.erf_inv(x))) / _TWO_OVER_SQRT_PI)
DERIVATIVES.add("erfc", lambda x: -_TWO_OVER_SQRT_PI * jnp.exp(-x * x))


@DERIVATIVES.register("reciprocal")
def _reciprocal(x: jax.Array) -> jax.Array:
    inverse = 1.0 / x
    return -inverse * inverse


@DERIVATIVES.register("sigmoid")
def _sigmoid(x: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(x) * jax.nn.sigmoid(-x)


@DERIVATIVES.register("tanh")
def _tanh(x: jax.Array) -> jax.Array:
    # 1 - tanh**2 would cancel where tanh is near one.
    return 4.0 * _sigmoid(2.0 * x)


@DERIVATIVES.register("silu")
def _silu(x: jax.Array) -> jax.Array:
    x = jnp.clip(x, -100.0, 100.0)  # beyond, it is 0 or 1; an infinity would meet a zero
    return jax.nn.sigmoid(x) * (1.0 + x * jax.nn.sigmoid(-x))


@DERIVATIVES.register("gelu")
def _gelu(x: jax.Array) -> jax.Array:
    x = jnp.clip(x, -15.0, 15.0)  # beyond, it is 0 or 1; an infinity would meet a zero
    return ndtr(x) + _ONE_OVER_SQRT_2_PI * x * jnp.exp(-0.5 * x * x)
