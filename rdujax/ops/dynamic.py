"""Slices at places that are known only when the program runs: read one, or overwrite one."""

from dataclasses import dataclass

import jax
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.numerics.formats import INT32, Format
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes


@dataclass(frozen=True)
class DynamicSlice(OnBuffers):
    """`sizes[i]` elements of axis `axes[i]` from a place on; the other axes whole.

    Operands: the tensor, and an INT32 scalar for every axis of `axes`. A place is moved so far that the slice lies
    within the tensor, as JAX does.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """See `Op`."""
        return "dynamic_slice"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        x, *starts = operands
        _check_starts(self.name, starts, self.axes)
        sizes = dict(zip(self.axes, self.sizes, strict=True))
        shape = tuple(sizes.get(a, n) for a, n in enumerate(x.shape))
        if any(not 1 <= n <= whole for n, whole in zip(shape, x.shape, strict=True)):
            raise ShapeError(describe("a slice that does not fit", given=shape, allowed=f"within {x.shape}"))
        return TensorType(shape, x.fmt)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        x, *starts = operands
        for axis, size, start in zip(self.axes, self.sizes, starts, strict=True):
            first = int(np.clip(start, 0, x.shape[axis] - size))
            x = np.take(x, range(first, first + size), axis)
        return x

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: the axes that are taken whole."""
        whole = tuple(None if a in self.axes else a for a in range(len(shapes[0])))
        return (whole, *((),) * len(self.axes))

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        x, *starts = operands
        for axis, size, start in zip(self.axes, self.sizes, starts, strict=True):
            x = jax.lax.dynamic_slice_in_dim(x, start, size, axis, allow_negative_indices=False)
        return x

    def slice_bytes(self, *operands: TensorType) -> int:
        """See `OnBuffers`."""
        return self.infer(*operands).size_bytes

    def places_of(self, count: int) -> tuple[int, ...]:
        """See `OnBuffers`."""
        return tuple(range(1, count))

    def __str__(self) -> str:
        return f"dynamic_slice[{','.join(f'{a}:{n}' for a, n in zip(self.axes, self.sizes, strict=True))}]"


@dataclass(frozen=True)
class DynamicUpdate(OnBuffers):
    """A tensor with a slice of it overwritten, from a place on along `axes`.

    Operands: the tensor, the slice, and an INT32 scalar for every axis of `axes`; along others the slice is whole.
    """

    axes: tuple[int, ...]

    @property
    def name(self) -> str:
        """See `Op`."""
        return "dynamic_update_slice"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        x, update, *starts = operands
        _check_starts(self.name, starts, self.axes)
        fits = len(x.shape) == len(update.shape) and all(
            n <= whole if a in self.axes else n == whole
            for a, (n, whole) in enumerate(zip(update.shape, x.shape, strict=True))
        )
        if not fits or x.fmt is not update.fmt:
            raise ShapeError(describe("an update that does not fit", given=str(update), allowed=f"within {x}"))
        return x

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        x, update, *starts = operands
        at = [slice(None)] * x.ndim
        for axis, start in zip(self.axes, starts, strict=True):
            first = int(np.clip(start, 0, x.shape[axis] - update.shape[axis]))
            at[axis] = slice(first, first + update.shape[axis])
        result = x.copy()
        result[tuple(at)] = update
        return result

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: the axes along which the slice is whole."""
        whole = tuple(None if a in self.axes else a for a in range(len(shapes[0])))
        return (whole, whole, *((),) * len(self.axes))

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        x, update, *starts = operands
        each = dict(zip(self.axes, starts, strict=True))
        at = [each.get(axis, np.int32(0)) for axis in range(x.ndim)]
        return jax.lax.dynamic_update_slice(x, update, at, allow_negative_indices=False)

    def update_at(self, count: int) -> tuple[int, tuple[int, ...]]:
        """See `OnBuffers`."""
        return 1, tuple(range(2, count))

    def places_of(self, count: int) -> tuple[int, ...]:
        """See `OnBuffers`."""
        return tuple(range(2, count))

    def __str__(self) -> str:
        return f"dynamic_update_slice[{','.join(map(str, self.axes))}]"


def _check_starts(name: str, starts: list[TensorType], axes: tuple[int, ...]) -> None:
    if len(starts) != len(axes) or any(s.shape or s.fmt is not INT32 for s in starts):
        raise FormatError(
            describe("places of a slice", given=", ".join(map(str, starts)), allowed=f"{len(axes)} scalars of int32",
                     where=name)
        )  # fmt: skip
