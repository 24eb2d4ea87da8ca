"""D2D: tiles that cross against what was sent, and the cycle of each packet against links walked cycle by cycle."""

import time
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l
from rdujax.numerics.formats import FP32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream
from rdujax.units import d2d

CONFIG = sn40l().d2d


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer tiles and packets where `quick`."""
    yield _tiles(64 if quick else 1024)
    yield _times(200 if quick else 2000)


def _tiles(n: int) -> Row:
    """Bits, bytes and packets of n tiles of 32 x 33."""
    layout = tiled((n * 32, 33), (32, 33))
    data = np.random.default_rng(3).integers(0, 2**32, (n, 32, 33), dtype=np.uint32).view(np.float32)

    def crossed(x):
        stream, counts = d2d.cross(CONFIG, Stream(x, layout, FP32), "vmap")
        return stream.data, counts

    cross = compiled(crossed, jnp.asarray(data))
    got, counts = cross.run(jnp.asarray(data))
    packets = n * len(range(0, data[0].nbytes, CONFIG.link_bytes_per_cycle.value))
    wrong = int((np.asarray(got).view(np.uint32) != data.view(np.uint32)).sum())
    wrong += total(counts) != Counts({"d2d.packets": packets, "d2d.bytes": data.nbytes})
    seconds = race({"cross": cross}, 5)["cross"]
    return Row("d2d", "bits and packets of tiles against those sent", data.size, "elements", wrong, data.size / seconds)


def _times(n: int) -> Row:
    """Streams of 1 to n packets over every third number of links."""
    wrong = compared = 0
    seconds = 0.0
    for links in range(1, CONFIG.links.value + 1, 3):
        across = _walked(n, links)
        start = time.perf_counter()
        got = [d2d.crossing_cycles(CONFIG, packets, links) for packets in range(1, n + 1)]
        seconds += time.perf_counter() - start
        wrong += sum(a != b for a, b in zip(got, across, strict=True))
        compared += n
    return Row(
        "d2d", "ends of crossings against links cycle by cycle", compared, "crossings", wrong, compared / seconds
    )


def _walked(packets: int, links: int) -> list[int]:
    """The cycle at whose end each packet is across, by a walk over the cycles."""
    across: list[int] = []
    cycle, waiting = 0, packets
    while waiting:
        cycle += 1
        for _ in range(min(links, waiting)):
            across.append(cycle + CONFIG.latency_cycles.value)
            waiting -= 1
    return across
