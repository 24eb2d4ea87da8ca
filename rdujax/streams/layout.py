"""How a tensor is cut into equal tiles, and in which order the tiles arrive.

    shape  (100, 60)            the tensor
    tile   ( 32, 60)            the extent of one tile; the last along an axis may be ragged
    order  (0, 1)               grid axes from slowest to fastest in order of arrival

A layout is static: it knows no values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from rdujax.base.errors import ShapeError, describe


@dataclass(frozen=True)
class Layout:
    """Tiling of a tensor. Raises ShapeError where shape, tile and order do not fit together."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.tile) != len(self.shape):
            raise ShapeError(
                describe("tile and tensor have different ranks", given=f"tile {self.tile}, tensor {self.shape}")
            )
        if sorted(self.order) != list(range(len(self.shape))):
            raise ShapeError(
                describe(
                    "the order of arrival is not a permutation of the axes",
                    given=self.order,
                    allowed=f"a permutation of {tuple(range(len(self.shape)))}",
                )
            )
        if 0 in self.shape:
            raise ShapeError(describe("an empty tensor cannot be cut into tiles", given=f"shape {self.shape}"))
        if any(not 1 <= t <= s for t, s in zip(self.tile, self.shape, strict=True)):
            raise ShapeError(
                describe("a tile must have at least one and at most all elements of each axis",
                         given=f"tile {self.tile}", allowed=f"1 up to {self.shape}")
            )  # fmt: skip

    @property
    def grid(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-s // t) for s, t in zip(self.shape, self.tile, strict=True))

    @property
    def n_tiles(self) -> int:
        """Tiles in all."""
        return prod(self.grid)

    @property
    def padded(self) -> tuple[int, ...]:
        """The tensor's shape rounded up to whole tiles."""
        return tuple(g * t for g, t in zip(self.grid, self.tile, strict=True))

    @property
    def is_whole(self) -> bool:
        """True where the tensor is one tile."""
        return self.tile == self.shape

    @property
    def is_ragged(self) -> bool:
        """True where a last tile reaches past the tensor."""
        return self.padded != self.shape

    @cached_property
    def arrivals(self) -> np.ndarray:
        """int32 [n_tiles, rank]: grid indices of the tiles in order of arrival."""
        axes = [np.arange(self.grid[axis], dtype=np.int32) for axis in self.order]
        mesh = np.meshgrid(*axes, indexing="ij") if axes else []
        found = np.zeros((self.n_tiles, len(self.shape)), np.int32)
        for axis, index in zip(self.order, mesh, strict=True):
            found[:, axis] = index.reshape(-1)
        return found

    @cached_property
    def places(self) -> np.ndarray:
        """int32 [*grid]: the place of every tile in the order of arrival."""
        found = np.zeros(self.grid, np.int32)
        for place, at in enumerate(self.arrivals.tolist()):
            found[tuple(at)] = place
        return found

    @cached_property
    def extents(self) -> np.ndarray:
        """int32 [n_tiles, rank]: how many elements of each tile belong to the tensor, along each axis."""
        left = np.asarray(self.shape, np.int32) - self.arrivals * np.asarray(self.tile, np.int32)
        return np.minimum(left, np.asarray(self.tile, np.int32))

    def of_walking(self, shape: tuple[int, ...], axes: Sequence[int | None]) -> "Layout":
        """The layout of a tensor that walks along `axes` of this one: cut like it there, whole where None.

        Its tiles arrive in the order in which those of this one need them.
        """
        tile = tuple(n if axis is None else self.tile[axis] for n, axis in zip(shape, axes, strict=True))
        place = {axis: i for i, axis in enumerate(axes) if axis is not None}
        order = [i for i, axis in enumerate(axes) if axis is None] + [place[a] for a in self.order if a in place]
        return Layout(shape, tile, tuple(order))

    def __str__(self) -> str:
        return f"{_by(self.shape)}/{_by(self.tile)}@{''.join(map(str, self.order))}"


def whole(shape: tuple[int, ...]) -> Layout:
    """The layout of one tile that is the whole tensor."""
    return Layout(tuple(shape), tuple(shape), tuple(range(len(shape))))


def tiled(
    shape: tuple[int, ...], tile: tuple[int, ...], order: tuple[int, ...] | None = None, *, ragged: bool = True
) -> Layout:
    """A layout with row-major arrival unless `order` says otherwise.

    With `ragged=False`, a tile that does not divide the tensor raises ShapeError.
    """
    layout = Layout(tuple(shape), tuple(tile), tuple(range(len(shape))) if order is None else tuple(order))
    if not ragged and layout.is_ragged:
        raise ShapeError(
            describe(
                "the tile does not divide the tensor, and this stream may not be ragged",
                given=f"tile {layout.tile}, tensor {layout.shape}",
                allowed="divisors along each axis",
                do="choose a dividing tile, or allow a ragged tail with ragged=True",
            )
        )
    return layout


def _by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers)) or "scalar"
