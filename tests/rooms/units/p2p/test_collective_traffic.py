"""Who sends what to whom: every piece once, to the right socket; totals in closed form; what cannot be is refused."""

import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.ledger.counts import Counts
from rdujax.units.p2p import collective_traffic as traffic
from rdujax.units.p2p.collective_times import pieces_of
from rdujax.units.p2p.collective_traffic import ROUTES, Collective

EVERY = [(kind, route) for kind, routes in ROUTES.items() for route in routes]


def works(kind: str, route: str):
    """Collectives of many sizes, fewer elements than sockets among them."""
    for n in (1, 2, 4, 8, 16) if route == "halving" else (1, 2, 3, 5, 8):
        for elements in (1, n - 1, n, n + 1, 3 * n + 2, 1000 * n):
            if elements and (kind != "all_to_all" or elements % n == 0):
                yield Collective(kind, n, elements, 4, route, 2, root=n // 2 if kind == "broadcast" else 0)


@pytest.mark.parametrize(("kind", "route"), EVERY)
def test_totals_in_closed_form_are_those_of_the_messages(kind, route):
    for work in works(kind, route):
        found = pieces_of(work)
        sent_bytes = sum((p.high - p.low) * work.width_bytes(p.phase) for p in found)
        combined = sum(p.high - p.low for p in found if p.phase in traffic.COMBINING)
        counted = {"p2p.sent_bytes": sent_bytes, "p2p.messages": len(found), "pcu.simd_operations": combined}
        assert traffic.predict(work) == Counts(counted), work


@pytest.mark.parametrize(("kind", "route"), EVERY)
def test_every_send_has_its_receiver(kind, route):
    for work in works(kind, route):
        for phase, turn in traffic.steps(work):
            for me in range(work.sockets):
                target = traffic.sent_in(work, phase, turn, me).target
                assert target != me and traffic.source_of(work, phase, turn, target) == me


@pytest.mark.parametrize(("kind", "route"), EVERY)
def test_pieces_cut_messages_and_lose_nothing(kind, route):
    if route == "halving":
        with pytest.raises(ArgumentError, match="a message in pieces that cannot be"):
            pieces_of(Collective(kind, 4, 16, 4, route), pieces=2)
        return
    for work in works(kind, route):
        whole = {(p.phase, p.turn, p.source, p.target): range(p.low, p.high) for p in pieces_of(work)}
        cut: dict = {}
        for p in pieces_of(work, 3):
            cut.setdefault((p.phase, p.turn, p.source, p.target), []).extend(range(p.low, p.high))
        assert cut == {key: list(elements) for key, elements in whole.items()}


def test_a_sum_travels_wide_and_its_result_narrow():
    work = Collective("all_reduce", 8, 800, 4, result_bytes=2)
    assert (work.width_bytes("scatter"), work.width_bytes("gather")) == (4, 2)
    assert traffic.predict(work)["p2p.sent_bytes"] == 7 * 800 * (4 + 2)
    assert traffic.predict(Collective("all_reduce", 8, 800, 4, "oneshot", 2))["p2p.sent_bytes"] == 8 * 7 * 800 * 4
    assert Collective("all_gather", 8, 800, 4, result_bytes=2).width_bytes("gather") == 4


def test_terabytes_are_counted_exactly():
    work = Collective("all_reduce", 8, 10**13 + 1, 4)
    assert traffic.predict(work)["p2p.sent_bytes"] == 2 * 7 * 4 * (10**13 + 1)


def test_what_cannot_be_is_refused():
    with pytest.raises(
        UnknownNameError, match="unknown collective\n  given:   'allreduce'\n[^?]*did you mean 'all_reduce'"
    ):
        Collective("allreduce", 8, 16, 4)
    with pytest.raises(UnknownNameError, match="unknown route of all_to_all\n  given:   'ring'\n  allowed: 'direct'"):
        Collective("all_to_all", 8, 16, 4, "ring")
    with pytest.raises(
        ArgumentError, match="halving needs a power of two of sockets\n  given:   6\n  where:   all_gather"
    ):
        Collective("all_gather", 6, 12, 4, "halving")
    with pytest.raises(
        ArgumentError, match="an all_to_all of unequal parts\n  given:   9 elements\n  allowed: a multiple of 4"
    ):
        Collective("all_to_all", 4, 9, 4)
    for numbers in ((0, 16, 4), (8, 0, 4), (8, 16, 0)):
        with pytest.raises(ArgumentError, match="a collective that cannot be"):
            Collective("all_gather", *numbers)
    for root in (4, -1):
        text = f"a root that is none of the sockets\n  given:   {root}\n  allowed: 0 to 3\n  where:   broadcast"
        with pytest.raises(ArgumentError, match=text):
            Collective("broadcast", 4, 16, 4, root=root)
