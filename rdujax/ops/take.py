"""Take: slices at places given by an array of indices (`lax.gather`): table look-ups, fancy indexing, reordering."""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import jax
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.numerics.formats import INT32, Format
from rdujax.ops.on_buffers import OnBuffers, vectors_of_slices
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes
from rdujax.units import pcu

Mode = Literal["clip", "fill", "promised"]
MODES = {
    "clip": jax.lax.GatherScatterMode.CLIP,
    "fill": jax.lax.GatherScatterMode.FILL_OR_DROP,
    "promised": jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
}


@dataclass(frozen=True)
class Places:
    """Which axes the indices name, and where the axes of a slice come to lie; the fields of `GatherDimensionNumbers`.

    offsets: axes of the result that walk along a slice. collapsed: axes of the tensor of which a slice has one element
    and the result none. named: the axis of the tensor that each entry of an index vector (the last axis of the
    indices) is a place along. batch, index_batch: axes of tensor and indices that go together.
    """

    offsets: tuple[int, ...]
    collapsed: tuple[int, ...]
    named: tuple[int, ...]
    batch: tuple[int, ...] = ()
    index_batch: tuple[int, ...] = ()


@dataclass(frozen=True)
class Take(OnBuffers):
    """Operands: a tensor, and INT32 indices [..., places of one slice].

    A slice that would reach beyond the tensor is moved into it ("clip"), or delivers `fill_value` ("fill"). Where the
    author promised that there is none ("promised"), it is moved as well, but nothing flows back along a derivative.
    """

    places: Places
    sizes: tuple[int, ...]
    mode: Mode = "clip"
    fill_value: float | int | bool = field(default=0, compare=False)
    spelt: str = field(init=False, repr=False)  # compared in its place: -0.0 is another value than 0.0, NaN is NaN

    def __post_init__(self) -> None:
        object.__setattr__(self, "spelt", repr(self.fill_value))

    @property
    def name(self) -> str:
        """See `Op`."""
        return "take"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        x, indices = operands
        if indices.fmt is not INT32:
            raise FormatError(describe("indices", given=str(indices), allowed="int32", do="convert them"))
        if len(self.sizes) != len(x.shape) or any(not 1 <= n <= m for n, m in zip(self.sizes, x.shape, strict=True)):
            raise ShapeError(describe("a slice that does not fit", given=self.sizes, allowed=f"within {x.shape}"))
        return TensorType(self._shape(indices.shape), x.fmt)

    def vectors(self, config: pcu.Config, *operands: TensorType) -> Any:
        """See `OnBuffers`: those of every slice."""
        x, indices = operands
        sizes, rows = self._tile_sizes(x.shape), prod(indices.shape[:-1])
        return vectors_of_slices(config, sizes, x.shape, rows, x.fmt)

    def places_of(self, count: int) -> tuple[int, ...]:
        """See `OnBuffers`."""
        return (1,)

    def slice_bytes(self, *operands: TensorType) -> int:
        """See `OnBuffers`."""
        return prod(self.sizes) * operands[0].fmt.width_bytes

    def _shape(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        kept, rows = self._kept(), list(indices[:-1])
        lengths = dict(zip(self.places.offsets, (self.sizes[a] for a in kept), strict=True))
        rank = len(kept) + len(rows)  # not in the expression: the list is used up there
        return tuple(lengths[a] if a in lengths else rows.pop(0) for a in range(rank))

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`: places as they are, by NumPy."""
        x, indices = operands
        p, rows = self.places, indices.shape[:-1]
        found = np.empty((*rows, *(self.sizes[a] for a in self._kept())), x.dtype)
        for row in np.ndindex(*rows):
            first = dict(zip(p.named, indices[row].tolist(), strict=True))
            first |= {axis: row[i] for axis, i in zip(p.batch, p.index_batch, strict=True)}
            first = {axis: int(place) for axis, place in first.items()}
            inside = all(0 <= place <= x.shape[axis] - self.sizes[axis] for axis, place in first.items())
            if not inside and self.mode == "fill":
                found[row] = self.fill_value
                continue
            clipped = {a: min(max(place, 0), x.shape[a] - self.sizes[a]) for a, place in first.items()}
            at = tuple(slice(clipped.get(a, 0), clipped.get(a, 0) + n) for a, n in enumerate(self.sizes))
            found[row] = x[at].reshape(found.shape[len(rows) :])
        back = [a for a in range(found.ndim) if a not in p.offsets]
        return np.moveaxis(found, range(found.ndim), (*back, *p.offsets))

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: axes that every slice has whole, and those of the indices but the last."""
        x, indices = shapes
        p, kept = self.places, self._kept()
        rows = [a for a in range(len(kept) + len(indices) - 1) if a not in p.offsets]
        of_x: list[int | None] = [None] * len(x)
        for axis, place in zip(kept, p.offsets, strict=True):
            of_x[axis] = place if self.sizes[axis] == x[axis] else None
        for axis, i in zip(p.batch, p.index_batch, strict=True):
            of_x[axis] = rows[i]
        return tuple(of_x), (*rows, None)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        x, indices = operands
        fill = np.asarray(self.fill_value).astype(x.dtype).item()  # not emulated: UINT32 in an INT32 carrier
        return jax.lax.gather(
            x,
            indices,
            dimension_numbers(self.places),
            self._tile_sizes(x.shape),
            mode=MODES[self.mode],
            fill_value=fill if self.mode == "fill" else None,
        )

    def _tile_sizes(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """A slice of a tile of the tensor: of an axis that is cut, the tile has less than the slice."""
        return tuple(min(n, whole) for n, whole in zip(self.sizes, x, strict=True))

    def _kept(self) -> tuple[int, ...]:
        """Axes of the tensor that a slice keeps in the result."""
        gone = (*self.places.collapsed, *self.places.batch)
        return tuple(a for a in range(len(self.sizes)) if a not in gone)

    def __str__(self) -> str:
        named = ",".join(map(str, self.places.named))
        return f"take[{named}]({'x'.join(map(str, self.sizes))}) {self.mode}"


def dimension_numbers(places: Places) -> Any:
    """The places as JAX writes them."""
    return jax.lax.GatherDimensionNumbers(
        offset_dims=places.offsets,
        collapsed_slice_dims=places.collapsed,
        start_index_map=places.named,
        operand_batching_dims=places.batch,
        start_indices_batching_dims=places.index_batch,
    )
