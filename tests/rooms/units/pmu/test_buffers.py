"""AGCUs and PMUs: what is loaded, stored and read from buffers keeps its bits, and every byte is counted."""

import jax
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FORMATS, FP32, INT32
from rdujax.streams.access import Broadcast, Reshape, Transpose
from rdujax.streams.layout import tiled, whole
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import untile
from rdujax.units import agcu, pmu, tally
from rdujax.units.memory import TIERS
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, patterns, raw
from tests.rooms.units.streams_of import carriers, stream_of

CONFIG = tiny().agcu
LAYOUT = tiled((5, 7), (2, 3), (1, 0))
PATTERNS = [
    (),
    (Transpose((1, 0)),),
    (Reshape((7, 5)),),
    (Broadcast((2, 5, 7), (1, 2)),),
    (Transpose((1, 0)), Reshape((35,)), Broadcast((35, 3), (0,))),
]


@pytest.mark.parametrize("how", EXECUTORS)
@pytest.mark.parametrize("tier", TIERS)
def test_each_tile_is_loaded_once_by_default(rng, how, tier):
    x = carriers(rng, (5, 7), BF16)
    stream, counts = agcu.load(CONFIG, agcu.to_rest(x, BF16), LAYOUT, BF16, tier, how=how)
    assert stream.is_packed and stream.layout == LAYOUT
    assert np.array_equal(untile(stream), patterns(x) >> 16)
    assert counts[f"{tier}.read_bytes"].shape == (LAYOUT.n_tiles,)
    packed = {"agcu.tiles": 9, "agcu.requests": 9, "agcu.asked_bytes": 70, "agcu.moved_bytes": 70}
    assert (
        total(counts)
        == Counts({**packed, f"{tier}.read_bytes": 70})
        == agcu.predict(CONFIG, LAYOUT, BF16, f"{tier}.read_bytes")
    )


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_bytes_follow_the_width_at_rest(rng, fmt):
    x = carriers(rng, (5, 7), fmt)
    _, loaded = agcu.load(CONFIG, agcu.to_rest(x, fmt), LAYOUT, fmt, "hbm", how="vmap")
    back, stored = agcu.store(CONFIG, stream_of(x, LAYOUT, fmt), "ddr", how="vmap")
    width = {"bf16": 2, "fp32": 4, "int32": 4, "uint32": 4, "bool": 1}[fmt.name]
    # Tiles of 6, 3, 2 and 1 elements, in requests of 16 bytes: the four largest take two where elements have 4 bytes.
    both = Counts(
        {
            "agcu.tiles": 9,
            "agcu.requests": 13 if width == 4 else 9,
            "agcu.asked_bytes": 35 * width,
            "agcu.moved_bytes": 35 * width,
        }
    )
    assert total(loaded) == both + Counts({"hbm.read_bytes": 35 * width})
    assert total(stored) == both + Counts({"ddr.written_bytes": 35 * width})
    assert np.array_equal(patterns(back), patterns(x))


def test_tiles_asked_for_again_are_moved_again(rng):
    """Visits are counted one by one, each with the valid bytes of its tile; the stream holds each tile once."""
    x = carriers(rng, (5, 7), BF16)
    visits = np.array([0, 1, 2, 2, 8, 0], np.int32)
    stream, counts = agcu.load(CONFIG, agcu.to_rest(x, BF16), LAYOUT, BF16, "hbm", visits, "scan")
    extents = {0: (2, 3), 1: (2, 3), 2: (1, 3), 8: (1, 1)}
    assert [int(n) for n in counts["hbm.read_bytes"]] == [2 * np.prod(extents[v]) for v in visits]
    assert total(counts)["agcu.tiles"] == 6
    assert stream.data.shape == (9, 2, 3)
    sweeps = np.tile(np.arange(9, dtype=np.int32), 3)
    _, thrice = agcu.load(CONFIG, agcu.to_rest(x, BF16), LAYOUT, BF16, "hbm", sweeps, "scan")
    assert total(thrice) == agcu.predict(CONFIG, LAYOUT, BF16, "hbm.read_bytes", sweeps=3)


def test_without_a_tally_nothing_is_counted(rng):
    x = carriers(rng, (5, 7), FP32)
    assert agcu.load(CONFIG, x, LAYOUT, FP32, "hbm", tally=False)[1] == Counts()
    assert agcu.store(CONFIG, stream_of(x, LAYOUT, FP32), "hbm", tally=False)[1] == Counts()


def test_a_tile_too_large_to_tally_is_refused():
    huge = whole((2**15, 2**15))
    with pytest.raises(ArgumentError, match="4,294,967,296 bytes of a tile of 32768x32768"):
        jax.eval_shape(lambda x: agcu.load(CONFIG, x, huge, FP32, "hbm"), jax.ShapeDtypeStruct(huge.shape, np.float32))
    with pytest.raises(ArgumentError, match="4,294,967,296 bytes"):
        tally.tile_bytes(huge, INT32, "vmap")


@pytest.mark.parametrize("chain", PATTERNS, ids=lambda chain: ",".join(map(str, chain)) or "as written")
@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_a_buffer_delivers_a_pattern_and_changes_no_bit(rng, chain, fmt):
    x = carriers(rng, (5, 7), fmt)
    want = x
    for access in chain:
        want = access.read(want)
    tile = tuple(-(-n // 2) for n in want.shape)
    delivered = pmu.buffer(stream_of(x, LAYOUT, fmt), chain, tiled(want.shape, tile), fmt)
    assert (delivered.fmt, delivered.layout) == (fmt, tiled(want.shape, tile))
    assert np.array_equal(patterns(untile(delivered)), patterns(want))


@pytest.mark.parametrize("chain", PATTERNS[:2], ids=["as written", "transposed"])
def test_a_wide_buffer_converts_on_the_way_out(rng, chain):
    x = carriers(rng, (5, 7), FP32)
    want = x.T if chain else x
    layout = tiled(want.shape, (3, 2))
    delivered = pmu.buffer(stream_of(x, LAYOUT, FP32), chain, layout, BF16)
    assert delivered.fmt is BF16
    assert_same_bits(untile(delivered), softfloat.to_bf16(patterns(want)))
    assert (softfloat.to_bf16(patterns(want)) != patterns(want)).any()
    assert np.array_equal(patterns(untile(pmu.buffer(stream_of(x, LAYOUT, FP32), chain, layout, FP32))), patterns(want))


def test_words_at_rest_pass_through_a_buffer(rng):
    x = carriers(rng, (5, 7), BF16)
    delivered = pmu.buffer(stream_of(x, LAYOUT, BF16, packed=True), (Transpose((1, 0)),), tiled((7, 5), (2, 2)), BF16)
    assert delivered.is_packed
    assert np.array_equal(raw(np.asarray(untile(delivered)).astype(np.uint32) << 16), x.T)


def test_a_buffer_read_as_it_was_written_is_the_same_stream(rng):
    stream = stream_of(carriers(rng, (5, 7), BF16), LAYOUT, BF16)
    assert pmu.buffer(stream, (), LAYOUT, BF16) is stream


def test_patterns_that_do_not_fit_are_refused(rng):
    stream = stream_of(carriers(rng, (5, 7), BF16), LAYOUT, BF16)
    with pytest.raises(ShapeError, match="a reshape keeps the number of elements"):
        pmu.buffer(stream, (Reshape((6, 6)),), whole((6, 6)), BF16)
    with pytest.raises(ShapeError, match="not a permutation"):
        pmu.buffer(stream, (Transpose((0, 0)),), whole((5, 5)), BF16)
    with pytest.raises(ShapeError, match="the layout is of another tensor"):
        pmu.buffer(stream, (Transpose((1, 0)),), LAYOUT, BF16)


@pytest.mark.parametrize("how", ["vmap", "scan"])
def test_buffers_count_the_valid_bytes_of_every_tile(how):
    per_tile = tally.tile_bytes(LAYOUT, FP32, how)
    assert [int(n) for n in per_tile] == [24, 24, 12, 24, 24, 12, 8, 8, 4]
    assert total(pmu.written(LAYOUT, BF16, how)) == Counts({"pmu.written_bytes": 70})
    assert total(pmu.read(LAYOUT, FP32, how)) == Counts({"pmu.read_bytes": 140})
