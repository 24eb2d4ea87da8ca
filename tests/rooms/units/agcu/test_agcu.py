"""AGCUs beyond whole tiles: strided tiles, rows by number, other sockets; derivatives, poison and prices."""

from itertools import product
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, INT32
from rdujax.streams.layout import tiled
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import POISON
from rdujax.units import agcu, tln
from rdujax.units.agcu import coalesce
from rdujax.units.agcu.coalesce import Nest
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers, stream_of

CONFIG = tiny().agcu
LAYOUT = tiled((5, 7), (2, 3), (1, 0))
# In elements: a column, a window, a diagonal backwards, one element again and again, everything.
PATTERNS = {
    "column": (3, (6,), (10,), 1),
    "window": (11, (3, 2), (10, 5), 4),
    "backwards": (55, (5,), (-11,), 2),
    "again": (7, (3, 2), (0, 1), 1),
    "all": (0, (), (), 60),
}


def nest_of(pattern, width: int) -> Nest:
    base, trips, strides, run = pattern
    return Nest(base * width, trips, tuple(s * width for s in strides), run * width)


def named(pattern) -> np.ndarray:
    """The elements that a pattern names, by a loop over its counters."""
    base, trips, strides, run = pattern
    numbers = [
        base + sum(i * s for i, s in zip(index, strides, strict=True)) + e
        for index in product(*map(range, trips))
        for e in range(run)
    ]
    return np.array(numbers).reshape(*trips, run)


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_a_strided_tile_holds_the_elements_that_its_nest_names(rng, fmt):
    x = carriers(rng, (60,), fmt)
    words = np.asarray(agcu.to_rest(jnp.asarray(x), fmt))
    for pattern in PATTERNS.values():
        nest = nest_of(pattern, fmt.width_bytes)
        tile, counts = agcu.load_strided(CONFIG, jnp.asarray(words), nest, fmt, "ddr")
        assert tile.dtype == words.dtype
        assert np.array_equal(patterns(tile), patterns(words[named(pattern)]))
        assert total(counts) == coalesce.predict(CONFIG.sizes, nest, "ddr.read_bytes")


@pytest.mark.parametrize("name", ["column", "backwards", "all"])
def test_a_strided_store_writes_them_and_nothing_else(rng, name):
    x, pattern = carriers(rng, (60,), INT32), PATTERNS[name]
    nest, index = nest_of(pattern, 4), named(pattern)
    tile = carriers(rng, index.shape, INT32)
    want = x.copy()
    want[index] = tile
    got, counts = agcu.store_strided(CONFIG, jnp.asarray(x), jnp.asarray(tile), nest, INT32, "hbm")
    assert np.array_equal(got, want)
    assert total(counts) == coalesce.predict(CONFIG.sizes, nest, "hbm.written_bytes")
    again, _ = agcu.load_strided(CONFIG, got, nest, INT32, "hbm")
    assert np.array_equal(again, tile)


def test_derivatives_return_to_the_elements_that_were_read(rng):
    x = jnp.asarray(carriers(rng, (60,), FP32))
    for pattern in PATTERNS.values():
        nest, index = nest_of(pattern, 4), named(pattern)
        weight = rng.integers(-8, 8, index.shape).astype(np.float32)
        _, pull = jax.vjp(lambda words: agcu.load_strided(CONFIG, words, nest, FP32, "hbm")[0], x)  # noqa: B023
        want = np.zeros(60)
        np.add.at(want, index, weight)
        assert np.array_equal(pull(jnp.asarray(weight))[0], want)
    nest, index = nest_of(PATTERNS["column"], 4), named(PATTERNS["column"])
    tile = jnp.asarray(carriers(rng, index.shape, FP32))
    _, pull = jax.vjp(lambda w, t: agcu.store_strided(CONFIG, w, t, nest, FP32, "hbm")[0], x, tile)
    ones = np.ones(60, np.float32)
    to_words, to_tile = pull(jnp.asarray(ones))
    ones[index] = 0
    assert np.array_equal(to_words, ones) and np.array_equal(to_tile, np.ones(index.shape))


def test_addresses_end_with_the_symbol(rng):
    words = jnp.asarray(carriers(rng, (60,), FP32))
    assert agcu.load_strided(CONFIG, words, Nest(236, (), (), 4), FP32, "hbm")[0].shape == (1,)
    for bad in (Nest(240, (), (), 4), Nest(0, (2,), (236,), 8), Nest(2, (), (), 4), Nest(0, (2,), (6,), 4)):
        with pytest.raises(
            ArgumentError, match="beyond the symbol, or within an element(.|\n)*multiples of 4 below 240"
        ):
            agcu.load_strided(CONFIG, words, bad, FP32, "hbm")
    with pytest.raises(ArgumentError, match=r"of a symbol of one axis \(here \(6, 10\)\)"):
        agcu.load_strided(CONFIG, words.reshape(6, 10), Nest(0, (), (), 4), FP32, "hbm")


def test_stores_that_cannot_be_are_refused(rng):
    words, tile = jnp.zeros(60, jnp.float32), jnp.zeros((3, 2, 1), jnp.float32)
    with pytest.raises(ArgumentError, match="may write a byte twice"):
        agcu.store_strided(CONFIG, words, tile, nest_of(PATTERNS["again"], 4), FP32, "hbm")
    with pytest.raises(ShapeError, match=r"given:   float32\[3, 2, 1\]\n  allowed: float32\[6, 1\]"):
        agcu.store_strided(CONFIG, words, tile, nest_of(PATTERNS["column"], 4), FP32, "hbm")


ROWS = np.array([0, 4, 5, -1, 4, 2**31 - 1, -(2**31)], np.int32)


@pytest.mark.parametrize("fmt", [BF16, FP32, INT32, BOOL], ids=str)
def test_rows_out_of_bounds_are_poison(rng, fmt):
    table = carriers(rng, (5, 6), fmt)
    rows, counts = agcu.gather(CONFIG, jnp.asarray(table), jnp.asarray(ROWS), fmt, "hbm")
    known = (ROWS >= 0) & (ROWS < 5)
    assert np.array_equal(patterns(rows)[known], patterns(table[ROWS[known]]))
    assert np.array_equal(patterns(rows)[~known], patterns(np.full((4, 6), POISON[fmt], table.dtype)))
    row_bytes = 6 * fmt.width_bytes
    moved, requests = 8 * ceil(row_bytes / 8) * 7, ceil(row_bytes / 16) * 7
    want = {"agcu.tiles": 7, "agcu.requests": requests, "agcu.asked_bytes": row_bytes * 7, "agcu.moved_bytes": moved}
    assert total(counts) == Counts({**want, "hbm.read_bytes": moved})
    assert total(counts) == agcu.predict_gather(CONFIG, row_bytes, 7, "hbm")


def test_derivatives_of_rows_never_become_nan(rng):
    table = jnp.asarray(carriers(rng, (5, 3), FP32))
    ones = jnp.ones((7, 3), jnp.float32)
    _, pull = jax.vjp(lambda t: agcu.gather(CONFIG, t, jnp.asarray(ROWS), FP32, "hbm")[0], table)
    assert np.array_equal(pull(ones)[0], np.array([1, 0, 0, 0, 2.0])[:, None] * np.ones(3))


def test_numbers_of_rows_are_int32():
    with pytest.raises(FormatError, match=r"numbers of rows\n  given:   float32\[2\]"):
        agcu.gather(CONFIG, jnp.zeros((3, 3)), jnp.zeros(2), FP32, "hbm")


@pytest.mark.parametrize("how", EXECUTORS)
def test_a_tile_passed_on_touches_no_tier(rng, how):
    stream = stream_of(carriers(rng, (5, 7), FP32), LAYOUT, FP32)
    for remote in (False, True):
        got, counts = agcu.to_tile(stream, how, remote)
        assert got is stream
        want = {"agcu.tiles": 18, "agcu.asked_bytes": 280, "agcu.moved_bytes": 280}
        assert total(counts) == Counts({**want, "p2p.sent_bytes": 140 * remote, "p2p.messages": 9 * remote})
        assert total(counts) == agcu.predict_to_tile(140, 9, remote)


def test_another_sockets_memory_counts_twice_and_changes_no_bit(rng):
    """At its tier, and as bytes that were sent between sockets."""
    x = carriers(rng, (5, 7), FP32)
    here, near = agcu.load(jnp.asarray(x), LAYOUT, FP32, "hbm", how="scan")
    there, far = agcu.load(jnp.asarray(x), LAYOUT, FP32, "hbm", how="scan", remote=True)
    assert np.array_equal(patterns(here.data), patterns(there.data))
    assert total(far) == total(near) + Counts({"p2p.sent_bytes": 140, "p2p.messages": 9})
    assert total(far) == agcu.predict(140, 9, "hbm.read_bytes", remote=True)
    _, stored = agcu.store(there, "ddr", "scan", remote=True)
    assert total(stored) == agcu.predict(140, 9, "ddr.written_bytes", remote=True)


def test_a_load_and_the_network_count_the_same_bytes(rng):
    stream, loaded = agcu.load(jnp.asarray(carriers(rng, (5, 7), BF16)), LAYOUT, BF16, "hbm", how="vmap")
    _, carried = tln.transfer(stream, "vmap")
    assert np.array_equal(carried["tln.bytes"], loaded["hbm.read_bytes"])


@pytest.mark.parametrize(
    ("requests", "asked", "moved", "cycles"),
    [(0, 1, 1, 1), (0, 64, 64, 1), (0, 65, 64, 2), (0, 64, 65, 2), (3, 64, 64, 3), (2, 0, 128, 2), (0, 0, 0, 0)],
)
def test_an_agcu_is_as_slow_as_the_slowest_of_three(requests, asked, moved, cycles):
    counts = Counts({"agcu.requests": requests, "agcu.asked_bytes": asked, "agcu.moved_bytes": moved})
    assert agcu.price(sn40l().agcu, counts, 1_600_000_000) == cycles
    twice = sn40l().replace({"agcu.addresses_per_cycle": 2, "agcu.port_bytes_per_cycle": 128}).agcu
    assert agcu.price(twice, counts * 2, 1_600_000_000) == cycles


def test_a_column_costs_an_agcu_more_than_its_bytes():
    config = sn40l().agcu
    layout = tiled((256, 256), (256, 1))
    columns = coalesce.predict_tensor(config.sizes, layout, 2, "hbm.read_bytes")
    packed = agcu.predict(2 * 256 * 256, 256, "hbm.read_bytes")
    assert agcu.price(config, columns, 1) == 256 * 256 == 32 * agcu.price(config, packed, 1)
