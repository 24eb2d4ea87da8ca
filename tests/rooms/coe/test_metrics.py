"""Summaries against the same numbers from lists, with NumPy."""

from random import Random

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.coe.metrics import Distribution, Objectives, Switches, summed
from rdujax.coe.nodes import Event
from rdujax.coe.requests import PARTS, Refused, Request, Served
from rdujax.coe.traffic import SECOND_PS


def some(count: int, seed: int = 0) -> list[Served]:
    rng, found = Random(seed), []
    for number in range(count):
        parts = {part: int(rng.lognormvariate(25, 2)) for part in PARTS}
        request = Request(
            number, rng.randrange(10**12), ("a",) * rng.randint(1, 3), rng.randint(1, 99), rng.randint(1, 9)
        )
        whole = sum(parts.values())
        first = whole - parts["decode_ps"] if request.tokens_out > 1 else whole
        found.append(
            Served(request, **parts, first_token_ps=first, hits=rng.randint(0, 1), end_ps=request.arrival_ps + whole)
        )
    return found


@pytest.mark.parametrize("percent", [0, 1, 50, 90, 99, 99.9, 100])
def test_percentiles_are_within_half_a_bucket(percent: float):
    rng, distribution = Random(1), Distribution()
    values = [rng.lognormvariate(20, 3) if rng.random() > 0.01 else 0.0 for _ in range(5000)]
    for value in values:
        distribution.add(value)
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert distribution.percentile(percent) == pytest.approx(exact, rel=0.00051)


def test_a_distribution_of_one_and_of_none():
    alone, none = Distribution(), Distribution()
    alone.add(7)
    assert [alone.percentile(p) for p in (0, 50, 100)] == [7, 7, 7] and alone.mean == 7
    assert np.isnan(none.mean) and np.isnan(none.percentile(50))
    with pytest.raises(ArgumentError, match="percentile"):
        none.percentile(101)


def test_a_request_without_an_expert_has_no_first_token():
    summary = summed([Served(Request(0, 0, (), 5, 4), route_ps=7, end_ps=7)])
    assert (summary.first_token.count, summary.per_token.count, summary.latency.total, summary.runs) == (0, 0, 7, 0)
    assert summary.tokens_out == 0


def test_a_summary_adds_up():
    served = some(400)
    objectives = Objectives(first_token_s=1.0, per_token_s=0.2, latency_s=2.0)
    summary = summed([*served, Refused(Request(1, 5, ("a",), 3, 3), 5)], objectives)
    assert sum(summary.parts_ps.values()) == summary.latency.total == sum(each.latency_ps for each in served)
    assert summary.requests == 401 and summary.refused == 1
    assert summary.tokens_out == sum(each.request.tokens_out * len(each.request.experts) for each in served)
    assert summary.runs == sum(len(each.request.experts) for each in served)
    assert summary.hit_rate == sum(each.hits for each in served) / summary.runs
    last = max(each.end_ps for each in served)
    assert summary.duration_s == (last - 5) / SECOND_PS
    good = 0
    for each in served:
        tokens = each.request.tokens_out
        per_token = 0 if tokens == 1 else each.decode_ps / (tokens - 1)
        good += each.first_token_ps <= 1e12 and per_token <= 0.2e12 and each.latency_ps <= 2e12
    assert 0 < good < 400 and summary.good == good and summary.attainment == good / 401
    assert summary.goodput_per_s == good / summary.duration_s
    assert summary.per_token.count == sum(each.request.tokens_out > 1 for each in served)


def test_nothing_sums_up_to_nothing():
    nothing = summed([])
    assert nothing.requests == 0 and nothing.duration_s == 0 and np.isnan(nothing.attainment)


def test_copies_are_counted_and_what_was_for_nothing_is_seen():
    switches = Switches({"a": 10, "b": 20, "c": 5})
    for event in (
        Event("copy", "a", 0, 0, 5), Event("run", "a", 1, 5, 9), Event("prefetch", "b", 0, 5, 8),
        Event("prefetch", "c", 0, 5, 9), Event("run", "b", 1, 9, 12), Event("run", "b", 1, 12, 13),
        Event("route", "router", 1, 13, 14),
    ):  # fmt: skip
        switches(event)
    assert switches.counts == {"copy": 1, "prefetch": 2} and switches.moved_bytes == {"copy": 10, "prefetch": 25}
    assert switches.used_bytes == 20
