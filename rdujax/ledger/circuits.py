"""The circuit of waiting that decides the rate of a repeating schedule: the maximum circuit ratio, exactly.

A graph of nodes that repeat for ever: node k takes `weight[k]` and waits for node m of `delay` repetitions ago. Its
nodes then repeat every `ratio` units of time, in the long run, where `ratio` is the largest over all circuits of

    (weights on the circuit) / (delays on the circuit)

and at that rate there is a schedule that repeats exactly: start[k] >= start[m] + weight[m] - ratio * delay. The search
begins at a circuit and looks for a better one (a circuit that gains at the present ratio, by Bellman and Ford), until
there is none; the earliest starts that are left over are the proof. Every step is in integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Arcs = Sequence[Sequence[tuple[int, int]]]  # for every node, what it waits for: (node, delay)


@dataclass(frozen=True)
class Heaviest:
    """The circuit of the largest ratio, and the schedule at that rate.

    ratio: units of time per repetition. circuit: its nodes, each waiting for the one before it, the first for the last.
    starts: earliest start of every node in the schedule that repeats at this rate, in units of 1 / ratio.denominator.
    """

    ratio: Fraction
    circuit: tuple[int, ...]
    starts: tuple[int, ...]


def heaviest(weights: Sequence[int], arcs: Arcs, order: Sequence[int]) -> Heaviest:
    """The maximum circuit ratio, a circuit that has it, and the earliest schedule at it.

    order: the nodes such that arcs without delay lead forward. Every node must lie on a circuit, and no circuit may be
    without delay (a deadlock). Of circuits with the same ratio, always the same one is named.
    """
    ratio, circuit = Fraction(-1), ()
    while True:
        starts, better = _earliest(weights, arcs, order, ratio)
        if better is None:
            return Heaviest(ratio, circuit, tuple(starts))
        circuit = better
        ratio = _ratio(weights, arcs, circuit)


def _ratio(weights: Sequence[int], arcs: Arcs, circuit: tuple[int, ...]) -> Fraction:
    """The largest ratio of a circuit through these nodes in this order: of parallel arcs, the one of least delay."""
    delay = 0
    for before, node in zip((circuit[-1], *circuit), circuit, strict=False):
        delay += min(delay for other, delay in arcs[node] if other == before)
    return Fraction(sum(weights[node] for node in circuit), delay)


def _earliest(
    weights: Sequence[int], arcs: Arcs, order: Sequence[int], ratio: Fraction
) -> tuple[list[int], tuple[int, ...] | None]:
    """Earliest starts from 0 at a rate, or a circuit that gains at it, so that there are none."""
    scale, step = ratio.denominator, ratio.numerator
    starts = [0] * len(weights)
    after: list[int | None] = [None] * len(weights)
    while True:
        still = True
        for node in order:
            for other, delay in arcs[node]:
                earliest = starts[other] + scale * weights[other] - step * delay
                if earliest > starts[node]:
                    starts[node], after[node], still = earliest, other, False
        if still:
            return starts, None
        if circuit := _circuit(after):
            return starts, circuit


def _circuit(after: Sequence[int | None]) -> tuple[int, ...] | None:
    """A circuit of a graph in which every node follows at most one, in the order of time; None if there is none."""
    seen: dict[int, int] = {}
    for root in range(len(after)):
        path: list[int] = []
        node: int | None = root
        while node is not None and node not in seen:
            seen[node] = root
            path.append(node)
            node = after[node]
        if node is not None and seen[node] == root:
            return tuple(reversed(path[path.index(node) :]))
    return None
