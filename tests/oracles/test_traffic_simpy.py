"""The network, cycle by cycle, against discrete-event simulation: two independent roads to every delivery (law L4).

The simulation is written with SimPy processes, one for each link and one for each packet on the wire, that know nothing
of the library's queues: a cycle is a thousand ticks, what arrives does so at its start, each round of arbitration looks
at one tick and acts at a later one. Credits are containers.
"""

from collections import defaultdict

import numpy as np
import pytest
import simpy

from rdujax.units import rdn
from rdujax.units.rdn.mesh import Endpoint, Link, Mesh, Port
from rdujax.units.rdn.traffic import ARBITRATIONS, Flow, simulate
from tests.rooms.units.rdn.network_of import network, random_flows, units_of

CYCLE, ROUND, LOOK, ACT = 1000, 20, 5, 10
ENTERS_AT = {Port.NORTH: Port.SOUTH, Port.SOUTH: Port.NORTH, Port.EAST: Port.WEST, Port.WEST: Port.EAST}


class Line:
    """Packets waiting in line in front of a switch; the first one shows which links it still wants."""

    def __init__(self, rank: int, credit_of: Link | None):
        self.rank, self.credit_of = rank, credit_of
        self.items: list[dict] = []
        self.stalls, self.exits = 0, []


class Reference:
    """Everything that happens on the mesh, as SimPy processes."""

    def __init__(self, config: rdn.Config, flows: list[Flow], oldest: bool, drains: dict[Endpoint, int]):
        self.env = simpy.Environment()
        self.hop, self.rate = config.hop_cycles.value, config.packets_per_cycle.value
        self.flows, self.oldest, self.drains = flows, oldest, drains
        links = sorted({link for flow in flows for link in flow.route.links})
        self.credit = {link: simpy.Container(self.env, init=config.credits.value) for link in links}
        self.lines: dict[Link, Line] = {}
        for link in links:
            self.lines[link] = Line(ENTERS_AT.get(link.port, link.port) if link.outward else link.port, link)
        self.senders = [Line(number, None) for number in range(len(flows))]
        self.left = sum(flow.packets * len(flow.route.targets) for flow in flows)
        self.missing = defaultdict(lambda: 0)
        self.tokens = [simpy.Container(self.env, init=flow.tokens or 10**6) for flow in flows]
        self.times = [{target: [] for target in flow.route.targets} for flow in flows]
        self.came: dict[Endpoint, list] = defaultdict(list)
        for number in range(len(flows)):
            self.env.process(self.sender(number))
        for link in links:
            self.env.process(self.arbiter(link, self.feeding(link)))

    def feeding(self, link: Link) -> list[Line]:
        """The lines whose packets may want a link."""
        if not link.outward:
            return [line for line, flow in zip(self.senders, self.flows, strict=True) if flow.route.links[0] == link]
        place = (link.row, link.column)
        return [line for each, line in self.lines.items() if not each.target and each.head == place]

    def cycle(self) -> int:
        return self.env.now // CYCLE

    def may_exit(self, line: Line, cycle: int) -> int:
        """From when the next packet of a line can leave, given those that left."""
        before = line.exits[-1:] + [at + 1 for at in line.exits[-self.rate :][:1] if len(line.exits) >= self.rate]
        return max([cycle, *before])

    def wants(self, flow: int, link: Link) -> set[Link]:
        return {
            each
            for each in self.flows[flow].route.links
            if each.outward and not link.target and (each.row, each.column) == link.head
        }

    def sender(self, number: int):
        flow, line = self.flows[number], self.senders[number]
        due = flow.start_cycle
        for index in range(flow.packets):
            yield self.tokens[number].get(1)
            self.missing[number, index] = len(flow.route.targets)
            due = max(due, self.cycle())
            due = self.may_exit(line, due)
            yield self.env.timeout(max(0, due * CYCLE - self.env.now))
            gone = self.env.event()
            packet = {"age": (due, number, index), "wants": {flow.route.links[0]}, "free": due, "gone": gone}
            line.items.append(packet)
            yield gone
            due = self.cycle() + flow.throttle_cycles

    def arbiter(self, link: Link, lines: list[Line]):
        """Grants the link, round after round, to one of the heads that want it."""
        turn, modulus = 0, 7 if link.outward else len(self.flows)
        while self.left:
            for number in range(self.rate):
                yield self.env.timeout(self.cycle() * CYCLE + number * ROUND + LOOK - self.env.now)
                heads = [line for line in lines if line.items and link in line.items[0]["wants"]]
                heads = [line for line in heads if line.items[0]["free"] <= self.cycle()]
                chosen = None
                if heads and self.credit[link].level:
                    by_turn = sorted(heads, key=lambda line: (line.rank - turn) % modulus)
                    chosen = min(heads, key=lambda line: line.items[0]["age"]) if self.oldest else by_turn[0]
                    turn = chosen.rank + 1
                yield self.env.timeout(ACT - LOOK)
                if chosen is not None:
                    yield self.credit[link].get(1)
                    self.grant(link, chosen)
            yield self.env.timeout((self.cycle() + 1) * CYCLE - self.env.now)

    def grant(self, link: Link, line: Line) -> None:
        packet = line.items[0]
        self.env.process(self.wire(link, packet["age"]))
        packet["wants"].discard(link)
        if packet["wants"]:
            return
        line.items.pop(0)
        line.stalls += self.cycle() - packet["free"]
        line.exits.append(self.cycle())
        if line.credit_of is None:
            packet["gone"].succeed()
            return
        self.env.process(self.give_back(line.credit_of, self.cycle()))
        if line.items:
            line.items[0]["free"] = self.may_exit(line, line.items[0]["free"])

    def wire(self, link: Link, age: tuple):
        yield self.env.timeout((self.cycle() + self.hop) * CYCLE - self.env.now)
        if link.target:
            yield from self.receive(link, age)
            return
        line = self.lines[link]
        free = self.cycle() if line.items else self.may_exit(line, self.cycle())
        line.items.append({"age": age, "wants": self.wants(age[1], link), "free": free})

    def receive(self, link: Link, age: tuple):
        _, flow, index = age
        self.came[link.target].append((flow, index))
        earlier = [at for each in self.times for at in each.get(link.target, [])]
        at = max([self.cycle(), *(each + self.drains.get(link.target, 0) for each in earlier)])
        self.times[flow][link.target].append(at)
        self.left -= 1
        yield self.env.timeout(at * CYCLE - self.env.now)
        self.env.process(self.give_back(link, at))
        yield self.env.timeout(self.distance(flow, link) * self.hop * CYCLE)
        self.missing[flow, index] -= 1
        if not self.missing[flow, index]:
            yield self.tokens[flow].put(1)

    def distance(self, flow: int, link: Link) -> int:
        """Links from a source to the end of a link of its route."""
        route = self.flows[flow].route.links
        before = [each for each in route if link.outward and not each.target and each.head == (link.row, link.column)]
        return 1 + (self.distance(flow, before[0]) if before else 0)

    def give_back(self, link: Link, cycle: int):
        yield self.env.timeout((cycle + self.hop) * CYCLE - self.env.now)
        yield self.credit[link].put(1)


def check_same(config: rdn.Config, flows: list[Flow], arbitration: str, drains: dict[Endpoint, int]) -> int:
    """Every delivery, every order of arrival and every stall is the same; returns the number of deliveries."""
    traffic = simulate(config, flows, arbitration, drains)
    reference = Reference(config, flows, arbitration == "oldest", drains)
    reference.env.run()
    assert [{at: cycles.tolist() for at, cycles in flow.items()} for flow in traffic.taken] == reference.times
    assert traffic.order == reference.came
    assert traffic.source_stall_cycles == tuple(line.stalls for line in reference.senders)
    stalls = {link: line.stalls for link, line in reference.lines.items() if line.stalls}
    assert {link: cycles for link, cycles in traffic.stall_cycles.items() if cycles} == stalls
    return sum(len(cycles) for flow in reference.times for cycles in flow.values())


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(6, 60))])
def test_random_traffic_is_delivered_in_the_same_cycles(seed):
    rng = np.random.default_rng(seed)
    delivered = 0
    for i in range(6):
        rows, columns, hop, credit_count = map(int, rng.integers([1, 2, 1, 1], [4, 5, 4, 8]))
        config = network(rows=rows, columns=columns, hop_cycles=hop, credits=credit_count, packets_per_cycle=1 + i // 4)
        mesh = Mesh(rows, columns)
        drains = {at: int(rng.integers(0, 4)) for at in units_of(mesh) if rng.random() < 0.3}
        flows = random_flows(rng, mesh, int(rng.integers(1, 9)))
        delivered += check_same(config, flows, ARBITRATIONS[i % 2], drains)
    assert delivered > 100
