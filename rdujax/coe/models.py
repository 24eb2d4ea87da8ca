"""Models as a composition knows them: sizes, and what each phase takes on a node, from programs that are priced there.

A model is a Flax Llama2 (`experts/llama.py`) that all sockets of the node share (`experts/parallel.py`), compiled from
shapes alone: prefill for so many prompts of so many tokens, decoding for so many prompts and positions of the cache.
Every run of a model begins with what the node's software takes (`start_ps`), which is part of the prefill.
"""

from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp

from experts.llama import Config
from experts.parallel import abstract_weights, cache_shapes, parallel
from rdujax.base.errors import ArgumentError, describe
from rdujax.coe.nodes import Kind
from rdujax.coe.phases import Table
from rdujax.coe.platforms import Call, Platform
from rdujax.coe.residency import Sizes
from rdujax.frontend.sockets import node

CACHE = 2  # the argument that is given away: the new cache takes its place


@dataclass(frozen=True)
class Shapes:
    """For which shapes programs are compiled. prompts at once; tokens of a prompt; positions of the cache."""

    prompts: tuple[int, ...] = (1, 8)
    tokens: tuple[int, ...] = (128,)
    positions: tuple[int, ...] = (256, 512)

    def __post_init__(self) -> None:
        for name in ("prompts", "tokens", "positions"):
            sizes = getattr(self, name)
            if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
                raise ArgumentError(describe(f"shapes: {name}", given=sizes, allowed="integers, 1 or more"))
        if max(self.tokens) > max(self.positions):
            raise ArgumentError(
                describe(
                    "prompts that no cache holds", given=self.tokens, allowed=f"up to {max(self.positions)} tokens"
                )
            )


def sizes_of(config: Config) -> Sizes:
    """Bytes of a model's weights, in its own dtype."""
    return Sizes(config.parameters * _width_bytes(config))


def cache_bytes_per_token(config: Config) -> int:
    """Keys and values of one token in all layers."""
    return 2 * config.layers * config.kv_heads * config.d_head * _width_bytes(config)


def kind_of(config: Config, platform: Platform, shapes: Shapes) -> Kind:
    """A model on a node. Raises ValueError for sizes that its sockets cannot share evenly."""
    return Kind(sizes_of(config), cache_bytes_per_token(config), table(config, platform, shapes))


@lru_cache(maxsize=64)
def table(config: Config, platform: Platform, shapes: Shapes) -> Table:
    """What each phase takes, for all of these shapes."""
    prefill, decode = {}, {}
    for prompts in shapes.prompts:
        for tokens in shapes.tokens:
            positions = min(each for each in shapes.positions if each >= tokens)
            prefill[prompts, tokens] = platform.start_ps + step_ps(config, platform, prompts, tokens, positions)
        for positions in shapes.positions:
            decode[prompts, positions] = step_ps(config, platform, prompts, 1, positions)
    return Table(prefill, decode)


@lru_cache(maxsize=1024)
def step_ps(config: Config, platform: Platform, prompts: int, tokens: int, positions: int) -> int:
    """One run of the model on so many tokens of each prompt, with a cache of so many positions."""
    return platform.run_ps(call(config, platform.sockets, prompts, tokens, positions))


def call(config: Config, sockets: int, prompts: int, tokens: int, positions: int) -> Call:
    """The same as a function of shapes."""
    read = jax.ShapeDtypeStruct((prompts, tokens), jnp.int32)
    args = (
        abstract_weights(config),
        read,
        cache_shapes(config, prompts, positions),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    return Call(parallel(config, node(sockets)), args, (CACHE,))


def _width_bytes(config: Config) -> int:
    return 2 if config.dtype == "bfloat16" else 4
