"""Streams: tensors that travel as tiles.

    tensor [100, 60]  --tile-->  data [n_tiles, 32, 60]  --untile-->  tensor [100, 60]

A `Stream` is a pytree: `data` is traced, layout and format are static, so jit, vmap and grad pass through it.
What lies in a ragged tile beyond the tensor is poison (NaN; for INT32 a conspicuous word), so that a step that
forgets its mask shows in the output at once.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from rdujax.base.errors import ShapeError, describe
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32, Format
from rdujax.streams import layout as layouts
from rdujax.streams import visible
from rdujax.streams.access import Access, Transpose, chain_read, chain_shape
from rdujax.streams.layout import Layout

POISON = {BF16: float("nan"), FP32: float("nan"), INT32: -0x5A5A5A5B, UINT32: -0x5A5A5A5B, BOOL: False}
POISON_WORD = 0x7FC0  # NaN among BF16 words at rest


@partial(jax.tree_util.register_dataclass, data_fields=["data"], meta_fields=["layout", "fmt"])
@dataclass(frozen=True)
class Stream:
    """Tiles of one tensor, in order of arrival.

    data: [n_tiles, *layout.tile], either carriers of `fmt` (float32, int32, bool) or, for BF16, uint16 words.
    layout: how the tensor was cut.
    fmt: the number format of the values.
    """

    data: Any
    layout: Layout
    fmt: Format

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole tensor."""
        return self.layout.shape

    @property
    def is_packed(self) -> bool:
        """True where `data` holds BF16 words at rest."""
        return self.fmt is BF16 and self.data.dtype == jnp.uint16

    @property
    def T(self) -> "Stream":
        """The stream read with its axes reversed; see `transpose_read`."""
        return transpose_read(self, tuple(reversed(range(len(self.shape)))))


def tile(
    x: jax.Array, tile_shape: tuple[int, ...] | None = None, order: tuple[int, ...] | None = None, *, fmt: Format
) -> Stream:
    """Cuts a tensor of carriers (or BF16 words) into a stream; the whole tensor is one tile by default.

    Derivatives pass through unchanged. Raises ShapeError as `Layout` does.
    """
    layout = layouts.whole(x.shape) if tile_shape is None else layouts.tiled(x.shape, tile_shape, order)
    return Stream(cut(x, layout, fmt), layout, fmt)


def cut(x: jax.Array, layout: Layout, fmt: Format) -> jax.Array:
    """[*shape] -> [n_tiles, *tile]: the data of a stream, poison beyond the tensor."""
    if x.shape != layout.shape:
        raise ShapeError(describe("the layout is of another tensor", given=f"array {x.shape}, layout {layout}"))
    if layout.is_whole:
        return x[None]
    if layout.is_ragged:
        poison = POISON_WORD if x.dtype == jnp.uint16 else POISON[fmt]
        tails = [(0, p - s) for p, s in zip(layout.padded, layout.shape, strict=True)]
        x = jnp.pad(x, tails, constant_values=jnp.asarray(poison, x.dtype))
    rank, grid = len(layout.shape), layout.grid
    pattern = " ".join(f"(g{i} t{i})" for i in range(rank))
    arrival, inner = " ".join(f"g{i}" for i in layout.order), " ".join(f"t{i}" for i in range(rank))
    return rearrange(x, f"{pattern} -> ({arrival}) {inner}", **{f"g{i}": grid[i] for i in range(rank)})


def untile(stream: Stream) -> jax.Array:
    """The tensor [*shape] of a stream: the inverse of `tile`."""
    layout = stream.layout
    if layout.is_whole:
        return stream.data[0]
    rank, grid = len(layout.shape), layout.grid
    arrival, inner = " ".join(f"g{i}" for i in layout.order), " ".join(f"t{i}" for i in range(rank))
    pattern = " ".join(f"(g{i} t{i})" for i in range(rank))
    x = rearrange(stream.data, f"({arrival}) {inner} -> {pattern}", **{f"g{i}": grid[i] for i in range(rank)})
    return x[tuple(slice(length) for length in layout.shape)]


def retile(stream: Stream, tile_shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> Stream:
    """The same tensor cut in another way. Equal layouts cost nothing; others need a buffer of the reuse span."""
    layout = layouts.tiled(stream.shape, tile_shape, order)
    if layout == stream.layout:
        return stream
    statics = (stream.layout, layout, stream.fmt)
    return Stream(visible.call({"unit": "retile"}, _retiled, statics, stream.data), layout, stream.fmt)


def _retiled(old: Layout, new: Layout, fmt: Format, data: jax.Array) -> jax.Array:
    return cut(untile(Stream(data, old, fmt)), new, fmt)


def transpose_read(stream: Stream, permutation: tuple[int, ...]) -> Stream:
    """The stream with its axes permuted: tiles are read transposed and none is moved.

    Each tile stays in its place in the order of arrival, so no arithmetic and no re-ordering takes place.
    Raises ShapeError for anything but a permutation of the axes.
    """
    old = stream.layout
    shape = Transpose(permutation).shape_of(old.shape)
    place = {axis: i for i, axis in enumerate(permutation)}
    layout = Layout(
        shape,
        tuple(old.tile[a] for a in permutation),
        tuple(place[a] for a in old.order),
    )
    data = visible.call({"unit": "transpose", "permutation": permutation}, _transposed, (permutation,), stream.data)
    return Stream(data, layout, stream.fmt)


def _transposed(permutation: tuple[int, ...], data: jax.Array) -> jax.Array:
    return data.transpose(0, *(axis + 1 for axis in permutation))


def read(stream: Stream, chain: tuple[Access, ...], layout: Layout) -> Stream:
    """The stream that address patterns deliver, cut as `layout` says.

    Raises ShapeError for a pattern that does not fit what it reads, or a layout of another tensor.
    """
    chain_shape(chain, stream.shape)
    return Stream(cut(chain_read(chain, untile(stream)), layout, stream.fmt), layout, stream.fmt)


def carriers(stream: Stream) -> Stream:
    """The stream with its data as carriers (unpacked from words at rest if need be)."""
    return Stream(convert.unpack(stream.data), stream.layout, stream.fmt) if stream.is_packed else stream


def valid(extent: jax.Array, tile_shape: tuple[int, ...]) -> jax.Array:
    """bool [*tile]: True on the elements that belong to the tensor; `extent` is int32 [rank]."""
    mask = jnp.ones(tile_shape, bool)
    for axis, length in enumerate(tile_shape):
        index = jnp.arange(length, dtype=jnp.int32).reshape([-1 if i == axis else 1 for i in range(len(tile_shape))])
        mask = mask & (index < extent[axis])
    return mask


def poisoned(value: jax.Array, extent: jax.Array, layout: Layout, fmt: Format) -> jax.Array:
    """One tile [*tile] of `fmt` with poison on what lies beyond the tensor; `extent` is int32 [rank]."""
    if not layout.is_ragged:
        return value
    return jnp.where(valid(extent, layout.tile), value, jnp.asarray(POISON[fmt], value.dtype))
