"""The BF16 special functions: one correctly rounded table of 65536 words each (N10).

A BF16 value has 16 bits, so a function of one such value *is* a table. Each word is the exact result rounded
once to nearest, ties to even, as if the exponent were unbounded; then magnitudes below 2**-126 become a zero of
their sign, magnitudes above the largest finite number an infinity, and every NaN is 0x7FC0 (N3). Inputs whose
exponent field is 0 are read as zeros of their sign (N2).

The values come from float64 functions. No result lies closer to a rounding boundary than 2**-29 of itself, so a
float64 function that is good to a few units in 2**-53 decides every rounding rightly; the tests check all words
against a multiple-precision library.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.registry import Registry
from rdujax.numerics.bits import from_bits, to_bits

BF16_QNAN = np.uint16(0x7FC0)
ENTRIES = 1 << 16

# float64 keeps 52 mantissa bits and BF16 seven.
_DROPPED_BITS = np.uint64(45)
_HALF_LESS_ONE = np.uint64((1 << 44) - 1)
_ONE = np.uint64(1)

Float64Function = Callable[[np.ndarray], np.ndarray]
EXACT: Registry[Float64Function] = Registry(
    "BF16 table", do="a new table is one float64 function registered in rdujax/numerics/tables.py"
)

for _ufunc in (np.exp, np.exp2, np.expm1, np.log, np.log1p, np.reciprocal, np.sqrt, np.cbrt):
    EXACT.add(_ufunc.__name__, _ufunc)
for _ufunc in (np.sin, np.cos, np.tan, np.sinh, np.cosh, np.tanh):
    EXACT.add(_ufunc.__name__, _ufunc)
for _ufunc in (np.arcsin, np.arccos, np.arctan, np.arcsinh, np.arccosh, np.arctanh):
    EXACT.add(_ufunc.__name__.replace("arc", "a"), _ufunc)


@EXACT.register("rsqrt")
def _rsqrt(x: np.ndarray) -> np.ndarray:
    return 1.0 / np.sqrt(x)


@EXACT.register("sigmoid")
def _sigmoid(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(x)


@EXACT.register("silu")
def _silu(x: np.ndarray) -> np.ndarray:
    return _gated(x, _sigmoid(x))


@EXACT.register("gelu")
def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return _gated(x, ndtr(x))


@EXACT.register("erf")
def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


@EXACT.register("erfc")
def _erfc(x: np.ndarray) -> np.ndarray:
    from scipy.special import erfc

    return erfc(x)


@EXACT.register("erf_inv")
def _erf_inv(x: np.ndarray) -> np.ndarray:
    from scipy.special import erfinv

    return np.where(x == 0, x, erfinv(x))  # SciPy loses the sign of zero


def _gated(x: np.ndarray, gate: np.ndarray) -> np.ndarray:
    """x * gate, and its limit -0 at minus infinity, where the plain product would be NaN."""
    return np.where(np.isneginf(x), -0.0, x * gate)


def every_bf16() -> np.ndarray:
    """The float64 values of all 65536 BF16 words in order, denormals read as zeros of their sign (N2)."""
    words = np.arange(ENTRIES, dtype=np.uint32)
    words = np.where((words & 0x7F80) == 0, words & 0x8000, words)
    return (words << np.uint32(16)).astype(np.uint32).view(np.float32).astype(np.float64)


def round_to_words(values: np.ndarray) -> np.ndarray:
    """Rounds float64 values once to BF16 words (uint16, same shape), as N3 says.

    The rounding is one integer addition on the float64 word; a cast by way of float32 would round twice.
    """
    values = np.ascontiguousarray(values, np.float64)
    bits = values.view(np.uint64)
    odd = (bits >> _DROPPED_BITS) & _ONE
    kept = ((bits + _HALF_LESS_ONE + odd) >> _DROPPED_BITS) << _DROPPED_BITS
    size = np.abs(np.where(np.isfinite(values), kept, bits).view(np.float64))
    size = np.where(size < 2.0**-126, 0.0, np.where(size >= 2.0**128, np.inf, size))
    words = (size.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    signs = np.signbit(values).astype(np.uint16) << np.uint16(15)
    return np.where(np.isnan(values), BF16_QNAN, words | signs)


@functools.cache
def words(name: str) -> np.ndarray:
    """The table of one function: uint16[65536], read-only, indexed by the input word. Built on first use.

    Raises UnknownNameError for a name that has no table.
    """
    with np.errstate(all="ignore"):
        table = round_to_words(EXACT[name](every_bf16()))
    table.flags.writeable = False
    return table


def look_up(name: str, x: jax.Array) -> jax.Array:
    """The function `name` of BF16 carriers `x` (float32, any shape) as BF16 carriers of the same shape.

    The index is the upper half of the carrier's bits, so it is in bounds by construction. Zero gradient: the
    functions in `rdujax.numerics.special` give each table its derivative.
    """
    index = jax.lax.shift_right_logical(to_bits(x), np.int32(16))
    found = jnp.asarray(words(name)).at[index].get(mode="promise_in_bounds")
    return from_bits(found.astype(jnp.int32) << np.int32(16))
