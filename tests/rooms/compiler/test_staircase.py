"""Shortcuts of the allocation: the shares worth a look, and tilings that need none, against looking at all."""

import numpy as np
import pytest

from rdujax.base.errors import CapacityError
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.staircase import Staircase
from rdujax.estimate.price import kernel_cycles
from rdujax.units.pcu.simd import Chain
from tests.rooms.compiler.kernels import machines, planned_kernels

PRICES = [0, *(2.0**i for i in range(-12, 24)), *np.random.default_rng(0).uniform(0, 500, 60)]


def random_staircase(rng: np.random.Generator) -> Staircase:
    """Cycles that rise while PCUs fall, by steps of any size."""
    count = int(rng.integers(1, 60))
    cycles = np.cumsum(rng.integers(1, 400, count))
    pcus = np.cumsum(rng.integers(1, 30, count))[::-1]
    return Staircase.of(tuple((int(c), Chain(1, int(p))) for c, p in zip(cycles, pcus, strict=True)))


@pytest.mark.parametrize("seed", range(20))
def test_some_corner_is_the_cheapest_share_at_any_price(seed: int):
    stairs = random_staircase(np.random.default_rng(seed))
    corners, pcus = stairs.corners, np.array(stairs.pcus)
    assert corners == sorted(corners) and corners[0] == 0 and corners[-1] == len(stairs) - 1
    for price in PRICES:
        dear = stairs.cycles + price * pcus
        assert dear[corners].min() == dear.min()


@pytest.mark.parametrize("machine", machines(), ids=["small", "starved", "sn40l"])
@pytest.mark.parametrize("seed", (0, *range(2, 10)))
def test_what_is_told_from_pcus_alone_takes_as_long(seed: int, machine):
    """Below its own cycles a tiling is given up or comes out as ever; just above them it is never given up."""
    tried = given_up = 0
    for graph, planned in planned_kernels(seed, machine):
        tiers = dict.fromkeys(graph.types, "hbm") | {s.value: s.tier for s in planned.streams}
        tiers |= {planned.kernel.source(s.value): s.tier for s in planned.streams if not s.is_store}
        ask = (planned.kernel, planned.tiling, planned.wide)
        try:
            whole = Allocator(graph, machine, tiers).allocate(*ask)
        except CapacityError:
            continue
        cycles, tried = kernel_cycles(graph, whole, machine), tried + 1
        assert Allocator(graph, machine, tiers).allocated_below(cycles + 1, *ask) == whole
        for limit in (1, cycles // 2, cycles):
            below = Allocator(graph, machine, tiers).allocated_below(limit, *ask)
            assert below is None or below == whole
            given_up += below is None
    assert given_up or not tried
