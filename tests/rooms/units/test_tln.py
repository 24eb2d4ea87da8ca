"""TLN: edges of its time, fair sharing, and tiles that pass as they are."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.ledger.counts import COUNTERS, Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16
from rdujax.streams.layout import tiled
from rdujax.streams.lift import EXECUTORS
from rdujax.units import tln
from rdujax.units.sharing import Flow
from tests.rooms.units.streams_of import carriers, stream_of

CONFIG = tiny().tln
WIDTH, LATENCY = CONFIG.bytes_per_cycle.value, CONFIG.latency_cycles.value


def arrivals(amount_bytes: int) -> list[int]:
    """The cycle at whose end each byte leaves: WIDTH of them enter per cycle, each is under way for LATENCY more."""
    return [byte // WIDTH + 1 + LATENCY for byte in range(amount_bytes)]


@pytest.mark.parametrize("amount", [1, WIDTH - 1, WIDTH, WIDTH + 1, 10 * WIDTH, 10 * WIDTH + 1])
def test_a_transfer_ends_with_its_last_byte(amount):
    assert tln.cycles(CONFIG, amount) == max(arrivals(amount))


def test_a_cycle_before_it_is_not_there():
    """One byte more than a cycle carries is ready one cycle later, and nothing is carried in no time."""
    assert tln.cycles(CONFIG, 0) == 0
    assert tln.cycles(CONFIG, WIDTH) == LATENCY + 1 and tln.cycles(CONFIG, WIDTH + 1) == LATENCY + 2
    assert tln.cycles(sn40l().tln, 2**50) == 40 + 2**50 // 4096


@pytest.mark.parametrize("how", EXECUTORS)
def test_every_tile_passes_as_it_is(rng, how):
    stream = stream_of(carriers(rng, (5, 7), BF16), tiled((5, 7), (2, 3)), BF16, packed=True)
    got, counts = tln.transfer(stream, how)
    assert got is stream and total(counts) == Counts({"tln.bytes": 70}) == tln.predict(70)
    assert [int(n) for n in counts["tln.bytes"]] == [12, 12, 4, 12, 12, 4, 6, 6, 2]


def test_streams_share_what_the_network_carries():
    flows = [Flow("a", 480, 0, 8), Flow("b", 480), Flow("c", 0, 3)]
    # a is held to 8 bytes per cycle by its port for 60 cycles, b takes the other 40 for 12.
    assert tln.finish_cycles(CONFIG, flows) == {"a": 60 + LATENCY, "b": 12 + LATENCY, "c": 3}
    assert tln.finish_cycles(CONFIG, [Flow("a", 100), Flow("b", 100)])["a"] == Fraction(200, 48) + LATENCY
    alone = tln.finish_cycles(CONFIG, [Flow("a", 100)])["a"]
    assert tln.cycles(CONFIG, 100) - 1 < alone <= tln.cycles(CONFIG, 100)


def test_time_is_differentiable_in_the_facts():
    slope = jax.grad(lambda c: tln.cycles(c, 4800))(jax.tree.map(jnp.float32, CONFIG))
    assert slope.latency_cycles.value == 1
    assert np.isclose(slope.bytes_per_cycle.value, -4800 / WIDTH**2)


def test_nothing_takes_no_time_relaxed_or_exact_and_less_than_nothing_is_refused():
    relaxed = jax.tree.map(jnp.float32, CONFIG)
    for config in (CONFIG, relaxed):
        assert tln.cycles(config, 0) == tln.cycles(config, jnp.float32(0)) == 0
        assert tln.cycles(config, 1) == tln.cycles(config, jnp.float32(1)) == LATENCY + 1
    assert jax.grad(lambda n: tln.cycles(CONFIG, n))(jnp.float32(0)) == 0
    for amount in (-100, 0.5):
        with pytest.raises(ArgumentError, match="amount_bytes must be a whole number, 0 or more"):
            tln.cycles(CONFIG, amount)


def test_both_ways_together_are_priced_as_one():
    counts = tln.predict(480) + tln.predict(240)
    assert tln.price(CONFIG, counts, 1) == 15
    assert tln.price(CONFIG, tln.predict(480), 1) == 10 and "either way" in COUNTERS["tln.bytes"].doc
