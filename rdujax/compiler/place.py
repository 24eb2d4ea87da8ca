"""Pass: where the units of a planned kernel sit on the grid of the socket.

    candidates for the PCUs --> the most promising, each with the best places for its PMUs and AGCUs --> the best

Candidates are stages one after another along strips of the tiles (`layouts.py`), compared by what their wires cost at
least and by columns in which too many multicasts have targets. For the most promising of them, PMUs and AGCUs in turn
get the places that make their wires shortest together (`assign.py`); the best of those do so again, and keep away from
full links. Of all these placements and the naive one, which counts units out along the curve, that with the least
length of wires times the square of how much they slow the kernel down (`wires.py`) is taken, among those that are worse
than the naive one in neither. So a kernel can be placed exactly if its units can be counted out (L6).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.compiler.assign import assign, branch_load, heat, least_cost
from rdujax.compiler.flows import Multicasts, Units, flows, multicasts
from rdujax.compiler.grid import Grid, Place, Placement, grid_of
from rdujax.compiler.layouts import layouts
from rdujax.compiler.routes import trees
from rdujax.compiler.wires import priced_cycles, wires_of
from rdujax.graph.graph import Graph
from rdujax.graph.plan import PlannedKernel
from rdujax.ledger.numbers import exact
from rdujax.machines.machine import Machine

ORDERS = ("near", "counted")
PROMISING = 4  # candidates that are worked out
AGAIN = 2  # of them, that are worked out again
COOLED = 3  # times that each of these is, while links are over capacity


def place(graph: Graph, planned: PlannedKernel, machine: Machine, order: str = "near") -> Placement:
    """Places a planned kernel; the same kernel and machine give the same placement, always.

    order: "near" as above, or "counted", which counts units out along the curve and looks at nothing: what "near" is
    measured against, and never worse than. Raises CapacityError for more units than there are, UnknownNameError for
    another order.
    """
    if order not in ORDERS:
        raise unknown("order of placement", order, ORDERS)
    grid = grid_of(machine)
    _check_counts(planned, grid)
    naive = _counted(planned, grid)
    if order == "counted":
        return check_placement(planned, naive)
    numbers = _numbers(planned)
    every = multicasts(flows(graph, planned, numbers, machine), range(planned.pcus + planned.pmus + planned.agcus))
    walk = iter([Place(*each) for each in _best(graph, planned, machine, every, _as_array(naive)).tolist()])
    return check_placement(planned, Placement(grid, Units(*(
        {label: tuple(islice(walk, len(own))) for label, own in kind.items()}
        for kind in (numbers.pcus, numbers.pmus, numbers.agcus)
    ))))  # fmt: skip


def _needs(planned: PlannedKernel) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """How many PCUs each stage, PMUs each buffer and AGCUs the streams have, by name."""
    stages = {s.label: share.pcus for s, share in zip(planned.kernel.stages, planned.shares, strict=True)}
    return stages, {b.label: b.pmus for b in planned.buffers}, planned.bridges


def _numbers(planned: PlannedKernel) -> Units[int]:
    """All units numbered: PCUs, then PMUs, then AGCUs."""
    walk = iter(range(planned.pcus + planned.pmus + planned.agcus))
    return Units(*({label: tuple(islice(walk, n)) for label, n in need.items()} for need in _needs(planned)))


def _counted(planned: PlannedKernel, grid: Grid) -> Placement:
    """Units of each kind one after the other along the curve."""
    kinds = zip(_needs(planned), (grid.curve, grid.curve, grid.agcu_places), strict=True)
    return Placement(grid, Units(*(_count_out(needs.items(), places) for needs, places in kinds)))


def _count_out(needs: Iterable[tuple[str, int]], places: Sequence[Place]) -> dict[str, tuple[Place, ...]]:
    walk = iter(places)
    return {label: tuple(islice(walk, count)) for label, count in needs}


def _as_array(placement: Placement) -> np.ndarray:
    """int64 [units, 3]: the places of all units by number."""
    units = placement.units
    every = [p for kind in (units.pcus, units.pmus, units.agcus) for places in kind.values() for p in places]
    return np.array(every, np.int64).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class _Rated:
    """Places of all units [units, 3], how loaded the links are with them, and how good that is.

    length: of the wires, a crossing to another tile as long as a tile is wide. slowdown: by the fullest network, 1 or
    more.
    """

    places: np.ndarray
    loads: np.ndarray
    length: int
    slowdown: float

    @property
    def badness(self) -> float:
        """What the best placement has least of."""
        return _badness(self.length, self.slowdown)

    def is_no_worse_than(self, other: "_Rated") -> bool:
        return self.length <= other.length and self.slowdown <= other.slowdown


def _badness(length: int, slowdown: float) -> float:
    """Time matters more than wires."""
    return length * slowdown**2


def _best(graph: Graph, planned: PlannedKernel, machine: Machine, every: Multicasts, naive: np.ndarray) -> np.ndarray:
    """The places of all units, int64 [units, 3]: the best that are found, and no worse than the naive ones."""
    grid, cycles = grid_of(machine), priced_cycles(graph, planned, machine)
    capacity = cycles * float(exact(machine.rdn.packets_per_cycle.value))

    def rated(places: np.ndarray) -> _Rated:
        loads = wires_of(grid, trees(grid.mesh, grid.tiles, every, places), capacity)
        length = loads.hops + grid.mesh.columns * int(loads.crossings.sum(dtype=np.int64))
        slowdown = max(1.0, max(loads.least_cycles(machine).values()) / cycles)  # not emulated: sizes
        return _Rated(places, loads.loads, length, slowdown)

    def settled(places: np.ndarray, heat: np.ndarray, n_placed: int) -> _Rated:
        places, placed = places.copy(), np.arange(len(places)) < n_placed
        for units, where in _movable(planned, grid):
            assign(grid, every, units, where, places, placed, heat)
        return rated(places)

    cold = np.zeros((grid.tiles, grid.mesh.rows, grid.mesh.columns))
    first = [settled(places, cold, planned.pcus) for places in _promising(planned, grid, every, capacity)]
    first = sorted(first, key=lambda each: each.badness)

    def away_from_heat(each: _Rated) -> Iterator[_Rated]:
        hot = cold
        for _ in range(COOLED):
            hot = hot + heat(each.loads, capacity)  # what was hot once stays so, or all would move back there
            each = settled(each.places, hot, len(naive))
            yield each
            if each.slowdown == 1:
                return

    again = [better for each in first[:AGAIN] for better in away_from_heat(each)]
    naively = rated(naive)
    found = [each for each in (naively, *first, *again) if each.is_no_worse_than(naively)]
    return min(found, key=lambda each: each.badness).places


def _movable(planned: PlannedKernel, grid: Grid) -> list[tuple[np.ndarray, tuple[Place, ...]]]:
    """The numbers of the PMUs and of the AGCUs, and where they can be."""
    pmus, end = planned.pcus + planned.pmus, planned.pcus + planned.pmus + planned.agcus
    return [(np.arange(planned.pcus, pmus), grid.curve[: grid.pmus]), (np.arange(pmus, end), grid.agcu_places)]


def _promising(planned: PlannedKernel, grid: Grid, every: Multicasts, capacity: float) -> list[np.ndarray]:
    """The candidates whose wires promise to be best: int64 [units, 3] each, the places of the PCUs filled in."""
    (pmus, _), _ = _movable(planned, grid)
    costs, found = [], []
    for candidate in layouts(planned, grid, _pmus_beside(planned)):
        places = np.zeros((len(every.units), 3), np.int64)
        places[: planned.pcus] = candidate
        placed = np.arange(len(places)) < planned.pcus
        slowdown = max(1.0, branch_load(grid, every, places, placed) / capacity)  # not emulated: sizes
        costs.append(_badness(least_cost(grid, every, pmus, places, placed), slowdown))
        found.append(places)
    return [found[i] for i in np.argsort(costs, kind="stable")[:PROMISING]]


def neighbours(planned: PlannedKernel) -> dict[str, tuple[str, ...]]:
    """For each buffer, the stages that write or read it, in order of the pipeline."""
    return {
        b.label: tuple(
            s.label for s in planned.kernel.stages if s.result == b.value or any(r.value == b.value for r in s.reads)
        )
        for b in planned.buffers
    }


def check_placement(planned: PlannedKernel, placement: Placement) -> Placement:
    """The placement itself; raises ArgumentError where it has other numbers of units than the kernel, or one twice."""
    grid = placement.grid
    kinds = (
        ("PCU", placement.units.pcus, grid.curve[: grid.pcus]),
        ("PMU", placement.units.pmus, grid.curve[: grid.pmus]),
        ("AGCU", placement.units.agcus, grid.agcu_places),
    )
    for needs, (kind, given, there) in zip(_needs(planned), kinds, strict=True):
        if (counts := {label: len(places) for label, places in given.items()}) != needs:
            raise ArgumentError(
                describe(f"other numbers of {kind}s than planned", given=str(counts), allowed=str(needs))
            )
        used = Counter(place for places in given.values() for place in places)
        if wrong := list(used - Counter(there)):
            raise ArgumentError(
                describe(
                    f"{kind}s that are not there, or used twice", given=", ".join(map(str, wrong)), allowed=str(grid)
                )
            )
    return placement


def _check_counts(planned: PlannedKernel, grid: Grid) -> None:
    for kind, needed, there in (
        ("PCU", planned.pcus, grid.pcus),
        ("PMU", planned.pmus, grid.pmus),
        ("AGCU", planned.agcus, grid.agcus),
    ):
        if needed > there:
            raise CapacityError(
                describe(
                    f"a kernel needs more {kind}s than there are to place",
                    given=f"{needed:,}",
                    allowed=f"{there:,}",
                    where=planned.kernel.where,
                    do="plan it for this machine",
                )
            )


def _pmus_beside(planned: PlannedKernel) -> dict[str, int]:
    """PMUs of the buffers that begin at each stage: its result, and the loads that it is the first to read."""
    around = neighbours(planned)
    beside: dict[str, int] = {}
    for buffer in planned.buffers:
        for stage in around[buffer.label][:1]:
            beside[stage] = beside.get(stage, 0) + buffer.pmus
    return beside
