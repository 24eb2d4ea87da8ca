"""The order of summation, seen from outside: swamping values reveal the tree of any sum (the method of FPRev).

In a sum of ones, put +M at i and -M at j, with M so large that a one vanishes beside it. What is summed together
with either before the two meet is lost, all else survives: n minus the result is the number of leaves under the lowest
node that holds both i and j. These numbers for all pairs determine the tree.
"""

from collections.abc import Callable
from functools import reduce as fold

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import reduce
from rdujax.numerics.contract import contract

SWAMP = 2.0**40  # half a unit in its last place is 2^16, far above any count of ones here
Tree = int | tuple  # a leaf's index, or (left, right)


def probe(sums: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """The matrix of leaves under the lowest common node, [n, n]; `sums` adds up the rows of [rows, n]."""
    i, j = np.triu_indices(n, 1)
    rows = np.ones((i.size, n), np.float32)
    rows[np.arange(i.size), i], rows[np.arange(i.size), j] = SWAMP, -SWAMP
    sizes = np.ones((n, n), np.int64)
    sizes[i, j] = sizes[j, i] = n - np.asarray(sums(rows)).astype(np.int64)
    return sizes


def sizes_of(tree: Tree, n: int) -> np.ndarray:
    """The same matrix from a tree written down."""
    sizes = np.ones((n, n), np.int64)

    def visit(node: Tree) -> list[int]:
        if isinstance(node, int):
            return [node]
        left, right = map(visit, node)
        sizes[np.ix_(left, right)] = len(left) + len(right)
        sizes[np.ix_(right, left)] = len(left) + len(right)
        return left + right

    visit(tree)
    return sizes


def chain(leaves: list[Tree]) -> Tree:
    """((l0 + l1) + l2) + ..."""
    return fold(lambda left, right: (left, right), leaves)


def halving(leaves: list[Tree]) -> Tree:
    """x[i] (+) x[i + n/2] over a power of two of places, those beyond the leaves empty."""
    places: list[Tree | None] = [*leaves, *[None] * ((1 << max(len(leaves) - 1, 0).bit_length()) - len(leaves))]
    while len(places) > 1:
        half = len(places) // 2
        pairs = zip(places[:half], places[half:], strict=True)
        places = [left if right is None else (left, right) for left, right in pairs]
    return places[0]


def pairwise(leaves: list[Tree]) -> Tree:
    """Adjacent pairs, again and again."""
    while len(leaves) > 1:
        paired = [(leaves[i], leaves[i + 1]) for i in range(0, len(leaves) - 1, 2)]
        leaves = paired + leaves[len(leaves) - len(leaves) % 2 :]
    return leaves[0]


def evaluate(tree: Tree, rows: np.ndarray) -> np.ndarray:
    """Sums rows in float32 as the tree says."""
    if isinstance(tree, int):
        return rows[:, tree]
    return np.float32(evaluate(tree[0], rows) + evaluate(tree[1], rows))


def _contract_rows(k_splits: int = 1, *, swamp_b: bool = False) -> Callable:
    def sums(rows: np.ndarray) -> jax.Array:
        ones = np.ones((rows.shape[1], 1), np.float32)
        if swamp_b:
            return jax.jit(lambda b: contract(ones.T, b, k_splits=k_splits)[0])(rows.T)
        return jax.jit(lambda a: contract(a, ones, k_splits=k_splits)[:, 0])(rows)

    return sums


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13, 16, 17, 33])
def test_the_probe_sees_the_tree(n: int):
    """On sums of known order the probe finds that order."""
    leaves = list(range(n))
    for shape in (chain, halving, pairwise, lambda v: chain(v[::-1])):
        tree = shape(leaves)
        np.testing.assert_array_equal(probe(lambda rows, tree=tree: evaluate(tree, rows), n), sizes_of(tree, n))


@pytest.mark.parametrize("n", [8, 9, 16, 17])
def test_the_probe_can_fail(n: int):
    """Chain, reversed chain, blocked chain, halving tree and adjacent pairs all look different to it."""
    leaves = list(range(n))
    blocks = chain([chain(leaves[i : i + 4]) for i in range(0, n, 4)])
    trees = (chain(leaves), chain(leaves[::-1]), blocks, halving(leaves), pairwise(leaves))
    seen = {probe(lambda rows, tree=tree: evaluate(tree, rows), n).tobytes() for tree in trees}
    assert len(seen) == len(trees)


@pytest.mark.parametrize("swamp_b", [False, True])
@pytest.mark.parametrize("n", [2, 15, 16, 17, 33, 64])
def test_contract_is_the_chain(n: int, swamp_b: bool):
    """From k = 0 upwards, whichever operand carries the values and whether the result is a row or a column."""
    np.testing.assert_array_equal(probe(_contract_rows(swamp_b=swamp_b), n), sizes_of(chain(list(range(n))), n))


@pytest.mark.parametrize(("n", "splits"), [(16, 2), (17, 2), (33, 3), (40, 7), (64, 4)])
def test_contract_with_splits_is_the_declared_mapping(n: int, splits: int):
    """Segments of ceil(K / s), each a chain, then a chain of segments."""
    size = -(-n // splits)
    tree = chain([chain(list(range(start, min(start + size, n)))) for start in range(0, n, size)])
    np.testing.assert_array_equal(probe(_contract_rows(splits), n), sizes_of(tree, n))


def test_contract_words_and_matrices():
    """Wide outputs and words at rest keep the chain."""
    n = 33

    def sums(rows: np.ndarray) -> jax.Array:
        words = np.full((n, 24), 0x3F80, np.uint16)
        out = np.asarray(jax.jit(contract)(rows, words))
        assert (out == out[:, :1]).all()
        return out[:, 0]

    np.testing.assert_array_equal(probe(sums, n), sizes_of(chain(list(range(n))), n))


def test_accumulator_comes_first():
    """A continued chain: the accumulator is the first leaf."""
    n = 20

    def sums(rows: np.ndarray) -> jax.Array:
        step = jax.jit(lambda a, acc: contract(a, np.ones((a.shape[1], 1), np.float32), acc=acc))
        return step(rows[:, 1:], rows[:, :1])[:, 0]

    np.testing.assert_array_equal(probe(sums, n), sizes_of(chain(list(range(n))), n))


@pytest.mark.parametrize("n", [2, 3, 8, 13, 16, 31, 33, 64])
def test_tree_sum_is_the_halving_tree(n: int):
    got = probe(jax.jit(lambda rows: reduce.tree_sum(rows, 1)), n)
    np.testing.assert_array_equal(got, sizes_of(halving(list(range(n))), n))


@pytest.mark.parametrize(("n", "lanes"), [(8, 8), (20, 4), (33, 8), (64, 16), (37, 3), (5, 8)])
def test_lane_sum_is_lanes_then_tree(n: int, lanes: int):
    tree = halving([chain(list(range(lane, n, lanes))) for lane in range(min(lanes, n))])
    np.testing.assert_array_equal(probe(jax.jit(lambda rows: reduce.lane_sum(rows, 1, lanes)), n), sizes_of(tree, n))


def test_batching_keeps_the_tree():
    """Under vmap and in a loop, too."""
    n = 16
    rows_of = (
        jax.vmap(lambda row: reduce.tree_sum(row, 0)),
        lambda rows: jax.lax.map(lambda r: reduce.tree_sum(r, 0), rows),
    )
    for sums in rows_of:
        got = probe(jax.jit(lambda rows, sums=sums: sums(jnp.asarray(rows))), n)
        np.testing.assert_array_equal(got, sizes_of(halving(list(range(n))), n))
