"""The real special functions through MPFR, and errors of FP32 results against them in units of the last place."""

from collections.abc import Callable

import gmpy2
import numpy as np
from scipy import special

PRECISION = 160
SMALLEST = 2.0**-126
LARGEST = (2.0 - 2.0**-23) * 2.0**127
Real = Callable[[gmpy2.mpfr], gmpy2.mpfr]


def _gated(gate: Real) -> Real:
    return lambda v: gmpy2.mpfr("-0.0") if gmpy2.is_infinite(v) and v < 0 else v * gate(v)


def _normal_cdf(v: gmpy2.mpfr) -> gmpy2.mpfr:
    return gmpy2.erfc(-v / gmpy2.sqrt(gmpy2.mpfr(2))) / 2


def _sigmoid(v: gmpy2.mpfr) -> gmpy2.mpfr:
    return 1 / (1 + gmpy2.exp(-v))


def _erf_inv(v: gmpy2.mpfr) -> gmpy2.mpfr:
    """By Newton's steps on a double-precision start."""
    if gmpy2.is_nan(v) or abs(v) > 1:
        return gmpy2.nan()
    if abs(v) == 1 or v == 0:
        return v * gmpy2.inf() if v else v
    slope = gmpy2.sqrt(gmpy2.const_pi()) / 2
    y = gmpy2.mpfr(float(special.erfinv(float(v))))
    for _ in range(3):
        # Near one, the complement keeps the digits.
        missing = gmpy2.erfc(abs(y)) - (1 - abs(v)) if abs(v) > 0.5 else abs(v) - gmpy2.erf(abs(y))
        y += (1 if v > 0 else -1) * missing * slope * gmpy2.exp(y * y)
    return y


REAL: dict[str, Real] = {
    "exp": gmpy2.exp,
    "exp2": gmpy2.exp2,
    "expm1": gmpy2.expm1,
    "log": gmpy2.log,
    "log1p": gmpy2.log1p,
    "sigmoid": _sigmoid,
    "silu": _gated(_sigmoid),
    "tanh": gmpy2.tanh,
    "erf": gmpy2.erf,
    "erfc": gmpy2.erfc,
    "erf_inv": _erf_inv,
    **{
        name: getattr(gmpy2, name)
        for name in ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")
    },
    "cbrt": gmpy2.cbrt,
    "gelu": _gated(_normal_cdf),
    "sin": gmpy2.sin,
    "cos": gmpy2.cos,
    "sqrt": gmpy2.sqrt,
    # MPFR gives +inf at -0; 1 / sqrt(-0) = 1 / -0.
    "rsqrt": lambda v: 1 / gmpy2.sqrt(v),
    "reciprocal": lambda v: 1 / v,
}


def _context(precision: int) -> gmpy2.context:
    # With its widest exponent range MPFR rounds without underflow: flushing comes afterwards, as N3 says.
    return gmpy2.context(precision=precision, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())


def _daz(x: np.ndarray) -> list[float]:
    with np.errstate(invalid="ignore"):  # a signalling NaN is quieted on the way
        wide = np.asarray(x, np.float64)
    return np.where(np.abs(wide) < SMALLEST, np.copysign(0.0, wide), wide).ravel().tolist()


def exact(name: str, x: np.ndarray) -> list[gmpy2.mpfr]:
    """The function of every value of `x` (denormals read as zeros) to 160 bits."""
    with _context(PRECISION):
        return [REAL[name](gmpy2.mpfr(value)) for value in _daz(x)]


def bf16_words(name: str, x: np.ndarray) -> np.ndarray:
    """The function rounded once to BF16 (N3), as uint16 words."""
    precise = exact(name, x)
    with _context(8):
        value = np.array([float(gmpy2.mul(v, 1)) for v in precise])
    value = np.where(np.abs(value) < SMALLEST, np.copysign(0.0, value), value)
    value = np.where(np.abs(value) >= 2.0**128, np.copysign(np.inf, value), value)
    words = (value.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.where(np.isnan(value), np.uint16(0x7FC0), words)


def _error(got: float, want: gmpy2.mpfr) -> float:
    """Distance in ulps of `want`; 0 for the right special value, infinite for a wrong one."""
    if gmpy2.is_nan(want) or got != got:
        return 0.0 if gmpy2.is_nan(want) and got != got else np.inf
    size = abs(want)
    if got == 0.0 and size < SMALLEST * (1 + 2.0**-23):  # flushed, rightly or at most one ulp too early
        return 0.0 if gmpy2.is_signed(want) == (np.signbit(got) != 0) else np.inf
    if np.isinf(got) and size > LARGEST * (1 - 2.0**-24):
        return 0.0 if (want > 0) == (got > 0) else np.inf
    if size < SMALLEST * (1 - 2.0**-23) or np.isinf(got) or gmpy2.is_infinite(want):
        return np.inf
    _, exponent = np.frexp(float(want))
    return abs(float((gmpy2.mpfr(got) - want) * gmpy2.exp2(gmpy2.mpfr(int(24 - exponent)))))


def errors_ulp(name: str, x: np.ndarray, got: np.ndarray) -> np.ndarray:
    """The error of each FP32 result `got` = name(x) against the real function, in ulps of the real result (float64)."""
    precise = exact(name, x)
    with _context(PRECISION):
        results = np.asarray(got, np.float64).ravel().tolist()
        return np.array([_error(g, want) for g, want in zip(results, precise, strict=True)])
