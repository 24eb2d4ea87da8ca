"""Cases of the AGCU: tiles in order, a strided tile, a store, rows by number, and a tile passed on."""

import jax.numpy as jnp
import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream, cut
from rdujax.units import agcu
from rdujax.units.agcu import coalesce
from rdujax.units.agcu.coalesce import Walk
from tests.laws.cases.case import Case

LAYOUT = tiled((5, 6), (2, 4), (1, 0))
COLUMN = Walk(8, (5,), (24,), 4)  # element 2 of each row of six FP32
CONFIG = tiny().agcu
# Tiles of 8, 8, 4, 4, 4 and 2 elements, of 2 or 4 bytes, in requests of 16 bytes.
PACKED_WORDS = Counts(
    {"agcu.tiles": 6, "agcu.requests": 6, "agcu.asked_bytes": 60, "agcu.moved_bytes": 60, "hbm.read_bytes": 60}
)
PACKED_CARRIERS = Counts(
    {
        "agcu.tiles": 6, "agcu.requests": 8, "agcu.asked_bytes": 120, "agcu.moved_bytes": 120,
        "ddr.written_bytes": 120, "p2p.messages": 6, "p2p.sent_bytes": 120,
    }
)  # fmt: skip


def cut_by_hand(x: np.ndarray, poison: int) -> np.ndarray:
    """The tiles of LAYOUT: columns of tiles first, poison beyond the tensor."""
    padded = np.full((6, 8), poison, x.dtype)
    padded[:5, :6] = x
    return np.stack([padded[2 * i : 2 * i + 2, 4 * j : 4 * j + 4] for j in range(2) for i in range(3)])


def _load(words):
    stream, counts = agcu.load(CONFIG, words, LAYOUT, BF16, "hbm", how="scan")
    return stream.data, counts


def _store(x):
    return agcu.store(CONFIG, Stream(cut(x, LAYOUT, FP32), LAYOUT, FP32), "ddr", how="vmap", remote=True)


def _column(words):
    return agcu.load_strided(CONFIG, words, COLUMN, FP32, "hbm")


def _write_column(words, tile):
    return agcu.store_strided(CONFIG, words, tile, COLUMN, FP32, "hbm")


def _rows(table, rows):
    return agcu.gather(CONFIG, table, rows, BF16, "ddr")


def _pass_on(x):
    stream, counts = agcu.to_tile(Stream(cut(x, LAYOUT, FP32), LAYOUT, FP32), "vmap")
    return stream.data, counts


def cases(rng: np.random.Generator) -> list[Case]:
    """Small pieces of work, every road in and out of a tile once."""
    words = rng.integers(0, 2**16, (5, 6)).astype(np.uint16)
    x = rng.normal(size=(5, 6)).astype(np.float32)
    flat, tile = x.reshape(-1), rng.normal(size=(5, 1)).astype(np.float32)
    written = flat.copy()
    written[2::6] = tile[:, 0]
    rows = np.array([4, -1, 0, 5, 4], np.int32)
    gathered = np.stack([words[r] if 0 <= r < 5 else np.full(6, 0x7FC0, np.uint16) for r in rows])
    bits = flat.view(np.uint32)
    # Five runs of 4 bytes at 8, 32, 56, 80, 104: each in another granule of 8 and another request of 16.
    column = {"agcu.requests": 5, "agcu.asked_bytes": 20, "agcu.moved_bytes": 40}
    return [
        Case("load", _load, (words,), cut_by_hand(words, 0x7FC0), PACKED_WORDS),
        Case(
            "store remote", _store, (x,), x.view(np.uint32), PACKED_CARRIERS
        ),
        Case(
            "column", _column, (flat,), bits[2::6].reshape(5, 1),
            coalesce.predict(CONFIG.sizes, COLUMN, "hbm.read_bytes"),
        ),
        Case(
            "write a column", _write_column, (flat, tile), written.view(np.uint32),
            Counts({**column, "hbm.written_bytes": 40}),
        ),
        Case("rows", _rows, (words, rows), gathered, agcu.predict_gather(CONFIG, 12, 5, "ddr")),
        Case(
            "tile to tile", _pass_on, (x,), cut_by_hand(x.view(np.uint32), np.float32(jnp.nan).view(np.uint32)),
            agcu.predict_to_tile(120, 6),
        ),
    ]  # fmt: skip
