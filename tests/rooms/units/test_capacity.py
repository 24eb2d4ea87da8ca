"""Law L6 unit by unit: full fits, one more is refused, and the message holds the numbers."""

import pytest

from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.machines import sn40l
from rdujax.units import agcu, memory, pcu, pmu

MACHINE = sn40l()
COUNTED = {"PCU": (pcu, MACHINE.pcu), "PMU": (pmu, MACHINE.pmu), "AGCU": (agcu, MACHINE.agcu)}


@pytest.mark.parametrize("unit", COUNTED)
def test_all_units_fit_and_one_more_is_refused(unit):
    module, config = COUNTED[unit]
    there = config.count.value
    assert module.check(config, {"gemm": there - 3, "exp": 3}, "kernel 7") is None
    assert module.check(config, {}, "kernel 7") is None
    with pytest.raises(CapacityError) as caught:
        module.check(config, {"exp": 3, "gemm": there - 2}, "kernel 7")
    message = str(caught.value)
    assert f"given:   {there + 1:,} {unit}s, 1 too many:" in message
    assert message.index(f"{there - 2:,} {unit}s  gemm") < message.index(f"3 {unit}s  exp")
    assert f"allowed: {there:,} {unit}s" in message and "kernel 7" in message and "\n  do:" in message


@pytest.mark.parametrize("tier", memory.TIERS)
def test_a_full_tier_fits_and_one_byte_more_is_refused(tier):
    config = MACHINE.tier(tier)
    there = config.capacity_bytes.value
    symbols = {"weights": there - 2**20, "cache": 2**20}
    assert memory.check(tier, config, symbols) is None
    with pytest.raises(CapacityError) as caught:
        memory.check(tier, config, {**symbols, "flag": 1})
    message = str(caught.value)
    assert f"do not fit into {tier}" in message
    assert f"given:   {there + 1:,} bytes, 1 too many:" in message and f"allowed: {there:,} bytes" in message
    assert message.index("weights") < message.index("1,048,576 bytes  cache") < message.index("1 bytes  flag")


@pytest.mark.parametrize(
    ("need", "pmus"),
    [
        ((512 * 1024, 1, 1, 1), 1),
        ((512 * 1024 + 1, 1, 1, 1), 2),
        ((512 * 1024, 2, 1, 1), 2),
        ((256 * 1024, 2, 64, 64), 1),
        ((1, 1, 65, 1), 2),
        ((1, 1, 1, 129), 3),
        ((1, 1, 0, 0), 1),
        ((2**40, 2, 64, 64), 2**22),
    ],
)
def test_a_buffer_is_split_for_capacity_and_interleaved_for_bandwidth(need, pmus):
    buffer = pmu.Buffer(*need)
    assert buffer.capacity_bytes == need[0] * need[1]
    assert pmu.units_for(MACHINE.pmu, buffer) == pmus
    assert pmu.units_for(MACHINE.replace({"pmu.port_bytes_per_cycle": 1}).pmu, buffer) == max(pmus, *need[2:])


@pytest.mark.parametrize(
    ("own_bytes", "turn_cycles", "units"),
    [(64, 1, 1), (65, 1, 2), (640, 10, 1), (641, 10, 2), (0, 5, 1), (2**40, 2**30, 16)],
)
def test_a_stream_takes_the_agcus_that_keep_up_with_its_turn(own_bytes, turn_cycles, units):
    assert agcu.units_for(MACHINE.agcu, own_bytes, turn_cycles) == units
    assert agcu.cycles(MACHINE.agcu, own_bytes, units) <= turn_cycles


@pytest.mark.parametrize("unit", COUNTED)
def test_a_need_below_nothing_makes_no_room(unit):
    module, config = COUNTED[unit]
    for bad in (-5, 0.5):
        with pytest.raises(ArgumentError, match=f"{unit}s must be a whole number, 0 or more(.|\n)*where:   exp"):
            module.check(config, {"exp": bad, "gemm": config.count.value + 5}, "kernel 7")
    with pytest.raises(ArgumentError, match="bytes must be a whole number, 0 or more"):
        memory.check("hbm", MACHINE.hbm, {"weights": -1})
