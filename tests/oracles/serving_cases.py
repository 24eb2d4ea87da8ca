"""Small cases of nodes that serve: any at all, drawn from a seed, and some by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import accumulate
from random import Random

from rdujax.coe.nodes import Kind, Node, Options, Traffic
from rdujax.coe.requests import Request
from rdujax.coe.residency import Sizes
from rdujax.coe.traffic import Closed, Open


@dataclass(frozen=True)
class Formula:
    """Phases that depend on everything they may depend on."""

    prices: tuple[int, ...]

    def prefill_ps(self, prompts: int, tokens: int) -> int:
        return self.prices[0] + self.prices[1] * prompts * tokens

    def decode_ps(self, prompts: int, context: int, tokens: int) -> int:
        return sum(self.prices[2] + self.prices[3] * prompts * (context + each) for each in range(tokens))


@dataclass(frozen=True)
class Case:
    """A node, and who asks it what: clients, each as often, or `shared`: whoever is next. arrivals_ps: if open."""

    node: Node
    experts: dict[str, Kind]
    asked: list[tuple[tuple[str, ...], int, int, bool]]
    options: Options
    policy: str = "lru"
    arrivals_ps: list[int] | None = None
    clients: int = 0
    think_ps: int = 0
    shared: bool = False

    def traffic(self) -> Traffic:
        if self.arrivals_ps is not None:
            return Open([Request(number, at, *self.asked[number]) for number, at in enumerate(self.arrivals_ps)])
        asks = iter(self.asked)
        closed = Closed(lambda _: next(asks), self.clients, len(self.asked), think_ps=self.think_ps)
        return closed if self.shared else Rounds(self)


class Rounds:
    """Clients that ask equally often, and think: it does not matter who of two was told first that it may go on."""

    def __init__(self, case: Case):
        self._case, self._asks = case, iter(case.asked)
        self._coming = [(0, number) for number in range(case.clients)]

    def next_ps(self) -> int | None:
        return self._coming[0][0] if self._coming else None

    def take(self) -> Request:
        at_ps, number = heappop(self._coming)
        return Request(number, at_ps, *next(self._asks))

    def answered(self, request: Request, now_ps: int) -> None:
        if (number := request.number + self._case.clients) < len(self._case.asked):
            heappush(self._coming, (now_ps + self._case.think_ps, number))


def drawn(rng: Random) -> Case:
    """Any small case. In some the grain of time is coarse, and much happens at once; in some, many copies go on."""
    grain, crowded = rng.choice((1, 1, 100)), rng.random() < 0.5
    names = [f"expert {number}" for number in range(8 if crowded else rng.randint(2, 8))]
    kinds = [drawn_kind(rng, grain, 1 if crowded else 6) for _ in range(rng.randint(2, 3))]
    experts = {name: rng.choice(kinds) for name in names}
    tokens = rng.choice((10, 20, 20, 20))  # prompts and answers have up to 20, and where 10 fit, some are too large
    least = max(kind.sizes.in_bytes + tokens * kind.cache_bytes_per_token for kind in experts.values())
    most = max(least, sum(kind.sizes.in_bytes for kind in experts.values()))
    pinned = {"router": rng.randint(0, 50), rng.choice(("programs", "programs", names[0])): rng.randint(0, 50)}
    route, latency, slow = rng.randint(0, 40), rng.randint(1, 20), rng.choice((1, 4, 16, 64))
    node = Node(
        "node", sum(pinned.values()) + max(rng.randint(least, most), rng.randint(least, most)), 10**6, pinned,
        lambda prompts, tokens: grain * (route + 3 * prompts + tokens),
        lambda moved: grain * (latency + slow * moved // 4),
    )  # fmt: skip
    chains = [tuple(rng.choices(names, k=rng.choice((0, 1, 1, 1, 2, 3)))) for _ in range(rng.randint(1, 30))]
    naming = rng.choice((0, 0, 0.5, 1))  # the share of prompts that name their expert
    asked = [(chain, rng.randint(1, 12), rng.randint(1, 8), rng.random() < naming * bool(chain)) for chain in chains]
    batch, prefetch, queue = rng.randint(1, 8), rng.randint(0, 3), rng.choice((None, rng.randint(1, 4)))
    guesses = [tuple(rng.choices(names, k=rng.choice((0, 1, 1, 2)))) for _ in asked] if rng.random() < 0.4 else []
    gather_ps, resident_first = rng.choice((0, 0, rng.randint(1, 3000) * grain)), rng.random() < 0.3
    options = Options(
        8 if crowded else batch, rng.random() < 0.5, 3 if crowded else prefetch, queue, rng.randint(1, 4), gather_ps,
        resident_first, rng.choice((0, 0, rng.randint(1, 5000) * grain)),
        (lambda request: guesses[request.number % len(guesses)]) if guesses else None,
    )  # fmt: skip
    policy, think_ps = rng.choice(("lru", "look-ahead")), rng.choice((0, rng.randint(1, 1000) * grain))
    case = Case(node, experts, asked, options, policy, None, rng.randint(1, 8), think_ps, queue is None)
    if rng.random() < 0.5:
        gaps = [rng.choice((0, 0, rng.randint(0, 400), rng.randint(0, 4000))) * grain for _ in asked]
        return replace(case, arrivals_ps=list(accumulate(gaps)), clients=len(gaps), shared=False)
    equally = rng.choices(asked, k=case.clients * rng.randint(1, 5))
    return case if case.shared else replace(case, asked=equally, think_ps=think_ps or 1)


def drawn_kind(rng: Random, grain: int, cache_bytes: int) -> Kind:
    sizes = Sizes(rng.randint(1, 30) * 10, rng.choice((0, rng.randint(1, 200))))
    prices = tuple(grain * rng.randint(least, most) for least, most in ((1, 100), (0, 7), (1, 10), (0, 3)))
    return Kind(sizes, rng.randint(0, cache_bytes), Formula(prices))


def by_hand(asked: dict[str, tuple[int, int]], hbm: int, copy_ps: Callable[[int], int], options: Options) -> Case:
    """Requests at the same moment, each for an expert of its own: its bytes, and tokens of the prompt, a byte each."""
    experts = {name: Kind(Sizes(size), 1, Formula((100, 0, 1, 0))) for name, (size, _) in asked.items()}
    asks = [((name,), tokens, 1, False) for name, (_, tokens) in asked.items()]
    node = Node("node", hbm, 10**6, {}, lambda prompts, tokens: 10, copy_ps)
    return Case(node, experts, asks, options, arrivals_ps=[0] * len(asks), clients=len(asks))
