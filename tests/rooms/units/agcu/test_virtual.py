"""Virtual memory end to end: counters, segments, requests and words, against one flat array of bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError, FormatError, UnknownNameError
from rdujax.ledger.counts import total
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32
from rdujax.units.agcu import coalesce, virtual
from rdujax.units.agcu.coalesce import Walk
from rdujax.units.agcu.translation import Segment, Table
from rdujax.units.memory import contents
from rdujax.units.memory.contents import Symbol
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers

CONFIG = tiny().agcu
SYMBOLS = {"hbm": {"w": Symbol((6, 10), BF16, read_only=True)}, "ddr": {"x": Symbol((8, 8), FP32)}}
TABLE = Table((Segment("w", 1000, 120, "hbm", 4, read_only=True), Segment("x", 2000, 256, "ddr", 64)))


def filled(rng) -> tuple[dict, np.ndarray]:
    """Both tiers, and 4 KiB of virtual memory byte by byte."""
    w = rng.integers(0, 2**16, (6, 10)).astype(np.uint16)
    x = carriers(rng, (8, 8), FP32)
    tiers = {tier: contents.allocate(tier, tiny().tier(tier), symbols) for tier, symbols in SYMBOLS.items()}
    tiers["hbm"] = contents.place(tiers["hbm"], "w", jnp.asarray(w))
    tiers["ddr"] = contents.write(tiers["ddr"], "x", jnp.asarray(x))
    flat = np.zeros(4096, np.uint8)
    flat[1000:1120], flat[2000:2256] = w.reshape(-1).view(np.uint8), x.reshape(-1).view(np.uint8)
    return tiers, flat


def bytes_named(flat: np.ndarray, walk: Walk) -> np.ndarray:
    """uint8 [*trips, run_bytes]: what lies at the addresses of a walk."""
    found = np.zeros((*walk.trips, walk.run_bytes), np.uint8)
    for index in np.ndindex(*walk.trips):
        start = walk.base_bytes + sum(i * s for i, s in zip(index, walk.strides_bytes, strict=True))
        found[index] = flat[start : start + walk.run_bytes]
    return found


WALKS = [
    Walk(1002, (6,), (20,), 4),
    Walk(1098, (5, 2), (-20, 8), 2),
    Walk(2000, (8,), (36,), 4),
    Walk(2032, (), (), 96),
]
PHYSICAL = [(1000, 4, "hbm"), (1000, 4, "hbm"), (2000, 64, "ddr"), (2000, 64, "ddr")]


@pytest.mark.parametrize(("walk", "place"), list(zip(WALKS, PHYSICAL, strict=True)), ids=str)
def test_a_tile_holds_the_bytes_at_its_addresses(rng, walk, place):
    tiers, flat = filled(rng)
    tile, counts = jax.jit(lambda memory: virtual.load(CONFIG, TABLE, memory, walk))(tiers)
    assert np.array_equal(np.asarray(tile).view(np.uint8), bytes_named(flat, walk))
    virtual_bytes, physical_bytes, tier = place
    at_rest = walk.moved(physical_bytes - virtual_bytes)
    assert total(counts) == coalesce.predict(CONFIG.sizes, at_rest, f"{tier}.read_bytes")


def test_a_symbol_that_begins_within_a_granule_costs_what_it_would_there(rng):
    """Eight bytes at the segment's start are one granule for a symbol at 64, and two for one at 4."""
    tiers, _ = filled(rng)
    moved = {tier: total(virtual.load(CONFIG, TABLE, tiers, Walk(at, (), (), 8))[1])[f"{tier}.read_bytes"]
             for tier, at in (("hbm", 1000), ("ddr", 2000))}  # fmt: skip
    assert moved == {"hbm": 16, "ddr": 8}


def test_what_is_stored_is_loaded_again_and_the_rest_stays(rng):
    tiers, flat = filled(rng)
    walk = WALKS[2]
    tile = jnp.asarray(carriers(rng, (8, 1), FP32))
    after, counts = virtual.store(CONFIG, TABLE, tiers, walk, tile)
    assert np.array_equal(patterns(virtual.load(CONFIG, TABLE, after, walk)[0]), patterns(tile))
    want = flat[2000:2256].copy().view(np.float32)
    want[::9] = np.asarray(tile)[:, 0]
    assert np.array_equal(patterns(contents.read(after["ddr"], "x")), patterns(want.reshape(8, 8)))
    assert after["hbm"] is tiers["hbm"]
    assert total(counts) == coalesce.predict(CONFIG.sizes, walk.moved(64 - 2000), "ddr.written_bytes")


def test_addresses_out_of_bounds_and_rights_are_refused(rng):
    tiers, _ = filled(rng)
    for first in (996, 1118, 1120, 1996, 2254):
        with pytest.raises(ArgumentError, match="addresses outside every segment"):
            virtual.load(CONFIG, TABLE, tiers, Walk(first, (), (), 4))
    with pytest.raises(ArgumentError, match="a segment that is read only"):
        virtual.store(CONFIG, TABLE, tiers, WALKS[0], jnp.zeros((6, 2), jnp.uint16))
    writable = Table((Segment("w", 1000, 120, "hbm", 4),))
    with pytest.raises(ArgumentError, match="a symbol that is read only"):
        virtual.store(CONFIG, writable, tiers, WALKS[0], jnp.zeros((6, 2), jnp.uint16))


def test_tables_that_do_not_fit_their_memory_are_refused(rng):
    tiers, _ = filled(rng)
    walk = Walk(0, (), (), 4)
    with pytest.raises(CapacityError, match="longer than its symbol(.|\n)*allowed: 256 bytes\n  where:   x"):
        virtual.load(CONFIG, Table((Segment("x", 0, 257, "ddr", 0),)), tiers, walk)
    with pytest.raises(UnknownNameError, match="unknown symbol in ddr"):
        virtual.load(CONFIG, Table((Segment("y", 0, 4, "ddr", 0),)), tiers, walk)
    with pytest.raises(UnknownNameError, match="unknown memory tier here"):
        virtual.load(CONFIG, Table((Segment("y", 0, 4, "host", 0),)), tiers, walk)
    most = CONFIG.segments.value
    many = Table(tuple(Segment(f"s{i}", 8 * i, 8, "ddr", 8 * i) for i in range(most + 1)))
    with pytest.raises(CapacityError, match="an AGCU cannot hold so many segments"):
        virtual.load(CONFIG, many, tiers, walk)


def test_derivatives_pass_to_the_words(rng):
    tiers, _ = filled(rng)

    def total_of(x):
        memory = {**tiers, "ddr": contents.write(tiers["ddr"], "x", x)}
        return virtual.load(CONFIG, TABLE, memory, WALKS[2])[0]

    _, pull = jax.vjp(total_of, contents.read(tiers["ddr"], "x"))
    assert np.array_equal(pull(jnp.ones((8, 1)))[0], np.eye(8))


def test_a_segment_beyond_the_end_of_its_tier_is_refused_where_it_is_used(rng):
    tiers, _ = filled(rng)
    end = tiny().ddr.capacity_bytes.value
    here = Table((Segment("x", 2000, 256, "ddr", end - 256),))
    virtual.load(CONFIG, here, tiers, WALKS[2])
    beyond = Table((Segment("x", 2000, 256, "ddr", end - 255),))
    with pytest.raises(CapacityError, match="past the end of ddr(.|\n)*1 bytes too far(.|\n)*segments of an AGCU"):
        virtual.load(CONFIG, beyond, tiers, WALKS[2])
    with pytest.raises(CapacityError, match="past the end of ddr"):
        virtual.store(CONFIG, beyond, tiers, WALKS[2], jnp.zeros((8, 1)))


def test_a_carrier_too_wide_for_bf16_is_not_stored(rng):
    """Refused where it is known, and poison where it is traced."""
    memory = {"hbm": contents.allocate("hbm", tiny().hbm, {"w": Symbol((4,), BF16)})}
    memory["hbm"] = contents.place(memory["hbm"], "w", jnp.ones(4, jnp.float32))
    table, walk = Table((Segment("w", 0, 8, "hbm", 0),)), Walk(2, (), (), 2)
    for value, kept in ((1.5, 1.5), (1 + 2**-20, np.nan)):
        tile = jnp.full(1, value, jnp.float32)
        after = jax.jit(lambda t: virtual.store(CONFIG, table, memory, walk, t)[0]["hbm"].words["w"])(tile)
        assert np.array_equal(after, np.array([1, kept, 1, 1], np.float32), equal_nan=True)
    with pytest.raises(FormatError, match="carriers that hold more than BF16\n  given:   1 of 4"):
        virtual.store(CONFIG, table, memory, walk, jnp.full(1, 1 + 2**-20, jnp.float32))
