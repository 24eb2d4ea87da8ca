"""A vision transformer in the manner of CLIP's, as LLaVA-1.5 reads images: patches, blocks, and a projector."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


@dataclass(frozen=True)
class Config:
    """Sizes; pictures are square, `side` pixels long, in patches of `patch`."""

    d_model: int
    layers: int
    heads: int
    d_ff: int
    side: int
    patch: int
    d_text: int

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return (self.side // self.patch) ** 2


CLIP_VIT_L_336 = Config(1024, 24, 16, 4096, 336, 14, 4096)


def shapes(config: Config) -> Tree:
    """The parameters as BF16 ShapeDtypeStructs; those of the blocks are stacked [layers, ...]."""
    c = config
    block: dict[str, tuple[int, ...]] = {}
    for name, rows, columns in (
        ("q", c.d_model, c.d_model), ("k", c.d_model, c.d_model), ("v", c.d_model, c.d_model),
        ("o", c.d_model, c.d_model), ("up", c.d_model, c.d_ff), ("down", c.d_ff, c.d_model),
    ):  # fmt: skip
        block |= {name: (rows, columns), f"{name}_bias": (columns,)}
    for name in ("norm_attention", "norm_mlp"):
        block |= {name: (c.d_model,), f"{name}_shift": (c.d_model,)}
    whole: dict[str, Any] = {
        "patch": (c.patch, c.patch, 3, c.d_model),
        "class": (c.d_model,),
        "positions": (c.patches + 1, c.d_model),
        "norm_before": (c.d_model,),
        "norm_before_shift": (c.d_model,),
        "project": (c.d_model, c.d_text),
        "project_bias": (c.d_text,),
        "project_2": (c.d_text, c.d_text),
        "project_2_bias": (c.d_text,),
        "blocks": {name: (c.layers, *shape) for name, shape in block.items()},
    }
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.bfloat16), whole, is_leaf=lambda s: isinstance(s, tuple))


def encode(config: Config, params: Tree, pixels: jax.Array) -> jax.Array:
    """Embeddings [batch, patches, d_text] for a language model; pixels: [batch, side, side, 3]."""
    c = config
    x = jax.lax.conv_general_dilated(
        pixels, params["patch"], (c.patch, c.patch), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(pixels.shape[0], c.patches, c.d_model)
    first = jnp.broadcast_to(params["class"], (x.shape[0], 1, c.d_model))
    x = jnp.concatenate([first, x], axis=1) + params["positions"]
    x = _normal(params, "norm_before", x)
    x, _ = jax.lax.scan(lambda x, weights: (block(config, weights, x), None), x, params["blocks"])
    hidden = jax.nn.gelu(x[:, 1:] @ params["project"] + params["project_bias"])
    return hidden @ params["project_2"] + params["project_2_bias"]


def block(config: Config, weights: Tree, x: jax.Array) -> jax.Array:
    """One block: attention over all patches, then an MLP with a sigmoid gelu; [batch, length, d_model]."""
    normal = _normal(weights, "norm_attention", x)
    q, k, v = (_dense(weights, n, normal).reshape(*x.shape[:2], config.heads, -1) for n in ("q", "k", "v"))
    scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32)
    shares = jax.nn.softmax(scores * np.float32(q.shape[-1] ** -0.5), axis=-1).astype(x.dtype)
    x = x + _dense(weights, "o", jnp.einsum("bhts,bshd->bthd", shares, v).reshape(x.shape))
    up = _dense(weights, "up", _normal(weights, "norm_mlp", x))
    return x + _dense(weights, "down", up * jax.nn.sigmoid(1.702 * up))


def _dense(weights: Tree, name: str, x: jax.Array) -> jax.Array:
    return x @ weights[name] + weights[f"{name}_bias"]


def _normal(weights: Tree, name: str, x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    wide = wide - wide.mean(-1, keepdims=True)
    wide = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-5)
    shift = weights[f"{name}_shift"].astype(jnp.float32)
    return (wide * weights[name].astype(jnp.float32) + shift).astype(x.dtype)
