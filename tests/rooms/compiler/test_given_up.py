"""A tiling that is given up by what its PCUs tell, against what it would have cost."""

import pytest

from rdujax.base.errors import CapacityError
from rdujax.compiler.allocate import Allocator
from rdujax.estimate.price import kernel_cycles
from tests.rooms.compiler.kernels import machines, planned_kernels


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
