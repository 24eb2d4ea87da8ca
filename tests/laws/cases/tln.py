"""Cases of the TLN: tiles that pass, ragged ones too."""

import numpy as np

from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.streams.layout import tiled
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream, tile
from rdujax.units import tln
from tests.laws.cases.case import Case

LAYOUT = tiled((4, 6), (2, 3))
RAGGED = tiled((5, 7), (2, 3), (1, 0))


def _over(fmt: Format, how: Executor):
    def run(data):
        stream, counts = tln.transfer(Stream(data, LAYOUT, fmt), how)
        return stream.data, counts

    return run


def _ragged(x):
    stream, counts = tln.transfer(tile(x, RAGGED.tile, RAGGED.order, fmt=FP32), "scan")
    return stream.data[0], counts


def cases(rng: np.random.Generator) -> list[Case]:
    """Carriers, words at rest, and a tensor whose last tiles are ragged."""
    carriers = rng.normal(size=(4, 2, 3)).astype(np.float32)
    words = rng.integers(0, 2**16, (4, 2, 3)).astype(np.uint16)
    x = rng.normal(size=(5, 7)).astype(np.float32)
    return [
        Case("carriers", _over(FP32, "vmap"), (carriers,), carriers.view(np.uint32), tln.predict(96)),
        Case("words", _over(BF16, "scan"), (words,), words, tln.predict(48)),
        Case("ragged", _ragged, (x,), x[:2, :3].copy().view(np.uint32), tln.predict(140)),
    ]
