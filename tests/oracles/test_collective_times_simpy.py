"""Times of collectives against discrete-event simulation: sockets that send and receive, written with SimPy (law L4).

A socket is a process; it has a port to every peer, one piece at a time each way, and two inboxes from every peer, one
for what is combined and one for what is not. What it does is the algorithm as one would write it for a message-passing
machine; the simulation knows nothing of rounds, chunk tables or closed forms.
"""

from collections.abc import Generator
from fractions import Fraction
from math import ceil

import pytest
import simpy

from rdujax.machines import sn40l, tiny
from rdujax.units.p2p import collective_times as times
from rdujax.units.p2p.collective_traffic import ROUTES, Collective

CLOCK = {"sn40l": 1_600_000_000, "tiny": 1_000_000}


class Node:
    """Sockets with ports and inboxes, and when each of them was last done with something."""

    def __init__(self, machine, work: Collective, pieces: int, combine_cycles: int):
        p2p, clock = machine.p2p, CLOCK[machine.name]
        links = p2p.ports.value // (p2p.sockets.value - 1)
        self.bytes_per_cycle = Fraction(p2p.bandwidth_bytes_per_s.value * links, p2p.ports.value * clock)
        self.latency = ceil(Fraction(str(p2p.latency_s.value)) * clock)
        self.env, self.work, self.pieces, self.combine_cycles = simpy.Environment(), work, pieces, combine_cycles
        n = work.sockets
        self.ports = {(a, b): simpy.Resource(self.env) for a in range(n) for b in range(n) if a != b}
        self.inbox = {(*pair, combined): simpy.Store(self.env) for pair in self.ports for combined in (False, True)}
        self.done = [0] * n

    def cut(self, elements: int, full: int) -> list[int]:
        """Sizes of the pieces of a message whose full length is `full`."""
        size = ceil(full / self.pieces)
        return [min(size, elements - low) for low in range(0, elements, size)]

    def send(self, source: int, target: int, elements: int, width: int, combined: bool = False) -> None:
        """Queues a piece at its port; the target's pipeline combines it where it is to be."""
        if elements:
            self.env.process(self._carry(source, target, elements * width, combined))

    def _carry(self, source: int, target: int, size_bytes: int, combined: bool) -> Generator:
        with self.ports[source, target].request() as turn:
            yield turn
            yield self.env.timeout(ceil(size_bytes / self.bytes_per_cycle))
        yield self.env.timeout(self.latency)
        if combined:
            yield self.env.timeout(self.combine_cycles)
        self.inbox[source, target, combined].put(size_bytes)

    def receive(self, me: int, source: int, combined: bool) -> Generator:
        """Waits for the next piece from a peer."""
        yield self.inbox[source, me, combined].get()
        self.done[me] = max(self.done[me], self.env.now)

    def collect(self, me: int, source: int, count: int, combined: bool) -> simpy.Process:
        """A process that receives a number of pieces from a peer."""

        def receiving() -> Generator:
            for _ in range(count):
                yield from self.receive(me, source, combined)

        return self.env.process(receiving())

    def run(self) -> list[int]:
        """When each socket is done."""
        kind, route = self.work.kind, self.work.route
        socket = {"ring": ring, "halving": halving, "oneshot": oneshot, "direct": direct}[route]
        socket = broadcast if kind == "broadcast" else dealt if kind == "all_to_all" else socket
        for me in range(self.work.sockets):
            self.env.process(socket(self, me))
        self.env.run()
        return self.done


def chunk(work: Collective, index: int) -> int:
    """Elements of a chunk."""
    full = ceil(work.elements / work.sockets)
    return max(0, min(full, work.elements - full * (index % work.sockets)))


def peers(node: Node, me: int) -> list[int]:
    return [other for other in range(node.work.sockets) if other != me]


def halves(work: Collective) -> tuple[bool, bool, int]:
    """(reduces, gathers, bytes of an element while it is gathered)."""
    last = work.result_bytes or work.element_bytes
    reduces, gathers = work.kind != "all_gather", work.kind != "reduce_scatter"
    return reduces, gathers, last if work.kind == "all_reduce" else work.element_bytes


def direct(node: Node, me: int) -> Generator:
    """Everyone's piece to its owner; when the owner has it from all, back to all."""
    work = node.work
    reduces, gathers, width = halves(work)
    mine = node.cut(chunk(work, me), chunk(work, 0))
    if reduces:
        for other in peers(node, me):
            for size in node.cut(chunk(work, other), chunk(work, 0)):
                node.send(me, other, size, work.element_bytes, True)
    for size in mine:
        if reduces:
            yield node.env.all_of([node.collect(me, other, 1, True) for other in peers(node, me)])
        if gathers:
            for other in peers(node, me):
                node.send(me, other, size, width)
    if gathers:
        for other in peers(node, me):
            node.collect(me, other, len(node.cut(chunk(work, other), chunk(work, 0))), False)


def ring(node: Node, me: int) -> Generator:
    """Chunks go round: once to be summed, once more to be known."""
    work, n = node.work, node.work.sockets
    reduces, gathers, width = halves(work)
    left, right, full = (me - 1) % n, (me + 1) % n, chunk(work, 0)
    if reduces:
        for size in node.cut(chunk(work, me - 1), full):
            node.send(me, right, size, work.element_bytes, True)
    elif gathers:
        for size in node.cut(chunk(work, me), full):
            node.send(me, right, size, width)
    for step in range(n - 1 if reduces else 0):
        for size in node.cut(chunk(work, me - 2 - step), full):
            yield from node.receive(me, left, True)
            if step < n - 2:
                node.send(me, right, size, work.element_bytes, True)
            elif gathers:
                node.send(me, right, size, width)
    for step in range(n - 1 if gathers else 0):
        for size in node.cut(chunk(work, me - 1 - step), full):
            yield from node.receive(me, left, False)
            if step < n - 2:
                node.send(me, right, size, width)


def halving(node: Node, me: int) -> Generator:
    """With partners ever nearer: keep one's own half, give the other; then back out again."""
    work, n = node.work, node.work.sockets
    reduces, gathers, width = halves(work)
    low, high = (0, n) if reduces else (me, me + 1)
    while high - low > 1:
        partner, middle = me ^ (high - low) // 2, (low + high) // 2
        keep, give = ((low, middle), (middle, high)) if me < middle else ((middle, high), (low, middle))
        node.send(me, partner, sum(chunk(work, c) for c in range(*give)), work.element_bytes, True)
        if sum(chunk(work, c) for c in range(*keep)):
            yield from node.receive(me, partner, True)
        low, high = keep
    while gathers and high - low < n:
        span = high - low
        partner = me ^ span
        node.send(me, partner, sum(chunk(work, c) for c in range(low, high)), width)
        start = low ^ span
        if sum(chunk(work, c) for c in range(start, start + span)):
            yield from node.receive(me, partner, False)
        low = min(low, start)
        high = low + 2 * span


def oneshot(node: Node, me: int) -> Generator:
    """Everything to everyone."""
    sizes = node.cut(node.work.elements, node.work.elements)
    for other in peers(node, me):
        for size in sizes:
            node.send(me, other, size, node.work.element_bytes, True)
        node.collect(me, other, len(sizes), True)
    yield node.env.timeout(0)


def dealt(node: Node, me: int) -> Generator:
    """A part to each."""
    for other in peers(node, me):
        sizes = node.cut(chunk(node.work, other), chunk(node.work, 0))
        for size in sizes:
            node.send(me, other, size, node.work.element_bytes)
        node.collect(me, other, len(sizes), False)
    yield node.env.timeout(0)


def broadcast(node: Node, me: int) -> Generator:
    """From the root to all, or handed on along the ring."""
    work, n = node.work, node.work.sockets
    sizes = node.cut(work.elements, work.elements)
    following = [(me + 1) % n] if work.route == "ring" else peers(node, me)
    following = [other for other in following if other != work.root]
    if me == work.root:
        for other in following:
            for size in sizes:
                node.send(me, other, size, work.element_bytes)
        return
    for size in sizes:
        yield from node.receive(me, work.root if work.route == "direct" else (me - 1) % n, False)
        if work.route == "ring":
            for other in following:
                node.send(me, other, size, work.element_bytes)


CASES = [(kind, route) for kind, routes in ROUTES.items() for route in routes]


def works(kind: str, route: str, sockets: int, elements: int):
    """A collective in several formats and, where it has one, from several roots."""
    elements = elements * sockets if kind == "all_to_all" else elements
    for element_bytes, result_bytes in ((4, 2), (4, 4), (2, 4)):
        root = (elements + element_bytes) % sockets if kind == "broadcast" else 0
        yield Collective(kind, sockets, elements, element_bytes, route, result_bytes, root)


@pytest.mark.parametrize(("kind", "route"), CASES)
def test_every_socket_is_done_in_the_same_cycle(kind, route):
    """Ragged chunks and pieces included; fewer elements than sockets, too."""
    for machine, sockets, elements, pieces, combine_cycles in [
        (tiny(), 4, 64, 4, 0), (tiny(), 4, 61, 3, 5), (tiny(), 2, 1, 1, 0), (tiny(), 4, 3, 2, 1),
        (sn40l(), 8, 4096, 4, 20), (sn40l(), 8, 99_999, 7, 0), (sn40l(), 2, 1000, 5, 3), (sn40l(), 8, 5, 1, 9),
        (sn40l().replace({"p2p.latency_s": 0}), 8, 4096, 3, 0), (tiny().replace({"p2p.ports": 9}), 4, 100, 2, 2),
    ]:  # fmt: skip
        pieces = 1 if route == "halving" else pieces
        for work in works(kind, route, sockets, elements):
            clock = CLOCK[machine.name]
            simulated = Node(machine, work, pieces, combine_cycles).run()
            assert times.finish_cycles(machine.p2p, clock, work, pieces, combine_cycles) == simulated, work
            closed = times.cycles(machine.p2p, clock, work, pieces, combine_cycles)
            assert closed == max(simulated) if times.is_even(work, pieces) else closed >= max(simulated), work


@pytest.mark.full
@pytest.mark.parametrize(("kind", "route"), CASES)
def test_every_socket_is_done_in_the_same_cycle_for_many_sizes(kind, route):
    machine = tiny().replace({"p2p.ports": 7, "p2p.sockets": 8, "p2p.latency_s": 0.000013})
    for sockets in (2, 4, 8) if route == "halving" else (2, 3, 4, 5, 8):
        for elements in (1, 7, 8, 24, 40, 63, 120, 240):
            for pieces in (1,) if route == "halving" else (1, 2, 3, 5):
                for work in works(kind, route, sockets, elements):
                    simulated = Node(machine, work, pieces, 4).run()
                    assert times.finish_cycles(machine.p2p, CLOCK["tiny"], work, pieces, 4) == simulated, work
                    closed = times.cycles(machine.p2p, CLOCK["tiny"], work, pieces, 4)
                    assert closed == max(simulated) if times.is_even(work, pieces) else closed >= max(simulated), work
