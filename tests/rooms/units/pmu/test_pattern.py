"""Address streams of tensors: what they read from a flat memory is what the layout and the access pattern say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ShapeError
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout, tiled, whole
from rdujax.units.pmu import address, alignment, expression, pattern
from tests.oracles.harness import in_full, patterns
from tests.rooms.units.streams_of import carriers

LAYOUTS = [
    tiled((8, 8), (2, 4)),
    tiled((8, 8), (4, 2), (1, 0)),
    tiled((5, 7), (2, 3), (1, 0)),
    tiled((5, 7), (2, 7)),
    tiled((6,), (4,)),
    tiled((3, 4, 10), (2, 3, 6), (2, 0, 1)),
    tiled((1, 9), (1, 5)),
    whole((3, 1, 5)),
]


def delivered(memory: np.ndarray, layout: Layout, lanes: int, fmt, **options) -> np.ndarray:
    """The tiles that the stream of a layout reads from a flat memory, [n_tiles, *tile]."""
    at, valid = address.static(pattern.of_layout(layout, lanes, **options))
    read = np.asarray(jax.jit(lambda m: alignment.gather(m, at, fmt, valid))(memory))
    width = min(lanes, layout.tile[-1])
    rows = read.reshape(layout.n_tiles, *layout.tile[:-1], -(-layout.tile[-1] // width) * width)
    return rows[..., : layout.tile[-1]]


@pytest.mark.parametrize(("lanes", "fmt"), [(2, BF16), (4, INT32), *in_full((1, INT32), (16, BF16))], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tiles_come_in_the_order_of_the_layout_and_poison_beyond_it(rng, layout, lanes, fmt):
    x = carriers(rng, layout.shape, fmt)
    want = jax.jit(lambda x: streams.cut(x, layout, fmt))(x)
    got = delivered(x.reshape(-1), layout, lanes, fmt)
    assert np.array_equal(patterns(got), patterns(want))


@pytest.mark.parametrize("layout", [tiled((7, 5), (3, 2)), tiled((7, 5), (2, 4), (1, 0)), whole((7, 5))], ids=str)
def test_a_transposed_read_permutes_the_strides(rng, layout):
    x = carriers(rng, (5, 7), FP32)
    got = delivered(x.reshape(-1), layout, 2, FP32, strides=(1, 7))
    assert np.array_equal(patterns(got), patterns(streams.cut(jnp.asarray(x.T), layout, FP32)))


@pytest.mark.parametrize("layout", [tiled((3, 5), (2, 5)), tiled((3, 5), (3, 2)), whole((3, 5))], ids=str)
def test_a_broadcast_steps_by_nothing_and_an_offset_by_itself(rng, layout):
    x = carriers(rng, (9,), FP32)
    rows = delivered(x, layout, 4, FP32, strides=(0, 1), offset=2)
    assert np.array_equal(rows, streams.cut(jnp.broadcast_to(x[2:7], (3, 5)), layout, FP32), equal_nan=True)
    columns = delivered(x, layout, 4, FP32, strides=(1, 0), offset=4)
    spread = np.repeat(x[4:7, None], 5, axis=1)
    assert np.array_equal(columns, streams.cut(jnp.asarray(spread), layout, FP32), equal_nan=True)


def test_strides_are_those_of_row_major_arrays():
    for shape in [(3,), (2, 5), (4, 1, 6)]:
        want = tuple(s // 8 for s in np.zeros(shape).strides)
        assert pattern.row_major(shape) == want


def test_affine_is_the_sum_of_products():
    built = pattern.affine((3, 0, 1, -2), offset=-7)
    turns = np.random.default_rng(3).integers(0, 50, (4, 20)).astype(np.int32)
    want = 3 * turns[0] + turns[2] - 2 * turns[3] - 7
    assert np.array_equal(expression.evaluate(built, list(turns)), want)
    assert expression.evaluate(pattern.affine(()), ()).item() == 0
    assert expression.stages(pattern.affine((1, 1))) == 1 and expression.stages(pattern.affine((0, 1))) == 0


def test_tiles_that_divide_take_one_sum_per_counter_and_no_predicate():
    generator = pattern.of_layout(tiled((8, 8, 8), (2, 4, 4)), lanes=2)
    assert generator.predicate is None and address.stages_of(generator) == 4
    assert str(generator) == "c0<4 c1<2 c2<2 c3<2 c4<4 c5<2 c6<2: ((c0 + c3) + (c1 + c4)) + ((c2 + c5) + c6)"


def test_a_scalar_has_no_lanes():
    with pytest.raises(ShapeError, match="no axis to run lanes along"):
        pattern.of_layout(whole(()), lanes=4)


def test_a_layout_without_lanes_or_with_other_strides_is_refused():
    layout = tiled((4, 6), (2, 4))
    for lanes in (0, -3):
        with pytest.raises(ArgumentError, match=f"lanes={lanes}\n.*1 or more\n.*address stream of a layout"):
            pattern.of_layout(layout, lanes)
    for strides in ((6,), (1, 6, 2)):
        with pytest.raises(ShapeError, match=r"2, one for each axis of .*\n.*address stream of a layout"):
            pattern.of_layout(layout, 4, strides=strides)
