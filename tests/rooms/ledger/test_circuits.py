"""The maximum circuit ratio against the definition: every simple circuit of small random graphs."""

import random
from fractions import Fraction
from itertools import permutations, product

import pytest

from rdujax.ledger.circuits import heaviest


def random_graph(rng: random.Random) -> tuple[list[int], list[list[tuple[int, int]]]]:
    """Weights, and arcs of which those without delay lead from lower to higher nodes; every node waits for itself."""
    count = rng.randint(1, 5)
    weights = [rng.randint(0, 9) for _ in range(count)]
    arcs = [[(node, rng.randint(1, 2))] for node in range(count)]
    for node, other in product(range(count), range(count)):
        if node != other and rng.random() < 0.6:
            arcs[node].append((other, rng.randint(0 if other < node else 1, 3)))
    return weights, arcs


def ratios(weights: list[int], arcs: list[list[tuple[int, int]]]) -> dict[tuple[int, ...], Fraction]:
    """The largest ratio of every simple circuit, by its nodes in the order of time from the smallest."""
    found = {}
    for length in range(1, len(weights) + 1):
        for circuit in permutations(range(len(weights)), length):
            steps = [
                [delay for other, delay in arcs[node] if other == before]
                for before, node in zip((circuit[-1], *circuit), circuit, strict=False)
            ]
            if circuit[0] == min(circuit) and all(steps):
                delay = sum(min(step) for step in steps)
                found[circuit] = Fraction(sum(weights[node] for node in circuit), delay)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_ratio_is_the_largest_of_all_circuits(seed):
    rng = random.Random(seed)
    for _ in range(50):
        weights, arcs = random_graph(rng)
        found, every = heaviest(weights, arcs, range(len(weights))), ratios(weights, arcs)
        assert found.ratio == max(every.values())
        smallest = found.circuit.index(min(found.circuit))
        assert every[found.circuit[smallest:] + found.circuit[:smallest]] == found.ratio


def test_the_starts_are_the_earliest_of_a_schedule_at_that_rate():
    rng = random.Random(9)
    for _ in range(100):
        weights, arcs = random_graph(rng)
        found = heaviest(weights, arcs, range(len(weights)))
        scale = found.ratio.denominator
        for node, waits in enumerate(arcs):
            earliest = [
                found.starts[other] + scale * weights[other] - found.ratio.numerator * delay for other, delay in waits
            ]
            assert found.starts[node] >= max(earliest)
            assert found.starts[node] in (0, *earliest)  # nothing could start sooner


def test_parallel_arcs_and_equal_circuits():
    both = heaviest([3, 4], [[(0, 1), (1, 5), (1, 1)], [(1, 1), (0, 0)]], [0, 1])
    assert (both.ratio, set(both.circuit)) == (7, {0, 1})
    alike = heaviest([5, 5], [[(0, 1)], [(1, 1)]], [0, 1])
    assert alike.ratio == 5 and alike.circuit == heaviest([5, 5], [[(0, 1)], [(1, 1)]], [0, 1]).circuit
    assert heaviest([0], [[(0, 1)]], [0]).ratio == 0
