"""Packets on the mesh, cycle by cycle: credits at every hop, arbitration, throttling, stalls. Exact, on the host.

        source > [queue] > switch > [queue] > switch > [queue] > unit
               <-------- <        <-------- <        <-------- <          credits on their way back

The law        A packet that is granted a link in cycle t can leave the queue at its end in cycle t + hop. It takes a
               credit of that link with it, which can be used again hop cycles after the packet has left the queue: at
               most `credits` packets travel per 2 x hop cycles, and 2 x hop credits give the full rate.
               In each cycle a link takes up to packets_per_cycle packets, one per round of arbitration. Only the head
               of a queue is considered. Its copies leave one by one, each when its link is granted, and it is gone
               with the last one. In each round every link is granted to one of the heads that ask for it, by round
               robin over the ports of the switch (over the flows at a source), or to the oldest packet
               (of equals, to that of the first flow).
               A source sends its packets in order, one per throttle_cycles at most; a receiver takes one per
               drain_cycles at most, at once by default. A source with end-to-end tokens spends one on each packet; it
               is back when every receiver has taken the packet and an event has travelled the path the other way.
Assumed        that credits travel as fast as packets, and that links from and to units take a hop like others.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal, NamedTuple

import numpy as np

from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.ledger.counts import Counts
from rdujax.units import rdn
from rdujax.units.rdn.legality import check_credits, waiting_circle
from rdujax.units.rdn.mesh import OPPOSITE, Endpoint, Link, Port
from rdujax.units.rdn.routing import Route, check_route

Arbitration = Literal["round_robin", "oldest"]
ARBITRATIONS: tuple[Arbitration, ...] = ("round_robin", "oldest")


@dataclass(frozen=True)
class Flow:
    """Packets that follow one route.

    start_cycle: when the first is ready. throttle_cycles: least distance of two packets (0: none). tokens: packets on
    their way end to end at most (0: no such limit). Raises ArgumentError for negative numbers.
    """

    route: Route
    packets: int
    start_cycle: int = 0
    throttle_cycles: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.packets, self.start_cycle, self.throttle_cycles, self.tokens) < 0:
            raise ArgumentError(describe("a flow with a negative number", given=str(self), allowed="0 or more"))


@dataclass(frozen=True)
class Traffic:
    """What happened to the packets of a list of flows.

    taken: for each flow and target, int64 [packets]: the cycle in which the receiver took each packet.
    order: for each receiver, the (flow, packet) pairs in order of arrival.
    stall_cycles: for each link, cycles that packets waited at the head of the queue at its end, all summed.
    source_stall_cycles: for each flow, cycles that its packets waited to be injected, ready and at the head.
    loads: packets that each link carried.
    """

    taken: tuple[dict[Endpoint, np.ndarray], ...]
    order: dict[Endpoint, list[tuple[int, int]]]
    stall_cycles: dict[Link, int]
    source_stall_cycles: tuple[int, ...]
    loads: dict[Link, int]

    @property
    def makespan_cycles(self) -> int:
        """The cycle in which the last packet was taken; 0 where there was none."""
        return max((int(cycles[-1]) for flow in self.taken for cycles in flow.values() if len(cycles)), default=0)

    def counts(self, fabric: rdn.Fabric = "vector") -> Counts:
        """The tally of the network: packets injected, link traversals, stalls at switch ports."""
        injected = sum(load for link, load in self.loads.items() if not link.outward)
        hops, stalls = sum(self.loads.values()), sum(self.stall_cycles.values())
        return Counts({f"rdn.{fabric}_packets": injected, "rdn.hops": hops, "rdn.stall_cycles": stalls})


def simulate(
    config: rdn.Config,
    flows: Sequence[Flow],
    arbitration: Arbitration = "round_robin",
    drain_cycles: Mapping[Endpoint, int] | None = None,
    *,
    unchecked: bool = False,
) -> Traffic:
    """Sends the packets of all flows over the links of one fabric of one tile, and says when each was taken.

    drain_cycles: for receivers that are slow, the cycles from one packet taken to the next.
    unchecked: lets routes in that may deadlock; if they do, ArgumentError names the links that wait for one another.
    Raises ArgumentError for routes that are no trees or close a circle of credits.

    >>> from rdujax.machines.tiny import tiny
    >>> from rdujax.units.rdn.routing import dimension_order
    >>> config = tiny().rdn  # 2 cycles per hop, 2 credits: 2 packets per 4 cycles
    >>> route = dimension_order(rdn.mesh_of(config), Endpoint(0, 0, Port.PMU), Endpoint(0, 1, Port.PCU))
    >>> traffic = simulate(config, [Flow(route, packets=4)])
    >>> traffic.taken[0][Endpoint(0, 1, Port.PCU)].tolist()
    [6, 7, 10, 11]
    >>> traffic.makespan_cycles == rdn.transit_cycles(config, packets=4, links=3)
    True
    """
    if arbitration not in ARBITRATIONS:
        raise unknown("arbitration", arbitration, ARBITRATIONS)
    mesh, drains = rdn.mesh_of(config), dict(drain_cycles or {})
    for flow in flows:
        check_route(mesh, flow.route)
    for endpoint, least in drains.items():
        mesh.check_endpoint(endpoint)
        if least < 0:
            raise ArgumentError(describe("a receiver with a negative number", given=least, where=str(endpoint)))
    if not unchecked:
        check_credits([flow.route for flow in flows])
    network = _Network(config, flows, arbitration, drains)
    network.run()
    taken = tuple({at: np.asarray(cycles, np.int64) for at, cycles in flow.items()} for flow in network.taken)
    stalls = {link: queue.stall_cycles for link, queue in network.queues.items()}
    waited = tuple(queue.stall_cycles for queue in network.sources)
    return Traffic(taken, dict(network.order), stalls, waited, dict(network.loads))


class _Packet(NamedTuple):
    born_cycle: int  # from which its source could send it: its age
    flow: int
    number: int


@dataclass
class _Queue:
    """Packets in front of a switch, or the next one of a source."""

    link: Link | None  # the link that ends here; None at a source
    port: int  # place in the round robin: the port of the switch, or the number of the flow
    waiting: deque[tuple[int, _Packet]] = field(default_factory=deque)  # with the cycle of arrival
    pending: list[Link] = field(default_factory=list)  # links that the head still has to take
    ready_cycle: int = 0  # from which the head may leave
    left_cycles: deque[int] = field(default_factory=deque)  # when the last packets left, as many as leave per cycle
    stall_cycles: int = 0

    def after_others(self, cycle: int, rate: int) -> int:
        """The first cycle from `cycle` on in which one more packet may leave, after those that left before it."""
        if not self.left_cycles:
            return cycle
        full = self.left_cycles[0] + 1 if len(self.left_cycles) == rate else 0
        return max(cycle, self.left_cycles[-1], full)


class _Network:
    """The state of a simulation, which `run` moves to the end."""

    def __init__(
        self, config: rdn.Config, flows: Sequence[Flow], arbitration: Arbitration, drains: Mapping[Endpoint, int]
    ):
        self.hop_cycles, self.rate = int(config.hop_cycles.value), int(config.packets_per_cycle.value)
        self.flows, self.drains, self.oldest = flows, drains, arbitration == "oldest"
        self.after = [flow.route.next_links() for flow in flows]
        credit_count = int(config.credits.value)
        self.credits: dict[Link, int] = defaultdict(lambda: credit_count)
        self.returns: list[tuple[int, Link]] = []  # heap: when a credit can be used again
        self.queues: dict[Link, _Queue] = {}
        self.active: dict[int, _Queue] = {}  # the queues that hold packets, by identity
        self.turns: dict[Link, int] = defaultdict(int)  # the port whose turn it is in the round robin of a link
        self.loads: dict[Link, int] = defaultdict(int)
        self.taken: list[dict[Endpoint, list[int]]] = [{at: [] for at in flow.route.targets} for flow in flows]
        self.order: dict[Endpoint, list[tuple[int, int]]] = defaultdict(list)
        self.last_taken: dict[Endpoint, int] = {}
        self.depths = [flow.route.depths() for flow in flows]
        self.held: dict[int, tuple[int, int]] = {}  # flows without a token: (packet, cycle from which it is ready)
        self.sources = [self._new_queue(None, number) for number in range(len(flows))]
        for source, flow in zip(self.sources, flows, strict=True):
            self._offer(source, 0, flow.start_cycle)

    def run(self) -> None:
        """Cycle by cycle until every packet is taken; cycles in which nothing can move are passed over."""
        cycle = 0
        while self.active:
            while self.returns and self.returns[0][0] <= cycle:
                self.credits[heappop(self.returns)[1]] += 1
            moved = any([self._round(cycle) for _ in range(self.rate)])
            ahead = [queue.ready_cycle for queue in self.active.values() if queue.ready_cycle > cycle]
            ahead += [self.returns[0][0]] if self.returns else []
            if self.active and not moved and not ahead:
                self._refuse_deadlock(cycle)
            cycle = cycle + 1 if moved else min(ahead, default=cycle)

    def _round(self, cycle: int) -> bool:
        """One round of arbitration: every link takes one packet of those that ask for it. False where none moved."""
        asking: dict[Link, list[_Queue]] = defaultdict(list)
        for queue in self.active.values():
            if queue.ready_cycle <= cycle:
                for link in queue.pending:
                    if self.credits[link]:
                        asking[link].append(queue)
        for link, queues in asking.items():
            self._send(cycle, self._winner(link, queues), link)
        return bool(asking)

    def _winner(self, link: Link, queues: list[_Queue]) -> _Queue:
        if self.oldest:
            return min(queues, key=lambda queue: queue.waiting[0][1])
        turn, ports = self.turns[link], len(Port) if link.outward else len(self.flows)
        winner = min(queues, key=lambda queue: (queue.port - turn) % ports)
        self.turns[link] = winner.port + 1
        return winner

    def _send(self, cycle: int, queue: _Queue, link: Link) -> None:
        self.credits[link] -= 1
        self.loads[link] += 1
        packet = queue.waiting[0][1]
        if link.target:
            self._take(link, link.target, packet, cycle + self.hop_cycles)
        else:
            if link not in self.queues:
                port = OPPOSITE[link.port] if link.outward else link.port
                self.queues[link] = self._new_queue(link, port)
            self._push(self.queues[link], packet, cycle + self.hop_cycles)
        queue.pending.remove(link)
        if not queue.pending:
            self._pop(queue, cycle)

    def _take(self, link: Link, target: Endpoint, packet: _Packet, arrival_cycle: int) -> None:
        earliest = self.last_taken.get(target, -self.drains.get(target, 0)) + self.drains.get(target, 0)
        cycle = self.last_taken[target] = max(arrival_cycle, earliest)
        self.taken[packet.flow][target].append(cycle)
        self.order[target].append((packet.flow, packet.number))
        heappush(self.returns, (cycle + self.hop_cycles, link))
        if packet.flow in self.held:
            self._offer(self.sources[packet.flow], *self.held.pop(packet.flow))

    def _push(self, queue: _Queue, packet: _Packet, arrival_cycle: int) -> None:
        queue.waiting.append((arrival_cycle, packet))
        if len(queue.waiting) == 1:
            self.active[id(queue)] = queue
            self._expose(queue)

    def _expose(self, queue: _Queue) -> None:
        """Makes the first packet of a queue its head."""
        arrival_cycle, packet = queue.waiting[0]
        links = self.flows[packet.flow].route.links
        queue.pending = list(self.after[packet.flow][queue.link]) if queue.link else [links[0]]
        queue.ready_cycle = queue.after_others(arrival_cycle, self.rate)

    def _pop(self, queue: _Queue, cycle: int) -> None:
        _, packet = queue.waiting.popleft()
        queue.stall_cycles += cycle - queue.ready_cycle
        queue.left_cycles.append(cycle)
        if queue.link:
            heappush(self.returns, (cycle + self.hop_cycles, queue.link))
        else:
            self._offer(queue, packet.number + 1, cycle + self.flows[packet.flow].throttle_cycles)
        if len(queue.waiting) == 0:
            del self.active[id(queue)]
        elif queue.link:
            self._expose(queue)

    def _offer(self, source: _Queue, number: int, cycle: int) -> None:
        """Puts the next packet of a flow into the queue of its source, if there is one more and a token for it."""
        flow = self.flows[source.port]
        if number >= flow.packets:
            return
        if 0 < flow.tokens <= number:
            back_cycle = self._token_cycle(source.port, number - flow.tokens)
            if back_cycle is None:
                self.held[source.port] = (number, cycle)
                return
            cycle = max(cycle, back_cycle)
        born_cycle = source.after_others(cycle, self.rate)
        self._push(source, _Packet(born_cycle, source.port, number), born_cycle)

    def _token_cycle(self, flow: int, number: int) -> int | None:
        """When the token of a packet is back at its source; None while it is not yet taken everywhere."""
        taken = self.taken[flow]
        if any(len(cycles) <= number for cycles in taken.values()):
            return None
        return max(cycles[number] + self.depths[flow][at] * self.hop_cycles for at, cycles in taken.items())

    def _new_queue(self, link: Link | None, port: int) -> _Queue:
        return _Queue(link, port, left_cycles=deque(maxlen=self.rate))

    def _refuse_deadlock(self, cycle: int) -> None:
        waits = {(q.link, link) for q in self.active.values() if q.link for link in q.pending if not self.credits[link]}
        raise ArgumentError(
            describe(
                "the network is deadlocked: every one of these links waits for a credit of the next",
                given=waiting_circle(waits),
                where=f"cycle {cycle}",
                do="route along the same dimension first everywhere",
            )
        )
