"""Random layouts of ranks 0 to 4, ragged ones included, as the tests of streams and units draw them."""

import numpy as np

from rdujax.streams.layout import Layout


def shape_of_rank(rng: np.random.Generator, rank: int, longest: int = 7) -> tuple[int, ...]:
    """A random shape."""
    return tuple(int(n) for n in rng.integers(1, longest + 1, rank))


def random_layout(rng: np.random.Generator, shape: tuple[int, ...]) -> Layout:
    """A random tiling of a shape in a random order of arrival."""
    tile = tuple(int(rng.integers(1, n + 1)) for n in shape)
    return Layout(shape, tile, tuple(int(axis) for axis in rng.permutation(len(shape))))


def places(layout: Layout) -> list[tuple[int, ...]]:
    """Grid indices of the tiles in order of arrival, counted like an odometer whose last digit is the fastest axis."""
    grid = [-(-n // t) for n, t in zip(layout.shape, layout.tile, strict=True)]
    found: list[tuple[int, ...]] = []
    at = [0] * len(grid)
    while True:
        found.append(tuple(at))
        for axis in reversed(layout.order):
            at[axis] += 1
            if at[axis] < grid[axis]:
                break
            at[axis] = 0
        else:
            return found
