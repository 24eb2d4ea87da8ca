"""The numbers of prices: exact when given exact numbers, smooth when given JAX values, from one definition (L3).

A price formula is written once with `common`, `ratio`, `ceil_div`, `maximum` and the operators `+ - *`.
On Python integers and Fractions it is exact at any size (terabytes times turns do not overflow or round); on JAX values
it is a float32 expression (float64 on such values, where JAX has them enabled) that `jax.grad`, `jax.vmap` and
`jax.jit` go through. As soon as one operand is a JAX value the result is one: a relaxed number cannot pass for an exact
one (L8).

A Python float is read as the decimal that was written: 0.85 is 17/20, not the nearest binary fraction.
"""

from fractions import Fraction
from math import isfinite
from typing import Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, describe

Exact: TypeAlias = int | Fraction
Relaxed: TypeAlias = jax.Array | np.ndarray
Number: TypeAlias = Exact | float | np.integer | np.floating | Relaxed
Priced: TypeAlias = Any  # an exact number or a jax.Array, as the operands were: formulas add and multiply either

_ALLOWED = "an int, a Fraction, a finite float, or a floating JAX array"


def is_relaxed(x: object) -> TypeGuard[jax.Array]:
    """True for a JAX value (array or tracer) or a NumPy array; such a number is smooth, not exact."""
    return isinstance(x, jax.Array | np.ndarray)


def is_exact(*xs: object) -> bool:
    """True when no operand is a JAX value, so that a formula on them is exact."""
    return not any(is_relaxed(x) for x in xs)


def exact(x: Any, *, where: str = "") -> Exact:
    """`x` as an int, or as a Fraction when it is not whole.

    A float becomes the Fraction of its shortest decimal (0.85 -> 17/20, 1.8e12 -> 1800000000000).
    Raises FormatError for a bool or another type, ArgumentError for NaN and infinities, and ConcretenessError
    for a JAX value: what was relaxed does not become exact by itself.
    """
    if type(x) is int:  # by far the most are: compilers compare thousands of prices
        return x
    if is_relaxed(x):
        raise ConcretenessError(
            describe(
                "a relaxed number where an exact one is needed",
                given=f"a JAX or NumPy array of type {jnp.dtype(x.dtype).name}{list(x.shape)}",
                allowed="an int, a Fraction or a finite float",
                where=where,
                do="price again with the integers that the relaxed value was snapped to",
            )
        )
    if isinstance(x, bool | np.bool_) or not isinstance(x, int | Fraction | float | np.integer | np.floating):
        raise FormatError(describe("not a number", given=f"{x!r} ({type(x).__name__})", allowed=_ALLOWED, where=where))
    if isinstance(x, int | np.integer):
        return int(x)
    if not isinstance(x, Fraction):
        if not isfinite(x):
            raise ArgumentError(describe("not a finite number", given=repr(x), allowed=_ALLOWED, where=where))
        x = Fraction(str(x))
    return x.numerator if x.denominator == 1 else x


def whole(x: Number, *, what: str, where: str = "") -> Priced:
    """`x` as a count that cannot be negative: an exact int, or a floating JAX value as it is.

    Raises ArgumentError for a negative or fractional number; JAX values are not looked at.
    """
    if type(x) is int and x >= 0:
        return x
    if is_relaxed(x):
        return _relaxed(x, _float_type(x), where)
    number = exact(x, where=where or what)
    if not isinstance(number, int) or number < 0:
        raise ArgumentError(
            describe(
                f"{what} must be a whole number, 0 or more",
                given=str(number),
                where=where,
                do="round up with ceil_div before it is charged" if number > 0 else "",
            )
        )
    return number


def common(*xs: Number, where: str = "") -> tuple[Priced, ...]:
    """The operands as one kind: all exact, or all floating JAX values if any of them is one.

    After `a, b = common(a, b)` the operators `+ - *` act on them exactly or smoothly, as the kind says.
    """
    if _are_ints(xs):
        return xs
    if is_exact(*xs):
        return tuple(exact(x, where=where) for x in xs)
    dtype = _float_type(*xs)
    return tuple(_relaxed(x, dtype, where) for x in xs)


def ratio(a: Number, b: Number, *, where: str = "") -> Priced:
    """a / b: exact, or differentiable on JAX values.

    An exact divisor of zero or less raises ArgumentError. A JAX value cannot be looked at while it is traced,
    so there the result is NaN.
    """
    over, under = common(a, b, where=where)
    if is_exact(over):
        return exact(Fraction(over) / _positive(under, where))
    return jnp.where(under > 0, over / under, jnp.nan)


def ceil_div(a: Number, b: Number, *, where: str = "") -> Priced:
    """a / b rounded up: how many turns of b cover a.

    On JAX values the rounding is straight-through: the value is the ceiling (the exact one for whole operands
    below 2**24), the gradient is that of a / b. Divisors of zero or less behave as in `ratio`.
    """
    if type(a) is int and type(b) is int and b > 0:
        return -(-a // b)
    over, under = common(a, b, where=where)
    if is_exact(over):
        return -(-over // _positive(under, where))
    return _ceil_ratio(*jnp.broadcast_arrays(over, under))


def maximum(*xs: Number) -> Priced:
    """The largest operand. On JAX values the gradient goes to it, shared evenly among equals."""
    if _are_ints(xs):
        return max(xs)
    kind = common(*_some(xs, "maximum"))
    return max(kind) if is_exact(*kind) else jnp.max(jnp.stack(jnp.broadcast_arrays(*kind)), axis=0)


def minimum(*xs: Number) -> Priced:
    """The smallest operand. On JAX values the gradient goes to it, shared evenly among equals."""
    if _are_ints(xs):
        return min(xs)
    kind = common(*_some(xs, "minimum"))
    return min(kind) if is_exact(*kind) else jnp.min(jnp.stack(jnp.broadcast_arrays(*kind)), axis=0)


@jax.custom_jvp
def _ceil_ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    up = jnp.ceil(a / b)
    # A compiler may divide by multiplying with a rounded reciprocal; the products below are exact for whole
    # operands, so a quotient that landed on the wrong side of an integer is put back.
    up = jnp.where((up - 1) * b >= a, up - 1, jnp.where(up * b < a, up + 1, up))
    return jnp.where(b > 0, up, jnp.nan)


@_ceil_ratio.defjvp
def _ceil_ratio_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return _ceil_ratio(*primals), jax.jvp(jnp.divide, primals, tangents)[1]


def _are_ints(xs: tuple) -> bool:
    """Whether there are operands and all are plain ints, as most are where a compiler compares thousands of prices."""
    for x in xs:
        if type(x) is not int:
            return False
    return bool(xs)


def _some(xs: tuple, name: str) -> tuple:
    if not xs:
        raise ArgumentError(describe(f"{name} of nothing", allowed="one operand or more"))
    return xs


def _positive(b: Exact, where: str) -> Exact:
    if b <= 0:
        raise ArgumentError(describe("a divisor must be greater than zero", given=str(b), where=where))
    return b


def _float_type(*xs: object) -> np.dtype:
    wide = any(is_relaxed(x) and x.dtype == np.float64 for x in xs)
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64) if wide else np.float32)  # float32 too, without x64


def _relaxed(x: Any, dtype: np.dtype, where: str) -> jax.Array:
    if not is_relaxed(x):
        number = exact(x, where=where)
        if abs(number) > float(jnp.finfo(dtype).max):
            raise ArgumentError(describe(f"a number beyond the range of {dtype.name}", given=str(number), where=where))
        return jnp.asarray(float(number), dtype)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise FormatError(
            describe(
                "a price is exact on Python numbers and smooth on floating arrays, nothing between",
                given=f"an array of type {jnp.dtype(x.dtype).name}",
                allowed=_ALLOWED,
                where=where,
                do="int(x) to price exactly, x.astype(jnp.float32) to relax",
            )
        )
    if isinstance(x, np.ndarray) and (large := np.abs(x[np.isfinite(x)]) > jnp.finfo(dtype).max).any():
        raise ArgumentError(
            describe(f"a number beyond the range of {dtype.name}", given=f"{int(large.sum())} of an array", where=where)
        )
    return jnp.asarray(x, dtype)
