"""UINT32 (N7) against NumPy's own uint32, in every mode, folded constants included; conversions, bits re-read (N6)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import FormatError
from rdujax.numerics import convert, functions, unsigned
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32
from tests.oracles import softfloat as sf
from tests.oracles import vectors
from tests.oracles.harness import MODES, assert_same_bits, in_full, patterns
from tests.oracles.threefry_reference import words as threefry

TOP = 2**32 - 1
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal, "equal": np.equal,
    "not_equal": np.not_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "div": lambda x, y: np.where(y == 0, np.uint32(TOP), x // np.where(y == 0, 1, y)),
    "rem": lambda x, y: np.where(y == 0, x, x % np.where(y == 0, 1, y)),
    "shift_left": lambda x, n: np.where(n > 31, 0, (x.astype(np.uint64) << np.minimum(n, 31)) & TOP).astype(np.uint32),
    "shift_right_logical": lambda x, n: np.where(n > 31, 0, x >> np.minimum(n, 31)).astype(np.uint32),
}  # fmt: skip
UNARY = {
    "neg": lambda x: (0 - x.astype(np.int64)).astype(np.uint32), "not": np.invert, "square": lambda x: x * x,
    "population_count": lambda x: np.bitwise_count(x).astype(np.uint32),
    "count_leading_zeros": lambda x: np.array([32 - int(v).bit_length() for v in x], np.uint32),
}  # fmt: skip
RANDOM = {"random_first": lambda a, b: a, "random_second": lambda a, b: b, "random_bits": np.bitwise_xor}
QUICK = ("jit", "last_constant")


def test_nothing_is_left_out():
    named = {name for name, function in functions.FUNCTIONS.items() if function.uint32}
    assert named == {*BINARY, *UNARY, "clamp", "select", "integer_power", *RANDOM}


@pytest.mark.parametrize("mode", [*QUICK, *in_full(*(mode for mode in MODES if mode not in QUICK))])
@pytest.mark.parametrize("name", [*BINARY, *UNARY])
def test_words_without_a_sign(name: str, mode: str):
    if name in UNARY and mode.endswith("constant"):
        mode = "constants"
    x, y = (v[:4096] for v in vectors.integers(1 << 12, seed=71))
    y = np.where(np.arange(y.size) % 3 == 0, y % 40, y).astype(np.int32)
    operands = (x,) if name in UNARY else (x, y)
    want = (UNARY | BINARY)[name](*(v.view(np.uint32) for v in operands))
    got = MODES[mode](lambda *v: functions.apply(name, UINT32, *v), *operands)
    assert_same_bits(got, want if want.dtype == bool else want.view(np.int32), *operands, note=f"{name} {mode}")


@pytest.mark.parametrize("name", ["div", "rem"])
def test_scalar_constants(name: str):
    """Folding a division by zero must not end the process."""
    x, _ = vectors.integers(1 << 8, seed=72)
    for constant in (0, 1, -1, 3, -(2**31)):
        other = np.full_like(x, constant)
        right = jax.jit(lambda v, c=constant: getattr(unsigned, name)(v, c))(x)
        left = jax.jit(lambda v, c=constant: getattr(unsigned, name)(c, v))(x)
        assert_same_bits(right, BINARY[name](x.view(np.uint32), other.view(np.uint32)).view(np.int32), x)
        assert_same_bits(left, BINARY[name](other.view(np.uint32), x.view(np.uint32)).view(np.int32), x)
        both = jax.jit(lambda c=constant: getattr(unsigned, name)(7, c))()
        assert both == BINARY[name](np.uint32(7), other.view(np.uint32)[:1]).view(np.int32)[0]


def test_clamp_select_and_power():
    x, y = vectors.integers(1 << 10, seed=73)
    u, v, w = x.view(np.uint32), y.view(np.uint32), np.roll(y, 3).view(np.uint32)
    got = functions.apply("clamp", UINT32, x, y, np.roll(y, 3))
    assert_same_bits(got, np.minimum(np.maximum(v, u), w).view(np.int32), x, y)
    assert_same_bits(functions.apply("select", UINT32, x > 0, x, y), np.where(x > 0, x, y))
    assert_same_bits(functions.apply("integer_power", UINT32, x, n=5), (u * u * u * u * u).view(np.int32))


@pytest.mark.parametrize("mode", ["jit", *in_full("eager", "scan", "vmap", "constants", "odd_lengths")])
@pytest.mark.parametrize("name", RANDOM)
def test_random_words(name: str, mode: str):
    """Keys and counters that differ from element to element."""
    words = [v[:1024] for seed in (75, 76) for v in vectors.integers(1 << 10, seed=seed)]
    want = RANDOM[name](
        *threefry((words[0].view(np.uint32), words[1].view(np.uint32)), *(w.view(np.uint32) for w in words[2:]))
    )
    got = MODES[mode](lambda *v: functions.apply(name, UINT32, *v), *words)
    assert_same_bits(got, want.view(np.int32), *words, note=f"{name} {mode}")


WORDS = np.array([0, 1, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**31 + 128, 2**31 + 129, 2**32 - 129, 2**32 - 128, TOP])


def test_conversions():
    rng = np.random.default_rng(74)
    u = np.concatenate([WORDS, rng.integers(0, 2**32, 1 << 14), rng.integers(2**31, 2**32, 1 << 12)]).astype(np.uint32)
    for mode in ("jit", "eager", "constants"):
        single = MODES[mode](lambda v: convert.convert(v, UINT32, FP32), u.view(np.int32))
        assert_same_bits(single, u.astype(np.float32).view(np.uint32), u, note=mode)
    half = convert.convert(u.view(np.int32), UINT32, BF16)
    assert_same_bits(half, sf.to_bf16(u.astype(np.float32).view(np.uint32)), u)
    assert_same_bits(convert.convert(u.view(np.int32), UINT32, INT32), u.view(np.int32))
    assert_same_bits(convert.convert(u.view(np.int32), UINT32, BOOL), u != 0)
    x = np.array(
        [0.0, -0.0, 0.9, 1.9, -0.9, -5.0, 2.0**31, 2.0**32 - 256, 2.0**32, np.inf, -np.inf, np.nan], np.float32
    )
    want = np.array([0, 0, 0, 1, 0, 0, 2**31, 2**32 - 256, TOP, TOP, 0, 0], np.uint32)
    for mode in ("jit", "eager", "constants"):
        got = MODES[mode](lambda v: convert.convert(v, FP32, UINT32), x)
        assert_same_bits(got, want.view(np.int32), x.view(np.uint32), note=mode)
    assert_same_bits(convert.convert(np.array([True, False]), BOOL, UINT32), np.array([1, 0], np.int32))


def test_bits_are_read_in_another_format():
    """What becomes FP32 enters the machine: denormals are zeros and NaN is one."""
    bits = np.array([0, 1, 0x807FFFFF, 0x3F800000, 0xC0490FDB, 0x7F800000, 0xFF800001, 0x7FC00000], np.uint32)
    entered = np.array([0, 0, 0x80000000, 0x3F800000, 0xC0490FDB, 0x7F800000, 0x7FC00000, 0x7FC00000], np.uint32)
    for source in (INT32, UINT32):
        assert_same_bits(convert.reinterpret(bits.view(np.int32), source, FP32), entered)
        back = convert.reinterpret(jnp.asarray(entered.view(np.float32)), FP32, source)
        assert_same_bits(back, entered.view(np.int32))
    assert_same_bits(convert.reinterpret(bits.view(np.int32), INT32, UINT32), bits.view(np.int32))
    with pytest.raises(FormatError, match=r"given:   bf16 as int32\n  allowed: fp32, int32, uint32"):
        convert.reinterpret(jnp.zeros(3), BF16, INT32)


def test_words_pass_the_border_unchanged():
    u = WORDS.astype(np.uint32)
    carried = convert.enter(u)
    assert carried.dtype == jnp.int32 and convert.leave(carried, UINT32).dtype == jnp.uint32
    assert (patterns(convert.leave(carried, UINT32)) == u).all()
