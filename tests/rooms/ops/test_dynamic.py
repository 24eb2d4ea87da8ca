"""Slices at places that only the run knows: values, places beyond the ends, types, the axes that stay whole."""

import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import FormatError, ShapeError
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.ops.dynamic import DynamicSlice, DynamicUpdate
from rdujax.ops.op import TensorType
from tests.rooms.ops.works import assert_walks

PLACE = TensorType((), INT32)
# Shape, axes in any order and how much of each; one element, all of an axis, no axis, every axis.
SLICES = [
    ((5, 4, 3), (1,), (2,)),
    ((5, 4, 3), (2, 0), (1, 3)),
    ((5, 4, 3), (0, 1, 2), (5, 1, 2)),
    ((6,), (0,), (4,)),
    ((2, 3), (), ()),
]


def places(rng: np.random.Generator, shape, axes, sizes):
    """Starts within, at both ends, and beyond them."""
    ends = [shape[a] - n for a, n in zip(axes, sizes, strict=True)]
    drawn = [[int(p) for p in rng.integers(-4, 9, len(axes))] for _ in range(4)]
    return [[0] * len(axes), ends, [end + 1 for end in ends], [-1] * len(axes), *drawn]


def moved(start: int, length: int, size: int) -> int:
    """Where a slice begins that must lie within: as near to `start` as that allows."""
    return min(range(length - size + 1), key=lambda place: abs(place - start))


@pytest.mark.parametrize(("shape", "axes", "sizes"), SLICES)
def test_a_slice_is_moved_until_it_lies_within(shape, axes, sizes, rng):
    op, x = DynamicSlice(axes, sizes), rng.integers(0, 99, shape).astype(np.int32)
    for starts in places(rng, shape, axes, sizes):
        at = [slice(None)] * len(shape)
        for axis, size, start in zip(axes, sizes, starts, strict=True):
            first = moved(start, shape[axis], size)
            at[axis] = slice(first, first + size)
        operands = (x, *(np.int32(s) for s in starts))
        assert np.array_equal(op.reference(*operands), x[tuple(at)])
        assert np.array_equal(op.tile(INT32, *map(jnp.asarray, operands)), x[tuple(at)])
    assert op.infer(TensorType(shape, BF16), *[PLACE] * len(axes)) == TensorType(x[tuple(at)].shape, BF16)
    assert op.walks(shape, *[()] * len(axes))[0] == tuple(a if a not in axes else None for a in range(len(shape)))
    assert_walks(op, operands, x[tuple(at)])


@pytest.mark.parametrize(("shape", "axes", "sizes"), SLICES)
def test_an_update_is_moved_until_it_lies_within(shape, axes, sizes, rng):
    op, x = DynamicUpdate(axes), rng.integers(0, 99, shape).astype(np.int32)
    size = dict(zip(axes, sizes, strict=True))
    update = rng.integers(100, 199, [size.get(a, n) for a, n in enumerate(shape)]).astype(np.int32)
    for starts in places(rng, shape, axes, sizes):
        first = {a: moved(start, shape[a], size[a]) for a, start in zip(axes, starts, strict=True)}
        want = x.copy()
        for at in np.ndindex(*update.shape):
            want[tuple(i + first.get(a, 0) for a, i in enumerate(at))] = update[at]
        operands = (x, update, *(np.int32(s) for s in starts))
        assert np.array_equal(op.reference(*operands), want)
        assert np.array_equal(op.tile(INT32, *map(jnp.asarray, operands)), want)
    kinds = (TensorType(shape, BF16), TensorType(update.shape, BF16))
    assert op.infer(*kinds, *[PLACE] * len(axes)) == TensorType(shape, BF16)
    whole = tuple(a if a not in axes else None for a in range(len(shape)))
    assert op.walks(shape, update.shape, *[()] * len(axes))[:2] == (whole, whole)
    assert_walks(op, operands, want)


@pytest.mark.parametrize(
    ("op", "operands", "error", "text"),
    [
        (DynamicSlice((0,), (4,)), [TensorType((3,), BF16), PLACE], ShapeError, "a slice that does not fit"),
        (DynamicSlice((0,), (4,)), [TensorType((3, 2), BF16), PLACE], ShapeError, "a slice that does not fit"),
        (DynamicSlice((0,), (0,)), [TensorType((3,), BF16), PLACE], ShapeError, "a slice that does not fit"),
        (DynamicSlice((0, 1), (1, 1)), [TensorType((3, 3), BF16), PLACE], FormatError, "2 scalars of int32"),
        (DynamicSlice((0,), (1,)), [TensorType((3,), BF16), TensorType((), FP32)], FormatError, "places of a slice"),
        (DynamicSlice((0,), (1,)), [TensorType((3,), BF16), TensorType((1,), INT32)], FormatError, "places of a slice"),
        (DynamicUpdate((0,)), [TensorType((3, 2), BF16), TensorType((4, 2), BF16), PLACE], ShapeError, "does not fit"),
        (DynamicUpdate((0,)), [TensorType((3, 2), BF16), TensorType((3, 1), BF16), PLACE], ShapeError, "does not fit"),
        (DynamicUpdate((0,)), [TensorType((3, 2), BF16), TensorType((3,), BF16), PLACE], ShapeError, "does not fit"),
        (DynamicUpdate((0,)), [TensorType((3, 2), BF16), TensorType((3, 2), FP32), PLACE], ShapeError, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(op, operands, error, text):
    with pytest.raises(error, match=text):
        op.infer(*operands)


def test_the_largest_slice_and_update_fit():
    x = TensorType((3, 2), BF16)
    assert DynamicSlice((0,), (3,)).infer(x, PLACE) == DynamicUpdate((0,)).infer(x, x, PLACE) == x


def test_their_places_are_operands_and_their_names_say_what_they_take():
    slice_, update = DynamicSlice((2, 0), (1, 3)), DynamicUpdate((2, 0))
    assert (slice_.places_of(3), update.places_of(4)) == ((1, 2), (2, 3))
    assert (str(slice_), str(update)) == ("dynamic_slice[2:1,0:3]", "dynamic_update_slice[2,0]")
