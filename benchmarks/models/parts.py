"""What the models are made of: norms, projections, and whole models or single layers as shapes."""

from collections.abc import Callable
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# How far norms begin from one and biases from zero: one that were left out would show.
OFF = nnx.initializers.normal(0.1)


class Table(nnx.Variable):
    """Data that a model reads and no training changes."""


class Norm(nnx.Module):
    """RMS norm or layer norm over the last axis, in FP32."""

    def __init__(self, kind: Literal["rms", "layer"], width: int, rngs: nnx.Rngs):
        self.kind = kind
        self.weight = nnx.Param(1 + OFF(rngs.params(), (width,), jnp.bfloat16))
        self.shift = nnx.Param(OFF(rngs.params(), (width,), jnp.bfloat16)) if kind == "layer" else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., width], of the dtype given."""
        with jax.named_scope(f"operator:{self.kind}_norm"):
            wide = x.astype(jnp.float32)
            if self.kind == "layer":
                wide = wide - wide.mean(-1, keepdims=True)
            wide = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-5)
            result = wide * self.weight[...].astype(jnp.float32)
            if self.shift is not None:
                result = result + self.shift[...].astype(jnp.float32)
            return result.astype(x.dtype)


class Sparse(nnx.Module):
    """A projection of which blocks are stored, and only those are read and multiplied.

    weight: [block columns, stored blocks of each, block, block]. Every block column stores as many blocks, spread
    evenly over the rows and shifted from column to column: a pattern assumed, for the paper does not tell its own.
    """

    def __init__(self, rows: int, columns: int, block: int, sparsity: int, bias: bool, rngs: nnx.Rngs):
        self.rows, stored = rows // block, max(1, rows // block // sparsity)
        draw = nnx.initializers.normal((stored * block) ** -0.5)
        self.weight = nnx.Param(draw(rngs.params(), (columns // block, stored, block, block), jnp.bfloat16))
        self.bias = nnx.Param(OFF(rngs.params(), (columns,), jnp.bfloat16)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., rows] -> [..., columns]."""
        w = self.weight[...]
        columns, stored, block, _ = w.shape
        blocks = x.reshape(*x.shape[:-1], -1, block)
        chosen = jnp.take(blocks, self.pattern().reshape(-1), axis=-2).reshape(*x.shape[:-1], columns, stored, block)
        result = jnp.einsum("...csi,csij->...cj", chosen, w).reshape(*x.shape[:-1], columns * block)
        return result if self.bias is None else result + self.bias[...]

    def pattern(self) -> np.ndarray:
        """int32 [block columns, stored]: which blocks of the rows each block column stores."""
        columns, stored = self.weight.shape[:2]
        spread = np.arange(stored) * (self.rows // stored)
        return ((spread[None, :] + np.arange(columns)[:, None]) % self.rows).astype(np.int32)


class Summed(nnx.Module):
    """x @ weight + bias where rows are cut over the sockets of an axis: partial products in FP32, summed, rounded once.

    The bits are those of a product whose K is summed in as many segments.
    """

    def __init__(self, rows: int, columns: int, bias: bool, axis: str, rngs: nnx.Rngs):
        self.axis = axis
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (rows, columns), jnp.bfloat16))
        self.bias = nnx.Param(OFF(rngs.params(), (columns,), jnp.bfloat16)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., a socket's rows] -> [..., columns]."""
        partial_sums = jnp.matmul(x, self.kernel[...], preferred_element_type=jnp.float32)
        result = jax.lax.psum(partial_sums, self.axis).astype(x.dtype)
        return result if self.bias is None else result + self.bias[...]


def linear(rows: int, columns: int, bias: bool, rngs: nnx.Rngs) -> nnx.Linear:
    """x @ weight + bias, in BF16."""
    return nnx.Linear(rows, columns, use_bias=bias, param_dtype=jnp.bfloat16, bias_init=OFF, rngs=rngs)


def stacked(make: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> Any:
    """Layers as one module, whose weights have a leading axis [layers, ...]."""
    return nnx.vmap(make)(rngs.split(layers))


def abstract(make: Callable[[nnx.Rngs], Any]) -> Any:
    """A model of shapes and dtypes only: enough to compile and to price, whatever its size."""
    return nnx.eval_shape(lambda: make(nnx.Rngs(0)))


def one_layer(stacked: Any, index: int = 0) -> Any:
    """One layer of stacked ones, or its cache of theirs; arrays or shapes [layers, ...]."""
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype) if isinstance(s, jax.ShapeDtypeStruct) else s[index],
        stacked,
    )


def count(model: nnx.Module) -> int:
    """Number of stored parameters; tables are none."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
