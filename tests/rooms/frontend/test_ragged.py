"""Products of groups of rows: against a loop over the rows, by both ways, with gradients and in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.base.errors import UnsupportedError
from rdujax.ops.contract import Contract
from tests.oracles.harness import in_full
from tests.rooms.compiler.samples import assert_same

SIZES = {"few groups": (2, 0, 4), "all rows": (3, 4, 1), "many groups": (0, 2, 0, 0, 1, 0, 3, 0, 0, 0), "none": (0, 0)}


def by_hand(x: np.ndarray, w: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Row by row, K one after another, in the dtype of the operands; zeros beyond the last group."""
    out = np.zeros((x.shape[0], w.shape[2]), x.dtype)
    for row, group in enumerate(np.repeat(np.arange(len(sizes)), sizes)):
        for k in range(x.shape[1]):
            out[row] = out[row] + x[row, k] * w[group, k]
    return out


def draw(rng, *shape: int) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("name", SIZES)
def test_every_row_meets_the_matrix_of_its_group(rng, name):
    sizes = SIZES[name]
    x, w = draw(rng, 8, 5), draw(rng, len(sizes), 5, 6)
    given = jnp.asarray(sizes, jnp.int32)
    program = rdu.compile(lax.ragged_dot, x, w, given, machine="tiny")
    assert_same(program(x, w, given), by_hand(np.asarray(x), np.asarray(w), sizes), name)
    (product,) = (node for node in program.graph.nodes if isinstance(node.op, Contract))
    terms = product.op.flops(*program.graph.types_of(product.operands)) // 2
    assert terms == (1 if len(sizes) > 8 else len(sizes)) * 8 * 5 * 6


def test_other_groups_are_not_mixed_in(rng):
    """An infinite matrix of one group spoils no row of another, as it would where zeros were multiplied by it."""
    x, w = draw(rng, 4, 3), draw(rng, 2, 3, 2).at[1].set(jnp.inf)
    sizes = jnp.asarray([4, 0], jnp.int32)
    assert np.isfinite(rdu.compile(lax.ragged_dot, x, w, sizes)(x, w, sizes)).all()


@pytest.mark.parametrize("name", ["few groups", *in_full("all rows", "many groups")])
def test_gradients_are_ragged_products_too(rng, name):
    given = jnp.asarray(SIZES[name], jnp.int32)
    x, w, y = draw(rng, 8, 5), draw(rng, len(given), 5, 6), draw(rng, 8, 6)

    def loss(x, w, sizes):
        return (lax.ragged_dot(x, w, sizes) * y).sum()

    grad = jax.grad(loss, argnums=(0, 1))
    ours, theirs = rdu.compile(grad, x, w, given, machine="tiny")(x, w, given), grad(x, w, given)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, *in_full(True)])
def test_in_batches(rng, shared):
    x, w = draw(rng, 2, 6, 3), draw(rng, 2, 3, 3, 4)
    sizes = jnp.asarray([[1, 2, 3], [0, 5, 1]], jnp.int32)
    numbers = lax.RaggedDotDimensionNumbers((((2,), (2,)), ((0,), (0,))), (1,), (1,))
    together = lambda x, w, sizes: lax.ragged_dot_general(x, w, sizes, numbers)  # noqa: E731
    many = together if shared else jax.vmap(lax.ragged_dot)
    given = sizes[0] if shared else sizes
    one = rdu.compile(lax.ragged_dot, x[0], w[0], sizes[0])
    want = np.stack([one(x[i], w[i], sizes[0 if shared else i]) for i in range(2)])
    assert_same(rdu.compile(many, x, w, given)(x, w, given), want)


def test_bf16_with_sums_in_fp32(rng):
    x, w, sizes = draw(rng, 8, 5).astype(jnp.bfloat16), draw(rng, 2, 5, 6).astype(jnp.bfloat16), jnp.array([3, 4])
    fn = lambda x, w, sizes: lax.ragged_dot(x, w, sizes, preferred_element_type=jnp.float32)  # noqa: E731
    want = by_hand(np.asarray(x, np.float32), np.asarray(w, np.float32), (3, 4))
    assert_same(rdu.compile(fn, x, w, sizes)(x, w, sizes), want)


def test_groups_of_batches_are_refused(rng):
    numbers = lax.RaggedDotDimensionNumbers((((2,), (1,)), ((0,), (0,))), (0,), ())
    x, w, sizes = draw(rng, 4, 2, 3), draw(rng, 4, 3, 2), jnp.array([1, 3])
    fn = lambda x, w, sizes: lax.ragged_dot_general(x, w, sizes, numbers)  # noqa: E731
    with pytest.raises(UnsupportedError, match=r"groups of batches(.|\n)*group rows"):
        rdu.compile(fn, x, w, sizes)
