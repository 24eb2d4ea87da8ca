"""Random programs of moves between products and maps: plain JAX's elements, whatever is fused, cut or tiled."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from tests.rooms.compiler.samples import assert_same, small, turns

Step = Callable[[jax.Array], jax.Array]


def _slice(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    step, first = int(rng.integers(1, 3)), int(rng.integers(0, 4))
    return (lambda x: x[first::step]) if rng.random() < 0.5 else (lambda x: x[:, : x.shape[1] - first])


def _pad(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    edges = [tuple(int(n) for n in rng.integers(-1, 3, 2)) + (int(rng.integers(0, 2)),), (0, 0, 0)]
    edges, value = edges[:: int(rng.choice([-1, 1]))], rng.normal()
    return lambda x: jax.lax.pad(x, np.asarray(value, x.dtype), edges)


def _reverse(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    axis = int(rng.integers(2))
    return lambda x: jnp.flip(x, axis)


def _transpose(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    return lambda x: x.T


def _join(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    axis = int(rng.integers(2))
    return lambda x: jnp.concatenate([x, -x[::-1] if axis else x[:3]], axis)


def _take(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    axis = int(rng.integers(2))
    places = np.asarray(rng.integers(-3, shape[axis] + 2, 9), np.int32)
    return lambda x: jnp.take(x, places, axis, mode="clip")


def _put(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    places = np.asarray(rng.integers(0, shape[0], 4), np.int32)
    return lambda x: x.at[places].max(x[:4])


def _update(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    first = np.int32(rng.integers(-2, shape[0]))
    return lambda x: jax.lax.dynamic_update_slice(x, x[:3] * 2, (jnp.asarray(first), 0))


def _dynamic(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    first = np.int32(rng.integers(-2, shape[1]))
    return lambda x: jax.lax.dynamic_slice_in_dim(x, jnp.asarray(first), x.shape[1] - 2, 1)


def _window(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    return lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 1), (1, 1), "VALID")


def _map(rng: np.random.Generator, shape: tuple[int, int]) -> Step:
    return lambda x: abs(x) * 0.5


STEPS = (_slice, _pad, _reverse, _transpose, _join, _take, _put, _update, _dynamic, _window, _map)


def random_moves(seed: int) -> tuple[Step, jax.Array]:
    """Six steps on a matrix; plain JAX rounds the results of none of them in another way."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.standard_normal(rng.integers(18, 28, 2)), jnp.bfloat16)
    steps: list[Step] = []
    shape: Any = x.shape
    for i in rng.choice(len(STEPS), 6):
        steps.append(STEPS[i](rng, shape))
        shape = jax.eval_shape(steps[-1], jax.ShapeDtypeStruct(shape, x.dtype)).shape
    return (lambda x: reduce(lambda value, step: step(value), steps, x)), x


@pytest.mark.parametrize("seed", [pytest.param(i, marks=pytest.mark.full if i > 3 else ()) for i in range(60)])
def test_moves(seed: int):
    fn, x = random_moves(seed)
    with jax.numpy_dtype_promotion("standard"):
        want = fn(x)
        unfused = rdu.compile(fn, x, machine="sn40l", fusion="none")
        tiled = rdu.compile(fn, x, machine=small().replace({"pmu.count": 40}))
    one = unfused.replace(fusion=rdu.cut_after())
    for program in (unfused, one, tiled):
        assert_same(program(x), want)
        assert program.tally(x) == program.predicted_counts()
    assert_same(jax.jit(lambda x: tiled.execute(x, executor="scan"))(x), want, str(turns(tiled.plan)))
