"""AGCU: tiles against NumPy's slices, and requests against a walk over every byte that is asked for."""

from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import Contestant, compiled, race
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import total
from rdujax.machines import sn40l
from rdujax.numerics.formats import FP32
from rdujax.streams.layout import Layout, tiled
from rdujax.units import agcu
from rdujax.units.agcu import coalesce

COUNTER = "hbm.read_bytes"


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer bytes where `quick`."""
    side = 96 if quick else 384
    layout = tiled((side + 5, side + 3), (32, 24), (1, 0))
    yield _tiles(layout)
    yield _requests(layout)


def _tiles(layout: Layout) -> Row:
    """Every element of every tile."""
    x = np.random.default_rng(1).normal(size=layout.shape).astype(np.float32)
    load = compiled(
        lambda words: agcu.load(sn40l().agcu, words, layout, FP32, "hbm", how="scan")[0].data, jnp.asarray(x)
    )
    got, wrong, compared = np.asarray(load.run(x)), 0, 0
    for tile, at in zip(got, layout.arrivals, strict=True):
        want = x[tuple(slice(i * t, (i + 1) * t) for i, t in zip(at, layout.tile, strict=True))]
        inside = tile[: want.shape[0], : want.shape[1]]
        wrong += int((inside.view(np.uint32) != want.view(np.uint32)).sum()) + int((~np.isnan(tile)).sum() != want.size)
        compared += want.size
    seconds = race({"load": load}, 5)["load"]
    return row("agcu", "elements of loaded tiles against NumPy slices", compared, "elements", wrong, compared / seconds)


def _requests(layout: Layout) -> Row:
    """Requests, asked and moved bytes of each tile; a tile counts as wrong when one of them is."""
    sizes, base = sn40l().agcu.sizes, 44
    # Not compiled as a whole: without arguments, XLA would count while it compiles.
    tally = Contestant(partial(coalesce.tally_tensor, sizes, layout, 2, COUNTER, base), (), 0.0)
    counts = tally.run()
    addresses = base + 2 * np.arange(layout.shape[0] * layout.shape[1]).reshape(layout.shape)
    wrong = runs = 0
    for number, at in enumerate(layout.arrivals):
        window = addresses[tuple(slice(i * t, (i + 1) * t) for i, t in zip(at, layout.tile, strict=True))]
        walked = (window.reshape(-1, 1) + np.arange(2)).reshape(-1)
        want = [
            1 + int(np.count_nonzero(np.diff(walked // sizes.request_bytes))),
            walked.size,
            sizes.granule_bytes * (1 + int(np.count_nonzero(np.diff(walked // sizes.granule_bytes)))),
        ]
        got = [int(counts[f"agcu.{name}"][number]) for name in ("requests", "asked_bytes", "moved_bytes")]
        wrong, runs = wrong + (got != want), runs + window.shape[0]
    wrong += total(counts) != coalesce.predict_tensor(sizes, layout, 2, COUNTER, base)
    seconds = race({"tally": tally}, 5)["tally"]
    return row("agcu", "requests and bytes of tiles against a walk over bytes", runs, "runs", wrong, runs / seconds)
