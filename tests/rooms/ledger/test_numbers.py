"""Prices: exact on Python numbers, smooth on JAX values, one definition."""

import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError
from rdujax.ledger import Pipeline, Stage, makespan_cycles
from rdujax.ledger.numbers import ceil_div, common, exact, is_exact, maximum, minimum, ratio, whole


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (0.85, Fraction(17, 20)),
        (1.8e12, 1_800_000_000_000),
        (np.float32(0.85), Fraction(17, 20)),
        (np.float64(0.1), Fraction(1, 10)),
        (np.int32(7), 7),
        (-3, -3),
        (Fraction(6, 3), 2),
    ],
)
def test_a_fact_is_the_decimal_that_was_written(given, value):
    assert exact(given) == value
    assert type(exact(given)) is type(value)


@pytest.mark.parametrize("given", [True, np.True_, "0.85", None, 1j])
def test_what_is_no_number_is_refused(given):
    with pytest.raises(FormatError, match="not a number\n  given: .*\n  allowed: an int"):
        exact(given)


@pytest.mark.parametrize("given", [float("nan"), float("inf"), np.float32("nan")])
def test_nan_and_infinity_are_refused(given):
    with pytest.raises(ArgumentError, match="not a finite number"):
        ratio(given, 1)


def test_relaxed_does_not_become_exact():
    with pytest.raises(ConcretenessError, match="relaxed number where an exact one"):
        exact(jnp.float32(3))


@pytest.mark.parametrize("given", [jnp.int32(3), jnp.array([1, 2]), np.array([True]), jnp.complex64(1)])
def test_integer_arrays_are_neither_exact_nor_smooth(given):
    with pytest.raises(FormatError, match="exact on Python numbers and smooth on floating arrays"):
        ceil_div(given, 2)


def test_ceil_div_steps_exactly_at_the_multiple():
    assert [ceil_div(a, 4) for a in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
    assert ceil_div(-3, 2) == -1
    assert ceil_div(0.85, 0.17) == 5  # binary floats would give 6 or 5 by luck; decimals are exact
    assert ceil_div(Fraction(17, 20) + Fraction(1, 10**30), 0.17) == 6


def test_terabytes_do_not_overflow_or_round():
    bytes_moved = 3 * 2**40 * 10**12 + 1
    assert ceil_div(bytes_moved, 2**40) == 3 * 10**12 + 1
    assert ratio(bytes_moved, 10**12) * 10**12 == bytes_moved


@pytest.mark.parametrize("divide", [ceil_div, ratio])
@pytest.mark.parametrize("divisor", [0, -1, -0.5])
def test_a_divisor_is_positive(divide, divisor):
    with pytest.raises(ArgumentError, match=f"greater than zero\n  given:   {exact(divisor)}\n  where:   bandwidth"):
        divide(1, divisor, where="bandwidth")
    assert jnp.isnan(divide(jnp.float32(1), divisor))
    assert jnp.isnan(jax.jit(divide)(jnp.float32(1), jnp.float32(divisor)))


def test_relaxed_ceil_div_has_the_exact_values_eagerly_and_compiled():
    a, b = np.meshgrid(np.concatenate([np.arange(1, 300), 2**24 - np.arange(1, 40)]), np.arange(1, 300))
    want = -(-a // b)
    got = ceil_div(a.astype(np.float32), b.astype(np.float32))
    compiled = jax.jit(ceil_div)(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(got), want)
    np.testing.assert_array_equal(np.asarray(compiled), want)
    for constant in (3, 7, 49, 127):
        by_constant = jax.jit(lambda a, c=constant: ceil_div(a, c))(a[0].astype(np.float32))
        np.testing.assert_array_equal(np.asarray(by_constant), -(-a[0] // constant))


def test_the_gradient_of_ceil_div_is_that_of_the_ratio():
    by_a, by_b = jax.grad(ceil_div, argnums=(0, 1))(7.0, 4.0)
    assert (float(by_a), float(by_b)) == (1 / 4, -7 / 16)
    assert float(jax.grad(jax.grad(ceil_div, argnums=1), argnums=1)(7.0, 4.0)) == 2 * 7 / 64
    assert float(jax.jvp(ceil_div, (7.0, 4.0), (1.0, 0.0))[0]) == 2.0
    batch = jax.vmap(jax.grad(ceil_div), in_axes=(0, None))(jnp.arange(1.0, 5.0), 4.0)
    np.testing.assert_array_equal(np.asarray(batch), np.full(4, 0.25, np.float32))


def test_maximum_and_minimum_of_both_kinds():
    assert maximum(1, Fraction(7, 3), 2.25) == Fraction(7, 3)
    assert minimum(1, Fraction(1, 3), 0.5) == Fraction(1, 3)
    assert float(maximum(1, jnp.float32(2.5), Fraction(9, 4))) == 2.5
    np.testing.assert_array_equal(np.asarray(minimum(jnp.array([1.0, 5.0]), 3)), [1, 3])
    assert jax.grad(maximum, argnums=(0, 1, 2))(4.0, 4.0, 1.0) == (0.5, 0.5, 0.0)
    assert jax.grad(minimum, argnums=(0, 1, 2))(4.0, 4.0, 1.0) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("of", [maximum, minimum])
def test_an_extreme_of_nothing_is_refused(of):
    with pytest.raises(ArgumentError, match="of nothing"):
        of()


def test_one_relaxed_operand_relaxes_all():
    assert is_exact(1, 0.5, Fraction(1, 3), np.int64(2))
    assert not is_exact(1, jnp.float32(2))
    a, b, c = common(2**40, Fraction(1, 3), jnp.float32(1))
    assert {x.dtype for x in (a, b, c)} == {np.dtype(np.float32)}
    assert float(a) == 2.0**40
    assert common(2**40, 0.5) == (2**40, Fraction(1, 2))
    with pytest.raises(ArgumentError, match="beyond the range of float32"):
        common(10**39, jnp.float32(1))


def test_a_wide_array_is_as_wide_as_jax_makes_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ratio(np.array(3.0), 2).dtype == np.float32
        assert float(makespan_cycles(Pipeline((Stage("a", np.array(3.0)),)), 4)) == 12
    with pytest.raises(ArgumentError, match="beyond the range of float32\n  given:   1 of an array"):
        ratio(np.array([1.0, 1e300, np.inf]), 2)
    with jax.enable_x64(True):
        assert ratio(np.array(3.0), 2).dtype == np.float64
        assert float(common(2**40 + 1, np.array(3.0))[0]) == 2**40 + 1


def test_one_formula_is_exact_and_smooth():
    def cycles(tile_rows, rows=4097, width_bytes=2, bytes_per_cycle=1.25):
        turns = ceil_div(rows, tile_rows)
        a, b = common(turns, width_bytes)
        return maximum(ceil_div(a * b, bytes_per_cycle), turns)

    assert cycles(32) == 207  # 129 turns x 2 bytes at 5/4 bytes a cycle
    assert float(cycles(jnp.float32(32))) == 207
    assert float(jax.grad(cycles)(32.0)) == pytest.approx(-4097 / 32**2 * 2 / 1.25, rel=1e-6)


@pytest.mark.parametrize("given", [-1, Fraction(1, 2), 2.5])
def test_a_count_is_whole_and_not_negative(given):
    with pytest.raises(ArgumentError, match="turns must be a whole number, 0 or more"):
        whole(given, what="turns")


def test_whole_numbers_pass():
    assert whole(0, what="turns") == 0
    assert whole(3.0, what="turns") == 3
    assert float(whole(jnp.float32(2.5), what="turns")) == 2.5
