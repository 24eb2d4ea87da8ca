"""The best places for units that do not talk to one another, given the places of all others: linear assignment.

    cost of a unit at (tile, row, column) = across(tile, column) + down(tile, row)

is what the trees of its packets add to the wires, rows first (`routes.py`): as the source of a multicast, the trunk to
its farthest targets and the branches to those in each column; as a target, the way from its source. That is a sum over
rows and columns apart, so that a few sums give the cost of every place. All units together are then put where the sum
of their costs is least (Jonker and Volgenant's algorithm, as in SciPy; always the same for the same costs).
"""

from collections.abc import Sequence

import numpy as np

from rdujax.compiler.flows import Multicasts
from rdujax.compiler.grid import Grid, Place
from rdujax.compiler.routes import nearer_edge
from rdujax.units.rdn.mesh import Port

SAMPLE = 4000  # targets that are looked at to compare candidates
WARM = 0.8  # share of a link from which on its ends are avoided
HEAT = 2.0  # hops that a packet goes further for a link that is full once more

# not emulated: packets and hops are counts of the host, no values of the machine


class Costs:
    """What each of some units costs at each place: `across` [units, tiles, columns] + `down` [units, tiles, rows].

    places: int64 [all units, 3]. placed: bool [all units], whether a unit has its place; others count for nothing.
    Multicasts to several targets count for their sources alone.
    """

    def __init__(self, grid: Grid, every: Multicasts, units: np.ndarray, places: np.ndarray, placed: np.ndarray):
        self.grid, self.every, self.places, self.placed = grid, every, places, placed
        mesh = grid.mesh
        self.number = np.full(len(places), -1)
        self.number[units] = np.arange(len(units))
        self.across = np.zeros((len(units), grid.tiles, mesh.columns), np.int64)
        self.down = np.zeros((len(units), grid.tiles, mesh.rows), np.int64)
        self._as_sources()
        self._as_targets()

    def at(self, where: Sequence[Place]) -> np.ndarray:
        """int64 [units, places]."""
        tile, row, column = np.array(where, np.int64).reshape(-1, 3).T
        return self.across[:, tile, column] + self.down[:, tile, row]

    @property
    def least(self) -> int:
        """What all units would cost, each at its own best place: no assignment costs less."""
        return int((self.across.min(2) + self.down.min(2)).min(1).sum())

    def _as_sources(self) -> None:
        """Adds the trees of multicasts, for their sources at every place."""
        every, grid, mesh = self.every, self.grid, self.grid.mesh
        own = self.number[every.source] >= 0
        pins = own[every.owner] & self.placed[every.target]
        nets, owner = np.unique(every.owner[pins], return_inverse=True)
        if not nets.size:
            return
        tile, row, column = self.places[every.target[pins]].T
        shape = len(nets), grid.tiles
        branches, branch = np.unique((owner * grid.tiles + tile) * mesh.columns + column, return_inverse=True)
        part, at = np.divmod(branches, mesh.columns)
        top, bottom = _extent(branch, row, len(branches))
        low, high = _extent(part, at, len(nets) * grid.tiles)
        there = high >= 0
        # A tree that comes in from another tile begins at the edge, in the middle row of the targets.
        middle = _middles(owner * grid.tiles + tile, row, len(there))
        branched = np.maximum(bottom, middle[part]) - np.minimum(top, middle[part])
        entered = np.where(there, np.minimum(high, mesh.columns - 1 - low), 0) + there * mesh.columns
        np.add.at(entered, part, branched)
        entered = entered.reshape(shape)
        elsewhere = entered.sum(1, keepdims=True) - entered
        rows = np.arange(mesh.rows)
        down = np.zeros((len(there), mesh.rows), np.int64)
        begins = np.flatnonzero(np.diff(part, prepend=-1))
        lengths = np.maximum(bottom[:, None], rows) - np.minimum(top[:, None], rows)
        down[part[begins]] = np.add.reduceat(lengths, begins, axis=0)
        columns = np.arange(mesh.columns)
        leaves = elsewhere[:, :, None] > 0
        exits = np.where(leaves, nearer_edge(mesh, columns), columns)
        trunk = np.maximum(np.maximum(high.reshape(*shape, 1), columns), exits)
        trunk -= np.minimum(np.minimum(low.reshape(*shape, 1), columns), exits)
        unit, packets = self.number[every.source[nets]], every.packets[nets, None, None]
        np.add.at(self.across, unit, packets * (trunk + elsewhere[:, :, None]))
        np.add.at(self.down, unit, packets * down.reshape(*shape, mesh.rows))

    def _as_targets(self) -> None:
        """Adds the ways from the sources of packets that go to one unit alone."""
        every, grid, mesh = self.every, self.grid, self.grid.mesh
        alone = np.bincount(every.owner, minlength=len(every.source))[every.owner] == 1
        source = every.source[every.owner]
        pins = alone & (self.number[every.target] >= 0) & self.placed[source]
        tile, row, column = self.places[source[pins], :, None, None].swapaxes(0, 1)
        inside = tile == np.arange(grid.tiles)[:, None]
        columns, rows = np.arange(mesh.columns), np.arange(mesh.rows)
        to_edge = np.abs(columns - nearer_edge(mesh, columns))
        over = np.abs(column - nearer_edge(mesh, column)) + mesh.columns + to_edge
        unit, packets = self.number[every.target[pins]], every.packets[every.owner[pins], None, None]
        np.add.at(self.across, unit, packets * np.where(inside, np.abs(column - columns), over))
        np.add.at(self.down, unit, packets * np.where(inside, np.abs(row - rows), 0))


def _extent(owner: np.ndarray, at: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest of each owner's numbers; far apart the wrong way round where it has none."""
    low, high = np.full(count, np.iinfo(np.int32).max, np.int64), np.full(count, -1, np.int64)
    np.minimum.at(low, owner, at)
    np.maximum.at(high, owner, at)
    return low, high


def _middles(owner: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    """The lower median of each owner's numbers; 0 where it has none."""
    order = np.lexsort((at, owner))
    owner, at = owner[order], at[order]
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    middle = np.zeros(count, np.int64)
    middle[owner[begins]] = at[begins + (np.diff(begins, append=len(owner)) - 1) // 2]
    return middle


def assign(
    grid: Grid,
    every: Multicasts,
    units: np.ndarray,
    where: Sequence[Place],
    places: np.ndarray,
    placed: np.ndarray,
    heat: np.ndarray,
) -> None:
    """Gives each of `units` one of the places `where`, in `places` and `placed`.

    heat: float [tiles, rows, columns], hops that a packet may go further so as not to begin or end at a switch.
    """
    from scipy.optimize import linear_sum_assignment  # here, for it takes long to import

    spots = np.array(where, np.int64).reshape(-1, 3)
    sent = np.bincount(every.source, every.packets, len(places))
    taken = np.bincount(every.target, every.packets[every.owner], len(places))
    costs = Costs(grid, every, units, places, placed).at(where)
    hot = (sent + taken)[units, None] * heat[tuple(spots.T)]
    chosen, spot = linear_sum_assignment(costs + hot)
    places[units[chosen]] = spots[spot]
    placed[units] = True


def heat(loads: np.ndarray, capacity: float) -> np.ndarray:
    """How hot every switch is, by the share of its fullest link that is taken: float64 [tiles, rows, columns].

    loads: int64 [tiles, rows, columns, slots]; nothing is hot while no link is over `capacity`.
    """
    share = loads[..., : Port.PCU] * (1 / capacity)
    fullest = share.max(-1)
    if fullest.max() <= 1:
        return np.zeros_like(fullest)
    fullest[:, 1:] = np.maximum(fullest[:, 1:], share[:, :-1, :, Port.SOUTH])
    fullest[:, :-1] = np.maximum(fullest[:, :-1], share[:, 1:, :, Port.NORTH])
    fullest[:, :, 1:] = np.maximum(fullest[:, :, 1:], share[:, :, :-1, Port.EAST])
    fullest[:, :, :-1] = np.maximum(fullest[:, :, :-1], share[:, :, 1:, Port.WEST])
    return HEAT * np.maximum(0, fullest - WARM)


def branch_load(grid: Grid, every: Multicasts, places: np.ndarray, placed: np.ndarray) -> int:
    """Packets on the busiest link of a column, if every multicast went along the row in the middle of its targets.

    Of targets that have their place, wherever the sources are going to be: what no choice of the rows that multicasts
    go along can take away from columns in which too many of them have targets.
    """
    mesh = grid.mesh
    pins = placed[every.target]
    owner, (tile, row, column) = every.owner[pins], places[every.target[pins]].T
    if not owner.size:
        return 0
    parts, part = np.unique(owner * grid.tiles + tile, return_inverse=True)
    branches, branch = np.unique(part * mesh.columns + column, return_inverse=True)
    of, at = np.divmod(branches, mesh.columns)
    top, bottom = _extent(branch, row, len(branches))
    middle = _middles(part, row, len(parts))[of]
    net, tile = np.divmod(parts[of], grid.tiles)
    busiest = 0
    for low, high in ((np.minimum(top, middle), middle), (middle, np.maximum(bottom, middle))):
        steps = np.zeros((grid.tiles, mesh.columns, mesh.rows), np.int64)
        np.add.at(steps, (tile, at, low), every.packets[net])
        np.subtract.at(steps, (tile, at, high), every.packets[net])
        busiest = max(busiest, int(np.cumsum(steps, 2).max()))
    return busiest


def least_cost(grid: Grid, every: Multicasts, units: np.ndarray, places: np.ndarray, placed: np.ndarray) -> int:
    """What the wires of some of `units` cost at least, whichever of them gets which place."""
    sources = np.bincount(every.source[every.owner], minlength=len(places))
    step = 1 + int(sources[units].sum()) // SAMPLE
    return Costs(grid, every, units[::step], places, placed).least
