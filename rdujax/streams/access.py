"""Access patterns: how a buffer is read. Pure addressing, no arithmetic, no bit changes.

Each pattern is a value with three questions: the shape it delivers, the array it delivers, and which axis of
the source each delivered axis walks along (None where it walks along none, or along a mixture).
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ShapeError, describe
from rdujax.numerics import convert

Axes = tuple[int | None, ...]


class Access(Protocol):
    """One address pattern on the read side of a buffer."""

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The delivered shape; raises ShapeError where the pattern does not fit the source."""
        ...

    def read(self, x: Any) -> Any:
        """The delivered array; for JAX and NumPy arrays."""
        ...

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """For each delivered axis, the source axis that it walks along one to one, or None."""
        ...

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Source axes longer than one that no delivered axis walks along one to one."""
        ...


@dataclass(frozen=True)
class Transpose:
    """Delivers axis `permutation[i]` of the source as axis i (the diagonally striped banks of a PMU)."""

    permutation: tuple[int, ...]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        if sorted(self.permutation) != list(range(len(shape))):
            raise ShapeError(
                describe("not a permutation of the axes", given=self.permutation, allowed=f"of {len(shape)} axes")
            )
        return tuple(shape[axis] for axis in self.permutation)

    def read(self, x: Any) -> Any:
        """See `Access`."""
        return x.transpose(self.permutation)

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`."""
        return self.permutation

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return ()

    def __str__(self) -> str:
        return f"transpose({','.join(map(str, self.permutation))})"


@dataclass(frozen=True)
class Reshape:
    """Delivers the same elements in row-major order under another shape."""

    shape: tuple[int, ...]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        if prod(shape) != prod(self.shape) or min(self.shape, default=0) < 0:
            raise ShapeError(describe("a reshape keeps the number of elements", given=f"{shape} to {self.shape}"))
        return self.shape

    def read(self, x: Any) -> Any:
        """See `Access`."""
        return x.reshape(self.shape)

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`: an axis is walked one to one where equal lengths begin at equal strides."""
        source = {(length, stride): axis for axis, (length, stride) in enumerate(_strides(shape)) if length > 1}
        return tuple(source.get(pair) if pair[0] > 1 else None for pair in _strides(self.shape))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        walked = set(self.axes_of(shape))
        return tuple(axis for axis, length in enumerate(shape) if length > 1 and axis not in walked)

    def __str__(self) -> str:
        return f"reshape({'x'.join(map(str, self.shape)) or 'scalar'})"


@dataclass(frozen=True)
class Broadcast:
    """Delivers source axis i as axis `dimensions[i]` of `shape`, the same elements again along all others.

    The dimensions increase: an order of axes is changed by a transpose.
    """

    shape: tuple[int, ...]
    dimensions: tuple[int, ...]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        places = [*self.dimensions, len(self.shape)]
        fits = len(shape) == len(self.dimensions) and all(
            0 <= axis < later and length in (1, self.shape[axis])
            for length, axis, later in zip(shape, places, places[1:], strict=False)
        )
        if not fits:
            raise ShapeError(
                describe(
                    "a broadcast that does not fit",
                    given=f"{shape} at axes {self.dimensions}",
                    allowed=f"into {self.shape}",
                )
            )
        return self.shape

    def read(self, x: Any) -> Any:
        """See `Access`."""
        lengths = dict(zip(self.dimensions, x.shape, strict=True))
        spread = x.reshape([lengths.get(axis, 1) for axis in range(len(self.shape))])
        return (np if isinstance(x, np.ndarray) else jnp).broadcast_to(spread, self.shape)

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`."""
        walked = {axis: i for i, axis in enumerate(self.dimensions) if shape[i] == self.shape[axis]}
        return tuple(walked.get(axis) for axis in range(len(self.shape)))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return ()

    def __str__(self) -> str:
        return f"broadcast({'x'.join(map(str, self.shape))};{','.join(map(str, self.dimensions))})"


@dataclass(frozen=True)
class Slice:
    """Delivers elements `start`, `start + stride`, ... below `limit` of every axis."""

    start: tuple[int, ...]
    limit: tuple[int, ...]
    stride: tuple[int, ...]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        ends = zip(self.start, self.limit, self.stride, strict=True)
        fits = len(shape) == len(self.start) == len(self.limit) == len(self.stride)
        if not fits or any(not 0 <= a < b <= n or step < 1 for (a, b, step), n in zip(ends, shape, strict=True)):
            raise ShapeError(describe("a slice that does not fit", given=str(self), allowed=f"within {shape}"))
        return tuple(-(-(b - a) // step) for a, b, step in zip(self.start, self.limit, self.stride, strict=True))

    def read(self, x: Any) -> Any:
        """See `Access`."""
        return x[tuple(slice(*ends) for ends in zip(self.start, self.limit, self.stride, strict=True))]

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`: an axis that is taken whole."""
        return tuple(axis if n == shape[axis] else None for axis, n in enumerate(self.shape_of(shape)))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return tuple(axis for axis, whole in enumerate(self.axes_of(shape)) if whole is None)

    def __str__(self) -> str:
        steps = zip(self.start, self.limit, self.stride, strict=True)
        return f"slice({','.join(f'{a}:{b}' + (f':{step}' if step > 1 else '') for a, b, step in steps)})"


@dataclass(frozen=True)
class Pad:
    """Delivers the source with `low` values before, `high` after and `interior` between its elements, of every axis.

    value: what is put there, a number of the source's format. Negative counts cut elements off.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    interior: tuple[int, ...]
    value: float | int | bool = field(compare=False)
    spelt: str = field(init=False, repr=False)  # compared in its place: -0.0 is another value than 0.0, NaN is NaN

    def __post_init__(self) -> None:
        object.__setattr__(self, "spelt", repr(self.value))

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        if not len(shape) == len(self.low) == len(self.high) == len(self.interior):
            raise ShapeError(describe("padding of another rank", given=str(self), allowed=f"{len(shape)} axes"))
        each = zip(shape, self.low, self.high, self.interior, strict=True)
        return tuple(low + n + max(n - 1, 0) * between + high for n, low, high, between in each)

    def read(self, x: Any) -> Any:
        """See `Access`."""
        edges = tuple(zip(self.low, self.high, self.interior, strict=True))
        if isinstance(x, np.ndarray):
            return _padded(x, edges, self.value)
        if x.dtype == np.uint16:  # words at rest
            value = convert.pack(jnp.float32(self.value))
        else:
            value = np.asarray(self.value).astype(x.dtype)  # not emulated: one bit pattern, UINT32 in an INT32 carrier
        return jax.lax.pad(x, value, edges)

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`: an axis to which nothing is done."""
        each = zip(self.low, self.high, self.interior, strict=True)
        return tuple(axis if edges == (0, 0, 0) else None for axis, edges in enumerate(each))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return tuple(axis for axis, kept in enumerate(self.axes_of(shape)) if kept is None and shape[axis] > 1)

    def __str__(self) -> str:
        each = zip(self.low, self.high, self.interior, strict=True)
        return f"pad({','.join(':'.join(map(str, edges)) for edges in each)};{self.value})"


def _padded(x: np.ndarray, edges: tuple[tuple[int, int, int], ...], value: float | int | bool) -> np.ndarray:
    """The same for a NumPy array, whatever its dtype: float64 references stay so."""
    spread = tuple(n + max(n - 1, 0) * between for n, (_, _, between) in zip(x.shape, edges, strict=True))
    wide = np.full(spread, value, x.dtype)
    wide[tuple(slice(None, None, between + 1) for _, _, between in edges)] = x
    ends = [max(n + min(high, 0), 0) for n, (_, high, _) in zip(spread, edges, strict=True)]
    kept = wide[tuple(slice(max(-low, 0), end) for end, (low, _, _) in zip(ends, edges, strict=True))]
    found = np.full([low + n + high for n, (low, high, _) in zip(spread, edges, strict=True)], value, x.dtype)
    found[tuple(slice(max(low, 0), max(low, 0) + n) for n, (low, _, _) in zip(kept.shape, edges, strict=True))] = kept
    return found


@dataclass(frozen=True)
class Reverse:
    """Delivers the elements of some axes from last to first."""

    axes: tuple[int, ...]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        if len(set(self.axes)) != len(self.axes) or any(not 0 <= axis < len(shape) for axis in self.axes):
            raise ShapeError(describe("axes to reverse", given=self.axes, allowed=f"of {len(shape)} axes, each once"))
        return shape

    def read(self, x: Any) -> Any:
        """See `Access`."""
        return x[tuple(slice(None, None, -1 if axis in self.axes else 1) for axis in range(x.ndim))]

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`."""
        return tuple(None if axis in self.axes and n > 1 else axis for axis, n in enumerate(shape))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return tuple(axis for axis in self.axes if shape[axis] > 1)

    def __str__(self) -> str:
        return f"reverse({','.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Window:
    """Delivers every position of a window that slides along `axes`: what a pooling or a convolution reads.

    An axis of the source stays in its place and counts the positions, `strides` apart; the elements of the window,
    `dilations` apart, follow as new axes behind all others, in the order of `axes`, which increase. Padding comes
    first, as `Pad`. Elements are delivered once for every window that they lie in, and kept once.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        counts = (self.sizes, self.strides, self.dilations)
        fits = list(self.axes) == sorted(set(self.axes) & set(range(len(shape)))) and all(
            len(each) == len(self.axes) and min(each, default=1) >= 1 for each in counts
        )
        places = {a: self._positions(a, shape[a]) for a in self.axes} if fits else {}
        if not fits or min(places.values(), default=1) < 1:
            raise ShapeError(describe("a window that does not fit", given=str(self), allowed=f"within {shape}"))
        return (*(places.get(a, n) for a, n in enumerate(shape)), *self.sizes)

    def read(self, x: Any) -> Any:
        """See `Access`."""
        for axis, size, step, apart in zip(self.axes, self.sizes, self.strides, self.dilations, strict=True):
            first = np.arange(self._positions(axis, x.shape[axis]), dtype=np.int32) * step
            at = first[:, None] + np.arange(size, dtype=np.int32) * apart
            x = (np if isinstance(x, np.ndarray) else jnp).moveaxis(x[(slice(None),) * axis + (at,)], axis + 1, -1)
        return x

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`: the axes along which nothing slides."""
        return (*(None if a in self.axes else a for a in range(len(shape))), *(None for _ in self.axes))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return tuple(axis for axis in self.axes if shape[axis] > 1)

    def _positions(self, axis: int, length: int) -> int:
        i = self.axes.index(axis)
        return (length - (self.sizes[i] - 1) * self.dilations[i] - 1) // self.strides[i] + 1

    def __str__(self) -> str:
        each = zip(self.axes, self.sizes, self.strides, self.dilations, strict=True)
        steps = (f"{a}:{n}" + (f"/{step}" if step > 1 else "") + (f"*{d}" if d > 1 else "") for a, n, step, d in each)
        return f"window({','.join(steps)})"


@dataclass(frozen=True)
class Detach:
    """Delivers the source as it is, without a derivative."""

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return shape

    def read(self, x: Any) -> Any:
        """See `Access`."""
        return x if isinstance(x, np.ndarray) else jax.lax.stop_gradient(x)

    def axes_of(self, shape: tuple[int, ...]) -> Axes:
        """See `Access`."""
        return tuple(range(len(shape)))

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Access`."""
        return ()

    def __str__(self) -> str:
        return "detach"


def chain_shape(chain: tuple[Access, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape delivered by one pattern after another."""
    for access in chain:
        shape = access.shape_of(shape)
    return shape


def chain_read(chain: tuple[Access, ...], x: Any) -> Any:
    """The array delivered by one pattern after another."""
    for access in chain:
        x = access.read(x)
    return x


def chain_axes(chain: tuple[Access, ...], shape: tuple[int, ...]) -> tuple[Axes, tuple[int, ...]]:
    """For one pattern after another: the source axis of each delivered axis, and the merged source axes."""
    axes: Axes = tuple(range(len(shape)))
    merged: set[int] = set()
    for access in chain:
        merged |= {axes[i] for i in access.merged(shape) if axes[i] is not None}  # type: ignore[misc]
        axes = tuple(None if i is None else axes[i] for i in access.axes_of(shape))
        shape = access.shape_of(shape)
    return axes, tuple(sorted(merged))


def _strides(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(length, prod(shape[i + 1 :])) for i, length in enumerate(shape)]
