"""Reductions (N9) against the integer softfloat: halving trees, lanes in time order, order-based extrema."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import reduce
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import assert_same_bits, raw

TREES = {"tree_sum": sf.tree_sum, "tree_max": sf.tree_max, "tree_min": sf.tree_min}
LENGTHS = [*range(1, 34), 63, 64, 100, 127, 128, 129]


def _scan(op: Callable, x: np.ndarray) -> jax.Array:
    return jax.jit(lambda rows: jax.lax.scan(lambda carry, row: (carry, op(row)), 0, rows)[1])(x)


ROADS = {
    "jit": harness.jit,
    "eager": harness.eager,
    "without_jit": harness.without_jit,
    "constants": harness.constants,
    "vmap": lambda op, x: jax.jit(jax.vmap(op))(x),
    "scan": _scan,
}


ROADS_OF_TREES = [("tree_sum", road) for road in ROADS] + [("tree_max", "constants"), ("tree_min", "constants")]
REST = [(name, road) for name in TREES for road in ROADS if (name, road) not in ROADS_OF_TREES]


@pytest.mark.parametrize(("name", "road"), [*ROADS_OF_TREES, *harness.in_full(*REST)])
def test_trees(name: str, road: str):
    """Rows of length 100, of every kind, on every road."""
    for seed, kind in enumerate(vectors.KINDS):
        x = vectors.carriers(kind, (24, 100), seed)
        got = ROADS[road](partial(getattr(reduce, name), axis=-1), raw(x))
        assert_same_bits(got, TREES[name](x), note=f"{name} {road} {kind}")


@pytest.mark.parametrize("name", TREES)
def test_lengths(name: str):
    """Odd lengths, powers of two and their neighbours."""
    rows = [vectors.carriers("normal", (3, n), n) for n in LENGTHS]
    rows += [vectors.carriers("bits", (3, n), n) for n in range(1, 9)]
    got = jax.jit(lambda values: [getattr(reduce, name)(v, -1) for v in values])([raw(v) for v in rows])
    for x, value in zip(rows, got, strict=True):
        assert_same_bits(value, TREES[name](x), note=f"{name} of {x.shape[-1]}")


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("name", TREES)
def test_axes(name: str, axis: int):
    x = vectors.carriers("normal", (5, 12, 7), axis + 3)
    assert_same_bits(jax.jit(partial(getattr(reduce, name), axis=axis))(raw(x)), TREES[name](x, axis=axis))


@pytest.mark.parametrize("name", TREES)
def test_a_row_alone(name: str):
    """A row's bits do not depend on how many rows there are."""
    x = vectors.carriers("normal", (64, 128), 3)
    op = jax.jit(partial(getattr(reduce, name), axis=-1))
    want = TREES[name](x)
    for rows in (1, 2, 3, 17, 63):
        assert_same_bits(op(raw(x[:rows])), want[:rows], note=f"{rows} rows")
    assert_same_bits(op(raw(x[9])), want[9], note="one row without an axis")


def _lane_sum(x: np.ndarray, lanes: int) -> np.ndarray:
    """Each lane adds its own values in time order, then the halving tree over the lanes."""
    columns = [
        sf.chain([x[..., i] for i in range(lane, x.shape[-1], lanes)]) for lane in range(min(lanes, x.shape[-1]))
    ]
    padding = [np.full(x.shape[:-1], 0x80000000, np.uint32)] * (lanes - len(columns))
    return sf.tree_sum(np.stack([*columns, *padding], axis=-1))


@pytest.mark.parametrize("lanes", [2, 3, 16, *harness.in_full(1, 8, 32)])
@pytest.mark.parametrize("length", [15, 100, *harness.in_full(1, 2, 16, 33)])
def test_lane_sum(length: int, lanes: int):
    """Lengths that do and do not divide into the lanes, all kinds of values."""
    for kind in vectors.KINDS:
        x = vectors.carriers(kind, (7, length), length + lanes)
        got = jax.jit(partial(reduce.lane_sum, axis=-1, lanes=lanes))(raw(x))
        assert_same_bits(got, _lane_sum(x, lanes), note=f"{kind} {length} {lanes}")


@pytest.mark.parametrize("road", ROADS)
def test_lane_sum_roads(road: str):
    for seed, kind in enumerate(vectors.KINDS):
        x = vectors.carriers(kind, (5, 75), seed)
        got = ROADS[road](lambda v: reduce.lane_sum(v, -1, lanes=8), raw(x))
        assert_same_bits(got, _lane_sum(x, 8), note=f"{road} {kind}")


def test_sum_of_products_is_not_a_library_dot():
    """A product feeding a reduction is rounded first; XLA likes to turn this into a dot."""
    from rdujax.numerics import arithmetic

    a, b = vectors.carriers("normal", (6, 50), 1), vectors.carriers("normal", (50, 9), 2)
    got = jax.jit(lambda p, q: reduce.tree_sum(arithmetic.mul(p[:, :, None], q[None]), 1))(raw(a), raw(b))
    assert_same_bits(got, sf.tree_sum(sf.mul(a[:, :, None], b[None]), axis=1))


@pytest.mark.parametrize("mode", [harness.jit, harness.eager, harness.constants], ids=lambda f: f.__name__)
def test_integers(mode):
    rng = np.random.default_rng(4)
    x = rng.integers(-(2**31), 2**31, (6, 100)).astype(np.int32)
    assert_same_bits(mode(lambda v: reduce.integer_sum(v, 1), x), sf.wrap(x.sum(1, dtype=np.int64)))
    assert_same_bits(mode(lambda v: reduce.integer_max(v, 0), x), x.max(0))
    assert_same_bits(mode(lambda v: reduce.integer_min(v, 1), x), x.min(1))
    for axis, length in ((0, 6), (1, 1), (1, 7), (1, 100)):
        y = x[:, :length]
        assert_same_bits(mode(lambda v: reduce.integer_and(v, axis), y), np.bitwise_and.reduce(y, axis))  # noqa: B023
        assert_same_bits(mode(lambda v: reduce.integer_or(v, axis), y), np.bitwise_or.reduce(y, axis))  # noqa: B023
        assert_same_bits(mode(lambda v: reduce.integer_xor(v, axis), y), np.bitwise_xor.reduce(y, axis))  # noqa: B023


@pytest.mark.parametrize("steps", [0, 1, 2, 15, 16, 17, 40])
def test_sums_in_time(steps: int):
    """Accumulators take one value after the other, unrolled or looped."""
    for kind in vectors.KINDS:
        x = vectors.carriers(kind, (steps + 1, 9), steps)
        got = jax.jit(reduce.time_sum)(raw(x[0]), raw(x[1:]))
        assert_same_bits(got, sf.chain(list(x)), note=f"{kind} {steps}")


def test_vmap_over_the_last_axis():
    """Batching over another axis than the first."""
    x = vectors.carriers("bits", (40, 6), 5)
    got = jax.jit(jax.vmap(lambda v: reduce.tree_sum(v, 0), in_axes=1))(jnp.asarray(raw(x)))
    assert_same_bits(got, sf.tree_sum(x, axis=0))
