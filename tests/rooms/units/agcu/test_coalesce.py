"""Coalescing: requests, bytes asked and bytes moved, against a walk over every single byte."""

from itertools import pairwise, product

import jax
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.streams.layout import tiled, whole
from rdujax.units.agcu import coalesce
from rdujax.units.agcu.coalesce import Sizes, Walk

SIZES = [Sizes(16, 8), Sizes(256, 64), Sizes(64, 64), Sizes(12, 4), Sizes(1, 1)]
MOVED = "hbm.read_bytes"


def bytes_of(walk: Walk) -> list[int]:
    """Every address that a walk names, in order."""
    found = []
    for index in product(*map(range, walk.trips)):
        start = walk.base_bytes + sum(i * s for i, s in zip(index, walk.strides_bytes, strict=True))
        found += range(start, start + walk.run_bytes)
    return found


def walked(sizes: Sizes, addresses: list[int]) -> Counts:
    """One byte after another: a new granule is moved, a new request is sent."""

    def changes(unit: int) -> int:
        return 1 + sum(a // unit != b // unit for a, b in pairwise(addresses))

    moved = changes(sizes.granule_bytes) * sizes.granule_bytes
    return Counts(
        {
            "agcu.requests": changes(sizes.request_bytes),
            "agcu.asked_bytes": len(addresses),
            "agcu.moved_bytes": moved,
            MOVED: moved,
        }
    )


def random_walk(rng: np.random.Generator) -> Walk:
    """Up to three counters, strides of both signs and zero, runs shorter and longer than a request."""
    rank = int(rng.integers(0, 4))
    trips = tuple(int(n) for n in rng.integers(1, 6, rank))
    strides = tuple(int(s) * int(rng.choice([1, 2, 8, 64])) for s in rng.integers(-9, 30, rank))
    below = sum(min(0, (n - 1) * s) for n, s in zip(trips, strides, strict=True))
    return Walk(int(rng.integers(0, 300)) - below, trips, strides, int(rng.choice([1, 2, 4, 7, 16, 64, 300])))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("n", [60, pytest.param(1000, marks=pytest.mark.full)])
def test_prediction_is_the_walk_over_bytes(rng, sizes, n):
    for _ in range(n):
        walk = random_walk(rng)
        assert coalesce.predict(sizes, walk, MOVED) == walked(sizes, bytes_of(walk)), walk


@pytest.mark.parametrize("sizes", SIZES[:2], ids=str)
@pytest.mark.parametrize("n", [4, pytest.param(200, marks=pytest.mark.full)])
def test_the_tally_is_the_walk_over_bytes(rng, sizes, n):
    for _ in range(n):
        walk = random_walk(rng)
        assert total(coalesce.tally(sizes, walk, MOVED)) == walked(sizes, bytes_of(walk)), walk


def test_the_tally_within_a_compiled_function_is_the_tally(rng):
    walks = [random_walk(rng) for _ in range(4)]
    counts = jax.jit(lambda: [coalesce.tally(SIZES[1], walk, MOVED) for walk in walks])()
    assert [total(each) for each in counts] == [coalesce.predict(SIZES[1], walk, MOVED) for walk in walks]


def tile_addresses(layout, width, base) -> list[list[int]]:
    """Addresses of each tile of a row-major tensor, in order of arrival: from an array of all addresses."""
    numbers = base + width * np.arange(np.prod(layout.shape, dtype=int)).reshape(layout.shape)
    found = []
    for at in layout.arrivals:
        window = tuple(slice(i * t, (i + 1) * t) for i, t in zip(at, layout.tile, strict=True))
        found.append([int(a) + i for a in numbers[window].reshape(-1) for i in range(width)])
    return found


LAYOUTS = [
    tiled((5, 7), (2, 3), (1, 0)),
    tiled((6, 8), (2, 8)),
    tiled((6, 32), (6, 8)),
    tiled((3, 5, 9), (2, 2, 4)),
    tiled((37,), (8,)),
    whole((4, 4)),
    whole(()),
    tiled((1, 9, 1), (1, 2, 1)),
]


@pytest.mark.parametrize("how", ["vmap", "scan"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tiles_of_a_tensor_are_counted_one_by_one(layout, how):
    for sizes, width, base in ((SIZES[0], 2, 0), (SIZES[1], 4, 28))[: 1 + (how == "vmap")]:
        want = [walked(sizes, addresses) for addresses in tile_addresses(layout, width, base)]
        got = coalesce.tally_tensor(sizes, layout, width, MOVED, base, how=how)
        for name in want[0]:
            assert [int(n) for n in got[name]] == [each[name] for each in want], name
        assert total(got) == coalesce.predict_tensor(sizes, layout, width, MOVED, base)


def test_visits_are_counted_again():
    layout, sizes = LAYOUTS[0], SIZES[0]
    want = [walked(sizes, addresses) for addresses in tile_addresses(layout, 2, 0)]
    visits = np.array([0, 3, 3, 8], np.int32)
    got = coalesce.tally_tensor(sizes, layout, 2, MOVED, visits=visits, how="scan")
    assert [int(n) for n in got[MOVED]] == [want[v][MOVED] for v in visits]
    twice = coalesce.tally_tensor(sizes, layout, 2, MOVED, visits=np.tile(np.arange(9), 2), how="vmap")
    assert total(twice) == coalesce.predict_tensor(sizes, layout, 2, MOVED, sweeps=2)


def test_whole_rows_are_one_run_and_columns_are_not():
    sizes = Sizes(256, 64)
    rows = coalesce.predict_tensor(sizes, tiled((64, 128), (16, 128)), 2, MOVED)
    assert (rows["agcu.requests"], rows["agcu.moved_bytes"]) == (64 * 128 * 2 // 256, 64 * 128 * 2)
    columns = coalesce.predict_tensor(sizes, tiled((64, 128), (64, 1)), 2, MOVED)
    assert (columns["agcu.requests"], columns["agcu.moved_bytes"]) == (64 * 128, 64 * 128 * 64)
    assert rows["agcu.asked_bytes"] == columns["agcu.asked_bytes"] == 64 * 128 * 2


def test_the_edges_of_granules_and_requests():
    sizes = Sizes(256, 64)

    def counts(base, run):
        found = coalesce.predict(sizes, Walk(base, (), (), run), MOVED)
        assert total(coalesce.tally(sizes, Walk(base, (), (), run), MOVED)) == found
        return found["agcu.requests"], found["agcu.moved_bytes"]

    assert counts(0, 64) == (1, 64) and counts(0, 65) == (1, 128) and counts(63, 2) == (1, 128)
    assert counts(0, 256) == (1, 256) and counts(0, 257) == (2, 320) and counts(255, 2) == (2, 128)


def test_terabytes_are_predicted_exactly():
    """A column of a table of 2^40 bytes, and all of it, by formulas written down here."""
    sizes = sn40l().agcu.sizes
    column = Walk(0, (2**28,), (4096,), 2)
    counts = coalesce.predict(sizes, column, MOVED)
    assert (counts["agcu.requests"], counts["agcu.moved_bytes"]) == (2**28, 2**34)
    everything = coalesce.predict_tensor(sizes, tiled((2**20, 2**19), (2**10, 2**19)), 2, MOVED)
    assert (everything["agcu.requests"], everything["agcu.moved_bytes"]) == (2**32, 2**40)
    odd = coalesce.predict(sizes, Walk(0, (2**32,), (48,), 16), MOVED)
    # Of four runs at 0, 48, 96, 144 modulo 192, all in one granule; they touch granules 0, 0, 1, 2 and so on.
    assert odd["agcu.moved_bytes"] == 3 * 2**32 // 4 * 64


def test_addresses_beyond_int32_are_tallied():
    """100 GiB into a tier, by number of the request and byte within it."""
    sizes = sn40l().agcu.sizes
    walk = Walk(100 * 2**30 + 30, (3, 4), (2**33, 1030), 500)
    got = total(coalesce.tally(sizes, walk, MOVED))
    assert got == coalesce.predict(sizes, walk, MOVED) == walked(sizes, bytes_of(walk))


def test_what_int32_cannot_hold_is_refused():
    with pytest.raises(ArgumentError, match="bytes moved by one walk"):
        coalesce.tally(Sizes(16, 8), Walk(0, (), (), 2**31), MOVED)
    with pytest.raises(ArgumentError, match="requests up to the end of a walk"):
        coalesce.tally(Sizes(16, 8), Walk(2**35, (), (), 4), MOVED)
    assert coalesce.predict(Sizes(16, 8), Walk(2**35, (), (), 2**31), MOVED)["agcu.requests"] == 2**27


def test_walks_that_cannot_be_are_refused():
    with pytest.raises(ShapeError, match="one stride for each counter"):
        Walk(0, (2, 3), (4,), 4)
    for bad in ((0, (0,), (4,), 4), (0, (), (), 0), (7, (3,), (-4,), 4), (-1, (), (), 4)):
        with pytest.raises(ArgumentError, match="a walk that cannot be"):
            Walk(*bad)
    assert Walk(8, (3,), (-4,), 4).first_bytes == 0
    with pytest.raises(ArgumentError, match="made of whole granules\n  given:   request_bytes 100, granule_bytes 64"):
        Sizes(100, 64)
    with pytest.raises(ArgumentError, match="made of whole granules"):
        _ = tiny().replace({"agcu.request_bytes": 20}).agcu.sizes


def test_what_never_overlaps_names_each_byte_once(rng):
    seen = {True: 0, False: 0}
    for _ in range(300):
        walk = random_walk(rng)
        addresses = bytes_of(walk)
        assert (min(addresses), max(addresses) + 1) == (walk.first_bytes, walk.end_bytes)
        if walk.never_overlaps:
            assert len(set(addresses)) == len(addresses) == walk.asked_bytes
        seen[walk.never_overlaps] += 1
    assert min(seen.values()) > 20
    assert not Walk(0, (2,), (3,), 4).never_overlaps and Walk(0, (2,), (4,), 4).never_overlaps
