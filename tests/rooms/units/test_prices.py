"""Cycles of the PCU in both bodies, and the ways to share its work: against published formulas and brute force."""

from itertools import product
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.ledger.numbers import is_exact
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.units import pcu
from rdujax.units.pcu import simd, systolic
from rdujax.units.pcu.contraction import Extent
from rdujax.units.pcu.expression import Expression, Instruction
from rdujax.units.pcu.simd import Chain
from rdujax.units.pcu.systolic import Fork

EXTENTS = [Extent(1, 7, 5, 9), Extent(1, 1, 1, 1), Extent(3, 4, 2, 8), Extent(2, 13, 6, 5), Extent(1, 3, 17, 2)]
ARRAYS = [(4, 2), (32, 6), (1, 1)]


def output_stationary(rows: int, columns: int, k: int) -> int:
    """Cycles until the last cell of an array has its last product, by walking the two wave fronts.

    Operand k of row r enters column 0 at cycle r + k and moves one column a cycle; likewise from above. Both meet in
    cell (r, c) at cycle r + c + k, counted from 0.
    """
    last = 0
    for r, c, step in product(range(rows), range(columns), range(k)):
        last = max(last, r + c + step)
    return last + 1


@pytest.mark.parametrize(("rows", "columns"), ARRAYS)
@pytest.mark.parametrize("k", [1, 2, 9])
def test_one_pass_of_one_array_is_the_output_stationary_formula(rows, columns, k):
    cycles = systolic.cycles(rows, columns, Extent(1, rows, columns, k), Fork(1, 1))
    assert cycles == rows + columns + k - 2 == output_stationary(rows, columns, k)


@pytest.mark.parametrize("extent", EXTENTS, ids=str)
@pytest.mark.parametrize(("rows", "columns"), ARRAYS)
def test_passes_follow_one_another_as_their_sums_have_left(rows, columns, extent):
    """Without a gap where K has as many steps as the array has columns, else one column per cycle."""
    for transposed in (False, True):
        on_rows, on_columns = (extent.n, extent.m) if transposed else (extent.m, extent.n)
        passes = ceil(on_rows / rows) * ceil(on_columns / columns) * extent.batch
        got = systolic.cycles(rows, columns, extent, Fork(1, 1, 1, transposed))
        assert got == (passes - 1) * max(extent.k, columns) + extent.k + rows + columns - 2 and is_exact(got)
        assert got * rows * columns >= extent.macs


@pytest.mark.parametrize("extent", EXTENTS, ids=str)
def test_more_pcus_along_rows_or_columns_are_never_slower(extent):
    for transposed, (r, c) in product((False, True), product(range(1, 6), repeat=2)):
        here = systolic.cycles(4, 2, extent, Fork(r, c, 1, transposed))
        assert systolic.cycles(4, 2, extent, Fork(r + 1, c, 1, transposed)) <= here
        assert systolic.cycles(4, 2, extent, Fork(r, c + 1, 1, transposed)) <= here


def test_splits_share_k_and_chain_the_sums():
    extent = Extent(2, 8, 4, 10)
    assert systolic.cycles(4, 2, extent, Fork(1, 1, 3)) == 2 * 2 * 2 * 4 + 4 + 2 - 2 + 3 - 1
    assert systolic.cycles(4, 6, extent, Fork(1, 1, 3)) == 3 * 6 + 4 + 4 + 6 - 2 + 3 - 1
    assert Fork(3, 2, 4).pcus == 24


def test_cycles_are_differentiable_in_the_array_and_equal_to_the_exact_ones():
    for columns, k in ((2, 9), (6, 4)):
        extent, fork = Extent(2, 13, 7, k), Fork(2, 1)

        def relaxed(rows, columns):
            return systolic.cycles(rows, columns, extent, fork)  # noqa: B023

        facts = jnp.float32(4), jnp.float32(columns)
        assert relaxed(*facts) == systolic.cycles(4, columns, extent, fork)
        of_rows, of_columns = jax.grad(relaxed, (0, 1))(*facts)
        assert of_rows < 0 and np.isfinite(of_columns)


def test_terabytes_of_work_stay_exact():
    extent = Extent(2**20, 2**30, 2**30, 2**30)
    assert systolic.cycles(32, 6, extent, Fork(1, 1)) == 2**20 * 2**25 * -(-(2**30) // 6) * 2**30 + 36


def pareto(points: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """Points (cycles, PCUs) that no other one equals or beats in both."""
    return {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}


@pytest.mark.parametrize("extent", EXTENTS, ids=str)
@pytest.mark.parametrize(("splits", "most"), [(1, 12), (1, 1), (2, 9), (3, 12), (5, 4)])
def test_forks_are_the_pareto_front_of_all_ways_to_share(extent, splits, most):
    every = [
        Fork(r, c, splits, transposed, batches)
        for r, c, batches, transposed in product(*3 * [range(1, most + 1)], (False, True))
        if r * c * splits * batches <= most
    ]
    want = pareto([(systolic.cycles(4, 2, extent, fork), fork.pcus) for fork in every])
    found = systolic.forks(4, 2, extent, splits, most)
    points = [(cycles, fork.pcus) for cycles, fork in found]
    assert set(points) == want and len(points) == len(want)
    assert points == sorted(points) and all(pcus <= most for _, pcus in points)
    assert all(systolic.cycles(4, 2, extent, fork) == cycles for cycles, fork in found)


def instruction(name: str, fmt=BF16, target=None) -> Instruction:
    return Instruction(name, fmt, (), 1.0) if name == "immediate" else Instruction(name, fmt, (0,), target=target)


def unary(*names: str) -> Expression:
    return Expression((BF16,), tuple(instruction(name) for name in names))


@pytest.mark.parametrize(
    ("names", "links_by_stages"),
    [
        (("neg",), {1: 1, 2: 1, 6: 1}),
        (("neg",) * 6, {1: 6, 2: 3, 6: 1}),
        (("neg",) * 7, {1: 7, 2: 4, 6: 2}),
        (("exp",), {1: 1, 2: 1, 6: 1}),
        (("exp", "exp"), {1: 2, 2: 2, 6: 2}),
        (("neg", "exp", "neg"), {1: 3, 2: 2, 6: 2}),
        (("neg", "immediate", "neg"), {1: 2, 2: 1, 6: 1}),
        (("neg", "neg", "exp"), {1: 3, 2: 2, 3: 1, 6: 1}),
    ],
)
def test_a_link_ends_after_its_stages_or_with_its_tail(names, links_by_stages):
    """Two negations fill the body of a link with two stages: an exponential behind them takes the next link."""
    assert {stages: simd.links(unary(*names), stages) for stages in links_by_stages} == links_by_stages


def test_the_widest_value_decides_the_lanes():
    assert simd.widest(unary("neg")) is BF16
    widened = Expression((BF16,), (instruction("convert", BF16, FP32),))
    assert simd.widest(widened) is FP32
    compared = Expression((BF16, BF16), (Instruction("less", BF16, (0, 1)),))
    assert simd.widest(compared) is BF16
    assert simd.widest(Expression((BOOL,), (Instruction("not", BOOL, (0,)),))) is BF16
    assert simd.widest(Expression((INT32,), (Instruction("neg", INT32, (0,)),))) is INT32


@pytest.mark.parametrize("elements", [1, 4, 5, 63, 64, 65])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_simd_cycles_are_vectors_and_the_length_of_the_chain(elements, n):
    config, expression = tiny().pcu, unary(*["neg"] * n)
    links = ceil(n / 2)
    for copies in (1, 2, 5):
        got = simd.cycles(config, expression, elements, Chain(links, copies))
        assert got == ceil(ceil(elements / 4) / copies) + 2 * links - 1 and is_exact(got)


@pytest.mark.parametrize("elements", [1, 7, 40, 100])
@pytest.mark.parametrize(("links", "most"), [(1, 12), (2, 12), (5, 12), (5, 4), (1, 1)])
def test_chains_are_the_pareto_front_of_all_numbers_of_copies(elements, links, most):
    def time(copies):
        return ceil(ceil(elements / 4) / copies) + 2 * links - 1

    want = pareto([(time(n), n * links) for n in range(1, most + 1) if n * links <= most])
    found = simd.chains(4, 2, links, elements, most)
    assert {(cycles, chain.pcus) for cycles, chain in found} == want and len(found) == len(want)
    assert [cycles for cycles, _ in found] == sorted(cycles for cycles, _ in found)
    config = tiny().pcu
    expression = unary(*["neg"] * (2 * links))
    assert all(simd.cycles(config, expression, elements, chain) == cycles for cycles, chain in found)


def test_feeds_follow_the_vectors():
    assert systolic.feeds(32, 6, Fork(2, 3), BF16) == (128, 36)
    assert systolic.feeds(32, 6, Fork(2, 3, 2, True), BF16) == (72, 256)
    assert systolic.feeds(16, 3, Fork(1, 1), FP32) == (64, 12)
    config = sn40l().pcu
    assert simd.feed(config, unary("neg"), Chain(2, 3), BF16) == 3 * 64
    assert simd.feed(config, unary("neg"), Chain(1, 1), FP32) == 128


def test_formats_other_than_bf16_are_contracted_on_the_simd_pipeline():
    config = sn40l().pcu
    assert pcu.array(config, BF16) == (32, 6)
    assert pcu.array(config, FP32) == pcu.array(config, INT32) == (16, 3)
    assert (pcu.lane_count(config, BF16), pcu.lane_count(config, FP32)) == (32, 16)
