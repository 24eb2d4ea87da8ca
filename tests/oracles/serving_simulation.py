"""A node that serves a composition, as processes of SimPy, from the law in prose: what the server is compared with.

Clients, a door, a node, copies that share a bandwidth. It takes nothing from the library but the records to compare,
and what a case is made of. It writes token by token where the server asks for the whole answer at once, and takes
shares of the bandwidth as fractions. What happens at one moment happens in this order: copies, answers and arrivals;
then the door lets in; then the node goes on, and so knows all of that.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import simpy
from simpy.events import EventPriority

from rdujax.coe.nodes import Event
from rdujax.coe.requests import Refused, Request, Served
from tests.oracles.serving_cases import Case

DOOR, NODE = EventPriority(2), EventPriority(3)  # after all that SimPy itself schedules for the same moment
Member = tuple[Served, int, int]  # a request at a step of its own, and since when it waits for that
Turn = tuple[str, list[Member]]  # an expert, and whom it answers together
Process = Generator[simpy.Event, None, None]


class NoRoom(Exception):
    """Not even without all that may leave."""


class Last(simpy.Event):
    """Comes at this moment, behind everything of a lower rank."""

    def __init__(self, env: simpy.Environment, rank: EventPriority):
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, rank)


@dataclass
class Running:
    """A request in a run that others join, and its share of the room for keys and values."""

    served: Served
    step: int
    reads: int
    room: int
    written: int = 1


def longest(members: list[Member]) -> tuple[int, int]:
    """Tokens of what is read, and of what is written."""
    reads = max(each.request.tokens_out if step else each.request.tokens_in for each, step, _ in members)
    return reads, max(each.request.tokens_out for each, _, _ in members)


class Memory:
    """HBM. recent: who came or was used, the longest ago first; an expert comes when its copy begins."""

    def __init__(self, case: Case):
        self._sizes = {name: kind.sizes for name, kind in case.experts.items()}
        self._pinned, self._looks_ahead = case.node.pinned, case.policy == "look-ahead"
        self.room = case.node.hbm_bytes - sum(case.node.pinned.values())
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
        back, room = 0, self.room - self.keys_and_values - needed
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
            full = self.options.queue is not None and len(self.queue) >= self.options.queue
            steps = enumerate(request.experts)
            too_large = not all(self.fits(each, [(Served(request), step, 0)]) for step, each in steps)
            if not full and not too_large:
                self.queue.append(request)
                continue
            self.over[number] = Refused(request, self.now_ps, "out of memory" if too_large else "queue is full")
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
            for each in (yield from self.routed(self.options.batch)):
                self.goes_on(each, 0)
            if self.options.resident_first:
                yield Last(self.env, NODE)
                there = [turn for turn in self.turns if turn[0] in self.memory]
                self.turns = there + [turn for turn in self.turns if turn not in there]
            while self.turns:
                yield Last(self.env, NODE)
                yield from self.answers(*self.turns.pop(0))

    def routed(self, most: int, running: set[str] | None = None) -> Generator[simpy.Event, None, list[Served]]:
        first_ps, taken = self.now_ps, self.queue[:most]
        del self.queue[:most]
        if asks := [each.tokens_in for each in taken if not each.named]:
            self.guessed(taken, running or set())
            yield self.env.timeout(self.case.node.route_ps(len(asks), max(asks)))
            self.events.append(Event("route", "router", len(asks), first_ps, self.now_ps))
        return [Served(each, first_ps - each.arrival_ps, self.now_ps - first_ps) for each in taken]

    def guessed(self, taken: list[Request], running: set[str]) -> None:
        """Brings in whom somebody guesses for those that are routed now, while there is room."""
        guess, before = self.options.guess, set[str]()
        for request in taken:
            for expert in guess(request) if guess and not request.named else ():
                if expert not in self.memory:
                    try:
                        self.copy("prefetch", expert, running | before, [])
                    except NoRoom:
                        return
                before.add(expert)

    def fits(self, expert: str, members: list[Member]) -> bool:
        """Beside what is pinned, were nothing else there."""
        own = 0 if expert in self.case.node.pinned else self.memory.bytes_of([expert])
        return own + self.room_of(expert, members) <= self.memory.room

    def room_of(self, expert: str, members: list[Member]) -> int:
        """Of keys and values: padded."""
        return len(members) * sum(longest(members)) * self.case.experts[expert].cache_bytes_per_token

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
        self.gets_a_turn(expert, (served, step, self.now_ps))

    def gets_a_turn(self, expert: str, member: Member) -> None:
        for other, members in self.turns if self.options.grouped else ():
            if other == expert and len(members) < self.options.batch and self.fits(expert, [*members, member]):
                members.append(member)
                return
        self.turns.append((expert, [member]))

    def answers(self, expert: str, members: list[tuple[Served, int, int]]) -> Process:
        """An expert's turn: it comes in, reads, and writes token by token, in the same shapes to the end."""
        kind, upcoming, turn_ps = self.case.experts[expert], [each for each, _ in self.turns], self.now_ps
        hit = expert in self.memory and expert not in self.under_way
        if expert not in self.memory:
            yield from self.with_room(lambda: self.copy("copy", expert, set(), upcoming))
        yield from self.there(expert)
        self.memory.use(expert)
        prompts, room, (reads, last) = len(members), self.room_of(expert, members), longest(members)
        back = yield from self.with_room(lambda: self.memory.make_room(room, {expert, *self.under_way}, upcoming))
        self.memory.keys_and_values = room
        yield from self.written_back(expert, back)
        first_ps = self.now_ps
        if self.options.joining_ps:
            for served, _, since_ps in members:
                served.hits += hit
                served.turn_ps += turn_ps - since_ps
                served.switch_ps += first_ps - turn_ps
            yield from self.open_run(expert, members, upcoming)
            return
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

    def open_run(self, expert: str, members: list[Member], upcoming: list[str]) -> Process:
        """A run that others join, token by token; whoever has its last one gives its place and its room back."""
        first_ps, count, running = self.now_ps, len(members), list[Running]()
        self.prefetch(expert, upcoming)
        yield from self.read_together(expert, members, running)
        while True:
            for each in [each for each in running if each.written == each.served.request.tokens_out]:
                running.remove(each)
                self.memory.keys_and_values -= each.room
                self.goes_on(each.served, each.step + 1)
            if self.now_ps - first_ps < self.options.joining_ps and len(running) < self.options.batch:
                yield Last(self.env, NODE)
                if self.queue:
                    count += yield from self.join(expert, running)
                    continue
            if not running:
                break
            context, since_ps = max(each.reads + each.written for each in running), self.now_ps
            yield self.env.timeout(self.case.experts[expert].phases.decode_ps(len(running), context, 1))
            for each in running:
                each.served.decode_ps += self.now_ps - since_ps
                each.written += 1
        self.events.append(Event("run", expert, count, first_ps, self.now_ps))

    def join(self, expert: str, running: list[Running]) -> Generator[simpy.Event, None, int]:
        since_ps = self.now_ps
        routed = yield from self.routed(self.options.batch - len(running), {expert})
        yield Last(self.env, NODE)
        mine: list[Member] = [(each, 0, self.now_ps) for each in routed if (expert,) == each.request.experts[:1]]
        for each in routed:
            if (expert,) != each.request.experts[:1]:
                self.goes_on(each, 0)
        room, back, switch_ps = self.room_of(expert, mine) if mine else 0, 0, self.now_ps
        try:
            back = self.memory.make_room(room, {expert, *self.under_way}, [each for each, _ in self.turns])
            self.memory.keys_and_values += room
        except NoRoom:
            for each in mine:
                self.gets_a_turn(expert, each)
            mine = []
        yield from self.written_back(expert, back)
        for each in running:
            each.served.turn_ps += self.now_ps - since_ps
        for served, _, _ in mine:
            served.hits += 1
            served.switch_ps += self.now_ps - switch_ps
        if mine:
            self.memory.use(expert)
            yield from self.read_together(expert, mine, running)
        return len(mine)

    def read_together(self, expert: str, members: list[Member], running: list[Running]) -> Process:
        kind, (reads, last), since_ps = self.case.experts[expert], longest(members), self.now_ps
        yield self.env.timeout(kind.phases.prefill_ps(len(members), reads))
        for each in running:
            each.served.turn_ps += self.now_ps - since_ps
        for served, step, _ in members:
            served.prefill_ps += self.now_ps - since_ps
            served.first_token_ps = self.now_ps - served.request.arrival_ps
            running.append(Running(served, step, reads, (reads + last) * kind.cache_bytes_per_token))

    def written_back(self, expert: str, back: int | None) -> Process:
        if back:
            self.begin("write back", expert, back)
            yield from self.there(expert)

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
