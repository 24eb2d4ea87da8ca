"""Cycles of a matrix product on one output-stationary array, by three independent roads (law L4).

- An array of cells, stepped cycle by cycle: operands enter at the edges, skewed, and move on by one cell per cycle.
  A sum that is complete leaves at once, and the tail takes one sum of a row per cycle: a pass enters as early after the
  one before as no two sums of a row meet there. The gap between passes is found, not given.
- The published analytical form. SCALE-Sim's compute model gives K + rows + columns - 2 cycles for a pass: the skew of
  the operands and K steps. The paper's equation (Samajdar et al., ISPASS 2020) has rows more: there the sums leave
  through the cells afterwards, one row per cycle. Here they leave through the tail, beside the next pass.
- SCALE-Sim itself: a table of what its version 3.0.0 gave, run again where that package is installed (optional).

What differs, and by how much, for more than one pass: SCALE-Sim drains the array before it fills it again, so each
further pass costs K + rows + columns - 2 cycles, and not max(K, columns).
"""

from math import prod

import numpy as np
import pytest

from rdujax.units.pcu.contraction import Extent
from rdujax.units.pcu.systolic import Fork, cycles

# rows, columns, M, K, N -> cycles that SCALE-Sim 3.0.0 needs (length of its output-stationary demand matrix).
SCALE_SIM = {
    (1, 1, 1, 1, 1): 1,
    (4, 4, 4, 8, 4): 14,
    (8, 4, 8, 1, 4): 11,
    (8, 8, 8, 3, 8): 17,
    (32, 6, 32, 64, 6): 100,
    (32, 6, 17, 64, 5): 100,
    (16, 16, 16, 2048, 16): 2078,
    (1, 1, 3, 5, 2): 30,
    (16, 16, 40, 100, 33): 1170,
    (32, 6, 96, 64, 12): 600,
    (32, 6, 128, 128, 128): 14432,
}
EVERY = pytest.mark.parametrize("shape", SCALE_SIM, ids=lambda shape: "{}x{}, {}x{}x{}".format(*shape))


def ours(rows: int, columns: int, m: int, k: int, n: int) -> int:
    return cycles(rows, columns, Extent(1, m, n, k), Fork(1, 1))


def passes(rows: int, columns: int, m: int, k: int, n: int) -> int:
    return -(-m // rows) * -(-n // columns)


def stepped(a: np.ndarray, b: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, int, int]:
    """The product [m, n], the cycles until the last sum is complete, and the interval of the passes in cycles."""
    for interval in range(a.shape[1], a.shape[1] + columns + 1):
        product, took, meetings = passed(a, b, rows, columns, interval)
        if not meetings:
            return product, took, interval
    raise AssertionError("sums of a row meet however late the passes enter")


def passed(a: np.ndarray, b: np.ndarray, rows: int, columns: int, interval: int) -> tuple[np.ndarray, int, int]:
    """As `stepped`, passes entering `interval` cycles one after the other; last, how often sums of a row meet.

    A word is a value with the number of its step; step -1 stands for no word.
    """
    (m, k), n = a.shape, b.shape[1]
    tiles = [(r, c) for r in range(0, m, rows) for c in range(0, n, columns)]
    steps = interval * len(tiles)
    a_in, b_in = np.zeros((steps, rows), np.int64), np.zeros((steps, columns), np.int64)
    for tile, (r, c) in enumerate(tiles):
        enters = slice(tile * interval, tile * interval + k)
        a_in[enters] = _padded(a[r : r + rows], rows, 0).T
        b_in[enters] = _padded(b[:, c : c + columns], columns, 1)
    here = np.arange(steps) % interval < k  # steps with operands; in the others nothing enters
    sums = np.zeros((len(tiles), rows, columns), np.int64)
    left, right = np.zeros((2, rows, columns), np.int64)  # the words in every cell
    left_step, right_step = np.full((2, rows, columns), -1)
    at_row, at_column = np.arange(rows), np.arange(columns)
    cycle = done = meetings = 0
    while done < rows * columns * k * len(tiles):
        left, left_step = _shifted(left, 1), _shifted(left_step, 1)
        right, right_step = _shifted(right, 0), _shifted(right_step, 0)
        for edge, words, source, at in (
            (left[:, 0], left_step[:, 0], a_in, at_row),
            (right[0], right_step[0], b_in, at_column),
        ):
            step = cycle - at  # row r and column c are skewed by r and c cycles
            there = (step >= 0) & (step < steps) & here[step.clip(0, steps - 1)]
            words[:] = np.where(there, step, -1)
            edge[:] = np.where(there, source[step.clip(0, steps - 1), at], 0)
        busy = left_step >= 0
        np.testing.assert_array_equal(left_step, right_step)  # operands of the same step meet in every cell
        r, c = np.nonzero(busy)
        np.add.at(sums, (left_step[r, c] // interval, r, c), left[r, c] * right[r, c])
        complete = busy & (left_step % interval == k - 1)
        meetings += int((complete.sum(axis=1) > 1).sum())
        done += len(r)
        cycle += 1
    out = np.zeros((m, n), np.int64)
    for tile, (r, c) in enumerate(tiles):
        out[r : r + rows, c : c + columns] = sums[tile][: m - r, : n - c]
    return out, cycle, meetings


def _padded(x: np.ndarray, length: int, axis: int) -> np.ndarray:
    return np.pad(x, [(0, length - x.shape[axis]) if i == axis else (0, 0) for i in range(2)])


def _shifted(x: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate([np.take(x, [0], axis), np.delete(x, -1, axis)], axis)


# Several passes of fewer steps than the array has columns, as many, and one more.
SHORT = [(4, 4, 9, 1, 9), (2, 6, 4, 3, 13), (4, 5, 8, 4, 10), (4, 5, 8, 5, 10), (4, 5, 8, 6, 10), (3, 1, 7, 1, 2)]


@pytest.mark.parametrize("shape", [*SHORT, *(s for s in SCALE_SIM if prod(s[2:]) < 200_000)], ids=str)
def test_stepping_every_cell_takes_as_long(shape, rng):
    rows, columns, m, k, n = shape
    a, b = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
    product, took, interval = stepped(a, b, rows, columns)
    assert np.array_equal(product, np.einsum("mk,kn->mn", a, b))
    assert took == ours(*shape)
    assert interval == (k if passes(*shape) == 1 else max(k, columns))


@EVERY
def test_one_pass_is_scale_sims_and_more_save_its_gaps(shape):
    rows, columns, _, k, _ = shape
    gaps = (passes(*shape) - 1) * (k + rows + columns - 2 - max(k, columns))
    assert ours(*shape) == SCALE_SIM[shape] - gaps
    assert SCALE_SIM[shape] == passes(*shape) * (k + rows + columns - 2)


@EVERY
def test_the_published_equation_adds_the_rows_that_sums_leave_through(shape):
    rows, columns, m, k, n = shape
    one = (rows, columns, min(m, rows), k, min(n, columns))
    published = 2 * rows + columns + k - 2
    assert ours(*one) == published - rows


def test_split_sums_and_shared_passes():
    # Two arrays side by side halve the passes; two segments of K halve the steps and cost one more to chain.
    whole = Extent(1, 64, 12, 100)
    assert cycles(32, 6, whole, Fork(1, 1)) == 4 * 100 + 36
    assert cycles(32, 6, whole, Fork(2, 1)) == cycles(32, 6, whole, Fork(1, 2)) == 2 * 100 + 36
    assert cycles(32, 6, whole, Fork(1, 1, splits=2)) == 4 * 50 + 36 + 1
    assert cycles(32, 6, whole, Fork(1, 1, transposed=True)) == 11 * 100 + 36


def test_the_table_is_what_scale_sim_gives():
    how = "pip install --no-deps scalesim==3.0.0 tqdm"  # it asks for numba and pandas, too, and needs neither here
    reason = f"SCALE-Sim is not installed ({how}); the other tests compare with the table of what it gave"
    array_of = pytest.importorskip("scalesim.compute.systolic_compute_os", reason=reason).systolic_compute_os
    config_of = pytest.importorskip("scalesim.scale_config", reason=reason).scale_config
    for (rows, columns, m, k, n), took in SCALE_SIM.items():
        config, array = config_of(), array_of()
        config.set_arr_dims(rows, columns)
        config.valid_conf_flag = True
        array.set_params(config, *(np.zeros(size) for size in ((m, k), (m, n), (k, n))))
        assert {len(demand) for demand in array.get_demand_matrices()} == {took}
