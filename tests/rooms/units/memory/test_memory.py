"""Transfers: exact on plain facts at any size, differentiable on traced ones, shared by concurrent streams."""

from fractions import Fraction
from math import ceil

import jax
import jax.numpy as jnp
import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.ledger.counts import Counts
from rdujax.machines import sn40l, tiny
from rdujax.units import memory
from rdujax.units.sharing import Flow

AMOUNTS = [0, 1, 63, 10**6 + 1, 64 * 2**30, 3 * 2**39, 10**15 + 7]


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("tier", memory.TIERS)
@pytest.mark.parametrize("machine", [sn40l(), tiny()], ids=lambda m: m.name)
def test_cycles_are_the_exact_quotient_rounded_up(machine, tier, amount):
    config = machine.tier(tier)
    share = Fraction(str(config.efficiency.value))
    want = ceil(Fraction(amount * machine.clock_hz.value) / (config.bandwidth_bytes_per_s.value * share))
    got = memory.transfer_cycles(config, machine.clock_hz.value, amount)
    assert got == want and isinstance(got, int)


def test_a_transfer_that_divides_takes_no_cycle_more():
    config = sn40l().replace({"hbm.efficiency": 0.8, "hbm.bandwidth_bytes_per_s": 2_000_000_000_000}).hbm
    clock = 1_600_000_000
    for cycles in (1, 1000, 10**12):
        assert memory.transfer_cycles(config, clock, 1000 * cycles) == cycles
        assert memory.transfer_cycles(config, clock, 1000 * cycles + 1) == cycles + 1


def test_the_derivative_is_that_of_the_quotient():
    config = jax.tree.map(jnp.float32, sn40l().hbm)
    slope = jax.grad(lambda c: memory.transfer_cycles(c, 1.6e9, 10**12))(config)
    cycles = 10**12 * 1.6e9 / (1.8e12 * 0.85)
    assert slope.bandwidth_bytes_per_s.value == pytest.approx(-cycles / 1.8e12, rel=1e-5)
    assert slope.efficiency.value == pytest.approx(-cycles / 0.85, rel=1e-5)
    assert slope.capacity_bytes.value == 0


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("tier", memory.TIERS)
@pytest.mark.parametrize("machine", [sn40l(), tiny()], ids=lambda m: m.name)
def test_the_last_byte_arrives_after_latency_and_transfer(machine, tier, amount):
    config, clock = machine.tier(tier), machine.clock_hz.value
    share = Fraction(str(config.efficiency.value)) * config.bandwidth_bytes_per_s.value
    exact = Fraction(str(config.latency_s.value)) * clock + Fraction(amount * clock) / share
    assert memory.arrival_cycles(config, clock, amount) == (ceil(exact) if amount else 0)
    alone = memory.finish_cycles(config, clock, [Flow("a", amount)])["a"]
    assert alone == (exact if amount else 0)


def test_a_byte_is_there_at_its_cycle_and_not_before():
    """10 cycles of latency and 16 bytes per cycle: byte 16 k + 1 comes a cycle after byte 16 k."""
    config, clock = tiny().hbm, 1_000_000
    for cycles in (0, 1, 7):
        assert memory.arrival_cycles(config, clock, 16 * cycles) == (10 + cycles if cycles else 0)
        assert memory.arrival_cycles(config, clock, 16 * cycles + 1) == 11 + cycles
        assert memory.arrival_cycles(config, clock, 16 * cycles + 16) == 11 + cycles


def test_streams_that_begin_together_end_within_what_all_take_together():
    """The static share of a pipeline's turn, all bytes over the bandwidth, is when the last of them ends."""
    config, clock = sn40l().hbm, 1_600_000_000
    flows = [Flow("weights", 10**9), Flow("cache", 3 * 10**8), Flow("out", 10**6)]
    done = memory.finish_cycles(config, clock, flows)
    latency = Fraction(str(config.latency_s.value)) * clock
    together = memory.transfer_cycles(config, clock, sum(f.amount_bytes for f in flows))
    assert done["out"] < done["cache"] < done["weights"] and ceil(done["weights"] - latency) == together
    rate = Fraction(1800 * 10**9 * 85, 100 * clock)
    assert done["out"] - latency == 3 * Fraction(10**6) / rate


def test_the_price_of_a_tier_is_that_of_its_own_bytes():
    counts = Counts({"hbm.read_bytes": 100, "hbm.written_bytes": 61, "ddr.read_bytes": 10**6, "agcu.tiles": 5})
    mine = memory.of_tier(counts, "hbm")
    assert mine == Counts({"hbm.read_bytes": 100, "hbm.written_bytes": 61})
    assert memory.price(tiny().hbm, mine, 1_000_000) == ceil(161 / 16)
    assert memory.price(tiny().ddr, memory.of_tier(counts, "ddr"), 1_000_000) == 10**6
    assert memory.price(tiny().host, memory.of_tier(counts, "host"), 1_000_000) == 0
    with pytest.raises(UnknownNameError, match="unknown memory tier"):
        memory.of_tier(counts, "sram")


def test_the_derivative_of_an_arrival_is_one_per_cycle_of_latency():
    config = jax.tree.map(jnp.float32, sn40l().hbm)
    slope = jax.grad(lambda c: memory.arrival_cycles(c, 1.6e9, 10**9))(config)
    assert slope.latency_s.value == pytest.approx(1.6e9, rel=1e-3)


def test_amounts_that_cannot_be_are_refused():
    for cycles in (memory.transfer_cycles, memory.arrival_cycles):
        for amount in (-100, 2.5):
            with pytest.raises(ArgumentError, match="amount_bytes must be a whole number, 0 or more"):
                cycles(tiny().hbm, 1_000_000, amount)
    assert memory.arrival_cycles(tiny().hbm, 1_000_000, jnp.float32(0)) == 0
