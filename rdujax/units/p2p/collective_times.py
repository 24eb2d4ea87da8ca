"""How long a collective over the sockets of a node takes: message by message, and in closed form.

                socket --piece, piece, piece--> socket --combine--> socket      pieces follow one another on a link,
                                                                                and go on as soon as they have arrived

The law        Every socket sends its messages in the order of collective_traffic.py, each cut into pieces. A piece
               starts when the links to its target are free and when every piece that was received and holds some of
               its elements has arrived and, where it was combined, `combine_cycles` have passed:

                   start = max(free[source, target], arrived + combine)
                   free[source, target] = start + occupied,  arrived = start + occupied + latency     (p2p.py)

               `cycles` is the closed form of the last arrival. It equals the messages' wherever `is_even`: every piece
               full. Otherwise it charges full pieces and is never less.
Modelled       pieces that overlap transfer, latency and combination; each pair of sockets with links of its own.
Not modelled   other traffic on the same links; a PCU that combines slower than its links deliver (combine_cycles is a
               latency); skew between the starts of the sockets. Halving does not cut its messages.
Sources        MICRO 2024, section VII (collectives are fused and pipelined within a kernel); the schedules are the
               usual ones of the literature on collectives.
"""

from typing import NamedTuple

from rdujax.base.errors import ArgumentError, describe
from rdujax.ledger.numbers import Number, Priced, maximum
from rdujax.units import p2p
from rdujax.units.p2p.collective_traffic import COMBINING, Collective, Phase, sent_in, steps


class Piece(NamedTuple):
    """Elements low ... high - 1 on their way from a socket to another, in some round of a phase."""

    phase: Phase
    turn: int
    source: int
    target: int
    low: int
    high: int


def pieces_of(work: Collective, pieces: int = 1) -> list[Piece]:
    """Every piece that is sent, in an order in which what a piece waits for comes before it.

    Raises ArgumentError for a number of pieces below 1, and for halving with more than one.
    """
    _check_pieces(work, pieces)
    found = []
    for phase, turn in steps(work):
        sends = [(me, sent_in(work, phase, turn, me)) for me in range(work.sockets)]
        for part in range(pieces):
            for me, send in sends:
                low, high = work.edges[send.first], work.edges[send.first + send.span]
                size = -(-min(send.span * work.chunk, work.elements) // pieces)
                low, high = low + part * size, min(low + (part + 1) * size, high)
                if send.active and low < high:
                    found.append(Piece(phase, turn, me, send.target, low, high))
    return found


def arrivals(
    config: p2p.Config, clock_hz: Number, work: Collective, pieces: int = 1, combine_cycles: int = 0
) -> list[tuple[Piece, int]]:
    """Every piece and the cycle in which it has arrived, by the module's law; exact.

    The work grows with the number of pieces: what a socket holds is kept as the cycle in which each stretch of elements
    is ready, cut where pieces begin and end.
    """
    p2p.check_sockets(config, work.sockets)
    latency = p2p.latency_cycles(config, clock_hz)
    free: dict[tuple[int, int], int] = {}
    sent = pieces_of(work, pieces)
    place = {edge: at for at, edge in enumerate(sorted({edge for piece in sent for edge in (piece.low, piece.high)}))}
    ready = [[0] * len(place) for _ in range(work.sockets)]
    found = []
    for piece in sent:
        stretches = range(place[piece.low], place[piece.high])
        start = free.get((piece.source, piece.target), 0)
        if piece.phase != "share":
            start = max(start, *(ready[piece.source][at] for at in stretches))
        size_bytes = (piece.high - piece.low) * work.width_bytes(piece.phase)
        end = start + int(p2p.occupied_cycles(config, clock_hz, size_bytes))
        free[piece.source, piece.target] = end
        held = end + latency + (combine_cycles if piece.phase in COMBINING else 0)
        for at in stretches:
            ready[piece.target][at] = max(ready[piece.target][at], held)
        found.append((piece, end + latency))
    return found


def finish_cycles(
    config: p2p.Config, clock_hz: Number, work: Collective, pieces: int = 1, combine_cycles: int = 0
) -> list[int]:
    """The cycle in which each socket has received and combined all that it is to; 0 for one that receives nothing."""
    done = [0] * work.sockets
    for piece, arrived in arrivals(config, clock_hz, work, pieces, combine_cycles):
        held = arrived + (combine_cycles if piece.phase in COMBINING else 0)
        done[piece.target] = max(done[piece.target], held)
    return done


def is_even(work: Collective, pieces: int = 1) -> bool:
    """True where all pieces of a phase are equally long, so that `cycles` is the last of `finish_cycles`."""
    whole = work.phases[0] in ("share", "spread")
    return work.elements % (pieces if whole else work.sockets * pieces) == 0


def cycles(
    config: p2p.Config, clock_hz: Number, work: Collective, pieces: int = 1, combine_cycles: Number = 0
) -> Priced:
    """Cycles until the last socket is done: exact, or differentiable in the facts (pieces are static).

    With p pieces of t cycles (t' in the second half of an all_reduce), latency L and combination C:

        direct   scatter  p t + L + C          gather, all_to_all, broadcast  p t + L
        ring     scatter  (n - 2) max(p t, t + L + C) + p t + L + C        gather  (n - 2) max(p t, t + L) + p t + L
                 broadcast  (n - 2) (t + L) + p t + L
        halving  scatter  sum over d = n/2 ... 1 of (t of d chunks) + L + C           gather  the same without C
        oneshot  p t + L + C
        all_reduce, direct:  max(t + L + C + (p - 1) max(t, t'), p t + (p - 1) t') + t' + L
                 and, ring, (n - 2) (max(p t, t + L + C) + max(p t', t' + L)) more

    Nothing is waited for among one socket.

    >>> from rdujax.machines import sn40l
    >>> sum_of_8 = Collective("all_reduce", 8, 4096, element_bytes=4, result_bytes=2)
    >>> cycles(sn40l().p2p, 1_600_000_000, sum_of_8), cycles(sn40l().p2p, 1_600_000_000, sum_of_8, pieces=4)
    (3380, 3335)
    """
    _check_pieces(work, pieces)
    p2p.check_sockets(config, work.sockets)
    if work.sockets == 1:
        return 0
    if work.route == "halving":
        return _halving_cycles(config, clock_hz, work, combine_cycles)
    n, latency = work.sockets, p2p.latency_cycles(config, clock_hz)
    whole = work.elements if work.phases[0] in ("share", "spread") else work.chunk
    size = -(-whole // pieces)
    p = -(-whole // size)
    first, *rest = (p2p.occupied_cycles(config, clock_hz, size * work.width_bytes(phase)) for phase in work.phases)
    pause = combine_cycles if work.phases[0] in COMBINING else 0
    hops = n - 2 if work.route == "ring" else 0
    if work.kind == "broadcast":
        return hops * (first + latency) + p * first + latency
    waits = hops * maximum(p * first, first + latency + pause)
    if not rest:
        return waits + p * first + latency + pause
    second = rest[0]
    arriving = first + latency + pause + (p - 1) * maximum(first, second)
    last_start = maximum(arriving, p * first + (p - 1) * second)
    return waits + last_start + hops * maximum(p * second, second + latency) + second + latency


def _halving_cycles(config: p2p.Config, clock_hz: Number, work: Collective, combine_cycles: Number) -> Priced:
    total: Priced = 0
    for phase, turn in steps(work):
        size_bytes = sent_in(work, phase, turn, 0).span * work.chunk * work.width_bytes(phase)
        total = total + p2p.transfer_cycles(config, clock_hz, size_bytes)
        total = total + (combine_cycles if phase in COMBINING else 0)
    return total


def _check_pieces(work: Collective, pieces: int) -> None:
    if pieces < 1 or (work.route == "halving" and pieces > 1):
        raise ArgumentError(
            describe("a message in pieces that cannot be", given=pieces, where=f"{work.kind}, {work.route}",
                     allowed="1" if work.route == "halving" else "1 or more")
        )  # fmt: skip
