"""Candidates for the places of the PCUs of a kernel: stages one after another along strips of the tiles.

    a strip of three columns    1 2 3 . .       each row of a strip left to right, or to and fro; down one strip and up
                                4 5 6 . .       the next; through the tiles in their order
                                7 8 9 . .

A strip as wide as a row of a fork puts its PCUs that share one operand into rows of the mesh and those that share the
other into columns, so that a multicast to either is one straight wire. Forks go by their rows or by their columns;
those that are alike, follow one another and read the same buffer go side by side, a row of each in turn, or one after
the other; so do copies of chains. Narrow strips that are left over come each in its tile, or all at the end: then rows
of a fork that fit nowhere else may fill them column by column, so that what is long stays together. A stage that would
cross to the next tile starts there instead while spare places last, a fork starts with a row of the strip, and a stage
with more PMUs around it than PCUs leaves places free for them.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from rdujax.compiler.grid import TILES_PER_DIE, Grid
from rdujax.graph.plan import PlannedKernel
from rdujax.ledger.numbers import ceil_div
from rdujax.ops.op import Share
from rdujax.units.pcu.simd import Chain
from rdujax.units.pcu.systolic import Fork

# not emulated: numbers of units and places


def layouts(planned: PlannedKernel, grid: Grid, beside: dict[str, int]) -> list[np.ndarray]:
    """Every different candidate: int64 [PCUs, 3], (tile, row, column) of the PCUs of all stages in order.

    beside: for each stage, the PMUs that want to be near it.
    """
    found: dict[bytes, np.ndarray] = {}
    ways = product((False, True), repeat=2)
    blocks = [list(_blocks(planned, by_columns, side_by_side, beside)) for by_columns, side_by_side in ways]
    for width, to_and_fro in _strips(planned, grid):
        curve = _curve(grid, width, to_and_fro)
        wide = curve[:, 4] == 1
        curves = [(curve, len(curve))]
        if not wide.all() and not to_and_fro:
            last = np.concatenate([curve[wide], curve[~wide]])
            curves += [(last, len(curve)), (last, int(wide.sum()))]
        for (path, turn), each in product(curves, blocks):
            candidate = _along(path, each, planned.pcus, turn)
            found.setdefault(candidate.tobytes(), candidate)
    return list(found.values())


def _strips(planned: PlannedKernel, grid: Grid) -> list[tuple[int, bool]]:
    """(width, to and fro) of strips: all columns, half of them, and what suits a side of a fork."""
    most = grid.mesh.columns
    half = ceil_div(most, 2)
    sides = {side for share in planned.shares if isinstance(share, Fork)
             for side in (share.rows * share.splits, share.columns * share.splits)}  # fmt: skip
    fitting = {ceil_div(side, ceil_div(side, most)) for side in sides}
    widths = sorted({most, half} | {width for width in fitting if width > 2})
    return [(width, False) for width in widths] + [(width, True) for width in sorted({most, half})]


def _curve(grid: Grid, width: int, to_and_fro: bool) -> np.ndarray:
    """int64 [places of PCUs, 5]: (tile, row, column) along the strips, 1 where a row begins, 1 in strips of full width.

    The last strip of a tile is narrower where the width does not divide the columns.
    """
    there = set(grid.curve[: grid.pcus])
    places = []
    for tile in range(grid.tiles):
        up = bool(tile // TILES_PER_DIE % 2)
        for west in range(0, grid.mesh.columns, width):
            rows, columns = range(grid.mesh.rows), range(west, min(grid.mesh.columns, west + width))
            for i, row in enumerate(reversed(rows) if up else rows):
                line = reversed(columns) if to_and_fro and i % 2 else columns
                places += [(tile, row, column, at == 0, len(columns) == width) for at, column in enumerate(line)]
            up = not up
    return np.array([place for place in places if place[:3] in there], np.int64)


Block = tuple[np.ndarray, int, int]  # PCUs in order, those of one row of forks, PMUs beside them


def _blocks(planned: PlannedKernel, by_columns: bool, side_by_side: bool, beside: dict[str, int]) -> Iterator[Block]:
    """The PCUs of all stages, those that go side by side together."""
    stages, shares = planned.kernel.stages, planned.shares
    at = first = 0
    while at < len(stages):
        end = at + 1
        while side_by_side and end < len(stages) and _alike(planned, at, end, by_columns):
            end += 1
        counts = [share.pcus for share in shares[at:end]]
        ends = first + np.cumsum([0, *counts])
        numbered = (np.arange(low, high) for low, high in zip(ends, ends[1:], strict=False))
        rows = [_rows(share, units, by_columns) for share, units in zip(shares[at:end], numbered, strict=True)]
        joined = np.concatenate(rows, 1)
        pmus = sum(beside.get(s.label, 0) for s in stages[at:end])
        yield joined.ravel(), joined.shape[1] if isinstance(shares[at], Fork) else 1, pmus
        first, at = int(ends[-1]), end


def _rows(share: Share, units: np.ndarray, by_columns: bool) -> np.ndarray:
    """[rows, units of each]: the PCUs of a fork by its rows or columns, those of a chain by its copies."""
    if isinstance(share, Fork):
        fork = units.reshape(share.batches, share.rows, share.columns, share.splits)
        fork = fork.swapaxes(1, 2) if by_columns else fork
        return fork.reshape(fork.shape[0] * fork.shape[1], -1)
    return units.reshape(share.copies, share.links) if isinstance(share, Chain) else units.reshape(1, -1)


def _alike(planned: PlannedKernel, first: int, last: int, by_columns: bool) -> bool:
    """Whether a stage can go beside those from the first to the one before it: as many rows, and a buffer in common."""
    stages, shares = planned.kernel.stages, planned.shares
    if not shares[first].pcus or not shares[last].pcus or type(shares[first]) is not type(shares[last]):
        return False
    sizes = {len(_rows(shares[i], np.arange(shares[i].pcus), by_columns)) for i in (first, last)}
    around = {value for s in stages[first:last] for value in (s.result, *(read.value for read in s.reads))}
    return len(sizes) == 1 and not around.isdisjoint(read.value for read in stages[last].reads)


def _along(curve: np.ndarray, blocks: Sequence[Block], pcus: int, turn: int) -> np.ndarray:
    """Places of blocks that follow one another along the curve, with spare ones between.

    turn: the place of the curve from which on rows of a fork are filled in column by column.
    """
    places = np.zeros((pcus, 3), np.int64)
    ends = np.append(np.flatnonzero(np.diff(curve[:, 0])) + 1, len(curve))  # of the tiles
    longest, spare, at = int(np.diff(ends, prepend=0).max()), len(curve) - pcus, 0
    for units, side, pmus in blocks:
        count = len(units)
        if not count:
            continue
        rest = int(ends[np.searchsorted(ends, at, "right")]) - at
        if rest < count <= longest and rest <= spare:
            at, spare = at + rest, spare - rest
        if side > 1:
            rest = int(np.argmax(curve[at:, 3]))
            rest = rest if curve[at + rest, 3] and rest <= spare else 0
            at, spare = at + rest, spare - rest
            before = min(count, max(0, turn - at) // side * side)
            units = np.concatenate([units[:before], units[before:].reshape(-1, side).T.ravel()])
        places[units] = curve[at : at + count, :3]
        room = min(spare, max(0, pmus - count))
        at, spare = at + count + room, spare - room
    return places
