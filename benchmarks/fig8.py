"""The paper's Figure 8: how many nodes serve more and more experts without waiting for slow switches.

A DGX keeps its pace as long as all of its experts are in HBM; one node of SN40L as long as they are in DDR, for it
switches fast enough. How many a node holds is found by serving: the most of which none is switched (DGX), the most for
which the simulated node has homes (SN40L). Published: 19 DGX for 850 experts, one node of SN40L.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks._coe import A100, H100, RDU, most, platform, switching_from
from benchmarks._rows import VERDICTS, Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from rdujax.compiler.drawing import Drawing, Line, Shape, Style, Words

NODES = (RDU, A100, H100)
EXPERTS = (*range(10, 891, 40), 850)  # the axis of the figure, and the number of its text
PUBLISHED = {RDU: 1, A100: 19, H100: 19}  # nodes for 850 experts: MICRO 2024, section VI-C


@dataclass(frozen=True, kw_only=True)
class Nodes(Row):
    """So many nodes for so many experts, or how many one holds (experts = 0)."""

    node: str
    experts: int

    @property
    def met(self) -> bool | None:
        """Whether it is what is published; None where nothing is."""
        return None if self.published is None else self.value == self.published


COLUMNS = (
    names("", 32),
    Column("", "value", 5, ",g"),
    Column("", "unit", 7, left=True),
    Column("printed", "published", 7, "g"),
    Column("", lambda row: VERDICTS[row.met], 6, left=True),
)


def holds(name: str) -> int:
    """How many experts one node serves at its pace."""
    on = platform(name)
    first = None if name == RDU else switching_from(on, 1)
    return most(on) if first is None else first - 1


def rows() -> Iterator[Nodes]:
    """What each node holds, then nodes by experts."""
    for name in NODES:
        progress(name)
        each = holds(name)
        yield Nodes(row=f"{name} holds", value=each, unit="experts", node=name, experts=0)
        for experts in sorted(set(EXPERTS)):
            yield Nodes(
                row=f"{name}, {experts} experts", value=-(-experts // each), unit="nodes", node=name, experts=experts,
                published=PUBLISHED[name] if experts == 850 else None, kind="test" if experts == 850 else "measured",
            )  # fmt: skip


INK, GREY = Style("#222222"), Style(stroke="#bbbbbb", width=1.0)
COLOURS = {RDU: "#0072b2", A100: "#d55e00", H100: "#009e73"}  # told apart by anyone
WIDE, HIGH, LEFT, TOP, MOST = 520.0, 260.0, 50.0, 50.0, 20


def steps(seen: list[Nodes]) -> Drawing:
    """Nodes by experts, a stair for each kind of node; those of the two DGX lie on each other."""
    shapes: list[Shape] = [Words(LEFT, TOP - 18, "nodes by number of experts", 13, INK, bold=True)]
    for quarter in range(5):
        y = TOP + HIGH * (1 - quarter / 4)
        shapes += [
            Line(LEFT, y, LEFT + WIDE, y, GREY), Words(LEFT - 8, y + 4, f"{MOST * quarter // 4}", 12, INK, anchor="end")
        ]  # fmt: skip
    for experts in range(0, 901, 100):
        shapes.append(Words(LEFT + WIDE * experts / 900, TOP + HIGH + 18, f"{experts}", 12, INK, anchor="middle"))
    for at, name in enumerate(NODES):
        style = Style(stroke=COLOURS[name], width=4.0 if name == A100 else 2.0)
        points = [(LEFT + WIDE * row.experts / 900, TOP + HIGH * (1 - row.value / MOST)) for row in seen
                  if row.node == name and row.experts]  # fmt: skip
        shapes += [
            part
            for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False)
            for part in (Line(x0, y0, x1, y0, style), Line(x1, y0, x1, y1, style))
        ]
        y = TOP + 14 + 16 * at
        shapes += [Line(LEFT + 10, y, LEFT + 34, y, style), Words(LEFT + 40, y + 4, name, 12, INK)]
    return Drawing(LEFT + WIDE + 40, TOP + HIGH + 40, tuple(shapes))


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    return show("fig8", parser("fig8", __doc__).parse_args(arguments), COLUMNS, rows(), steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
