"""Copies that share a bandwidth, against shares counted in fractions step by step."""

from fractions import Fraction
from math import ceil
from random import Random

import pytest

from rdujax.base.errors import ArgumentError
from rdujax.coe.copies import Copies


def ends(starts: list[tuple[int, str, int]], channels: int) -> list[tuple[str, int]]:
    """The same by fractions: (when, who, work) in order of time."""
    left: dict[str, Fraction] = {}
    waiting: list[tuple[str, int]] = []
    now, found, rest = 0, [], list(starts)
    while left or waiting or rest:
        while waiting and len(left) < channels:
            name, work = waiting.pop(0)
            left[name] = Fraction(work)
        until = now + ceil(min(left.values()) * len(left)) if left else None
        if rest and (until is None or rest[0][0] < until):
            until = rest[0][0]
        assert until is not None
        left = {name: work - Fraction(until - now, len(left)) for name, work in left.items()}
        now = until
        for name in [name for name, work in left.items() if work <= 0]:
            found.append((name, now))
            del left[name]
        while rest and rest[0][0] == now:
            waiting.append(rest.pop(0)[1:])
    return found


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(10))
def test_shares_are_exact(seed: int, channels: int):
    rng, at = Random(seed), 0
    starts = []
    for number in range(12):
        at += rng.choice([0, 1, rng.randint(0, 60)])
        starts.append((at, f"copy {number}", rng.randint(0, 100)))
    copies, found = Copies(channels), []
    for when, name, work in starts:
        found += copies.advance(when)
        copies.start(name, work)
    while copies:
        found += copies.advance(copies.next_end_ps())
    assert found == ends(starts, channels)


def test_alone_a_copy_takes_its_time_and_two_share():
    copies = Copies()
    copies.advance(5)
    copies.start("a", 100)
    assert copies.next_end_ps() == 105
    assert copies.advance(55) == []
    copies.start("b", 100)
    assert "a" in copies and copies.next_end_ps() == 155
    assert copies.advance(155) == [("a", 155)] and copies.next_end_ps() == 205 and "a" not in copies


def test_what_cannot_be_is_refused():
    copies = Copies(1)
    with pytest.raises(ArgumentError, match="no copy"):
        copies.next_end_ps()
    copies.start("a", 10)
    copies.start("b", 10)
    for name in "ab":
        with pytest.raises(ArgumentError, match="under way"):
            copies.start(name, 1)
    copies.advance(5)
    with pytest.raises(ArgumentError, match="forward"):
        copies.advance(4)
    for channels in (0, 17, True, 1.0):
        with pytest.raises(ArgumentError, match="channels"):
            Copies(channels)  # type: ignore[arg-type]
