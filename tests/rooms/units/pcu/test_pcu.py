"""The price of a PCU against sums written out by hand, and which part is the busiest."""

import doctest

import jax
import pytest

from rdujax.ledger.counts import Counts
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.units import pcu
from rdujax.units.pcu import counters, header, lanes, parallel, price, tail, vector_bytes
from rdujax.units.pcu.contraction import Extent
from rdujax.units.pcu.counters import Counter, Nest
from rdujax.units.pcu.lanes import Reducer
from rdujax.units.pcu.systolic import Fork
from rdujax.units.pcu.systolic import cycles as systolic_cycles
from rdujax.units.pcu.tail import Tail
from tests.laws.cases.pcu import cases
from tests.storeys.raw_equations import raw_equations

CLOCK = 1_600_000_000


def priced(config: pcu.Config, **amounts: int) -> int:
    return price(config, Counts({f"pcu.{name}": amount for name, amount in amounts.items()}), CLOCK)


def test_each_part_at_its_rate_and_one_more_takes_one_cycle_more():
    config = sn40l().pcu
    rates = {
        "macs": 32 * 6, "simd_operations": 32 * 6, "lane_reductions": 32, "tail_operations": 32, "random_words": 32,
        "header_bytes": 64, "turns": 1,
    }  # fmt: skip
    for name, rate in rates.items():
        assert [priced(config, **{name: n}) for n in (0, 1, rate, rate + 1, 10 * rate)] == [0, 1, 1, 2, 10], name
    assert priced(config, events=10**9) == 0


def test_the_body_adds_up_and_the_other_parts_work_beside_it():
    config = tiny().pcu
    assert priced(config, macs=16, simd_operations=16, lane_reductions=8) == 2 + 2 + 2
    assert priced(config, macs=16, random_words=8, tail_operations=4, header_bytes=8, turns=2) == 2
    assert priced(config, macs=16, random_words=12) == 3
    assert priced(config, macs=16, turns=5) == 5


def test_the_price_is_a_bound_of_what_shapes_cost():
    """No part does its counted work in fewer cycles than the price says."""
    config = tiny().pcu
    for m, n, k in ((1, 1, 1), (4, 2, 8), (5, 3, 9), (16, 8, 32)):
        shaped = systolic_cycles(*pcu.array(config, BF16), Extent(1, m, n, k), Fork(1, 1))
        assert priced(config, macs=m * n * k) <= shaped
    for rows, width in ((1, 1), (3, 7), (2, 64)):
        counts = lanes.predict(Reducer("sum", pcu.lane_count(config, BF16)), (rows, width), BF16)
        assert price(config, counts, CLOCK) <= lanes.cycles(config, BF16, rows, width)
    for elements in (1, 4, 5, 100):
        of = Tail(BF16, rounding="stochastic")
        counts = tail.predict(of, (elements,), FP32)
        assert price(config, counts, CLOCK) <= tail.cycles(config, of, FP32, elements)
        assert price(config, header.predict((elements,), FP32), CLOCK) == header.load_cycles(config, (elements,), FP32)
    nest = Nest((Counter(0, 3), Counter(0, 5)))
    assert price(config, counters.predict(nest), CLOCK) == counters.cycles(config, nest) == 15


def test_the_price_is_exact_far_beyond_int32_and_floats():
    macs = 192 * (2**80 + 1)
    assert priced(sn40l().pcu, macs=macs) == 2**80 + 1 and priced(sn40l().pcu, macs=macs + 1) == 2**80 + 2


def test_slopes_go_to_the_facts_of_the_busiest_part():
    relaxed = jax.tree.map(jax.numpy.float32, sn40l().pcu)
    slope = jax.grad(lambda c: price(c, Counts({"pcu.macs": 192_000, "pcu.turns": 10}), CLOCK))(relaxed)
    assert slope.systolic_rows.value == pytest.approx(-1000 / 32) and slope.lanes_bf16.value == 0
    slope = jax.grad(lambda c: price(c, Counts({"pcu.macs": 192, "pcu.random_words": 3200}), CLOCK))(relaxed)
    assert slope.systolic_rows.value == 0 and slope.lanes_bf16.value == pytest.approx(-100 / 32)


@pytest.mark.parametrize("part", [counters, header, lanes, parallel, tail], ids=lambda m: m.__name__.split(".")[-1])
def test_the_examples_of_the_parts_run(part):
    failed, tried = doctest.testmod(part)
    assert tried and not failed


def test_values_are_computed_in_numerics_only(rng):
    for case in cases(rng):
        assert raw_equations(case.run, *case.args) == [], case.name


def test_shapes_of_the_body():
    config = sn40l().pcu
    assert pcu.array(config, BF16) == (32, 6) and pcu.array(config, FP32) == pcu.array(config, INT32) == (16, 3)
    assert pcu.lane_count(config, BF16) == 32 and pcu.lane_count(config, FP32) == 16
    assert vector_bytes(config) == 64
