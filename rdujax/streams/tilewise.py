"""A result tile by tile, each from the tiles of the operands that it needs.

    operand [a, b], walked along by (0, None)     result tile (i, j) needs operand tile (i, whole)

For kinds of work whose tiles know nothing of one another: what makes one tile of the result is a function of the
operands' tiles and of nothing else.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import Format
from rdujax.streams import stream as streams
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles, taken
from rdujax.streams.stream import Stream, poisoned


class TileWork(Protocol):
    """Makes a tile of the result; hashable, for it is compiled once for all that are equal."""

    @abstractmethod
    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """Carriers of `output` from the carriers of the operands' tiles."""
        ...


def over_results(
    work: TileWork,
    operands: Sequence[Stream],
    walks: Sequence[Axes],
    layout: Layout,
    output: Format,
    held: Sequence[Format],
    how: Executor = "whole",
    tally: bool = True,
    each: Mapping[str, int] | None = None,
    each_of: int | None = None,
) -> tuple[Stream, Counts]:
    """The stream of `layout` in `output`, and the counts of every tile.

    walks: for every axis of every operand, the axis of the result that it walks along, or None; operands are cut so.
    held: what the buffers of the operands hold, which decides the bytes read. each: what is counted for every element
    of the result, or of the operand `each_of`. Poison beyond the tensors stays beyond them.
    """
    at = tuple(_tiles(operand.layout, axes, layout) for operand, axes in zip(operands, walks, strict=True))
    extents = tuple(o.layout.extents[places] for o, places in zip(operands, at, strict=True))
    if tally:
        tile = layout.tile if each_of is None else operands[each_of].layout.tile
        operations = prod(tile) * max((each or {}).values(), default=0)
        read_bytes = [prod(o.layout.tile) * fmt.width_bytes for o, fmt in zip(operands, held, strict=True)]
        most = max(operations, sum(read_bytes))
        must_fit_int32(most, "operations or bytes of a tile")
    widths, counted = tuple(fmt.width_bytes for fmt in held), tuple((each or {}).items())
    setup = (work, layout, output, widths, counted, each_of, how, tally)
    data = tuple(streams.carriers(o).data for o in operands)
    values, counts = _run(setup, data, at, extents, layout.extents)
    return Stream(values, layout, output), counts


@partial(jax.jit, static_argnums=0)
def _run(
    setup: tuple[TileWork, Layout, Format, tuple[int, ...], tuple[tuple[str, int], ...], int | None, Executor, bool],
    data: tuple[jax.Array, ...],
    at: tuple[jax.Array, ...],
    extents: tuple[jax.Array, ...],
    result_extents: jax.Array,
) -> tuple[jax.Array, Counts]:
    work, layout, output, widths, each, each_of, how, tally = setup

    def tile_step(
        at: tuple[jax.Array, ...], extents: tuple[jax.Array, ...], extent: jax.Array
    ) -> tuple[jax.Array, Counts]:
        tiles = [taken(whole, place) for whole, place in zip(data, at, strict=True)]
        value = poisoned(work.tile(output, *tiles), extent, layout, output)
        counted = extent if each_of is None else extents[each_of]
        return value, _tally(extents, counted, widths, each) if tally else Counts()

    return over_tiles(tile_step, how, at, extents, result_extents)


def _tally(
    extents: tuple[jax.Array, ...], counted: jax.Array, widths: tuple[int, ...], each: tuple[tuple[str, int], ...]
) -> Counts:
    elements = jnp.prod(counted, dtype=jnp.int32)
    read_bytes = jnp.zeros((), jnp.int32)
    for own, width in zip(extents, widths, strict=True):
        read_bytes = read_bytes + jnp.prod(own, dtype=jnp.int32) * width
    return Counts({**{name: elements * amount for name, amount in each}, "pmu.read_bytes": read_bytes})


def _tiles(operand: Layout, axes: Axes, result: Layout) -> np.ndarray:
    """int32 [result tiles]: which tile of an operand each tile of the result needs."""
    place = tuple(0 if along is None else result.arrivals[:, along] for along in axes)
    return np.broadcast_to(operand.places[place], (result.n_tiles,)).astype(np.int32)
