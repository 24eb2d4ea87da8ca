"""Decoder models by name, and each as a function with the shapes of its arguments: enough to compile and to price."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import decoder
from benchmarks.models.decoder import Config, Tree

MODELS = {
    "Llama2-7B": decoder.LLAMA2_7B,
    "Llama2-70B": decoder.LLAMA2_70B,
    "Mistral-7B": decoder.MISTRAL_7B,
    "Falcon-40B": decoder.FALCON_40B,
    "BLOOM-176B": decoder.BLOOM_176B,
}
Call = tuple[Callable[..., Any], tuple[Any, ...]]
CACHE = 3  # which argument is the cache, in the place of which the new one comes: given away
START = jax.ShapeDtypeStruct((), jnp.int32)  # the position of the first token


def model_call(config: Config, tokens: int, positions: int) -> Call:
    """`decoder.forward` on so many tokens of one sequence, with a cache of so many positions."""
    cache = decoder.cache_shapes(config, 1, positions)
    return partial(decoder.forward, config), (
        decoder.shapes(config), tables(config), tokens_of(tokens), cache, START,
    )  # fmt: skip


def layer_call(config: Config, tokens: int, positions: int) -> Call:
    """`decoder.layer`, one of them, on as much."""
    weights, cache = one_layer(decoder.shapes(config)["layers"]), one_layer(decoder.cache_shapes(config, 1, positions))
    x = jax.ShapeDtypeStruct((1, tokens, config.d_model), jnp.bfloat16)
    return partial(decoder.layer, config), (weights, tables(config), x, cache, START)


def one_layer(stacked: Tree) -> Tree:
    """The shapes of one layer by itself, of those of all, [layers, ...]."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), stacked)


def tables(config: Config) -> Tree:
    """The shapes of `config.tables()`."""
    return jax.tree.map(lambda t: jax.ShapeDtypeStruct(t.shape, t.dtype), config.tables())


def tokens_of(length: int) -> jax.ShapeDtypeStruct:
    """int32 [1, length]: one sequence."""
    return jax.ShapeDtypeStruct((1, length), jnp.int32)
