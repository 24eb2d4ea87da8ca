"""AGCUs beyond whole tiles: strided tiles, rows by number, other sockets; derivatives, poison and prices."""

from itertools import product
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, UnknownNameError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, INT32
from rdujax.streams.layout import tiled, whole
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import POISON, Stream
from rdujax.units import agcu, tln
from rdujax.units.agcu import coalesce
from rdujax.units.agcu.coalesce import Walk
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


def walk_of(pattern, width: int) -> Walk:
    base, trips, strides, run = pattern
    return Walk(base * width, trips, tuple(s * width for s in strides), run * width)


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
def test_a_strided_tile_holds_the_elements_that_its_walk_names(rng, fmt):
    x = carriers(rng, (60,), fmt)
    words = np.asarray(agcu.to_rest(jnp.asarray(x), fmt))
    for pattern in PATTERNS.values():
        walk = walk_of(pattern, fmt.width_bytes)
        tile, counts = agcu.load_strided(CONFIG, jnp.asarray(words), walk, fmt, "ddr")
        assert tile.dtype == words.dtype
        assert np.array_equal(patterns(tile), patterns(words[named(pattern)]))
        assert total(counts) == coalesce.predict(CONFIG.sizes, walk, "ddr.read_bytes")


@pytest.mark.parametrize("name", ["column", "backwards", "all"])
def test_a_strided_store_writes_them_and_nothing_else(rng, name):
    x, pattern = carriers(rng, (60,), INT32), PATTERNS[name]
    walk, index = walk_of(pattern, 4), named(pattern)
    tile = carriers(rng, index.shape, INT32)
    want = x.copy()
    want[index] = tile
    got, counts = agcu.store_strided(CONFIG, jnp.asarray(x), jnp.asarray(tile), walk, INT32, "hbm")
    assert np.array_equal(got, want)
    assert total(counts) == coalesce.predict(CONFIG.sizes, walk, "hbm.written_bytes")
    again, _ = agcu.load_strided(CONFIG, got, walk, INT32, "hbm")
    assert np.array_equal(again, tile)


def test_derivatives_return_to_the_elements_that_were_read(rng):
    x = jnp.asarray(carriers(rng, (60,), FP32))
    for pattern in PATTERNS.values():
        walk, index = walk_of(pattern, 4), named(pattern)
        weight = rng.integers(-8, 8, index.shape).astype(np.float32)
        _, pull = jax.vjp(lambda words: agcu.load_strided(CONFIG, words, walk, FP32, "hbm")[0], x)  # noqa: B023
        want = np.zeros(60)
        np.add.at(want, index, weight)
        assert np.array_equal(pull(jnp.asarray(weight))[0], want)
    walk, index = walk_of(PATTERNS["column"], 4), named(PATTERNS["column"])
    tile = jnp.asarray(carriers(rng, index.shape, FP32))
    _, pull = jax.vjp(lambda w, t: agcu.store_strided(CONFIG, w, t, walk, FP32, "hbm")[0], x, tile)
    ones = np.ones(60, np.float32)
    to_words, to_tile = pull(jnp.asarray(ones))
    ones[index] = 0
    assert np.array_equal(to_words, ones) and np.array_equal(to_tile, np.ones(index.shape))


def test_addresses_end_with_the_symbol(rng):
    words = jnp.asarray(carriers(rng, (60,), FP32))
    assert agcu.load_strided(CONFIG, words, Walk(236, (), (), 4), FP32, "hbm")[0].shape == (1,)
    for bad in (Walk(240, (), (), 4), Walk(0, (2,), (236,), 8), Walk(2, (), (), 4), Walk(0, (2,), (6,), 4)):
        with pytest.raises(
            ArgumentError, match="beyond the symbol, or within an element(.|\n)*multiples of 4 below 240"
        ):
            agcu.load_strided(CONFIG, words, bad, FP32, "hbm")
    assert agcu.load_strided(CONFIG, words, Walk(0, (1, 2), (6, 8), 4), FP32, "hbm")[0].shape == (1, 2, 1)
    with pytest.raises(ArgumentError, match=r"of a symbol of one axis \(here \(6, 10\)\)"):
        agcu.load_strided(CONFIG, words.reshape(6, 10), Walk(0, (), (), 4), FP32, "hbm")


def test_stores_that_cannot_be_are_refused(rng):
    words, tile = jnp.zeros(60, jnp.float32), jnp.zeros((3, 2, 1), jnp.float32)
    with pytest.raises(ArgumentError, match="may write a byte twice"):
        agcu.store_strided(CONFIG, words, tile, walk_of(PATTERNS["again"], 4), FP32, "hbm")
    with pytest.raises(ShapeError, match=r"given:   float32\[3, 2, 1\]\n  allowed: float32\[6, 1\]"):
        agcu.store_strided(CONFIG, words, tile, walk_of(PATTERNS["column"], 4), FP32, "hbm")


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
    here, near = agcu.load(CONFIG, jnp.asarray(x), LAYOUT, FP32, "hbm", how="scan")
    there, far = agcu.load(CONFIG, jnp.asarray(x), LAYOUT, FP32, "hbm", how="scan", remote=True)
    assert np.array_equal(patterns(here.data), patterns(there.data))
    assert total(far) == total(near) + Counts({"p2p.sent_bytes": 140, "p2p.messages": 9})
    assert total(far) == agcu.predict(CONFIG, LAYOUT, FP32, "hbm.read_bytes", remote=True)
    _, stored = agcu.store(CONFIG, there, "ddr", "scan", remote=True)
    assert total(stored) == agcu.predict(CONFIG, LAYOUT, FP32, "ddr.written_bytes", remote=True)


def test_a_load_and_the_network_count_the_same_bytes(rng):
    stream, loaded = agcu.load(CONFIG, jnp.asarray(carriers(rng, (5, 7), BF16)), LAYOUT, BF16, "hbm", how="vmap")
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
    # Packed, a column of 512 bytes takes two requests.
    packed = agcu.predict(config, layout, BF16, "hbm.read_bytes")
    assert agcu.price(config, columns, 1) == 256 * 256 == 32 * agcu.price(config, packed, 1)


@pytest.mark.parametrize("how", ["vmap", "scan"])
@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_a_packed_tile_asks_once_for_every_request_that_it_begins(rng, fmt, how):
    """A walk over the bytes of each tile, from its first one: a request is full, or the tile ends."""
    layout = tiled((11, 13), (4, 5), (1, 0))
    sizes = [int(np.prod(extent)) * fmt.width_bytes for extent in layout.extents]
    want = [len(range(0, size, 16)) for size in sizes]
    x = carriers(rng, layout.shape, fmt)
    stream, loaded = agcu.load(CONFIG, jnp.asarray(x), layout, fmt, "hbm", how=how)
    _, stored = agcu.store(CONFIG, stream, "ddr", how)
    assert loaded["agcu.requests"].tolist() == stored["agcu.requests"].tolist() == want
    assert loaded["agcu.moved_bytes"].tolist() == sizes
    assert total(loaded) == agcu.predict(CONFIG, layout, fmt, "hbm.read_bytes")
    assert total(stored) == agcu.predict(CONFIG, layout, fmt, "ddr.written_bytes")
    visits = np.array([3, 3, 8], np.int32)
    _, again = agcu.load(CONFIG, jnp.asarray(x), layout, fmt, "hbm", visits, how)
    assert again["agcu.requests"].tolist() == [want[v] for v in visits]


def test_tiny_packed_tiles_cost_a_request_each():
    """A thousand tiles of one element: 2,000 bytes, and a thousand cycles of one request each."""
    config, layout = sn40l().agcu, tiled((1000, 1), (1, 1))
    _, counts = agcu.load(config, jnp.zeros((1000, 1), jnp.uint16), layout, BF16, "hbm", how="vmap")
    assert total(counts) == agcu.predict(config, layout, BF16, "hbm.read_bytes")
    assert (total(counts)["agcu.requests"], total(counts)["agcu.moved_bytes"]) == (1000, 2000)
    assert agcu.price(config, total(counts), 1) == 1000


def test_packed_terabytes_are_predicted_exactly():
    layout = tiled((2**22 + 3, 2**20), (2**10, 2**10))
    counts = agcu.predict(sn40l().agcu, layout, BF16, "hbm.read_bytes", sweeps=2)
    assert counts["hbm.read_bytes"] == 2 * 2 * (2**22 + 3) * 2**20
    assert counts["agcu.requests"] == 2 * (2**12 * 2**10 * 2**21 // 256 + 2**10 * 3 * 2**11 // 256)


@pytest.mark.parametrize("walk", [Walk(12, (6,), (40,), 4), Walk(0, (), (), 240)], ids=["column", "all"])
def test_granules_of_another_sockets_memory_cross_as_one_message(rng, walk):
    words = jnp.asarray(carriers(rng, (60,), FP32))
    near, here = agcu.load_strided(CONFIG, words, walk, FP32, "hbm")
    far, there = agcu.load_strided(CONFIG, words, walk, FP32, "hbm", remote=True)
    assert np.array_equal(patterns(near), patterns(far))
    moved = total(here)["hbm.read_bytes"]
    assert total(there) == total(here) + Counts({"p2p.messages": 1, "p2p.sent_bytes": moved})
    assert total(there) == agcu.predict_strided(CONFIG, walk, "hbm.read_bytes", remote=True)
    after, stored = agcu.store_strided(CONFIG, words, near, walk, FP32, "ddr", 4, remote=True)
    assert np.array_equal(patterns(after), patterns(words))
    assert total(stored) == agcu.predict_strided(CONFIG, walk, "ddr.written_bytes", 4, remote=True)
    assert total(stored)["p2p.sent_bytes"] == total(stored)["agcu.moved_bytes"]


def test_each_row_of_another_sockets_table_is_a_message(rng):
    table, rows = jnp.asarray(carriers(rng, (5, 6), FP32)), jnp.asarray(ROWS)
    near, here = agcu.gather(CONFIG, table, rows, FP32, "hbm")
    far, there = jax.jit(lambda t, r: agcu.gather(CONFIG, t, r, FP32, "hbm", remote=True))(table, rows)
    assert np.array_equal(patterns(near), patterns(far)) and there["p2p.messages"].tolist() == [1] * 7
    assert total(there) == total(here) + Counts({"p2p.messages": 7, "p2p.sent_bytes": 7 * 24})
    assert total(there) == agcu.predict_gather(CONFIG, 24, 7, "hbm", remote=True)


WRONG = [(jnp.float32, INT32, "float32", "int32"), (jnp.uint16, FP32, "uint16", "float32")]


@pytest.mark.parametrize(("dtype", "fmt", "given", "allowed"), WRONG, ids=["carriers", "words"])
def test_arrays_that_do_not_hold_their_format_are_refused(dtype, fmt, given, allowed):
    flat, table, one = jnp.zeros(12, dtype), jnp.zeros((3, 4), dtype), Walk(0, (), (), 4)
    stream = Stream(jnp.zeros((1, 3, 4), dtype), whole((3, 4)), fmt)
    roads = {
        "load": lambda: agcu.load(CONFIG, table, whole((3, 4)), fmt, "hbm", tally=False),
        "store": lambda: agcu.store(CONFIG, stream, "hbm", tally=False),
        "load_strided": lambda: agcu.load_strided(CONFIG, flat, one, fmt, "hbm"),
        "store_strided": lambda: agcu.store_strided(CONFIG, flat, flat[:1], one, fmt, "hbm"),
        "gather": lambda: agcu.gather(CONFIG, table, jnp.zeros(2, jnp.int32), fmt, "hbm"),
    }
    for road, move in roads.items():
        with pytest.raises(FormatError, match=f"given:   {given}\n  allowed: {allowed}\n  where:   {road}$"):
            move()


def test_tiers_that_do_not_exist_are_refused_with_and_without_a_tally():
    flat, table, one = jnp.zeros(12), jnp.zeros((3, 4)), Walk(0, (), (), 4)
    roads = [
        lambda: agcu.load(CONFIG, table, whole((3, 4)), FP32, "nvme", tally=False),
        lambda: agcu.store(CONFIG, Stream(table[None], whole((3, 4)), FP32), "nvme", tally=False),
        lambda: agcu.load_strided(CONFIG, flat, one, FP32, "nvme"),
        lambda: agcu.store_strided(CONFIG, flat, flat[:1], one, FP32, "nvme"),
        lambda: agcu.gather(CONFIG, table, jnp.zeros(2, jnp.int32), FP32, "nvme"),
    ]
    for move in roads:
        with pytest.raises(UnknownNameError, match="unknown memory tier\n  given:   'nvme'"):
            move()


@pytest.mark.parametrize("visits", [[-1], [9], [0, 2**40], [0.0]], ids=str)
def test_visits_of_no_tile_are_refused(visits):
    x = jnp.zeros((5, 7))
    for tally in (True, False):
        with pytest.raises(ArgumentError, match="visits of tiles that the layout does not have(.|\n)*indices 0 to 8"):
            agcu.load(CONFIG, x, LAYOUT, FP32, "hbm", np.array(visits), tally=tally)
    with pytest.raises(ArgumentError, match="visits of tiles"):
        coalesce.tally_tensor(CONFIG.sizes, LAYOUT, 4, "hbm.read_bytes", visits=np.array(visits))


@pytest.mark.parametrize("how", ["vmap", "scan"])
@pytest.mark.parametrize(("elements", "requests", "granules"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (4, 0, 0), (5, 0, 0)])
def test_small_slices_at_places_of_their_own_are_charged_granules(rng, how, elements, requests, granules):
    """Slices of 4 to 20 bytes; a request has 16, a granule 8. Those of a request or more are packed tiles."""
    layout = tiled((7, elements), (2, elements))
    small = agcu.small_slice_bytes(CONFIG, elements * 4)
    assert small == (elements * 4 if requests else 0)
    x = jnp.asarray(carriers(rng, layout.shape, FP32))
    stream, loaded = agcu.load(CONFIG, x, layout, FP32, "hbm", how=how, slice_bytes=small)
    back, stored = agcu.store(CONFIG, stream, "hbm", how, slice_bytes=small)
    np.testing.assert_array_equal(back, x)
    rows = [2, 2, 2, 1]
    assert loaded["agcu.asked_bytes"].tolist() == [n * elements * 4 for n in rows]
    for counts, counter in ((loaded, "hbm.read_bytes"), (stored, "hbm.written_bytes")):
        assert total(counts) == agcu.predict(CONFIG, layout, FP32, counter, slice_bytes=small)
        if requests:
            assert counts[counter].tolist() == [n * granules * 8 for n in rows]
            assert counts["agcu.requests"].tolist() == rows
        else:
            assert counts[counter].tolist() == counts["agcu.asked_bytes"].tolist()
