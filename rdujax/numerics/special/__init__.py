"""The special functions of the machine: for BF16 a correctly rounded table, for FP32 an algorithm of exact steps (N10).

`SPECIAL` maps a name to its `SpecialFunction`. Both forms take a float32 carrier of any shape and give a carrier of
the same shape and format: denormals are read as zeros of their sign, NaN gives the one NaN 0x7FC00000, results below
2**-126 are zeros of their sign (N2, N3). The bits are the same in eager, jit, vmap and scan, for every length and for
constants. Forward- and reverse-mode derivatives of any order are analytic (`derivatives.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rdujax.numerics import arithmetic, tables
from rdujax.numerics.bits import INF_BITS, QNAN_BITS, as_carriers, flush_bits, from_bits, magnitude, one_nan, to_bits
from rdujax.numerics.special import (
    angle,
    circular,
    exponential,
    hyperbolic,
    inverse_normal,
    logarithm,
    logistic,
    normal,
)
from rdujax.numerics.special.derivatives import DERIVATIVES
from rdujax.numerics.special.steps import ONE_BITS

Elementwise = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class SpecialFunction:
    """One function of one operand, in both formats.

    bound_ulp is the largest error of the FP32 form in units in the last place of the exact result, over every float32
    whose result is in the normal range; the BF16 form is correctly rounded, so its error is half a BF16 ulp.
    """

    name: str
    bf16: Elementwise
    fp32: Elementwise
    bound_ulp: float
    domain: str
    doc: str


def _public(name: str, core: Elementwise, suffix: str) -> Elementwise:
    """`core` as a named function that checks its operand and has the derivative of that name."""
    derivative = DERIVATIVES[name]
    differentiable = jax.custom_jvp(core)

    @differentiable.defjvp
    def _(primals, tangents):
        return differentiable(*primals), tangents[0] * derivative(primals[0])

    def function(x: jax.Array) -> jax.Array:
        return differentiable(*as_carriers(name, x))

    function.__name__ = function.__qualname__ = f"{name}_{suffix}"
    return jax.jit(function)


def _table(name: str) -> Elementwise:
    return _public(name, lambda x: tables.look_up(name, x), "bf16")


def _algorithm(name: str, steps: Elementwise) -> Elementwise:
    """`steps`, which need not care for denormals and NaN, made into a function of any float32."""

    def core(x: jax.Array) -> jax.Array:
        bits = to_bits(x)
        is_nan = magnitude(bits) > INF_BITS
        result = steps(from_bits(jnp.where(is_nan, ONE_BITS, flush_bits(bits))))
        return from_bits(jnp.where(is_nan, QNAN_BITS, one_nan(to_bits(result))))

    return _public(name, core, "fp32")


def _member(name: str, fp32: Elementwise, bound_ulp: float, domain: str, doc: str) -> SpecialFunction:
    return SpecialFunction(name, _table(name), fp32, bound_ulp, domain, doc)


def _composed(name: str, steps: Elementwise, bound_ulp: float, domain: str) -> SpecialFunction:
    return _member(name, _algorithm(name, steps), bound_ulp, domain, steps.__doc__ or "")


_ALL = "all numbers"
_INSIDE = "-1 to 1; NaN beyond"
_FINITE = "finite x, however large; NaN at the infinities"

SPECIAL: dict[str, SpecialFunction] = {
    function.name: function
    for function in (
        _composed("exp", exponential.exp, 0.9, _ALL),
        _composed("exp2", exponential.exp2, 0.83, _ALL),
        _composed("expm1", exponential.expm1, 0.88, _ALL),
        _composed("log", logarithm.log, 0.66, "x >= 0; NaN below"),
        _composed("log1p", logarithm.log1p, 0.67, "x >= -1; NaN below"),
        _composed("sigmoid", logistic.sigmoid, 2.5, _ALL),
        _composed("silu", logistic.silu, 0.63, _ALL),
        _composed("tanh", logistic.tanh, 0.75, _ALL),
        _composed("erf", normal.erf, 0.7, _ALL),
        _composed("erfc", normal.erfc, 0.69, _ALL),
        _composed("erf_inv", inverse_normal.erf_inv, 0.69, _INSIDE),
        _composed("gelu", normal.gelu, 0.63, _ALL),
        _composed("sin", circular.sin, 0.78, _FINITE),
        _composed("cos", circular.cos, 0.78, _FINITE),
        _composed("tan", circular.tan, 0.93, _FINITE),
        _composed("asin", angle.asin, 0.51, _INSIDE),
        _composed("acos", angle.acos, 0.51, _INSIDE),
        _composed("atan", angle.atan, 0.51, _ALL),
        _composed("sinh", hyperbolic.sinh, 0.82, _ALL),
        _composed("cosh", hyperbolic.cosh, 0.6, _ALL),
        _composed("asinh", hyperbolic.asinh, 1.55, _ALL),
        _composed("acosh", hyperbolic.acosh, 2.15, "x >= 1; NaN below"),
        _composed("atanh", hyperbolic.atanh, 0.56, _INSIDE),
        _composed("cbrt", hyperbolic.cbrt, 0.6, _ALL),
        _member("sqrt", arithmetic.sqrt, 0.5, "x >= -0; NaN below", "Square root: one result (N5)."),
        _member("rsqrt", arithmetic.rsqrt, 1.5, "x >= -0; NaN below", "1 / sqrt(x): two results (N5)."),
        _member("reciprocal", arithmetic.reciprocal, 0.5, _ALL, "1 / x: one result (N5)."),
    )
}
