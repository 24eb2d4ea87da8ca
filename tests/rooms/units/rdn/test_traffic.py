"""Credits, arbitration, throttling and tokens on the cycle: not one before, and at it. SimPy judges the rest."""

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.ledger.counts import Counts
from rdujax.units import rdn
from rdujax.units.rdn.loads import bottleneck_cycles, route_loads
from rdujax.units.rdn.mesh import Endpoint, Link, Mesh, Port
from rdujax.units.rdn.routing import dimension_order, multicast
from rdujax.units.rdn.traffic import ARBITRATIONS, Flow, simulate
from tests.rooms.units.rdn.network_of import network, random_flows

LINE = Mesh(1, 4)
SOURCE, MIDDLE, END = Endpoint(0, 0, Port.PMU), Endpoint(0, 2, Port.PMU), Endpoint(0, 3, Port.PCU)
PATH = dimension_order(LINE, SOURCE, END)  # five links
each_arbitration = pytest.mark.parametrize("arbitration", ARBITRATIONS)


def line(**facts: int) -> rdn.Config:
    return network(rows=1, columns=4, **facts)


def times(config: rdn.Config, flow: Flow, **how) -> list[int]:
    """When the packets of one flow alone are taken."""
    return simulate(config, [flow], **how).taken[0][END].tolist()


@pytest.mark.parametrize("hop", [1, 2, 5])
def test_a_packet_takes_its_hops_and_no_cycle_more(hop):
    assert times(line(hop_cycles=hop), Flow(PATH, 1)) == [5 * hop]
    assert times(line(hop_cycles=hop), Flow(PATH, 1, start_cycle=7)) == [7 + 5 * hop]


@pytest.mark.parametrize("hop", [1, 2, 3])
@pytest.mark.parametrize("rate", [1, 2])
def test_credits_of_the_round_trip_give_the_full_rate_and_one_less_does_not(hop, rate):
    full = 2 * hop * rate
    packets = 4 * full
    at_rate = [5 * hop + i // rate for i in range(packets)]
    facts = {"hop_cycles": hop, "packets_per_cycle": rate}
    assert times(line(credits=full, **facts), Flow(PATH, packets)) == at_rate
    assert times(line(credits=full + 1, **facts), Flow(PATH, packets)) == at_rate
    short = times(line(credits=full - 1, **facts), Flow(PATH, packets))
    assert short[: full - 1] == at_rate[: full - 1]
    assert short[full - 1] == 5 * hop + 2 * hop == at_rate[full - 1] + 1


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_the_closed_form_is_the_simulation_where_nobody_is_in_the_way(rate):
    for hop in (1, 3):
        for credit_count in (1, 2, 3, 5, 6, 7, 12):
            config = line(hop_cycles=hop, credits=credit_count, packets_per_cycle=rate)
            for packets in (0, 1, 2, 5, 6, 7, 23):
                expected = simulate(config, [Flow(PATH, packets)]).makespan_cycles
                assert rdn.transit_cycles(config, packets, PATH.hops) == expected


@pytest.mark.parametrize("throttle", [1, 2, 5])
def test_a_throttled_source_sends_one_packet_in_its_time(throttle):
    config = line(credits=4)
    assert times(config, Flow(PATH, 6, throttle_cycles=throttle)) == [10 + i * throttle for i in range(6)]
    assert simulate(config, [Flow(PATH, 6, throttle_cycles=throttle)]).source_stall_cycles == (0,)


@pytest.mark.parametrize("drain", [2, 3, 7])
def test_a_slow_receiver_halts_the_line_behind_it(drain):
    config = line(credits=4)
    traffic = simulate(config, [Flow(PATH, 40)], drain_cycles={END: drain})
    assert traffic.taken[0][END].tolist() == [10 + i * drain for i in range(40)]
    assert traffic.stall_cycles[PATH.links[3]] > 0 and traffic.source_stall_cycles[0] > 0
    assert not any(simulate(config, [Flow(PATH, 40)]).stall_cycles.values())


def test_tokens_of_the_round_trip_give_the_full_rate_and_one_less_does_not():
    config = line(credits=4)  # 10 cycles there, 10 back
    at_rate = [10 + i for i in range(60)]
    assert times(config, Flow(PATH, 60, tokens=20)) == at_rate
    short = times(config, Flow(PATH, 60, tokens=19))
    assert short[:19] == at_rate[:19] and short[19] == at_rate[19] + 1
    assert times(config, Flow(PATH, 3, tokens=1)) == [10, 30, 50]


def test_a_token_waits_for_the_farthest_receiver():
    config = line(credits=4)
    traffic = simulate(config, [Flow(multicast(LINE, SOURCE, [MIDDLE, END]), 2, tokens=1)])
    assert traffic.taken[0][MIDDLE].tolist() == [8, 28] and traffic.taken[0][END].tolist() == [10, 30]


def test_two_flows_share_a_link_in_turns():
    """Both want the last two links: one packet each, in turns, from the north port (0) and from the west (3)."""
    config = network(rows=2, columns=2, hop_cycles=1, credits=4)
    mesh, at = rdn.mesh_of(config), Endpoint(1, 1, Port.PMU)
    north = dimension_order(mesh, Endpoint(0, 1, Port.PMU), at)
    west = dimension_order(mesh, Endpoint(1, 0, Port.PMU), at)
    traffic = simulate(config, [Flow(west, 3), Flow(north, 3)])
    assert traffic.order[at] == [(1, 0), (0, 0), (1, 1), (0, 1), (1, 2), (0, 2)]
    assert traffic.taken[1][at].tolist() == [3, 5, 7] and traffic.taken[0][at].tolist() == [4, 6, 8]
    stalls = traffic.stall_cycles
    # West waits a cycle for each of its packets, north for its second and third.
    assert stalls[Link(1, 0, Port.EAST)] == 3 and stalls[Link(0, 1, Port.SOUTH)] == 2


def test_the_oldest_packet_goes_first():
    config = network(rows=2, columns=2, hop_cycles=1, credits=8)
    mesh, at = rdn.mesh_of(config), Endpoint(1, 1, Port.PMU)
    near = dimension_order(mesh, Endpoint(1, 1, Port.PCU), at)
    far = dimension_order(mesh, Endpoint(0, 0, Port.PMU), at)
    flows = [Flow(near, 6, start_cycle=2), Flow(far, 6)]
    oldest = simulate(config, flows, "oldest")
    # Born in cycles 0 to 5 and 2 to 7; of two of one age the first flow's goes first.
    assert [flow for flow, _ in oldest.order[at]] == [1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    turns = simulate(config, flows, "round_robin")
    assert [flow for flow, _ in turns.order[at]] == [1, 0] * 6


@each_arbitration
def test_a_branch_that_is_blocked_holds_its_head_and_not_its_sister(arbitration):
    """A slow receiver takes every tenth packet; the other copies arrive as soon as the queues allow."""
    config = line(credits=4)
    route = multicast(LINE, SOURCE, [MIDDLE, END])
    traffic = simulate(config, [Flow(route, 30)], arbitration, {END: 10})
    ahead = traffic.taken[0][MIDDLE] - traffic.taken[0][END]
    assert traffic.taken[0][END].tolist() == [10 + 10 * i for i in range(30)]
    assert (ahead < 0).all() and traffic.taken[0][MIDDLE][:8].tolist() == [8 + i for i in range(8)]


@each_arbitration
def test_every_packet_arrives_once_and_the_tallies_are_those_of_the_routes(rng, arbitration):
    config = network(rows=3, columns=4)
    mesh = rdn.mesh_of(config)
    for _ in range(10):
        flows = random_flows(rng, mesh, 8)
        traffic = simulate(config, flows, arbitration)
        loads = np.zeros(mesh.shape, np.int64)
        for link, load in traffic.loads.items():
            loads[link.row, link.column, link.slot] = load
        routes, packets = [flow.route for flow in flows], [flow.packets for flow in flows]
        assert np.array_equal(loads, route_loads(mesh, routes, packets))
        assert traffic.makespan_cycles >= bottleneck_cycles(loads, 1)
        predicted = {"rdn.scalar_packets": sum(packets), "rdn.hops": int(loads.sum())}
        stalls = sum(traffic.stall_cycles.values())
        assert traffic.counts("scalar") == Counts(predicted | {"rdn.stall_cycles": stalls})
        for number, flow in enumerate(flows):
            assert set(traffic.taken[number]) == set(flow.route.targets)
            for at, cycles in traffic.taken[number].items():
                assert len(cycles) == flow.packets and (np.diff(cycles) >= 1).all()
                mine = [packet for of, packet in traffic.order.get(at, []) if of == number]
                assert mine == list(range(flow.packets))


def test_long_silence_is_passed_over():
    config = line()
    assert times(config, Flow(PATH, 3, start_cycle=10**12, throttle_cycles=10**12)) == [
        10**12 * (i + 1) + 10 for i in range(3)
    ]


def test_nothing_to_send_takes_no_time():
    traffic = simulate(line(), [Flow(PATH, 0, start_cycle=5)])
    assert traffic.makespan_cycles == 0 and traffic.counts() == Counts()
    assert simulate(line(), []).makespan_cycles == 0


def test_bad_requests_are_refused():
    with pytest.raises(UnknownNameError, match=r"unknown arbitration[\s\S]*did you mean 'oldest'"):
        simulate(line(), [], "oldest_first")
    with pytest.raises(ArgumentError, match=r"a flow with a negative number[\s\S]*tokens=-1"):
        Flow(PATH, 1, tokens=-1)
    with pytest.raises(ArgumentError, match=r"a receiver with a negative number[\s\S]*given:   -2[\s\S]*pcu\(0,3\)"):
        simulate(line(), [], drain_cycles={END: -2})
    with pytest.raises(ArgumentError, match="no such unit on the mesh"):
        simulate(line(), [], drain_cycles={Endpoint(1, 0, Port.PMU): 1})
    with pytest.raises(ArgumentError, match="a link that the mesh does not have"):
        simulate(network(rows=1, columns=3), [Flow(PATH, 1)])
