"""The floorplan of a placed kernel: which unit does what, and how loaded the wires between them are.

    placement + link loads --draw--> Floorplan --save--> .svg | .png

Squares are PCUs, discs beside them PMUs, triangles at the edges AGCUs. Colour is the stage: its PCUs, the PMUs of its
result and the AGCUs that store it are filled with it; PMUs and AGCUs of a load are rings in the colour of the first
stage that reads it. A stage's number, that of the legend, is on the middle one of its PCUs. Wires
are as thick and dark as the fuller of their two directions; those that would have to carry more than a link can, if
the kernel is to run in the cycles that it is priced at, are red: they slow it down. (The price knows no network.)
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rdujax.base.words import counted
from rdujax.compiler.drawing import Disc, Drawing, Line, Polygon, Rectangle, Shape, Style, Words, fitted, width_of
from rdujax.compiler.flows import buffer_of
from rdujax.compiler.grid import Grid, Place, Placement
from rdujax.compiler.legend import COLOURS, GREY, INK, LINE, PCU, SHARED, SMALL, Row, key, number_on, table, wire
from rdujax.compiler.place import neighbours, place
from rdujax.compiler.report import worked_cycles
from rdujax.compiler.wires import Wires, priced_cycles, wires
from rdujax.estimate.pipeline import phases_of
from rdujax.graph.graph import Graph
from rdujax.graph.plan import LINKS, MemoryStream, PlannedKernel
from rdujax.ledger.numbers import exact
from rdujax.machines.machine import Machine
from rdujax.ops.exchange import Links
from rdujax.units.rdn.mesh import STEPS, Port

FAINT, GROUND = "#e3e6ea", "#f7f8fa"
CELL_X, CELL_Y, PMU = 34.0, 20.0, 5.0
GAP, MARGIN, HEAD = 56.0, 40.0, 108.0
SLOW = {"link": "that link", "D2D": "the die-to-die link", "TLN": "the top-level network"}


@dataclass(frozen=True, eq=False)
class Floorplan:
    """A placed kernel with the loads of its wires. `str` is a summary; `save` draws it; notebooks show it.

    cycles: what the kernel is priced at, by which loads are turned into packets per cycle. capacity: what a link
    carries per cycle. streams: the streams in their order. bridges: what has AGCUs of its own, by the name that the
    placement knows: a stream, or all that take turns with the same ones. buffers: how the PMUs of each are painted.
    wire_cycles: what the networks allow, by kind (see `Wires.least_cycles`); more than `cycles` slows the kernel down.
    """

    title: str
    machine: str
    cycles: int
    capacity: float
    placement: Placement
    wires: Wires
    stages: tuple[Row, ...]
    streams: tuple[Row, ...]
    bridges: tuple[Row, ...]
    buffers: dict[str, Style]
    wire_cycles: dict[str, int]

    @property
    def slowed_cycles(self) -> int:
        """Cycles of the kernel if its fullest network is waited for: those it is priced at, or more."""
        return max(self.cycles, *self.wire_cycles.values())

    @property
    def busiest_packets_per_cycle(self) -> float:
        """Packets per cycle that the busiest link between switches would carry; more than `capacity` does not fit."""
        return self.wires.busiest / self.cycles  # not emulated: sizes

    def drawing(self) -> Drawing:
        """The picture as shapes."""
        return _draw(self)

    def save(self, path: str | Path) -> Path:
        """Writes the picture as .svg or .png; raises ArgumentError for another suffix."""
        return self.drawing().save(path)

    def _repr_svg_(self) -> str:
        return self.drawing().svg()

    def __str__(self) -> str:
        rows = [f"  {row.name}: {row.units}, {row.share}" for row in _rows(self)]
        return "\n".join([self.title, f"  {_units(self)}", f"  {_network(self)}", *rows])


def floorplan(graph: Graph, planned: PlannedKernel, machine: Machine, name: str) -> Floorplan:
    """The floorplan of a planned kernel; raises CapacityError where the grid of the machine has too few places."""
    placement = place(graph, planned, machine)
    cycles = priced_cycles(graph, planned, machine)
    worked = worked_cycles(phases_of(graph, planned, machine))
    busy = {label: own / cycles for label, own in worked.items()}  # not emulated: sizes
    colours = {s.label: COLOURS[i % len(COLOURS)] for i, s in enumerate(planned.kernel.stages)}
    buffers = {label: _paint_of(label, planned, colours) for label in placement.units.pmus}
    shared = zip(planned.kernel.stages, planned.shares, strict=True)
    stages = tuple(
        Row(s.label, Style(colours[s.label]), counted(n.pcus, "PCU"), busy[s.label], "PCU") for s, n in shared
    )
    streams, bridges = _streams(planned, buffers, busy)
    capacity = float(exact(machine.rdn.packets_per_cycle.value))
    loads = wires(graph, planned, placement, machine)
    return Floorplan(f"{name}: kernel {planned.kernel.name}", machine.name, cycles, capacity, placement, loads,
                     stages, streams, bridges, buffers, loads.least_cycles(machine))  # fmt: skip


def _streams(
    planned: PlannedKernel, buffers: Mapping[str, Style], busy: Mapping[str, float]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The rows of all streams, and those of what has AGCUs of its own."""
    users = Counter(stream.units for stream in planned.streams)
    rows: list[Row] = []
    bridges: dict[str, Row] = {}
    for stream in planned.streams:
        paint, agcus = _paint_of_stream(stream, buffers[buffer_of(planned, stream)]), counted(stream.agcus, "AGCU")
        if users[stream.units] == 1:
            row = Row(stream.label, paint, f"{agcus}, {stream.tier}", busy[stream.label], "AGCU")
            bridges[stream.units] = replace(row, name=stream.units)
        else:
            row = Row(stream.label, paint, f"{stream.tier}, in turn", busy[stream.label], "PMU")
            before = bridges[stream.units].busy if stream.units in bridges else 0.0
            bridges[stream.units] = Row(stream.units, SHARED, agcus, before + busy[stream.label], "AGCU")
        rows.append(row)
    if LINKS in planned.bridges:
        pairs = zip(planned.kernel.stages, planned.shares, strict=True)
        linked = [(busy[s.label], s.result in planned.tiling.late) for s, share in pairs if isinstance(share, Links)]
        turning = [own for own, is_late in linked if not is_late]
        # Of many turns, each exchange has the time of all.
        own = sum(turning) if planned.tiling.turns == 1 else max(turning, default=0.0)
        own += sum(each for each, is_late in linked if is_late)
        bridges[LINKS] = Row(LINKS, SHARED, counted(planned.bridges[LINKS], "AGCU"), own, "AGCU")
    return tuple(rows), tuple(bridges.values())


def _rows(plan: Floorplan) -> tuple[Row, ...]:
    """What is beside the picture, in order of the pipeline: AGCUs that streams share, loads, stages, stores."""
    shared = (row for row in plan.bridges if row.paint == SHARED)
    loads = (row for row in plan.streams if row.paint.stroke != "none")
    stores = (row for row in plan.streams if row.paint.stroke == "none")
    return (*shared, *loads, *plan.stages, *stores)


def _paint_of(buffer: str, planned: PlannedKernel, colours: dict[str, str]) -> Style:
    """Filled in the colour of the stage that writes the buffer, or a ring in that of the first which reads a load."""
    value = next(b.value for b in planned.buffers if b.label == buffer)
    writer = [s.label for s in planned.kernel.stages if s.result == value]
    stages = writer or neighbours(planned)[buffer]
    colour = colours[stages[0]] if stages else INK
    return Style(colour) if writer else Style("#ffffff", colour, 2.4)


def _paint_of_stream(stream: MemoryStream, buffer: Style) -> Style:
    """As the buffer that it fills, or filled in the colour of the one that it empties."""
    return buffer if not stream.is_store or buffer.stroke == "none" else Style(buffer.stroke)


def _units(plan: Floorplan) -> str:
    grid, units = plan.placement.grid, plan.placement.units
    kinds = ("PCUs", units.pcus, grid.pcus), ("PMUs", units.pmus, grid.pmus), ("AGCUs", units.agcus, grid.agcus)
    used = ", ".join(f"{sum(map(len, places.values())):,} of {there:,} {kind}" for kind, places, there in kinds)
    return f"{plan.machine}: {used}"


def _network(plan: Floorplan) -> str:
    crossing = int(plan.wires.crossings.sum()) / plan.cycles  # not emulated: sizes
    fullest = max(plan.wire_cycles, key=lambda kind: plan.wire_cycles[kind])
    slow = f"; {SLOW[fullest]} slows it down to {plan.slowed_cycles:,} cycles"
    rate = f"{plan.busiest_packets_per_cycle:.2f} packets/cycle of {plan.capacity:g}"
    network = f"{plan.cycles:,} cycles; busiest link {rate}; {crossing:.2f} packets/cycle between tiles"
    return network + (slow if plan.slowed_cycles > plan.cycles else "")


@dataclass(frozen=True)
class _Sheet:
    """Where places are on the paper. captions: the lines above each tile."""

    grid: Grid
    captions: tuple[tuple[str, ...], ...]

    @cached_property
    def head(self) -> float:
        """Where the first tiles begin, below their captions."""
        return HEAD + LINE * (max(map(len, self.captions)) - 1)

    @cached_property
    def gap(self) -> float:
        """What is left free between dies: the AGCUs of both, and what captions are wider than tiles."""
        widest = max(width_of(line, SMALL) for lines in self.captions for line in lines)
        return max(GAP, widest + 8 - self.grid.mesh.columns * CELL_X)

    def centre(self, place: Place) -> tuple[float, float]:
        """The switch of a place."""
        row, column = self.grid.spot(place)
        top, left = self.grid.corner(place.tile)
        across, down = left // self.grid.mesh.columns, top // self.grid.mesh.rows
        x = MARGIN + column * CELL_X + across * self.gap + CELL_X / 2
        return x, self.head + row * CELL_Y + down * GAP + CELL_Y / 2

    def tile(self, tile: int) -> tuple[float, float, float, float]:
        """x, y, width and height of a tile."""
        x, y = self.centre(Place(tile, 0, 0))
        return x - CELL_X / 2, y - CELL_Y / 2, self.grid.mesh.columns * CELL_X, self.grid.mesh.rows * CELL_Y

    @property
    def size(self) -> tuple[float, float]:
        """The right and the lower end of the tiles."""
        ends = [(x + width, y + height) for x, y, width, height in map(self.tile, range(self.grid.tiles))]
        return max(x for x, _ in ends), max(y for _, y in ends)


def _draw(plan: Floorplan) -> Drawing:
    captions, about_captions = _captions(plan)
    sheet = _Sheet(plan.placement.grid, captions)
    right, bottom = sheet.size
    title = fitted(plan.title, 1000, 19, bold=True)
    head = [
        Words(MARGIN, 32, title, 19, Style(INK), bold=True, title=plan.title),
        Words(MARGIN, 54, _units(plan), 12.5, Style(INK)),
        Words(MARGIN, 72, _network(plan), 12.5, Style(INK)),
    ]
    shapes = [*_tiles(sheet), *_links(plan, sheet), *_free(plan, sheet), *_used(plan, sheet), *head]
    left = right + MARGIN + 14
    rows, legend_right, y = table(_rows(plan), left, sheet.head + 12, bottom)
    meaning, y = key(left, y + 18, about_captions)
    width = max(legend_right, *(MARGIN + width_of(words.text, words.size, words.bold) for words in head))
    return Drawing(width + MARGIN, max(bottom, y) + MARGIN, (*shapes, *rows, *meaning))


def _captions(plan: Floorplan) -> tuple[tuple[tuple[str, ...], ...], str]:
    """The lines above every tile: its number, and what it exchanges with others; and what the key says of them.

    In words where tiles are wide enough, and otherwise below each other.
    """
    out, home = (plan.wires.crossings.sum(axis, dtype=np.int64) / plan.cycles for axis in (1, 0))  # not emulated: sizes
    rates = list(zip(out.tolist(), home.tolist(), strict=True))
    wide = [
        f"tile {tile}: {sent:.2f} packets/cycle to other tiles, {got:.2f} from them" if sent or got else f"tile {tile}"
        for tile, (sent, got) in enumerate(rates)
    ]
    room = plan.placement.grid.mesh.columns * CELL_X + GAP - 8
    if all(width_of(line, SMALL) <= room for line in wide):
        return tuple((line,) for line in wide), ""
    narrow = tuple(
        (f"tile {tile}", f"{sent:.2f} out", f"{got:.2f} in") if sent or got else (f"tile {tile}",)
        for tile, (sent, got) in enumerate(rates)
    )
    return narrow, "out, in: packets/cycle to and from other tiles"


def _tiles(sheet: _Sheet) -> list[Shape]:
    """The tiles with their captions."""
    shapes: list[Shape] = []
    for tile, lines in enumerate(sheet.captions):
        x, y, width, height = sheet.tile(tile)
        shapes.append(Rectangle(x, y, width, height, Style(GROUND, "#c3c8cf", 1)))
        for above, line in enumerate(reversed(lines)):
            shapes.append(Words(x + width / 2, y - 6 - above * LINE, line, SMALL, Style(GREY), "middle"))
    return shapes


def _links(plan: Floorplan, sheet: _Sheet) -> list[Shape]:
    """Wires between switches, the loaded ones last and so on top."""
    found: list[tuple[float, Line]] = []
    mesh, loads = plan.placement.grid.mesh, plan.wires.loads
    for tile in range(sheet.grid.tiles):
        for row, column in mesh.switches:
            for port, back in ((Port.EAST, Port.WEST), (Port.SOUTH, Port.NORTH)):
                there = row + STEPS[port][0], column + STEPS[port][1]
                if there not in mesh:
                    continue
                out, home = int(loads[tile, row, column, port]), int(loads[tile, *there, back])
                rate = max(out, home) / plan.cycles  # not emulated: sizes
                ends = *sheet.centre(Place(tile, row, column)), *sheet.centre(Place(tile, *there))
                title = f"tile {tile} ({row},{column})-({there[0]},{there[1]}): {out:,} and {home:,} packets"
                found.append((rate, Line(*ends, wire(rate / plan.capacity), title if rate else "")))
    return [line for _, line in sorted(found, key=lambda item: item[0])]


def _free(plan: Floorplan, sheet: _Sheet) -> list[Shape]:
    """Units that the kernel leaves free, faint."""
    grid, placement = plan.placement.grid, plan.placement
    taken = {p for places in placement.units.pcus.values() for p in places}
    pcus: list[Shape] = [_pcu(sheet, p, Style(FAINT)) for p in grid.curve[: grid.pcus] if p not in taken]
    taken = {p for places in placement.units.pmus.values() for p in places}
    pmus: list[Shape] = [_pmu(sheet, p, Style(FAINT)) for p in grid.curve[: grid.pmus] if p not in taken]
    used = Counter(p for places in placement.units.agcus.values() for p in places)
    agcus: list[Shape] = [_agcu(sheet, p, Style(FAINT)) for p in grid.agcu_places if not used[p]]
    return pcus + pmus + agcus


def _used(plan: Floorplan, sheet: _Sheet) -> list[Shape]:
    """Units at work, and the number of each stage on the middle one of its PCUs."""
    shapes: list[Shape] = []
    for label, places in plan.placement.units.pmus.items():
        shapes += [_pmu(sheet, p, plan.buffers[label], f"PMU of buffer {label}, {p}") for p in places]
    for row in plan.bridges:
        agcus = plan.placement.units.agcus[row.name]
        shapes += [_agcu(sheet, p, row.paint, f"AGCU of {row.name}, {p}") for p in agcus]
    for number, row in enumerate(plan.stages, 1):
        places = plan.placement.units.pcus[row.name]
        shapes += [_pcu(sheet, p, row.paint, f"PCU of stage {row.name}, {p}") for p in places]
        if places:  # a stage that only moves data has none
            x, y = sheet.centre(places[len(places) // 2])
            shapes += number_on(x - PCU * 0.7, y, number, len(places), row.paint.fill)
    return shapes


def _pcu(sheet: _Sheet, place: Place, style: Style, title: str = "") -> Rectangle:
    x, y = sheet.centre(place)
    return Rectangle(x - PCU * 0.7 - PCU / 2, y - PCU / 2, PCU, PCU, style, title)  # not emulated: pixels


def _pmu(sheet: _Sheet, place: Place, style: Style, title: str = "") -> Disc:
    x, y = sheet.centre(place)
    ring = style.width / 2  # not emulated: pixels
    return Disc(x + PCU * 0.75, y, PMU + 0.4 - ring, style, title)


def _agcu(sheet: _Sheet, place: Place, style: Style, title: str = "") -> Polygon:
    """A triangle that points into the tile, from outside of its edge."""
    x, y = sheet.centre(place)
    side = -1 if place.column == 0 else 1
    tip, base = x + side * (CELL_X / 2 + 2), x + side * (CELL_X / 2 + 12)  # not emulated: pixels
    return Polygon(((tip, y), (base, y - 6), (base, y + 6)), style, title)
