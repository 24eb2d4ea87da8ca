"""A model that several devices share out, run by the emulator's sockets, against the same model on one device."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from experts.llama import LLAMA2_7B, Config, empty_cache, random_model
from experts.parallel import abstract_weights, cache_shapes, parallel, weights_of

SMALL = Config(48, 3, 8, 4, 80, 64, 32, dtype="float32")


@pytest.mark.parametrize(("config", "sockets"), [(SMALL, 4), (replace(SMALL, tied=True, head_dim=8, layers=1), 2)])
def test_a_shared_model_is_the_whole_one(config: Config, sockets: int, rng: np.random.Generator):
    model, tokens = random_model(config, 3), jnp.asarray(rng.integers(0, config.vocab, (2, 6)), jnp.int32)
    expected, kept = model(tokens, empty_cache(config, 2, 16), jnp.int32(0))
    again, _ = model(tokens[:, :1], kept, jnp.int32(6))
    weights, cache = weights_of(model), jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), cache_shapes(config, 2, 16))
    shared = parallel(config, rdu.node(sockets))
    logits, cache = rdu.compile(shared, weights, tokens, cache, jnp.int32(0))(weights, tokens, cache, jnp.int32(0))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
    for name in ("k", "v"):
        wanted = jnp.stack([each[name] for each in kept])
        np.testing.assert_allclose(cache[name], wanted, rtol=0, atol=2e-5)
    one = tokens[:, :1]
    logits, _ = rdu.compile(shared, weights, one, cache, jnp.int32(6))(weights, one, cache, jnp.int32(6))
    np.testing.assert_allclose(logits, again, rtol=0, atol=2e-5)


def test_shapes_are_those_of_real_weights():
    real = jax.tree.map(lambda x: (x.shape, x.dtype), weights_of(random_model(SMALL, 0)))
    assert jax.tree.map(lambda s: (s.shape, s.dtype), abstract_weights(SMALL)) == real
    leaves = jax.tree.leaves({k: v for k, v in abstract_weights(LLAMA2_7B).items() if k not in ("cos", "sin")})
    assert sum(leaf.size for leaf in leaves) == 6_738_415_616


def test_uneven_shares_and_meshes_are_refused():
    with pytest.raises(ValueError, match="evenly over 3 devices: {'heads': 8"):
        parallel(SMALL, rdu.node(3))
    two = jax.sharding.AbstractMesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with pytest.raises(ValueError, match="one axis"):
        parallel(SMALL, two)
