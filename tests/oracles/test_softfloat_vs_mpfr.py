"""The oracles against one another, before any of them judges the machine.

Roads: our integer softfloat; MPFR (one rounding with unbounded exponent, then flush); Berkeley SoftFloat 3
(gradual underflow: compared where nothing is tiny); APyTypes (its own matrix product with an FP32 accumulator).
"""

import math
import operator

import apytypes
import numpy as np
import pytest
import softfloatpy

from tests.oracles import mpfr, vectors
from tests.oracles import softfloat as sf

COUNTS = [1 << 14, pytest.param(1 << 18, marks=pytest.mark.full)]


def _agree(got: np.ndarray, want: np.ndarray, *operands: np.ndarray) -> None:
    wrong = np.flatnonzero(got != want)
    shown = [[hex(int(v[i]) & 0xFFFFFFFF) for v in (*operands, got, want)] for i in wrong[:5]]
    assert wrong.size == 0, f"{wrong.size} of {got.size} differ; operands, got, want: {shown}"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_binary(name: str, count: int):
    """Softfloat and MPFR agree on every bit of the four operations."""
    x, y = vectors.pairs(count, seed=11)
    _agree(getattr(sf, name)(x, y), getattr(mpfr, name)(x, y), x, y)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["sqrt", "to_bf16"])
def test_unary(name: str, count: int):
    """Softfloat and MPFR agree on square roots and on the rounding to BF16."""
    x, _ = vectors.pairs(count, seed=12)
    _agree(getattr(sf, name)(x), getattr(mpfr, name)(x), x)


def test_from_int32():
    """Softfloat and MPFR agree on INT32 to FP32."""
    x, _ = vectors.integers(1 << 14, seed=13)
    _agree(sf.from_int32(x), mpfr.from_int32(x), x)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "sqrt"])
def test_berkeley(name: str):
    """Berkeley SoftFloat agrees wherever no operand and no result is near the tiny range."""
    x, y = vectors.pairs(1 << 14, seed=14)
    operands = (x,) if name == "sqrt" else (x, y)
    function = getattr(softfloatpy, f"f32_{name}")
    rows = zip(*(v.tolist() for v in operands), strict=True)
    floats = ([softfloatpy.Float32.from_bytes(word.to_bytes(4, "big")) for word in row] for row in rows)
    got = np.array([int.from_bytes(function(*row).to_bytes(), "big") for row in floats], np.uint32)
    got = np.where(got & 0x7FFFFFFF > 0x7F800000, np.uint32(0x7FC00000), got)
    denormal = np.any([(v & 0x7F800000 == 0) & (v & 0x7FFFFF != 0) for v in operands], axis=0)
    magnitude = got & 0x7FFFFFFF
    tiny = (magnitude <= 0x00800000) & (magnitude > 0)
    underflown = (magnitude == 0) & (name in ("mul", "div"))
    keep = ~(denormal | tiny | underflown)
    assert keep.mean() > 0.4
    _agree(got[keep], getattr(sf, name)(*(v[keep] for v in operands)), *(v[keep] for v in operands))


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (5, 37, 4), (17, 100, 3), (2, 257, 33)])
@pytest.mark.parametrize("cut", [vectors.bf16, vectors.fp32])
def test_contract_apytypes(m: int, k: int, n: int, cut):
    """APyTypes' matrix product with an FP32 accumulator is the same chain, away from the tiny range."""
    rng = np.random.default_rng(m * k * n)
    a, b = (cut(rng.normal(size=s).astype(np.float32).view(np.uint32)) for s in ((m, k), (k, n)))
    left, right = (
        apytypes.APyFloatArray.from_array(v.view(np.float32).astype(np.float64), exp_bits=8, man_bits=23)
        for v in (a, b)
    )
    context = {"exp_bits": 8, "man_bits": 23, "quantization": apytypes.QuantizationMode.RND_CONV}
    with apytypes.APyFloatAccumulatorContext(**context):
        got = (left @ right).to_numpy().astype(np.float32).view(np.uint32)
    _agree(got.ravel(), sf.contract(a, b).ravel())


def test_order_and_comparisons():
    """Order and comparisons against Python's own on the values as read."""
    x, y = vectors.pairs(1 << 13, seed=15)
    a, b = (sf.canonical(v).view(np.float32).astype(np.float64).tolist() for v in (x, y))
    names = {"less": "lt", "less_equal": "le", "equal": "eq", "greater": "gt", "greater_equal": "ge"}
    for ours, theirs in names.items():
        compare = getattr(operator, theirs)
        want = np.array([compare(p, q) for p, q in zip(a, b, strict=True)])
        _agree(getattr(sf, ours)(x, y).astype(np.int64), want.astype(np.int64), x, y)
    keys = [[(v, math.copysign(1.0, v)) for v in column] for column in (a, b)]
    for function, pick in ((sf.maximum, max), (sf.minimum, min)):
        values = [math.nan if p != p or q != q else pick(i, j)[0] for p, q, i, j in zip(a, b, *keys, strict=True)]
        want = np.array(values).astype(np.float32).view(np.uint32)
        _agree(function(x, y), np.where(np.isnan(values), np.uint32(sf.QNAN), want), x, y)


def test_to_int32():
    """Truncation against Python's int()."""
    x, _ = vectors.pairs(1 << 13, seed=16)
    values = sf.canonical(x).view(np.float32).astype(np.float64).tolist()
    limits = (-(1 << 31), (1 << 31) - 1)
    want = [0 if v != v else max(limits[0], min(limits[1], int(min(max(v, -1e30), 1e30)))) for v in values]
    _agree(sf.to_int32(x), np.array(want, np.int64).astype(np.int32), x)


def test_integer_division():
    """Quotient and remainder against exact rationals of Python."""
    x, y = vectors.integers(1 << 13, seed=17)
    columns = (x, y, sf.integer_div(x, y), sf.integer_rem(x, y))
    for i, j, quotient, remainder in zip(*(v.tolist() for v in columns), strict=True):
        if j == 0:
            assert (quotient, remainder) == (-1, i)
        else:
            exact = abs(i) // abs(j) * (1 if (i < 0) == (j < 0) else -1)
            assert (quotient, remainder) == (sf.wrap(np.int64(exact)), i - exact * j)


def test_vectors_reach_their_targets():
    """The classes contain what they promise: the window of the flush, both sides of 2^-126, ties, cancellations."""
    share = 1 << 12
    rng = np.random.default_rng(18)
    x, y = (v.view(np.float32).astype(np.float64) for v in vectors.flush_window(rng, share))
    product = np.abs(x * y) / 2.0**-126
    kept = (product >= 1 - 2.0**-25) & (product < 1)
    flushed = (product >= 1 - 2.0**-24) & (product < 1 - 2.0**-25)
    assert kept.sum() > share // 32 and flushed.sum() > share // 32
    x, y = (v.view(np.float32) for v in vectors.tiny(rng, share))
    with np.errstate(all="ignore"):
        results = np.abs(np.stack([x.astype(np.float64) * y, np.divide(x, y, dtype=np.float64)])) / 2.0**-126
    assert ((results > 0.25) & (results < 1)).sum() > share // 16 and (
        (results > 1) & (results < 4)
    ).sum() > share // 16
    x, y = vectors.near_cancelling(rng, share)
    assert ((sf.add(x, y) == 0) & (x & 0x7F800000 != 0)).sum() > share // 32
    x, y = vectors.specials(rng, len(vectors.SPECIALS) ** 2)
    assert len(np.unique(x.astype(np.uint64) << 32 | y)) == len(vectors.SPECIALS) ** 2
