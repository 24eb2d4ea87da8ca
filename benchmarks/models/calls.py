"""Models by name, and each as a function with the shapes of its arguments: enough to compile and to price."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.models import decoder
from benchmarks.models.decoder import Config, Decoder, Layer
from benchmarks.models.parts import one_layer

OPTIMIZER = optax.adamw(1e-4)
WIDE_OPTIMIZER = optax.adamw(1e-4, mu_dtype=jnp.float32)  # first moments in FP32, whatever the weights are
MODELS = {
    "Llama2-7B": decoder.LLAMA2_7B,
    "Llama2-70B": decoder.LLAMA2_70B,
    "Mistral-7B": decoder.MISTRAL_7B,
    "Falcon-40B": decoder.FALCON_40B,
    "BLOOM-176B": decoder.BLOOM_176B,
}
Call = tuple[Callable[..., Any], tuple[Any, ...]]
# Which arguments are given away: the cache, in the place of which the new one comes; parameters and what trains them.
MODEL_CACHE, LAYER_CACHE, TRAINED = 2, 3, (0, 1)
START = jax.ShapeDtypeStruct((), jnp.int32)  # the position of the first token


def model_call(config: Config, tokens: int, positions: int) -> Call:
    """A model on so many tokens of one sequence, with a cache of so many positions."""
    cache = decoder.cache_shapes(config, 1, positions)
    return Decoder.__call__, (decoder.abstract_model(config), tokens_of(tokens), cache, START)


def layer_call(config: Config, tokens: int, positions: int) -> Call:
    """One of its layers, on as much."""
    model, cache = decoder.abstract_model(config), one_layer(decoder.cache_shapes(config, 1, positions))
    x = jax.ShapeDtypeStruct((1, tokens, config.d_model), jnp.bfloat16)
    return Layer.__call__, (one_layer(model.layers), x, model.data(), cache, START)


def train_call(
    model: Decoder,
    tokens: jax.ShapeDtypeStruct | jax.Array,
    optimizer: optax.GradientTransformation = OPTIMIZER,
) -> Call:
    """One step of AdamW on a batch of sequences: new parameters and new state of the optimiser."""
    kind, params, rest = nnx.split(model, nnx.Param, ...)
    step = partial(train_step, lambda p, rest, tokens: nnx.merge(kind, p, rest).loss(tokens), optimizer=optimizer)
    return step, (params, first_state(params, optimizer), rest, tokens)


def train_step(
    loss: Callable[..., jax.Array],
    params: Any,
    state: Any,
    *rest: Any,
    optimizer: optax.GradientTransformation = OPTIMIZER,
) -> tuple[Any, Any, jax.Array]:
    """New parameters, new state of the optimiser, and the loss before; `loss(params, *rest)`."""
    value, slope = jax.value_and_grad(loss)(params, *rest)
    change, state = optimizer.update(slope, state, params)
    return optax.apply_updates(params, change), state, value


def first_state(params: Any, optimizer: optax.GradientTransformation = OPTIMIZER) -> Any:
    """The state of the optimiser before the first step; shapes for shapes."""
    is_abstract = isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct)
    return jax.eval_shape(optimizer.init, params) if is_abstract else optimizer.init(params)


def tokens_of(length: int) -> jax.ShapeDtypeStruct:
    """int32 [1, length]: one sequence."""
    return jax.ShapeDtypeStruct((1, length), jnp.int32)
