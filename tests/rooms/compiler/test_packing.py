"""Addresses: nothing that is alive together overlaps, and few bytes are taken; against brute force and a recount."""

from itertools import permutations, product

import numpy as np
import pytest

from rdujax.compiler import packing
from rdujax.compiler.packing import pack


def brute(sizes: list[int], alive: list[int]) -> int:
    """Fewest bytes, over every order and every address at which something begins or ends."""
    fewest = sum(sizes)
    for order in permutations(range(len(sizes))):
        at: dict[int, int] = {}
        for i in order:
            fits = (
                spot for spot in sorted({0, *(at[j] + sizes[j] for j in at)})
                if all(not alive[i] & alive[j] or spot + sizes[i] <= at[j] or at[j] + sizes[j] <= spot for j in at)
            )  # fmt: skip
            at[i] = next(fits)
        fewest = min(fewest, max((at[i] + sizes[i] for i in at), default=0))
    return fewest


def drawn(rng: np.random.Generator, n: int, moments: int) -> tuple[list[int], list[int]]:
    """Sizes and lifetimes, some of them in two pieces."""
    alive = []
    for _ in range(n):
        a, b, c = (int(m) for m in rng.integers(0, moments, 3))
        alive.append((1 << max(a, b) + 1) - (1 << min(a, b)) | 1 << c)
    return [int(size) for size in rng.integers(1, 12, n)], alive


def check_packing(sizes: list[int], alive: list[int]) -> packing.Packing:
    """Nothing overlaps; the peak and the bound are what a recount says."""
    found = pack(sizes, alive)
    ends = [at + size for at, size in zip(found.offsets, sizes, strict=True)]
    for i, j in product(range(len(sizes)), repeat=2):
        if i < j and alive[i] & alive[j]:
            assert ends[i] <= found.offsets[j] or ends[j] <= found.offsets[i]
    moments = range(max(alive).bit_length())
    assert found.bound_bytes == max(sum(s for s, a in zip(sizes, alive, strict=True) if a >> m & 1) for m in moments)
    assert found.peak_bytes == max(ends) >= found.bound_bytes
    assert found == pack(sizes, alive)
    return found


@pytest.mark.parametrize("searched", [packing.SEARCHED, 0])
def test_few_places_take_the_fewest_bytes(searched: int, monkeypatch):
    """Against brute force; without the search, too, the orders that are tried are as good on nearly all of them."""
    monkeypatch.setattr(packing, "SEARCHED", searched)
    rng, worse, gaps = np.random.default_rng(3), 0, 0
    for _ in range(60):
        sizes, alive = drawn(rng, 5, 7)
        found, fewest = check_packing(sizes, alive), brute(sizes, alive)
        worse += found.peak_bytes != fewest
        gaps += fewest != found.bound_bytes
    assert gaps > 0 and worse <= (0 if searched else 3)


def test_many_places_take_few_bytes_more_than_are_alive():
    rng = np.random.default_rng(4)
    for n, moments in ((40, 30), (150, 60)):
        found = check_packing(*drawn(rng, n, moments))
        assert found.peak_bytes <= 1.05 * found.bound_bytes


def test_the_edges_of_packing():
    assert pack([], []) == packing.Packing((), 0, 0)
    assert pack([0, 5], [1, 1]) == packing.Packing((0, 0), 5, 5)
    assert pack([4, 4], [1, 2]) == packing.Packing((0, 0), 4, 4)
    assert sorted(pack([4, 4], [3, 2]).offsets) == [0, 4]


def first_fit(sizes: list[int], alive: list[int], order: list[int]) -> int:
    """Bytes that places take which are put down in this order, each at the lowest address that is free."""
    at: dict[int, int] = {}
    for i in order:
        meets = [j for j in at if alive[i] & alive[j]]
        spots = sorted({0, *(at[j] + sizes[j] for j in meets)})
        at[i] = next(s for s in spots if all(s + sizes[i] <= at[j] or at[j] + sizes[j] <= s for j in meets))
    return max(at[i] + sizes[i] for i in at)


def test_each_step_of_the_search_takes_fewer_bytes_than_the_one_before(monkeypatch):
    """The first orders, then repairs of the best, then all orders: each is better somewhere, and worse nowhere."""
    rng = np.random.default_rng(1)
    cases = [drawn(rng, 6, 8) for _ in range(150)]
    peaks = []
    for searched, repairs in ((0, 0), (0, packing.REPAIRS), (packing.SEARCHED, 0)):
        monkeypatch.setattr(packing, "SEARCHED", searched)
        monkeypatch.setattr(packing, "REPAIRS", repairs)
        peaks.append([check_packing(*case).peak_bytes for case in cases])
    for sizes, alive, first, repaired, best in ((*case, *each) for case, *each in zip(cases, *peaks, strict=True)):
        span, begin = [a.bit_count() for a in alive], [a & -a for a in alive]
        other = [any(b & ~a for b in alive) for a in alive]  # not always alive
        keys = [
            lambda i, s=sizes, n=span, b=begin, o=other: (o[i], -s[i], -n[i], b[i]),
            lambda i, s=sizes, n=span, b=begin, o=other: (o[i], -n[i], -s[i], b[i]),
        ]
        orders = [sorted(range(len(sizes)), key=key) for key in keys]
        assert best <= repaired <= first <= min(first_fit(sizes, alive, order) for order in orders)
    assert [sum(a > b for a, b in zip(*pair, strict=True)) > 0 for pair in (peaks[:2], peaks[1:])] == [True, True]


def test_what_is_always_alive_lies_below_everything_else():
    rng = np.random.default_rng(2)
    for n, moments in ((6, 5), (30, 12)):
        sizes, alive = drawn(rng, n, moments)
        for i in range(0, n, 3):
            alive[i] = (1 << moments) - 1
        found = check_packing(sizes, alive)
        below = sum(sizes[i] for i in range(0, n, 3))
        assert all((at < below) == (i % 3 == 0) for i, at in enumerate(found.offsets))
