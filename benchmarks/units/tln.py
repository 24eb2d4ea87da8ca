"""TLN: tiles that pass against what was sent, and the end of transfers against the arrival of every byte."""

import time
from collections.abc import Iterator

from benchmarks.units._moving import moved_tiles
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.units import tln


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer tiles and transfers where `quick`."""
    yield _tiles(64 if quick else 1024)
    yield _times(200 if quick else 2000)


def _tiles(n: int) -> Row:
    """Bits and bytes of n tiles of 32 x 32."""
    what, expected = "elements that passed against those sent", Counts({"tln.bytes": n * 32 * 32 * 4})
    return moved_tiles("tln", what, lambda stream: tln.transfer(stream, "vmap"), n, 32, expected)


def _times(n: int) -> Row:
    """The last of the arrivals of single bytes, `bytes_per_cycle` of which enter in each cycle."""
    config = tiny().tln
    width, latency = int(config.bytes_per_cycle.value), int(config.latency_cycles.value)
    start = time.perf_counter()
    got = [tln.cycles(config, amount) for amount in range(n)]
    seconds = time.perf_counter() - start
    wrong = sum(
        cycles != max((byte // width + 1 + latency for byte in range(amount)), default=0)
        for amount, cycles in enumerate(got)
    )
    return row("tln", "ends of transfers against the arrival of each byte", n, "transfers", wrong, n / seconds)
