"""Memory: an expert copied from DDR to HBM against its source, and shared streams against a closed form."""

import time
from collections.abc import Iterator
from fractions import Fraction

import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import total
from rdujax.machines import sn40l
from rdujax.numerics.formats import BF16
from rdujax.units import memory
from rdujax.units.memory import contents
from rdujax.units.memory.contents import Symbol
from rdujax.units.sharing import Flow


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; a smaller expert and fewer streams where `quick`."""
    yield _switch(2**18 if quick else 2**24)
    yield _shared(20 if quick else 400)


def _switch(n: int) -> Row:
    """Bits at the target and bytes on both sides, for one symbol of n BF16 words."""
    symbols = {"weights": Symbol((n,), BF16, read_only=True)}
    words = np.random.default_rng(4).integers(0, 2**16, n).astype(np.uint16)
    ddr, hbm = (contents.allocate(tier, sn40l().tier(tier), symbols) for tier in ("ddr", "hbm"))
    names = {"weights": "weights"}

    def switched(source):
        target, counts = contents.copy(contents.place(ddr, "weights", source), hbm, names)
        return target.words["weights"], counts

    copy = compiled(switched, jnp.asarray(words))
    got, counts = copy.run(jnp.asarray(words))
    wrong = int((np.asarray(got) != words).sum()) + (total(counts) != contents.predict_copy(ddr, hbm, names))
    seconds = race({"copy": copy}, 5)["copy"]
    return row("memory", "words copied from DDR to HBM against their source", n, "words", wrong, n / seconds)


def _shared(turns: int) -> Row:
    """Streams that begin together: until the i-th shortest has ended, all longer ones have moved as much as it has."""
    config, clock, rng = sn40l().hbm, 1_600_000_000, np.random.default_rng(5)
    width = Fraction(1800 * 10**9 * 85, 100 * clock)
    latency = Fraction(str(config.latency_s.value)) * clock
    wrong = compared = 0
    seconds = 0.0
    for _ in range(turns):
        amounts = sorted(int(n) for n in rng.integers(1, 10**9, 8))
        start = time.perf_counter()
        done = memory.finish_cycles(config, clock, [Flow(str(i), amount) for i, amount in enumerate(amounts)])
        seconds += time.perf_counter() - start
        for i, amount in enumerate(amounts):
            want = (sum(amounts[:i]) + amount * (len(amounts) - i)) / width + latency
            wrong += done[str(i)] != want
        compared += len(amounts)
    return row("memory", "ends of shared streams against a closed form", compared, "streams", wrong, compared / seconds)
