"""What XLA would rewrite if it could see it: broadcast divisors, and zeros in trees."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import arithmetic, reduce, registers
from tests.oracles import softfloat as sf
from tests.oracles.harness import assert_same_bits, in_full, patterns, raw

FULL = (3, 8, 16)
SUBSETS = list(itertools.product(*[(1, n) for n in FULL]))
ZEROS = np.array([0x00000000, 0x80000000, 0x00000001, 0x80000001], np.uint32)


@pytest.mark.parametrize(
    "divide",
    [pytest.param(arithmetic.div, id="public", marks=pytest.mark.full), pytest.param(registers.div, id="registers")],
)
@pytest.mark.parametrize("shape", SUBSETS, ids=str)
def test_division_by_broadcasts(divide, shape: tuple[int, ...], rng: np.random.Generator):
    """Dividend and divisor broadcast over any axes, either of them constant: no product with a reciprocal."""

    def quotient(x, y):
        return divide(jnp.broadcast_to(x, FULL), jnp.broadcast_to(y, FULL))

    y = rng.uniform(0.5, 2, shape).astype(np.float32)
    for other in SUBSETS[:: 3 if shape != (1, 1, 1) else 1]:
        x = rng.uniform(0.5, 2, other).astype(np.float32)
        want = np.broadcast_to(sf.div(patterns(x), patterns(y)), FULL)
        assert_same_bits(jax.jit(quotient)(x, y), want, note=f"{other} by {shape}")
        assert_same_bits(jax.jit(lambda y, x=x: quotient(x, y))(y), want, note=f"constant {other} by {shape}")
        assert_same_bits(jax.jit(lambda x: quotient(x, y))(x), want, note=f"{other} by constant {shape}")


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (16,), (8, 1), (8, 16)], ids=str)
def test_division_of_a_batch(axes: tuple, shape: tuple[int, ...], rng: np.random.Generator):
    """Whichever of the two `vmap` maps, once or twice, and whether XLA knows it: no divisor is a broadcast."""
    x = rng.uniform(0.5, 2, (3, 8, 16)).astype(np.float32)
    y = rng.uniform(0.5, 2, shape if axes[1] is None else (x.shape[0], *shape)).astype(np.float32)
    x = x if axes[0] is not None else x[0]

    def quotient(x, y):
        return registers.div(x, jnp.broadcast_to(y, x.shape))

    once, want = jax.vmap(quotient, in_axes=axes), np.stack(_quotients(x, y, axes))
    x, y = jnp.asarray(x), jnp.asarray(y)
    assert_same_bits(jax.jit(once)(x, y), want, note="once")
    assert_same_bits(jax.jit(lambda y: once(x, y))(y), want, note="a constant dividend")
    assert_same_bits(jax.jit(lambda x: once(x, y))(x), want, note="a constant divisor")
    twice = jax.jit(jax.vmap(once, in_axes=(0, None)))(jnp.stack([x, x]), y)
    assert_same_bits(twice, np.stack([want, want]), note="twice")


def _quotients(x: np.ndarray, y: np.ndarray, axes: tuple) -> list[np.ndarray]:
    """Each division of a batch by itself, as patterns."""
    count = next(v.shape[axis] for v, axis in zip((x, y), axes, strict=True) if axis is not None)
    found = []
    for i in range(count):
        one, other = (v if axis is None else np.take(v, i, axis) for v, axis in zip((x, y), axes, strict=True))
        found.append(sf.div(patterns(one), patterns(np.broadcast_to(other, one.shape))))
    return found


@pytest.mark.parametrize("length", [3, 8, *in_full(2, 4, 7)])
@pytest.mark.parametrize("zero", ZEROS, ids=hex)
def test_trees_over_padding(length: int, zero: np.uint32, rng: np.random.Generator):
    """Zeros that XLA can see are added all the same: -0 + +0 = +0."""
    for kept in range(length):
        bits = rng.choice(ZEROS, (2, length))
        bits[:, kept:] = zero
        want = sf.tree_sum(bits, 1)
        head, fill = raw(bits[:, :kept]), raw(bits[:, kept:])
        widths = ((0, 0), (0, length - kept))
        padded = jax.jit(lambda x, w=widths: reduce.tree_sum(jnp.pad(x, w, constant_values=raw(zero)), 1))
        joined = jax.jit(lambda x, fill=fill: reduce.tree_sum(jnp.concatenate([x, fill], 1), 1))
        folded = jax.jit(lambda head=head, fill=fill: reduce.tree_sum(jnp.concatenate([head, fill], 1), 1))
        assert_same_bits(padded(head), want, note="pad")
        assert_same_bits(joined(head), want, note="concatenate")
        assert_same_bits(folded(), want, note="constant")
