"""Reductions against softfloat: each lane adds its own values in time, then the tree; any tiles, any executor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, UnknownNameError
from rdujax.ledger.counts import total
from rdujax.machines import sn40l, tiny
from rdujax.numerics import reduce
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout, tiled, whole
from rdujax.streams.stream import untile
from rdujax.units.pcu import lanes
from rdujax.units.pcu.lanes import Reducer, cycles, drain, init, predict, reduce_rows, step
from tests.oracles import softfloat, vectors
from tests.oracles.harness import assert_same_bits, raw
from tests.rooms.units.compiles import assert_compiles_once
from tests.rooms.units.streams_of import carriers, stream_of

COMBINE = {"sum": softfloat.add, "max": softfloat.maximum, "min": softfloat.minimum}
IDENTITY = {"sum": 0x80000000, "max": 0xFF800000, "min": 0x7F800000}
INTEGER = {
    "sum": np.add, "max": np.maximum, "min": np.minimum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


def in_time(name: str, bits: np.ndarray, count: int) -> np.ndarray:
    """[*rows, n] patterns -> [*rows, count]: lane l combines its own values one after the other."""
    columns = []
    for lane in range(count):
        value = np.full(bits.shape[:-1], IDENTITY[name], np.uint32)
        for i in range(lane, bits.shape[-1], count):
            value = COMBINE[name](value, bits[..., i])
        columns.append(value)
    return np.stack(columns, axis=-1)


def oracle(name: str, bits: np.ndarray, count: int, tree: bool = True) -> np.ndarray:
    """The law, from bits to bits."""
    each = in_time(name, bits, count)
    return softfloat.halving_tree(each, COMBINE[name], IDENTITY[name]) if tree else each


LAYOUTS = [
    whole((3, 4, 22)),
    tiled((3, 4, 22), (1, 3, 4), (2, 0, 1)),
    tiled((3, 4, 22), (2, 2, 16), (1, 2, 0)),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", COMBINE)
def test_bits_of_floats_are_those_of_the_law_however_cut(name: str, layout: Layout):
    for tree in (True, False):
        config = Reducer(name, 4, tree)
        run = jax.jit(lambda s: reduce_rows(config, s, how="vmap"))  # noqa: B023
        for kind in ("normal", "specials", "tiny"):
            bits = vectors.carriers(kind, layout.shape, 3)
            stream, counts = run(stream_of(raw(bits), layout, FP32))
            assert stream.layout == config.layout(layout) and stream.fmt is FP32
            assert_same_bits(untile(stream), oracle(name, bits, 4, tree), note=f"{kind} {tree}")
            assert total(counts) == predict(config, layout.shape, FP32)


def test_executors_formats_and_words_at_rest_agree(rng):
    layout = tiled((5, 19), (2, 8), (1, 0))
    x = carriers(rng, layout.shape, BF16)
    want = oracle("sum", x.view(np.uint32), 8)
    for how in ("vmap", "scan"):
        for packed in (False, True):
            run = jax.jit(lambda s: reduce_rows(Reducer("sum", 8), s, how=how))  # noqa: B023
            stream, counts = run(stream_of(x, layout, BF16, packed=packed))
            assert_same_bits(untile(stream), want, note=f"{how} {packed}")
            assert total(counts) == predict(Reducer("sum", 8), layout.shape, BF16)
    rounded, _ = reduce_rows(Reducer("sum", 8), stream_of(x, layout, BF16), BF16, how="vmap")
    assert rounded.fmt is BF16
    assert_same_bits(untile(rounded), softfloat.to_bf16(want))
    assert_same_bits(untile(stream), np.asarray(reduce.lane_sum(jnp.asarray(x), -1, 8)).view(np.uint32))


@pytest.mark.parametrize("name", INTEGER)
def test_integers_wrap_and_combine_bit_by_bit(name: str, rng):
    x = carriers(rng, (5, 21), INT32)
    for layout in (whole(x.shape), tiled(x.shape, (3, 6))):
        stream, counts = jax.jit(lambda s: reduce_rows(Reducer(name, 3), s, how="vmap"))(stream_of(x, layout, INT32))
        assert_same_bits(untile(stream), INTEGER[name].reduce(x, axis=-1, dtype=np.int32))
        assert total(counts) == predict(Reducer(name, 3), x.shape, INT32)


def test_the_order_shows_where_it_matters():
    """1e8 + 1 - 1e8: whether the one survives depends on which lane it meets whom in."""
    x = np.zeros((1, 8), np.float32)
    x[0, [0, 4, 1]] = 1e8, -1e8, 1
    by_lanes = {
        n: float(untile(reduce_rows(Reducer("sum", n), streams.tile(jnp.asarray(x), fmt=FP32))[0])[0]) for n in (1, 4)
    }
    assert by_lanes == {1: 0.0, 4: 1.0}


def test_one_lane_adds_in_time_and_as_many_as_values_make_the_tree(rng):
    x = carriers(rng, (4, 11), FP32)
    stream = stream_of(x, whole(x.shape), FP32)
    assert_same_bits(untile(reduce_rows(Reducer("sum", 1), stream)[0]), softfloat.chain(list(x.T.view(np.uint32))))
    assert_same_bits(untile(reduce_rows(Reducer("sum", 16), stream)[0]), softfloat.tree_sum(x.view(np.uint32)))


def test_rows_of_one_vector_and_scalars_of_a_row(rng):
    x = carriers(rng, (9,), FP32)
    stream, counts = reduce_rows(Reducer("sum", 4), stream_of(x, tiled((9,), (4,)), FP32), how="scan")
    assert stream.shape == () and total(counts) == predict(Reducer("sum", 4), (9,), FP32)
    assert_same_bits(untile(stream), oracle("sum", x.view(np.uint32), 4))


def test_state_is_carried_from_tile_to_tile(rng):
    """The lanes after two tiles are those after one tile of both."""
    config, x = Reducer("sum", 4), carriers(rng, (2, 12), FP32)
    state = init(config, (2,), FP32)
    for tile in (x[:, :8], x[:, 8:]):
        state, _ = step(config, state, jnp.asarray(tile), jnp.asarray(tile.shape, jnp.int32))
    assert int(state.seen) == 12
    assert_same_bits(state.lanes, in_time("sum", x.view(np.uint32), 4))
    value, _ = drain(config, state, jnp.asarray((2, 12), jnp.int32))
    assert_same_bits(value, oracle("sum", x.view(np.uint32), 4))


def test_poison_stays_outside_and_never_reaches_a_gradient(rng):
    layout = tiled((5, 11), (2, 4))
    x = jnp.asarray(carriers(rng, layout.shape, FP32))
    for name in COMBINE:

        def loss(v):
            row, _ = reduce_rows(Reducer(name, 4), streams.tile(v, layout.tile, fmt=FP32), how="vmap")  # noqa: B023
            return untile(row)

        assert np.isfinite(loss(x)).all()
        slope = jax.jit(jax.jacrev(loss))(x)
        assert np.isfinite(slope).all()
        want = np.ones(x.shape) if name == "sum" else None
        summed = np.asarray(slope.sum(0))
        if want is not None:
            np.testing.assert_array_equal(summed, want)
        else:
            np.testing.assert_allclose(summed.sum(1), 1.0)
            best = {"max": np.argmax, "min": np.argmin}[name](np.asarray(x), axis=1)
            assert (summed[np.arange(5), best] > 0).all()
    row, _ = reduce_rows(Reducer("sum", 4), streams.tile(x, layout.tile, fmt=FP32), how="vmap")
    assert np.isnan(row.data[-1, 1])


INF = float("inf")


@pytest.mark.parametrize(
    ("name", "row", "count", "want"),
    [
        ("max", [1, 1, 1], 2, [1 / 3] * 3),
        ("min", [1, 2, 1, 3, 1, 1, 1], 4, [0.2, 0, 0.2, 0, 0.2, 0.2, 0.2]),
        ("max", [3, 3, 1], 4, [0.5, 0.5, 0]),
        ("min", [-0.0, 0.0, -0.0], 2, [0.5, 0, 0.5]),
        ("max", [-INF, -INF], 4, [0.5, 0.5]),
        ("min", [INF] * 5, 2, [0.2] * 5),
        ("max", [float("nan"), 1, float("nan")], 2, [0.5, 0, 0.5]),
    ],
)
def test_equals_share_a_derivative_evenly_and_identities_have_no_share(name, row, count, want):
    """Whatever lane and tile a value is in: a lane holds the identity before its first value and beyond the row."""
    tile = (1, min(len(row), count))
    along = jnp.arange(1.0, len(row) + 1, dtype=jnp.float32)[None]

    def reduced(v):
        return untile(reduce_rows(Reducer(name, count), streams.tile(v, tile, fmt=FP32), how="vmap")[0])[0]

    x = jnp.asarray([row], jnp.float32)
    slope, change = jax.jit(lambda v: (jax.grad(reduced)(v), jax.jvp(reduced, (v,), (along,))[1]))(x)
    np.testing.assert_allclose(slope, [want], rtol=1e-6)
    np.testing.assert_allclose(change, np.dot(want, along[0]), rtol=1e-6)


def test_without_the_tree_each_lane_shares_among_its_own_values():
    stream = lambda v: streams.tile(v, fmt=FP32)  # noqa: E731
    lane_of = jax.jacrev(lambda v: untile(reduce_rows(Reducer("max", 4, tree=False), stream(v))[0])[0])
    slopes = jax.jit(lane_of)(jnp.asarray([[2.0, -INF, 5, 0, 2, -INF]]))[:, 0]
    np.testing.assert_array_equal(
        slopes, [[0.5, 0, 0, 0, 0.5, 0], [0, 0.5, 0, 0, 0, 0.5], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    )
    alone = jax.jit(lane_of)(jnp.asarray([[2.0, 3.0]]))[:, 0]
    np.testing.assert_array_equal(alone, [[1, 0], [0, 1], [0, 0], [0, 0]])  # two lanes hold nothing but the identity


def test_an_eager_call_compiles_once(rng):
    layout = tiled((5, 16), (2, 8))
    stream = stream_of(carriers(rng, layout.shape, FP32), layout, FP32)
    assert_compiles_once(lambda: reduce_rows(Reducer("sum", 4), stream, how="vmap"))
    assert_compiles_once(lambda: reduce_rows(Reducer("max", 4), stream, how="scan"))


def test_hessians_and_jvps_pass(rng):
    from rdujax.numerics.functions import apply

    x = jnp.asarray(rng.normal(size=(2, 6)).astype(np.float32))

    def energy(v):
        squares = streams.tile(apply("square", FP32, v), (1, 4), fmt=FP32)
        return untile(reduce_rows(Reducer("sum", 4), squares, how="vmap")[0]).sum()

    np.testing.assert_allclose(jax.jit(jax.hessian(energy))(x).reshape(12, 12), 2 * np.eye(12))
    slope = jax.jit(lambda v: jax.jvp(energy, (v,), (jnp.ones_like(v),))[1])(x)
    assert slope == pytest.approx(float(2 * x.sum()), rel=1e-5)


def test_cycles_are_those_of_a_pipeline_walked_cycle_by_cycle():
    """One vector enters per cycle and moves on by one stage, then up the tree: when does the last row leave?"""
    for config in (tiny().pcu, sn40l().pcu):
        for rows, width, fmt, tree in (
            (1, 1, BF16, True),
            (3, 37, FP32, True),
            (3, 37, BF16, False),
            (2, 64, INT32, True),
        ):
            lane_count = (config.lanes_bf16 if fmt is BF16 else config.lanes_32bit).value
            entered = sum(-(-width // lane_count) for _ in range(rows))
            cycle = entered - 1 + config.simd_stages.value
            height = 0
            while tree and 2**height < lane_count:
                height += 1
            assert cycles(config, fmt, rows, width, tree) == cycle + height
    relaxed = jax.tree.map(jnp.float32, tiny().pcu)
    slope = jax.grad(lambda c: cycles(c, BF16, 3, 64))(relaxed)
    assert cycles(relaxed, BF16, 3, 64) == cycles(tiny().pcu, BF16, 3, 64)
    assert slope.lanes_bf16.value < 0 and slope.simd_stages.value == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 31, 32, 33])
def test_the_height_of_the_tree(count: int):
    want = int(np.ceil(np.log2(count)))
    assert lanes.tree_cycles(count) == want == float(lanes.tree_cycles(jnp.float32(count)))


def test_what_does_not_fit_is_refused(rng):
    stream = stream_of(carriers(rng, (4, 10), FP32), tiled((4, 10), (2, 6)), FP32)
    with pytest.raises(ShapeError, match=r"within a vector\n  given:   4x10/2x6@01, 4 lanes\n  allowed: a multiple"):
        reduce_rows(Reducer("sum", 4), stream)
    with pytest.raises(UnknownNameError, match="unknown reduction"):
        reduce_rows(Reducer("product", 2), stream)
    with pytest.raises(FormatError, match="does not have\n  given:   fp32\n  allowed: int32\n  where:   xor"):
        reduce_rows(Reducer("xor", 2), stream)
    with pytest.raises(FormatError, match="allowed: bf16, fp32, int32"):
        Reducer("sum", 2).form(BOOL)
    with pytest.raises(ArgumentError, match="too few lanes"):
        Reducer("sum", 0)
    with pytest.raises(ShapeError, match="no axis to reduce"):
        reduce_rows(Reducer("sum", 2), streams.tile(jnp.float32(1), fmt=FP32))
