"""The paper's Figure 7: how long a batch takes on a node with more and more experts, at batches of 1 and 8, 20 tokens.

Curves are of the simulated node (see table2). As long as all experts are in HBM, nothing is switched; from a breakpoint
on, every prompt switches its expert, for experts are asked in turn. Where home copies do not fit, a node is out of
memory. Published are the axes of the picture, and in the text where a DGX begins to switch (around 50) and where it is
out of memory (above 150); those are tests, to be met within 3 experts, and so are the axes, which no latency leaves.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks._coe import A100, H100, RDU, most, platform, served, switching_from
from benchmarks._rows import VERDICTS, Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from rdujax.compiler.drawing import Drawing, Line, Shape, Style, Words

NODES = (RDU, A100, H100)
STEP, MOST = 10, 200  # experts: of a curve, and its end
AXES = {1: 0.8, 8: 5.0}  # seconds, by batch: MICRO 2024, Figure 12
SWITCHES, OUT = 50, 151  # experts of a DGX: MICRO 2024, section VI-C
NEAR = 3


@dataclass(frozen=True, kw_only=True)
class Point(Row):
    """A latency, or a number of experts at which something begins. node, batch, experts: of a point of a curve.

    route_s, switch_s, run_s: its parts.
    """

    node: str
    batch: int
    experts: int | None = None
    route_s: float | None = None
    switch_s: float | None = None
    run_s: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether what is published is met: a breakpoint within 3, a latency within its axis."""
        if self.kind != "test":
            return None
        if self.unit == "experts":
            return self.published is not None and abs(self.value - self.published) <= NEAR
        return self.value <= 1e3 * AXES[self.batch]


COLUMNS = (
    names("", 44),
    Column("", "value", 9, ",.1f"),
    Column("", "unit", 7, left=True),
    Column("router", lambda row: None if row.route_s is None else 1e3 * row.route_s, 8, ",.1f", group="milliseconds"),
    Column("switch", lambda row: None if row.switch_s is None else 1e3 * row.switch_s, 8, ",.1f", group="milliseconds"),
    Column("experts", lambda row: None if row.run_s is None else 1e3 * row.run_s, 8, ",.1f", group="milliseconds"),
    Column("printed", "published", 7, "g"),
    Column("", lambda row: VERDICTS[row.met], 6, left=True),
)


def rows() -> Iterator[Point]:
    """Breakpoints of each node, then its curve."""
    for batch in AXES:
        for name in NODES:
            on = platform(name)
            progress(f"{name}, BS {batch}")
            first, is_gpu = switching_from(on, batch), name != RDU
            if first is not None:
                yield Point(
                    row=f"{name}, BS {batch}: switches from", value=first, unit="experts", node=name, batch=batch,
                    published=SWITCHES if is_gpu else None, kind="test" if is_gpu else "measured",
                )  # fmt: skip
            yield Point(
                row=f"{name}, BS {batch}: out of memory from", value=most(on) + 1, unit="experts", node=name,
                batch=batch, published=OUT if is_gpu else None, kind="test" if is_gpu else "measured",
            )  # fmt: skip
            yield from _curve(name, batch, first)


def _curve(name: str, batch: int, first: int | None) -> Iterator[Point]:
    """Latencies by experts, those around the breakpoint and the last that fit included."""
    exact = {each for each in ((first or 0) - 1, first, most(platform(name))) if each and batch <= each <= MOST}
    for experts in sorted({*range(STEP, MOST + 1, STEP)} | exact):
        found = served(platform(name), experts, batch, 20)
        if found is None:
            return
        yield Point(
            row=f"{name}, BS {batch}, {experts} experts", value=1e3 * found.total_s, unit="ms", node=name, batch=batch,
            experts=experts, route_s=found.route_s, switch_s=found.switch_s, run_s=found.run_s, kind="test",
        )  # fmt: skip


INK, GREY = Style("#222222"), Style(stroke="#bbbbbb", width=1.0)
COLOURS = {RDU: "#0072b2", A100: "#d55e00", H100: "#009e73"}  # told apart by anyone
WIDE, HIGH, LEFT, TOP, GAP = 380.0, 260.0, 70.0, 50.0, 90.0


def curves(seen: list[Point]) -> Drawing:
    """Two pictures side by side, with the paper's axes: a curve for each node, crossed where it is out of memory."""
    shapes: list[Shape] = []
    for at, (batch, longest_s) in enumerate(AXES.items()):
        left = LEFT + at * (WIDE + GAP)
        shapes += _frame(left, batch, longest_s)
        for place, name in enumerate(NODES):
            points = [row for row in seen if (row.node, row.batch) == (name, batch) and row.experts]
            style = Style(stroke=COLOURS[name], width=2.0)
            spots = [
                (left + WIDE * (row.experts or 0) / MOST, TOP + HIGH * (1 - row.value / (1e3 * longest_s)))
                for row in points
            ]
            shapes += [Line(*a, *b, style) for a, b in zip(spots, spots[1:], strict=False)]
            if points and (points[-1].experts or 0) < MOST:
                x, y = spots[-1]
                shapes += [Line(x - 5, y - 5, x + 5, y + 5, style), Line(x - 5, y + 5, x + 5, y - 5, style)]
                shapes.append(Words(x + 10, y + 4, "out of memory", 11, INK))
            x, y = left + 120 * place, TOP + HIGH + 44
            shapes += [Line(x, y, x + 24, y, style), Words(x + 30, y + 4, name, 12, INK)]
    return Drawing(LEFT + 2 * WIDE + GAP + 30, TOP + HIGH + 64, tuple(shapes))


def _frame(left: float, batch: int, longest_s: float) -> Iterator[Shape]:
    yield Words(left, TOP - 16, f"BS {batch}, 20 tokens: ms by number of experts", 13, INK, bold=True)
    for quarter in range(5):
        y, x = TOP + HIGH * (1 - quarter / 4), left + WIDE * quarter / 4
        yield Line(left, y, left + WIDE, y, GREY)
        yield Words(left - 8, y + 4, f"{1e3 * longest_s * quarter / 4:g}", 12, INK, anchor="end")
        yield Words(x, TOP + HIGH + 18, f"{MOST * quarter // 4}", 12, INK, anchor="middle")


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    return show("fig7", parser("fig7", __doc__).parse_args(arguments), COLUMNS, rows(), curves)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
