"""Policies against slow definitions of what they are, and the bound against every possible choice."""

from collections.abc import Callable
from functools import cache, partial
from random import Random

import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.coe.policies import POLICIES, Belady, DecayedLeastFrequentlyUsed, LeastRecentlyUsed, LookAhead, Policy
from rdujax.coe.residency import Residency, Sizes


def misses(policy: Policy, uses: list[int], slots: int, ahead: int = 0) -> int:
    """Of experts of one byte, in an HBM of so many; `ahead`: how many uses are known."""
    residency, found = Residency(slots, policy), 0
    for at, expert in enumerate(uses):
        if expert not in residency:
            found += 1
            residency.admit(expert, Sizes(1), upcoming=uses[at + 1 : at + 1 + ahead])
        residency.use(expert)
    return found


def drawn(seed: int, experts: int = 6, count: int = 60) -> list[int]:
    rng = Random(seed)
    return [min(int(rng.expovariate(0.5)), experts - 1) for _ in range(count)]


def least(uses: list[int], slots: int, worth: Callable[[list[int], int], float]) -> int:
    """Looks back for every victim: the one that is worth least, by when it was used and by what time it is."""
    held: set[int] = set()
    found = 0
    for at, expert in enumerate(uses):
        if expert not in held:
            found += 1
            if len(held) == slots:
                held.remove(min(held, key=lambda each: worth([i for i in range(at) if uses[i] == each], at)))
            held.add(expert)
    return found


def sum_of_halves(times: list[int], at: int, half_life: float) -> float:
    """What uses at these times weigh."""
    return sum(0.5 ** ((at - i) / half_life) for i in times)


def fewest(uses: tuple[int, ...], slots: int) -> int:
    """Tries every victim."""

    @cache
    def from_here(at: int, held: frozenset[int]) -> int:
        if at == len(uses):
            return 0
        expert = uses[at]
        if expert in held:
            return from_here(at + 1, held)
        if len(held) < slots:
            return 1 + from_here(at + 1, held | {expert})
        return 1 + min(from_here(at + 1, held - {victim} | {expert}) for victim in held)

    return from_here(0, frozenset())


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("seed", range(8))
def test_each_policy_does_what_it_says(seed: int, slots: int):
    uses = drawn(seed)
    assert misses(LeastRecentlyUsed(), uses, slots) == least(uses, slots, lambda times, at: max(times))
    weight = partial(sum_of_halves, half_life=7.3)
    assert misses(DecayedLeastFrequentlyUsed(7.3), uses, slots) == least(uses, slots, weight)
    assert misses(Belady(uses), uses, slots) == fewest(tuple(uses), slots)


@pytest.mark.parametrize("seed", range(8))
def test_look_ahead_goes_from_least_recently_used_to_the_bound(seed: int):
    uses = drawn(seed, experts=9)
    recent, bound = misses(LeastRecentlyUsed(), uses, 4), misses(Belady(uses), uses, 4)
    assert misses(LookAhead(), uses, 4) == recent
    assert misses(LookAhead(), uses, 4, ahead=len(uses)) == bound <= recent


def test_an_old_favourite_is_forgotten_in_time():
    uses = [0] * 50 + [1, 2] * 40
    assert misses(DecayedLeastFrequentlyUsed(1e9), uses, 2) == 81  # 0 stays until another was used as often
    assert misses(DecayedLeastFrequentlyUsed(20), uses, 2) < 40


def test_weights_stay_finite_over_very_many_uses():
    policy = DecayedLeastFrequentlyUsed(0.5)
    for expert in [1, *[2] * 100_000, 1]:
        policy.used(expert)
    assert policy.victim({1, 2}, ()) == 2 and policy.victim({2, 3}, ()) == 3


def test_policies_have_names_and_sensible_numbers():
    assert list(POLICIES) == ["lru", "lfu", "look-ahead"]
    with pytest.raises(UnknownNameError, match="did you mean 'lru'"):
        POLICIES["lruu"]
    with pytest.raises(ArgumentError, match="half-life"):
        DecayedLeastFrequentlyUsed(0)
