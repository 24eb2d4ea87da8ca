"""Llama2 in Flax NNX: RMS norm, rotary embedding (halves rotated), grouped-query attention, SwiGLU, a cache of keys.

    tokens [batch, length] --embed--> x --[ Layer ] x n--> norm --head--> logits of the last position

Weights and activations are BF16, or FP32 where the configuration says so; norms, rotation and softmax compute in FP32.
The cache is an argument and a result, so that a model is a function: `model(tokens, cache, start)` writes positions
`start`, `start + 1`, ... of it. `model.every(tokens, positions, segments)` gives the logits of all positions of packed
rows, as training wants them. Scopes named "operator:..." are one kernel each in a framework that runs a model operator
by operator.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Cache = list[dict[str, jax.Array]]
Angles = tuple[jax.Array, jax.Array]
MASKED = -1e30
DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}


@dataclass(frozen=True)
class Config:
    """Sizes of a model. Raises ValueError for sizes below 1, heads that do not divide, and unknown dtypes.

    head_dim: width of a head, d_model / heads by default. positions: the longest context. theta: the slowest rotation's
    period in positions, over 2 pi. tied: whether the head is the embedding. dtype: of weights and activations.
    """

    d_model: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    d_ff: int = 688
    vocab: int = 512
    positions: int = 256
    theta: float = 10000.0
    epsilon: float = 1e-5
    head_dim: int | None = None
    tied: bool = False
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    axis: ClassVar[str | None] = None  # of a mesh: see `experts.parallel.Share`

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("d_model", "layers", "heads", "kv_heads", "d_ff", "vocab")}
        if small := {name: size for name, size in (sizes | {"positions": self.positions}).items() if size < 1}:
            raise ValueError(f"sizes of a model are 1 or more, given: {small}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype of a model is one of {', '.join(DTYPES)}, given: {self.dtype!r}")
        uneven = self.head_dim is None and self.d_model % self.heads
        if uneven or self.heads % self.kv_heads or self.d_head % 2:
            raise ValueError(
                f"heads must divide d_model into even widths, and kv_heads must divide heads: d_model={self.d_model}, "
                f"heads={self.heads}, kv_heads={self.kv_heads}, head_dim={self.head_dim}"
            )

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.heads if self.head_dim is None else self.head_dim

    @property
    def parameters(self) -> int:
        """Weights of a model of these sizes."""
        attention = 2 * self.d_model * self.d_head * (self.heads + self.kv_heads)
        layer = attention + 3 * self.d_model * self.d_ff + 2 * self.d_model
        return self.layers * layer + self.d_model * (1 + self.vocab * (1 if self.tied else 2))


LLAMA2_TINY = Config(64, 5, 4, 2, 192, 1024, 256, tied=True)  # 0.3M parameters: for tests
LLAMA2_7B = Config(4096, 32, 32, 32, 11008, 32000, 4096)
LLAMA2_13B = Config(5120, 40, 40, 40, 13824, 32000, 4096)
LLAMA2_70B = Config(8192, 80, 64, 8, 28672, 32000, 4096)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) x weight, in FP32."""

    def __init__(self, config: Config):
        self.weight = nnx.Param(jnp.ones(config.d_model, DTYPES[config.dtype]))
        self.epsilon = config.epsilon

    @jax.named_scope("operator:rms_norm")
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d_model] in and out."""
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + self.epsilon)
        return (wide * self.weight[...].astype(jnp.float32)).astype(x.dtype)


def linear(rows: int, columns: int, config: Config, rngs: nnx.Rngs) -> nnx.Linear:
    """A projection without bias."""
    dtype = DTYPES[config.dtype]
    return nnx.Linear(rows, columns, use_bias=False, dtype=dtype, param_dtype=dtype, rngs=rngs)


def joined(x: jax.Array, project: nnx.Linear, axis: str | None) -> jax.Array:
    """A projection whose rows the devices of an axis share: partial products in FP32, summed, rounded once."""
    if axis is None:
        return project(x)
    products = jnp.matmul(x, project.kernel[...], preferred_element_type=jnp.float32)
    return jax.lax.psum(products, axis).astype(x.dtype)


class Attention(nnx.Module):
    """Causal attention, heads in groups that share keys and values."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = config
        own, kv = config.heads * config.d_head, config.kv_heads * config.d_head
        self.q, self.k, self.v = (linear(config.d_model, width, config, rngs) for width in (own, kv, kv))
        self.o = linear(own, config.d_model, config, rngs)

    def __call__(
        self, x: jax.Array, angles: Angles, cache: dict[str, jax.Array], start: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[batch, length, d_model] and the layer's cache, both new; angles: cos and sin [length, d_head / 2]."""
        length, at = x.shape[1], (0, start, 0, 0)
        q, k, v = self._projected(x, x.shape[:2])
        k = jax.lax.dynamic_update_slice(cache["k"], rotated(k, angles), at)
        v = jax.lax.dynamic_update_slice(cache["v"], v, at)
        seen = jnp.arange(k.shape[1])[None, :] <= start + jnp.arange(length)[:, None]
        mixed = self._mixed(rotated(q, angles), k, v, seen)
        return joined(mixed.reshape(*x.shape[:-1], -1), self.o, self.config.axis), {"k": k, "v": v}

    def every(self, x: jax.Array, angles: Angles, seen: jax.Array) -> jax.Array:
        """[batch x length, d_model] without a cache.

        angles [batch, length, d_head / 2]; seen: bool [batch, 1, 1, length, length], whom (last axis) a position sees.
        """
        q, k, v = self._projected(x, angles[0].shape[:2])
        mixed = self._mixed(rotated(q, angles), rotated(k, angles), v, seen)
        return self.o(mixed.reshape(*x.shape[:-1], -1))

    def _projected(self, x: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
        """Of heads: [batch, length, heads, d_head] each; shape: batch and length."""
        return tuple(project(x).reshape(*shape, -1, self.config.d_head) for project in (self.q, self.k, self.v))

    def _mixed(self, q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array) -> jax.Array:
        c, (batch, length) = self.config, q.shape[:2]
        q = q.reshape(batch, length, c.kv_heads, -1, c.d_head)
        scores = jnp.einsum("bthgd,bshd->bhgts", q, k, preferred_element_type=jnp.float32)
        shares = jax.nn.softmax(jnp.where(seen, scores * np.float32(c.d_head**-0.5), MASKED), axis=-1)
        return jnp.einsum("bhgts,bshd->bthgd", shares.astype(q.dtype), v)


class MLP(nnx.Module):
    """The gated MLP: down(silu(gate(x)) x up(x))."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.gate, self.up = (linear(config.d_model, config.d_ff, config, rngs) for _ in range(2))
        self.down, self.axis = linear(config.d_ff, config.d_model, config, rngs), config.axis

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d_model] in and out."""
        return joined(jax.nn.silu(self.gate(x)) * self.up(x), self.down, self.axis)


class Layer(nnx.Module):
    """One decoder layer."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.norm_attention, self.norm_mlp = RMSNorm(config), RMSNorm(config)
        self.attention, self.mlp = Attention(config, rngs), MLP(config, rngs)

    def __call__(
        self, x: jax.Array, angles: Angles, cache: dict[str, jax.Array], start: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As `Attention`."""
        mixed, cache = self.attention(self.norm_attention(x), angles, cache, start)
        x = x + mixed
        return x + self.mlp(self.norm_mlp(x)), cache

    def every(self, x: jax.Array, angles: Angles, seen: jax.Array) -> jax.Array:
        """As `Attention.every`."""
        x = x + self.attention.every(self.norm_attention(x), angles, seen)
        return x + self.mlp(self.norm_mlp(x))


class Llama(nnx.Module):
    """The model. Its tables of angles are data, computed once on the host in float64."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = config
        dtype = DTYPES[config.dtype]
        self.embed = nnx.Embed(config.vocab, config.d_model, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.layers)])
        self.norm = RMSNorm(config)
        self.head = None if config.tied else linear(config.d_model, config.vocab, config, rngs)
        rates = config.theta ** (-np.arange(0, config.d_head, 2) / config.d_head)
        angles = np.arange(config.positions)[:, None] * rates[None, :]
        self.cos = nnx.Variable(jnp.asarray(np.cos(angles), jnp.float32))
        self.sin = nnx.Variable(jnp.asarray(np.sin(angles), jnp.float32))

    def __call__(self, tokens: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
        """Logits [batch, vocab] of the last position, and the cache.

        tokens: int32 [batch, length]; one token decodes, several prefill. start: int32 [], the first one's position.
        """
        length = tokens.shape[1]
        cos, sin = (jax.lax.dynamic_slice_in_dim(table[...], start, length, 0) for table in (self.cos, self.sin))
        x, caches = self.embed(tokens), []
        for layer, kept in zip(self.layers, cache, strict=True):
            x, kept = layer(x, (cos, sin), kept, start)
            caches.append(kept)
        return self._head(self.norm(x[:, -1])), caches

    def every(self, tokens: jax.Array, positions: jax.Array, segments: jax.Array) -> jax.Array:
        """Logits [batch, length, vocab] of all positions. tokens, positions, segments: int32 [batch, length].

        A token sees those before it, itself included, of its own segment: rows may hold several texts.
        """
        return self._head(self.hidden(tokens, positions, segments))

    def hidden(self, tokens: jax.Array, positions: jax.Array, segments: jax.Array) -> jax.Array:
        """What the head is given for that: [batch, length, d_model], normed.

        In between, all positions are rows of one matrix, for weights' gradients are then plain products of matrices: on
        a CPU a training step takes four fifths of the time of one whose gradients sum over two axes.
        """
        length = tokens.shape[1]
        angles = self.cos[...][positions], self.sin[...][positions]
        seen = segments[:, :, None] == segments[:, None, :]
        seen = (seen & jnp.tri(length, dtype=bool))[:, None, None]
        x = self.embed(tokens.reshape(-1))
        for layer in self.layers:
            x = layer.every(x, angles, seen)
        return self.norm(x).reshape(*tokens.shape, -1)

    def _head(self, x: jax.Array) -> jax.Array:
        return self.embed.attend(x) if self.head is None else self.head(x)


@jax.named_scope("operator:rotary")
def rotated(x: jax.Array, angles: Angles) -> jax.Array:
    """Rotary embedding of [batch, length, heads, d_head], in FP32, halves rotated against each other.

    angles: cos and sin [length, d_head / 2], with the batch before it where rows have positions of their own.
    """
    cos, sin = (table[..., None, :] for table in angles)
    low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(x.dtype)


def empty_cache(config: Config, batch: int, length: int) -> Cache:
    """A cache of zeros for `length` positions: keys and values [batch, length, kv_heads, d_head] of every layer."""
    shape = (batch, length, config.kv_heads, config.d_head)
    dtype = DTYPES[config.dtype]
    return [{"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)} for _ in range(config.layers)]


def random_model(config: Config, seed: int) -> Llama:
    """A model with random weights, the same for the same seed."""
    return Llama(config, nnx.Rngs(seed))


def abstract_model(config: Config) -> Llama:
    """A model of shapes and dtypes only: enough to compile and to price, whatever its size."""
    return nnx.eval_shape(lambda: random_model(config, 0))
