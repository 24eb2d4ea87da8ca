"""Decoder-only language models: Llama2, Mistral, Falcon, BLOOM and a block-sparse GPT are one function of a `Config`.

    tokens --embed--> x --[ layer under lax.scan ] x n--> norm --head--> logits of the last position

Weights and activations are BF16, norms and softmax are FP32. A cache of keys and values is an argument and a result:
prefill writes all of its positions at once, decoding one. Angles of rotary embeddings are data (`Config.tables`).
Scopes named "operator:..." are one kernel each in a framework that runs a model operator by operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
MASKED = -1e30


@dataclass(frozen=True)
class Config:
    """Sizes and kinds of one model.

    kv_heads: heads of keys and values (1: multi-query). window: positions that a token sees at most. parallel:
    attention and MLP read the same norm, as in Falcon. block: side of the blocks that projections are stored in, None
    for dense ones; of every `stored` blocks of a block column one is stored. positions: length of the tables.
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
    parallel: bool = False
    window: int | None = None
    bias: bool = False
    tied: bool = False
    block: int | None = None
    stored: int = 8
    positions: int = 4096
    head_dim: int = 0

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
FALCON_40B = Config(8192, 60, 128, 8, 32768, 65024, norm="layer", mlp="gelu", parallel=True, tied=True, head_dim=64)
BLOOM_176B = Config(
    14336, 70, 112, 112, 57344, 250880, norm="layer", position="alibi", mlp="gelu", bias=True, tied=True, positions=8192
)
SPARSE_GPT_13B = Config(
    5120, 40, 40, 40, 20480, 50257, norm="layer", position="learned", mlp="gelu", bias=True, block=128, positions=2048
)


def shapes(config: Config, dtype: Any = jnp.bfloat16) -> Tree:
    """The parameters as ShapeDtypeStructs; those of the layers are stacked [layers, ...]."""
    c = config
    kv, heads = c.kv_heads * c.d_head, c.heads * c.d_head
    layer: dict[str, tuple[int, ...]] = {"norm_attention": (c.d_model,)}
    if not c.parallel:
        layer["norm_mlp"] = (c.d_model,)
    projections = {"q": (c.d_model, heads), "k": (c.d_model, kv), "v": (c.d_model, kv), "o": (heads, c.d_model)}
    projections |= {"up": (c.d_model, c.d_ff), "down": (c.d_ff, c.d_model)}
    if c.mlp == "swiglu":
        projections["gate"] = (c.d_model, c.d_ff)
    for name, (rows, columns) in projections.items():
        layer[name] = (rows, columns) if c.block is None else _stored_shape(c, rows, columns)
        if c.bias:
            layer[f"{name}_bias"] = (columns,)
    if c.norm == "layer":
        layer |= {f"{name}_shift": shape for name, shape in list(layer.items()) if name.startswith("norm")}
    whole: dict[str, Any] = {"embed": (c.vocab, c.d_model), "norm": (c.d_model,)}
    if c.norm == "layer":
        whole["norm_shift"] = (c.d_model,)
    if c.position == "learned":
        whole["positions"] = (c.positions, c.d_model)
    if not c.tied:
        whole["head"] = (c.d_model, c.vocab)
    whole["layers"] = {name: (c.layers, *shape) for name, shape in layer.items()}
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, dtype), whole, is_leaf=lambda s: isinstance(s, tuple))


def parameters(config: Config, seed: int = 0, dtype: Any = jnp.bfloat16) -> Tree:
    """Random parameters: normal with the deviation 1 / sqrt(rows), norms near one."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes(config, dtype))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(tree, [_drawn(key, path, s) for key, (path, s) in zip(keys, leaves, strict=True)])


def _drawn(key: jax.Array, path: Any, struct: jax.ShapeDtypeStruct) -> jax.Array:
    name = path[-1].key
    noise = jax.random.normal(key, struct.shape)
    if name.startswith("norm"):
        return ((0.0 if name.endswith("shift") else 1.0) + 0.1 * noise).astype(struct.dtype)
    rows = 1 if name in ("embed", "positions") else struct.shape[-2] if len(struct.shape) > 2 else 100
    return (noise / np.sqrt(rows)).astype(struct.dtype)


def count(config: Config) -> int:
    """Number of stored parameters."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(shapes(config)))


def cache_shapes(config: Config, batch: int, length: int) -> Tree:
    """The cache of keys and values: [layers, batch, length, kv_heads, d_head] each."""
    one = jax.ShapeDtypeStruct((config.layers, batch, length, config.kv_heads, config.d_head), jnp.bfloat16)
    return {"k": one, "v": one}


def forward(config: Config, params: Tree, tables: Tree, tokens: jax.Array, cache: Tree, start: jax.Array) -> Any:
    """Logits [batch, vocab] (FP32) of the last position, and the cache with the positions from `start` on written.

    tokens: int32 [batch, length]. cache: see `cache_shapes`. start: int32 []. One token decodes, several prefill.
    """
    x = embedded(config, params, tokens, start)

    def step(x: jax.Array, of: tuple[Tree, Tree]) -> tuple[jax.Array, Tree]:
        weights, kept = of
        return layer(config, weights, tables, x, kept, start)

    x, cache = jax.lax.scan(step, x, (params["layers"], cache))
    return logits(config, params, x[:, -1]), cache


def loss(config: Config, params: Tree, tables: Tree, tokens: jax.Array) -> jax.Array:
    """Mean cross entropy (FP32) of every token but the first, given those before it; tokens: int32 [batch, length]."""
    start = jnp.int32(0)
    x = embedded(config, params, tokens[:, :-1], start)
    step = jax.checkpoint(lambda x, weights: (layer(config, weights, tables, x, None, start)[0], None))
    x, _ = jax.lax.scan(step, x, params["layers"])
    scores = jax.nn.log_softmax(logits(config, params, x))
    return -jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1).mean()


def embedded(config: Config, params: Tree, tokens: jax.Array, start: jax.Array) -> jax.Array:
    """Embeddings [batch, length, d_model] of tokens at positions from `start` on."""
    x = params["embed"][tokens]
    if config.position == "learned":
        x = x + jax.lax.dynamic_slice_in_dim(params["positions"], start, tokens.shape[1], 0)
    return x


def logits(config: Config, params: Tree, x: jax.Array) -> jax.Array:
    """FP32 logits of hidden states [..., d_model]."""
    head = params["embed"].T if config.tied else params["head"]
    normal = normalised(config, params, "norm", x)
    return jnp.matmul(normal, head, preferred_element_type=jnp.float32)


def layer(config: Config, weights: Tree, tables: Tree, x: jax.Array, cache: Tree | None, start: jax.Array) -> Any:
    """One decoder layer: hidden states [batch, length, d_model] and its cache, both new."""
    normal = normalised(config, weights, "norm_attention", x)
    mixed, cache = attention(config, weights, tables, normal, cache, start)
    if config.parallel:
        return x + mixed + mlp(config, weights, normal), cache
    x = x + mixed
    return x + mlp(config, weights, normalised(config, weights, "norm_mlp", x)), cache


def normalised(config: Config, weights: Mapping[str, jax.Array], name: str, x: jax.Array) -> jax.Array:
    """RMS norm or layer norm over the last axis, in FP32."""
    with jax.named_scope(f"operator:{config.norm}_norm"):
        wide = x.astype(jnp.float32)
        if config.norm == "layer":
            wide = wide - wide.mean(-1, keepdims=True)
        wide = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-5)
        result = wide * weights[name].astype(jnp.float32)
        if config.norm == "layer":
            result = result + weights[f"{name}_shift"].astype(jnp.float32)
        return result.astype(x.dtype)


def mlp(config: Config, weights: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """The gated or plain MLP."""
    up = projected(config, weights, "up", x)
    hidden = jax.nn.silu(projected(config, weights, "gate", x)) * up if config.mlp == "swiglu" else jax.nn.gelu(up)
    return projected(config, weights, "down", hidden)


def attention(
    config: Config, weights: Tree, tables: Tree, x: jax.Array, cache: Tree | None, start: jax.Array
) -> tuple[jax.Array, Tree]:
    """Causal attention over the cache (or over `x` alone where there is none), heads in groups of one key each."""
    batch, length, _ = x.shape
    c, groups = config, config.heads // config.kv_heads
    q, k, v = (projected(config, weights, name, x).reshape(batch, length, -1, c.d_head) for name in ("q", "k", "v"))
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
    return projected(config, weights, "o", mixed), cache


@jax.named_scope("operator:rotary")
def rotated(x: jax.Array, tables: Tree, start: jax.Array) -> jax.Array:
    """Rotary embedding, halves rotated against each other: [batch, length, heads, d_head]."""
    length, half = x.shape[1], x.shape[-1] // 2
    cos, sin = (jax.lax.dynamic_slice_in_dim(tables[name], start, length, 0)[:, None, :] for name in ("cos", "sin"))
    low, high = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(x.dtype)


def projected(config: Config, weights: Mapping[str, jax.Array], name: str, x: jax.Array) -> jax.Array:
    """x @ weight + bias; of block-sparse weights only the stored blocks are read and multiplied."""
    w = weights[name]
    result = x @ w if config.block is None else _sparse(config, w, x)
    return result + weights[f"{name}_bias"] if config.bias else result


def _stored_shape(config: Config, rows: int, columns: int) -> tuple[int, ...]:
    """[block columns, stored blocks of each, block, block]."""
    assert config.block is not None
    return columns // config.block, max(1, rows // config.block // config.stored), config.block, config.block


def _pattern(rows: int, columns: int, stored: int) -> np.ndarray:
    """int32 [columns, stored]: which blocks of the rows each block column stores: spread evenly, shifted by column."""
    spread = np.arange(stored) * (rows // stored)
    return ((spread[None, :] + np.arange(columns)[:, None]) % rows).astype(np.int32)


def _sparse(config: Config, w: jax.Array, x: jax.Array) -> jax.Array:
    columns, stored, block, _ = w.shape
    blocks = x.reshape(*x.shape[:-1], -1, block)
    chosen = jnp.take(blocks, _pattern(blocks.shape[-2], columns, stored).reshape(-1), axis=-2)
    chosen = chosen.reshape(*x.shape[:-1], columns, stored, block)
    return jnp.einsum("...csi,csij->...cj", chosen, w).reshape(*x.shape[:-1], columns * block)
