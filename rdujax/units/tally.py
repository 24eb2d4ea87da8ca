"""Bytes of what moves, tallied step by step: what every mover of streams and symbols counts with."""

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, describe
from rdujax.numerics.formats import Format
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles

PIECE_BYTES = 2**30


class Kind(NamedTuple):
    """Along one axis: `tiles` tiles from grid index `first` on, each with `extent` elements of the tensor."""

    first: int
    tiles: int
    extent: int


def kinds(layout: Layout) -> Iterator[tuple[Kind, ...]]:
    """The tiles of a layout, alike ones together: one `Kind` per axis, for each combination of full and ragged.

    As many as 2^rank however many tiles there are, so that a sum over tiles of any size takes no time.
    """
    axes = []
    for length, tile in zip(layout.shape, layout.tile, strict=True):
        full, ragged = divmod(length, tile)
        axes.append([Kind(0, full, tile)] * (full > 0) + [Kind(full, 1, ragged)] * (ragged > 0))
    yield from product(*axes)


def tile_sizes(layout: Layout, fmt: Format) -> Iterator[tuple[int, int]]:
    """(how many tiles, valid bytes of each), alike ones together; exact at any size."""
    for kind in kinds(layout):
        yield prod(axis.tiles for axis in kind), prod(axis.extent for axis in kind) * fmt.width_bytes


def check_visits(layout: Layout, visits: np.ndarray | None) -> None:
    """Refuses visits that are no indices of tiles: ArgumentError for one outside and for what is no whole number."""
    if visits is None:
        return
    asked = np.asarray(visits)
    whole = np.issubdtype(asked.dtype, np.integer)
    outside = asked[(asked < 0) | (asked >= layout.n_tiles)] if whole else asked.reshape(-1)
    if not whole or outside.size:
        raise ArgumentError(
            describe(
                "visits of tiles that the layout does not have",
                given=f"{outside[:8].tolist()} of type {asked.dtype.name}",
                allowed=f"indices 0 to {layout.n_tiles - 1} in order of arrival",
                where=str(layout),
            )
        )


def tile_bytes(layout: Layout, fmt: Format, how: Executor, visits: np.ndarray | None = None) -> jax.Array:
    """int32 [n_visits]: valid bytes of each tile that is moved, by default each tile once, in order of arrival.

    visits: int [n_visits], indices of tiles, repeats included. Raises ArgumentError for a tile of 2 GiB or more, and
    for an index that no tile has.
    """
    check_visits(layout, visits)
    must_fit_int32(prod(layout.tile) * fmt.width_bytes, f"bytes of a tile of {layout}")
    extents = layout.extents if visits is None else layout.extents[visits]

    def valid_bytes(extent: jax.Array) -> jax.Array:
        return jnp.prod(extent, dtype=jnp.int32) * jnp.int32(fmt.width_bytes)

    return over_tiles(valid_bytes, how, jnp.asarray(extents))


def piece_bytes(array: jax.Array, fmt: Format) -> jax.Array:
    """int32 [n]: bytes at rest of a whole array, in pieces of 1 GiB, so that a symbol of any size can be tallied."""
    pieces, rest = divmod(array.size * fmt.width_bytes, PIECE_BYTES)
    return jnp.asarray([PIECE_BYTES] * pieces + [rest] * (rest > 0 or not pieces), jnp.int32)
