"""TLN: tiles that pass against what was sent, and the end of transfers against the arrival of every byte."""

import time
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row
from rdujax.ledger.counts import total
from rdujax.machines import tiny
from rdujax.numerics.formats import FP32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream
from rdujax.units import tln


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer tiles and transfers where `quick`."""
    yield _tiles(64 if quick else 1024)
    yield _times(200 if quick else 2000)


def _tiles(n: int) -> Row:
    """Bits and bytes of n tiles of 32 x 32."""
    layout = tiled((n * 32, 32), (32, 32))
    data = np.random.default_rng(2).integers(0, 2**32, (n, 32, 32), dtype=np.uint32).view(np.float32)

    def passed(x):
        stream, counts = tln.transfer(Stream(x, layout, FP32), "vmap")
        return stream.data, counts

    send = compiled(passed, jnp.asarray(data))
    got, counts = send.run(jnp.asarray(data))
    wrong = int((np.asarray(got).view(np.uint32) != data.view(np.uint32)).sum())
    wrong += total(counts) != tln.predict(data.nbytes)
    seconds = race({"send": send}, 5)["send"]
    return Row("tln", "elements that passed against those sent", data.size, "elements", wrong, data.size / seconds)


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
    return Row("tln", "ends of transfers against the arrival of each byte", n, "transfers", wrong, n / seconds)
