"""FP32 arithmetic of the machine against the integer softfloat: 0 differing bits in every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import arithmetic
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import COUNTS, MODES, assert_same_bits, in_full, raw

UNARY = ("neg", "absolute", "sqrt", "reciprocal", "rsqrt")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")
LENGTHS_IN_FULL = pytest.param("odd_lengths", marks=pytest.mark.full)
QUICK_MODES = ("eager", "jit", "vmap", "constants", "last_constant")
IN_FULL = [pytest.param(name, marks=pytest.mark.full) for name in COMPARISONS if name != "less"]
LARGE_ENOUGH = 1 << 16  # constants beyond this only cost compile time


def _vectors(count: int, mode: str, seed: int) -> tuple[np.ndarray, ...]:
    return vectors.pairs(min(count, LARGE_ENOUGH) if "constant" in mode else count, seed)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", [*QUICK_MODES, *in_full(*(mode for mode in MODES if mode not in QUICK_MODES))])
@pytest.mark.parametrize("name", [*BINARY, "less", *IN_FULL])
def test_binary(name: str, mode: str, count: int):
    """Raw operands, denormals and odd NaNs among them (N2)."""
    x, y = _vectors(count, mode, seed=21)
    got = MODES[mode](getattr(arithmetic, name), raw(x), raw(y))
    assert_same_bits(got, getattr(sf, name)(x, y), x, y, note=f"{name} {mode}")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", ["eager", "jit", "vmap", "constants", *in_full("without_jit", "scan", "odd_lengths")])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, mode: str, count: int):
    """Raw operands, denormals and odd NaNs among them (N2)."""
    x, _ = _vectors(count, mode, seed=22)
    got = MODES[mode](getattr(arithmetic, name), raw(x))
    assert_same_bits(got, getattr(sf, name)(x), x, note=f"{name} {mode}")


@pytest.mark.parametrize("mode", MODES)
def test_not_equal(mode: str):
    """The negation of `equal`, so that x != x finds the NaNs."""
    x, y = _vectors(1 << 14, mode, seed=23)
    got = MODES[mode](arithmetic.not_equal, raw(x), raw(y))
    assert_same_bits(got, ~sf.equal(x, y), x, y, note=mode)


@pytest.mark.parametrize("mode", MODES)
def test_select_and_clamp(mode: str):
    """Moves, and two ordered picks, of raw operands."""
    x, y = _vectors(1 << 14, mode, seed=24)
    z = np.roll(x, 7)
    predicate = np.random.default_rng(0).random(x.size) < 0.5
    got = MODES[mode](arithmetic.select, predicate, raw(x), raw(y))
    assert_same_bits(got, sf.select(predicate, x, y), x, y, note=f"select {mode}")
    got = MODES[mode](arithmetic.clamp, raw(x), raw(y), raw(z))
    assert_same_bits(got, sf.clamp(x, y, z), x, y, z, note=f"clamp {mode}")


A, S, M, D = (getattr(arithmetic, name) for name in ("add", "sub", "mul", "div"))
R = arithmetic.sqrt
# Each expression is one that a compiler likes to contract, re-associate, merge or fold.
REWRITES = {
    "multiply-add": (lambda x, y, z: A(M(x, y), z), lambda x, y, z: sf.add(sf.mul(x, y), z)),
    "multiply-subtract": (lambda x, y, z: S(z, M(x, y)), lambda x, y, z: sf.sub(z, sf.mul(x, y))),
    "sum of products": (lambda x, y, z: A(M(x, y), M(y, z)), lambda x, y, z: sf.add(sf.mul(x, y), sf.mul(y, z))),
    "(x + y) - y": (lambda x, y, z: S(A(x, y), y), lambda x, y, z: sf.sub(sf.add(x, y), y)),
    "(x / y) / z": (lambda x, y, z: D(D(x, y), z), lambda x, y, z: sf.div(sf.div(x, y), z)),
    "(x / y) / x": (lambda x, y, z: D(D(x, y), x), lambda x, y, z: sf.div(sf.div(x, y), x)),
    "x / (y / x)": (lambda x, y, z: D(x, D(y, x)), lambda x, y, z: sf.div(x, sf.div(y, x))),
    "x / sqrt(y)": (lambda x, y, z: D(x, R(y)), lambda x, y, z: sf.div(x, sf.sqrt(y))),
    "sqrt(x) * sqrt(x)": (lambda x, y, z: M(R(x), R(x)), lambda x, y, z: sf.mul(sf.sqrt(x), sf.sqrt(x))),
    "x - x": (lambda x, y, z: S(x, x), lambda x, y, z: sf.sub(x, x)),
    "x / x": (lambda x, y, z: D(x, x), lambda x, y, z: sf.div(x, x)),
    "-(x - y)": (lambda x, y, z: arithmetic.neg(S(x, y)), lambda x, y, z: sf.neg(sf.sub(x, y))),
    "x + x + x": (lambda x, y, z: A(A(x, x), x), lambda x, y, z: sf.add(sf.add(x, x), x)),
    "abs(x) * abs(x)": (
        lambda x, y, z: M(arithmetic.absolute(x), arithmetic.absolute(x)),
        lambda x, y, z: sf.mul(x, x),
    ),
}


@pytest.mark.parametrize("mode", [m for m in MODES if m != "odd_lengths"] + [LENGTHS_IN_FULL])
@pytest.mark.parametrize("name", REWRITES)
def test_no_rewrite(name: str, mode: str):
    """Compositions keep the bits of their parts: no fused multiply-add, nothing merged or re-associated (N5)."""
    op, oracle = REWRITES[name]
    x, y = vectors.pairs(1 << 13, seed=27)
    rng = np.random.default_rng(28)
    normal = rng.normal(size=(3, 1 << 13)).astype(np.float32).view(np.uint32)
    near = sf.neg(sf.mul(normal[0], normal[1]))  # the sum of a product with almost its opposite shows a contraction
    operands = [np.concatenate(v) for v in zip((x, y, np.roll(y, 3)), normal, (*normal[:2], near), strict=True)]
    got = MODES[mode](op, *map(raw, operands))
    assert_same_bits(got, oracle(*operands), *operands, note=f"{name} {mode}")


@pytest.mark.parametrize("name", BINARY)
def test_scalar_constants(name: str):
    """One constant against a whole array, on either side: 1/3, 0.7, -0, denormals, NaNs and the rest."""
    x = np.concatenate([vectors.SPECIALS, vectors.pairs(1 << 9, seed=29)[0]])
    op, oracle = getattr(arithmetic, name), getattr(sf, name)
    scalars = np.concatenate([vectors.SPECIALS[::3], np.array([0, 0x80000000, 0x3EAAAAAB, 0x3F333333], np.uint32)])
    values = [jnp.float32(v) for v in raw(scalars)]
    right = jax.jit(lambda v: jnp.stack([op(v, c) for c in values]))(raw(x))
    left = jax.jit(lambda v: jnp.stack([op(c, v) for c in values]))(raw(x))
    assert_same_bits(right, oracle(x[None], scalars[:, None]), x[None], scalars[:, None], note="right")
    assert_same_bits(left, oracle(scalars[:, None], x[None]), scalars[:, None], x[None], note="left")


@pytest.mark.parametrize("name", BINARY)
def test_two_scalar_constants(name: str):
    """Both operands literal scalars, the flush window among them: what stops folding for arrays may not for scalars."""
    x, y = vectors.pairs(6 * 48, seed=33)
    op = getattr(arithmetic, name)
    literals = [(jnp.float32(v), jnp.float32(w)) for v, w in zip(raw(x), raw(y), strict=True)]
    got = jax.jit(lambda: jnp.stack([op(v, w) for v, w in literals]))()
    assert_same_bits(got, getattr(sf, name)(x, y), x, y, note=name)


@pytest.mark.parametrize("name", BINARY)
def test_broadcast(name: str):
    """A column or a scalar argument against a matrix: softmax divides so."""
    x, y = vectors.pairs(1 << 12, seed=30)
    x, column = x.reshape(64, 64), y[::64, None]
    op, oracle = getattr(arithmetic, name), getattr(sf, name)
    for mode in (harness.jit, harness.eager, harness.constants, harness.last_constant):
        got = mode(op, raw(x), raw(column))
        assert_same_bits(got, oracle(x, column), x, column, note=mode.__name__)
    got = jax.jit(op)(raw(x), raw(y[5:6])[0])
    assert_same_bits(got, oracle(x, y[5]), x, y[5], note="scalar argument")


@pytest.mark.parametrize("name", BINARY)
def test_slices(name: str):
    """An element's bits do not depend on its neighbours: any slice alone equals the slice of the whole."""
    x, y = vectors.pairs(1 << 10, seed=31)
    whole = jax.jit(getattr(arithmetic, name))(raw(x), raw(y))
    for start, stop in ((0, 1), (3, 10), (511, 1024), (77, 110)):
        part = jax.jit(getattr(arithmetic, name))(raw(x[start:stop]), raw(y[start:stop]))
        assert_same_bits(part, harness.patterns(whole)[start:stop], note=f"{start}:{stop}")


def _power(x: np.ndarray, n: int) -> np.ndarray:
    """By squaring from the low bit of |n| up; a negative power is a reciprocal."""
    result, factor = None, sf.canonical(x)
    for bit in reversed(f"{abs(n):b}"):
        if bit == "1":
            result = factor if result is None else sf.mul(result, factor)
        factor = sf.mul(factor, factor)
    if result is None:
        result = np.where(sf.Fields(x).nan, np.uint32(sf.QNAN), np.uint32(sf.ONE))
    return sf.reciprocal(result) if n < 0 else result


@pytest.mark.parametrize("power", [0, 1, 3, 13, -2, *in_full(2, 4, 5, 7, 64, -1, -3)])
def test_integer_power(power: int):
    """Every product of the squaring chain is one result."""
    x, _ = vectors.pairs(1 << 12, seed=32)
    for mode in (harness.jit, harness.eager, harness.constants, harness.odd_lengths):
        got = mode(lambda v: arithmetic.integer_power(v, power), raw(x))
        assert_same_bits(got, _power(x, power), x, note=mode.__name__)
