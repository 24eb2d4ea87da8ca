"""Bytes of what moves, tallied step by step: what every mover of streams and symbols counts with."""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.formats import Format
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles

PIECE_BYTES = 2**30


def tile_bytes(layout: Layout, fmt: Format, how: Executor, visits: np.ndarray | None = None) -> jax.Array:
    """int32 [n_visits]: valid bytes of each tile that is moved, by default each tile once, in order of arrival.

    visits: int [n_visits], indices of tiles, repeats included. Raises ArgumentError for a tile of 2 GiB or more.
    """
    must_fit_int32(prod(layout.tile) * fmt.width_bytes, f"bytes of a tile of {layout}")
    extents = layout.extents if visits is None else layout.extents[visits]

    def valid_bytes(extent: jax.Array) -> jax.Array:
        return jnp.prod(extent, dtype=jnp.int32) * jnp.int32(fmt.width_bytes)

    return over_tiles(valid_bytes, how, jnp.asarray(extents))


def piece_bytes(array: jax.Array, fmt: Format) -> jax.Array:
    """int32 [n]: bytes at rest of a whole array, in pieces of 1 GiB, so that a symbol of any size can be tallied."""
    pieces, rest = divmod(array.size * fmt.width_bytes, PIECE_BYTES)
    return jnp.asarray([PIECE_BYTES] * pieces + [rest] * (rest > 0 or not pieces), jnp.int32)
