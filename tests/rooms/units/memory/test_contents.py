"""What rests in a tier: room, rights, poison, and copies of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError, FormatError, ShapeError, UnknownNameError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, INT32
from rdujax.streams.layout import tiled
from rdujax.units import agcu, tally
from rdujax.units.memory import contents
from rdujax.units.memory.contents import Symbol
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers

HBM = tiny().hbm
SYMBOLS = {"w": Symbol((3, 4), BF16, read_only=True), "x": Symbol((5,), FP32), "n": Symbol((2,), INT32)}


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_what_nobody_wrote_is_poison_in_a_stream_too(fmt):
    hbm = contents.allocate("hbm", HBM, {"x": Symbol((3, 5), fmt)})
    words = contents.read(hbm, "x")
    poison = {"bf16": 0x7FC0, "fp32": 0x7FC00000, "int32": -0x5A5A5A5B, "uint32": -0x5A5A5A5B, "bool": False}[fmt.name]
    assert (patterns(words) == poison).all() and words.shape == (3, 5)
    stream, _ = agcu.load(tiny().agcu, words, tiled((3, 5), (2, 5)), fmt, "hbm")
    assert (patterns(stream.data) == poison).all()


def test_a_full_tier_is_allocated_and_one_byte_more_is_not():
    there = HBM.capacity_bytes.value
    full = {"a": Symbol((there - 8,), BOOL), "b": Symbol((2,), FP32)}
    jax.eval_shape(lambda: contents.allocate("hbm", HBM, full))
    with pytest.raises(CapacityError, match="do not fit into hbm(.|\n)*1,048,577 bytes, 1 too many"):
        contents.allocate("hbm", HBM, {**full, "c": Symbol((1,), BOOL)})
    with pytest.raises(UnknownNameError, match="unknown memory tier(.|\n)*did you mean 'hbm'"):
        contents.allocate("hbn", HBM, {})


def test_a_kernel_writes_what_it_may(rng):
    hbm = contents.allocate("hbm", HBM, SYMBOLS)
    x, w = carriers(rng, (5,), FP32), carriers(rng, (3, 4), BF16)
    written = contents.write(hbm, "x", jnp.asarray(x))
    assert np.array_equal(patterns(contents.read(written, "x")), patterns(x))
    assert np.isnan(contents.read(hbm, "x")).all(), "the tier before is a value of its own"
    with pytest.raises(ArgumentError, match="read only cannot be written by a kernel\n  given:   w\n  where:   hbm"):
        contents.write(hbm, "w", jnp.asarray(w))
    placed = contents.place(hbm, "w", agcu.to_rest(jnp.asarray(w), BF16))
    assert np.array_equal(contents.read(placed, "w"), patterns(w) >> 16)
    assert contents.place(hbm, "w", jnp.asarray(w)).words["w"].dtype == jnp.float32


def test_arrays_of_another_kind_are_refused():
    hbm = contents.allocate("hbm", HBM, SYMBOLS)
    with pytest.raises(ShapeError, match=r"another shape than its symbol\n  given:   \(4,\)\n  allowed: \(5,\)"):
        contents.write(hbm, "x", jnp.zeros(4, jnp.float32))
    with pytest.raises(FormatError, match="given:   uint16\n  allowed: float32\n  where:   x"):
        contents.write(hbm, "x", jnp.zeros(5, jnp.uint16))
    with pytest.raises(FormatError, match="given:   int32\n  allowed: float32 or uint16"):
        contents.place(hbm, "w", jnp.zeros((3, 4), jnp.int32))
    for call in (contents.read, contents.release, lambda c, n: contents.write(c, n, jnp.zeros(5))):
        with pytest.raises(UnknownNameError, match="unknown symbol in hbm(.|\n)*'n', 'w', 'x'"):
            call(hbm, "weights and more")


def test_released_symbols_leave_room():
    there = HBM.capacity_bytes.value
    hbm = contents.allocate("hbm", HBM, {"a": Symbol((there,), BOOL)})
    left = contents.release(hbm, "a")
    assert left.symbols == () and left.words == {}
    two = contents.allocate("hbm", HBM, SYMBOLS)
    assert [name for name, _ in contents.release(two, "x").symbols] == ["w", "n"]


def test_a_copy_is_counted_on_both_sides_and_can_be_compiled(rng):
    ddr = contents.allocate("ddr", tiny().ddr, SYMBOLS)
    hbm = contents.allocate("hbm", HBM, {"cached": SYMBOLS["x"], "w": SYMBOLS["w"]})
    names = {"x": "cached", "w": "w"}
    ddr = contents.write(ddr, "x", jnp.asarray(carriers(rng, (5,), FP32)))
    got, counts = jax.jit(lambda a, b: contents.copy(a, b, names))(ddr, hbm)
    assert np.array_equal(patterns(got.words["cached"]), patterns(ddr.words["x"]))
    assert total(counts) == Counts({"ddr.read_bytes": 44, "hbm.written_bytes": 44})
    assert total(counts) == contents.predict_copy(ddr, hbm, names)
    within, same = contents.copy(hbm, hbm, {"cached": "cached"})
    assert total(same) == Counts({"hbm.read_bytes": 20, "hbm.written_bytes": 20}) and within.tier == "hbm"
    assert total(contents.copy(ddr, hbm, {})[1]) == Counts() == contents.predict_copy(ddr, hbm, {})


def test_derivatives_pass_through_memory(rng):
    ddr, hbm = (contents.allocate(tier, tiny().tier(tier), SYMBOLS) for tier in ("ddr", "hbm"))

    def through(x, w):
        source = contents.place(contents.write(ddr, "x", x), "w", w)
        target, _ = contents.copy(source, hbm, {"x": "x", "w": "w"})
        return contents.read(target, "x"), contents.read(target, "w")

    x, w = jnp.asarray(carriers(rng, (5,), FP32)), jnp.asarray(carriers(rng, (3, 4), BF16))
    _, pull = jax.vjp(through, x, w)
    back = pull((2 * jnp.ones(5), 3 * jnp.ones((3, 4))))
    assert (back[0] == 2).all() and (back[1] == 3).all()


@pytest.mark.parametrize("size_bytes", [0, 4, 2**30 - 4, 2**30, 2**30 + 4, 13 * 2**30 + 8, 2**40])
def test_symbols_of_any_size_are_tallied_in_pieces(size_bytes):
    words = jax.ShapeDtypeStruct((size_bytes // 4,), jnp.float32)
    pieces = tally.piece_bytes(words, FP32)
    assert pieces.dtype == jnp.int32 and np.asarray(pieces).sum(dtype=np.int64) == size_bytes
    assert pieces.max() <= 2**30 and (pieces.min() > 0 or size_bytes == 0)


def test_a_copy_converts_nothing():
    """Symbols of one shape and different formats, either way, are refused; also by the prediction."""
    symbols = {"narrow": Symbol((4,), BF16), "wide": Symbol((4,), FP32), "whole": Symbol((4,), INT32)}
    ddr, hbm = (contents.allocate(tier, tiny().tier(tier), symbols) for tier in ("ddr", "hbm"))
    ddr = contents.place(ddr, "narrow", jnp.ones(4, jnp.float32))
    for here, there in ((a, b) for a in symbols for b in symbols if a != b):
        text = f"different formats\n  given:   {here} of {symbols[here].fmt}\n  allowed: {symbols[there].fmt}\n"
        with pytest.raises(FormatError, match=text + f"  where:   ddr to hbm, {there}"):
            contents.copy(ddr, hbm, {here: there})
        with pytest.raises(FormatError, match=text):
            contents.predict_copy(ddr, hbm, {here: there})
    got, counts = contents.copy(ddr, hbm, {name: name for name in symbols})
    assert got.words["narrow"].dtype == jnp.float32 and total(counts)["hbm.written_bytes"] == 8 + 16 + 16


def test_a_place_of_sixteen_bits_holds_no_more():
    """Every pattern of a few low bits, and NaNs: only words whose low half is zero are placed."""
    hbm = contents.allocate("hbm", HBM, {"w": Symbol((3,), BF16)})
    for bits, fits in ((0x3F800000, True), (0x3F810000, True), (0x3F800001, False), (0x3F808000, False),
                       (0x7FC00000, True), (0xFFC00000, True), (0x7F800001, False), (0x00010000, True),
                       (0x00000001, False), (0x80000000, True)):  # fmt: skip
        x = jnp.asarray(np.array([0x40000000, bits, 0x40400000], np.uint32).view(np.float32))
        traced = patterns(jax.jit(lambda v: contents.place(hbm, "w", v).words["w"])(x))
        assert traced.tolist() == [0x40000000, bits if fits else 0x7FC00000, 0x40400000]
        if fits:
            assert np.array_equal(patterns(contents.place(hbm, "w", x).words["w"]), patterns(x))
        else:
            with pytest.raises(FormatError, match="hold more than BF16\n  given:   1 of 3(.|\n)*where:   w\n  do: "):
                contents.place(hbm, "w", x)


def test_a_tier_knows_its_capacity():
    assert contents.allocate("ddr", tiny().ddr, SYMBOLS).capacity_bytes == tiny().ddr.capacity_bytes.value
