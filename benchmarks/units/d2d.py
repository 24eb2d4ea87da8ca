"""D2D: tiles that cross against what was sent, and the cycle of each packet against links walked cycle by cycle."""

import time
from collections.abc import Iterator

from benchmarks.units._moving import moved_tiles
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import Counts
from rdujax.machines import sn40l
from rdujax.units import d2d

CONFIG = sn40l().d2d


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer tiles and packets where `quick`."""
    yield _tiles(64 if quick else 1024)
    yield _times(200 if quick else 2000)


def _tiles(n: int) -> Row:
    """Bits, bytes and packets of n tiles of 32 x 33."""
    tile_bytes = 32 * 33 * 4
    packets = n * len(range(0, tile_bytes, CONFIG.link_bytes_per_cycle.value))
    expected = Counts({"d2d.packets": packets, "d2d.bytes": n * tile_bytes})
    what = "bits and packets of tiles against those sent"
    return moved_tiles("d2d", what, lambda stream: d2d.cross(CONFIG, stream, "vmap"), n, 33, expected)


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
    return row(
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
