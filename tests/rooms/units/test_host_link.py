"""Host link: bits on their way in, time to the cycle, both directions, and counts on both sides."""

from fractions import Fraction
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, UnknownNameError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FORMATS, FP32, INT32
from rdujax.streams.layout import tiled
from rdujax.units import agcu, host_link
from rdujax.units.memory import contents
from rdujax.units.memory.contents import Symbol
from rdujax.units.sharing import Flow
from tests.oracles.harness import assert_same_bits, patterns, raw
from tests.rooms.units.streams_of import carriers, stream_of

CLOCK = 1_000_000
CONFIG = tiny().host_link


def entered(bits: np.ndarray, exponent: int, mantissa: int) -> np.ndarray:
    """N11 on patterns of a float format: an exponent field of 0 is a zero, a full one with a mantissa the one NaN."""
    field, low = (bits >> mantissa) & ((1 << exponent) - 1), bits & ((1 << mantissa) - 1)
    sign = bits & (1 << (exponent + mantissa))
    nan = (((1 << exponent) - 1) << mantissa) | (1 << (mantissa - 1))
    return np.where(field == 0, sign, np.where((field == (1 << exponent) - 1) & (low != 0), nan, bits))


def test_every_bf16_word_enters_as_the_law_says():
    words = np.arange(2**16, dtype=np.uint32)
    public = jax.lax.bitcast_convert_type(jnp.asarray(words.astype(np.uint16)), jnp.bfloat16)
    got, _ = host_link.to_device(public, BF16, "hbm")
    assert_same_bits(got, (entered(words, 8, 7) << 16).astype(np.uint32))
    back, _ = host_link.to_host(got, BF16, "hbm")
    assert np.array_equal(jax.lax.bitcast_convert_type(back, jnp.uint16), entered(words, 8, 7))


def test_random_fp32_words_enter_as_the_law_says(rng):
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint32)
    bits[:512] &= 0x807FFFFF
    bits[512:1024] |= 0x7F800000
    got, _ = host_link.to_device(jnp.asarray(raw(bits)), FP32, "ddr")
    assert_same_bits(got, entered(bits, 8, 23).astype(np.uint32))


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_there_and_back_through_memory_and_through_a_tile(rng, fmt):
    x, layout = carriers(rng, (5, 7), fmt), tiled((5, 7), (2, 3), (1, 0))
    public, out = host_link.to_host(jnp.asarray(x), fmt, "hbm")
    assert public.dtype == fmt.dtype
    back, into = host_link.to_device(public, fmt, "hbm")
    assert np.array_equal(patterns(back), patterns(x))
    stream, tile_in = host_link.to_tile(public, layout, fmt, "scan")
    again, tile_out = host_link.from_tile(stream, "vmap")
    assert again.dtype == public.dtype and np.array_equal(np.asarray(again), np.asarray(public))
    moved = 35 * fmt.width_bytes
    link = {"host_link.transfers": 1, "host_link.in_bytes": moved, "host.read_bytes": moved}
    assert total(into) == Counts({**link, "hbm.written_bytes": moved}) == host_link.predict("in", moved, "hbm")
    assert total(tile_in) == Counts(link) == host_link.predict("in", moved)
    link = {"host_link.transfers": 1, "host_link.out_bytes": moved, "host.written_bytes": moved}
    assert total(out) == Counts({**link, "hbm.read_bytes": moved}) == host_link.predict("out", moved, "hbm")
    assert total(tile_out) == Counts(link) == host_link.predict("out", moved)


def test_words_at_rest_leave_a_tile_as_numbers(rng):
    x, layout = carriers(rng, (4, 6), BF16), tiled((4, 6), (2, 3))
    got, _ = host_link.from_tile(stream_of(x, layout, BF16, packed=True))
    assert np.array_equal(np.asarray(got).astype(np.float32), x)


def test_a_program_and_its_memory_are_filled_by_the_host(rng):
    """Host, DDR, HBM, tile: the road of a weight, with every byte counted once at each place."""
    x = rng.normal(size=(4, 6)).astype(np.float32)
    words, counts = host_link.to_device(jnp.asarray(x), FP32, "ddr")
    ddr, hbm = (
        contents.allocate(tier, tiny().tier(tier), {"w": Symbol((4, 6), FP32, True)}) for tier in ("ddr", "hbm")
    )
    hbm, copied = contents.copy(contents.place(ddr, "w", words), hbm, {"w": "w"})
    stream, loaded = agcu.load(tiny().agcu, contents.read(hbm, "w"), tiled((4, 6), (2, 6)), FP32, "hbm", how="scan")
    assert np.array_equal(patterns(stream.data.reshape(4, 6)), patterns(x))
    found = total(counts) + total(copied) + total(loaded)
    places = ("host.read_bytes", "ddr.written_bytes", "ddr.read_bytes", "hbm.written_bytes", "hbm.read_bytes")
    assert [found[name] for name in places] == [96] * 5


def test_derivatives_go_straight_through():
    x = jnp.asarray(raw(np.array([0x00000001, 0x3F800000, 0x7FC12345], np.uint32)))
    _, pull = jax.vjp(lambda v: host_link.to_device(v, FP32, "hbm")[0], x)
    assert (pull(jnp.ones(3))[0] == 1).all()


@pytest.mark.parametrize("config", [CONFIG, sn40l().host_link], ids=["tiny", "sn40l"])
@pytest.mark.parametrize("amount", [0, 1, 31, 32, 33, 10**9 + 7, 10**15 + 1])
def test_a_transfer_takes_its_latency_and_its_bytes(config, amount):
    for clock in (CLOCK, 1_600_000_000):
        exact = Fraction(str(config.latency_s.value)) * clock
        exact += Fraction(amount * clock, config.bandwidth_bytes_per_s.value)
        assert host_link.cycles(config, clock, amount) == (ceil(exact) if amount else 0)


def test_one_byte_more_arrives_one_cycle_later():
    """At 1 byte per cycle and 10 cycles of latency, byte n is there at cycle 10 + n and not before."""
    assert [host_link.cycles(CONFIG, CLOCK, n) for n in range(4)] == [0, 11, 12, 13]
    done = host_link.finish_cycles(CONFIG, CLOCK, [Flow("a", 30), Flow("b", 10, 5)])
    # a has 5 bytes alone, then both get half a byte per cycle until b is through at 25, then a has 15 left.
    assert done == {"b": 25 + 10, "a": 40 + 10}


def test_directions_do_not_wait_for_each_other():
    counts = host_link.predict("in", 1000, "hbm") + host_link.predict("out", 700, "hbm")
    assert host_link.price(CONFIG, counts, CLOCK) == 1000
    assert host_link.price(CONFIG, counts + host_link.predict("out", 301), CLOCK) == 1001


def test_arrays_of_another_format_are_refused():
    with pytest.raises(FormatError, match="not of the stated format"):
        host_link.to_device(jnp.zeros(3, jnp.float32), INT32, "hbm")


def test_tiers_directions_and_amounts_that_cannot_be_are_refused():
    x = jnp.zeros(3, jnp.float32)
    for call in (host_link.to_device, host_link.to_host):
        with pytest.raises(UnknownNameError, match="unknown memory tier\n  given:   'nvme'(.|\n)*where:   host_link"):
            call(x, FP32, "nvme")
    with pytest.raises(UnknownNameError, match="unknown memory tier"):
        host_link.predict("in", 40, "")
    with pytest.raises(UnknownNameError, match="unknown direction of the host link\n  given:   'up'"):
        host_link.predict("up", 40)
    with pytest.raises(ArgumentError, match="amount_bytes must be a whole number, 0 or more"):
        host_link.cycles(CONFIG, CLOCK, -1)
    assert host_link.cycles(CONFIG, CLOCK, jnp.float32(0)) == 0
