"""Virtual memory end to end: counters, segments, requests and words, against one flat array of bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError, UnknownNameError
from rdujax.ledger.counts import total
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32
from rdujax.units.agcu import coalesce, virtual
from rdujax.units.agcu.coalesce import Nest
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


def bytes_named(flat: np.ndarray, nest: Nest) -> np.ndarray:
    """uint8 [*trips, run_bytes]: what lies at the addresses of a nest."""
    found = np.zeros((*nest.trips, nest.run_bytes), np.uint8)
    for index in np.ndindex(*nest.trips):
        start = nest.base_bytes + sum(i * s for i, s in zip(index, nest.strides_bytes, strict=True))
        found[index] = flat[start : start + nest.run_bytes]
    return found


NESTS = [
    Nest(1002, (6,), (20,), 4),
    Nest(1098, (5, 2), (-20, 8), 2),
    Nest(2000, (8,), (36,), 4),
    Nest(2032, (), (), 96),
]
PHYSICAL = [(1000, 4, "hbm"), (1000, 4, "hbm"), (2000, 64, "ddr"), (2000, 64, "ddr")]


@pytest.mark.parametrize(("nest", "place"), list(zip(NESTS, PHYSICAL, strict=True)), ids=str)
def test_a_tile_holds_the_bytes_at_its_addresses(rng, nest, place):
    tiers, flat = filled(rng)
    tile, counts = jax.jit(lambda memory: virtual.load(CONFIG, TABLE, memory, nest))(tiers)
    assert np.array_equal(np.asarray(tile).view(np.uint8), bytes_named(flat, nest))
    virtual_bytes, physical_bytes, tier = place
    at_rest = nest.moved(physical_bytes - virtual_bytes)
    assert total(counts) == coalesce.predict(CONFIG.sizes, at_rest, f"{tier}.read_bytes")


def test_a_symbol_that_begins_within_a_granule_costs_what_it_would_there(rng):
    """Eight bytes at the segment's start are one granule for a symbol at 64, and two for one at 4."""
    tiers, _ = filled(rng)
    moved = {tier: total(virtual.load(CONFIG, TABLE, tiers, Nest(at, (), (), 8))[1])[f"{tier}.read_bytes"]
             for tier, at in (("hbm", 1000), ("ddr", 2000))}  # fmt: skip
    assert moved == {"hbm": 16, "ddr": 8}


def test_what_is_stored_is_loaded_again_and_the_rest_stays(rng):
    tiers, flat = filled(rng)
    nest = NESTS[2]
    tile = jnp.asarray(carriers(rng, (8, 1), FP32))
    after, counts = virtual.store(CONFIG, TABLE, tiers, nest, tile)
    assert np.array_equal(patterns(virtual.load(CONFIG, TABLE, after, nest)[0]), patterns(tile))
    want = flat[2000:2256].copy().view(np.float32)
    want[::9] = np.asarray(tile)[:, 0]
    assert np.array_equal(patterns(contents.read(after["ddr"], "x")), patterns(want.reshape(8, 8)))
    assert after["hbm"] is tiers["hbm"]
    assert total(counts) == coalesce.predict(CONFIG.sizes, nest.moved(64 - 2000), "ddr.written_bytes")


def test_addresses_out_of_bounds_and_rights_are_refused(rng):
    tiers, _ = filled(rng)
    for first in (996, 1118, 1120, 1996, 2254):
        with pytest.raises(ArgumentError, match="addresses outside every segment"):
            virtual.load(CONFIG, TABLE, tiers, Nest(first, (), (), 4))
    with pytest.raises(ArgumentError, match="a segment that is read only"):
        virtual.store(CONFIG, TABLE, tiers, NESTS[0], jnp.zeros((6, 2), jnp.uint16))
    writable = Table((Segment("w", 1000, 120, "hbm", 4),))
    with pytest.raises(ArgumentError, match="a symbol that is read only"):
        virtual.store(CONFIG, writable, tiers, NESTS[0], jnp.zeros((6, 2), jnp.uint16))


def test_tables_that_do_not_fit_their_memory_are_refused(rng):
    tiers, _ = filled(rng)
    nest = Nest(0, (), (), 4)
    with pytest.raises(CapacityError, match="longer than its symbol(.|\n)*allowed: 256 bytes\n  where:   x"):
        virtual.load(CONFIG, Table((Segment("x", 0, 257, "ddr", 0),)), tiers, nest)
    with pytest.raises(UnknownNameError, match="unknown symbol in ddr"):
        virtual.load(CONFIG, Table((Segment("y", 0, 4, "ddr", 0),)), tiers, nest)
    with pytest.raises(UnknownNameError, match="unknown memory tier of these contents"):
        virtual.load(CONFIG, Table((Segment("y", 0, 4, "host", 0),)), tiers, nest)
    most = CONFIG.segments.value
    many = Table(tuple(Segment(f"s{i}", 8 * i, 8, "ddr", 0) for i in range(most + 1)))
    with pytest.raises(CapacityError, match="an AGCU cannot hold so many segments"):
        virtual.load(CONFIG, many, tiers, nest)


def test_derivatives_pass_to_the_words(rng):
    tiers, _ = filled(rng)

    def total_of(x):
        memory = {**tiers, "ddr": contents.write(tiers["ddr"], "x", x)}
        return virtual.load(CONFIG, TABLE, memory, NESTS[2])[0]

    _, pull = jax.vjp(total_of, contents.read(tiers["ddr"], "x"))
    assert np.array_equal(pull(jnp.ones((8, 1)))[0], np.eye(8))
