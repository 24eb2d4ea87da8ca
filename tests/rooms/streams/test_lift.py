"""Executors: the same step, whole, batched or one tile after another; and unit calls that stay visible by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.streams import visible
from rdujax.streams.lift import EXECUTORS, must_fit_int32, over_tiles


def pair(x, y):
    return {"x": x[:2], "y": y + 1}


@pytest.mark.parametrize("how", EXECUTORS)
@pytest.mark.parametrize("count", [1, 5])
def test_every_executor_stacks_what_the_step_returns(how, count):
    x = jnp.arange(count * 3, dtype=jnp.int32).reshape(count, 3)
    y = jnp.arange(count, dtype=jnp.int32)
    got = over_tiles(pair, how, x, y)
    assert np.array_equal(got["x"], np.asarray(x)[:, :2])
    assert np.array_equal(got["y"], np.asarray(y) + 1)


def test_scan_runs_one_tile_after_another_and_vmap_all_at_once():
    loops = {
        how: str(jax.make_jaxpr(lambda x, how=how: over_tiles(lambda t: -t, how, x))(jnp.ones((4, 3))))
        for how in EXECUTORS
    }
    assert {how: "scan" in text for how, text in loops.items()} == {"whole": False, "vmap": False, "scan": True}


def test_an_unknown_executor_is_refused():
    with pytest.raises(UnknownNameError, match="unknown executor\n  given:   'vmpa'(.|\n)*did you mean 'vmap'"):
        over_tiles(pair, "vmpa", jnp.ones((2, 3)), jnp.ones(2))


def test_a_tally_fits_an_int32_and_one_more_does_not():
    assert must_fit_int32(2**31 - 1, "bytes") is None
    with pytest.raises(ArgumentError, match="2,147,483,648 bytes\n(.|\n)*less than 2\\^31"):
        must_fit_int32(2**31, "bytes")


def scaled(factor: float, x: jax.Array) -> jax.Array:
    return x * jnp.float32(factor)


def test_a_unit_call_is_a_jit_named_by_its_description():
    description = {"unit": "scale", "shape": [1, 2]}
    x = jnp.arange(3, dtype=jnp.float32)
    assert np.array_equal(visible.call(description, scaled, (2.0,), x), [0, 2, 4])
    (equation,) = jax.make_jaxpr(lambda x: visible.call(description, scaled, (2.0,), x))(x).eqns
    name = equation.params["name"]
    assert name == 'rdu.{"shape":[1,2],"unit":"scale"}'
    assert visible.describe(name) == description
