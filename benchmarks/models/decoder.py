"""Decoder-only language models in Flax NNX: Llama2, Mistral, Falcon, BLOOM and a block-sparse GPT are one module.

    tokens --embed--> x --[ layer under lax.scan ] x n--> norm --head--> logits of the last position

Weights and activations are BF16, norms and softmax are FP32. The layers' weights are stacked. A cache of keys and
values is an argument and a result: prefill writes all of its positions at once, decoding one. Angles of rotary
embeddings are data. Sizes are those of the published configurations, and so is the number of parameters.
Scopes named "operator:..." are one kernel each in a framework that runs a model operator by operator.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.models.parts import Norm, Sparse, Summed, Table, abstract, linear, stacked

Cache = dict[str, Any]  # "k" and "v": [layers, batch, length, kv_heads, d_head]; of one layer without the first axis
MASKED = -1e30


@dataclass(frozen=True)
class Config:
    """Sizes and kinds of one model.

    kv_heads: heads of keys and values (1: multi-query). window: positions that a token sees at most. parallel:
    attention and MLP read the hidden states side by side, as in Falcon: under one norm that they share (its smallest
    model), or each under its own. embed_norm: the embeddings are normalised, as in BLOOM. block: side of the blocks
    that projections are stored in, None for dense ones; of every `sparsity` blocks of a block column one is stored.
    positions: length of the tables. axis: of the mesh whose sockets share the heads, the MLP and the vocabulary out;
    sizes are then those of one socket's share (`parallel.share`).
    """

    d_model: int
    layers: int
    heads: int
    kv_heads: int
    d_ff: int
    vocab: int
    norm: Literal["rms", "layer"] = "rms"
    position: Literal["rope", "alibi", "learned"] = "rope"
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    parallel: Literal["no", "one norm", "two norms"] = "no"
    embed_norm: bool = False
    window: int | None = None
    bias: bool = False
    tied: bool = False
    block: int | None = None
    sparsity: int = 8
    positions: int = 4096
    head_dim: int = 0
    axis: str | None = None

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.head_dim or self.d_model // self.heads

    def tables(self) -> dict[str, np.ndarray]:
        """What the host computes once: cosines and sines [positions, d_head / 2], or slopes [heads]; FP32."""
        if self.position == "rope":
            rates = 10000.0 ** (-np.arange(0, self.d_head, 2) / self.d_head)
            angles = np.arange(self.positions)[:, None] * rates[None, :]
            return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
        if self.position == "alibi":
            return {"slopes": (2.0 ** (-8.0 * np.arange(1, self.heads + 1) / self.heads)).astype(np.float32)}
        return {}


LLAMA2_7B = Config(4096, 32, 32, 32, 11008, 32000)
LLAMA2_13B = Config(5120, 40, 40, 40, 13824, 32000)
LLAMA2_70B = Config(8192, 80, 64, 8, 28672, 32000)
MISTRAL_7B = Config(4096, 32, 32, 8, 14336, 32000, window=4096)
FALCON_40B = Config(
    8192, 60, 128, 8, 32768, 65024, norm="layer", mlp="gelu", parallel="two norms", tied=True, head_dim=64
)
BLOOM_176B = Config(
    14336, 70, 112, 112, 57344, 250880, norm="layer", position="alibi", mlp="gelu", embed_norm=True, bias=True,
    tied=True, positions=8192,
)  # fmt: skip
GPT_13B = Config(
    5120, 40, 40, 40, 20480, 50257, norm="layer", position="learned", mlp="gelu", bias=True, tied=True, positions=2048
)
SPARSE_GPT_13B = replace(GPT_13B, block=128)


def projection(config: Config, rows: int, columns: int, rngs: nnx.Rngs) -> Callable[[jax.Array], jax.Array]:
    """Dense or block-sparse."""
    if config.block is None:
        return linear(rows, columns, config.bias, rngs)
    return Sparse(rows, columns, config.block, config.sparsity, config.bias, rngs)


def joining(config: Config, rows: int, columns: int, rngs: nnx.Rngs) -> Callable[[jax.Array], jax.Array]:
    """A projection whose rows are cut over the sockets, where there are several: it joins what they made."""
    if config.axis is None:
        return projection(config, rows, columns, rngs)
    return Summed(rows, columns, config.bias, config.axis, rngs)


class Attention(nnx.Module):
    """Causal attention over a cache (or over what is read alone where there is none), heads in groups of one key."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = c = config
        kv, heads = c.kv_heads * c.d_head, c.heads * c.d_head
        self.q, self.k, self.v = (projection(c, c.d_model, width, rngs) for width in (heads, kv, kv))
        self.o = joining(c, heads, c.d_model, rngs)

    def __call__(
        self, x: jax.Array, tables: dict[str, jax.Array], cache: Cache | None, start: jax.Array
    ) -> tuple[jax.Array, Cache | None]:
        """[batch, length, d_model] of the positions from `start` on, and the cache with these written."""
        batch, length, _ = x.shape
        c, groups = self.config, self.config.heads // self.config.kv_heads
        q, k, v = (each(x).reshape(batch, length, -1, c.d_head) for each in (self.q, self.k, self.v))
        if c.position == "rope":
            q, k = rotated(q, tables, start), rotated(k, tables, start)
        if cache is not None:
            at = (0, start, 0, 0)
            k, v = jax.lax.dynamic_update_slice(cache["k"], k, at), jax.lax.dynamic_update_slice(cache["v"], v, at)
            cache = {"k": k, "v": v}
        q = q.reshape(batch, length, c.kv_heads, groups, c.d_head)
        scores = jnp.einsum("bthgd,bshd->bhgts", q, k, preferred_element_type=jnp.float32) * np.float32(c.d_head**-0.5)
        rows, columns = start + jnp.arange(length)[:, None], jnp.arange(k.shape[1])[None, :]
        if c.position == "alibi":
            slopes = tables["slopes"].reshape(c.kv_heads, groups, 1, 1)
            scores = scores + slopes * (columns - rows).astype(jnp.float32)
        seen = columns <= rows if c.window is None else (columns <= rows) & (columns > rows - c.window)
        shares = jax.nn.softmax(jnp.where(seen, scores, MASKED), axis=-1).astype(x.dtype)
        mixed = jnp.einsum("bhgts,bshd->bthgd", shares, v).reshape(batch, length, c.heads * c.d_head)
        return self.o(mixed), cache


class MLP(nnx.Module):
    """The gated or plain MLP."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        is_gated = config.mlp == "swiglu"
        self.gate = projection(config, config.d_model, config.d_ff, rngs) if is_gated else None
        self.up = projection(config, config.d_model, config.d_ff, rngs)
        self.down = joining(config, config.d_ff, config.d_model, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., d_model] -> [..., d_model]."""
        return self.down(jax.nn.gelu(self.up(x)) if self.gate is None else jax.nn.silu(self.gate(x)) * self.up(x))


class Layer(nnx.Module):
    """One decoder layer."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.parallel = config.parallel
        self.norm_attention, self.attention = Norm(config.norm, config.d_model, rngs), Attention(config, rngs)
        self.norm_mlp = None if self.parallel == "one norm" else Norm(config.norm, config.d_model, rngs)
        self.mlp = MLP(config, rngs)

    def __call__(
        self, x: jax.Array, tables: dict[str, jax.Array], cache: Cache | None, start: jax.Array
    ) -> tuple[jax.Array, Cache | None]:
        """Hidden states [batch, length, d_model] and the layer's cache, both new."""
        normal = self.norm_attention(x)
        mixed, cache = self.attention(normal, tables, cache, start)
        if self.parallel == "no":
            x = x + mixed
        after = normal if self.norm_mlp is None else self.norm_mlp(x)
        return x + self.mlp(after) if self.parallel == "no" else x + mixed + self.mlp(after), cache


class Decoder(nnx.Module):
    """A whole model; `model(tokens, cache, start)`."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.config = c = config
        draw = nnx.initializers.normal(1.0)
        self.embed = nnx.Param(draw(rngs.params(), (c.vocab, c.d_model), jnp.bfloat16))
        learned = c.position == "learned"
        self.positions = nnx.Param(draw(rngs.params(), (c.positions, c.d_model), jnp.bfloat16)) if learned else None
        self.embed_norm = Norm(c.norm, c.d_model, rngs) if c.embed_norm else None
        self.layers = stacked(lambda rngs: Layer(c, rngs), c.layers, rngs)
        self.norm = Norm(c.norm, c.d_model, rngs)
        scale = nnx.initializers.normal(c.d_model**-0.5)
        self.head = None if c.tied else nnx.Param(scale(rngs.params(), (c.d_model, c.vocab), jnp.bfloat16))
        self.tables = nnx.Dict({name: Table(jnp.asarray(table)) for name, table in c.tables().items()})

    def __call__(self, tokens: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
        """Logits [batch, vocab] (FP32) of the last position, and the cache with the positions from `start` on written.

        tokens: int32 [batch, length]. cache: see `cache_shapes`. start: int32 []. One token decodes, several prefill.
        """
        return self.read(self.embedded(tokens, start), cache, start)

    def read(self, x: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
        """The same of embeddings [batch, length, d_model], whatever they are of."""
        kind, weights = nnx.split(self.layers)
        tables = self.data()

        def step(x: jax.Array, of: tuple[Any, Cache]) -> tuple[jax.Array, Any]:
            weights, kept = of
            return nnx.merge(kind, weights)(x, tables, kept, start)

        x, written = jax.lax.scan(step, x, (weights, cache))
        return self.logits(x[:, -1]), written

    def loss(self, tokens: jax.Array) -> jax.Array:
        """Mean cross entropy (FP32) of every token but the first, given those before it; tokens: int32 [batch, length].

        Layers are computed anew on the way back.
        """
        kind, weights = nnx.split(self.layers)
        tables, start = self.data(), jnp.int32(0)
        step = jax.checkpoint(lambda x, weights: (nnx.merge(kind, weights)(x, tables, None, start)[0], None))
        x, _ = jax.lax.scan(step, self.embedded(tokens[:, :-1], start), weights)
        return self.surprise(x, tokens[:, 1:]).mean()

    def surprise(self, x: jax.Array, tokens: jax.Array) -> jax.Array:
        """Cross entropy (FP32) [batch, length] of tokens after hidden states [batch, length, d_model].

        Over several sockets, of the logits that each of them has: these are not gathered.
        """
        mine, axis = self.own_logits(x), self.config.axis
        if axis is None:
            return -jnp.take_along_axis(jax.nn.log_softmax(mine), tokens[..., None], axis=-1)[..., 0]
        place, is_mine = self.share_of(tokens, mine.shape[-1])
        largest = jax.lax.pmax(jax.lax.stop_gradient(mine.max(-1)), axis)
        total = jax.lax.psum(jnp.exp(mine - largest[..., None]).sum(-1), axis)
        chosen = jnp.where(is_mine, jnp.take_along_axis(mine, place[..., None], axis=-1)[..., 0], 0.0)
        return jnp.log(total) + largest - jax.lax.psum(chosen, axis)

    def data(self) -> dict[str, jax.Array]:
        """The tables, as arrays, or as shapes where those are all that the model has."""
        return {name: table.get_value() for name, table in self.tables.items()}

    def embedded(self, tokens: jax.Array, start: jax.Array) -> jax.Array:
        """Embeddings [batch, length, d_model] of tokens at positions from `start` on."""
        x = self.looked_up(tokens)
        if self.positions is not None:
            x = x + jax.lax.dynamic_slice_in_dim(self.positions[...], start, tokens.shape[1], 0)
        return x if self.embed_norm is None else self.embed_norm(x)

    def looked_up(self, tokens: jax.Array) -> jax.Array:
        """Rows of the embedding; each socket has those of its share of the vocabulary, and -0, which adds nothing."""
        rows, axis = self.embed[...], self.config.axis
        if axis is None:
            return rows[tokens]
        place, is_mine = self.share_of(tokens, rows.shape[0])
        return jax.lax.psum(jnp.where(is_mine[..., None], rows[place], -0.0), axis)

    def share_of(self, tokens: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        """(places in a socket's share of the vocabulary, whether tokens are in it); `count` tokens are."""
        place = tokens - jax.lax.axis_index(self.config.axis) * count
        return jnp.clip(place, 0, count - 1), (place >= 0) & (place < count)

    def own_logits(self, x: jax.Array) -> jax.Array:
        """FP32 logits of hidden states [..., d_model], of a socket's share of the vocabulary."""
        head = self.embed[...].T if self.head is None else self.head[...]
        return jnp.matmul(self.norm(x), head, preferred_element_type=jnp.float32)

    def logits(self, x: jax.Array) -> jax.Array:
        """The same of the whole vocabulary."""
        mine, axis = self.own_logits(x), self.config.axis
        return mine if axis is None else jax.lax.all_gather(mine, axis, axis=mine.ndim - 1, tiled=True)


@jax.named_scope("operator:rotary")
def rotated(x: jax.Array, tables: dict[str, jax.Array], start: jax.Array) -> jax.Array:
    """Rotary embedding, halves rotated against each other: [batch, length, heads, d_head]."""
    length, half = x.shape[1], x.shape[-1] // 2
    cos, sin = (jax.lax.dynamic_slice_in_dim(tables[name], start, length, 0)[:, None, :] for name in ("cos", "sin"))
    low, high = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(x.dtype)


def random_model(config: Config, seed: int = 0) -> Decoder:
    """A model with random weights, the same for the same seed."""
    return Decoder(config, nnx.Rngs(seed))


def abstract_model(config: Config) -> Decoder:
    """Its shapes and dtypes only."""
    return abstract(partial(Decoder, config))


def cache_shapes(config: Config, batch: int, length: int) -> Cache:
    """The cache of keys and values: [layers, batch, length, kv_heads, d_head] each."""
    one = jax.ShapeDtypeStruct((config.layers, batch, length, config.kv_heads, config.d_head), jnp.bfloat16)
    return {"k": one, "v": one}


def empty_cache(config: Config, batch: int, length: int) -> Cache:
    """The same, of zeros."""
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), cache_shapes(config, batch, length))
