"""Derivatives of the special functions in both formats: against differences in float64, of every kind, at the edges."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import tables
from rdujax.numerics.special import SPECIAL

NAMES = list(SPECIAL)
POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal")
FORMATS = ("bf16", "fp32")
INF = np.inf


def _points(name: str) -> np.ndarray:
    """BF16 values, so that both formats take the same points; away from where a function or its slope vanishes."""
    x = np.array([0.1015625, 0.25, 0.5, 0.875, 1.25, 2.0, 3.0, 4.5], np.float32)
    if name in POSITIVE:
        return x
    if name == "acosh":
        return x[4:]
    if name in ("erf_inv", "asin", "acos", "atanh"):
        return np.concatenate([x[:4], -x[:4]])
    return np.concatenate([x, -x[:4]]) if name == "log1p" else np.concatenate([x, -x])


def _slope(name: str, x: np.ndarray) -> np.ndarray:
    """Central differences of the real function in float64, with one Richardson step: good to about 1e-10."""
    x, h = x.astype(np.float64), 1e-3
    f = tables.EXACT[name]
    coarse, fine = ((f(x + k) - f(x - k)) / (2 * k) for k in (h, h / 2))
    return (4 * fine - coarse) / 3


def _bend(name: str, x: np.ndarray) -> np.ndarray:
    x, h = x.astype(np.float64), 1e-2
    f = tables.EXACT[name]
    coarse, fine = ((f(x + k) - 2 * f(x) + f(x - k)) / k**2 for k in (h, h / 2))
    return (4 * fine - coarse) / 3


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_first_derivative(name: str, fmt: str):
    """The slope of the real function, not of its steps or its table."""
    f, x = getattr(SPECIAL[name], fmt), jnp.asarray(_points(name))
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(x), _slope(name, np.asarray(x)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fmt", FORMATS)
def test_first_derivative_by_every_road(fmt: str):
    f, x = getattr(SPECIAL["gelu"], fmt), jnp.asarray(_points("gelu"))
    ones, want, close = jnp.ones_like(x), _slope("gelu", np.asarray(x)), {"rtol": 1e-5, "atol": 1e-7}

    def total(v: jax.Array) -> jax.Array:
        return jnp.sum(f(v))

    def looped(v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, item: (total + f(item), None), 0.0, v)[0]

    for road in (total, jax.jit(total), jax.checkpoint(total), looped, jax.checkpoint(looped)):
        np.testing.assert_allclose(jax.grad(road)(x), want, **close)
    np.testing.assert_allclose(jax.jvp(f, (x,), (ones,))[1], want, **close)
    np.testing.assert_allclose(jax.linearize(f, x)[1](ones), want, **close)
    np.testing.assert_allclose(jax.vjp(f, x)[1](ones)[0], want, **close)


@pytest.mark.parametrize("fmt", ["fp32", pytest.param("bf16", marks=pytest.mark.full)])
@pytest.mark.parametrize("name", NAMES)
def test_second_derivative(name: str, fmt: str):
    """The hessian, forward over reverse, is diagonal and holds the second derivative of the real function."""
    f, x = getattr(SPECIAL[name], fmt), jnp.asarray(_points(name))
    hessian = np.asarray(jax.hessian(lambda v: jnp.sum(f(v)))(x))
    np.testing.assert_allclose(np.diagonal(hessian), _bend(name, np.asarray(x)), rtol=2e-4, atol=1e-5)
    assert np.count_nonzero(hessian - np.diag(np.diagonal(hessian))) == 0


@pytest.mark.parametrize("fmt", ["fp32", pytest.param("bf16", marks=pytest.mark.full)])
@pytest.mark.parametrize("name", NAMES)
def test_forward_bits_do_not_change_under_differentiation(name: str, fmt: str):
    f, x = getattr(SPECIAL[name], fmt), jnp.asarray(_points(name))
    plain = np.asarray(f(x)).view(np.uint32)
    value, _ = jax.jit(lambda v: jax.value_and_grad(f)(v[0]))(x[:1])
    assert np.asarray(value).view(np.uint32) == plain[0]
    value, _ = jax.jvp(f, (x,), (x,))
    np.testing.assert_array_equal(np.asarray(value).view(np.uint32), plain)


SLOPES_AT_EDGES = {
    "exp": [(-INF, 0.0), (INF, INF), (-200.0, 0.0)],
    "exp2": [(-INF, 0.0), (INF, INF)],
    "expm1": [(-INF, 0.0), (0.0, 1.0)],
    "log": [(INF, 0.0), (0.0, INF)],
    "log1p": [(INF, 0.0), (-1.0, INF), (0.0, 1.0)],
    "sigmoid": [(-INF, 0.0), (INF, 0.0), (0.0, 0.25), (3e38, 0.0)],
    "silu": [(-INF, 0.0), (INF, 1.0), (-3e38, 0.0), (3e38, 1.0), (0.0, 0.5)],
    "tanh": [(-INF, 0.0), (INF, 0.0), (3e38, 0.0), (0.0, 1.0)],
    "erf": [(-INF, 0.0), (INF, 0.0), (3e38, 0.0)],
    "asin": [(1.0, INF), (-1.0, INF), (0.0, 1.0)],
    "acos": [(1.0, -INF), (-1.0, -INF), (0.0, -1.0)],
    "atan": [(INF, 0.0), (-INF, 0.0), (3e38, 0.0), (0.0, 1.0)],
    "sinh": [(INF, INF), (0.0, 1.0)],
    "cosh": [(INF, INF), (-INF, -INF), (0.0, 0.0)],
    "tan": [(0.0, 1.0)],
    "asinh": [(INF, 0.0), (3e38, 0.0), (0.0, 1.0)],
    "acosh": [(INF, 0.0), (1.0, INF)],
    "atanh": [(1.0, INF), (-1.0, INF), (0.0, 1.0)],
    "cbrt": [(INF, 0.0), (0.0, INF)],
    "erf_inv": [(1.0, INF), (-1.0, INF)],
    "erfc": [(-INF, 0.0), (INF, 0.0), (-3e38, 0.0)],
    "gelu": [(-INF, 0.0), (INF, 1.0), (-3e38, 0.0), (3e38, 1.0), (0.0, 0.5)],
    "sin": [(0.0, 1.0)],
    "cos": [(0.0, 0.0)],
    "sqrt": [(0.0, INF), (INF, 0.0)],
    "rsqrt": [(0.0, -INF)],
    "reciprocal": [(INF, 0.0), (0.0, -INF)],
}


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_slope_at_the_edges_of_the_range(name: str, fmt: str):
    """Finite wherever the real slope or its limit is; infinite, never NaN, where that is infinite."""
    x, want = np.array(SLOPES_AT_EDGES[name], np.float32).T
    got = np.asarray(jax.vmap(jax.grad(getattr(SPECIAL[name], fmt)))(x))
    np.testing.assert_allclose(np.abs(got), np.abs(want), rtol=1e-6)
    np.testing.assert_array_equal(np.sign(got), np.sign(want))


def _complex_sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


@pytest.mark.parametrize(
    "name, holomorphic",
    [
        ("sigmoid", lambda v: -_complex_sigmoid(-v)),
        ("silu", lambda v: -v * _complex_sigmoid(-v)),
        ("tanh", lambda v: -2 * _complex_sigmoid(-2 * v)),
    ],
)
def test_slope_keeps_its_relative_accuracy_in_the_tails(name: str, holomorphic: Callable):
    """Where 1 - tanh**2 and its like would cancel: against a complex step on a form that does not.

    sigmoid and tanh have even slopes; those of silu at x and -x add up to one.
    """
    x = np.array([6.0, 8.0, 20.0], np.float32)
    want = holomorphic(x.astype(np.float64) + 1e-30j).imag / 1e-30
    roads = {"sigmoid": (x, -x), "tanh": (x, -x), "silu": (-x,)}[name]
    for points in roads:
        sign = -1 if name == "silu" else 1
        np.testing.assert_allclose(jax.vmap(jax.grad(SPECIAL[name].fp32))(points), sign * want, rtol=1e-5)
