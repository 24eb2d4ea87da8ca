"""Access patterns that leave out, add, turn around or repeat elements, against NumPy loops over every element."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdujax.base.errors import ShapeError
from rdujax.streams.access import Pad, Reverse, Slice, Transpose, Window, chain_axes, chain_read, chain_shape

MISSING = -1
SHAPES = st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple)


def offsets(shape):
    return np.arange(int(np.prod(shape, dtype=int)), dtype=np.int32).reshape(shape)


def assert_honest(access, source, delivered):
    """Delivered offsets (`MISSING` where none) agree with what the pattern says of shape and axes, and with JAX."""
    assert access.shape_of(source) == delivered.shape
    assert np.array_equal(access.read(offsets(source)), delivered)
    assert np.array_equal(access.read(jnp.asarray(offsets(source))), delivered)
    claimed = access.axes_of(source)
    assert len(claimed) == delivered.ndim
    walked = []
    for axis, length in enumerate(delivered.shape):
        own = np.arange(length).reshape([-1 if i == axis else 1 for i in range(delivered.ndim)])
        here = delivered != MISSING
        index = np.unravel_index(np.where(here, delivered, 0), source) if source else ()
        along = [i for i, n in enumerate(source) if n == length > 1 and (~here | (index[i] == own)).all()]
        assert length == 1 or claimed[axis] in (None, *along), "an axis is claimed that is not walked"
        walked.append(claimed[axis])
    lost = tuple(i for i, n in enumerate(source) if n > 1 and i not in walked)
    assert access.merged(source) == lost


@st.composite
def slices(draw):
    shape = draw(SHAPES)
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    limit = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return shape, start, limit, tuple(draw(st.integers(1, 4)) for _ in shape)


@given(slices())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_slices(drawn):
    shape, start, limit, stride = drawn
    grid = [range(a, b, step) for a, b, step in zip(start, limit, stride, strict=True)]
    assert_honest(Slice(start, limit, stride), shape, offsets(shape)[np.ix_(*grid)] if shape else offsets(shape))


@st.composite
def pads(draw):
    shape = draw(SHAPES)
    interior = tuple(draw(st.integers(0, 2)) for _ in shape)
    low = tuple(draw(st.integers(-4, 5)) for _ in shape)
    spread = [n + (n - 1) * b for n, b in zip(shape, interior, strict=True)]
    # at least one place stays, perhaps none of the elements
    high = tuple(max(draw(st.integers(-6, 3)), 1 - n - a) for a, n in zip(low, spread, strict=True))
    return shape, low, high, interior


def padded_by_hand(shape, low, high, interior):
    lengths = [a + n + (n - 1) * b + c for a, n, b, c in zip(low, shape, interior, high, strict=True)]
    found = np.full(lengths, MISSING, np.int32)
    for at in product(*(range(n) for n in shape)):
        place = tuple(a + i * (b + 1) for a, i, b in zip(low, at, interior, strict=True))
        if all(0 <= p < n for p, n in zip(place, lengths, strict=True)):
            found[place] = offsets(shape)[at]
    return found


@given(pads())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_pads(drawn):
    assert_honest(Pad(*drawn[1:], MISSING), drawn[0], padded_by_hand(*drawn))


@given(SHAPES, st.data())
@settings(deadline=None, max_examples=30, derandomize=True)
def test_reversals(shape, data):
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1))))) if shape else ()
    assert_honest(Reverse(axes), shape, np.flip(offsets(shape), axes))


@st.composite
def windows(draw):
    shape = draw(SHAPES)
    axes = tuple(sorted(draw(st.sets(st.integers(0, len(shape) - 1))))) if shape else ()
    dilations = tuple(draw(st.integers(1, 2)) for _ in axes)
    sizes = tuple(draw(st.integers(1, (shape[a] - 1) // d + 1)) for a, d in zip(axes, dilations, strict=True))
    return shape, Window(axes, sizes, tuple(draw(st.integers(1, 3)) for _ in axes), dilations)


@given(windows())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_windows(drawn):
    shape, window = drawn
    place = {a: i for i, a in enumerate(window.axes)}
    reach = {a: (window.sizes[i] - 1) * window.dilations[i] for a, i in place.items()}
    positions = [
        range(0, n - reach[a], window.strides[place[a]]) if a in place else range(n) for a, n in enumerate(shape)
    ]
    found = np.zeros((*map(len, positions), *window.sizes), np.int32)
    for out in product(*(range(len(p)) for p in positions)):
        for element in product(*map(range, window.sizes)):
            at = [positions[a][i] for a, i in enumerate(out)]
            for a, i in place.items():
                at[a] += element[i] * window.dilations[i]
            found[(*out, *element)] = offsets(shape)[tuple(at)]
    assert_honest(window, shape, found)


def test_along_a_chain_only_axes_that_stay_whole_are_walked():
    chain = (Transpose((2, 0, 1)), Pad((0, 0, 1), (0, 0, 0), (0, 0, 0), 0), Slice((0, 0, 0), (6, 2, 5), (1, 1, 1)))
    assert chain_shape(chain, (4, 5, 6)) == (6, 2, 5)
    assert chain_axes(chain, (4, 5, 6)) == ((2, None, None), (0, 1))
    x = offsets((4, 5, 6))
    assert np.array_equal(chain_read(chain, x), np.pad(x.transpose(2, 0, 1), ((0, 0), (0, 0), (1, 0)))[:, :2, :5])


def test_padding_of_other_bits_is_another_pattern():
    one = Pad((1,), (0,), (0,), 0.0)
    assert one == Pad((1,), (0,), (0,), 0.0) and hash(one) == hash(Pad((1,), (0,), (0,), 0.0))
    assert one != Pad((1,), (0,), (0,), -0.0)
    assert Pad((1,), (0,), (0,), float("nan")) == Pad((1,), (0,), (0,), float("nan"))


def test_words_at_rest_are_padded_with_the_word():
    words = jnp.asarray([0x3F80, 0x4000], jnp.uint16)
    assert Pad((1,), (1,), (0,), -2.0).read(words).tolist() == [0xC000, 0x3F80, 0x4000, 0xC000]


def test_derivatives_of_windows_add_up_where_they_overlap():
    count = jax.grad(lambda x: Window((0,), (3,), (1,), (1,)).read(x).sum())(jnp.zeros(6))
    assert count.tolist() == [1, 2, 3, 3, 2, 1]


@pytest.mark.parametrize(
    ("access", "text"),
    [
        (Slice((0,), (5,), (1,)), "a slice that does not fit"),
        (Slice((2,), (2,), (1,)), "a slice that does not fit"),
        (Slice((0, 0), (1, 1), (1, 1)), "a slice that does not fit"),
        (Pad((1, 1), (0, 0), (0, 0), 0), "padding of another rank"),
        (Reverse((1,)), "axes to reverse"),
        (Reverse((0, 0)), "axes to reverse"),
        (Window((0,), (5,), (1,), (1,)), "a window that does not fit"),
        (Window((0,), (3,), (1,), (2,)), "a window that does not fit"),
        (Window((1,), (1,), (1,), (1,)), "a window that does not fit"),
        (Window((0,), (2,), (0,), (1,)), "a window that does not fit"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(access, text):
    with pytest.raises(ShapeError, match=text):
        access.shape_of((4,))
