"""A node that serves a composition of experts: what happens when, event by event, in whole picoseconds.

    take a batch from the queue -> route it -> for each expert in turn: have it in HBM -> prefill -> decode

The node does one thing at a time: it routes a batch, or runs one expert on its prompts; copies go on beside that only
where experts are prefetched. The law:

- Requests are taken first come, first served: as many as have arrived when the node is free (those of this very moment
  included), at most `batch`. If the queue holds `queue` requests, one more is refused.
- `gather_ps`: a free node takes no smaller batch than `batch` before the first of the queue has waited so long.
- The router runs once, on the whole batch. Then experts answer in the order of requests; `grouped`: all prompts of the
  batch for the same expert together, at the place of the first of them; `resident_first`: those experts before others
  that are in HBM, or on their way, when the router has run.
- An expert that is not in HBM when its turn comes is copied there, and nothing else goes on meanwhile. Who leaves is
  the policy's choice, which knows the turns that the batch still has. An expert comes, and those that leave for it go,
  when its copy begins; its room is what it needs from then on. State of one that leaves is written back in the copy.
- Then keys and values get room for all tokens of the prompts that run, as long as they run: prompts x (the longest
  prompt + the longest answer). For whoever leaves for that, state is written back by a copy of its own.
- Where room is missing only since experts on their way in may not leave, the node waits for these copies.
- All of that is switching: until the expert runs. It was a hit if it was there when its turn came.
- `prefetch`: when an expert begins to run, the next so many different experts that the batch has turns for begin to
  come in, as far as they are not there, in this order, until one finds no room beside those before it. Copies under
  way at the same time share the bandwidth (`copies.py`).
- A group reads prompts padded to the longest, and writes in the same shapes to its end. A request ends with its last
  token, though others of its group may write on. Its next expert, if it has one, comes behind all turns of the batch,
  or where grouped, to a turn of this expert that waits.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.coe.copies import Copies
from rdujax.coe.phases import Phases
from rdujax.coe.policies import Expert, Policy
from rdujax.coe.requests import Refused, Request, Served
from rdujax.coe.residency import Residency, Sizes


@dataclass(frozen=True)
class Kind:
    """What a node knows of an expert. cache_bytes_per_token: keys and values of one token of one prompt."""

    sizes: Sizes
    cache_bytes_per_token: int
    phases: Phases


@dataclass(frozen=True)
class Node:
    """What serves. route_ps: of so many prompts of at most so many tokens. copy_ps: of so many bytes, DDR to HBM.

    pinned: bytes that never leave HBM, by name: the router, its cache, programs.
    """

    name: str
    hbm_bytes: int
    ddr_bytes: int
    pinned: Mapping[str, int]
    route_ps: Callable[[int, int], int]
    copy_ps: Callable[[int], int]


@dataclass(frozen=True)
class Options:
    """How a node serves: see the module. queue: None for one without end."""

    batch: int = 1
    grouped: bool = False
    prefetch: int = 0
    queue: int | None = None
    channels: int = 8
    gather_ps: int = 0
    resident_first: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("prefetch", 0), ("queue", 1), ("channels", 1), ("gather_ps", 0)):
            value = getattr(self, name)
            if value is None and name == "queue":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ArgumentError(describe(name, given=repr(value), allowed=f"an integer, {least} or more"))


class Traffic(Protocol):
    """Who asks, and when."""

    def next_ps(self) -> int | None:
        """When the next request arrives, as far as is known now; None where none does before one is answered."""
        ...

    def take(self) -> Request:
        """That request."""
        ...

    def answered(self, request: Request, now_ps: int) -> None:
        """Told of the end of each request, in order of time within a run; a refused one ends when it arrives."""
        ...


class Event(NamedTuple):
    """Something that a node did.

    kind: "route" (what: "router"), "copy", "prefetch", "write back" (state, to make room for a run of the expert) or
    "run". prompts: how many of them; 0 for copies, which begin when they are asked for, a wait for a channel included.
    """

    kind: str
    what: Expert
    prompts: int
    first_ps: int
    last_ps: int


class _Member(NamedTuple):
    """A request in the turn of one of its experts."""

    served: Served
    step: int
    since_ps: int


class _Job(NamedTuple):
    """Prompts that an expert runs on together."""

    expert: Expert
    members: list[_Member]


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
        self.node, self.experts, self.options, self._told = node, experts, options or Options(), told
        self.residency = Residency(node.hbm_bytes, policy, node.pinned)
        self.now_ps = 0
        self._copies = Copies(self.options.channels)
        self._begun: dict[Expert, tuple[str, int]] = {}
        homes = sum(kind.sizes.in_bytes for kind in experts.values())
        if homes > node.ddr_bytes:
            raise CapacityError(
                describe(f"home copies of {len(experts)} experts do not fit", given=f"{homes:,} bytes",
                         allowed=f"{node.ddr_bytes:,} bytes of {node.name}", do="fewer experts, or more nodes")
            )  # fmt: skip

    def serve(self, traffic: Traffic) -> Iterator[Served | Refused]:
        """Every request, when it ends; the memory that this takes does not grow with their number."""
        queue: deque[Request] = deque()
        while True:
            yield from self._admitted(traffic, queue, self.now_ps + 1)
            if queue and self._is_due(queue):
                batch = [queue.popleft() for _ in range(min(self.options.batch, len(queue)))]
                for served in self._batch(batch):
                    yield from self._admitted(traffic, queue, served.end_ps)
                    traffic.answered(served.request, served.end_ps)
                    yield served
                continue
            nexts = [queue[0].arrival_ps + self.options.gather_ps] if queue else []
            if (arrival := traffic.next_ps()) is not None:
                nexts.append(arrival)
            if not nexts:
                return
            self._advance(min(nexts))

    def prefetch(self, expert: Expert) -> bool:
        """Begins to bring an expert in now, as somebody asks for it ahead of a request; False where there is no room.

        True also where it is there or on its way. Raises UnknownNameError for an expert that the node does not have.
        """
        if expert not in self.experts:
            raise unknown("expert", expert, map(str, self.experts))
        if expert not in self.residency:
            try:
                self._copy("prefetch", expert, frozenset(self._begun), ())
            except CapacityError:
                return False
        return True

    def _is_due(self, queue: deque[Request]) -> bool:
        """Whether a batch is taken now."""
        return len(queue) >= self.options.batch or self.now_ps >= queue[0].arrival_ps + self.options.gather_ps

    def _admitted(self, traffic: Traffic, queue: deque[Request], until_ps: int) -> Iterator[Refused]:
        """Takes all that arrive before a moment into the queue: traffic is told of what happens in order of time."""
        while (arrival := traffic.next_ps()) is not None and arrival < until_ps:
            request = traffic.take()
            for expert in request.experts:
                if expert not in self.experts:
                    raise unknown("expert", expert, map(str, self.experts), where=f"request {request.number}")
            if self.options.queue is None or len(queue) < self.options.queue:
                queue.append(request)
            else:
                traffic.answered(request, arrival)
                yield Refused(request, arrival)

    def _batch(self, batch: list[Request]) -> Iterator[Served]:
        first_ps = self.now_ps
        self.now_ps += self.node.route_ps(len(batch), max(request.tokens_in for request in batch))
        self._tell("route", "router", len(batch), first_ps)
        taken = [Served(each, first_ps - each.arrival_ps, self.now_ps - first_ps) for each in batch]
        jobs = deque(self._jobs(taken))
        while jobs:
            job = jobs.popleft()
            upcoming = tuple(each.expert for each in jobs)
            cache_bytes = self._bring(job, upcoming)
            for member, end_ps in self._run(job, upcoming, cache_bytes):
                served, step = member.served, member.step + 1
                if step == len(served.request.experts):
                    served.end_ps = end_ps
                    yield served
                else:
                    self._append(jobs, served.request.experts[step], _Member(served, step, end_ps))

    def _jobs(self, taken: list[Served]) -> list[_Job]:
        jobs: deque[_Job] = deque()
        for served in taken:
            self._append(jobs, served.request.experts[0], _Member(served, 0, self.now_ps))
        if self.options.resident_first:
            self._advance(self.now_ps)
            return sorted(jobs, key=lambda job: job.expert not in self.residency)
        return list(jobs)

    def _append(self, jobs: deque[_Job], expert: Expert, member: _Member) -> None:
        """Behind all others, or to those of its expert."""
        own = next((job for job in jobs if job.expert == expert), None) if self.options.grouped else None
        if own is None:
            jobs.append(_Job(expert, [member]))
        else:
            own.members.append(member)

    def _bring(self, job: _Job, upcoming: tuple[Expert, ...]) -> int:
        """Goes on to when its expert can run; bytes that its keys and values were given."""
        expert, first_ps = job.expert, self.now_ps
        self._advance(first_ps)
        is_hit = expert in self.residency and expert not in self._copies
        if expert not in self.residency:
            self._when_there_is_room(lambda kept: self._copy("copy", expert, kept, upcoming))
        self._wait_for(expert)
        self.residency.use(expert)
        reads, writes = _padded(job)
        cache_bytes = len(job.members) * (reads + writes) * self.experts[expert].cache_bytes_per_token
        left = self._when_there_is_room(
            lambda kept: self.residency.reserve_cache(cache_bytes, kept | {expert}, upcoming)
        )
        if state_bytes := sum(sizes.state_bytes for sizes in left.values()):
            self._begin("write back", expert, state_bytes)
            self._wait_for(expert)
        for served, _, since_ps in job.members:
            served.turn_ps += first_ps - since_ps
            served.switch_ps += self.now_ps - first_ps
            served.hits += is_hit
        return cache_bytes

    def _run(self, job: _Job, upcoming: tuple[Expert, ...], cache_bytes: int) -> list[tuple[_Member, int]]:
        """Runs an expert, and says when each of its members has its last token, in order of time."""
        kind, count, first_ps = self.experts[job.expert], len(job.members), self.now_ps
        self._prefetch(job.expert, upcoming)
        reads, _ = _padded(job)
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
        self._advance(ends[-1][1])
        self.residency.release_cache(cache_bytes)
        self._tell("run", job.expert, count, first_ps)
        return ends

    def _prefetch(self, running: Expert, upcoming: tuple[Expert, ...]) -> None:
        """Begins to copy the next experts that the batch needs, those needed first before others."""
        nearer = [running]
        for expert in list(dict.fromkeys(upcoming))[: self.options.prefetch]:
            if expert not in self.residency:
                try:
                    self._copy("prefetch", expert, frozenset((*nearer, *self._begun)), upcoming)
                except CapacityError:
                    return
            nearer.append(expert)

    def _copy(self, kind: str, expert: Expert, kept: frozenset[Expert], upcoming: tuple[Expert, ...]) -> None:
        sizes = self.experts[expert].sizes
        left = self.residency.admit(expert, sizes, kept, upcoming)
        self._begin(kind, expert, sizes.in_bytes + sum(each.state_bytes for each in left.values()))

    def _begin(self, kind: str, expert: Expert, moved_bytes: int) -> None:
        self._begun[expert] = kind, self.now_ps
        self._copies.start(expert, self.node.copy_ps(moved_bytes))

    def _wait_for(self, expert: Expert) -> None:
        """Until its copy, if there is one, is over."""
        while expert in self._copies:
            self._advance(self._copies.next_end_ps())

    def _when_there_is_room(self, take: Callable[[frozenset[Expert]], Any]) -> Any:
        """Takes room, as soon as copies under way no longer stand in its way; take: is given who may not leave."""
        while True:
            try:
                return take(frozenset(self._begun))
            except CapacityError:
                if not self._copies:
                    raise
                self._advance(self._copies.next_end_ps())

    def _advance(self, now_ps: int) -> None:
        """Goes on to a moment; copies that end by then are over."""
        for expert, end_ps in self._copies.advance(now_ps):
            kind, first_ps = self._begun.pop(expert)
            if self._told is not None:
                self._told(Event(kind, expert, 0, first_ps, end_ps))
        self.now_ps = now_ps

    def _tell(self, kind: str, what: Expert, prompts: int, first_ps: int) -> None:
        if self._told is not None:
            self._told(Event(kind, what, prompts, first_ps, self.now_ps))


def _padded(job: _Job) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest answer; an expert's answer is the prompt of the next."""
    requests = [(member.served.request, member.step) for member in job.members]
    reads = max(request.tokens_out if step else request.tokens_in for request, step in requests)
    return reads, max(request.tokens_out for request, _ in requests)
