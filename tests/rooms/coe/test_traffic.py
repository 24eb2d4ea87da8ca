"""Traffic: the laws of its distributions, its order, and that a seed decides all of it."""

from collections import Counter
from itertools import islice, pairwise
from random import Random
from statistics import mean, variance

import pytest

from rdujax.base.errors import ArgumentError
from rdujax.coe.requests import Request
from rdujax.coe.traffic import SECOND_PS, Closed, Open, arrivals, asks, cyclic, drifting, given, sticky, uniform, zipf

EXPERTS = ["a", "b", "c", "d"]


def shares(popularity, count: int = 40_000) -> dict[str, float]:
    rng = Random(5)
    return {name: times / count for name, times in Counter(popularity(rng) for _ in range(count)).items()}


def test_popularities_have_their_shares():
    whole = sum(1 / rank for rank in range(1, 5))
    for popularity, wanted in (
        (uniform(EXPERTS), dict.fromkeys(EXPERTS, 0.25)),
        (zipf(EXPERTS, 0), dict.fromkeys(EXPERTS, 0.25)),
        (zipf(EXPERTS, 1.0), {name: 1 / rank / whole for rank, name in enumerate(EXPERTS, 1)}),
        (given({"a": 3, "b": 0, "c": 1}), {"a": 0.75, "c": 0.25}),
        (sticky(uniform(EXPERTS), 0.5), dict.fromkeys(EXPERTS, 0.25)),
    ):
        assert shares(popularity) == pytest.approx(wanted, abs=0.015)


def test_sticky_experts_come_again_that_often():
    rng, popularity = Random(2), sticky(uniform(EXPERTS), 0.6)
    drawn = [popularity(rng) for _ in range(20_000)]
    again = mean(one == other for one, other in pairwise(drawn))
    assert again == pytest.approx(0.6 + 0.4 / 4, abs=0.015)


def test_cyclic_and_drifting():
    rng, turn = Random(0), cyclic(EXPERTS)
    assert [turn(rng) for _ in range(6)] == ["a", "b", "c", "d", "a", "b"]
    drift = drifting(list(range(50)), 2.0, 500)
    favourites = [Counter(drift(rng) for _ in range(500)).most_common(1)[0][0] for _ in range(12)]
    assert favourites[0] == 0 and len(set(favourites)) > 6


@pytest.mark.parametrize(("burstiness", "spread"), [(1.0, 1.0), (4.0, 4.0), (0.25, 0.25)])
def test_arrivals_have_their_rate_and_burstiness(burstiness: float, spread: float):
    times = [each.arrival_ps for each in arrivals(asks(uniform(EXPERTS), 10, 5), 20.0, 30_000, 3, burstiness)]
    gaps = [(b - a) / SECOND_PS for a, b in pairwise(times)]
    assert mean(gaps) == pytest.approx(1 / 20, rel=0.04)
    assert variance(gaps) * 400 == pytest.approx(spread, rel=0.1)
    assert times == sorted(times)


def test_a_seed_decides_all_and_nothing_else_does():
    def made(seed: int) -> list[Request]:
        return list(arrivals(asks(zipf(EXPERTS, 1), 10, 5, experts=2), 3.0, 50, seed))

    assert made(1) == made(1) != made(2)
    assert made(1)[7].experts[0] in EXPERTS and len(made(1)[7].experts) == 2


def test_open_traffic_is_taken_in_order():
    traffic = Open([Request(n, at, ("a",), 1, 1) for n, at in enumerate((3, 3, 9))])
    assert [traffic.next_ps(), traffic.take().number, traffic.take().number, traffic.next_ps()] == [3, 0, 1, 9]
    traffic.take()
    assert traffic.next_ps() is None
    with pytest.raises(ArgumentError, match="over"):
        traffic.take()
    with pytest.raises(ArgumentError, match="out of order"):
        Open([Request(0, 5, ("a",), 1, 1), Request(1, 4, ("a",), 1, 1)]).take()


def test_clients_ask_again_when_they_have_thought():
    traffic = Closed(asks(cyclic(EXPERTS), 4, 2), clients=2, requests=4, think_ps=100)
    first, second = traffic.take(), traffic.take()
    assert [first.arrival_ps, second.arrival_ps, traffic.next_ps()] == [0, 0, None]
    traffic.answered(second, 40)
    traffic.answered(first, 30)
    assert [each.arrival_ps for each in (traffic.take(), traffic.take())] == [130, 140]
    traffic.answered(first, 500)
    assert traffic.next_ps() is None
    with pytest.raises(ArgumentError, match="no client"):
        traffic.take()


@pytest.mark.parametrize(
    "make",
    [
        lambda: uniform([]), lambda: zipf([], 1), lambda: cyclic([]), lambda: zipf(EXPERTS, -1),
        lambda: zipf(EXPERTS, float("nan")), lambda: given({"a": -1.0}), lambda: given({"a": 0.0}),
        lambda: given({"a": float("inf")}), lambda: sticky(uniform(EXPERTS), 1.5), lambda: drifting(EXPERTS, 1, 0),
        lambda: asks(uniform(EXPERTS), 0, 1), lambda: asks(uniform(EXPERTS), 1, 1.5),  # type: ignore[arg-type]
        lambda: next(arrivals(asks(uniform(EXPERTS), 1, 1), 0.0, 5)),
        lambda: next(arrivals(asks(uniform(EXPERTS), 1, 1), 1.0, 5, burstiness=float("nan"))),
        lambda: Closed(asks(uniform(EXPERTS), 1, 1), 0, 5), lambda: Closed(asks(uniform(EXPERTS), 1, 1), 1, -1),
    ],
)  # fmt: skip
def test_what_is_no_traffic_is_refused(make):
    with pytest.raises(ArgumentError):
        make()


def test_a_long_traffic_is_made_one_by_one():
    endless = arrivals(asks(uniform(EXPERTS), 1, 1), 1.0, 10**12)
    assert len(list(islice(endless, 10))) == 10
