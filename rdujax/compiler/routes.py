"""Which way multicasts take between placed units: one tree of shortest paths in every tile that they touch.

    tile 0   source . > edge                 a tree that leaves its tile ends at the nearer edge of the source's row
                 . > target                  too, and begins anew in each other tile: at the better edge, in the row of
    tile 1             edge > . > target     one of the middle half of its targets there, far from that of the last one

A tree goes along the row first and branches into columns, or, where all its targets are in the east of its origin, may
go along the column first and branch into rows: whichever is shorter, the row of two equals. Either way every path is as
short as can be. Links that would carry more than they can make trees turn (`routed`): each round prices every link by
its load, and some of the trees take the other form where that is cheaper; the round with the best loads stays.

Packets turn into the west nowhere, so that links never wait for one another in a circle, whatever the forms (the
west-first turn model, Glass and Ni, ISCA 1992).

Not modelled: the AGCUs that crossings take; trees that are neither of the two; flow ids of switches.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rdujax.compiler.flows import Multicasts
from rdujax.units.rdn.loads import link_loads
from rdujax.units.rdn.mesh import Endpoint, Mesh, Port
from rdujax.units.rdn.routing import Along, Route, multicast

ROUNDS = 8  # of turning trees
GOLDEN = 2654435769  # 2^32 over the golden ratio: its multiples, cut to 32 bits, are spread evenly however few they are
PRESSURE = 4.0  # what the busiest link costs, in links that carry nothing
POWER = 4  # how steeply that falls with the load

# not emulated: packets and hops are counts of the host, no values of the machine


@dataclass(frozen=True, eq=False)
class Trees:
    """The parts of multicasts within single tiles.

    tile, row, column, port, packets: int64 [n], where each begins and what it carries. owner, target: int64 [m],
    [m, 3]: the (row, column, port) of each target and the tree that it belongs to, in increasing order. crossings:
    int64 [k, 3], (multicast, from tile, to tile) of each that leaves its tile; crossing_packets: int64 [k].
    """

    mesh: Mesh
    tiles: int
    tile: np.ndarray
    row: np.ndarray
    column: np.ndarray
    port: np.ndarray
    packets: np.ndarray
    owner: np.ndarray
    target: np.ndarray
    crossings: np.ndarray
    crossing_packets: np.ndarray

    @cached_property
    def row_first(self) -> "Spans":
        """The links of all trees that go along the row first."""
        return _spans(self.column, self.row, self.target[:, 1], self.target[:, 0], self.owner, self.mesh.columns)

    @cached_property
    def column_first(self) -> "Spans":
        """The links of all trees that go along the column first."""
        return _spans(self.row, self.column, self.target[:, 0], self.target[:, 1], self.owner, self.mesh.rows)

    @cached_property
    def may_turn(self) -> np.ndarray:
        """bool [n]: which trees may go along the column first: those with nothing in the west of their origin."""
        return self.row_first.trunk_low >= self.column

    @cached_property
    def shorter_in_columns(self) -> np.ndarray:
        """bool [n]: which trees are shorter if they go along the column first, and may."""
        return self.may_turn & (self.column_first.lengths < self.row_first.lengths)

    def hops(self, turned: np.ndarray) -> int:
        """Packets times links between switches, of all trees; `turned` says which go along the column first."""
        lengths = np.where(turned, self.column_first.lengths, self.row_first.lengths)
        return int((lengths * self.packets).sum(dtype=np.int64))

    def links(self, turned: np.ndarray) -> np.ndarray:
        """int64 [tiles, rows, columns, 4]: packets per link between switches, by the port that they leave through."""
        found = np.zeros((self.tiles, *self.mesh.shape[:2], 4), np.int64)
        rows = ~turned, self.row_first, self.column, self.row, (Port.EAST, Port.WEST, Port.SOUTH, Port.NORTH)
        columns = turned, self.column_first, self.row, self.column, (Port.SOUTH, Port.NORTH, Port.EAST, Port.WEST)
        for swapped, (chosen, spans, origin, line, ports) in enumerate((rows, columns)):
            loads = found.swapaxes(1, 2) if swapped else found  # [tiles, lines, places of a line, ports]
            carried, own = np.where(chosen, self.packets, 0), spans.owner
            trunk = self.tile, line, spans.trunk_low, origin, spans.trunk_high, carried
            branch = self.tile[own], spans.at, spans.low, line[own], spans.high, carried[own]
            _add_spans(loads, *trunk, *ports[:2])
            _add_spans(loads.swapaxes(1, 2), *branch, *ports[2:])
        return found

    def loads(self, turned: np.ndarray) -> np.ndarray:
        """int64 [tiles, rows, columns, slots]: packets per link (see `units.rdn.mesh.Link.slot`)."""
        loads = np.zeros((self.tiles, *self.mesh.shape), np.int64)
        for tile in range(self.tiles):
            for along, chosen in ways(turned):
                chosen = chosen & (self.tile == tile)
                number = np.cumsum(chosen) - 1
                pins = chosen[self.owner]
                sources = np.stack([self.row, self.column, self.port], 1)[chosen]
                to = self.target[pins], self.packets[chosen], number[self.owner[pins]]
                loads[tile] += link_loads(self.mesh, sources, *to, along)
        return loads

    def routes(self, turned: np.ndarray) -> list[tuple[int, Route, int]]:
        """(tile, route, packets) of every tree, link by link."""
        ends = np.searchsorted(self.owner, np.arange(len(self.tile) + 1)).tolist()
        found = []
        for i, (low, high) in enumerate(zip(ends, ends[1:], strict=False)):
            source = Endpoint(int(self.row[i]), int(self.column[i]), Port(int(self.port[i])))
            targets = [Endpoint(row, column, Port(port)) for row, column, port in self.target[low:high].tolist()]
            route = multicast(self.mesh, source, targets, "column" if turned[i] else "row")
            found.append((int(self.tile[i]), route, int(self.packets[i])))
        return found


def ways(turned: np.ndarray) -> tuple[tuple[Along, np.ndarray], ...]:
    """Which dimension comes first, and bool [n], for which trees."""
    return ("row", ~turned), ("column", turned)


@dataclass(frozen=True, eq=False)
class Spans:
    """Trees of one form: a trunk along the first dimension, and branches from it along the second.

    trunk_low, trunk_high: int64 [n], the first and the last place of each trunk. owner, at, low, high: int64 [b], the
    tree of each branch, the place of the trunk that it leaves, its first and its last place.
    """

    trunk_low: np.ndarray
    trunk_high: np.ndarray
    owner: np.ndarray
    at: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [n]: links between switches of each tree."""
        return self.trunk_high - self.trunk_low + _summed(self.owner, self.high - self.low, len(self.trunk_low))


def _spans(
    origin: np.ndarray, line: np.ndarray, reached: np.ndarray, across: np.ndarray, owner: np.ndarray, length: int
) -> Spans:
    """The spans of trees with trunks on their `line`s from their `origin`s, to targets at (reached, across)."""
    low, high = origin.copy(), origin.copy()
    np.minimum.at(low, owner, reached)
    np.maximum.at(high, owner, reached)
    keys, branch = np.unique(owner * length + reached, return_inverse=True)
    trees, at = np.divmod(keys, length)
    first, last = line[trees], line[trees]
    np.minimum.at(first, branch, across)
    np.maximum.at(last, branch, across)
    return Spans(low, high, trees, at, first, last)


def _add_spans(
    loads: np.ndarray,
    tile: np.ndarray,
    line: np.ndarray,
    low: np.ndarray,
    origin: np.ndarray,
    high: np.ndarray,
    packets: np.ndarray,
    ahead: Port,
    back: Port,
) -> None:
    """Adds what goes from `origin` to both ends of lines. loads: [tiles, lines, places, ports]."""
    tiles, lines, length, _ = loads.shape
    first = (tile * lines + line) * (length + 1)
    for begin, end, port in ((origin, high, ahead), (low, origin, back)):
        steps = np.zeros(tiles * lines * (length + 1), np.int64)  # packets that begin to go from a place to the next
        np.add.at(steps, first + begin, packets)
        np.subtract.at(steps, first + end, packets)
        carried = np.cumsum(steps.reshape(tiles, lines, length + 1), 2)[:, :, :-1]
        if port is ahead:
            loads[..., port] += carried
        else:
            loads[:, :, 1:, port] += carried[:, :, :-1]


def _summed(owner: np.ndarray, amounts: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros(count, amounts.dtype)
    np.add.at(total, owner, amounts)
    return total


def trees(mesh: Mesh, tiles: int, every: Multicasts, places: np.ndarray) -> Trees:
    """The trees of multicasts whose units are at `places`: int64 [units, 3], (tile, row, column)."""
    start, end = places[every.source], places[every.target]
    source_port, target_port = every.source_port, every.target_port[every.owner]
    leaves = np.zeros(len(start), bool)
    leaves[every.owner[end[:, 0] != start[every.owner, 0]]] = True
    away = np.flatnonzero(leaves)
    exits = np.stack([start[away, 1], nearer_edge(mesh, start[away, 2]), np.full(len(away), int(Port.AGCU))], 1)
    target = np.concatenate([np.column_stack([end[:, 1:], target_port]), exits])
    keys = np.concatenate([every.owner * tiles + end[:, 0], away * tiles + start[away, 0]])
    order = np.lexsort((target[:, 1], target[:, 0], keys))
    target, keys = target[order], keys[order]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(begins, append=len(keys))
    net, tile = np.divmod(keys[begins], tiles)
    owner = np.repeat(np.arange(len(begins)), counts)
    entered = tile != start[net, 0]
    # One of the middle half, and for each multicast one far from that of the last.
    middle = (counts - 1) // 4 + (net * GOLDEN % 2**32 * ((counts + 1) // 2) >> 32)
    row = np.where(entered, target[begins + middle, 0], start[net, 1])
    column = np.where(entered, _entry(mesh, target[:, 1], begins, start[net, 2]), start[net, 2])
    port = np.where(entered, int(Port.AGCU), source_port[net])
    packets = every.packets[net]
    crossings = np.stack([net, start[net, 0], tile], 1)[entered]
    return Trees(mesh, tiles, tile, row, column, port, packets, owner, target, crossings, packets[entered])


def nearer_edge(mesh: Mesh, columns: np.ndarray) -> np.ndarray:
    """The column of the edge that is nearer to each column; the west one of two equals."""
    return np.where(columns * 2 <= mesh.columns - 1, 0, mesh.columns - 1)


def _entry(mesh: Mesh, columns: np.ndarray, begins: np.ndarray, source: np.ndarray) -> np.ndarray:
    """For each tree, the edge with the shorter way to all its target `columns`; of two equals, that of the source."""
    if not begins.size:
        return begins
    low, high = np.minimum.reduceat(columns, begins), np.maximum.reduceat(columns, begins)
    west, east = high, mesh.columns - 1 - low
    return np.where(west == east, nearer_edge(mesh, source), np.where(west < east, 0, mesh.columns - 1))


def routed(every: Trees, capacity: float) -> tuple[np.ndarray, np.ndarray]:
    """Which trees go along the column first, and the loads of the links then.

    capacity: packets that a link can carry in all. Shortest first; trees turn only while a link is over capacity.
    """
    turned = every.shorter_in_columns
    best = turned, (loads := every.links(turned))
    for turn in range(ROUNDS if every.may_turn.any() else 0):
        peak = int(loads.max(initial=0))
        if peak <= capacity:
            break
        price = 1 + PRESSURE * (loads * (1 / peak)) ** POWER
        rows, columns = (_priced(every, price, way) for way in ("row", "column"))
        # Half of the trees at a time, or all would leave a link for the same other one.
        chosen = every.may_turn & (np.arange(len(turned)) % 2 == turn % 2)
        turned = np.where(chosen, columns < rows, turned)
        loads = every.links(turned)
        if (loads.max(initial=0), every.hops(turned)) < (best[1].max(initial=0), every.hops(best[0])):
            best = turned, loads
    return best[0], every.loads(best[0])


def _priced(every: Trees, price: np.ndarray, along: Along) -> np.ndarray:
    """What the links of each tree cost, if it goes along that dimension first; price: [tiles, rows, columns, 4]."""
    ahead, back, up, down = Port.EAST, Port.WEST, Port.SOUTH, Port.NORTH
    spans, origin, line = every.row_first, every.column, every.row
    if along == "column":
        price = price.swapaxes(1, 2)
        ahead, back, up, down = up, down, ahead, back
        spans, origin, line = every.column_first, every.row, every.column
    trunk = _way(price, ahead, back)
    branch = _way(price.swapaxes(1, 2), up, down)
    total = trunk(every.tile, line, spans.trunk_low, origin, spans.trunk_high)
    own = spans.owner
    return total + _summed(own, branch(every.tile[own], spans.at, spans.low, line[own], spans.high), len(total))


def _way(price: np.ndarray, ahead: Port, back: Port):
    """What it costs to go from a place of a line to its last and to its first one, as sums of prices before places."""
    sums = np.cumsum(price[..., [ahead, back]], 2)
    sums = np.concatenate([np.zeros_like(sums[:, :, :1]), sums], 2)

    def cost(tile: np.ndarray, line: np.ndarray, low: np.ndarray, origin: np.ndarray, high: np.ndarray) -> np.ndarray:
        on, back_on = sums[..., 0], sums[..., 1]
        there = on[tile, line, high] - on[tile, line, origin]
        return there + back_on[tile, line, origin + 1] - back_on[tile, line, low + 1]

    return cost
