"""Layouts: grids, arrivals, extents, and what is refused."""

import numpy as np
import pytest

from rdujax.base.errors import ShapeError
from rdujax.streams.layout import Layout, tiled, whole
from tests.rooms.streams.layouts import places, random_layout, shape_of_rank


@pytest.mark.parametrize("rank", range(5))
def test_tiles_arrive_like_the_digits_of_an_odometer(rng, rank):
    for _ in range(20):
        layout = random_layout(rng, shape_of_rank(rng, rank))
        assert [tuple(place) for place in layout.arrivals] == places(layout)
        assert layout.arrivals.dtype == layout.extents.dtype == np.int32
        assert layout.n_tiles == len(places(layout))
        assert layout.places.shape == layout.grid
        assert [int(layout.places[place]) for place in places(layout)] == list(range(layout.n_tiles))


@pytest.mark.parametrize("rank", range(1, 5))
def test_extents_partition_the_tensor(rng, rank):
    for _ in range(20):
        layout = random_layout(rng, shape_of_rank(rng, rank))
        seen = np.zeros(layout.shape, int)
        for place, extent in zip(layout.arrivals, layout.extents, strict=True):
            start = place * layout.tile
            seen[tuple(slice(s, s + e) for s, e in zip(start, extent, strict=True))] += 1
        assert (seen == 1).all()
        assert layout.extents.prod(axis=1).sum() == seen.size
        assert layout.is_ragged == bool((layout.extents != layout.tile).any())
        assert layout.padded == tuple(g * t for g, t in zip(layout.grid, layout.tile, strict=True))


def test_a_scalar_is_one_tile():
    layout = whole(())
    assert (layout.n_tiles, layout.grid, layout.is_ragged, str(layout)) == (1, (), False, "scalar/scalar@")
    assert layout.arrivals.shape == layout.extents.shape == (1, 0)


def test_the_text_form():
    assert str(tiled((100, 60), (32, 60))) == "100x60/32x60@01"
    assert str(tiled((100, 60), (32, 60), (1, 0))) == "100x60/32x60@10"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4), (2,), (0, 1)), "different ranks\n  given:   tile (2,), tensor (4, 4)"),
        (((4, 4), (2, 2), (0, 0)), "the order of arrival is not a permutation of the axes\n  given:   (0, 0)"),
        (((4, 4), (2, 2), (1, 2)), "allowed: a permutation of (0, 1)"),
        (((4, 4), (2, 2), (0,)), "not a permutation"),
        (((4, 0), (2, 1), (0, 1)), "an empty tensor cannot be cut into tiles\n  given:   shape (4, 0)"),
        (((4, 4), (0, 2), (0, 1)), "at least one and at most all elements of each axis\n  given:   tile (0, 2)"),
        (((4, 4), (2, 5), (0, 1)), "allowed: 1 up to (4, 4)"),
        (((4, 4), (2, -1), (0, 1)), "given:   tile (2, -1)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ShapeError) as caught:
        Layout(*arguments)
    assert message in str(caught.value)


def test_raggedness_can_be_refused():
    assert not tiled((6, 4), (3, 2), ragged=False).is_ragged
    with pytest.raises(
        ShapeError, match=r"may not be ragged\n  given:   tile \(4, 2\), tensor \(6, 4\)\n(.|\n)*ragged=True"
    ):
        tiled((6, 4), (4, 2), ragged=False)


def test_what_walks_along_a_layout_is_cut_like_it_and_comes_when_it_is_needed():
    """Axis 0 walks along axis 2 of the result, axis 2 along its axis 0; the others are whole."""
    result = tiled((6, 5, 9), (2, 5, 4), (1, 2, 0))
    own = result.of_walking((9, 7, 6, 3), (2, None, 0, None))
    assert own == Layout((9, 7, 6, 3), (4, 7, 2, 3), (1, 3, 0, 2))
    needed = [tuple(grid[[2, 0]]) for grid in result.arrivals]
    assert [tuple(grid[[0, 2]]) for grid in own.arrivals] == list(dict.fromkeys(needed))
