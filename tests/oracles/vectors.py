"""Six classes of test vectors for floating operations, as FP32 bit patterns; raw ones, denormals and all NaNs included.

Each class aims at one way in which an implementation goes wrong. Everything is a pure function of (count, seed).
"""

import numpy as np

SPECIALS = np.array(
    [
        *(0x00000000, 0x00000001, 0x00000002, 0x00400000, 0x007FFFFE, 0x007FFFFF),  # zero and denormals
        *(0x00800000, 0x00800001, 0x00FFFFFF, 0x01000000, 0x01000001),  # smallest normals
        *(0x7F7FFFFF, 0x7F7FFFFE, 0x7F7F8000, 0x7F7F7FFF, 0x7F000000, 0x7EFFFFFF),  # largest
        *(0x7F800000, 0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FC00001, 0x7FFFFFFF),  # infinity, signalling, quiet
        *(0x3F800000, 0x3F7FFFFF, 0x3F800001, 0x3F000000, 0x40000000, 0x3FC00000, 0x40400000),  # around one
        *(0x3EAAAAAB, 0x3DCCCCCD, 0x3F333333, 0x40490FDB),  # 1/3, 0.1, 0.7, pi
        *(0x4B000000, 0x4B7FFFFF, 0x4B800000, 0x4B800001, 0x4EFFFFFF, 0x4F000000, 0x4F000001, 0x4F800000),  # 2^23..2^32
        *(0x1F800000, 0x20000000, 0x1FFFFFFF, 0x5F000000, 0x5F7FFFFF, 0x5F800000),  # roots of the range
        *(0x3F808000, 0x3F818000, 0x3F80FFFF, 0x3F807FFF, 0x3F808001),  # ties of the BF16 rounding
    ],
    np.uint32,
)
SPECIALS = np.concatenate([SPECIALS, SPECIALS | np.uint32(0x80000000)])

Pair = tuple[np.ndarray, np.ndarray]


def _words(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)


def _assemble(sign: np.ndarray, field: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    field = np.clip(field, 0, 254)
    return ((sign.astype(np.int64) & 1) << 31 | field.astype(np.int64) << 23 | fraction & 0x7FFFFF).astype(np.uint32)


def uniform(rng: np.random.Generator, count: int) -> Pair:
    """Uniform bits: every exponent, every NaN, denormals."""
    return _words(rng, count), _words(rng, count)


def near_cancelling(rng: np.random.Generator, count: int) -> Pair:
    """y within a few units in the last place of x or -x, across the binade's edge too."""
    x = _words(rng, count)
    x = np.where(rng.random(count) < 0.25, x & 0xFF800003, x).astype(np.uint32)
    y = (x.astype(np.int64) + rng.integers(-4, 5, count)) & 0xFFFFFFFF
    y = np.where(rng.random(count) < 0.9, y ^ 0x80000000, y)
    return x, y.astype(np.uint32)


def tiny(rng: np.random.Generator, count: int) -> Pair:
    """Product or quotient near 2^-126; both operands small in a quarter of the cases."""
    first = rng.integers(1, 255, count)
    offset = rng.integers(-3, 3, count)
    partner = np.where(rng.random(count) < 0.5, 128 - first + offset, first + 126 + offset)
    small = rng.random(count) < 0.25
    first = np.where(small, rng.integers(0, 28, count), first)
    partner = np.where(small, rng.integers(0, 28, count), partner)
    x = _assemble(rng.integers(0, 2, count), first, rng.integers(0, 1 << 23, count))
    return x, _assemble(rng.integers(0, 2, count), partner, rng.integers(0, 1 << 23, count))


def specials(rng: np.random.Generator, count: int) -> Pair:
    """Every special against every special, then at random; one in eight against uniform bits."""
    size = len(SPECIALS)
    grid = np.arange(count)
    x, y = SPECIALS[grid // size % size], SPECIALS[grid % size]
    mixed = (grid >= size * size) & (rng.random(count) < 0.125)
    return x, np.where(mixed, _words(rng, count), y)


def exponent_gap(rng: np.random.Generator, count: int) -> Pair:
    """Exponents that differ by -26..26: the alignment, guard and sticky bits of an adder."""
    field = rng.integers(28, 228, count)
    gap = rng.integers(-26, 27, count)
    fractions = []
    for _ in range(2):
        fraction = rng.integers(0, 1 << 23, count)
        sparse = rng.random(count) < 0.3  # long runs of zeros or ones make ties
        fraction = np.where(sparse, (1 << rng.integers(0, 24, count)) - (rng.random(count) < 0.5), fraction)
        fractions.append(fraction)
    x = _assemble(rng.integers(0, 2, count), field, fractions[0])
    return x, _assemble(rng.integers(0, 2, count), field + gap, fractions[1])


def flush_window(rng: np.random.Generator, count: int) -> Pair:
    """Results around (1 - 2^-25) 2^-126, where tiny before and tiny after rounding part: products, then quotients."""
    first = rng.integers(1 << 23, 1 << 24, count)
    second = ((1 << 47) + first // 2) // first + rng.integers(-1, 2, count)
    product = rng.random(count) < 0.75
    second = np.where(product, second, np.minimum(first + rng.integers(0, 3, count), (1 << 24) - 1))
    # A product of significands near 2^47 with exponents that add up to 2^-173 lies at 2^-126.
    top = second >> 24
    second, field = second >> top, rng.integers(1, 128, count)
    partner = np.where(product, 127 - field + top, field + 126)
    partner = partner + (rng.random(count) < 0.1)
    x = _assemble(rng.integers(0, 2, count), field, first)
    return x, _assemble(rng.integers(0, 2, count), partner, second)


CLASSES = {f.__name__: f for f in (uniform, near_cancelling, tiny, specials, exponent_gap, flush_window)}


def pairs(count: int, seed: int = 0) -> Pair:
    """About `count` pairs (x, y), uint32 of shape [count], the six classes one after another."""
    rng = np.random.default_rng(seed)
    share = -(-count // len(CLASSES))
    parts = [make(rng, share) for make in CLASSES.values()]
    x, y = (np.concatenate(column)[:count] for column in zip(*parts, strict=True))
    return x, y


def integers(count: int, seed: int = 0) -> Pair:
    """Pairs of INT32 values: uniform, small, and the edges of the range and of shift distances."""
    rng = np.random.default_rng(seed)
    edges = np.array([0, 1, -1, 2, -2, 7, 31, 32, 33, 64, -31, -32, 2**31 - 1, -(2**31), 2**24, 2**24 + 1, 0x1010001])
    kinds = rng.integers(0, 3, (2, count))
    wide = rng.integers(-(2**31), 2**31, (2, count))
    small = rng.integers(-40, 41, (2, count))
    x, y = np.where(kinds == 0, wide, np.where(kinds == 1, small, edges[rng.integers(0, len(edges), (2, count))]))
    return x.astype(np.int32), y.astype(np.int32)


def bf16(bits: np.ndarray) -> np.ndarray:
    """Patterns cut to BF16 and made canonical: no denormals, one NaN."""
    bits = np.asarray(bits, np.uint32) & np.uint32(0xFFFF0000)
    bits = np.where(bits & 0x7F800000 == 0, bits & 0x80000000, bits)
    return np.where(bits & 0x7FFFFFFF > 0x7F800000, 0x7FC00000, bits).astype(np.uint32)


def fp32(bits: np.ndarray) -> np.ndarray:
    """Patterns made canonical FP32 carriers: no denormals, one NaN."""
    bits = np.asarray(bits, np.uint32)
    bits = np.where(bits & 0x7F800000 == 0, bits & 0x80000000, bits)
    return np.where(bits & 0x7FFFFFFF > 0x7F800000, 0x7FC00000, bits).astype(np.uint32)


KINDS = ("normal", "bits", "specials", "negative zeros", "tiny", "huge", "roots of the smallest", "mixed infinities")


def carriers(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Canonical FP32 patterns of one kind for sums of many terms."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=shape).astype(np.float32).view(np.uint32)
    if kind == "bits":
        return fp32(rng.integers(0, 1 << 32, shape, dtype=np.uint64))
    if kind == "specials":
        return fp32(np.where(rng.random(shape) < 0.1, SPECIALS[rng.integers(0, len(SPECIALS), shape)], normal))
    if kind == "negative zeros":
        return np.full(shape, 0x80000000, np.uint32)
    edges = {"tiny": (1, 64), "huge": (190, 255), "roots of the smallest": (58, 68)}
    if kind in edges:  # sums, or products, on both sides of the smallest and the largest number
        fields = rng.integers(*edges[kind], shape).astype(np.uint32) << 23
        return (normal & np.uint32(0x807FFFFF)) | fields
    if kind == "mixed infinities":
        infinite = np.uint32(0x7F800000) | normal & np.uint32(0x80000000)
        return np.where(rng.random(shape) < 0.05, infinite, normal)
    return normal
