"""Transfers: exact on plain facts at any size, differentiable on traced ones."""

from fractions import Fraction
from math import ceil

import jax
import jax.numpy as jnp
import pytest

from rdujax.machines import sn40l, tiny
from rdujax.units import memory

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
