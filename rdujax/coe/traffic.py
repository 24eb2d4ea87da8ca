"""Who asks what, and when: closed loops, arrivals at random, and recorded traces; experts by popularity.

    Closed(clients, ...)     each client asks again as soon as it is answered, and has thought for a while
    Open(requests)           arrivals that do not wait for answers: `arrivals(...)` or a trace

    popularity: a function of a random generator to an expert: `uniform`, `zipf`, `given`, `cyclic`, `drifting`, and
                `sticky` on top of any

Everything follows from a seed, one request after the other: a million of them takes no more memory than one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import accumulate, count
from random import Random

from rdujax.base.errors import ArgumentError, describe
from rdujax.coe.policies import Expert
from rdujax.coe.requests import Request

SECOND_PS = 10**12
Popularity = Callable[[Random], Expert]
Asks = Callable[[Random], tuple[tuple[Expert, ...], int, int]]  # experts in turn, tokens in, tokens out


def uniform(experts: Sequence[Expert]) -> Popularity:
    """Every expert alike."""
    _some(experts)
    return lambda rng: experts[int(rng.random() * len(experts))]


def cyclic(experts: Sequence[Expert]) -> Popularity:
    """One after the other, and again from the first: with more experts than fit, the worst that can be for lru."""
    _some(experts)
    turns = count()
    return lambda rng: experts[next(turns) % len(experts)]


def zipf(experts: Sequence[Expert], exponent: float) -> Popularity:
    """The n-th of them as often as 1 / n ** exponent; 0 is uniform."""
    if not exponent >= 0:
        raise ArgumentError(describe("an exponent of Zipf's law", given=repr(exponent), allowed="0 or more"))
    return given({expert: rank**-exponent for rank, expert in enumerate(_some(experts), 1)})


def given(weights: Mapping[Expert, float]) -> Popularity:
    """By weights, which need not add up to one."""
    experts = _some(list(weights))
    bad = {expert: weight for expert, weight in weights.items() if not 0 <= weight < float("inf")}
    ends = list(accumulate(weights.values()))
    if bad or not ends[-1] > 0:
        raise ArgumentError(describe("weights of experts", given=bad or weights, allowed="0 or more, one of them more"))
    return lambda rng: experts[bisect_left(ends, rng.random() * ends[-1], hi=len(ends) - 1)]


def sticky(popularity: Popularity, share: float) -> Popularity:
    """The expert of before once more in that share of requests, else as it would be."""
    _share("a share of requests for the expert of before", share)
    last: list[Expert] = []

    def chosen(rng: Random) -> Expert:
        if not last or rng.random() >= share:
            last[:] = [popularity(rng)]
        return last[0]

    return chosen


def drifting(experts: Sequence[Expert], exponent: float, every: int) -> Popularity:
    """By Zipf's law; after every so many requests, in another order of popularity."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ArgumentError(describe("requests between drifts", given=repr(every), allowed="an integer, 1 or more"))
    ranks, order, asked = zipf(range(len(experts)), exponent), list(experts), 0

    def chosen(rng: Random) -> Expert:
        nonlocal asked
        if asked and asked % every == 0:
            rng.shuffle(order)
        asked += 1
        return order[ranks(rng)]

    return chosen


def asks(popularity: Popularity, tokens_in: int, tokens_out: int, experts: int = 1) -> Asks:
    """Requests of one size; experts: how many answer in turn."""
    for name, value in (("tokens_in", tokens_in), ("tokens_out", tokens_out), ("experts", experts)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(describe(name, given=repr(value), allowed="an integer, 1 or more"))
    return lambda rng: (tuple(popularity(rng) for _ in range(experts)), tokens_in, tokens_out)


def arrivals(
    asked: Asks, per_second: float, requests: int, seed: int = 0, burstiness: float = 1.0
) -> Iterator[Request]:
    """Requests at random, so many per second on average.

    burstiness: the variance of the time between two, over the square of its mean. 1: a Poisson process; more: bursts,
    with gamma-distributed times between requests, as in recorded traces.
    """
    if not (0 < per_second < float("inf") and 0 < burstiness < float("inf")):
        raise ArgumentError(
            describe("a rate and its burstiness", given=f"{per_second!r}, {burstiness!r}", allowed="more than 0")
        )
    rng, at_s = Random(f"arrivals {seed}"), 0.0
    for number in range(requests):
        at_s += rng.gammavariate(1 / burstiness, burstiness / per_second)
        yield Request(number, round(at_s * SECOND_PS), *asked(rng))


class Open:
    """Arrivals that do not wait for answers; in order of time, or ArgumentError is raised where they are not."""

    def __init__(self, requests: Iterable[Request]):
        self._rest = iter(requests)
        self._next = next(self._rest, None)

    def next_ps(self) -> int | None:
        """See `Traffic`."""
        return None if self._next is None else self._next.arrival_ps

    def take(self) -> Request:
        """See `Traffic`."""
        taken = self._next
        if taken is None:
            raise ArgumentError(describe("a request is taken", given="traffic that is over"))
        self._next = next(self._rest, None)
        if self._next is not None and self._next.arrival_ps < taken.arrival_ps:
            raise ArgumentError(
                describe(
                    "requests out of order of arrival", given=f"{self._next.number} before {taken.number}", do="sort"
                )
            )
        return taken

    def answered(self, request: Request, now_ps: int) -> None:
        """See `Traffic`."""


class Closed:
    """So many clients, each of which asks again when it is answered and has thought; so many requests in all.

    A client that was refused, too, asks again when it has thought: at once, and in vain, where it does not think.
    """

    def __init__(self, asked: Asks, clients: int, requests: int, seed: int = 0, think_ps: int = 0):
        for name, value, least in (("clients", clients, 1), ("requests", requests, 0), ("think_ps", think_ps, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ArgumentError(describe(name, given=repr(value), allowed=f"an integer, {least} or more"))
        self._asked, self._think_ps, self._rng = asked, think_ps, Random(f"closed {seed}")
        self._left, self._number = requests, 0
        self._waiting: list[tuple[int, int]] = []
        for _ in range(clients):
            self._comes(0)

    def next_ps(self) -> int | None:
        """See `Traffic`."""
        return self._waiting[0][0] if self._waiting else None

    def take(self) -> Request:
        """See `Traffic`."""
        if not self._waiting:
            raise ArgumentError(describe("a request is taken", given="no client that asks"))
        at_ps, number = heappop(self._waiting)
        return Request(number, at_ps, *self._asked(self._rng))

    def answered(self, request: Request, now_ps: int) -> None:
        """See `Traffic`."""
        self._comes(now_ps + self._think_ps)

    def _comes(self, at_ps: int) -> None:
        if self._left:
            heappush(self._waiting, (at_ps, self._number))
            self._number += 1
            self._left -= 1


def _some(experts: Sequence[Expert]) -> Sequence[Expert]:
    if not experts:
        raise ArgumentError(describe("a popularity of experts", given="no expert", allowed="one or more"))
    return experts


def _share(what: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ArgumentError(describe(what, given=repr(share), allowed="0 to 1"))
