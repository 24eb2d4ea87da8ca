"""Arrays without elements inside of a function: they vanish, and what they are given to is as plain JAX has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.base.errors import ShapeError, UnsupportedError

X = jnp.asarray(np.random.default_rng(5).normal(size=(6, 7)), jnp.float32)
KEY = jax.random.key(3)
NONE = np.zeros(0, np.int32)


def slope(function):
    return jax.grad(lambda x: jnp.sum(jnp.sin(function(x))))


def both(x, y):
    z = jnp.concatenate([lax.complex(x, y)[:0], lax.complex(y, x)])
    return jnp.real(z), jnp.imag(z)


def of_loops(x):
    """Carried, sliced and returned."""
    (last, _), seen = lax.scan(lambda c, r: ((c[0] + r[0], c[1] * 2), (r[0], c[1])), (x[0], x[0, :0]), (x, x[:, :0]))
    turned = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2, c[2]), (0, x, x[:0]))
    return last, seen[0], turned[1]


CASES = {
    "joined": lambda x: jnp.concatenate([x, x[:, 3:3]], 1),
    "joined thrice": lambda x: jnp.concatenate([x[:0], x[2:2] * 2, x]) + 1,
    "padded": lambda x: (
        jnp.pad(x[:0], ((2, 1), (0, 0)), constant_values=3),
        lax.pad(x[:0], x[1, 2], ((2, 1, 0),) * 2),
    ),
    "split": lambda x: jnp.split(x, [0, 3], axis=1)[1:],
    "reduced": lambda x: (jnp.sum(x[:0]), jnp.prod(x[:0], 0), jnp.all(x[:0] > 0), jnp.any(x[:, :0] > 0, 1)),
    "contracted": lambda x: x[:, :0] @ x[:0],
    "written": lambda x: (x.at[:0].set(1.0), x.at[NONE].add(x[:0]), lax.dynamic_update_slice(x, x[:0], (2, 0))),
    "side by side": lambda x: lax.optimization_barrier((x, x[:0]))[0] * 2,
    "in loops": of_loops,
    "in a branch": lambda x: lax.cond(x[0, 0] > 0, lambda x, e: (x * 2, e), lambda x, e: (x, e * 2), x, x[:0])[0],
    "all of a branch": lambda x: jnp.concatenate([lax.cond(x[0, 0] > 0, jnp.sin, lambda e: e * 2, x[:0]), x]),
    "complex": lambda x: both(x, -x),
    "keys": lambda x: x[0, :3] + jnp.concatenate([jax.random.split(KEY, 3)[:0], jax.random.split(KEY, 3)])[1:].shape[0],
    "drawn": lambda x: jnp.concatenate([jax.random.bits(KEY, (0, 3)), jax.random.bits(KEY, (2, 3))]),
    "mapped": jax.vmap(lambda row: jnp.concatenate([row[:0], row[2:]])),
    "associative scan": lambda x: lax.associative_scan(jnp.add, x),
    "associative scan, back": lambda x: lax.associative_scan(jnp.multiply, x, axis=1, reverse=True),
    "slope of it": slope(lambda x: lax.associative_scan(jnp.multiply, x)),
    **{
        f"slope of {name}": slope(lambda x, name=name: getattr(lax, name)(x, axis=1))
        for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_empty_arrays_vanish(name):
    fn = CASES[name]
    program, want = rdu.compile(fn, X), fn(X)
    got = program(X)
    for ours, theirs, unfused in zip(
        *map(jax.tree.leaves, (got, want, program.replace(fusion="none")(X))), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ours, unfused)


def test_nothing_is_done_for_them():
    program = rdu.compile(lambda x: jnp.concatenate([jnp.sin(x[:0]) * 2, x]) + 1, X)
    assert [node.op.name for node in program.graph.nodes] == ["add"]


def test_what_would_need_an_element_is_refused():
    for fn, error, text in (
        (lambda x: x[:0], ShapeError, r"an empty array\n +given: +shape \(0, 7\)(.|\n)*where: +a result(.|\n)*do: "),
        (lambda x: lax.reduce_max(x[:0], (0,)), UnsupportedError, r"reduce_max: an empty(.|\n)*test_empties.py"),
        (lambda x: lax.scan(lambda c, _: (c * 2, jax.debug.callback(print, c)), x[:0], None, 2)[0],
         UnsupportedError, "debug_callback"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            rdu.compile(fn, X)
