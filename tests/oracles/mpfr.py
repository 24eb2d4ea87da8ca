"""A second road to N3: the MPFR library through gmpy2, one correctly rounded operation at a time.

MPFR's own exponent range is left at its widest, so that rounding knows no underflow; the flush to zero and
the overflow to infinity come after it, as the law says. (With a narrow range MPFR would round denormals.)
"""

from collections.abc import Callable

import gmpy2
import numpy as np

QNAN = 0x7FC00000
CHUNK = 1 << 16  # elements at a time: an mpfr number takes about a hundred bytes
SMALLEST = 2.0**-126
LARGEST = (2.0 - 2.0**-23) * 2.0**127


def _daz(bits: np.ndarray) -> np.ndarray:
    bits = np.asarray(bits, np.uint32)
    return np.where(bits & 0x7F800000 == 0, bits & 0x80000000, bits).astype(np.uint32)


def _finish(value: np.ndarray) -> np.ndarray:
    """Values already rounded (exact in float64) to FP32 patterns: flush, overflow, one NaN."""
    magnitude = np.abs(value)
    value = np.where(magnitude < SMALLEST, np.copysign(0.0, value), value)
    value = np.where(magnitude > LARGEST, np.copysign(np.inf, value), value)
    with np.errstate(invalid="ignore"):
        bits = value.astype(np.float32).view(np.uint32)
    return np.where(np.isnan(value), np.uint32(QNAN), bits)


def _context(precision: int) -> gmpy2.context:
    return gmpy2.context(precision=precision, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())


def _floats(bits: np.ndarray) -> list[float]:
    with np.errstate(invalid="ignore"):  # a signalling NaN is quieted on the way to float64
        return _daz(bits).view(np.float32).astype(np.float64).ravel().tolist()


def evaluate(function: Callable, *operands: np.ndarray, precision: int = 24) -> np.ndarray:
    """function on mpfr numbers, its result rounded once to `precision` bits, for every element.

    Each operand is a uint32 array of FP32 patterns (all of one shape), and so is the result.
    """
    flat = [np.asarray(bits).ravel() for bits in operands]
    starts = range(0, flat[0].size, CHUNK)
    parts = [_evaluate(function, [bits[i : i + CHUNK] for bits in flat], precision) for i in starts]
    return np.concatenate(parts).reshape(operands[0].shape)


def _evaluate(function: Callable, operands: list[np.ndarray], precision: int) -> np.ndarray:
    columns = [_floats(bits) for bits in operands]
    with _context(53):
        rows = [tuple(map(gmpy2.mpfr, row)) for row in zip(*columns, strict=True)]
    with _context(precision):
        values = [float(function(*row)) for row in rows]
    return _finish(np.array(values, np.float64))


def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y."""
    return evaluate(gmpy2.add, x, y)


def sub(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x - y."""
    return evaluate(gmpy2.sub, x, y)


def mul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x * y."""
    return evaluate(gmpy2.mul, x, y)


def div(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x / y."""
    return evaluate(gmpy2.div, x, y)


def sqrt(x: np.ndarray) -> np.ndarray:
    """Square root."""
    return evaluate(gmpy2.sqrt, x)


def to_bf16(x: np.ndarray) -> np.ndarray:
    """FP32 to BF16."""
    return evaluate(lambda v: gmpy2.mul(v, 1), x, precision=8)


def from_int32(x: np.ndarray) -> np.ndarray:
    """INT32 to FP32."""
    with _context(24):
        values = [float(gmpy2.mpfr(value)) for value in np.asarray(x).ravel().tolist()]
    return _finish(np.array(values, np.float64)).reshape(np.shape(x))


def _bf16_of(function: Callable, x: np.ndarray) -> np.ndarray:
    """One correctly rounded BF16 value from 160 bits: no value of these functions lies so near to a tie."""
    with _context(160):
        precise = [function(gmpy2.mpfr(value)) for value in _floats(x)]
    with _context(8):
        values = [float(gmpy2.mul(value, 1)) for value in precise]
    return _finish(np.array(values, np.float64)).reshape(np.shape(x))


def bf16_exp(x: np.ndarray) -> np.ndarray:
    """exp of BF16 values, correctly rounded to BF16 (N10)."""
    return _bf16_of(gmpy2.exp, x)


def bf16_silu(x: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x)) of finite BF16 values, correctly rounded to BF16 (N10)."""
    return _bf16_of(lambda v: v / (1 + gmpy2.exp(-v)), x)


def bf16_rsqrt(x: np.ndarray) -> np.ndarray:
    """1 / sqrt(x) of BF16 values, correctly rounded to BF16 (N10)."""
    return _bf16_of(gmpy2.rec_sqrt, x)
