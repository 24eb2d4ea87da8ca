"""The search for the cheapest kernels: against every partition there is, and the bounds that it trusts."""

from itertools import combinations, pairwise

import pytest

import rdujax as rdu
from rdujax.base.errors import CapacityError
from rdujax.compiler import fuse
from rdujax.compiler.bounds import Bounds
from rdujax.compiler.driver import Choices
from rdujax.compiler.planner import Planner
from rdujax.machines.machine import Machine
from tests.rooms.compiler.samples import Sample, samples, small

CHEAP_LAUNCHES = {f"launch.{part}_s": 0 for part in ("program_load", "argument_load", "execute")}


def planner_of(sample: Sample, machine: Machine) -> Planner:
    program = rdu.compile(sample.fn, *sample.args, machine=machine, fusion="none")
    return Planner(program.graph, machine, Choices(), dict.fromkeys(program.graph.types, "hbm"))


def costs_of(planner: Planner) -> dict[tuple[int, int], int]:
    """The cost of every kernel that fits."""
    nodes, found = planner.graph.nodes, {}
    for i, j in combinations(range(len(nodes) + 1), 2):
        try:
            found[i, j] = planner.cost(i, j)[0]
        except CapacityError:
            continue
    return found


def cheapest_of_all(costs: dict[tuple[int, int], int], count: int) -> int:
    """The cost of the best of all 2^(count - 1) partitions."""
    best = None
    for cuts in range(1 << (count - 1)):
        ends = [0, *(i for i in range(1, count) if cuts >> (i - 1) & 1), count]
        groups = list(zip(ends, ends[1:], strict=False))
        if all(group in costs for group in groups):
            total = sum(costs[group] for group in groups)
            best = total if best is None else min(best, total)
    assert best is not None
    return best


def cover(groups: list[tuple[int, int]], count: int) -> bool:
    """Whether groups follow one another and are all of `count` nodes."""
    return groups[0][0] == 0 and groups[-1][1] == count and all(a[1] == b[0] for a, b in pairwise(groups))


MACHINES = {
    "small": small(),
    "small, launches free": small().replace(CHEAP_LAUNCHES),
    "few bridges": small().replace({"agcu.count": 4, **CHEAP_LAUNCHES}),
    "sn40l": rdu.machines.sn40l(),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
@pytest.mark.parametrize("sample", samples(), ids=str)
def test_no_partition_is_cheaper_than_the_one_found(sample: Sample, machine: Machine):
    planner = planner_of(sample, machine)
    nodes = planner.graph.nodes
    costs = costs_of(planner)
    bounds = Bounds(planner.graph, machine, planner.tiers, planner.launch_cycles)
    for i in range(len(nodes)):
        for length, bound in enumerate(bounds.from_node(i), 1):
            exact = costs.get((i, i + length))
            assert exact is None or bound <= exact, (i, length, bound, exact)
        assert all((i, j) not in costs for j in range(i + 1 + len(bounds.from_node(i)), len(nodes) + 1))
    groups = fuse.streaming(planner.graph, planner.cost, bounds.from_node)
    assert cover(groups, len(nodes))
    assert sum(costs[group] for group in groups) == cheapest_of_all(costs, len(nodes))


def test_few_kernels_are_planned_where_launches_are_dear():
    sample = samples()[2]
    planner = planner_of(sample, rdu.machines.sn40l())
    planned = []

    def cost(i, j):
        planned.append(j - i)
        return planner.cost(i, j)

    bounds = Bounds(planner.graph, planner.machine, planner.tiers, planner.launch_cycles)
    groups = fuse.streaming(planner.graph, cost, bounds.from_node)
    assert len(groups) == 1 and planned == [len(planner.graph.nodes)]


def test_a_search_that_is_cut_short_still_ends_with_kernels_that_fit():
    planner = planner_of(samples()[3], small().replace(CHEAP_LAUNCHES))
    bounds = Bounds(planner.graph, planner.machine, planner.tiers, 0)
    groups = fuse.streaming(planner.graph, planner.cost, bounds.from_node, most_planned=1)
    assert cover(groups, len(planner.graph.nodes))
    costs = costs_of(planner)
    assert sum(costs[group] for group in groups) >= cheapest_of_all(costs, len(planner.graph.nodes))
