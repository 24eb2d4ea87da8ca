"""Whole programs against a second implementation: NumPy on an integer softfloat, operator by operator (law L4)."""

import jax.numpy as jnp
import numpy as np
from scipy import special

import rdujax as rdu
from tests.oracles import softfloat as sf
from tests.rooms.compiler.samples import draw, mlp, monarch, raw, small, words


def bits(x) -> np.ndarray:
    """FP32 patterns of a bfloat16 or float32 array, without any cast of floats."""
    words_at_rest = raw(x)
    return words_at_rest.astype(np.uint32) << 16 if words_at_rest.dtype == np.uint16 else words_at_rest


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A matrix product delivered in BF16."""
    return sf.to_bf16(sf.contract(a, b))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """An element-wise product delivered in BF16."""
    return sf.to_bf16(sf.mul(a, b))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The value in float64 rounded once to BF16: no sigmoid of a BF16 number lies within 2^-28 of a boundary."""
    mantissa, exponent = np.frexp(special.expit(x.view(np.float32).astype(np.float64)))
    return sf.round_pack(np.zeros(x.shape, np.int64), (mantissa * 2**53).astype(np.int64), exponent - 53, precision=8)


def test_monarch(rng: np.random.Generator):
    x, w0, scale, w1 = (draw(rng, *s) for s in ((24, 20), (42, 24), (42, 20), (12, 20)))
    hidden = multiply(product(bits(w0), bits(x)), bits(scale))
    want = product(bits(w1), np.ascontiguousarray(hidden.T))
    for fusion in ("streaming", "none"):
        got = rdu.compile(monarch, x, w0, scale, w1, machine=small(), fusion=fusion)(x, w0, scale, w1)
        assert got.dtype == jnp.bfloat16 and np.array_equal(bits(got), want)


def test_mlp(rng: np.random.Generator):
    args = x, gate, up, down = tuple(draw(rng, *s) for s in ((21, 16), (16, 36), (16, 36), (36, 16)))
    opened = product(bits(x), bits(gate))
    hidden = multiply(multiply(opened, sigmoid(opened)), product(bits(x), bits(up)))
    got = rdu.compile(mlp, *args, machine=small())(*args)
    assert np.array_equal(bits(got), product(hidden, bits(down)))


def test_single_precision_with_k_in_segments_and_extreme_values(rng: np.random.Generator):
    """Denormals, infinities and NaN among the operands; 3 + 3 + 1 products in three segments."""
    patterns = rng.integers(0, 1 << 32, (9, 7), dtype=np.uint32)
    weights = sf.canonical(raw(draw(rng, 7, 5, dtype=jnp.float32)))
    a, b = jnp.asarray(patterns.view(np.float32)), jnp.asarray(weights.view(np.float32))
    c = b[0]
    got = rdu.compile(lambda a, b, c: (a @ b) - c[None, :], a, b, c, machine=small(), k_splits=3)(a, b, c)
    want = sf.sub(sf.contract(sf.canonical(patterns), weights, segments=(3, 3, 1)), weights[0])
    assert np.array_equal(bits(got), want)


def test_integers(rng: np.random.Generator):
    x, w, y = (jnp.asarray(rng.integers(-(2**31), 2**31, s), jnp.int32) for s in ((22, 17), (17, 9), (22, 9)))
    first, second = rdu.compile(words, x, w, y, machine=small())(x, w, y)
    big = np.asarray(x).astype(object) @ np.asarray(w).astype(object)
    z = sf.wrap(np.array([[int(v) & 0xFFFFFFFF for v in row] for row in big], np.int64))
    y = np.asarray(y)
    want = np.where(z > y, sf.integer_rem(z, y), sf.shift_left(z, np.int32(3)))
    assert np.array_equal(first, want)
    assert np.array_equal(second, sf.shift_right_arithmetic(z, y & 7))
