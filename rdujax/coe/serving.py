"""A node that serves a composition of experts: what happens when, event by event, in whole picoseconds.

    take a batch from the queue -> route it -> for each expert in turn: have it in HBM -> prefill -> decode

The node does one thing at a time: it routes a batch, or runs one expert on its prompts; copies go on beside that only
where experts are prefetched. The law:

- Requests are taken first come, first served: as many as have arrived when the node is free (those of this very moment
  included), at most `batch`. If the queue holds `queue` requests, one more is refused; so is one that never fits: whose
  expert and whose keys and values have no room in HBM together, were nothing else there than what is pinned.
- `gather_ps`: a free node takes no smaller batch than `batch` before the first of the queue has waited so long.
- The router runs once, on all of the batch that do not name their expert. A request that no expert is for ends with
  that. Then experts answer in the order of requests; `grouped`: prompts for one expert together, at the place of the
  first of them, as many as fit, at most `batch`; `resident_first`: those experts before others that are in HBM, or on
  their way, when the router has run.
- An expert that is not in HBM when its turn comes is copied there, and nothing else goes on meanwhile. Who leaves is
  the policy's choice, which knows the turns that the batch still has. An expert comes, and those that leave for it go,
  when its copy begins; its room is what it needs from then on. State of one that leaves is written back in the copy.
- Then keys and values get room for all tokens of the prompts that run, as long as they run: prompts x (the longest
  prompt + the longest answer). For whoever leaves for that, state is written back by a copy of its own.
- Where room is missing only since experts on their way in may not leave, the node waits for these copies.
- All of that is switching: until the expert runs. It was a hit if it was there when its turn came.
- `guess`: when the router begins, the experts that are guessed for each prompt that it reads begin to come in, in this
  order, until one finds no room beside those before it and whoever runs. What is guessed wrong stays until it leaves.
- `prefetch`: when an expert begins to run, the next so many different experts that the batch has turns for begin to
  come in, as far as they are not there, in this order, until one finds no room beside those before it. Copies under
  way at the same time share the bandwidth (`copies.py`).
- A group reads prompts padded to the longest, and writes in these shapes to its end. A request ends with its last
  token, though others of its group may write on. Its next expert, if it has one, comes behind all turns of the batch,
  or where grouped, to a turn of this expert that waits.
- `joining_ps`: so long from the beginning of a run, requests may join it. When a token was written, and prompts that
  still run are fewer than `batch`, as many of the queue as there are places are routed. Those for this expert come in,
  if their keys and values find room: they are read together, and write on with the others. Those for other experts get
  turns, as of any batch. What runs waits meanwhile, which is a part of its turn. A place is free when its request has
  its last token; prices are of the prompts that still run, and of the longest of their contexts.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.coe.nodes import Event, Kind, Node, Options, Traffic
from rdujax.coe.policies import Expert, Policy
from rdujax.coe.requests import Refused, Request, Served
from rdujax.coe.residency import Residency
from rdujax.coe.tiers import Tiers
from rdujax.coe.traffic import Open


class _Member(NamedTuple):
    """A request in the turn of one of its experts."""

    served: Served
    step: int
    since_ps: int


class _Job(NamedTuple):
    """Prompts that an expert runs on together."""

    expert: Expert
    members: list[_Member]


@dataclass(slots=True)
class _Running:
    """A request in a run that others join. reads: tokens that were read. written: tokens that were written."""

    member: _Member
    reads: int
    cache_bytes: int
    written: int = 1

    @property
    def tokens_out(self) -> int:
        return self.member.served.request.tokens_out


_End = tuple[_Member, int]  # who has its last token, and when


class Server:
    """Serves a traffic. Raises CapacityError where home copies of all experts do not fit into DDR.

    told: of every event, when it is over.
    """

    def __init__(
        self,
        node: Node,
        experts: Mapping[Expert, Kind],
        policy: Policy,
        options: Options | None = None,
        told: Callable[[Event], None] | None = None,
    ):
        self.node, self.experts, self.options = node, experts, options or Options()
        self._tiers = Tiers(node, experts, policy, self.options.channels, told)
        self._queue: deque[Request] = deque()
        self._traffic: Traffic = Open(())
        self._pinned_bytes = sum(node.pinned.values())
        homes = sum(kind.sizes.in_bytes for kind in experts.values())
        if homes > node.ddr_bytes:
            raise CapacityError(
                describe(f"home copies of {len(experts)} experts do not fit", given=f"{homes:,} bytes",
                         allowed=f"{node.ddr_bytes:,} bytes of {node.name}", do="fewer experts, or more nodes")
            )  # fmt: skip

    @property
    def now_ps(self) -> int:
        """Up to where time has gone on."""
        return self._tiers.now_ps

    @property
    def residency(self) -> Residency:
        """What is in HBM now."""
        return self._tiers.residency

    def serve(self, traffic: Traffic) -> Iterator[Served | Refused]:
        """Every request, when it ends; the memory that this takes does not grow with their number.

        Copies that are under way when the last one ends go on with the next traffic.
        """
        self._traffic, queue = traffic, self._queue
        while True:
            yield from self._admitted(self.now_ps + 1)
            if queue and self._is_due():
                for each in self._batch(self._routed(self.options.batch)):
                    if isinstance(each, Served):
                        yield from self._admitted(each.end_ps)
                        traffic.answered(each.request, each.end_ps)
                    yield each
                continue
            nexts = [queue[0].arrival_ps + self.options.gather_ps] if queue else []
            if (arrival := traffic.next_ps()) is not None:
                nexts.append(arrival)
            if not nexts:
                return
            self._tiers.advance(min(nexts))

    def prefetch(self, expert: Expert) -> bool:
        """Begins to bring an expert in now, as somebody asks for it ahead of a request; False where there is no room.

        True also where it is there or on its way. Raises UnknownNameError for an expert that the node does not have.
        """
        if expert not in self.experts:
            raise unknown("expert", expert, map(str, self.experts))
        return self._tiers.prefetch(expert)

    def idle(self, until_ps: int | None = None) -> None:
        """Goes on, while nobody is served, to a moment, or to when no copy is under way. Never back."""
        self._tiers.idle(until_ps)

    def _is_due(self) -> bool:
        """Whether a batch is taken now."""
        waited = self.now_ps - self._queue[0].arrival_ps
        return len(self._queue) >= self.options.batch or waited >= self.options.gather_ps

    def _admitted(self, until_ps: int) -> Iterator[Refused]:
        """Takes all that arrive before a moment into the queue: traffic is told of what happens in order of time."""
        while (arrival := self._traffic.next_ps()) is not None and arrival < until_ps:
            request = self._traffic.take()
            if request.named and not request.experts:
                raise ArgumentError(
                    describe("an expert that a request names", given="none", where=f"request {request.number}")
                )
            for expert in request.experts:
                if expert not in self.experts:
                    raise unknown("expert", expert, map(str, self.experts), where=f"request {request.number}")
            if not all(self._fits(each, [_Member(Served(request), at, 0)]) for at, each in enumerate(request.experts)):
                reason = "out of memory"
            elif self.options.queue is not None and len(self._queue) >= self.options.queue:
                reason = "queue is full"
            else:
                self._queue.append(request)
                continue
            self._traffic.answered(request, arrival)
            yield Refused(request, arrival, reason)

    def _fits(self, expert: Expert, members: list[_Member]) -> bool:
        """Whether an expert can run on these prompts together, with all of HBM that is not pinned."""
        own = 0 if expert in self.node.pinned else self.experts[expert].sizes.in_bytes
        return own + self._cache_bytes(expert, members) <= self.node.hbm_bytes - self._pinned_bytes

    def _cache_bytes(self, expert: Expert, members: list[_Member]) -> int:
        """Of keys and values of prompts that run together."""
        return len(members) * sum(_padded(members)) * self.experts[expert].cache_bytes_per_token

    def _routed(self, most: int, running: tuple[Expert, ...] = ()) -> list[Served]:
        """Takes the first of the queue, and routes them together, as far as they do not name their expert."""
        batch = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        first_ps, asked = self.now_ps, [request for request in batch if not request.named]
        if asked:
            self._guess(asked, running)
            self._tiers.advance(first_ps + self.node.route_ps(len(asked), max(each.tokens_in for each in asked)))
            self._tiers.tell("route", "router", len(asked), first_ps)
        return [Served(each, first_ps - each.arrival_ps, self.now_ps - first_ps) for each in batch]

    def _guess(self, asked: list[Request], running: tuple[Expert, ...]) -> None:
        """Begins to copy whom the router may choose."""
        if self.options.guess is not None:
            self._tiers.advance(self.now_ps)
            self._ahead([expert for request in asked for expert in self.options.guess(request)], running)

    def _batch(self, taken: list[Served]) -> Iterator[Served | Refused]:
        jobs: deque[_Job] = deque()
        yield from self._get_turns(taken, jobs)
        if self.options.resident_first:
            jobs = deque(sorted(jobs, key=lambda job: job.expert not in self.residency))
        while jobs:
            job = jobs.popleft()
            self._bring(job, _experts(jobs))
            for each in self._run_joined(job, jobs) if self.options.joining_ps else self._run(job, jobs):
                if not isinstance(each, tuple):
                    yield each
                    continue
                (served, at, _), end_ps = each
                if at + 1 == len(served.request.experts):
                    served.end_ps = end_ps
                    yield served
                else:
                    self._append(jobs, served.request.experts[at + 1], _Member(served, at + 1, end_ps))

    def _get_turns(self, taken: list[Served], jobs: deque[_Job]) -> Iterator[Served]:
        """Turns for all that were routed; those that no expert is for are over."""
        for served in taken:
            if served.request.experts:
                self._append(jobs, served.request.experts[0], _Member(served, 0, self.now_ps))
            else:
                served.end_ps = self.now_ps
                yield served

    def _append(self, jobs: deque[_Job], expert: Expert, member: _Member) -> None:
        """Behind all others, or to those of its expert."""
        for job in jobs if self.options.grouped else ():
            has_place = job.expert == expert and len(job.members) < self.options.batch
            if has_place and self._fits(expert, [*job.members, member]):
                job.members.append(member)
                return
        jobs.append(_Job(expert, [member]))

    def _bring(self, job: _Job, upcoming: tuple[Expert, ...]) -> None:
        """Goes on to when its expert is there, and room for its keys and values."""
        first_ps = self.now_ps
        is_hit = self._tiers.bring(job.expert, self._cache_bytes(job.expert, job.members), upcoming)
        for served, _, since_ps in job.members:
            served.turn_ps += first_ps - since_ps
            served.switch_ps += self.now_ps - first_ps
            served.hits += is_hit

    def _run(self, job: _Job, jobs: deque[_Job]) -> list[_End]:
        """Runs an expert, and says when each of its members has its last token, in order of time."""
        kind, count, first_ps = self.experts[job.expert], len(job.members), self.now_ps
        self._prefetch(job.expert, _experts(jobs))
        reads, _ = _padded(job.members)
        prefill_ps = kind.phases.prefill_ps(count, reads)
        ends = []
        for member in job.members:
            decode_ps = kind.phases.decode_ps(count, reads + 1, member.served.request.tokens_out - 1)
            served = member.served
            served.prefill_ps += prefill_ps
            served.decode_ps += decode_ps
            served.first_token_ps = first_ps + prefill_ps - served.request.arrival_ps
            ends.append((member, first_ps + prefill_ps + decode_ps))
        ends.sort(key=lambda each: each[1])
        self._tiers.advance(ends[-1][1])
        self.residency.release_cache(self._cache_bytes(job.expert, job.members))
        self._tiers.tell("run", job.expert, count, first_ps)
        return ends

    def _run_joined(self, job: _Job, jobs: deque[_Job]) -> Iterator[_End | Served | Refused]:
        """The same, with requests that join."""
        kind, first_ps, count = self.experts[job.expert], self.now_ps, len(job.members)
        self._prefetch(job.expert, _experts(jobs))
        running: list[_Running] = []
        self._read(job.expert, job.members, running)
        while True:
            for each in [each for each in running if each.written == each.tokens_out]:
                running.remove(each)
                self.residency.release_cache(each.cache_bytes)
                yield each.member, self.now_ps
            is_open = self.now_ps - first_ps < self.options.joining_ps and len(running) < self.options.batch
            if is_open:
                yield from self._admitted(self.now_ps + 1)
                if self._queue:
                    count += yield from self._join(job.expert, jobs, running)
                    continue
            if not running:
                break
            tokens = self._tokens_until(self._traffic.next_ps() if is_open else None, kind, running)
            decode_ps = kind.phases.decode_ps(len(running), _context(running), tokens)
            self._tiers.advance(self.now_ps + decode_ps)
            for each in running:
                each.member.served.decode_ps += decode_ps
                each.written += tokens
        self._tiers.tell("run", job.expert, count, first_ps)

    def _join(self, expert: Expert, jobs: deque[_Job], running: list[_Running]) -> Generator[Served, None, int]:
        """Routes the first of the queue; how many of them join what runs. All others get turns."""
        first_ps = self.now_ps
        taken = self._routed(self.options.batch - len(running), (expert,))
        mine = [_Member(each, 0, self.now_ps) for each in taken if each.request.experts[:1] == (expert,)]
        yield from self._get_turns([each for each in taken if each.request.experts[:1] != (expert,)], jobs)
        try:
            if mine:
                needed = self._cache_bytes(expert, mine)
                self._tiers.reserve(expert, needed, _experts(jobs))
        except CapacityError:
            for each in mine:
                self._append(jobs, expert, each)
            mine = []
        routed_ps = self.now_ps
        self._tiers.wait_for(expert)
        for each in running:
            each.member.served.turn_ps += self.now_ps - first_ps
        for served, _, _ in mine:
            served.switch_ps += self.now_ps - routed_ps
            served.hits += 1
            self.residency.use(expert)
        if mine:
            self._read(expert, mine, running)
        return len(mine)

    def _read(self, expert: Expert, members: list[_Member], running: list[_Running]) -> None:
        """Reads prompts together, while others that run wait."""
        kind, (reads, writes) = self.experts[expert], _padded(members)
        prefill_ps = kind.phases.prefill_ps(len(members), reads)
        self._tiers.advance(self.now_ps + prefill_ps)
        for each in running:
            each.member.served.turn_ps += prefill_ps
        for member in members:
            served = member.served
            served.prefill_ps += prefill_ps
            served.first_token_ps = self.now_ps - served.request.arrival_ps
            running.append(_Running(member, reads, (reads + writes) * kind.cache_bytes_per_token))

    def _tokens_until(self, arrival_ps: int | None, kind: Kind, running: list[_Running]) -> int:
        """How many tokens are written until a request has its last one, or until one has arrived."""
        most = min(each.tokens_out - each.written for each in running)
        if arrival_ps is None:
            return most
        count, context = len(running), _context(running)

        def reaches(tokens: int) -> bool:
            return self.now_ps + kind.phases.decode_ps(count, context, tokens) >= arrival_ps

        return 1 + bisect_left(range(1, most), True, key=reaches)

    def _prefetch(self, running: Expert, upcoming: tuple[Expert, ...]) -> None:
        """Begins to copy the next experts that the batch needs, those needed first before others."""
        self._ahead(list(dict.fromkeys(upcoming))[: self.options.prefetch], (running,), upcoming)

    def _ahead(self, experts: list[Expert], kept: tuple[Expert, ...], upcoming: tuple[Expert, ...] = ()) -> None:
        """Begins to copy one after the other, until one finds no room beside those before it."""
        for at, expert in enumerate(experts):
            if not self._tiers.prefetch(expert, (*kept, *experts[:at]), upcoming):
                return


def _padded(members: list[_Member]) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest answer; an expert's answer is the prompt of the next."""
    reads = max(each.request.tokens_out if step else each.request.tokens_in for each, step, _ in members)
    return reads, max(each.request.tokens_out for each, _, _ in members)


def _context(running: list[_Running]) -> int:
    """Positions of the cache for the next token."""
    return max(each.reads + each.written for each in running)


def _experts(jobs: deque[_Job]) -> tuple[Expert, ...]:
    """Who will be asked, in order."""
    return tuple(job.expert for job in jobs)
