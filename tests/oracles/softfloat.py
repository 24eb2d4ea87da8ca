"""The arithmetic of the machine in integers only: the main oracle, written from the laws N1 to N9.

Nothing here rounds with the floating point unit and nothing is imported from rdujax. Every floating value
is its FP32 bit pattern in a uint32 array (a BF16 value is a pattern whose low half is zero); an INT32 value is
an int32 array; a predicate is a bool array. Functions broadcast as NumPy does.

Laws restated. N2: an operand whose exponent field is 0 reads as a zero of its sign. N3: a result is the exact
value rounded once, to nearest, ties to even, with unbounded exponent; then a magnitude below 2^-126 becomes a
zero of its sign, one above the largest finite number an infinity; every NaN result is 0x7FC00000; x + (-x) = +0.
"""

from collections.abc import Callable

import numpy as np

SIGN = 0x80000000
INFINITY = 0x7F800000
QNAN = 0x7FC00000
ONE = 0x3F800000

Bits = np.ndarray


def _int64(bits: Bits) -> np.ndarray:
    return np.asarray(bits).astype(np.uint32).astype(np.int64)


def _word(values: np.ndarray) -> Bits:
    return np.asarray(values & 0xFFFFFFFF).astype(np.uint32)


def bit_length(value: np.ndarray) -> np.ndarray:
    """Number of bits of each non-negative int64 (0 for 0)."""
    value, length = np.array(value, dtype=np.int64), 0
    for step in (32, 16, 8, 4, 2, 1):
        large = (value >> step) != 0
        length = length + np.where(large, step, 0)
        value = np.where(large, value >> step, value)
    return length + value


class Fields:
    """The decoded operand (N2): value = (-1)^sign * significand * 2^exponent unless nan or inf."""

    def __init__(self, bits: Bits):
        word = _int64(bits)
        self.sign = word >> 31
        field = (word >> 23) & 0xFF
        fraction = word & 0x7FFFFF
        self.nan = (field == 255) & (fraction != 0)
        self.inf = (field == 255) & (fraction == 0)
        self.zero = field == 0
        self.significand = np.where(self.zero, 0, fraction | 0x800000)
        self.exponent = field - 150


def round_pack(sign: np.ndarray, significand: np.ndarray, exponent: np.ndarray, precision: int = 24) -> Bits:
    """N3 for the exact value (-1)^sign * significand * 2^exponent, as an FP32 pattern of `precision` bits.

    The significand is a non-negative int64 below 2^62; a caller that had to cut bits off has set its lowest bit.
    """
    sign, significand, exponent = np.broadcast_arrays(sign, significand, exponent)
    excess = bit_length(significand) - precision
    cut, fill = np.maximum(excess, 0), np.maximum(-excess, 0)
    kept = (significand >> cut) << fill
    rest = significand - ((significand >> cut) << cut)
    half = np.where(cut > 0, np.left_shift(1, np.maximum(cut - 1, 0)), 1)
    kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))
    carried = kept >> precision  # rounding up reached the next power of two
    kept, excess = kept >> carried, excess + carried
    field = exponent + excess + precision - 1 + 127
    magnitude = (field << 23) | ((kept & ((1 << (precision - 1)) - 1)) << (24 - precision))
    magnitude = np.where(field >= 255, INFINITY, magnitude)
    magnitude = np.where((field <= 0) | (significand == 0), 0, magnitude)
    return _word((sign << 31) | magnitude)


def _with_nan(nan: np.ndarray, bits: Bits) -> Bits:
    return np.where(nan, np.uint32(QNAN), bits)


def _infinity(sign: np.ndarray) -> Bits:
    return _word((sign << 31) | INFINITY)


def canonical(x: Bits) -> Bits:
    """DAZ and one NaN: the value as an operand is read (N2) and as it enters the device (N11)."""
    f = Fields(x)
    return _with_nan(f.nan, np.where(f.zero, _word(f.sign << 31), np.asarray(x, dtype=np.uint32)))


# Arithmetic (N3, N5) -------------------------------------------------------------------------------------------


def add(x: Bits, y: Bits) -> Bits:
    """x + y."""
    x, y = np.broadcast_arrays(np.asarray(x, np.uint32), np.asarray(y, np.uint32))
    swap = (x & 0x7FFFFFFF) < (y & 0x7FFFFFFF)
    a, b = Fields(np.where(swap, y, x)), Fields(np.where(swap, x, y))  # |a| >= |b|
    gap = np.minimum(a.exponent - b.exponent, 60)
    wide = b.significand << 32
    shifted = wide >> gap
    shifted = shifted | ((shifted << gap) != wide)
    subtract = a.sign != b.sign
    total = (a.significand << 32) + np.where(subtract, -shifted, shifted)
    sign = np.where((total == 0) & subtract, 0, a.sign)
    result = round_pack(sign, total, a.exponent - 32)
    result = np.where(a.inf | b.inf, _infinity(np.where(a.inf, a.sign, b.sign)), result)
    return _with_nan(a.nan | b.nan | (a.inf & b.inf & subtract), result)


def sub(x: Bits, y: Bits) -> Bits:
    """x - y."""
    return add(x, np.asarray(y, np.uint32) ^ np.uint32(SIGN))


def mul(x: Bits, y: Bits) -> Bits:
    """x * y."""
    a, b = Fields(x), Fields(y)
    sign = a.sign ^ b.sign
    result = round_pack(sign, a.significand * b.significand, a.exponent + b.exponent)
    result = np.where(a.inf | b.inf, _infinity(sign), result)
    return _with_nan(a.nan | b.nan | (a.inf & b.zero) | (a.zero & b.inf), result)


def div(x: Bits, y: Bits) -> Bits:
    """x / y."""
    a, b = Fields(x), Fields(y)
    sign = a.sign ^ b.sign
    divisor = np.where(b.zero, 1, b.significand)
    quotient, remainder = np.divmod(a.significand << 34, divisor)
    result = round_pack(sign, (quotient << 1) | (remainder != 0), a.exponent - b.exponent - 35)
    result = np.where(b.zero | a.inf, _infinity(sign), result)
    result = np.where(b.inf, _word(sign << 31), result)
    return _with_nan(a.nan | b.nan | (a.inf & b.inf) | (a.zero & b.zero), result)


def sqrt(x: Bits) -> Bits:
    """Square root; sqrt(-0) = -0, sqrt of a negative number is NaN."""
    a = Fields(x)
    odd = a.exponent & 1
    radicand = a.significand << (36 + odd)
    root = np.zeros_like(radicand)
    for bit in range(30, -1, -1):
        trial = root | (1 << bit)
        root = np.where(trial * trial <= radicand, trial, root)
    result = round_pack(a.sign, (root << 1) | (root * root != radicand), (a.exponent - odd - 36) // 2 - 1)
    result = np.where(a.inf, _infinity(a.sign), result)
    return _with_nan(a.nan | ((a.sign == 1) & ~a.zero), result)


def reciprocal(x: Bits) -> Bits:
    """1 / x."""
    return div(np.uint32(ONE), x)


def rsqrt(x: Bits) -> Bits:
    """1 / sqrt(x), two results."""
    return reciprocal(sqrt(x))


def neg(x: Bits) -> Bits:
    """-x: only the sign bit, after DAZ."""
    return canonical(np.asarray(x, np.uint32) ^ np.uint32(SIGN))


def absolute(x: Bits) -> Bits:
    """|x|: only the sign bit, after DAZ."""
    return canonical(np.asarray(x, np.uint32) & np.uint32(0x7FFFFFFF))


# Order (N5) ----------------------------------------------------------------------------------------------------


def _rank(f: Fields) -> np.ndarray:
    """An integer that orders by (sign, magnitude) with -0 just below +0."""
    magnitude = np.where(f.zero, 0, ((f.exponent + 150) << 23) | (f.significand & 0x7FFFFF))
    return np.where(f.sign == 1, -1 - magnitude, magnitude)


def maximum(x: Bits, y: Bits) -> Bits:
    """The larger by (sign, magnitude); any NaN gives NaN."""
    a, b = Fields(x), Fields(y)
    return _with_nan(a.nan | b.nan, np.where(_rank(a) >= _rank(b), canonical(x), canonical(y)))


def minimum(x: Bits, y: Bits) -> Bits:
    """The smaller by (sign, magnitude); any NaN gives NaN."""
    a, b = Fields(x), Fields(y)
    return _with_nan(a.nan | b.nan, np.where(_rank(a) <= _rank(b), canonical(x), canonical(y)))


def clamp(low: Bits, x: Bits, high: Bits) -> Bits:
    """min(max(x, low), high)."""
    return minimum(maximum(x, low), high)


def select(predicate: np.ndarray, on_true: Bits, on_false: Bits) -> Bits:
    """Moves a value, after DAZ."""
    return np.where(predicate, canonical(on_true), canonical(on_false))


def compare(x: Bits, y: Bits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(less, equal, unordered) of the values as read; -0 equals +0."""
    a, b = Fields(x), Fields(y)
    unordered = a.nan | b.nan
    left, right = (np.where(f.zero, 0, _rank(f) + (f.sign == 1)) for f in (a, b))
    return (left < right) & ~unordered, (left == right) & ~unordered, unordered


def equal(x: Bits, y: Bits) -> np.ndarray:
    """x = y."""
    return compare(x, y)[1]


def less(x: Bits, y: Bits) -> np.ndarray:
    """x < y."""
    return compare(x, y)[0]


def less_equal(x: Bits, y: Bits) -> np.ndarray:
    """x <= y."""
    return np.logical_or(*compare(x, y)[:2])


def greater(x: Bits, y: Bits) -> np.ndarray:
    """x > y."""
    return less(y, x)


def greater_equal(x: Bits, y: Bits) -> np.ndarray:
    """x >= y."""
    return less_equal(y, x)


# Conversions (N6) ----------------------------------------------------------------------------------------------


def to_bf16(x: Bits) -> Bits:
    """FP32 to BF16 by N3, as an FP32 pattern with a zero low half."""
    a = Fields(x)
    result = round_pack(a.sign, a.significand, a.exponent, precision=8)
    return _with_nan(a.nan, np.where(a.inf, _infinity(a.sign), result))


def to_bf16_stochastic(x: Bits, random_bits: np.ndarray) -> Bits:
    """FP32 to BF16 by adding 16 given bits to the low half and clearing it; infinities stay."""
    a = Fields(x)
    word = _int64(canonical(x)) + (_int64(random_bits) & 0xFFFF)
    result = np.where(a.inf | a.zero, canonical(x), _word(word & 0xFFFF0000))
    return _with_nan(a.nan, result)


def from_int32(x: np.ndarray) -> Bits:
    """INT32 to FP32, to nearest even."""
    value = np.asarray(x).astype(np.int64)
    return round_pack((value < 0).astype(np.int64), np.abs(value), np.int64(0))


def to_int32(x: Bits) -> np.ndarray:
    """FP32 to INT32: toward zero, saturating, NaN gives 0."""
    a = Fields(x)
    left, right = np.clip(a.exponent, 0, 9), np.clip(-a.exponent, 0, 62)
    magnitude = (a.significand << left) >> right
    magnitude = np.where(a.inf | (a.exponent > 9), 1 << 40, magnitude)
    value = np.where(a.sign == 1, -magnitude, magnitude)
    return np.where(a.nan, 0, np.clip(value, -(1 << 31), (1 << 31) - 1)).astype(np.int32)


# Contraction (N8) and reduction (N9) ---------------------------------------------------------------------------


def contract(a: Bits, b: Bits, acc: Bits | None = None, segments: tuple[int, ...] | None = None) -> Bits:
    """a [..., M, K] times b [..., K, N]: one chain over k from +0 (or acc), a product and a sum rounded each.

    With segments (lengths that add up to K), one chain from +0 each, then the partial sums as a chain.
    """
    if segments is not None:
        edges = np.cumsum((0, *segments))
        parts = [contract(a[..., i:j], b[..., i:j, :]) for i, j in zip(edges[:-1], edges[1:], strict=True)]
        return chain(parts)
    total = np.uint32(0) if acc is None else acc
    for k in range(a.shape[-1]):
        total = add(total, mul(a[..., :, k, None], b[..., k, None, :]))
    return total


def chain(parts: list[Bits]) -> Bits:
    """((p0 + p1) + p2) + ..."""
    total = parts[0]
    for part in parts[1:]:
        total = add(total, part)
    return total


def halving_tree(x: Bits, combine: Callable, identity: int, axis: int = -1) -> Bits:
    """N9: pad to a power of two with the identity, then x[i] (+) x[i + n/2] until one is left."""
    x = np.moveaxis(canonical(x), axis, -1)
    size = 1 << max(x.shape[-1] - 1, 0).bit_length()
    padding = np.full((*x.shape[:-1], size - x.shape[-1]), identity, np.uint32)
    x = np.concatenate([x, padding], axis=-1)
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = combine(x[..., :half], x[..., half:])
    return x[..., 0]


def tree_sum(x: Bits, axis: int = -1) -> Bits:
    """The halving tree of sums, padded with -0."""
    return halving_tree(x, add, SIGN, axis)


def tree_max(x: Bits, axis: int = -1) -> Bits:
    """The halving tree of maxima, padded with -inf."""
    return halving_tree(x, maximum, SIGN | INFINITY, axis)


def tree_min(x: Bits, axis: int = -1) -> Bits:
    """The halving tree of minima, padded with +inf."""
    return halving_tree(x, minimum, INFINITY, axis)


# INT32 (N7) ----------------------------------------------------------------------------------------------------


def wrap(value: np.ndarray) -> np.ndarray:
    """The low 32 bits of an int64, read as two's complement."""
    return ((np.asarray(value) + (1 << 31)) & 0xFFFFFFFF).astype(np.int64).__sub__(1 << 31).astype(np.int32)


def integer_div(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Truncated quotient; x / 0 = -1; INT_MIN / -1 = INT_MIN."""
    x, y = np.broadcast_arrays(x.astype(np.int64), y.astype(np.int64))
    divisor = np.where(y == 0, 1, np.abs(y))
    magnitude = np.abs(x) // divisor
    return wrap(np.where(y == 0, -1, np.where((x < 0) != (y < 0), -magnitude, magnitude)))


def integer_rem(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Remainder with the sign of the dividend; x rem 0 = x."""
    x, y = np.broadcast_arrays(x.astype(np.int64), y.astype(np.int64))
    magnitude = np.abs(x) % np.where(y == 0, 1, np.abs(y))
    return wrap(np.where(y == 0, x, np.where(x < 0, -magnitude, magnitude)))


def shift_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x shifted left; 0 from 32 on (the distance read as unsigned)."""
    distance = _int64(y)
    return wrap(np.where(distance >= 32, 0, _int64(x) << np.minimum(distance, 31)))


def shift_right_logical(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x shifted right, zeros in; 0 from 32 on."""
    distance = _int64(y)
    return wrap(np.where(distance >= 32, 0, _int64(x) >> np.minimum(distance, 31)))


def shift_right_arithmetic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x shifted right, signs in; the sign from 32 on."""
    return wrap(np.asarray(x).astype(np.int64) >> np.minimum(_int64(y), 31))
