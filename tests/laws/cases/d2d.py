"""Cases of the die-to-die link: tiles that cross, packets that are full, short and ragged."""

import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.streams.layout import Layout, tiled
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream, tile
from rdujax.units import d2d
from tests.laws.cases.case import Case

CONFIG = tiny().d2d  # packets of 8 bytes
LAYOUT = tiled((4, 6), (2, 3))
RAGGED = tiled((5, 7), (2, 3), (1, 0))


def _over(fmt: Format, layout: Layout, how: Executor):
    def run(data):
        stream, counts = d2d.cross(CONFIG, Stream(data, layout, fmt), how)
        return stream.data, counts

    return run


def _ragged(x):
    stream, counts = d2d.cross(CONFIG, tile(x, RAGGED.tile, RAGGED.order, fmt=FP32), "scan")
    return stream.data[0], counts


def _counts(sizes_bytes: list[int]) -> Counts:
    return Counts({"d2d.bytes": sum(sizes_bytes), "d2d.packets": sum(-(-size // 8) for size in sizes_bytes)})


def cases(rng: np.random.Generator) -> list[Case]:
    """Carriers (24 bytes a tile: 3 packets), words at rest (12 bytes: 2 packets), and ragged tiles."""
    carriers = rng.normal(size=(4, 2, 3)).astype(np.float32)
    words = rng.integers(0, 2**16, (4, 2, 3)).astype(np.uint16)
    x = rng.normal(size=(5, 7)).astype(np.float32)
    ragged = [24, 24, 12, 24, 24, 12, 8, 8, 4]
    return [
        Case("carriers", _over(FP32, LAYOUT, "vmap"), (carriers,), carriers.view(np.uint32), _counts([24] * 4)),
        Case("words", _over(BF16, LAYOUT, "scan"), (words,), words, _counts([12] * 4)),
        Case("ragged", _ragged, (x,), x[:2, :3].copy().view(np.uint32), _counts(ragged)),
    ]
