"""Streams: cutting and joining keep every element, poison lies in the tails and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ShapeError
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, INT32
from rdujax.streams import stream as streams
from rdujax.streams.access import Reshape, Transpose
from rdujax.streams.layout import Layout, tiled, whole
from rdujax.streams.stream import POISON, POISON_WORD, Stream
from tests.rooms.streams.layouts import places, random_layout, shape_of_rank

RANKS = range(5)


def numbered(shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """Distinct small numbers, exact in every format."""
    return (np.arange(np.prod(shape, dtype=int)) % 251 + 1).reshape(shape).astype(dtype)


def cut_by_hand(x: np.ndarray, layout: Layout, poison) -> np.ndarray:
    """The tiles of an array, one after another, by slices."""
    tiles = []
    for place in places(layout):
        tile = np.full(layout.tile, poison, x.dtype)
        inside = x[tuple(slice(p * t, (p + 1) * t) for p, t in zip(place, layout.tile, strict=True))]
        tile[tuple(slice(n) for n in inside.shape)] = inside
        tiles.append(tile)
    return np.stack(tiles)


def same(got, want) -> bool:
    """Equal arrays of one dtype, NaN equal to NaN."""
    got = np.asarray(got)
    return got.dtype == want.dtype and np.array_equal(got, want, equal_nan=got.dtype.kind == "f")


@pytest.mark.parametrize("rank", RANKS)
def test_tiles_are_slices_and_poison_fills_the_tails_only(rng, rank):
    for _ in range(4):
        layout = random_layout(rng, shape_of_rank(rng, rank))
        x = numbered(layout.shape)
        cut = streams.cut(jnp.asarray(x), layout, FP32)
        assert same(cut, cut_by_hand(x, layout, np.nan))
        assert np.isnan(cut).sum() == np.prod(layout.padded, dtype=int) - x.size
        assert same(streams.untile(Stream(cut, layout, FP32)), x)


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_every_format_has_its_poison(fmt):
    layout = tiled((5, 3), (2, 2), (1, 0))
    x = numbered((5, 3), fmt.carrier)
    stream = streams.tile(jnp.asarray(x), (2, 2), (1, 0), fmt=fmt)
    assert (stream.layout, stream.fmt, stream.shape, stream.is_packed) == (layout, fmt, (5, 3), False)
    assert same(stream.data, cut_by_hand(x, layout, POISON[fmt]))
    assert same(streams.untile(stream), x)


def test_words_at_rest_stay_words():
    x = numbered((5, 3))
    words = convert.pack(jnp.asarray(x))
    packed = streams.tile(words, (2, 2), fmt=BF16)
    assert packed.is_packed
    assert same(packed.data, cut_by_hand(np.asarray(words), packed.layout, POISON_WORD))
    assert same(streams.untile(packed), np.asarray(words))
    unpacked = streams.carriers(packed)
    assert not unpacked.is_packed
    assert same(unpacked.data, cut_by_hand(x, packed.layout, np.nan))
    assert streams.carriers(unpacked) is unpacked
    assert not streams.tile(words, (2, 2), fmt=INT32).is_packed


@pytest.mark.parametrize("rank", RANKS)
def test_retile_equals_cutting_anew(rng, rank):
    for _ in range(3):
        shape = shape_of_rank(rng, rank)
        old, new = random_layout(rng, shape), random_layout(rng, shape)
        x = jnp.asarray(numbered(shape))
        again = streams.retile(Stream(streams.cut(x, old, FP32), old, FP32), new.tile, new.order)
        assert again.layout == new
        assert same(again.data, cut_by_hand(np.asarray(x), new, np.nan))


def test_retile_to_the_same_layout_is_the_same_stream():
    stream = streams.tile(jnp.asarray(numbered((4, 6))), (3, 2), (1, 0), fmt=FP32)
    assert streams.retile(stream, (3, 2), (1, 0)) is stream


@pytest.mark.parametrize("rank", RANKS)
def test_a_transposed_read_moves_no_tile(rng, rank):
    for _ in range(2):
        layout = random_layout(rng, shape_of_rank(rng, rank))
        permutation = tuple(int(axis) for axis in rng.permutation(rank))
        x = numbered(layout.shape)
        stream = Stream(streams.cut(jnp.asarray(x), layout, FP32), layout, FP32)
        moved = streams.transpose_read(stream, permutation)
        assert same(streams.untile(moved), np.transpose(x, permutation))
        assert [tuple(place) for place in moved.layout.arrivals] == [
            tuple(place[axis] for axis in permutation) for place in places(layout)
        ]
        tiles = np.asarray(stream.data).transpose(0, *(axis + 1 for axis in permutation))
        assert same(moved.data, tiles)


def test_T_reverses_the_axes():
    x = numbered((2, 3, 4))
    assert same(streams.untile(streams.tile(jnp.asarray(x), (1, 2, 3), fmt=FP32).T), x.T)


@pytest.mark.parametrize("permutation", [(0, 0), (0,), (1, 2), (-1, 0)])
def test_a_transposed_read_needs_a_permutation(permutation):
    stream = streams.tile(jnp.asarray(numbered((2, 3))), fmt=FP32)
    with pytest.raises(ShapeError, match=r"not a permutation of the axes\n  given: (.|\n)*of 2 axes"):
        streams.transpose_read(stream, permutation)


def test_read_delivers_a_pattern_in_tiles_of_another_layout(rng):
    x = numbered((6, 4))
    stream = streams.tile(jnp.asarray(x), (4, 3), (1, 0), fmt=FP32)
    layout = random_layout(rng, (2, 2, 6))
    delivered = streams.read(stream, (Transpose((1, 0)), Reshape((2, 2, 6))), layout)
    assert same(delivered.data, cut_by_hand(x.T.reshape(2, 2, 6), layout, np.nan))


def test_read_refuses_what_does_not_fit():
    stream = streams.tile(jnp.asarray(numbered((6, 4))), (4, 3), fmt=FP32)
    with pytest.raises(ShapeError, match="keeps the number of elements"):
        streams.read(stream, (Reshape((5, 5)),), whole((5, 5)))
    with pytest.raises(ShapeError, match=r"the layout is of another tensor\n  given:   array \(4, 6\), layout 6x4"):
        streams.read(stream, (Transpose((1, 0)),), whole((6, 4)))


def test_tile_takes_the_whole_tensor_by_default_and_refuses_what_layouts_refuse():
    x = jnp.asarray(numbered((3, 4)))
    assert streams.tile(x, fmt=FP32).layout == whole((3, 4))
    with pytest.raises(ShapeError, match="different ranks"):
        streams.tile(x, (3,), fmt=FP32)
    with pytest.raises(ShapeError, match="empty tensor"):
        streams.tile(jnp.zeros((0, 4)), fmt=FP32)


def test_streams_pass_through_jit_vmap_and_grad():
    x = jnp.asarray(numbered((2, 5, 3)))

    def there_and_back(each):
        return streams.untile(streams.retile(streams.tile(each, (2, 2), (1, 0), fmt=FP32), (3, 1)).T)

    assert same(jax.jit(jax.vmap(there_and_back))(x), np.asarray(x).transpose(0, 2, 1))
    weights = jnp.asarray(numbered((3, 5)) / 8)
    gradient = jax.grad(lambda each: jnp.vdot(there_and_back(each), weights))(x[0])
    assert same(gradient, np.asarray(weights).T)
    stream = streams.tile(x[0], (2, 2), fmt=FP32)
    leaves, tree = jax.tree.flatten(stream)
    assert len(leaves) == 1 and jax.tree.unflatten(tree, leaves).layout == stream.layout


@pytest.mark.parametrize("fmt", [BF16, FP32, INT32, BOOL], ids=str)
def test_poison_lies_beyond_the_tensor_and_nowhere_else(fmt):
    layout = tiled((3, 5), (2, 4))
    tile = jnp.ones(layout.tile, fmt.carrier)
    for extent in layout.extents:
        got = np.asarray(streams.poisoned(tile, jnp.asarray(extent), layout, fmt))
        want = np.full(layout.tile, POISON[fmt], fmt.carrier)
        want[: extent[0], : extent[1]] = 1
        assert same(got, want)
    even = tiled((4, 8), (2, 4))
    assert same(streams.poisoned(tile, jnp.asarray([1, 1]), even, fmt), np.ones(even.tile, fmt.carrier))


def test_valid_is_true_on_the_extent(rng):
    for rank in RANKS:
        tile = shape_of_rank(rng, rank)
        extent = tuple(int(rng.integers(1, n + 1)) for n in tile)
        mask = np.asarray(streams.valid(jnp.asarray(extent, jnp.int32), tile))
        want = np.zeros(tile, bool)
        want[tuple(slice(n) for n in extent)] = True
        assert same(mask, want)
