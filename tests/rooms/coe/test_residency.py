"""HBM to the byte: what fits, who leaves, what stays, and that nothing changes where it is refused."""

from random import Random

import pytest

from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.residency import Residency, Sizes


def residency(capacity: int = 100, **pinned: int) -> Residency:
    return Residency(capacity, LeastRecentlyUsed(), pinned)


def test_full_fits_and_one_byte_more_makes_the_oldest_leave():
    hbm = residency(router=40)
    assert hbm.admit("a", Sizes(30)) == {} and hbm.admit("b", Sizes(20, 10)) == {}
    assert hbm.used_bytes == 100 and hbm.experts == ("a", "b")
    assert hbm.admit("c", Sizes(1)) == {"a": Sizes(30)}
    assert hbm.used_bytes == 71 and "router" in hbm and "a" not in hbm


def test_as_many_leave_as_must_and_none_that_is_kept():
    hbm = residency()
    for name in "abcd":
        hbm.admit(name, Sizes(25))
    hbm.use("a")
    assert list(hbm.admit("e", Sizes(50), kept=frozenset("b"))) == ["c", "d"]
    assert hbm.experts == ("a", "b", "e")


def test_the_cache_makes_experts_leave_and_gives_its_room_back():
    hbm = residency()
    hbm.admit("a", Sizes(60))
    assert hbm.reserve_cache(40) == {} and list(hbm.reserve_cache(1)) == ["a"]
    hbm.release_cache(41)
    assert hbm.used_bytes == 0
    with pytest.raises(ArgumentError, match="given back"):
        hbm.release_cache(1)


def test_what_cannot_fit_is_refused_and_nothing_has_changed():
    hbm = residency(router=40)
    hbm.admit("a", Sizes(30))
    hbm.admit("b", Sizes(30))
    for attempt in (
        lambda: hbm.admit("c", Sizes(61)),
        lambda: hbm.admit("c", Sizes(31), kept=frozenset("ab")),
        lambda: hbm.reserve_cache(61),
    ):
        with pytest.raises(CapacityError, match="router 40; experts 60; keys and values 0"):
            attempt()
    assert hbm.experts == ("a", "b") and hbm.used_bytes == 100
    with pytest.raises(CapacityError, match="too small for what is pinned"):
        residency(10, router=11)


def test_an_expert_comes_once_and_is_used_only_where_it_is():
    hbm = residency(maths=10)
    hbm.admit("a", Sizes(1))
    hbm.use("maths")
    for attempt in (lambda: hbm.admit("a", Sizes(1)), lambda: hbm.admit("maths", Sizes(1)), lambda: hbm.use("b")):
        with pytest.raises(ArgumentError):
            attempt()


@pytest.mark.parametrize("bad", [-1, True, 1.5])
def test_sizes_are_whole_bytes(bad: object):
    with pytest.raises(ArgumentError, match="weights_bytes"):
        Sizes(bad)  # type: ignore[arg-type]


def test_bytes_are_conserved_in_any_course():
    rng = Random(1)
    hbm, sizes, cache = (
        residency(200, router=50),
        {n: Sizes(rng.randint(1, 60), rng.randint(0, 20)) for n in range(9)},
        0,
    )
    for _ in range(2000):
        name = rng.randrange(9)
        if name not in hbm:
            hbm.admit(name, sizes[name])
        hbm.use(name)
        wanted = rng.randint(0, 40)
        hbm.reserve_cache(wanted, frozenset({name}))
        cache += wanted
        assert hbm.used_bytes == 50 + cache + sum(sizes[each].in_bytes for each in hbm.experts) <= 200
        assert name in hbm
        if cache > 60:
            hbm.release_cache(cache)
            cache = 0
