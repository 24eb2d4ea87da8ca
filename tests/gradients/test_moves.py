"""Derivatives of what moves data: of the function, compiled, and through the compiled function, against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu

GRADIENTS = {
    "look-up": lambda x, i, u: (x[i] * u).sum(),
    "look-up, clipped": lambda x, i, u: (jnp.take(x, i, axis=0, mode="clip") * u).sum(),
    "add": lambda x, i, u: (x.at[i].add(u) ** 2).sum(),
    "set": lambda x, i, u: (x.at[i % 7].set(u) ** 2).sum(),
    "set, once each": lambda x, i, u: (x.at[i % 7].set(u, unique_indices=True) ** 2).sum(),
    "max": lambda x, i, u: (x.at[i].max(u) ** 2).sum(),
    "concatenate": lambda x, i, u: (jnp.concatenate([u, x]) ** 3).sum(),
    "pad": lambda x, i, u: (jax.lax.pad(x, u[0, 0], ((1, -2, 1), (0, 2, 0))) ** 2).sum(),
    "dynamic slice": lambda x, i, u: (jax.lax.dynamic_slice_in_dim(x, i[0], 4, 0) * u[:4]).sum(),
    "dynamic update": lambda x, i, u: (jax.lax.dynamic_update_slice_in_dim(x, u, i[0], 0) ** 2).sum(),
    "strides": lambda x, i, u: (x[-2::-2] * u[:4]).sum(),
    "maximum of windows": lambda x, i, u: (
        jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3, 2), (2, 1), "SAME") ** 2
    ).sum(),
    "sum of windows": lambda x, i, u: (jax.lax.reduce_window(x, 0.0, jax.lax.add, (3, 2), (2, 2), "SAME") ** 2).sum(),
}


IN_FULL = ("max", "pad", "look-up, clipped", "concatenate", "dynamic slice", "sum of windows")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.full if n in IN_FULL else ()) for n in GRADIENTS])
def test_gradients(rng, name):
    """Of the function, compiled; and through the compiled function."""
    x, u = (jnp.asarray(rng.standard_normal((n, 4)), jnp.float32) for n in (8, 5))
    i = jnp.asarray([3, 0, 3, 7, 19] if "set" not in name else [3, 0, 2, 6, 5], jnp.int32)  # one is beyond the tensor
    with jax.numpy_dtype_promotion("standard"):
        want = jax.grad(GRADIENTS[name], (0, 2))(x, i, u)
        compiled = rdu.compile(jax.grad(GRADIENTS[name], (0, 2)), x, i, u, machine="tiny")
        through = rdu.compile(GRADIENTS[name], x, i, u, machine="tiny")
    for got in (compiled(x, i, u), jax.grad(lambda x, u: through(x, i, u), (0, 1))(x, u)):
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_look_up_is_an_update(rng):
    x, i = jnp.ones((6, 4), jnp.float32), jnp.asarray(rng.integers(0, 6, 9), jnp.int32)
    program = rdu.compile(jax.grad(lambda x: x[i].sum()), x, machine="tiny")
    assert any("put_add" in node.label for node in program.graph.nodes)
    assert np.array_equal(program(x), np.bincount(np.asarray(i), minlength=6)[:, None] + np.zeros((6, 4)))
