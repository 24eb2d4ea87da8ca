"""What a run of requests comes to: latencies, throughput, hits, goodput. The memory it takes does not grow.

    TTFT     from the arrival of a request to the first token of its (last) answer
    TPOT     (latency - TTFT) / (tokens of that answer - 1); answers of one token have none
    latency  from arrival to the last token; also called E2E

Sums and counts are exact. Percentiles are of a histogram whose buckets are 0.1 % wide: the middle of the bucket in
which the nearest-rank percentile lies, so at most 0.05 % off.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, exp, floor, log

from rdujax.base.errors import ArgumentError, describe
from rdujax.coe.nodes import Event
from rdujax.coe.requests import PARTS, Refused, Served
from rdujax.coe.traffic import SECOND_PS

WIDTH = 0.001  # of a bucket, as a share of what it holds


class Distribution:
    """Numbers of which the sum is exact and percentiles are within `WIDTH`. None is less than 0."""

    def __init__(self) -> None:
        self.count, self.total, self.least, self.most = 0, 0, 0, 0
        self._buckets: Counter[int | None] = Counter()

    def add(self, value: float) -> None:
        """One number more."""
        self.least = value if not self.count else min(self.least, value)
        self.most = max(self.most, value)
        self.count, self.total = self.count + 1, self.total + value
        self._buckets[floor(log(value) / WIDTH) if value > 0 else None] += 1

    @property
    def mean(self) -> float:
        """NaN of none."""
        return self.total / self.count if self.count else float("nan")

    def percentile(self, percent: float) -> float:
        """The least number that so many percent of all do not exceed; NaN of none."""
        if not 0 <= percent <= 100:
            raise ArgumentError(describe("a percentile", given=repr(percent), allowed="0 to 100"))
        if not self.count:
            return float("nan")
        rank = max(1, ceil(percent / 100 * self.count))
        for bucket in sorted(self._buckets, key=lambda each: float("-inf") if each is None else each):
            rank -= self._buckets[bucket]
            if rank <= 0:
                middle = 0.0 if bucket is None else exp((bucket + 0.5) * WIDTH)
                return min(max(middle, self.least), self.most)
        raise AssertionError("buckets hold fewer than were counted")


@dataclass(frozen=True)
class Objectives:
    """What a request has to keep to be good; None: whatever it takes."""

    first_token_s: float | None = None
    per_token_s: float | None = None
    latency_s: float | None = None

    def kept(self, served: Served) -> bool:
        """Whether it is, by all of them."""
        pairs = (
            (served.first_token_ps, self.first_token_s),
            (served.per_token_ps, self.per_token_s),
            (served.latency_ps, self.latency_s),
        )
        return all(limit_s is None or value_ps <= limit_s * SECOND_PS for value_ps, limit_s in pairs)


@dataclass
class Summary:
    """Of all requests so far. parts_ps: summed over requests; they add up to `latency.total`, exactly.

    runs: of experts; hits: of them, those whose expert was in HBM when it was their turn. good: requests that kept the
    objectives. first_ps, last_ps: the first arrival, and the last end.
    """

    objectives: Objectives = field(default_factory=Objectives)
    first_token: Distribution = field(default_factory=Distribution)
    per_token: Distribution = field(default_factory=Distribution)
    latency: Distribution = field(default_factory=Distribution)
    parts_ps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    runs: int = 0
    hits: int = 0
    good: int = 0
    refused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_ps: int | None = None
    last_ps: int = 0

    def add(self, each: Served | Refused) -> None:
        """One request more."""
        request = each.request
        self.first_ps = request.arrival_ps if self.first_ps is None else min(self.first_ps, request.arrival_ps)
        if isinstance(each, Refused):
            self.refused += 1
            self.last_ps = max(self.last_ps, each.at_ps)
            return
        self.last_ps = max(self.last_ps, each.end_ps)
        if request.experts:
            self.first_token.add(each.first_token_ps)
        if request.experts and request.tokens_out > 1:
            self.per_token.add(each.per_token_ps)
        self.latency.add(each.latency_ps)
        for part in PARTS:
            self.parts_ps[part] += getattr(each, part)
        self.runs += len(request.experts)
        self.hits += each.hits
        self.good += self.objectives.kept(each)
        self.tokens_in += request.tokens_in
        self.tokens_out += request.tokens_out * len(request.experts)

    @property
    def requests(self) -> int:
        """All that came, refused ones included."""
        return self.latency.count + self.refused

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last end."""
        return (self.last_ps - (self.first_ps or 0)) / SECOND_PS

    @property
    def hit_rate(self) -> float:
        """Of runs of experts; NaN of none."""
        return self.hits / self.runs if self.runs else float("nan")

    @property
    def attainment(self) -> float:
        """The share of all requests that kept the objectives; NaN of none."""
        return self.good / self.requests if self.requests else float("nan")

    @property
    def goodput_per_s(self) -> float:
        """Requests per second that kept the objectives."""
        return self.good / self.duration_s if self.duration_s else float("nan")


def summed(each: Iterable[Served | Refused], objectives: Objectives | None = None) -> Summary:
    """The summary of a run."""
    summary = Summary(objectives or Objectives())
    for one in each:
        summary.add(one)
    return summary


class Switches:
    """Listens to a node's events, and counts copies.

    counts, moved_bytes: of copies from DDR to HBM, by kind: "copy", "prefetch".
    used_bytes: of what was prefetched, what an expert that then ran had; the rest was for nothing.
    """

    def __init__(self, in_bytes: Mapping[object, int]):
        self._in_bytes = in_bytes
        self._waiting: set[object] = set()
        self.counts: Counter[str] = Counter()
        self.moved_bytes: Counter[str] = Counter()
        self.used_bytes = 0

    def __call__(self, event: Event) -> None:
        """One event more."""
        if event.kind in ("copy", "prefetch"):
            self.counts[event.kind] += 1
            self.moved_bytes[event.kind] += self._in_bytes[event.what]
            if event.kind == "prefetch":
                self._waiting.add(event.what)
        elif event.kind == "run" and event.what in self._waiting:
            self._waiting.remove(event.what)
            self.used_bytes += self._in_bytes[event.what]
