"""What every unit that moves streams is held to: the bits that were sent, and the counts told from their shape."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import Counts, total
from rdujax.numerics.formats import FP32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream


def moved_tiles(
    unit: str, what: str, move: Callable[[Stream], tuple[Stream, Counts]], tiles: int, columns: int, expected: Counts
) -> Row:
    """Any bits at all, in `tiles` tiles of 32 x `columns` FP32, through `move`; `expected` are the counts of them."""
    layout = tiled((tiles * 32, columns), (32, columns))
    data = np.random.default_rng(3).integers(0, 2**32, (tiles, 32, columns), dtype=np.uint32).view(np.float32)

    def through(x):
        stream, counts = move(Stream(x, layout, FP32))
        return stream.data, counts

    run = compiled(through, jnp.asarray(data))
    got, counts = run.run(jnp.asarray(data))
    wrong = int((np.asarray(got).view(np.uint32) != data.view(np.uint32)).sum()) + int(total(counts) != expected)
    seconds = race({unit: run}, 5)[unit]
    return row(unit, what, data.size, "elements", wrong, data.size / seconds)
