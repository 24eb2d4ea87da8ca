"""Access patterns: how a buffer is read. Pure addressing, no arithmetic, no bit changes.

Each pattern is a value with three questions: the shape it delivers, the array it delivers, and which axis of
the source each delivered axis walks along (None where it walks along none, or along a mixture).
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ShapeError, describe

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
