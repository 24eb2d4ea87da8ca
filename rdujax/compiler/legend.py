"""What stands beside a floorplan: a row for each stage and stream, and what shapes, colours and wires mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rdujax.compiler.drawing import Disc, Line, Polygon, Rectangle, Shape, Style, Words, fitted, width_of
from rdujax.ledger.numbers import ceil_div

# Okabe and Ito's and Tol's colours, told apart with every kind of sight; then again, with the stage's number on it.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#332288", "#999933", "#882255", "#44aa99")
INK, GREY, MARK, FULL = "#222222", "#6b7280", "#8b93a1", "#d7191c"
SHARED = Style("#111827")  # of what several streams use
LINE, SMALL, PCU = 13.0, 11.0, 11.0  # pixels: from line to line, small letters, and the side of a PCU
ROW, KEY, APART = 36, 168, 40  # pixels: heights, and what is left free between columns
UNITS, BAR = 114.0, 130.0  # widths of columns
MANY = 9  # PCUs of a stage, from which on its number is larger than one of them


@dataclass(frozen=True)
class Row:
    """One row beside the picture: a stage or stream with its units and how busy it is.

    mark: what it looks like in the picture: the PCUs of a stage, the AGCUs of a stream, or the PMUs of one that shares
    its AGCUs with others.
    """

    name: str
    paint: Style
    units: str
    busy: float
    mark: Literal["PCU", "AGCU", "PMU"]

    @property
    def share(self) -> str:
        """How busy it is, in words."""
        return "<1% busy" if 0 < self.busy < 0.005 else f"{self.busy:.0%} busy"


def table(rows: Sequence[Row], x: float, y: float, bottom: float) -> tuple[list[Shape], float, float]:
    """Rows in columns down to the bottom, those of stages counted; and where they end: the shapes, right, lower end."""
    stages = [row for row in rows if row.mark == "PCU"]
    numbers = {id(row): str(number) for number, row in enumerate(stages, 1)}
    most = max(12, int(bottom - y - KEY) // ROW)  # not emulated: rows; the key is below
    number_end = 22 + width_of(str(len(stages)), 12.5, bold=True)
    width = number_end + 8 + UNITS + BAR + 8 + width_of("100% busy", SMALL)
    shapes: list[Shape] = []
    for i, row in enumerate(rows):
        at = x + i // most * (width + APART)  # not emulated: pixels
        shapes += _row(row, numbers.get(id(row), ""), at, y + i % most * ROW, number_end, width)
    columns = ceil_div(len(rows), most)
    return shapes, x + columns * (width + APART) - APART, y + min(len(rows), most) * ROW


def _row(row: Row, number: str, x: float, y: float, number_end: float, width: float) -> list[Shape]:
    name_x = x + number_end + 8
    marks: dict[str, Shape] = {
        "PCU": Rectangle(x, y - 12, 16, 16, row.paint),
        "AGCU": Polygon(((x + 14, y - 5), (x + 3, y - 11), (x + 3, y + 1)), row.paint),
        "PMU": Disc(x + 8, y - 5, 5.4 - row.paint.width / 2, row.paint),  # not emulated: pixels
    }
    return [
        marks[row.mark],
        *([Words(x + number_end, y, number, 12.5, Style(INK), "end", bold=True)] if number else []),
        Words(name_x, y, fitted(row.name, x + width - name_x, 12.5), 12.5, Style(INK), title=row.name),
        Words(name_x, y + 15, fitted(row.units, UNITS - 6, SMALL), SMALL, Style(GREY), title=row.units),
        *_bar(name_x + UNITS, y + 6, row),
    ]


def _bar(x: float, y: float, row: Row) -> list[Shape]:
    colour = row.paint.fill if row.paint.stroke == "none" else row.paint.stroke
    return [
        Rectangle(x, y, BAR, 9, Style("#eef0f3")),
        Rectangle(x, y, BAR * min(1.0, row.busy), 9, Style(colour)),
        Words(x + BAR + 8, y + 9, row.share, SMALL, Style(GREY)),
    ]


def key(x: float, y: float, more: str) -> tuple[list[Shape], float]:
    """What the shapes, the captions and the wires mean; and where that ends."""
    filled, ring, ink = Style(MARK), Style("#ffffff", MARK, 2.4), Style(INK)
    right = x + 170
    shapes: list[Shape] = [
        Rectangle(x, y - 11, 12, 12, filled), Words(x + 22, y, "PCU of a stage", 12, ink),
        Rectangle(right, y - 11, 12, 12, filled),
        *number_on(right + 6, y - 5, 1, 1, MARK), *number_on(right + 27, y - 5, 1, MANY, MARK),
        Words(right + 43, y, "number of a stage", 12, ink),
        Disc(x + 6, y + 17, 5.4, filled), Words(x + 22, y + 22, "PMU of a result", 12, ink),
        Disc(right + 6, y + 17, 4.2, ring), Words(right + 22, y + 22, "PMU of a load", 12, ink),
        Polygon(((x + 12, y + 39), (x + 1, y + 33), (x + 1, y + 45)), filled),
        Words(x + 22, y + 44, "AGCU of a store", 12, ink),
        Polygon(((right + 12, y + 39), (right + 1, y + 33), (right + 1, y + 45)), ring),
        Words(right + 22, y + 44, "AGCU of a load", 12, ink),
        Polygon(((x + 12, y + 61), (x + 1, y + 55), (x + 1, y + 67)), SHARED),
        Words(x + 22, y + 66, "shared AGCU", 12, ink),
        Words(right, y + 66, "faint: free", 12, Style(GREY)),
    ]  # fmt: skip
    if more:
        y += 22
        shapes.append(Words(x, y + 66, more, 12, Style(GREY)))
    shapes.append(Words(x, y + 98, "wires: share of a link that the flows take", 12, ink))
    for i, load in enumerate((0.1, 0.25, 0.5, 0.75, 1.0, 1.01)):
        at = x + i * 52
        shapes.append(Line(at, y + 114, at + 40, y + 114, wire(load)))
        shapes.append(Words(at + 20, y + 132, f"{load:.0%}" if load <= 1 else "more", SMALL, Style(GREY), "middle"))
    return shapes, y + 132


def number_on(x: float, y: float, number: int, pcus: int, colour: str) -> list[Shape]:
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


def wire(load: float) -> Style:
    """Thicker and darker with the share of a link that is taken; red beyond it."""
    if not load:
        return Style(stroke="#eceef1", width=0.6)
    if load > 1:
        return Style(stroke=FULL, width=min(8.0, 4.5 + 0.6 * load))
    steps = -(-int(load * 1000) // 125)  # eight shades keep a drawing small
    grey = 200 - 20 * steps
    return Style(stroke=f"#{grey:02x}{grey:02x}{grey + 14:02x}", width=0.8 + 0.46 * steps)
