"""Links between sockets: when messages arrive, what streams that share links get, and what is refused."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simpy

from rdujax.base import facts
from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.ledger.counts import Counts, total
from rdujax.ledger.numbers import is_exact
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FP32
from rdujax.streams.layout import tiled
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import tile, untile
from rdujax.units import p2p
from rdujax.units.sharing import Flow
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers, stream_of

LAYOUT = tiled((5, 7), (2, 3), (1, 0))
CLOCK = 1_600_000_000
SN40L, TINY = sn40l().p2p, tiny().p2p


@pytest.mark.parametrize("how", EXECUTORS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_stream_arrives_with_its_bits_and_every_tile_is_a_message(rng, how, packed):
    fmt = BF16 if packed else FP32
    stream = stream_of(carriers(rng, (5, 7), fmt), LAYOUT, fmt, packed=packed)
    got, counts = jax.jit(lambda s: p2p.send(s, how))(stream)
    assert np.array_equal(patterns(untile(got)), patterns(untile(stream)))
    assert (got.layout, got.fmt, got.is_packed) == (LAYOUT, fmt, packed)
    extents = [int(np.prod(extent)) * fmt.width_bytes for extent in LAYOUT.extents]
    assert counts["p2p.sent_bytes"].tolist() == extents and counts["p2p.messages"].tolist() == [1] * 9
    assert total(counts) == p2p.predict(35 * fmt.width_bytes, 9)
    assert p2p.send(stream, how, tally=False)[1] == Counts()


def test_the_derivative_of_sending_is_one(rng):
    x, weights = (jnp.asarray(rng.normal(size=(5, 7)), jnp.float32) for _ in range(2))
    back = jax.grad(lambda x: (untile(p2p.send(tile(x, (2, 3), fmt=FP32))[0]) * weights).sum())(x)
    assert np.array_equal(back, weights)


def test_links_of_the_presets_and_of_nodes_of_two():
    assert p2p.links_per_peer(SN40L) == 1 and p2p.links_per_peer(TINY) == 1
    assert p2p.links_per_peer(facts.override(SN40L, "sockets", 2)) == 10
    assert p2p.links_per_peer(facts.override(SN40L, "sockets", 6)) == 2
    with pytest.raises(
        ArgumentError, match="not every socket has a link to every other one\n  given:   12 sockets with 10"
    ):
        p2p.links_per_peer(facts.override(SN40L, "sockets", 12))
    with pytest.raises(ArgumentError, match="1 sockets with 10 ports"):
        p2p.links_per_peer(facts.override(SN40L, "sockets", 1))


@pytest.mark.parametrize("peers", [1, 3, 7])
def test_one_byte_more_takes_one_cycle_more_at_the_edge_and_only_there(peers):
    """The links to a peer carry 275 GB/s x links / 10: at 1.6 GHz 171 7/8, 51 9/16 or 17 3/16 bytes per cycle."""
    config = facts.override(SN40L, "sockets", peers + 1)
    rate = Fraction(275_000_000_000 * (10 // peers), 10 * CLOCK)
    assert rate == {1: Fraction(1375, 8), 3: Fraction(825, 16), 7: Fraction(275, 16)}[peers]
    for cycle in range(1, 40):
        within = int(rate * cycle)  # bytes that are across by the end of the cycle
        assert p2p.occupied_cycles(config, CLOCK, within) == cycle
        assert p2p.occupied_cycles(config, CLOCK, within + 1) == cycle + 1
        assert p2p.transfer_cycles(config, CLOCK, within) == cycle + 1600


def test_latency_is_rounded_up_to_the_cycle():
    assert p2p.latency_cycles(SN40L, CLOCK) == 1600 and p2p.latency_cycles(TINY, 1_000_000) == 10
    assert p2p.latency_cycles(facts.override(TINY, "latency_s", 0.0000100001), 1_000_000) == 11
    assert p2p.latency_cycles(facts.override(TINY, "latency_s", 0), 1_000_000) == 0
    assert p2p.transfer_cycles(TINY, 1_000_000, 1) == 11 and p2p.occupied_cycles(TINY, 1_000_000, 0) == 0


def test_terabytes_stay_exact():
    assert p2p.occupied_cycles(SN40L, CLOCK, 275 * 10**12 + 1) == 16 * 10**12 + 1
    # Seven of ten ports lead to the seven peers.
    assert p2p.price(SN40L, Counts({"p2p.sent_bytes": 7 * 275 * 10**11 + 1}), CLOCK) == 16 * 10**11 + 1


def processor_sharing(sizes: dict[str, int], starts: dict[str, int], rate: Fraction) -> dict[str, Fraction]:
    """When each of several streams through one channel ends, by a SimPy server that serves them in turn.

    A turn is a small share of a byte, so that the order within a round hardly shows.
    """
    env, share = simpy.Environment(), Fraction(1, 64)
    left = {name: Fraction(size) for name, size in sizes.items()}
    done: dict[str, Fraction] = {}

    def server():
        while len(done) < len(sizes):
            active = [name for name in sizes if name not in done and starts[name] <= env.now]
            if not active:
                yield env.timeout(1)
                continue
            for name in active:
                left[name] -= share
            yield env.timeout(share * len(active) / rate)
            done.update({name: env.now for name in active if left[name] <= 0})

    env.process(server())
    env.run()
    return done


def test_streams_to_one_peer_share_its_links_fairly():
    """Ends meet a server that hands out shares in turn, within one round of it."""
    rate = Fraction(1)  # of the tiny machine: a byte per cycle and peer
    sizes, starts = {"a": 30, "b": 10, "c": 25}, {"a": 0, "b": 5, "c": 17}
    flows = [Flow(name, size, starts[name]) for name, size in sizes.items()]
    got = p2p.shared_cycles(TINY, 1_000_000, flows)
    want = processor_sharing(sizes, starts, rate)
    assert all(abs(got[name] - 10 - want[name]) <= Fraction(3, 64) * 3 for name in sizes)
    assert p2p.shared_cycles(TINY, 1_000_000, [Flow("a", 30), Flow("b", 30)]) == {"a": 70, "b": 70}
    alone = p2p.shared_cycles(SN40L, CLOCK, [Flow("a", 275)])
    assert alone == {"a": p2p.transfer_cycles(SN40L, CLOCK, 275)}


def test_ports_fit_exactly_and_one_more_is_refused():
    p2p.check(SN40L, {"sum": 7, "activations": 3}, "kernel 4")
    with pytest.raises(CapacityError, match="more P2P ports than there are\n  given:   11 P2P ports, 1 too many"):
        p2p.check(SN40L, {"sum": 8, "activations": 3}, "kernel 4")
    p2p.check_sockets(SN40L, 8)
    with pytest.raises(ArgumentError, match="more sockets than a node has\n  given:   9\n  allowed: 1 to 8"):
        p2p.check_sockets(SN40L, 9)


def test_times_are_differentiable_in_the_facts():
    relaxed = jax.tree.map(jnp.float32, SN40L)
    size, clock = 1e9, float(CLOCK)
    value, slope = jax.value_and_grad(lambda c: p2p.transfer_cycles(c, clock, size))(relaxed)
    exact = p2p.transfer_cycles(SN40L, CLOCK, 10**9)
    assert is_exact(exact) and value == pytest.approx(exact, rel=1e-6)
    occupied = 1e9 * 1.6e9 / 27.5e9
    assert slope.bandwidth_bytes_per_s.value == pytest.approx(-occupied / 275e9, rel=1e-5)
    assert slope.latency_s.value == pytest.approx(clock, rel=1e-6)


@pytest.mark.parametrize("sockets", range(2, 12))
def test_the_price_is_that_of_the_links_to_the_peers(sockets):
    """The same to every peer at once: as long as the links to one of them are kept by its share."""
    config = facts.override(SN40L, "sockets", sockets)
    for share in (1, 275, 276, 10**9 + 7):
        sent = Counts({"p2p.sent_bytes": share * (sockets - 1)})
        assert p2p.price(config, sent, CLOCK) == p2p.occupied_cycles(config, CLOCK, share)


def test_no_message_takes_no_time_and_less_than_none_is_refused():
    for size in (0, jnp.float32(0)):
        assert p2p.transfer_cycles(TINY, 1_000_000, size) == 0
    assert p2p.transfer_cycles(TINY, 1_000_000, 0) == p2p.shared_cycles(TINY, 1_000_000, [Flow("a", 0)])["a"]
    for cycles in (p2p.occupied_cycles, p2p.transfer_cycles):
        with pytest.raises(ArgumentError, match="size_bytes must be a whole number, 0 or more\n  given:   -1000"):
            cycles(TINY, 1_000_000, -1000)
