"""The floorplan of a placed kernel: which unit does what, and how loaded the wires between them are.

    placement + link loads --draw--> Floorplan --save--> .svg | .png

Squares are PCUs, discs beside them PMUs, triangles at the edges AGCUs. Colour is the stage: its PCUs, the PMUs of its
result and the AGCUs that store it are filled with it; PMUs and AGCUs of a load are rings in the colour of the first
stage that reads it. A stage's number, that of the legend, is on the middle one of its PCUs. Wires
are as thick and dark as the fuller of their two directions; those that would have to carry more than a link can, if
the kernel is to run in the cycles that it is priced at, are red: they slow it down. (The price knows no network.)
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rdujax.compiler.drawing import Disc, Drawing, Line, Polygon, Rectangle, Shape, Style, Words, fitted, width_of
from rdujax.compiler.flows import buffer_of
from rdujax.compiler.grid import Grid, Place, Placement
from rdujax.compiler.place import neighbours, place
from rdujax.compiler.report import counted, worked_cycles
from rdujax.compiler.wires import Wires, priced_cycles, wires
from rdujax.estimate.pipeline import pipeline_of
from rdujax.graph.graph import Graph
from rdujax.graph.plan import MemoryStream, PlannedKernel
from rdujax.ledger.numbers import ceil_div, exact
from rdujax.machines.machine import Machine
from rdujax.units.rdn.mesh import STEPS, Port

# Okabe and Ito's and Tol's colours, told apart with every kind of sight; then again, with the stage's number on it.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#332288", "#999933", "#882255", "#44aa99")
INK, GREY, MARK = "#222222", "#6b7280", "#8b93a1"
FAINT, GROUND, FULL = "#e3e6ea", "#f7f8fa", "#d7191c"
CELL_X, CELL_Y, PCU, PMU = 34.0, 20.0, 11.0, 5.0
GAP, MARGIN, HEAD, LINE, SMALL = 56.0, 40.0, 108.0, 13.0, 11.0
UNITS, BAR = 114.0, 130.0  # widths in the legend
SLOW = {"link": "that link", "D2D": "the die-to-die link", "TLN": "the top-level network"}
MANY = 9  # PCUs of a stage, from which on its number is larger than one of them


@dataclass(frozen=True)
class Legend:
    """One row beside the picture: a stage or stream with its units and how busy it is."""

    name: str
    paint: Style
    units: str
    busy: float


@dataclass(frozen=True, eq=False)
class Floorplan:
    """A placed kernel with the loads of its wires. `str` is a summary; `save` draws it; notebooks show it.

    cycles: what the kernel is priced at, by which loads are turned into packets per cycle. capacity: what a link
    carries per cycle. buffers: how the PMUs of each are painted. bridges: the AGCUs of each stream, shared perhaps.
    wire_cycles: what the networks allow, by kind (see `Wires.least_cycles`); more than `cycles` slows the kernel down.
    """

    title: str
    machine: str
    cycles: int
    capacity: float
    placement: Placement
    wires: Wires
    stages: tuple[Legend, ...]
    streams: tuple[Legend, ...]
    buffers: dict[str, Style]
    bridges: dict[str, tuple[Place, ...]]
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
        rows = [f"  {row.name}: {row.units}, {row.busy:.0%} busy" for row in (*self.streams, *self.stages)]
        return "\n".join([self.title, f"  {_units(self)}", f"  {_network(self)}", *rows])


def floorplan(graph: Graph, planned: PlannedKernel, machine: Machine, name: str) -> Floorplan:
    """The floorplan of a planned kernel; raises CapacityError where the grid of the machine has too few places."""
    placement = place(graph, planned, machine)
    pipeline, turns = pipeline_of(graph, planned, machine), planned.tiling.turns
    cycles = priced_cycles(graph, planned, machine)
    busy = {label: own / cycles for label, own in worked_cycles(pipeline, turns).items()}  # not emulated: sizes
    colours = {s.label: COLOURS[i % len(COLOURS)] for i, s in enumerate(planned.kernel.stages)}
    buffers = {label: _paint_of(label, planned, colours) for label in placement.units.pmus}
    shared = zip(planned.kernel.stages, planned.shares, strict=True)
    stages = tuple(Legend(s.label, Style(colours[s.label]), counted(n.pcus, "PCU"), busy[s.label]) for s, n in shared)
    streams = tuple(
        Legend(s.label, _paint_of_stream(s, buffers[buffer_of(planned, s)]),
               f"{counted(s.agcus, 'AGCU')}, {s.tier}", busy[s.label])
        for s in planned.streams
    )  # fmt: skip
    capacity = float(exact(machine.rdn.packets_per_cycle.value))
    loads = wires(graph, planned, placement, machine)
    bridges = {s.label: placement.units.agcus[s.units] for s in planned.streams}
    return Floorplan(f"{name}: kernel {planned.kernel.name}", machine.name, cycles, capacity, placement, loads,
                     stages, streams, buffers, bridges, loads.least_cycles(machine))  # fmt: skip


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
    captions, key = _captions(plan)
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
    rows, legend_right, y = _legend(plan, left, sheet.head + 12, bottom)
    meaning, y = _key(left, y + 18, key)
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
                found.append((rate, Line(*ends, _wire(rate / plan.capacity), title if rate else "")))
    return [line for _, line in sorted(found, key=lambda item: item[0])]


def _wire(load: float) -> Style:
    """Thicker and darker with the share of a link that is taken; red beyond it."""
    if not load:
        return Style(stroke="#eceef1", width=0.6)
    if load > 1:
        return Style(stroke=FULL, width=min(8.0, 4.5 + 0.6 * load))
    steps = -(-int(load * 1000) // 125)  # eight shades keep a drawing small
    grey = 200 - 20 * steps
    return Style(stroke=f"#{grey:02x}{grey:02x}{grey + 14:02x}", width=0.8 + 0.46 * steps)


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
    for row in plan.streams:
        shapes += [_agcu(sheet, p, row.paint, f"AGCU of {row.name}, {p}") for p in plan.bridges[row.name]]
    for number, row in enumerate(plan.stages, 1):
        places = plan.placement.units.pcus[row.name]
        shapes += [_pcu(sheet, p, row.paint, f"PCU of stage {row.name}, {p}") for p in places]
        if places:  # a stage that only moves data has none
            x, y = sheet.centre(places[len(places) // 2])
            shapes += _number(x - PCU * 0.7, y, number, len(places), row.paint.fill)
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


def _legend(plan: Floorplan, x: float, y: float, bottom: float) -> tuple[list[Shape], float, float]:
    """Streams and stages in order of the pipeline, in columns down to the bottom; and where they end."""
    loads = [(row, "") for row in plan.streams if row.paint.stroke != "none"]
    stores = [(row, "") for row in plan.streams if row.paint.stroke == "none"]
    rows = [*loads, *((row, str(number)) for number, row in enumerate(plan.stages, 1)), *stores]
    most = max(12, int(bottom - y - 168) // 36)  # not emulated: rows; the key is below
    number_end = 22 + width_of(str(len(plan.stages)), 12.5, bold=True)
    width = number_end + 8 + UNITS + BAR + 8 + width_of("100% busy", SMALL)
    shapes: list[Shape] = []
    for i, (row, number) in enumerate(rows):
        at = x + i // most * (width + MARGIN)  # not emulated: pixels
        shapes += _row(row, number, at, y + i % most * 36, number_end, width)
    columns = ceil_div(len(rows), most)
    return shapes, x + columns * (width + MARGIN) - MARGIN, y + min(len(rows), most) * 36


def _row(row: Legend, number: str, x: float, y: float, number_end: float, width: float) -> list[Shape]:
    name_x = x + number_end + 8
    mark: list[Shape] = [Polygon(((x + 14, y - 5), (x + 3, y - 11), (x + 3, y + 1)), row.paint)]
    if number:
        words = Words(x + number_end, y, number, 12.5, Style(INK), "end", bold=True)
        mark = [Rectangle(x, y - 12, 16, 16, row.paint), words]
    return [
        *mark,
        Words(name_x, y, fitted(row.name, x + width - name_x, 12.5), 12.5, Style(INK), title=row.name),
        Words(name_x, y + 15, fitted(row.units, UNITS - 6, SMALL), SMALL, Style(GREY), title=row.units),
        *_bar(name_x + UNITS, y + 6, row),
    ]


def _bar(x: float, y: float, row: Legend) -> list[Shape]:
    colour = row.paint.fill if row.paint.stroke == "none" else row.paint.stroke
    return [
        Rectangle(x, y, BAR, 9, Style("#eef0f3")),
        Rectangle(x, y, BAR * min(1.0, row.busy), 9, Style(colour)),
        Words(x + BAR + 8, y + 9, f"{row.busy:.0%} busy", SMALL, Style(GREY)),
    ]


def _key(x: float, y: float, more: str) -> tuple[list[Shape], float]:
    """What the shapes, the captions and the wires mean; and where that ends."""
    filled, ring, ink = Style(MARK), Style("#ffffff", MARK, 2.4), Style(INK)
    right = x + 170
    shapes: list[Shape] = [
        Rectangle(x, y - 11, 12, 12, filled), Words(x + 22, y, "PCU of a stage", 12, ink),
        Rectangle(right, y - 11, 12, 12, filled),
        *_number(right + 6, y - 5, 1, 1, MARK), *_number(right + 27, y - 5, 1, MANY, MARK),
        Words(right + 43, y, "number of a stage", 12, ink),
        Disc(x + 6, y + 17, 5.4, filled), Words(x + 22, y + 22, "PMU of a result", 12, ink),
        Disc(right + 6, y + 17, 4.2, ring), Words(right + 22, y + 22, "PMU of a load", 12, ink),
        Polygon(((x + 12, y + 39), (x + 1, y + 33), (x + 1, y + 45)), filled),
        Words(x + 22, y + 44, "AGCU of a store", 12, ink),
        Polygon(((right + 12, y + 39), (right + 1, y + 33), (right + 1, y + 45)), ring),
        Words(right + 22, y + 44, "AGCU of a load", 12, ink),
        Words(x, y + 66, "faint: free", 12, Style(GREY)),
    ]  # fmt: skip
    if more:
        y += 22
        shapes.append(Words(x, y + 66, more, 12, Style(GREY)))
    shapes.append(Words(x, y + 98, "wires: share of a link that the flows take", 12, ink))
    for i, load in enumerate((0.1, 0.25, 0.5, 0.75, 1.0, 1.01)):
        at = x + i * 52
        shapes.append(Line(at, y + 114, at + 40, y + 114, _wire(load)))
        shapes.append(Words(at + 20, y + 132, f"{load:.0%}" if load <= 1 else "more", SMALL, Style(GREY), "middle"))
    return shapes, y + 132


def _number(x: float, y: float, number: int, pcus: int, colour: str) -> list[Shape]:
    """A stage's number on one of its PCUs, at its centre: in a circle where the stage has many of them."""
    text, digits = str(number), len(str(number))
    if pcus < MANY:
        size = min(9.5, PCU / (0.7 * digits))  # not emulated: pixels
        return [Words(x, y + 0.35 * size, text, size, Style(_ink_on(colour)), "middle", bold=True)]
    size = min(12.5, 19 / (0.75 * digits))  # not emulated: pixels
    return [
        Disc(x, y, 10, Style("#ffffff", INK, 1.4)),
        Words(x, y + 0.35 * size, text, size, Style(INK), "middle", bold=True),
    ]


def _ink_on(colour: str) -> str:
    """Dark or white, whichever is read better on a colour."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 139 else "#ffffff"
