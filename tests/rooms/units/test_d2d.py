"""The die-to-die link: packets across the cut, cycle by cycle, and what its links are given to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simpy

from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.ledger.counts import Counts, total
from rdujax.ledger.numbers import is_exact
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FORMATS, FP32
from rdujax.streams.layout import tiled
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import untile
from rdujax.units import d2d
from rdujax.units.sharing import Flow
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers, stream_of

LAYOUT = tiled((5, 7), (2, 3), (1, 0))
SN40L, TINY = sn40l().d2d, tiny().d2d


@pytest.mark.parametrize("how", EXECUTORS)
@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_a_stream_crosses_with_its_bits_in_packets_of_eight_bytes(rng, fmt, how):
    packed = fmt is BF16
    stream = stream_of(carriers(rng, (5, 7), fmt), LAYOUT, fmt, packed=packed)
    got, counts = jax.jit(lambda s: d2d.cross(TINY, s, how))(stream)
    assert np.array_equal(patterns(untile(got)), patterns(untile(stream))) and got.is_packed == packed
    sizes = [elements * fmt.width_bytes for elements in (6, 6, 3, 6, 6, 3, 2, 2, 1)]
    assert counts["d2d.bytes"].tolist() == sizes
    assert counts["d2d.packets"].tolist() == [len(range(0, size, 8)) for size in sizes]
    assert total(counts) == d2d.predict(TINY, LAYOUT, fmt)
    assert d2d.cross(TINY, stream, how, tally=False)[1] == Counts()


def crossing(packets: int, links: int, latency: int) -> list[int]:
    """The cycle at whose end each packet is across, by SimPy: a link takes one packet per cycle, then it travels."""
    env, across = simpy.Environment(), [0] * packets
    entry = simpy.Resource(env, links)

    def packet(i: int):
        with entry.request() as turn:
            yield turn
            yield env.timeout(1)
        yield env.timeout(latency)
        across[i] = env.now

    for i in range(packets):
        env.process(packet(i))
    env.run()
    return across


@pytest.mark.parametrize("config", [TINY, SN40L], ids=["tiny", "sn40l"])
@pytest.mark.parametrize("links", [1, 3, 4])
def test_packets_are_across_in_the_cycle_of_a_simulation(config, links):
    times = crossing(50, links, config.latency_cycles.value)
    assert times == [config.latency_cycles.value + i // links + 1 for i in range(50)]
    for packets in range(1, 51):
        assert d2d.crossing_cycles(config, packets, links) == times[packets - 1]
    assert d2d.crossing_cycles(config, 0, links) == 0


def test_one_packet_more_takes_one_cycle_more_at_the_edge_and_only_there():
    assert [d2d.crossing_cycles(SN40L, n, 26) for n in (1, 26, 27, 52, 53)] == [9, 9, 10, 10, 11]
    assert [d2d.price(SN40L, Counts({"d2d.packets": n}), 1) for n in (0, 1, 26, 27)] == [0, 1, 1, 2]
    assert [d2d.price(SN40L, Counts({"d2d.bytes": n}), 1) for n in (0, 1664, 1665)] == [0, 1, 2]


def test_links_that_a_stream_needs_keep_its_turns():
    for size, cycles in [(1, 1), (64, 1), (65, 1), (640, 10), (641, 10), (10_000, 7)]:
        links = d2d.links_for(SN40L, size, cycles)
        packets = -(-size // 64)
        assert -(-packets // links) <= cycles
        assert links == 1 or -(-packets // (links - 1)) > cycles


def test_streams_on_the_same_links_share_them_fairly():
    """Whole packets, taken in turn: two equal streams end together, a packet's cycle apart at most."""
    width, latency = TINY.link_bytes_per_cycle.value, TINY.latency_cycles.value
    got = d2d.shared_cycles(TINY, [Flow("a", 10 * width), Flow("b", 30 * width)], links=2)
    assert got == {"a": 10 + latency, "b": 20 + latency}
    alone = d2d.shared_cycles(TINY, [Flow("a", 12 * width)], links=4)
    assert alone == {"a": d2d.crossing_cycles(TINY, 12, 4)}


def test_links_fit_exactly_and_one_more_is_refused():
    d2d.check(SN40L, {"scores": 20, "values": 6}, "kernel 2")
    with pytest.raises(CapacityError, match="more D2D links than there are\n  given:   27 D2D links, 1 too many"):
        d2d.check(SN40L, {"scores": 20, "values": 7}, "kernel 2")
    for links in (0, 27):
        with pytest.raises(ArgumentError, match=f"links that are not there\n  given:   {links}\n  allowed: 1 to 26"):
            d2d.crossing_cycles(SN40L, 5, links)
        with pytest.raises(ArgumentError, match="links that are not there"):
            d2d.shared_cycles(SN40L, [Flow("a", 5)], links)


def test_a_tile_too_large_to_tally_is_refused():
    huge = tiled((2**15, 2**15), (2**15, 2**15))
    shape = jax.ShapeDtypeStruct((1, *huge.shape), np.float32)
    stream = stream_of(np.zeros((5, 7), np.float32), LAYOUT, FP32)
    with pytest.raises(ArgumentError, match="4,294,967,296 bytes of a tile"):
        jax.eval_shape(lambda x: d2d.cross(TINY, type(stream)(x, huge, FP32)), shape)


def test_times_are_differentiable_in_the_facts():
    relaxed = jax.tree.map(jnp.float32, SN40L)
    value, slope = jax.value_and_grad(lambda c: d2d.crossing_cycles(c, 1000, links=4))(relaxed)
    exact = d2d.crossing_cycles(SN40L, 1000, links=4)
    assert is_exact(exact) and value == exact == 258
    assert slope.latency_cycles.value == 1
    back = jax.grad(lambda c: d2d.price(c, Counts({"d2d.packets": 10**6}), 1))(relaxed)
    assert back.links.value == pytest.approx(-(10**6) / 26**2, rel=1e-5)


def test_nothing_takes_no_time_relaxed_or_exact_and_less_than_nothing_is_refused():
    relaxed = jax.tree.map(jnp.float32, TINY)
    for config in (TINY, relaxed):
        assert d2d.crossing_cycles(config, 0) == d2d.crossing_cycles(config, jnp.float32(0)) == 0
        assert d2d.crossing_cycles(config, 1) == d2d.crossing_cycles(config, jnp.float32(1)) == 5
    with pytest.raises(ArgumentError, match="packets must be a whole number, 0 or more\n  given:   -100"):
        d2d.crossing_cycles(TINY, -100)
    with pytest.raises(ArgumentError, match="bytes_per_turn must be a whole number"):
        d2d.links_for(TINY, -1, 4)
    with pytest.raises(ArgumentError, match="D2D links must be a whole number, 0 or more\n  given:   -5\n  where:   a"):
        d2d.check(SN40L, {"a": -5, "b": 31}, "kernel 2")


def test_crossings_of_any_size_are_predicted_at_once():
    """2^40 tiles of 2 x 3 BF16 and ragged ones: 12 bytes in one packet of 64 each."""
    counts = d2d.predict(SN40L, tiled((2**21 + 1, 3 * 2**20), (2, 3)), BF16)
    assert counts["d2d.packets"] == 2**40 + 2**20 and counts["d2d.bytes"] == 2 * (2**21 + 1) * 3 * 2**20
