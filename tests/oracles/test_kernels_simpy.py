"""Kernels whose loads stream by slice by slice, against discrete-event simulation of the plan itself (law L4)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from rdujax.estimate.pipeline import estimated_cycles, phases_of
from rdujax.graph.graph import Graph
from rdujax.graph.plan import PlannedKernel
from rdujax.ledger import makespan_cycles, schedule
from rdujax.machines.machine import Machine
from tests.oracles.kernel_simulation import in_turn_cycles, simulate
from tests.rooms.compiler.kernels import kind, machines, planned_kernels


def agree(graph: Graph, planned: PlannedKernel, machine: Machine) -> None:
    """Asserts that every turn and slice ends in the same cycle by both; of one turn, that the estimate does too."""
    phases, turns = phases_of(graph, planned, machine), planned.tiling.turns
    stages = [stage for phase in phases for stage in phase.pipeline.stages]
    cycles = {s.name: (int(s.first_cycles), int(s.service_cycles)) for s in stages}
    cycles = in_turn_cycles(graph, planned, machine) if planned.tiling.in_turn else cycles
    finishes, now = {}, 0
    for phase in phases:
        times = schedule(phase.pipeline, phase.turns)
        finishes |= {label: finish + now for label, finish in times.finish.items()}
        now += makespan_cycles(phase.pipeline, phase.turns)
    simulated = simulate(planned, cycles)
    resident = planned.tiling.resident
    stays = {s.label for s in planned.streams if s.value in resident and not s.is_store}
    stays |= {s.label for s in planned.kernel.stages if s.result in resident}
    for label, finish in simulated.items():
        assert len(finish) == (1 if label in stays else len(finishes[label]))
        np.testing.assert_array_equal(finishes[label][: len(finish)], finish, label)
    last = max(finish[-1] for finish in simulated.values())
    assert now == last
    assert turns > 1 or estimated_cycles(graph, planned, machine) == last


def shallower(planned: PlannedKernel) -> Iterator[PlannedKernel]:
    """The kernel with fewer slots for loads that stream by: these hold up all that is loaded behind them."""
    for most in (2, 3) if planned.tiling.in_turn else ():
        by = {
            b.value for b in planned.buffers if b.value in planned.kernel.loads and planned.tiling.slices(b.value) > 1
        }
        buffers = tuple(replace(b, depth=min(b.depth, most)) if b.value in by else b for b in planned.buffers)
        if buffers != planned.buffers:
            yield replace(planned, buffers=buffers)


def check_kernels(seeds: range) -> Counter[str]:
    """How many kernels of each kind agreed."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        for machine in machines()[:2]:
            for graph, planned in planned_kernels(seed, machine):
                what = kind(planned.tiling)
                seen[what] += 1
                if what.startswith("whole") and seen[what] % 8:
                    continue  # most are like the others
                agree(graph, planned, machine)
                for shallow in shallower(planned):
                    agree(graph, shallow, machine)
                    seen["shallow"] += 1
    return seen


def test_every_slice_of_every_turn_ends_as_it_does_in_a_simulation():
    seen = check_kernels(range(4))
    apart = {kind: n for kind, n in seen.items() if not kind.endswith(", sums")}
    assert len(apart) == 5 and min(apart.values()) > 15, seen
    assert sum(seen.values()) - sum(apart.values()) > 10, seen  # few random programs sum what they stream


@pytest.mark.full
def test_many_more_kernels_end_as_they_do_in_a_simulation():
    seen = check_kernels(range(4, 60))
    apart = {kind: n for kind, n in seen.items() if not kind.endswith(", sums")}
    assert len(apart) == 5 and min(apart.values()) > 200, seen
    assert sum(seen.values()) - sum(apart.values()) > 100, seen
