"""Rows of a benchmark as a picture: a bar for each value, beside it what is aimed at and what is published."""

import argparse
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks._rows import Row
from rdujax.compiler.drawing import Disc, Drawing, Line, Rectangle, Shape, Style, Words, width_of

MARGIN, PITCH, BAR, SIZE, ROOM = 16.0, 22.0, 14.0, 12.0, 420.0  # pixels; ROOM is the length of the longest bar
INK = Style("#222222")
VALUE, GOAL, PUBLISHED = Style("#0072b2"), Style(stroke="#d55e00", width=2.0), Style("#222222")  # told apart by anyone


def picture_path(text: str) -> Path:
    """The path of a picture that can be written, refused as argparse refuses: before anything is measured."""
    path = Path(text)
    if path.suffix.lower() not in (".svg", ".png"):
        raise argparse.ArgumentTypeError(f"{text!r} is no picture: .svg, .png")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def bars(rows: Iterable[Row]) -> Drawing:
    """One bar below the other; the scale of each group of rows has zero on it and is that of its unit."""
    rows = list(rows)
    left = MARGIN + max((width_of(row.row, SIZE) for row in rows), default=0.0) + 8
    shapes: list[Shape] = [
        Rectangle(left, MARGIN, 24, BAR, VALUE), Words(left + 30, MARGIN + BAR - 3, "here", SIZE, INK),
        Line(left + 90, MARGIN, left + 90, MARGIN + BAR, GOAL),
        Words(left + 98, MARGIN + BAR - 3, "goal", SIZE, INK),
        Disc(left + 150, MARGIN + BAR / 2, 4, PUBLISHED), Words(left + 158, MARGIN + BAR - 3, "published", SIZE, INK),
    ]  # fmt: skip
    y = MARGIN + 2 * PITCH
    for unit, members in groupby(rows, key=lambda row: row.unit):
        group = list(members)
        shapes.append(Words(left, y - 6, unit or "number", SIZE, INK, bold=True))
        ends = [each for row in group for each in (row.value, row.goal, row.published) if each is not None]
        least, most = min(0.0, *ends), max(0.0, *ends)
        pixels = ROOM / (most - least) if most > least else 0.0
        for row in group:
            shapes += _bar(row, left, left - least * pixels, y, pixels)
            y += PITCH
        y += PITCH
    return Drawing(left + ROOM + 100, y, tuple(shapes))


def _bar(row: Row, left: float, zero: float, y: float, pixels: float) -> Iterator[Shape]:
    """One row, from `zero` on; `pixels` is the length of one unit."""
    yield Words(left - 8, y + BAR - 3, row.row, SIZE, INK, anchor="end")
    length = abs(row.value) * pixels
    yield Rectangle(
        zero - length if row.value < 0 else zero, y, length, BAR, VALUE, f"{row.row}: {row.value:g} {row.unit}"
    )
    ends = [0.0, row.value]
    if row.goal is not None:
        x = zero + row.goal * pixels
        yield Line(x, y - 3, x, y + BAR + 3, GOAL)
        ends.append(row.goal)
    if row.published is not None:
        yield Disc(zero + row.published * pixels, y + BAR / 2, 4, PUBLISHED)
        ends.append(row.published)
    yield Words(zero + max(ends) * pixels + 8, y + BAR - 3, f"{row.value:.4g}", SIZE, INK)
