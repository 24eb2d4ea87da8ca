"""Access patterns against NumPy, and the axes that they walk against a walk along every axis of an index array."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ShapeError
from rdujax.streams.access import Broadcast, Reshape, Transpose, chain_axes, chain_read, chain_shape

SHAPES = [(), (1,), (5,), (4, 6), (6, 1, 4), (1, 1), (2, 3, 4), (3, 2, 1, 4)]
SOURCES = [*SHAPES, (2, 2, 2, 2), (4, 4), (1, 6, 1)]


def factorings(size: int, most: int = 4) -> list[tuple[int, ...]]:
    """Every shape of at most `most` axes, ones included, with that many elements."""
    found = [()] if size == 1 else []
    for length in range(1, size + 1) if most else ():
        if size % length == 0:
            found += [(length, *rest) for rest in factorings(size // length, most - 1)]
    return found


def walked_axes(source: tuple[int, ...], delivered: np.ndarray) -> tuple[int | None, ...]:
    """For each axis of `delivered`, which holds source offsets: the source axis whose index it is, everywhere.

    An axis of one element walks along nothing that could be told from standing still: None.
    """
    indices = np.unravel_index(delivered, source) if source else ()
    found = []
    for axis, length in enumerate(delivered.shape):
        own = np.arange(length).reshape([-1 if i == axis else 1 for i in range(delivered.ndim)])
        along = [i for i, index in enumerate(indices) if length == source[i] > 1 and (index == own).all()]
        found.append(along[0] if along else None)
    return tuple(found)


def offsets(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape, dtype=int))).reshape(shape)


def told_apart(axes, shape):
    """Axes of one element may be said to walk along another axis of one element, or along nothing."""
    return tuple(axis if length > 1 else None for axis, length in zip(axes, shape, strict=True))


def assert_walks(access, source):
    """`shape_of`, `read`, `axes_of` and `merged` say what happens to an array of offsets."""
    delivered = access.read(offsets(source))
    assert access.shape_of(source) == delivered.shape
    walks = walked_axes(source, delivered)
    assert told_apart(access.axes_of(source), delivered.shape) == walks
    lost = tuple(i for i, length in enumerate(source) if length > 1 and i not in walks)
    assert access.merged(source) == lost
    return delivered


@pytest.mark.parametrize("shape", SOURCES, ids=str)
def test_transposes(rng, shape):
    for _ in range(6):
        permutation = tuple(int(axis) for axis in rng.permutation(len(shape)))
        delivered = assert_walks(Transpose(permutation), shape)
        assert np.array_equal(delivered, np.transpose(offsets(shape), permutation))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_reshapes_to_every_shape(source):
    for shape in factorings(int(np.prod(source, dtype=int))):
        delivered = assert_walks(Reshape(shape), source)
        assert np.array_equal(delivered.ravel(), np.arange(delivered.size))


@pytest.mark.parametrize("source", SHAPES, ids=str)
def test_broadcasts(rng, source):
    for _ in range(12):
        rank = len(source) + int(rng.integers(0, 3))
        dimensions = tuple(sorted(int(axis) for axis in rng.choice(rank, len(source), replace=False)))
        shape = [int(n) for n in rng.integers(1, 5, rank)]
        for length, axis in zip(source, dimensions, strict=True):
            shape[axis] = length if length > 1 else shape[axis]
        delivered = assert_walks(Broadcast(tuple(shape), dimensions), source)
        inserted = offsets(source).reshape([dict(zip(dimensions, source, strict=True)).get(i, 1) for i in range(rank)])
        assert np.array_equal(delivered, inserted + np.zeros(shape, int))


@pytest.mark.parametrize(
    "access", [Transpose((2, 0, 1)), Reshape((6, 1, 4)), Broadcast((2, 2, 3, 3, 4), (1, 2, 4))], ids=str
)
def test_jax_and_numpy_read_the_same(access):
    x = offsets((2, 3, 4)).astype(np.int32)
    assert np.array_equal(access.read(jnp.asarray(x)), access.read(x))


def random_chain(rng: np.random.Generator, shape: tuple[int, ...]):
    chain = []
    for _ in range(int(rng.integers(0, 5))):
        kind = int(rng.integers(3 if len(shape) < 5 else 2))
        if kind == 0:
            access = Transpose(tuple(int(axis) for axis in rng.permutation(len(shape))))
        elif kind == 1:
            options = factorings(int(np.prod(shape, dtype=int)))
            access = Reshape(options[int(rng.integers(len(options)))])
        else:
            access = Broadcast((*shape, 2), tuple(range(len(shape))))
        shape = access.shape_of(shape)
        chain.append(access)
    return tuple(chain)


@pytest.mark.parametrize("source", SHAPES, ids=str)
def test_chains_never_claim_an_axis_that_is_not_walked(rng, source):
    """Along a chain an axis may be given up (two reshapes that cancel out), but none is claimed wrongly."""
    for _ in range(25):
        chain = random_chain(rng, source)
        delivered = chain_read(chain, offsets(source))
        assert chain_shape(chain, source) == delivered.shape
        axes, merged = chain_axes(chain, source)
        walks = walked_axes(source, delivered)
        claimed = told_apart(axes, delivered.shape)
        assert all(axis in (None, walk) for axis, walk in zip(claimed, walks, strict=True))
        assert {i for i, n in enumerate(source) if n > 1} == {a for a in claimed if a is not None} | set(merged)
        assert not {a for a in claimed if a is not None} & set(merged)
        assert all(a < b for a, b in pairwise(merged))


def test_a_chain_follows_an_axis_through_all_its_links():
    chain = (Transpose((1, 0)), Reshape((2, 3, 4)), Broadcast((5, 2, 3, 4), (1, 2, 3)))
    assert chain_axes(chain, (4, 6)) == ((None, None, None, 0), (1,))
    assert chain_axes((), (4, 6)) == ((0, 1), ())


@pytest.mark.parametrize(
    ("access", "source", "message"),
    [
        (Transpose((0, 0)), (2, 3), r"not a permutation of the axes\n  given:   \(0, 0\)\n  allowed: of 2 axes"),
        (Transpose((1, 0)), (2, 3, 4), "of 3 axes"),
        (Transpose((-1, 0)), (2, 3), "not a permutation"),
        (Reshape((7,)), (2, 3), r"keeps the number of elements\n  given:   \(2, 3\) to \(7,\)"),
        (Reshape((-2, -3)), (2, 3), r"to \(-2, -3\)"),
        (
            Broadcast((4, 3), (1,)),
            (2,),
            r"a broadcast that does not fit\n  given:   \(2,\) at axes \(1,\)\n  allowed: into \(4, 3\)",
        ),
        (Broadcast((4, 3), (0, 1)), (3,), "does not fit"),
        (Broadcast((2, 2), (1, 0)), (2, 2), "does not fit"),
        (Broadcast((2, 2), (0, 0)), (2, 2), "does not fit"),
        (Broadcast((2, 2), (2,)), (2,), "does not fit"),
        (Broadcast((2, 2), (-1,)), (2,), "does not fit"),
    ],
    ids=str,
)
def test_patterns_that_do_not_fit_are_refused(access, source, message):
    with pytest.raises(ShapeError, match=message):
        access.shape_of(source)


def test_the_text_forms():
    assert str(Transpose((1, 0, 2))) == "transpose(1,0,2)"
    assert (str(Reshape((4, 6))), str(Reshape(()))) == ("reshape(4x6)", "reshape(scalar)")
    assert str(Broadcast((2, 4, 6), (1, 2))) == "broadcast(2x4x6;1,2)"
