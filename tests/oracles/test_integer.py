"""INT32 arithmetic (N7) against NumPy integers of twice the width, in every mode, folded constants included."""

import jax
import numpy as np
import pytest

from rdujax.numerics import functions, integer
from rdujax.numerics.formats import INT32
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import COUNTS, MODES, assert_same_bits, in_full


def _wide(function):
    return lambda *operands: sf.wrap(function(*(v.astype(np.int64) for v in operands)))


QUICK_MODES = ("eager", "jit", "vmap", "last_constant")
BINARY = {
    "add": _wide(np.add),
    "sub": _wide(np.subtract),
    "mul": lambda x, y: (x.astype(np.uint32) * y.astype(np.uint32)).astype(np.int32),
    "div": sf.integer_div,
    "rem": sf.integer_rem,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "shift_left": sf.shift_left,
    "shift_right_logical": sf.shift_right_logical,
    "shift_right_arithmetic": sf.shift_right_arithmetic,
    "bit_and": np.bitwise_and,
    "bit_or": np.bitwise_or,
    "bit_xor": np.bitwise_xor,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}
UNARY = {"neg": _wide(np.negative), "absolute": _wide(np.abs), "sign": np.sign, "bit_not": np.invert}
REGISTERED = {"absolute": "abs", "maximum": "max", "minimum": "min", "bit_and": "and", "bit_or": "or"}
REGISTERED |= {"bit_xor": "xor", "bit_not": "not"}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", [*QUICK_MODES, *in_full(*(mode for mode in MODES if mode not in QUICK_MODES))])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, mode: str, count: int):
    x, y = vectors.integers(min(count, 1 << 16) if "constant" in mode else count, seed=51)
    got = MODES[mode](getattr(integer, name), x, y)
    assert_same_bits(got, BINARY[name](x, y), x, y, note=f"{name} {mode}")


@pytest.mark.parametrize("mode", [m for m in MODES if m not in ("first_constant", "last_constant")])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, mode: str):
    x, _ = vectors.integers(1 << 14, seed=52)
    assert_same_bits(MODES[mode](getattr(integer, name), x), UNARY[name](x), x, note=f"{name} {mode}")


@pytest.mark.parametrize("name", [*BINARY, *UNARY])
def test_registry(name: str):
    """The registry's INT32 entries are these functions."""
    operands = vectors.integers(1 << 12, seed=53)[: 2 if name in BINARY else 1]
    want = (BINARY | UNARY)[name](*operands)
    got = functions.apply(REGISTERED.get(name, name), INT32, *map(np.asarray, operands))
    assert_same_bits(got, want, *operands, note=name)


@pytest.mark.parametrize("name", ["div", "rem", "shift_left", "shift_right_arithmetic"])
def test_scalar_constants(name: str):
    """A literal divisor or distance, 0 and -1 among them, on either side: folding must not end the process."""
    x, _ = vectors.integers(1 << 10, seed=54)
    for constant in (0, 1, -1, 2, -2, 3, 31, 32, 33, -(2**31), 2**31 - 1):
        other = np.full_like(x, constant)
        right = jax.jit(lambda v, c=constant: getattr(integer, name)(v, c))(x)
        left = jax.jit(lambda v, c=constant: getattr(integer, name)(c, v))(x)
        both = jax.jit(lambda c=constant: getattr(integer, name)(np.int32(-(2**31)), c))()
        assert_same_bits(right, BINARY[name](x, other), x, other, note="right")
        assert_same_bits(left, BINARY[name](other, x), other, x, note="left")
        assert both == BINARY[name](np.array([-(2**31)], np.int32), np.array([constant], np.int32))[0]


@pytest.mark.parametrize("mode", MODES)
def test_select_and_clamp(mode: str):
    x, y = vectors.integers(1 << 13, seed=55)
    z = np.roll(y, 5)
    predicate = x % 3 == 0
    assert_same_bits(MODES[mode](integer.select, predicate, x, y), np.where(predicate, x, y), x, y, note=mode)
    assert_same_bits(MODES[mode](integer.clamp, x, y, z), np.minimum(np.maximum(y, x), z), x, y, z, note=mode)


@pytest.mark.parametrize("power", [0, 1, 2, 3, 5, 8, 31])
def test_integer_power(power: int):
    x, _ = vectors.integers(1 << 12, seed=56)
    want = np.array([(pow(v, power) + (1 << 31)) % (1 << 32) - (1 << 31) for v in x.tolist()], np.int64)
    for mode in (harness.jit, harness.eager, harness.constants):
        got = mode(lambda v: integer.integer_power(v, power), x)
        assert_same_bits(got, want.astype(np.int32), x, note=mode.__name__)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 33, 5), (17, 100, 1), (8, 257, 16)])
def test_contract(shape: tuple[int, int, int]):
    """The wrapping product of matrices, also with a batch axis, batched, looped and folded."""
    m, k, n = shape
    rng = np.random.default_rng(57)
    a, b = (rng.integers(-(2**31), 2**31, s).astype(np.int32) for s in ((4, m, k), (4, k, n)))
    want = (a.view(np.uint32) @ b.view(np.uint32)).view(np.int32)
    for mode in (harness.jit, harness.eager, harness.constants, harness.without_jit):
        assert_same_bits(mode(integer.contract, a, b), want, note=mode.__name__)
    assert_same_bits(jax.jit(jax.vmap(integer.contract))(a, b), want, note="vmap")
    looped = jax.jit(lambda ab: jax.lax.scan(lambda c, row: (c, integer.contract(*row)), 0, ab)[1])
    assert_same_bits(looped((a, b)), want, note="scan")
