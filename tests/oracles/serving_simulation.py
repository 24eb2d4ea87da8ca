"""A node that serves a composition, as processes of SimPy, from the law in prose: what the server is compared with.

Clients, a door, a node, copies that share a bandwidth. It takes nothing from the library but the records to compare,
and what a case is made of. It writes token by token where the server asks for the whole answer at once, and takes
shares of the bandwidth as fractions. What happens at one moment happens in this order: copies, answers and arrivals;
then the door lets in; then the node goes on, and so knows all of that.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from math import ceil

import simpy
from simpy.events import EventPriority

from rdujax.coe.requests import Refused, Request, Served
from rdujax.coe.serving import Event, Kind, Node, Options, Traffic
from rdujax.coe.traffic import Closed, Open

DOOR, NODE = EventPriority(2), EventPriority(3)  # after all that SimPy itself schedules for the same moment
Turn = tuple[str, list[tuple[Served, int, int]]]  # an expert, and whom it answers together: the step, and since when
Process = Generator[simpy.Event, None, None]


class NoRoom(Exception):
    """Not even without all that may leave."""


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
    asked: list[tuple[tuple[str, ...], int, int]]
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


class Last(simpy.Event):
    """Comes at this moment, behind everything of a lower rank."""

    def __init__(self, env: simpy.Environment, rank: EventPriority):
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, rank)


class Memory:
    """HBM. recent: who came or was used, the longest ago first; an expert comes when its copy begins."""

    def __init__(self, case: Case):
        self._sizes = {name: kind.sizes for name, kind in case.experts.items()}
        self._pinned, self._looks_ahead = case.node.pinned, case.policy == "look-ahead"
        self._room = case.node.hbm_bytes - sum(case.node.pinned.values())
        self.recent: list[str] = []
        self.keys_and_values = 0

    def __contains__(self, expert: str) -> bool:
        return expert in self.recent or expert in self._pinned

    def use(self, expert: str) -> None:
        if expert not in self._pinned:
            self.recent = [each for each in self.recent if each != expert] + [expert]

    def bytes_of(self, experts: Iterable[str]) -> int:
        return sum(self._sizes[each].weights_bytes + self._sizes[each].state_bytes for each in experts)

    def make_room(self, needed: int, kept: Iterable[str], upcoming: list[str]) -> int:
        """Bytes of state to write back, of who had to leave, whether it has run or not."""
        back, room = 0, self._room - self.keys_and_values - needed
        if self.bytes_of({*kept}.intersection(self.recent)) > room:
            raise NoRoom
        while self.bytes_of(self.recent) > room:
            among = [each for each in self.recent if each not in kept]
            needless = [each for each in among if each not in upcoming] if self._looks_ahead else among
            leaves = needless[0] if needless else max(among, key=upcoming.index)
            self.recent.remove(leaves)
            back += self._sizes[leaves].state_bytes
        return back


class Reference:
    """The law as processes. `NoRoom` comes out of `run` where a case asks for more than HBM has at that moment."""

    def __init__(self, case: Case):
        self.case, self.options, self.env = case, case.options, simpy.Environment()
        self.memory, self.asks = Memory(case), iter(case.asked)
        self.channels = simpy.Resource(self.env, case.options.channels)
        self.bell, self.shares_change = self.env.event(), self.env.event()
        self.over, self.answered = dict[int, Served | Refused](), dict[int, simpy.Event]()
        self.outside, self.queue, self.turns = list[int](), list[Request](), list[Turn]()
        self.under_way, self.events = dict[str, simpy.Event](), list[Event]()

    @property
    def now_ps(self) -> int:
        return int(self.env.now)

    def run(self) -> "Reference":
        case, anyones = self.case, iter(range(len(self.case.asked)))
        for client, first_ps in enumerate(case.arrivals_ps or [0] * case.clients):
            own = iter(range(client, len(case.asked), case.clients))
            self.env.process(self.client(first_ps, anyones if case.shared else own))
        self.env.process(self.node())
        self.env.run()
        return self

    def client(self, comes_in_ps: int, numbers: Iterator[int]) -> Process:
        """Asks, and asks again when it is answered and has thought, as long as there is a number left for it."""
        for number in numbers:  # taken when the client is answered, before it thinks
            yield self.env.timeout(comes_in_ps)
            self.answered[number] = self.env.event()
            self.outside.append(number)
            if len(self.outside) == 1:
                self.env.process(self.door())
            yield self.answered[number]
            comes_in_ps = self.case.think_ps

    def door(self) -> Process:
        """Lets all of a moment in, as far as the queue has room."""
        yield Last(self.env, DOOR)
        outside, self.outside = sorted(self.outside), []
        for number in outside:
            request = Request(number, self.now_ps, *next(self.asks))
            if self.options.queue is None or len(self.queue) < self.options.queue:
                self.queue.append(request)
            else:
                self.over[number] = Refused(request, self.now_ps)
                self.answered[number].succeed()
        self.bell.succeed()
        self.bell = self.env.event()

    def node(self) -> Process:
        while True:
            yield Last(self.env, NODE)
            while not self.queue or len(self.queue) < self.options.batch and not self.has_waited():
                waited = (
                    [self.env.timeout(self.queue[0].arrival_ps + self.options.gather_ps - self.now_ps)]
                    if self.queue
                    else []
                )
                yield self.env.any_of([self.bell, *waited])
                yield Last(self.env, NODE)
            first_ps, taken = self.now_ps, self.queue[: self.options.batch]
            del self.queue[: self.options.batch]
            yield self.env.timeout(self.case.node.route_ps(len(taken), max(each.tokens_in for each in taken)))
            self.events.append(Event("route", "router", len(taken), first_ps, self.now_ps))
            for each in taken:
                self.goes_on(Served(each, first_ps - each.arrival_ps, self.now_ps - first_ps), 0)
            if self.options.resident_first:
                yield Last(self.env, NODE)
                there = [turn for turn in self.turns if turn[0] in self.memory]
                self.turns = there + [turn for turn in self.turns if turn not in there]
            while self.turns:
                yield Last(self.env, NODE)
                yield from self.answers(*self.turns.pop(0))

    def has_waited(self) -> bool:
        return self.now_ps - self.queue[0].arrival_ps >= self.options.gather_ps

    def goes_on(self, served: Served, step: int) -> None:
        """Behind all that the batch needs, or to those of the same expert; after its last step, home."""
        if step == len(served.request.experts):
            served.end_ps = self.now_ps
            self.over[served.request.number] = served
            self.answered[served.request.number].succeed()
            return
        expert = served.request.experts[step]
        same = [turn for turn in self.turns if turn[0] == expert and self.options.grouped]
        if not same:
            self.turns.append((expert, []))
        (same or self.turns)[-1][1].append((served, step, self.now_ps))

    def answers(self, expert: str, members: list[tuple[Served, int, int]]) -> Process:
        """An expert's turn: it comes in, reads, and writes token by token, in the same shapes to the end."""
        kind, upcoming, turn_ps = self.case.experts[expert], [each for each, _ in self.turns], self.now_ps
        hit = expert in self.memory and expert not in self.under_way
        if expert not in self.memory:
            yield from self.with_room(lambda: self.copy("copy", expert, set(), upcoming))
        yield from self.there(expert)
        self.memory.use(expert)
        prompts, last = len(members), max(each.request.tokens_out for each, _, _ in members)
        reads = max(each.request.tokens_out if step else each.request.tokens_in for each, step, _ in members)
        room = prompts * (reads + last) * kind.cache_bytes_per_token
        back = yield from self.with_room(lambda: self.memory.make_room(room, {expert, *self.under_way}, upcoming))
        self.memory.keys_and_values = room
        if back:
            self.begin("write back", expert, back)
            yield from self.there(expert)
        first_ps = self.now_ps
        self.prefetch(expert, upcoming)
        yield self.env.timeout(kind.phases.prefill_ps(prompts, reads))
        read_ps = self.now_ps
        for token in range(1, last + 1):
            for served, step, since_ps in [each for each in members if each[0].request.tokens_out == token]:
                served.hits += hit
                served.turn_ps += turn_ps - since_ps
                served.switch_ps += first_ps - turn_ps
                served.prefill_ps += read_ps - first_ps
                served.decode_ps += self.now_ps - read_ps
                served.first_token_ps = read_ps - served.request.arrival_ps
                self.goes_on(served, step + 1)
            if token < last:
                yield self.env.timeout(kind.phases.decode_ps(prompts, reads + token, 1))
        self.memory.keys_and_values = 0
        self.events.append(Event("run", expert, prompts, first_ps, self.now_ps))

    def there(self, expert: str) -> Process:
        if expert in self.under_way:
            yield self.under_way[expert]
            yield Last(self.env, NODE)

    def with_room(self, take: Callable[[], int | None]) -> Generator[simpy.Event, None, int | None]:
        """As soon as nobody on the way in stands in its way any more."""
        while True:
            try:
                return take()
            except NoRoom:
                if not self.under_way:
                    raise
                yield self.env.any_of(list(self.under_way.values()))
                yield Last(self.env, NODE)

    def prefetch(self, running: str, upcoming: list[str]) -> None:
        """One that is there already counts as one; behind one without room, none comes in."""
        needed = list(dict.fromkeys(upcoming))[: self.options.prefetch]
        for at, expert in enumerate(needed):
            if expert not in self.memory:
                try:
                    self.copy("prefetch", expert, {running, *needed[:at]}, upcoming)
                except NoRoom:
                    return

    def copy(self, kind: str, expert: str, kept: set[str], upcoming: list[str]) -> None:
        size = self.memory.bytes_of([expert])
        back = self.memory.make_room(size, {*kept, *self.under_way}, upcoming)
        self.memory.use(expert)
        self.begin(kind, expert, size + back)

    def begin(self, kind: str, expert: str, moved: int) -> None:
        self.under_way[expert] = self.env.process(self.copying(kind, expert, self.case.node.copy_ps(moved)))

    def copying(self, kind: str, expert: str, work_ps: int) -> Process:
        """Waits for a channel, then until all is there, and looks anew at its share whenever a copy begins or ends."""
        first_ps, left = self.now_ps, Fraction(work_ps)
        with self.channels.request() as channel:
            yield channel
            self.share_anew()
            while left > 0:
                since_ps, sharing = self.now_ps, self.channels.count
                yield self.env.timeout(ceil(left * sharing)) | self.shares_change
                left -= Fraction(self.now_ps - since_ps, sharing)
        self.share_anew()
        del self.under_way[expert]
        self.events.append(Event(kind, expert, 0, first_ps, self.now_ps))

    def share_anew(self) -> None:
        self.shares_change.succeed()
        self.shares_change = self.env.event()
