"""Conversions (N6) and the border of the machine (N11) against the integer softfloat."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import COUNTS, MODES, assert_same_bits, raw

UNARY_MODES = [m for m in MODES if m not in ("first_constant", "last_constant")]
LARGE_ENOUGH = 1 << 16


def _size(count: int, mode: str) -> int:
    return min(count, LARGE_ENOUGH) if "constant" in mode else count


def _ties(count: int, seed: int) -> np.ndarray:
    """FP32 carriers, half of them on or next to a tie of the BF16 rounding."""
    x = vectors.pairs(count, seed)[0]
    low = np.array([0x8000, 0x7FFF, 0x8001, 0x0000, 0xFFFF, 0x0001], np.uint32)
    near = (x & np.uint32(0xFFFF0000)) | np.resize(low, x.size)
    return vectors.fp32(np.where(np.arange(x.size) % 2, near, x))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", UNARY_MODES)
def test_round_to_bf16(mode: str, count: int):
    x = _ties(_size(count, mode), seed=41)
    got = MODES[mode](lambda v: convert.round_to(v, BF16), raw(x))
    assert_same_bits(got, sf.to_bf16(x), x, note=mode)


@pytest.mark.parametrize("mode", UNARY_MODES)
def test_round_to_fp32_is_the_identity_on_carriers(mode: str):
    x = _ties(1 << 13, seed=42)
    assert_same_bits(MODES[mode](lambda v: convert.round_to(v, FP32), raw(x)), x, x, note=mode)


def test_every_word_rounds_to_itself():
    words = np.arange(1 << 16, dtype=np.uint32) << 16
    x = vectors.bf16(words)
    for mode in (harness.jit, harness.eager, harness.constants):
        assert_same_bits(mode(lambda v: convert.round_to(v, BF16), raw(x)), x, x, note=mode.__name__)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", MODES)
def test_round_stochastic(mode: str, count: int):
    """The low 16 bits count, whatever integer dtype brings them."""
    x = _ties(_size(count, mode), seed=43)
    noise = np.random.default_rng(44).integers(0, 1 << 32, x.size, dtype=np.uint64).astype(np.uint32)
    noise[:6] = (0, 0xFFFF, 0x8000, 0x7FFF, 0xFFFF0000, 0xFFFFFFFF)
    want = sf.to_bf16_stochastic(x, noise)
    for bits in (noise, noise.astype(np.uint16), noise.view(np.int32)):
        assert_same_bits(MODES[mode](convert.round_stochastic, raw(x), bits), want, x, noise, note=mode)


def test_stochastic_rounding_is_unbiased():
    """All 65536 draws for one value: its low half of them round up, exactly."""
    for low in (0x0001, 0x1234, 0x8000, 0xFFFF):
        x = np.full(1 << 16, 0x3F800000 | low, np.uint32)
        rounded = harness.patterns(convert.round_stochastic(raw(x), np.arange(1 << 16, dtype=np.uint32)))
        assert (rounded == 0x3F810000).sum() == low
        assert (rounded == 0x3F800000).sum() == (1 << 16) - low


def _conversion(source, target, x: np.ndarray) -> np.ndarray:
    """The oracle's conversion of carriers (uint32 patterns, int32 or bool)."""
    if source is target:
        return x
    if target is BOOL:
        return x != 0 if source is INT32 else (x & 0x7FFFFFFF) != 0
    if source is BOOL:
        return x.astype(np.int32) if target is INT32 else np.where(x, np.uint32(sf.ONE), np.uint32(0))
    if target is INT32:
        return sf.to_int32(x)
    wide = sf.from_int32(x) if source is INT32 else x
    return sf.to_bf16(wide) if target is BF16 else wide


def _carriers(fmt, count: int) -> np.ndarray:
    x, _ = vectors.pairs(count, seed=45)
    y, _ = vectors.integers(count, seed=46)
    return {FP32: vectors.fp32(x), BF16: vectors.bf16(x), INT32: y, BOOL: y % 2 == 0}[fmt]


@pytest.mark.parametrize(("source", "target"), list(itertools.product((BF16, FP32, INT32, BOOL), repeat=2)), ids=str)
def test_convert(source, target):
    x = _carriers(source, 1 << 14)
    want = _conversion(source, target, x)
    given = raw(x) if source.is_float else x
    for mode in UNARY_MODES:
        got = MODES[mode](lambda v: convert.convert(v, source, target), given)
        assert_same_bits(got, want, x, note=f"{source} to {target} {mode}")


@pytest.mark.full
def test_every_exponent_to_int32():
    """Truncation and saturation around every power of two, and the whole INT32 range in steps."""
    fields = np.arange(256, dtype=np.uint32)[:, None] << 23
    fractions = np.concatenate([np.arange(512), (1 << 23) - 1 - np.arange(512), (1 << 22) + np.arange(-256, 256)])
    x = vectors.fp32((fields | fractions.astype(np.uint32)).ravel())
    x = np.concatenate([x, x | np.uint32(0x80000000)])
    assert_same_bits(jax.jit(lambda v: convert.convert(v, FP32, INT32))(raw(x)), sf.to_int32(x), x)
    integers = np.arange(-(1 << 31), 1 << 31, 4093, dtype=np.int64).astype(np.int32)
    assert_same_bits(jax.jit(lambda v: convert.convert(v, INT32, FP32))(integers), sf.from_int32(integers), integers)


def test_double_rounding_of_integers_is_the_law():
    """0x1010001 to BF16: to 0x4B808000 in FP32, a tie that goes to even; a single rounding would give 0x4B81."""
    for mode in (harness.jit, harness.eager, harness.constants):
        got = mode(lambda v: convert.convert(v, INT32, BF16), np.array([0x1010001], np.int32))
        assert_same_bits(got, np.array([0x4B800000], np.uint32), note=mode.__name__)


@pytest.mark.parametrize("mode", UNARY_MODES)
def test_enter(mode: str):
    """Entering applies DAZ and writes one NaN, for both floating formats."""
    x, _ = vectors.pairs(1 << 13, seed=47)
    assert_same_bits(MODES[mode](lambda v: convert.enter(v, FP32), raw(x)), sf.canonical(x), x, note=mode)
    words = (x >> 16).astype(np.uint16)
    public = words.view(ml_dtypes.bfloat16)
    wide = words.astype(np.uint32) << 16
    assert_same_bits(MODES[mode](convert.enter, public), sf.canonical(wide), wide, note=mode)


def test_every_word_survives_rest_and_border():
    """Words at rest and public bfloat16 keep all 65536 values, but for denormals and NaN payloads."""
    words = np.arange(1 << 16, dtype=np.uint16)
    carrier = vectors.bf16(words.astype(np.uint32) << 16)
    for mode in (harness.jit, harness.eager, harness.constants):
        assert_same_bits(mode(convert.unpack, words), carrier, note="unpack")
        packed = np.asarray(mode(convert.pack, raw(carrier)))
        assert packed.dtype == np.uint16 and (packed == carrier >> 16).all()
        public = mode(lambda v: convert.leave(v, BF16), raw(carrier))
        assert public.dtype == jnp.bfloat16 and (np.asarray(public).view(np.uint16) == carrier >> 16).all()
        assert_same_bits(mode(convert.enter, np.asarray(public)), carrier, note="enter")


@pytest.mark.parametrize(("fmt", "dtype"), [(FP32, np.float32), (INT32, np.int32), (BOOL, np.bool_)], ids=str)
def test_leave_moves_bits(fmt, dtype):
    x = _carriers(fmt, 1 << 10)
    given = raw(x) if fmt.is_float else x
    got = jax.jit(lambda v: convert.leave(v, fmt))(given)
    assert got.dtype == dtype
    assert_same_bits(got, x, note=str(fmt))
