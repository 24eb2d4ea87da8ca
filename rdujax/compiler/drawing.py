"""A drawing as a value: shapes in pixels, written as SVG by hand or as PNG through matplotlib.

    shapes (rectangles, discs, triangles, lines, words) --> Drawing --save--> .svg | .png

y grows downwards. A shape's title is shown when a pointer rests on it (SVG only).
"""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape

from rdujax.base.errors import ArgumentError, describe
from rdujax.compiler.files import path_of, with_whole_file

FONT = "Helvetica, Arial, sans-serif"
DPI, POINTS = 96, 0.75  # pixels per inch, and points (1/72 inch) per pixel
# Widths of letters in ems, never less than in DejaVu Sans, which is wider than the fonts above; others as wide as most.
NARROW, WIDE, WIDEST = "fijlrtI.,:;'|!()[]/ -\"", "wACDGHKNOQRUVXY+=#<>~&^", "mMW@%…—"
EMS, BOLD = {**dict.fromkeys(NARROW, 0.46), **dict.fromkeys(WIDE, 0.84), **dict.fromkeys(WIDEST, 1.0)}, 1.14


@dataclass(frozen=True)
class Style:
    """How a shape is painted: colours as #rrggbb or "none", the width of its outline in pixels."""

    fill: str = "none"
    stroke: str = "none"
    width: float = 0.0


@dataclass(frozen=True)
class Rectangle:
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    style: Style
    title: str = ""


@dataclass(frozen=True)
class Disc:
    """A disc by its centre."""

    x: float
    y: float
    radius: float
    style: Style
    title: str = ""


@dataclass(frozen=True)
class Polygon:
    """A closed shape by its corners."""

    corners: tuple[tuple[float, float], ...]
    style: Style
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A straight line, in the stroke of its style."""

    x: float
    y: float
    to_x: float
    to_y: float
    style: Style
    title: str = ""


@dataclass(frozen=True)
class Words:
    """A line of text; y is its base line, style.fill its colour. anchor: start, middle or end."""

    x: float
    y: float
    text: str
    size: float
    style: Style
    anchor: str = "start"
    bold: bool = False
    title: str = ""


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Pixels that a line of text takes at most: fonts differ, and so this is no measure but what to keep free."""
    ems = sum(EMS.get(letter, 0.7 if letter.isascii() else 1.0) for letter in text)
    return ems * size * (BOLD if bold else 1)


def fitted(text: str, room: float, size: float, bold: bool = False) -> str:
    """The text, or as much of it as fits into `room` pixels with an ellipsis."""
    if width_of(text, size, bold) <= room:
        return text
    most = next((n for n in range(len(text), 0, -1) if width_of(f"{text[:n]}…", size, bold) <= room), 0)
    return f"{text[:most]}…"


Shape = Rectangle | Disc | Polygon | Line | Words


@dataclass(frozen=True)
class Drawing:
    """Shapes on a white sheet of width x height pixels, painted in order."""

    width: float
    height: float
    shapes: tuple[Shape, ...]

    def svg(self) -> str:
        """The drawing as an SVG document; shapes of one style that follow one another share a group."""
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}">']
        lines.append('<rect width="100%" height="100%" fill="#ffffff"/>')
        for style, shapes in groupby(self.shapes, key=lambda shape: shape.style):
            lines += [f"<g {_attributes(style)}>", *map(_element, shapes), "</g>"]
        return "\n".join([*lines, "</svg>", ""])

    def save(self, path: str | Path) -> Path:
        """Writes the drawing as .svg, or as .png (through matplotlib), and returns the path.

        The file appears complete or not at all. Raises ArgumentError for another suffix, for a missing package, and
        as `with_whole_file`.
        """
        path = path_of(path)
        suffix = path.suffix.lower()
        if suffix == ".svg":
            with_whole_file(path, lambda file: file.write(self.svg().encode()))
        elif suffix == ".png":
            with_whole_file(path, self._write_png)
        else:
            raise ArgumentError(
                describe("no picture format has this suffix", given=repr(path.name), allowed=".svg, .png")
            )
        return path

    def _write_png(self, file: IO[bytes]) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise ArgumentError(
                describe("a .png needs the package matplotlib", do="pip install matplotlib, or save as .svg")
            ) from None
        figure = Figure(
            (self.width / DPI, self.height / DPI), dpi=1.5 * DPI, facecolor="#ffffff"
        )  # not emulated: pixels
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.set_axis_off()
        for order, (kind, shapes) in enumerate(groupby(self.shapes, key=type)):
            _paint(axes, kind, list(shapes), order)
        figure.savefig(file, format="png", metadata={"Software": None})


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _attributes(style: Style) -> str:
    stroke = f' stroke="{style.stroke}" stroke-width="{_n(style.width)}"' if style.stroke != "none" else ""
    return f'fill="{style.fill}"{stroke}'


def _element(shape: Shape) -> str:
    title = f"<title>{escape(shape.title)}</title>" if shape.title else ""
    match shape:
        case Rectangle(x, y, width, height):
            place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
            return _tag("rect", place, title)
        case Disc(x, y, radius):
            return _tag("circle", f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"', title)
        case Polygon(corners):
            points = " ".join(f"{_n(x)},{_n(y)}" for x, y in corners)
            return _tag("polygon", f'points="{points}"', title)
        case Line(x, y, to_x, to_y):
            return _tag("line", f'x1="{_n(x)}" y1="{_n(y)}" x2="{_n(to_x)}" y2="{_n(to_y)}"', title)
        case Words(x, y, text, size, anchor=anchor, bold=bold):
            weight = ' font-weight="bold"' if bold else ""
            place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}"{weight}'
            return _tag("text", place, title + escape(text))


def _tag(name: str, attributes: str, content: str) -> str:
    return f"<{name} {attributes}>{content}</{name}>" if content else f"<{name} {attributes}/>"


def _paint(axes: Any, kind: type, shapes: list[Any], order: int) -> None:
    """Shapes of one kind, each in its style; thousands are quick as one collection."""
    from matplotlib import collections

    widths = [shape.style.width * POINTS for shape in shapes]  # not emulated: pixels
    if kind is Words:
        for words in shapes:
            _write(axes, words, order)
    elif kind is Line:
        ends = [((line.x, line.y), (line.to_x, line.to_y)) for line in shapes]
        colours = [line.style.stroke for line in shapes]
        axes.add_collection(
            collections.LineCollection(ends, linewidths=widths, colors=colours, capstyle="butt", zorder=order)
        )
    else:
        drawn = collections.PatchCollection(list(map(_patch, shapes)), zorder=order)
        drawn.set(
            facecolor=[s.style.fill for s in shapes], edgecolor=[s.style.stroke for s in shapes], linewidth=widths
        )
        axes.add_collection(drawn)


def _patch(shape: Rectangle | Disc | Polygon) -> Any:
    from matplotlib import patches

    match shape:
        case Rectangle(x, y, width, height):
            return patches.Rectangle((x, y), width, height)
        case Disc(x, y, radius):
            return patches.Circle((x, y), radius)
        case Polygon(corners):
            return patches.Polygon(corners)


def _write(axes: Any, words: Words, order: int) -> None:
    align = {"start": "left", "middle": "center", "end": "right"}[words.anchor]
    weight = "bold" if words.bold else "normal"
    text = words.text.replace("$", r"\$")  # dollar signs would begin a formula
    axes.text(words.x, words.y, text, fontsize=words.size * POINTS, color=words.style.fill, ha=align, va="baseline",
              weight=weight, zorder=order)  # fmt: skip
