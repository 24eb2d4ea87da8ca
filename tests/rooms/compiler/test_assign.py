"""Linear assignment of units to places: costs equal those of trees drawn anew, and no assignment is cheaper."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest

from rdujax.compiler.assign import Costs, assign, branch_load, heat, least_cost
from rdujax.compiler.flows import Flow, multicasts
from rdujax.compiler.grid import Grid
from rdujax.compiler.routes import trees
from rdujax.units.rdn.mesh import Mesh, Port

GRID = Grid(1, Mesh(4, 5), 20, 20, 0)
MOVED = 4
COLD = np.zeros((1, 4, 5))


def network(seed, grid=GRID):
    """Units 0 to 3, which talk to 5 others alone: as sources of multicasts, and as single targets."""
    rng = np.random.default_rng(seed)
    flows = []
    for i in range(6):
        others, count = rng.permutation(np.arange(MOVED, 9)), int(rng.integers(1, 4))
        flows.append(Flow(f"out{i}", (int(rng.integers(MOVED)),), Port.PMU, (tuple(others[:count].tolist()),), Port.PCU,
                          int(rng.integers(1, 30))))  # fmt: skip
        own = int(rng.integers(MOVED))
        flows.append(Flow(f"in{i}", (int(others[0]),), Port.PCU, ((own,),), Port.PMU, int(rng.integers(1, 30))))
    places = np.array([grid.curve[i] for i in rng.choice(len(grid.curve), 9, replace=False)])
    every = multicasts(flows, range(9))
    return every, places


def hops(every, places, grid=GRID):
    """Of trees that all go along the row first."""
    drawn = trees(grid.mesh, grid.tiles, every, places)
    return drawn.hops(np.zeros(len(drawn.tile), bool))


@pytest.mark.parametrize("seed", range(6))
def test_costs_are_what_trees_drawn_anew_cost(seed):
    every, places = network(seed)
    costs = Costs(GRID, every, np.arange(MOVED), places, np.arange(9) >= MOVED).at(GRID.curve)
    for unit in range(MOVED):
        found = []
        for spot in GRID.curve:
            moved = places.copy()
            moved[unit] = spot
            found.append(hops(every, moved))
        assert (costs[unit] - costs[unit, 0] == np.array(found) - found[0]).all()
    at = [GRID.curve.index(tuple(place)) for place in places[:MOVED].tolist()]
    assert costs[np.arange(MOVED), at].sum() == hops(every, places)


@pytest.mark.parametrize("seed", range(6))
def test_the_load_of_branches_is_that_of_ways_from_the_middle_row(seed):
    grid = Grid(2, Mesh(6, 3), 36, 36, 0)
    rng = np.random.default_rng(seed)
    spots, steps = rng.permutation(36), Counter()
    places = np.array([grid.curve[i] for i in spots[:20]])
    groups = tuple(
        tuple(rng.choice(np.arange(2, 20), int(rng.integers(1, 5)), replace=False).tolist()) for _ in range(20)
    )
    flow = Flow("", (0, 1), Port.PMU, groups, Port.PCU, 7)
    placed = np.arange(20) < 16
    for group, sent in zip(groups, flow.sent, strict=True):
        for packets, tile in product(sent.tolist(), range(2)):
            inside = [tuple(places[i].tolist()) for i in group if placed[i] and places[i][0] == tile]
            middle = sorted(row for _, row, _ in inside)[(len(inside) - 1) // 2] if inside else 0
            ways = {(column, middle, at, 1) for _, row, column in inside for at in range(middle, row)}
            ways |= {(column, middle, at, -1) for _, row, column in inside for at in range(row, middle)}
            for column, _, at, way in ways:
                steps[tile, column, at, way] += packets
    assert branch_load(grid, multicasts([flow], range(20)), places, placed) == max(steps.values(), default=0) > 0


@pytest.mark.parametrize(("up", "down", "last"), [(7, 9, 3), (9, 7, 5)])
def test_branches_load_a_column_downwards_and_upwards_apart(up: int, down: int, last: int):
    """In column 0 one goes up from row 4 to 0, another one down from row 0: each has a direction of its own."""
    grid = Grid(1, Mesh(6, 3), 18, 18, 0)
    spots = [(0, 5, 2), (0, 0, 0), (0, 4, 1), (0, 4, 2), (0, 0, 1), (0, 0, 2), (0, last, 0)]
    groups = {(1, 2, 3): up, (4, 5, 6): down}
    flows = [Flow("", (0,), Port.PMU, (group,), Port.PCU, packets) for group, packets in groups.items()]
    assert branch_load(grid, multicasts(flows, range(7)), np.array(spots), np.arange(7) > 0) == 9


def test_nothing_that_is_placed_loads_no_branch():
    every, places = network(0)
    assert branch_load(GRID, every, places, np.zeros(9, bool)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_is_cheaper(seed):
    every, places = network(seed)
    spots = GRID.curve[3 : 3 + MOVED + 2]
    placed = np.arange(9) >= MOVED
    best = min(hops(every, np.array([*chosen, *places[MOVED:]])) for chosen in permutations(spots, MOVED))
    assert least_cost(GRID, every, np.arange(MOVED), places, placed) <= best
    assign(GRID, every, np.arange(MOVED), spots, places, placed, COLD)
    assert hops(every, places) == best and placed.all()
    assert len({tuple(place) for place in places[:MOVED].tolist()}) == MOVED


@pytest.mark.parametrize("seed", range(3))
def test_units_go_to_the_tile_of_what_they_talk_to(seed):
    grid = Grid(3, Mesh(4, 5), 60, 60, 0)
    every, places = network(seed, grid)
    places[:, 0], cold = 1, np.zeros((3, 4, 5))
    placed = np.arange(9) >= MOVED
    assign(grid, every, np.arange(MOVED), grid.curve, places, placed, cold)
    talking = np.unique(np.concatenate([every.source, every.target]))
    assert (places[talking, 0] == 1).all()
    inside = places.copy()
    assign(grid, every, np.arange(MOVED), [p for p in grid.curve if p.tile == 1], inside, placed, cold)
    assert hops(every, inside, grid) == hops(every, places, grid)


def test_what_is_not_placed_counts_for_nothing():
    every, places = network(0)
    none = Costs(GRID, every, np.arange(MOVED), places, np.zeros(9, bool))
    assert not none.at(GRID.curve).any() and none.least == 0


def test_hot_places_are_left_for_others_as_near():
    every = multicasts([Flow("f", (0,), Port.PMU, ((1,),), Port.PCU, 5)], range(2))
    places, placed = np.array([(0, 0, 0), (0, 2, 2)]), np.array([False, True])
    hot = COLD.copy()
    hot[0, 2, 2], hot[0, 1, 2], hot[0, 2, 1], hot[0, 3, 2] = 1.5, 1, 1, 1
    assign(GRID, every, np.arange(1), GRID.curve, places, placed, hot)
    assert places[0].tolist() == [0, 2, 3]  # one hop costs less than the heat of its own switch
    hot[0, 2, 2] = 0.9
    assign(GRID, every, np.arange(1), GRID.curve, places, placed, hot)
    assert places[0].tolist() == [0, 2, 2]


@pytest.mark.parametrize(("port", "there"), [(Port.NORTH, (0, 2)), (Port.EAST, (1, 3)), (Port.SOUTH, (2, 2)),
                                             (Port.WEST, (1, 1))])  # fmt: skip
def test_both_ends_of_a_link_over_capacity_are_hot(port, there):
    loads = np.zeros((1, 4, 5, 10), np.int64)
    loads[0, 1, 2, port] = 11
    warm = heat(loads, 10)[0]
    assert {tuple(map(int, at)) for at in np.argwhere(warm)} == {(1, 2), there} and warm[1, 2] == warm[there] > 0
    assert not heat(loads, 11).any()
    loads[0, 1, 2, port], loads[0, 1, 2, Port.PCU] = 0, 99  # links to units are not avoided
    assert not heat(loads, 10).any()
