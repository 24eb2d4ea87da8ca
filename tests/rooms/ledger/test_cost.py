"""Cost: an algebra, exact on the host and differentiable on JAX values."""

import copy
import pickle
from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdujax.base.errors import ArgumentError, ConcretenessError, UnknownNameError
from rdujax.ledger.cost import Cost, PerTier, parallel

amounts = st.integers(0, 10**20)
tiers = st.dictionaries(st.sampled_from(["hbm", "ddr", "sram"]), amounts)
costs = st.builds(Cost, amounts, amounts, tiers, tiers, tiers)


@given(costs, costs, costs)
def test_one_after_the_other_and_side_by_side_are_lawful(a, b, c):
    for join in (lambda x, y: x + y, parallel):
        assert join(join(a, b), c) == join(a, join(b, c))
        assert join(a, b) == join(b, a)
        assert join(a, Cost()) == join(Cost(), a) == a
    assert parallel() == Cost()
    assert parallel(a, b, c) == parallel(parallel(a, b), c)


@given(costs, st.integers(0, 6), st.integers(0, 6))
def test_n_turns_are_a_sum(a, n, m):
    assert a * n == n * a == sum([a] * n, Cost())
    assert a * n + a * m == a * (n + m)
    assert (a * n) * m == a * (n * m)
    assert hash(a * 2) == hash(a + a)


def test_what_adds_and_what_does_not():
    a = Cost(10, 5, {"hbm": 3}, {"ddr": 7}, {"sram": 100})
    b = Cost(4, 6, {"hbm": 1}, {"hbm": 2}, {"sram": 60, "hbm": 1})
    after, beside = a + b, parallel(a, b)
    assert after == Cost(14, 11, {"hbm": 4}, {"ddr": 7, "hbm": 2}, {"sram": 100, "hbm": 1})
    assert beside == Cost(10, 11, {"hbm": 4}, {"ddr": 7, "hbm": 2}, {"sram": 160, "hbm": 1})
    assert after.tiers == ("ddr", "hbm", "sram")
    assert a != b and a != 1


def test_terabytes_times_turns_stay_exact():
    big = Cost(10**18 + 1, 0, {"ddr": 3 * 2**40 + 1})
    assert (big * 10**9).read_bytes["ddr"] == (3 * 2**40 + 1) * 10**9
    assert (big * 10**9).seconds(1.6e9) == Fraction((10**18 + 1) * 10**9, 1_600_000_000)


@pytest.mark.parametrize("bad", [{"cycles": -1}, {"flops": 0.5}, {"read_bytes": {"hbm": -1}}])
def test_amounts_are_whole_and_not_negative(bad):
    with pytest.raises(ArgumentError, match=f"{next(iter(bad))} must be a whole number"):
        Cost(**bad)


def test_tiers_are_named_by_strings():
    with pytest.raises(ArgumentError, match="named by a string"):
        Cost(peak_bytes={1: 2})


@pytest.mark.parametrize("turns", [-1, 1.5])
def test_turns_are_whole(turns):
    with pytest.raises(ArgumentError, match="turns must be a whole number"):
        Cost(1) * turns


def test_operational_intensity():
    cost = Cost(flops=10, read_bytes={"hbm": 3}, written_bytes={"hbm": 1}, peak_bytes={"sram": 5})
    assert cost.operational_intensity("hbm") == Fraction(5, 2)
    with pytest.raises(UnknownNameError, match="did you mean 'hbm'"):
        cost.operational_intensity("hmb")
    with pytest.raises(ArgumentError, match="bytes moved at tier 'sram'"):
        cost.operational_intensity("sram")
    with pytest.raises(ArgumentError, match="clock_hz"):
        cost.seconds(0)


def test_gradients_go_through_every_operation():
    def seconds(x):
        kernel = Cost(cycles=3 * x, flops=x, read_bytes={"hbm": 2 * x})
        return ((kernel * 4 + parallel(kernel, Cost(1))).seconds(2.0)) + kernel.operational_intensity("hbm")

    assert float(seconds(5)) == float(seconds(jnp.float32(5))) == 38
    assert float(jax.grad(seconds)(5.0)) == 7.5
    assert float(jax.grad(lambda n: (Cost(3, 0, {"hbm": 8}) * n).moved_bytes("hbm"))(2.0)) == 8


def test_a_cost_is_a_pytree():
    cost = Cost(3, 4, {"hbm": 5}, {}, {"sram": 6})
    assert jax.tree.leaves(cost) == [3, 4, 5, 6]
    batch = jax.vmap(lambda n: Cost(n, read_bytes={"hbm": 2 * n}) + Cost(1.0))(jnp.arange(3.0))
    assert batch.cycles.tolist() == [1, 2, 3] and batch.read_bytes["hbm"].tolist() == [0, 2, 4]
    assert jax.jit(lambda c: c * 2)(jax.tree.map(jnp.float32, cost)) == jax.tree.map(jnp.float32, cost * 2)
    [(path, _), *_] = jax.tree_util.tree_leaves_with_path({"k": cost})
    assert jax.tree_util.keystr(path) == "['k'].cycles"


def test_costs_are_not_compared_while_tracing():
    with pytest.raises(ConcretenessError, match="compared while a function is traced"):
        jax.jit(lambda n: n if Cost(n) == Cost(1) else n)(jnp.float32(1))


def test_a_cost_prints_and_copies():
    cost = Cost(1234, 0, {"hbm": 5678, "ddr": 1})
    assert str(cost).splitlines()[0] == "cycles:        1,234"
    assert "read_bytes:    {ddr: 1, hbm: 5,678}" in str(cost)
    assert pickle.loads(pickle.dumps(cost)) == copy.deepcopy(cost) == cost
    assert PerTier({"hbm": 0}) == PerTier() and PerTier({"hbm": 1}) != {"hbm": 1}
