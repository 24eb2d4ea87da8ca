"""Llama2 in Flax NNX: RMS norm, rotary embedding (halves rotated), grouped-query attention, SwiGLU, a cache of keys.

    tokens [batch, length] --embed--> x --[ Layer ] x n--> norm --head--> logits of the last position

Weights and activations are BF16; norms, rotation and softmax compute in FP32. The cache is an argument and a result,
so that a model is a function: `model(tokens, cache, start)` writes positions `start`, `start + 1`, ... of it.
Scopes named "operator:..." are one kernel each in a framework that runs a model operator by operator.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Cache = list[dict[str, jax.Array]]
MASKED = -1e30


@dataclass(frozen=True)
class Config:
    """Sizes of a model; `positions` is the longest context. Raises ValueError for heads that do not divide."""

    d_model: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    d_ff: int = 688
    vocab: int = 512
    positions: int = 256
    theta: float = 10000.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.d_model % self.heads or self.heads % self.kv_heads or (self.d_model // self.heads) % 2:
            raise ValueError(
                f"heads must divide d_model into even widths, and kv_heads must divide heads: d_model={self.d_model}, "
                f"heads={self.heads}, kv_heads={self.kv_heads}"
            )

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.heads


LLAMA2_7B = Config(4096, 32, 32, 32, 11008, 32000, 4096)
LLAMA2_13B = Config(5120, 40, 40, 40, 13824, 32000, 4096)
LLAMA2_70B = Config(8192, 80, 64, 8, 28672, 32000, 4096)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) x weight, in FP32."""

    def __init__(self, config: Config):
        self.weight = nnx.Param(jnp.ones(config.d_model, jnp.bfloat16))
        self.epsilon = config.epsilon

    @jax.named_scope("operator:rms_norm")
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d_model] BF16 in and out."""
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + self.epsilon)
        return (wide * self.weight[...].astype(jnp.float32)).astype(x.dtype)


def linear(rows: int, columns: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A BF16 projection without bias."""
    return nnx.Linear(rows, columns, use_bias=False, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=rngs)


class Attention(nnx.Module):
    """Causal attention, heads in groups that share keys and values."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = config
        kv = config.kv_heads * config.d_head
        self.q, self.k, self.v = (linear(config.d_model, width, rngs) for width in (config.d_model, kv, kv))
        self.o = linear(config.d_model, config.d_model, rngs)

    def __call__(
        self, x: jax.Array, angles: tuple[jax.Array, jax.Array], cache: dict[str, jax.Array], start: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[batch, length, d_model] and the layer's cache, both new; angles: cos and sin [length, d_head / 2]."""
        c, (batch, length, _) = self.config, x.shape
        q, k, v = (project(x).reshape(batch, length, -1, c.d_head) for project in (self.q, self.k, self.v))
        at = (0, start, 0, 0)
        k = jax.lax.dynamic_update_slice(cache["k"], rotated(k, angles), at)
        v = jax.lax.dynamic_update_slice(cache["v"], v, at)
        q = rotated(q, angles).reshape(batch, length, c.kv_heads, -1, c.d_head)
        scores = jnp.einsum("bthgd,bshd->bhgts", q, k, preferred_element_type=jnp.float32)
        seen = jnp.arange(k.shape[1])[None, :] <= start + jnp.arange(length)[:, None]
        shares = jax.nn.softmax(jnp.where(seen, scores * np.float32(c.d_head**-0.5), MASKED), axis=-1)
        mixed = jnp.einsum("bhgts,bshd->bthgd", shares.astype(x.dtype), v)
        return self.o(mixed.reshape(batch, length, c.d_model)), {"k": k, "v": v}


class MLP(nnx.Module):
    """The gated MLP: down(silu(gate(x)) x up(x))."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.gate, self.up = (linear(config.d_model, config.d_ff, rngs) for _ in range(2))
        self.down = linear(config.d_ff, config.d_model, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d_model] in and out."""
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Layer(nnx.Module):
    """One decoder layer."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.norm_attention, self.norm_mlp = RMSNorm(config), RMSNorm(config)
        self.attention, self.mlp = Attention(config, rngs), MLP(config, rngs)

    def __call__(
        self, x: jax.Array, angles: tuple[jax.Array, jax.Array], cache: dict[str, jax.Array], start: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As `Attention`."""
        mixed, cache = self.attention(self.norm_attention(x), angles, cache, start)
        x = x + mixed
        return x + self.mlp(self.norm_mlp(x)), cache


class Llama(nnx.Module):
    """The model. Its tables of angles are data, computed once on the host in float64."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = config
        self.embed = nnx.Embed(config.vocab, config.d_model, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.layers)])
        self.norm, self.head = RMSNorm(config), linear(config.d_model, config.vocab, rngs)
        rates = config.theta ** (-np.arange(0, config.d_head, 2) / config.d_head)
        angles = np.arange(config.positions)[:, None] * rates[None, :]
        self.cos = nnx.Variable(jnp.asarray(np.cos(angles), jnp.float32))
        self.sin = nnx.Variable(jnp.asarray(np.sin(angles), jnp.float32))

    def __call__(self, tokens: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
        """BF16 logits [batch, vocab] of the last position, and the cache.

        tokens: int32 [batch, length]; one token decodes, several prefill. start: int32 [], the first one's position.
        """
        length = tokens.shape[1]
        cos, sin = (jax.lax.dynamic_slice_in_dim(table[...], start, length, 0) for table in (self.cos, self.sin))
        x, caches = self.embed(tokens), []
        for layer, kept in zip(self.layers, cache, strict=True):
            x, kept = layer(x, (cos, sin), kept, start)
            caches.append(kept)
        return self.head(self.norm(x[:, -1])), caches


@jax.named_scope("operator:rotary")
def rotated(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary embedding of [batch, length, heads, d_head], in FP32, halves rotated against each other."""
    cos, sin = (table[:, None, :] for table in angles)
    low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(x.dtype)


def empty_cache(config: Config, batch: int, length: int) -> Cache:
    """A cache of zeros for `length` positions: keys and values [batch, length, kv_heads, d_head] of every layer."""
    shape = (batch, length, config.kv_heads, config.d_head)
    return [{"k": jnp.zeros(shape, jnp.bfloat16), "v": jnp.zeros(shape, jnp.bfloat16)} for _ in range(config.layers)]


def random_model(config: Config, seed: int) -> Llama:
    """A model with random weights, the same for the same seed."""
    return Llama(config, nnx.Rngs(seed))


def abstract_model(config: Config) -> Llama:
    """A model of shapes and dtypes only: enough to compile and to price, whatever its size."""
    return nnx.eval_shape(lambda: random_model(config, 0))
