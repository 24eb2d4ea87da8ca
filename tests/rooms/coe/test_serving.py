"""A node that serves, in cases small enough to follow by hand; the rest is compared with a simulation."""

import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.coe.nodes import Event, Kind, Node, Options
from rdujax.coe.phases import Table
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.requests import Refused, Request, Served
from rdujax.coe.residency import Sizes
from rdujax.coe.serving import Server
from rdujax.coe.traffic import Open

KIND = Kind(Sizes(10), 0, Table({(1, 8): 100, (4, 8): 130}, {(1, 64): 5, (4, 64): 7}))
NODE = Node("node", 20, 1000, {}, lambda prompts, tokens: 50, lambda moved: 30)


def served(requests: list[Request], options: Options, told=None) -> list[Served | Refused]:
    server = Server(NODE, dict.fromkeys("abc", KIND), LeastRecentlyUsed(), options, told)
    return list(server.serve(Open(requests)))


def ask(number: int, at: int, *experts: str, out: int = 3) -> Request:
    return Request(number, at, experts, 8, out)


def test_one_request_is_the_sum_of_its_parts():
    [one] = served([ask(0, 7, "a")], Options())
    assert isinstance(one, Served)
    assert (one.queue_ps, one.route_ps, one.turn_ps, one.switch_ps, one.prefill_ps, one.decode_ps) == (
        0,
        50,
        0,
        30,
        100,
        10,
    )
    assert (one.first_token_ps, one.latency_ps, one.end_ps, one.hits, one.per_token_ps) == (180, 190, 197, 0, 5)


def test_events_tell_what_happened():
    events: list[Event] = []
    served([ask(0, 0, "a"), ask(1, 0, "b")], Options(batch=2, prefetch=1), events.append)
    assert events == [
        Event("route", "router", 2, 0, 50), Event("copy", "a", 0, 50, 80), Event("prefetch", "b", 0, 80, 110),
        Event("run", "a", 1, 80, 190), Event("run", "b", 1, 190, 300),
    ]  # fmt: skip


def test_only_those_are_routed_that_do_not_name_their_expert():
    events: list[Event] = []
    asked = [ask(0, 0, "a")._replace(named=True), ask(1, 0, "b"), ask(2, 0, "a")._replace(named=True)]
    one, two, three = served(asked, Options(batch=2), events.append)
    assert isinstance(one, Served) and isinstance(two, Served) and isinstance(three, Served)
    assert (one.route_ps, two.route_ps, three.route_ps) == (50, 50, 0)
    assert [each.prompts for each in events if each.kind == "route"] == [1]


def test_a_request_that_no_expert_is_for_ends_when_it_was_routed():
    one, two = served([ask(0, 0, "a"), ask(1, 5)], Options(batch=2, gather_ps=100))
    assert one.request.number == 1
    assert isinstance(one, Served) and (one.end_ps, one.latency_ps, one.hits, one.first_token_ps) == (55, 50, 0, 0)
    assert isinstance(two, Served) and two.end_ps == 195


def test_a_named_expert_is_one():
    with pytest.raises(ArgumentError, match="names"):
        served([ask(0, 0)._replace(named=True)], Options())


def test_who_is_guessed_comes_while_the_router_runs():
    events: list[Event] = []
    guesses = {0: ("a",), 1: ("c",)}
    options = Options(guess=lambda request: guesses[request.number])
    right, wrong = served([ask(0, 0, "a"), ask(1, 500, "b")], options, events.append)
    assert isinstance(right, Served) and isinstance(wrong, Served)
    assert (right.switch_ps, right.hits, wrong.switch_ps, wrong.hits) == (0, 1, 30, 0)
    assert Event("prefetch", "a", 0, 0, 30) in events and Event("prefetch", "c", 0, 500, 530) in events


def test_a_chain_reads_what_was_written():
    [one] = served([ask(0, 0, "a", "b", "a", out=2)], Options())
    assert isinstance(one, Served)
    assert (one.hits, one.switch_ps, one.prefill_ps, one.decode_ps, one.latency_ps) == (1, 60, 300, 15, 425)


def test_a_group_runs_once_and_each_ends_with_its_own_answer():
    one, two = served([ask(0, 0, "a", out=1), ask(1, 0, "a", out=4)], Options(batch=2, grouped=True))
    assert isinstance(one, Served) and isinstance(two, Served)
    assert (one.prefill_ps, one.decode_ps, two.prefill_ps, two.decode_ps) == (130, 0, 130, 21)
    assert one.end_ps == 210 and two.end_ps == 231


def test_a_batch_is_gathered_no_longer_than_is_said():
    requests = [ask(0, 0, "a"), ask(1, 40, "a"), ask(2, 90, "a")]
    events: list[Event] = []
    served(requests, Options(batch=2, gather_ps=60, grouped=True), events.append)
    routes = [(event.prompts, event.first_ps) for event in events if event.kind == "route"]
    assert routes[0] == (2, 40)  # full before the first has waited for 60
    assert routes[1][0] == 1 and routes[1][1] > 90
    events.clear()
    served([ask(0, 0, "a"), ask(1, 70, "a")], Options(batch=2, gather_ps=60), events.append)
    assert [event.first_ps for event in events if event.kind == "route"][0] == 60


def test_those_that_are_there_go_first():
    requests = [ask(0, 0, "a"), ask(1, 500, "b"), ask(2, 500, "a")]
    by_order, resident = (served(requests, Options(batch=2, resident_first=each)) for each in (False, True))
    assert [each.request.number for each in by_order] == [0, 1, 2]
    assert [each.request.number for each in resident] == [0, 2, 1]


def test_an_expert_can_be_asked_for_ahead():
    server = Server(NODE, dict.fromkeys("abc", KIND), LeastRecentlyUsed(), Options())
    assert server.prefetch("a") and server.prefetch("b") and server.prefetch("a")
    assert not server.prefetch("c")  # both are on their way in
    [one] = server.serve(Open([ask(0, 0, "b")]))
    assert isinstance(one, Served) and one.switch_ps == 10 and one.hits == 0  # 60 for both at half the bandwidth
    assert server.prefetch("c") and set(server.residency.experts) == {"b", "c"}
    with pytest.raises(UnknownNameError, match="unknown expert"):
        server.prefetch("d")


def test_a_full_queue_refuses():
    found = served([ask(n, 0, "a") for n in range(4)], Options(queue=2))
    assert [type(each) for each in found] == [Refused, Refused, Served, Served]
    assert [each.request.number for each in found] == [2, 3, 0, 1]


def test_a_request_joins_what_runs_for_its_expert():
    requests = [ask(0, 0, "a", out=9), ask(1, 190, "a", out=2), ask(2, 190, "b", out=2)]
    events: list[Event] = []
    one, two, three = served(requests, Options(batch=4, joining_ps=1000), events.append)
    assert all(isinstance(each, Served) for each in (one, two, three))
    # The first reads until 180, and writes a token each 5; at 190 both others are routed until 240, and the second is
    # read until 340, while the first waits. Together they write one token in 7, then the first the others in 5 each.
    assert isinstance(two, Served) and two.request.number == 0 and (two.turn_ps, two.decode_ps) == (150, 10 + 7 + 25)
    assert isinstance(one, Served) and one.request.number == 1
    assert (one.queue_ps, one.route_ps, one.hits, one.first_token_ps, one.end_ps) == (0, 50, 1, 150, 347)
    assert isinstance(three, Served) and three.turn_ps == two.end_ps - 240
    assert Event("run", "a", 2, 80, 372) in events


def test_nobody_joins_too_late():
    requests = [ask(0, 0, "a", out=9), ask(1, 190, "a", out=2)]
    one, two = served(requests, Options(batch=4, joining_ps=110))
    assert isinstance(one, Served) and (one.turn_ps, one.decode_ps) == (0, 40)
    assert isinstance(two, Served) and two.queue_ps == one.end_ps - 190


def test_a_request_that_never_fits_is_refused_and_others_are_served():
    kind = Kind(Sizes(10), 1, KIND.phases)
    server = Server(NODE, {"a": kind}, LeastRecentlyUsed(), Options(batch=2, grouped=True))
    [large, one, two] = server.serve(Open([ask(0, 0, "a", out=3), ask(1, 0, "a", out=1), ask(2, 0, "a", out=2)]))
    assert isinstance(large, Refused) and large.reason == "out of memory"  # 8 + 3 tokens and 10 bytes, of 20
    assert isinstance(one, Served) and isinstance(two, Served)
    assert one.prefill_ps == two.prefill_ps == 100  # one after the other, for two do not fit


def test_an_expert_that_nobody_knows_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown expert[\s\S]*request 0"):
        served([ask(0, 0, "z")], Options())


@pytest.mark.parametrize("bad", [{"batch": 0}, {"prefetch": -1}, {"queue": 0}, {"gather_ps": 1.5}, {"channels": True}])
def test_options_make_sense(bad: dict):
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        Options(**bad)
    with pytest.raises(TypeError):
        Options(group=True)  # type: ignore[call-arg]
