"""Rows, what every benchmark gives: a name, a number, what is aimed at; as a line of JSON or of a table."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

GAP = 1  # blanks between two columns
VERDICTS = {None: "", True: "met", False: "MISSED"}
FIRST = ("row", "value", "unit", "published", "ratio", "kind")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number and its name; a benchmark adds fields, which JSON shows by their names.

    unit: "x" for a ratio. goal: the most that is aimed at, if anything. published: the number a paper gives, if any.
    kind: measured here; a test of what is published; or calibrated to it.
    """

    row: str
    value: float
    unit: str
    published: float | None = None
    kind: Literal["measured", "test", "calibrated"] = "measured"
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value over the published one, where there is one."""
        return None if self.published is None else self.value / self.published

    @property
    def met(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        return None if self.goal is None else self.value <= self.goal


def as_json(benchmark: str, row: Row) -> str:
    """The row as one JSON object; a number that JSON does not have (NaN, an infinity) raises ValueError."""
    names = dict.fromkeys((*FIRST, *(field.name for field in fields(row)), "met"))
    return json.dumps({"benchmark": benchmark, **{name: getattr(row, name) for name in names}}, allow_nan=False)


@dataclass(frozen=True)
class Column:
    """A column of a table: what it shows of a row and how.

    of: the name of a field or property, or a function of the row; None leaves the place blank. width: of the column;
    what is longer stands out. spec: as for `format`, without a width. left: words begin at the left, numbers end at
    the right. group: stands above neighbours of the same group.
    """

    title: str
    of: str | Callable[[Any], Any]
    width: int
    spec: str = ""
    left: bool = False
    group: str = ""

    def cell(self, row: Row) -> str:
        """What the row has here."""
        found = attrgetter(self.of)(row) if isinstance(self.of, str) else self.of(row)
        return self.aligned("" if found is None else format(found, self.spec))

    def aligned(self, text: str) -> str:
        """Text as wide as the column."""
        return f"{text:{'<' if self.left else '>'}{self.width}}"


def names(title: str, width: int) -> Column:
    """The first column of a table: what the rows are called."""
    return Column(title, "row", width, left=True)


def goals() -> tuple[Column, Column]:
    """What is aimed at, and whether it is reached."""
    return Column("goal", "goal", 4, "g"), Column("", lambda row: VERDICTS[row.met], 6, left=True)


def milliseconds(title: str, of: str = "") -> Column:
    """A time that the row holds in seconds, as `of`, or named for the title; blank where it holds none."""

    def shown(row: Row) -> float | None:
        seconds = getattr(row, of or f"{title}_s")
        return None if seconds is None else 1e3 * seconds

    return Column(title, shown, 11, ".3f", group="milliseconds")


def heading(columns: Sequence[Column]) -> str:
    """The titles; above them those of the groups, where there are any."""
    titles = _line(column.aligned(column.title) for column in columns)
    if not any(column.group for column in columns):
        return titles
    groups = []
    for group, members in groupby(columns, key=lambda column: column.group):
        widths = [column.width for column in members]
        groups.append(f"{group:^{sum(widths) + GAP * (len(widths) - 1)}}")
    return f"{_line(groups)}\n{titles}"


def as_text(columns: Sequence[Column], row: Row) -> str:
    """The row of a table."""
    return _line(column.cell(row) for column in columns)


def _line(cells: Iterable[str]) -> str:
    return (" " * GAP).join(cells).rstrip()
