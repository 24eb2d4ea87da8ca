"""What can deadlock is refused, with the circle named; what cannot is let through. Judged by playing it out."""

import random

import pytest

from rdujax.base.errors import ArgumentError
from rdujax.units.rdn.legality import Token, check_credits, check_tokens, circle, waiting_circle
from rdujax.units.rdn.mesh import Endpoint, Link, Mesh, Port
from rdujax.units.rdn.routing import ALONG, Route, check_route
from rdujax.units.rdn.traffic import Flow, simulate
from tests.rooms.units.rdn.network_of import network, random_route

ROUND = [(0, 0, Port.EAST), (0, 1, Port.SOUTH), (1, 1, Port.WEST), (1, 0, Port.NORTH)]
MESH = Mesh(2, 2)


def ring(turns: int = 4) -> list[Route]:
    """Routes over three links each of the ring around four switches, each beginning one link further."""
    routes = []
    for first in range(turns):
        ways = [Link(*ROUND[(first + i) % 4]) for i in range(3)]
        source, target = Endpoint(*ROUND[first][:2], Port.PMU), Endpoint(*ways[-1].head, Port.PMU)
        routes.append(Route(source, (target,), (Link(*source, outward=False), *ways, Link(*target))))
    return routes


def test_dimension_order_never_closes_a_circle(rng):
    for _ in range(60):
        mesh = Mesh(*map(int, rng.integers(1, 7, 2)))
        for along in ALONG:
            check_credits([random_route(rng, mesh, 4, along) for _ in range(60)])


def test_both_orders_together_can_close_one(rng):
    with pytest.raises(ArgumentError, match="routes that close a circle of credits"):
        check_credits([random_route(rng, Mesh(4, 4), 1, ALONG[i % 2]) for i in range(200)])


def test_a_ring_of_turns_is_refused_by_name():
    routes = ring()
    for route in routes:
        check_route(MESH, route)
    with pytest.raises(ArgumentError) as refused:
        check_credits(routes)
    text = str(refused.value)
    for at, (link, after) in enumerate(zip(ROUND, ROUND[1:] + ROUND[:1], strict=True)):
        assert f"{Link(*link)} waits for {Link(*after)} in pmu" in text, at
    assert "route along the same dimension first everywhere" in text


@pytest.mark.parametrize("missing", range(4))
def test_the_ring_is_legal_with_two_turns_less(missing):
    check_credits([route for at, route in enumerate(ring()) if at not in (missing, (missing + 1) % 4)])


def test_a_refused_ring_does_deadlock_and_a_legal_one_does_not():
    config = network(rows=2, columns=2, credits=2)
    with pytest.raises(ArgumentError, match="routes that close a circle of credits"):
        simulate(config, [Flow(route, 20) for route in ring()])
    with pytest.raises(ArgumentError, match="the network is deadlocked") as stuck:
        simulate(config, [Flow(route, 20) for route in ring()], unchecked=True)
    assert all(str(Link(*link)) in str(stuck.value) for link in ROUND)
    legal = [Flow(route, 20) for route in ring(2)]
    assert simulate(config, legal, unchecked=True).makespan_cycles == simulate(config, legal).makespan_cycles > 20


def test_a_circle_is_named_in_the_order_of_waiting():
    assert circle([]) == circle([(1, 2), (2, 3), (1, 3)]) == []
    found = circle([(1, 2), (2, 3), (3, 1), (4, 1)])
    assert len(found) == 4 and found[0] == found[-1] and set(found) == {1, 2, 3}
    assert all(after == before % 3 + 1 for before, after in zip(found, found[1:], strict=False))
    assert circle([("a", "a")]) == ["a", "a"]
    east = Link(0, 0, Port.EAST)
    assert waiting_circle([(east, east)]) == f"{east} -> {east}"


def play(tokens: list[Token], turns: int) -> bool:
    """Whether every node can fire `turns` times, by firing whichever can."""
    nodes = sorted({name for token in tokens for name in (token.source, token.target)})
    left, held = dict.fromkeys(nodes, turns), [token.initial for token in tokens]
    moved = True
    while moved:
        moved = False
        for node in nodes:
            if left[node] and all(held[i] for i, token in enumerate(tokens) if token.target == node):
                for i, token in enumerate(tokens):
                    held[i] += (token.source == node) - (token.target == node)
                left[node], moved = left[node] - 1, True
    return not any(left.values())


def test_tokens_are_refused_exactly_where_they_run_dry():
    draw, seen = random.Random(3), set()
    for _ in range(400):
        names = "abcde"[: draw.randint(1, 5)]
        tokens = [
            Token(draw.choice(names), draw.choice(names), draw.choice([0, 0, 1, 2])) for _ in range(draw.randint(1, 7))
        ]
        runs = play(tokens, 9)
        seen.add(runs)
        if runs:
            check_tokens(tokens)
        else:
            with pytest.raises(ArgumentError, match="tokens that deadlock"):
                check_tokens(tokens)
    assert seen == {True, False}


def test_a_deadlock_of_tokens_is_named():
    loop = [Token("load", "gemm"), Token("gemm", "store"), Token("store", "load"), Token("load", "store", 1)]
    with pytest.raises(ArgumentError, match=r"given:   (load -> gemm -> store -> load|gemm -> store -> load -> gemm)"):
        check_tokens(loop)
    check_tokens([*loop[:2], Token("store", "load", 1)])


def test_negative_tokens_are_refused():
    with pytest.raises(ArgumentError, match=r"a negative number of tokens[\s\S]*given:   -1[\s\S]*a -> b"):
        check_tokens([Token("a", "b", -1)])
