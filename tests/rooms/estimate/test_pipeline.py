"""The pipelines that kernels are priced as: what is compared while planning, against what is priced in the end."""

from collections import Counter
from random import Random

import pytest

from rdujax.estimate.pipeline import _streamed_by, estimated_cycles, phases_of
from rdujax.ledger import makespan_cycles
from tests.rooms.compiler.kernels import kind, machines, planned_kernels

# By kind of kernel, what an estimate falls short of the price at the most: what waiting for free slots adds.
NEAR = {"whole, one turn": 1.0, "in turn": 1.0, "by slices, many turns": 1.06, "whole, many turns": 1.2}


def check_estimates(seeds: range) -> Counter[str]:
    """How many kernels of each kind were seen, none estimated above its price, nor far below."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        for machine in machines():
            for graph, planned in planned_kernels(seed, machine):
                phases = phases_of(graph, planned, machine)
                exact = sum(makespan_cycles(phase.pipeline, phase.turns) for phase in phases)
                estimate, what = estimated_cycles(graph, planned, machine), kind(planned.tiling)
                near = NEAR[what.removesuffix(", sums")]
                assert estimate <= exact <= estimate * near, (seed, machine.name, what, planned.tiling)
                seen[what] += 1
    return seen


def test_no_estimate_is_above_the_price():
    seen = check_estimates(range(4))
    assert all(seen[kind] > 30 for kind in NEAR), seen


@pytest.mark.full
def test_no_estimate_is_above_the_price_of_many_more_kernels():
    seen = check_estimates(range(4, 60))
    assert all(seen[kind] > 200 for kind in NEAR), seen


def slice_by_slice(ready: int, begin: int, cycles: int, each: int, n: int, depth: int) -> tuple[int, int]:
    """(end of a stage, end of the load that streams through it), one slice after another."""
    loaded, done = [], []
    for k in range(n):
        before = loaded[-1] if loaded else begin
        loaded.append(max(before, done[k - depth] if k >= depth else 0) + each)
        done.append(max(done[-1] if done else ready, loaded[k]) + cycles)
    return done[-1], loaded[-1]


def test_a_load_that_streams_by_ends_as_it_does_slice_by_slice():
    rng = Random(5)
    for _ in range(2_000):
        ready, begin, cycles, each = (rng.randint(0, most) for most in (60, 60, 9, 9))
        n = rng.randint(1, 12)
        depth = rng.randint(min(n, 2), n)
        case = ready, begin, cycles, each, n, depth
        assert _streamed_by(*case) == slice_by_slice(*case), case
