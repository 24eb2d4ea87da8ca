"""Windows that slide over a tensor, against plain JAX."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.base.errors import UnsupportedError
from tests.rooms.compiler.samples import assert_same, small, turns

POOLS = {
    "maximum": (jax.lax.max, -jnp.inf), "minimum": (jax.lax.min, jnp.inf), "product": (jax.lax.mul, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_windows(rng, name):
    """Strides, padding on either side, dilations of window and tensor; small integers, so that products are exact."""
    function, first = POOLS[name]
    x = jnp.asarray(rng.integers(1, 3, (2, 9, 6, 4)), jnp.float32)
    for size, step, padding, base, apart in (
        ((1, 2, 3, 1), (1, 2, 1, 1), "SAME", None, None),
        ((1, 3, 2, 1), (1, 1, 3, 1), ((0, 0), (2, 0), (1, 3), (0, 0)), (1, 2, 1, 1), (1, 1, 2, 1)),
        ((2, 1, 1, 1), (1, 4, 1, 1), "VALID", None, None),
    ):
        form = {"base_dilation": base, "window_dilation": apart}
        fn = partial(jax.lax.reduce_window, init_value=first, computation=function, window_dimensions=size,
                     window_strides=step, padding=padding, **form)  # fmt: skip
        assert_same(rdu.compile(fn, x, machine="tiny")(x), fn(x))


def test_pooling_is_cut_into_tiles(rng):
    x = jnp.asarray(rng.integers(-9, 9, (4, 6, 6, 16)), jnp.int32)
    fn = lambda x: jax.lax.reduce_window(x, 0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")  # noqa: E731
    fused = rdu.compile(fn, x, machine=small())
    for executor in ("whole", "vmap", "scan"):
        assert_same(fused.execute(x, executor=executor), fn(x), executor)
    assert fused.tally(x) == fused.predicted_counts()
    assert max(turns(fused.plan)) > 1


@pytest.mark.parametrize("function", [jax.lax.max, jax.lax.min])
def test_gradients_reach_the_first_extreme_of_every_window(rng, function):
    """Values that tie; windows that overlap, so that places receive several gradients, which add up exactly."""
    x = jnp.asarray(rng.integers(0, 3, (2, 8, 7, 3)), jnp.float32)
    first = -jnp.inf if function is jax.lax.max else jnp.inf

    def pooled(x):
        return jax.lax.reduce_window(x, first, function, (1, 3, 2, 1), (1, 2, 1, 1), "SAME")

    g = jnp.asarray(rng.integers(-9, 9, jax.eval_shape(pooled, x).shape), jnp.float32)
    back = lambda x, g: jax.vjp(pooled, x)[1](g)  # noqa: E731
    fused = rdu.compile(back, x, g, machine="tiny")
    assert_same(fused(x, g), back(x, g))
    assert_same(fused.replace(fusion="none")(x, g), back(x, g))


def test_what_is_no_reduction_of_windows_is_refused():
    x = jnp.ones((4, 4), jnp.float32)
    odd = lambda x: jax.lax.reduce_window(x, 2.0, jax.lax.add, (2, 2), (1, 1), "SAME")  # noqa: E731
    with pytest.raises(UnsupportedError, match=r"not the identity(.|\n)*begin with -0.0"):
        rdu.compile(odd, x)
    mixed = lambda x: jax.lax.reduce_window(x, 0.0, lambda a, b: a * b + b, (2, 2), (1, 1), "SAME")  # noqa: E731
    with pytest.raises(UnsupportedError, match=r"the combination mul add(.|\n)*use one of add, mul"):
        rdu.compile(mixed, x)
