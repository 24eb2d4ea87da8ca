"""Derivatives of arithmetic, conversions, contraction and reduction: the real functions', under every transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import arithmetic, bits, convert, reduce
from rdujax.numerics.contract import contract
from rdujax.numerics.formats import BF16, FP32
from rdujax.numerics.functions import FUNCTIONS, apply

REFERENCES = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "neg": jnp.negative,
    "abs": jnp.abs,
    "square": jnp.square,
    "sqrt": jnp.sqrt,
    "clamp": lambda lo, x, hi: jnp.minimum(jnp.maximum(x, lo), hi),
}
POINTS = np.array([0.75, 1.5, 2.25, 3.0, 5.5], np.float32)


def _operands(arity: int) -> tuple[np.ndarray, ...]:
    return tuple(np.roll(POINTS, i) for i in range(arity))


@pytest.mark.parametrize("fmt", [BF16, FP32], ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_first_and_second_derivatives(name: str, fmt):
    """Against JAX's own function: forward, reverse, and forward over reverse; rounding counts as the identity."""
    arity = FUNCTIONS[name].arity
    operands, positions = _operands(arity), tuple(range(arity))
    exact = jax.vmap(jax.grad(lambda *x: apply(name, fmt, *x), positions))(*operands)
    plain = jax.vmap(jax.grad(lambda *x: REFERENCES[name](*x), positions))(*operands)
    np.testing.assert_allclose(exact, plain, rtol=8e-3 if fmt is BF16 else 1e-6)
    forward = jax.vmap(jax.jacfwd(lambda *x: apply(name, fmt, *x), positions))(*operands)
    np.testing.assert_allclose(forward, exact, rtol=1e-6)
    bend = jax.vmap(jax.hessian(lambda *x: apply(name, fmt, *x), positions))(*operands)
    plain_bend = jax.vmap(jax.hessian(lambda *x: REFERENCES[name](*x), positions))(*operands)
    np.testing.assert_allclose(np.array(bend), np.array(plain_bend), rtol=2e-2 if fmt is BF16 else 1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [-2, 0, 1, 3])
def test_integer_power(n: int):
    slope = jax.vmap(jax.grad(lambda x: arithmetic.integer_power(x, n)))(POINTS)
    np.testing.assert_allclose(slope, n * POINTS.astype(np.float64) ** (n - 1), rtol=1e-6)


@pytest.mark.parametrize(
    "through",
    [
        bits.isolate,
        bits.flush,
        bits.canonicalize,
        bits.commit_bf16,
        lambda x: convert.round_to(x, BF16),
        lambda x: convert.convert(x, FP32, BF16),
        lambda x: convert.round_stochastic(x, np.uint16(0x8001)),
        lambda x: convert.leave(convert.enter(x), FP32),
    ],
)
def test_rounding_is_straight_through(through):
    slope = jax.vmap(jax.value_and_grad(through))(jnp.float32([0.1, -3.3, 1e-40, 0.0]))[1]
    assert np.array_equal(slope, np.ones(4, np.float32))


def test_the_border_keeps_the_public_dtype():
    slope = jax.grad(lambda x: convert.leave(apply("square", BF16, convert.enter(x)), BF16).astype(jnp.float32))(
        jnp.bfloat16(1.5)
    )
    assert slope.dtype == jnp.bfloat16 and slope == 3.0


def test_selection_at_kinks():
    """Equal bits share; -0 and +0 are told apart; the losing NaN gets nothing."""
    both = jax.grad(arithmetic.maximum, (0, 1))
    assert both(2.0, 2.0) == (0.5, 0.5)
    assert both(-0.0, 0.0) == (0.0, 1.0)
    assert jax.grad(arithmetic.minimum, (0, 1))(-0.0, 0.0) == (1.0, 0.0)
    assert both(1.0, np.float32(np.nan)) == (0.0, 1.0)
    assert jax.grad(lambda x: arithmetic.select(True, x, 3.0))(1.0) == 1.0


def test_broadcast_operands_sum_their_cotangents():
    row, scalar = jnp.float32([1.0, 2.0, 3.0]), jnp.float32(2.0)
    slopes = jax.grad(lambda x, y: jnp.sum(arithmetic.mul(x, y)), (0, 1))(row, scalar)
    assert np.array_equal(slopes[0], [2.0, 2.0, 2.0]) and slopes[1] == 6.0


def _matrices() -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(3))
    return jax.random.normal(keys[0], (3, 20)), jax.random.normal(keys[1], (20, 4))


def _loss(matmul):
    return lambda a, b: jnp.sum(jnp.sin(matmul(a, b)))


def test_contraction_every_transform():
    a, b = _matrices()
    exact, plain = _loss(contract), _loss(lambda a, b: jnp.matmul(a, b, precision="highest"))
    want = jax.grad(plain, (0, 1))(a, b)
    for fn in (exact, jax.jit(exact), jax.checkpoint(exact)):
        for got, reference in zip(jax.grad(fn, (0, 1))(a, b), want, strict=True):
            np.testing.assert_allclose(got, reference, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.hessian(exact)(a, b), jax.hessian(plain)(a, b), rtol=1e-4, atol=1e-4)
    batch = jnp.stack([a, 2 * a])
    mapped = jax.vmap(jax.grad(exact, 1), (0, None))(batch, b)
    np.testing.assert_allclose(mapped[1], jax.grad(plain, 1)(2 * a, b), rtol=1e-4, atol=1e-5)


def test_contraction_in_a_scan():
    a, b = _matrices()

    def total(b):
        return jax.lax.scan(lambda c, row: (c + jnp.sum(contract(row[None], b)), None), 0.0, a)[0]

    np.testing.assert_allclose(jax.grad(total)(b), jax.grad(lambda b: jnp.sum(a @ b))(b), rtol=1e-4, atol=1e-5)


def test_contraction_with_words_accumulator_and_splits():
    a, b = _matrices()
    words = convert.pack(convert.round_to(b, BF16))
    slope = jax.grad(lambda a: jnp.sum(contract(a, words)))(a)
    np.testing.assert_allclose(slope, jnp.broadcast_to(convert.unpack(words).sum(1), a.shape), rtol=1e-5)
    assert np.array_equal(jax.grad(lambda c: jnp.sum(contract(a, b, acc=c)))(jnp.ones((3, 4))), np.ones((3, 4)))
    split = jax.grad(lambda a: jnp.sum(contract(a, b, k_splits=3)))(a)
    np.testing.assert_allclose(split, jnp.broadcast_to(b.sum(1), a.shape), rtol=1e-5)


def test_a_forward_pass_under_grad_has_the_same_bits():
    a, b = _matrices()
    forward = contract(a, b)
    assert np.array_equal(jax.vjp(contract, a, b)[0], forward)
    assert np.array_equal(jax.jvp(contract, (a, b), (a, b))[0], forward)


@pytest.mark.parametrize("shape", [(3, 7), (2, 16)])
def test_reductions(shape: tuple[int, int]):
    x = jax.random.normal(jax.random.key(1), shape)
    weights = jnp.arange(1.0, shape[0] + 1)
    for fn in (lambda x: reduce.tree_sum(x, 1), lambda x: reduce.lane_sum(x, 1, 4)):
        slope = jax.grad(lambda x, fn=fn: jnp.sum(fn(x) * weights))(x)
        assert np.array_equal(slope, jnp.broadcast_to(weights[:, None], shape))
    for fn, reference in ((reduce.tree_max, jnp.max), (reduce.tree_min, jnp.min)):
        slope = jax.grad(lambda x, fn=fn: jnp.sum(fn(x, 1) * weights))(x)
        want = jax.grad(lambda x, fn=reference: jnp.sum(fn(x, 1) * weights))(x)
        assert np.array_equal(slope, want)


def test_ties_in_a_reduction_share_equally():
    slope = jax.grad(lambda x: reduce.tree_max(x, 0))(jnp.float32([2.0, 1.0, 2.0, -3.0]))
    assert np.array_equal(slope, [0.5, 0.0, 0.5, 0.0])
