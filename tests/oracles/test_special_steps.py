"""What the FP32 special functions stand on: exact sums and products, and the constants made of whole numbers."""

from fractions import Fraction

import gmpy2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics.special import SPECIAL, exact, steps
from tests.oracles.special_reference import errors_ulp

COUNT = 1 << 12


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=(2, COUNT)) * 2.0 ** rng.integers(-30, 31, (2, COUNT))
    return x.astype(np.float32), y.astype(np.float32)


def _is_exactly(pair: steps.Pair, want: list[Fraction]) -> bool:
    high, low = (np.asarray(part, np.float64).tolist() for part in pair)
    return all(Fraction(h) + Fraction(e) == w for h, e, w in zip(high, low, want, strict=True))


def test_sums_and_products_lose_nothing():
    x, y = _pairs()
    larger, smaller = np.where(np.abs(x) < np.abs(y), y, x), np.where(np.abs(x) < np.abs(y), x, y)
    xs, ys = ([Fraction(float(v)) for v in column] for column in (x, y))
    sums, products = ([f(a, b) for a, b in zip(xs, ys, strict=True)] for f in (Fraction.__add__, Fraction.__mul__))
    assert _is_exactly(jax.jit(steps.exact_sum)(x, y), sums)
    assert _is_exactly(jax.jit(steps.sorted_sum)(larger, smaller), sums)
    assert _is_exactly(jax.jit(steps.exact_product)(x, y), products)
    assert _is_exactly(jax.jit(steps.exact_square)(x), [a * a for a in xs])


def test_quotient_of_pairs_is_rounded_almost_correctly():
    """Within 0.501 ulp, though the first quotient is off by up to two."""
    x, y = _pairs()
    low = np.float32(2.0**-26) * x
    quotient = jax.jit(lambda a, b, c: steps.pair_quotient((a, b), (c, 0 * c), steps.wall(np.float32(1.0) / c)))
    got = np.asarray(quotient(x, low, y), np.float64)
    want = (x.astype(np.float64) + low) / y
    ulp = np.ldexp(1.0, np.frexp(want)[1] - 24)
    assert np.max(np.abs(got - want) / ulp) < 0.501


def test_scaling_flushes_and_overflows_on_whole_numbers():
    x = jnp.array([1.0, 1.9999999, -1.0, 1.5, -1.5], jnp.float32)
    n = jnp.array([-126, -127, -127, 127, 128], jnp.int32)
    want = np.array([2.0**-126, 0.0, -0.0, 1.5 * 2.0**127, -np.inf], np.float32)
    np.testing.assert_array_equal(np.asarray(steps.scaled(x, n)).view(np.uint32), want.view(np.uint32))


def test_rounding_to_the_nearest_integer_ties_to_even():
    x = np.array([0.5, 1.5, -0.5, -1.5, 2.4999998, -1.0e6, 127.99999], np.float32)
    value, whole = steps.nearest(x)
    np.testing.assert_array_equal(value, np.rint(x))
    np.testing.assert_array_equal(whole, np.rint(x).astype(np.int32))


def test_pi_and_the_windows_of_two_over_pi():
    with gmpy2.context(precision=1000):
        pi = gmpy2.const_pi()
        assert abs(gmpy2.mpfr(exact.pi()) / gmpy2.exp2(gmpy2.mpfr(exact.FRACTION_BITS)) - pi) < 2.0**-630
        for field in range(1, 255):
            scaled = 2 / pi * gmpy2.exp2(gmpy2.mpfr(field - 150))
            want = int(gmpy2.floor((scaled - 4 * gmpy2.floor(scaled / 4)) * gmpy2.exp2(gmpy2.mpfr(94))))
            upper, middle, lower = (int(word) for word in exact.quadrant_windows()[:, field])
            assert (upper << 64) + (middle << 32) + lower == want


@pytest.mark.parametrize("steepness, last", [(2, 10.0), (1, 13.375)])
def test_tail_table_holds_the_taylor_series(steepness: int, last: float):
    """The polynomial of every row, at both its ends, against MPFR: far below half an FP32 ulp."""
    table = exact.normal_tail(steepness, int(last * 8) + 1, 8, 7).astype(np.float64)
    with gmpy2.context(precision=300):
        for row, column in enumerate(table.T):
            for offset in (-0.0625, 0.0, 0.0625):
                a = gmpy2.mpfr(row / 8 + offset)
                scale = gmpy2.sqrt(gmpy2.mpfr(steepness) / 2)
                want = float(gmpy2.exp(steepness * a * a / 2) * gmpy2.erfc(a * scale) * steepness / 2)
                got = np.polynomial.polynomial.polyval(offset, column[:-1]) + column[-1]
                assert abs(got / want - 1) < (2.0**-46 if offset == 0.0 else 2.0**-27)


def test_the_measure_of_errors_sees_one_ulp():
    x = np.float32([0.7, -3.0, 20.0])
    right = np.asarray(SPECIAL["exp"].fp32(x))
    assert np.all(errors_ulp("exp", x, right) < 0.9)
    assert np.all(errors_ulp("exp", x, np.nextafter(np.nextafter(right, np.float32(0)), np.float32(0))) > 1.0)
    assert np.all(errors_ulp("exp", x, np.float32([np.nan, 0.0, np.inf])) > 1e6)
