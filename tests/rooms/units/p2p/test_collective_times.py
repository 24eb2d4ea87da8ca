"""Times of collectives: the closed forms by hand, at their edges, and in their derivatives."""

import sys
from types import FrameType

import jax
import jax.numpy as jnp
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.ledger.numbers import is_exact
from rdujax.machines import sn40l, tiny
from rdujax.units.p2p import collective_times as times
from rdujax.units.p2p.collective_traffic import COMBINING, ROUTES, Collective

CLOCK = 1_600_000_000
SN40L, TINY = sn40l().p2p, tiny().p2p  # tiny: one byte per cycle and peer, 10 cycles of latency
SUM = Collective("all_reduce", 4, 80, 4, "direct", 2)  # chunks of 20 elements: 80 bytes, then 40


@pytest.mark.parametrize(
    ("work", "pieces", "combine_cycles", "cycles"),
    [
        (SUM, 1, 0, 80 + 10 + 40 + 10),
        (SUM, 1, 7, 80 + 10 + 7 + 40 + 10),
        (SUM, 2, 30, 80 + 10 + 30 + 20 + 10),  # the last piece of two is combined at 120, and goes on in 20 cycles
        (SUM, 4, 0, 80 + 40 + 10),  # small pieces arrive early: the links are never idle
        (Collective("all_reduce", 4, 80, 4, "oneshot", 2), 1, 3, 320 + 10 + 3),
        (Collective("all_reduce", 4, 80, 4, "ring", 2), 1, 3, 3 * (80 + 10 + 3) + 3 * (40 + 10)),
        (Collective("all_reduce", 4, 80, 4, "halving", 2), 1, 3, 160 + 13 + 80 + 13 + 40 + 10 + 80 + 10),
        (Collective("reduce_scatter", 4, 80, 4), 1, 3, 80 + 10 + 3),
        (Collective("reduce_scatter", 4, 80, 4, "ring"), 4, 3, 2 * 80 + 80 + 10 + 3),
        (Collective("all_gather", 4, 80, 4), 5, 3, 80 + 10),
        (Collective("all_gather", 4, 80, 4, "ring"), 1, 3, 3 * (80 + 10)),
        (Collective("all_gather", 4, 80, 4, "halving"), 1, 3, 80 + 10 + 160 + 10),
        (Collective("all_to_all", 4, 80, 4), 1, 3, 80 + 10),
        (Collective("broadcast", 4, 80, 4), 1, 3, 320 + 10),
        (Collective("broadcast", 4, 80, 4, "ring"), 1, 3, 3 * (320 + 10)),
        (Collective("broadcast", 4, 80, 4, "ring"), 16, 3, 2 * (20 + 10) + 320 + 10),
    ],
)
def test_closed_forms_by_hand(work, pieces, combine_cycles, cycles):
    assert times.is_even(work, pieces)
    assert times.cycles(TINY, 1_000_000, work, pieces, combine_cycles) == cycles
    assert max(times.finish_cycles(TINY, 1_000_000, work, pieces, combine_cycles)) == cycles


@pytest.mark.parametrize(("kind", "route"), [(kind, route) for kind, routes in ROUTES.items() for route in routes])
def test_one_socket_waits_for_nobody_and_nothing_is_sent(kind, route):
    work = Collective(kind, 1, 80, 4, route)
    assert times.cycles(TINY, 1_000_000, work) == 0 and times.arrivals(TINY, 1_000_000, work) == []


def test_a_ring_moves_two_times_n_minus_one_nths_of_the_tensor():
    """The textbook bound: with many pieces and no latency a ring takes 2 (n - 1) / n of the tensor's time on a link."""
    config = tiny().replace({"p2p.latency_s": 0}).p2p
    for n in (2, 4):
        work = Collective("all_reduce", n, 4 * 360, 4, "ring")
        assert times.cycles(config, 1_000_000, work) == 2 * (n - 1) * 4 * 4 * 360 // n
        direct = Collective("all_reduce", n, 4 * 360, 4)
        assert times.cycles(config, 1_000_000, direct) == 2 * 4 * 4 * 360 // n


def test_a_byte_more_on_a_link_takes_a_cycle_more():
    """275/16 bytes per cycle to a peer: 275 bytes of a chunk in 16 cycles, one more in 17."""
    for size, cycles in ((275, 16), (276, 17), (292, 17), (293, 18)):
        for work in (Collective("all_gather", 8, 8 * size, 1), Collective("reduce_scatter", 8, 8 * size, 1)):
            assert times.cycles(SN40L, CLOCK, work) == cycles + 1600


def test_a_piece_is_not_sent_on_before_it_has_arrived():
    """Not one cycle before, and in that cycle, unless the links are still busy."""
    work = Collective("all_reduce", 4, 80, 4, "ring", 2)
    for pieces, combine_cycles, waits in ((1, 0, True), (2, 60, True), (4, 0, False)):
        found = times.arrivals(TINY, 1_000_000, work, pieces, combine_cycles)
        arrived = {(p.phase, p.turn, p.target, p.low): t for p, t in found}
        free: dict[tuple[int, int], int] = {}
        waited = 0
        for piece, end in found:
            size_bytes = (piece.high - piece.low) * work.width_bytes(piece.phase)
            start = end - 10 - size_bytes
            before = (piece.phase, piece.turn - 1) if piece.turn else ("scatter", 2)
            ready = 0
            if piece.turn or piece.phase == "gather":
                ready = arrived[*before, piece.source, piece.low] + (combine_cycles if before[0] == "scatter" else 0)
            idle = free.get((piece.source, piece.target), 0)
            assert start == max(ready, idle)
            waited += start == ready > idle
            free[piece.source, piece.target] = start + size_bytes
        assert bool(waited) == waits


def test_small_sums_are_quickest_in_one_shot_and_large_ones_in_two():
    small, large = (
        [Collective("all_reduce", 8, n, 4, route, 2) for route in ROUTES["all_reduce"]] for n in (256, 10**7)
    )
    quickest = [min(works, key=lambda w: times.cycles(SN40L, CLOCK, w)).route for works in (small, large)]
    assert quickest == ["oneshot", "direct"]


def test_ragged_chunks_are_charged_in_full():
    work = Collective("all_gather", 4, 61, 4)
    assert not times.is_even(work) and times.is_even(Collective("all_gather", 4, 64, 4))
    assert times.cycles(TINY, 1_000_000, work) == 64 + 10
    assert times.finish_cycles(TINY, 1_000_000, work) == [74, 74, 74, 74]
    assert times.finish_cycles(TINY, 1_000_000, Collective("reduce_scatter", 4, 61, 4)) == [74, 74, 74, 62]


def test_terabytes_stay_exact():
    work = Collective("all_gather", 8, 8 * 275 * 10**12, 1)
    assert times.cycles(SN40L, CLOCK, work) == 16 * 10**12 + 1600


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="a message in pieces that cannot be\n  given:   0\n  allowed: 1 or more"):
        times.cycles(TINY, 1_000_000, SUM, pieces=0)
    halving = Collective("all_reduce", 4, 80, 4, "halving")
    for fn in (times.cycles, times.arrivals):
        with pytest.raises(ArgumentError, match="given:   2\n  allowed: 1\n  where:   all_reduce, halving"):
            fn(TINY, 1_000_000, halving, pieces=2)
        with pytest.raises(ArgumentError, match="more sockets than a node has\n  given:   5\n  allowed: 1 to 4"):
            fn(TINY, 1_000_000, Collective("all_gather", 5, 80, 4))


@pytest.mark.parametrize(("kind", "route"), [(kind, route) for kind, routes in ROUTES.items() for route in routes])
def test_times_are_differentiable_in_the_facts(kind, route):
    """Against a finite difference of the exact form, large enough that rounding up does not show."""
    work = Collective(kind, 8, 8 * 10**9, 4, route)
    pieces = 1 if route == "halving" else 4

    def priced(machine):
        return times.cycles(machine.p2p, CLOCK, work, pieces)

    exact = priced(sn40l())
    relaxed = jax.tree.map(jnp.float32, SN40L)
    value, slope = jax.value_and_grad(lambda c: times.cycles(c, float(CLOCK), work, pieces))(relaxed)
    assert is_exact(exact) and value == pytest.approx(exact, rel=1e-5)
    bandwidth = SN40L.bandwidth_bytes_per_s.value
    faster, slower = (
        priced(sn40l().replace({"p2p.bandwidth_bytes_per_s": bandwidth * f // 1000})) for f in (1001, 999)
    )
    assert slope.bandwidth_bytes_per_s.value == pytest.approx((faster - slower) / (bandwidth * 0.002), rel=1e-3)
    later = priced(sn40l().replace({"p2p.latency_s": 0.000002}))
    assert slope.latency_s.value == pytest.approx((later - exact) / 0.000001, rel=1e-3)


EVERY = [(kind, route, n) for kind, routes in ROUTES.items() for route in routes for n in (2, 4)]


@pytest.mark.parametrize(("kind", "route", "sockets"), EVERY)
@pytest.mark.parametrize("combine_cycles", [0, 23])
def test_a_piece_waits_for_all_that_holds_some_of_its_elements(kind, route, sockets, combine_cycles):
    """Every piece held against every earlier one, ragged chunks included."""
    elements = 84 if kind == "all_to_all" else 83
    work = Collective(kind, sockets, elements, 4, route)
    found = times.arrivals(TINY, 1_000_000, work, 1 if route == "halving" else 3, combine_cycles)
    free: dict[tuple[int, int], int] = {}
    for at, (piece, end) in enumerate(found):
        start = free.get((piece.source, piece.target), 0)
        for earlier, arrived in found[:at]:
            meets = earlier.low < piece.high and piece.low < earlier.high
            if piece.phase != "share" and earlier.target == piece.source and meets:
                start = max(start, arrived + combine_cycles * (earlier.phase in COMBINING))
        free[piece.source, piece.target] = start + (piece.high - piece.low) * work.width_bytes(piece.phase)
        assert end == free[piece.source, piece.target] + 10


def lines_run(pieces: int) -> int:
    """Lines of the module that run for a sum in so many pieces."""
    count = 0

    def trace(frame: FrameType, event: str, _: object):
        nonlocal count
        count += event == "line" and frame.f_code.co_filename == times.__file__
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        times.arrivals(TINY, 1_000_000, Collective("all_reduce", 4, 4096, 4), pieces)
    finally:
        sys.settrace(before)
    return count


def test_twice_as_many_pieces_are_twice_the_work():
    assert lines_run(32) <= 2.1 * lines_run(16)
