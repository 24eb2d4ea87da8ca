"""A vision transformer in the manner of CLIP's, and LLaVA-1.5, which reads a picture with it before a text.

    pixels --patches--> x --[ block ] x n--> projector --> embeddings, one per patch
    embeddings of a picture, then of a text --> decoder

LLaVA takes what the last block but one gives: the last one, and the norm after it, are stored and not computed.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.models import decoder
from benchmarks.models.decoder import Cache
from benchmarks.models.parts import Norm, abstract, linear, stacked


@dataclass(frozen=True)
class Config:
    """Sizes; pictures are square, `side` pixels long, in patches of `patch`."""

    d_model: int
    layers: int
    heads: int
    d_ff: int
    side: int
    patch: int

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return (self.side // self.patch) ** 2


CLIP_VIT_L_336 = Config(1024, 24, 16, 4096, 336, 14)


class Block(nnx.Module):
    """Attention over all patches, then an MLP with a sigmoid GELU."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.heads, width = config.heads, config.d_model
        self.norm_attention, self.norm_mlp = (Norm("layer", width, rngs) for _ in range(2))
        self.q, self.k, self.v, self.o = (linear(width, width, True, rngs) for _ in range(4))
        self.up, self.down = linear(width, config.d_ff, True, rngs), linear(config.d_ff, width, True, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, d_model], the same out."""
        normal = self.norm_attention(x)
        q, k, v = (each(normal).reshape(*x.shape[:2], self.heads, -1) for each in (self.q, self.k, self.v))
        scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32)
        shares = jax.nn.softmax(scores * np.float32(q.shape[-1] ** -0.5), axis=-1).astype(x.dtype)
        x = x + self.o(jnp.einsum("bhts,bshd->bthd", shares, v).reshape(x.shape))
        up = self.up(self.norm_mlp(x))
        return x + self.down(up * jax.nn.sigmoid(1.702 * up))


class Encoder(nnx.Module):
    """What a picture's patches give, after the last block but one."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        c, side = config, (config.patch, config.patch)
        self.patch = nnx.Conv(
            3, c.d_model, side, side, padding="VALID", use_bias=False, param_dtype=jnp.bfloat16, rngs=rngs
        )
        draw = nnx.initializers.normal(1.0)
        self.first = nnx.Param(draw(rngs.params(), (c.d_model,), jnp.bfloat16))
        self.positions = nnx.Param(draw(rngs.params(), (c.patches + 1, c.d_model), jnp.bfloat16))
        self.norm_before = Norm("layer", c.d_model, rngs)
        self.blocks = stacked(lambda rngs: Block(c, rngs), c.layers - 1, rngs)
        self.not_computed = nnx.List([Block(c, rngs), Norm("layer", c.d_model, rngs)])

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """[batch, patches, d_model] of pixels [batch, side, side, 3]."""
        x = self.patch(pixels)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = jnp.broadcast_to(self.first[...], (x.shape[0], 1, x.shape[-1]))
        x = self.norm_before(jnp.concatenate([first, x], axis=1) + self.positions[...])
        kind, weights = nnx.split(self.blocks)
        x, _ = jax.lax.scan(lambda x, weights: (nnx.merge(kind, weights)(x), None), x, weights)
        return x[:, 1:]


class Llava(nnx.Module):
    """An encoder, a projector of two layers, and a decoder."""

    def __init__(self, seeing: Config, reading: decoder.Config, rngs: nnx.Rngs):
        self.encoder = Encoder(seeing, rngs)
        self.project = linear(seeing.d_model, reading.d_model, True, rngs)
        self.project_again = linear(reading.d_model, reading.d_model, True, rngs)
        self.decoder = decoder.Decoder(reading, rngs)

    def __call__(self, pixels: jax.Array, tokens: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
        """As `Decoder`, of a picture [batch, side, side, 3] and a text after it; a picture takes a position per patch.

        What comes later is decoded by `self.decoder`.
        """
        seen = self.project_again(jax.nn.gelu(self.project(self.encoder(pixels)), approximate=False))
        text = self.decoder.embedded(tokens, start + seen.shape[1])
        return self.decoder.read(jnp.concatenate([seen, text], axis=1), cache, start)


def abstract_llava(seeing: Config = CLIP_VIT_L_336, reading: decoder.Config = decoder.LLAMA2_7B) -> Llava:
    """LLaVA-1.5, of 7 billion parameters unless other sizes are given; shapes and dtypes only."""
    return abstract(partial(Llava, seeing, reading))
