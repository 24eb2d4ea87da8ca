"""The search for the cheapest kernels: against every partition there is, and the bounds that it trusts."""

from collections.abc import Callable
from itertools import combinations, pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import CapacityError
from rdujax.compiler import partition
from rdujax.compiler.bounds import Bounds
from rdujax.compiler.driver import Choices
from rdujax.compiler.planner import Planner
from rdujax.graph.graph import Graph
from rdujax.machines.machine import Machine
from tests.rooms.compiler.samples import Sample, samples, small

CHEAP_LAUNCHES = {f"launch.{part}_s": 0 for part in ("program_load", "argument_load", "execute")}


def planner_of(sample: Sample, machine: Machine, orchestration: str = "hardware", trips: int = 1) -> Planner:
    program = rdu.compile(sample.fn, *sample.args, machine=machine, fusion="none")
    choices, tiers = Choices(orchestration=orchestration), dict.fromkeys(program.graph.types, "hbm")
    return Planner(program.graph, machine, choices, tiers, trips=trips)


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
    groups = partition.cheapest(planner.graph, planner.cost, bounds.from_node)
    assert cover(groups, len(nodes))
    assert sum(costs[group] for group in groups) == cheapest_of_all(costs, len(nodes))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
@pytest.mark.parametrize("sample", samples()[:4], ids=str)
def test_one_kernel_that_is_launched_once_pays_its_share(sample: Sample, machine: Machine):
    """As the body of a loop: what all nodes cost as one kernel, and the cheapest partition with that."""
    plain, looped = planner_of(sample, machine), planner_of(sample, machine, "looped", 5)
    nodes, costs = looped.graph.nodes, costs_of(looped)
    launch_s = [machine.launch_s("looped", 1, beginning) for beginning in ("launch", "advance")]
    saved = (launch_s[0] - launch_s[1]) * machine.clock_hz.value * 4 / 5
    for group, cost in costs_of(plain).items():
        assert cost - costs[group] == pytest.approx(saved if group == (0, len(nodes)) else 0, abs=1)
    place = {node.result: i for i, node in enumerate(nodes)}
    groups = [(place[group[0].result], place[group[-1].result] + 1) for group in looped.groups()]
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
    groups = partition.cheapest(planner.graph, cost, bounds.from_node)
    assert len(groups) == 1 and planned == [len(planner.graph.nodes)]


def test_a_search_that_is_cut_short_still_ends_with_kernels_that_fit():
    planner = planner_of(samples()[3], small().replace(CHEAP_LAUNCHES))
    bounds = Bounds(planner.graph, planner.machine, planner.tiers, 0)
    groups = partition.cheapest(planner.graph, planner.cost, bounds.from_node, patience=0)
    assert cover(groups, len(planner.graph.nodes))
    costs = costs_of(planner)
    assert sum(costs[group] for group in groups) >= cheapest_of_all(costs, len(planner.graph.nodes))


def long_graph() -> Graph:
    """40 nodes, alike two by two."""

    def fn(x, w):
        for _ in range(20):
            x = jnp.tanh(x @ w)
        return x

    shapes = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((4, 8), (8, 8))]
    return rdu.compile(fn, *shapes, machine=small(), fusion="primitives").graph


def test_a_long_search_begins_with_halves_and_ends_near_the_best():
    """Of 40 alike nodes that cost more by the square of their number, and a place in the middle that is narrow."""
    graph = long_graph()
    count, asked = len(graph.nodes), []

    def cost(i, j):
        asked.append((i, j))
        if j - i > 30:
            raise CapacityError("too long")
        return 1_000 + 10 * (j - i) ** 2, [i]

    def bounds(i):
        return np.full(min(35, count - i), 1_000.0)  # longer ones cannot fit

    groups = partition.cheapest(graph, cost, bounds)
    best = min(sum(cost(i, j)[0] for i, j in pairwise(range(0, count + 1, step))) for step in (5, 8, 10, 20))
    assert count == 40 and cover(groups, count) and all(j - i <= 35 for i, j in asked)
    assert sum(cost(*group)[0] for group in groups) <= best * (1 + partition.WITHIN)
    planned = []
    partition.cheapest(graph, lambda i, j: (planned.append(j - i), cost(i, j))[1], bounds, patience=0)
    assert planned, "the first halves are planned whatever is allowed"


def test_a_long_search_betters_its_halves_where_costs_are_far_from_their_bounds():
    """Of 40 nodes of random work, some of which get on badly, against the shortest path over all costs."""
    graph, halves, soon, found = long_graph(), [], [], []
    for seed in range(12):
        costs, bounds = strangers(len(graph.nodes), np.random.default_rng(seed))
        asked: set[tuple[int, int]] = set()
        best = shortest(costs, len(graph.nodes))
        for patience, ratios, part in ((0, halves, 4), (10, soon, 4), (partition.PATIENCE, found, 2)):
            groups = partition.cheapest(graph, asking(costs, asked), bounds, patience=patience)
            assert cover(groups, len(graph.nodes)) and len(asked) < len(costs) / part
            ratios.append(sum(costs[group] for group in groups) / best)
    assert min(found) >= 1 and all(b <= a for a, b in [*zip(halves, soon, strict=True), *zip(soon, found, strict=True)])
    assert np.mean(found) <= 1.05 < np.mean(soon) <= 1.08 < 1.1 <= np.mean(halves)


def strangers(count: int, rng: np.random.Generator) -> tuple[dict[tuple[int, int], int], Callable[[int], np.ndarray]]:
    """Costs of groups of up to 15 nodes: a launch, their work, and more of it the more kinds there are; and bounds."""
    work, kind = rng.integers(20, 200, count), rng.integers(0, 4, count)
    costs = {
        (i, j): int(300 + work[i:j].sum() * (1 + 0.6 * (len(set(kind[i:j])) - 1)) * rng.uniform(1, 1.3))
        for i, j in combinations(range(count + 1), 2)
        if j - i <= 15
    }
    return costs, lambda i: 300.0 + np.cumsum(work[i:])


def asking(costs: dict[tuple[int, int], int], asked: set[tuple[int, int]]) -> partition.Cost:
    """These costs as the search asks for them, noting what it asks."""

    def cost(i: int, j: int) -> tuple[int, list[int]]:
        asked.add((i, j))
        if (i, j) not in costs:
            raise CapacityError("too long")
        return costs[i, j], [i]

    return cost


def cheapest_groups(costs: dict[tuple[int, int], int], count: int) -> list[tuple[int, int]]:
    """The best partition, all costs known."""
    best: list[tuple[int, list[tuple[int, int]]]] = [(0, [])]
    for j in range(1, count + 1):
        best.append(min((best[i][0] + costs[i, j], [*best[i][1], (i, j)]) for i in range(j) if (i, j) in costs))
    return best[count][1]


def shortest(costs: dict[tuple[int, int], int], count: int) -> int:
    """The cost of the best partition."""
    return sum(costs[group] for group in cheapest_groups(costs, count))


def test_a_group_that_fits_is_kept_though_a_part_of_it_does_not():
    """The part has to store what the whole keeps to itself: the whole is found without a second search."""
    graph = long_graph()
    count, asked = len(graph.nodes), []

    def cost(i, j):
        asked.append((i, j))
        if j - i < count:
            raise CapacityError("too much to store")
        return 1_000, [i]

    assert partition.cheapest(graph, cost, lambda i: np.full(count - i, 10.0)) == [(0, count)]
    assert asked.count((0, count)) == 1 < len(asked)


def test_what_begins_well_is_never_given_up_for_worse():
    """With the best partition to begin with it stays, and no half of the whole is planned."""
    graph = long_graph()
    for seed in range(6):
        costs, bounds = strangers(len(graph.nodes), np.random.default_rng(seed))
        best, groups, asked = shortest(costs, len(graph.nodes)), cheapest_groups(costs, len(graph.nodes)), set()
        assert sum(costs[group] for group in groups) == best
        found = partition.cheapest(graph, asking(costs, asked), bounds, begin=groups, patience=0)
        assert sum(costs[group] for group in found) == best and (0, len(graph.nodes)) not in asked
        assert len(asked) < len(costs) / 10


def test_what_does_not_fit_between_narrow_places_is_cut_in_between():
    """Of six rows of four nodes, between which little crosses, the third fits only in parts."""

    def fn(x, wide, narrow):
        for _ in range(6):
            x = jnp.tanh(jnp.tanh(x @ wide)) @ narrow
        return x

    shapes = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((4, 1), (1, 64), (64, 1))]
    graph = rdu.compile(fn, *shapes, machine=small(), fusion="primitives").graph
    count, asked = len(graph.nodes), set()

    def cost(i: int, j: int) -> tuple[int, list[int]]:
        asked.add((i, j))
        if j - i > 8 or (i <= 8 and j >= 12):
            raise CapacityError("too long")
        return 1_000 + (j - i), [i]

    groups = partition.cheapest(graph, cost, lambda i: np.full(count - i, 1_000.0))
    assert count == 24 and partition.narrows(partition.crossing_bytes(graph)) == [0, *range(4, 24, 4), 24]
    assert cover(groups, count) and len(asked) < count * (count + 1) / 4
    assert sum(cost(*group)[0] for group in groups) == 4_024  # no three kernels fit
