"""The paper's Figure 2: what a prompt waits for on each node: routing, switching, running its expert.

150 experts of Llama2-7B (or as many as a DGX has room for), prompts of 128 tokens, 20 or 200 tokens written, in the
steady state, no expert in HBM when it is asked. Parts are those of the simulated node, and add up to the latency,
exactly. The figure's bars are not published as numbers. Rows "copied ahead" are beyond the paper: the next expert of a
batch is copied while one runs.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks._coe import A100, EXPERTS, H100, RDU, most, platform, served
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from rdujax.compiler.drawing import Drawing, Rectangle, Shape, Style, Words

NODES = (RDU, A100, H100)
TOKENS = (20, 200)
CASES = ((1, 0), (8, 0), (8, 1))  # prompts of a batch, experts that are copied ahead


@dataclass(frozen=True, kw_only=True)
class Parts(Row):
    """A batch on a node. value: milliseconds in all; route_s, switch_s, run_s: its parts."""

    route_s: float
    switch_s: float
    run_s: float

    @property
    def switching(self) -> float:
        """The share of time that goes into switching."""
        return self.switch_s / (self.route_s + self.switch_s + self.run_s)


COLUMNS = (
    names("", 44),
    Column("in all", "value", 10, ",.1f", group="milliseconds"),
    Column("router", lambda row: 1e3 * row.route_s, 8, ",.1f", group="milliseconds"),
    Column("switch", lambda row: 1e3 * row.switch_s, 10, ",.1f", group="milliseconds"),
    Column("expert", lambda row: 1e3 * row.run_s, 10, ",.1f", group="milliseconds"),
    Column("switching", "switching", 9, ".0%"),
)


def rows() -> Iterator[Parts]:
    """Every node, at each length and batch."""
    for tokens in TOKENS:
        for batch, ahead in CASES:
            for name in NODES:
                on = platform(name)
                progress(f"{name}, BS {batch}, {tokens} tokens")
                found = served(on, min(EXPERTS, most(on)), batch, tokens, ahead)
                assert found is not None, "as many experts as have a home are served"
                title = f"{name}, BS {batch}, {tokens} tokens{', copied ahead' if ahead else ''}"
                yield Parts(
                    row=title, value=1e3 * found.total_s, unit="ms", route_s=found.route_s, switch_s=found.switch_s,
                    run_s=found.run_s,
                )  # fmt: skip


INK = Style("#222222")
PARTS = {"router": Style("#999999"), "switching": Style("#d55e00"), "expert": Style("#0072b2")}
LEFT, TOP, PITCH, BAR, ROOM = 300.0, 50.0, 24.0, 16.0, 460.0


def stacked(seen: list[Parts]) -> Drawing:
    """A bar for each row, its parts one after the other, in shares of the whole, which is written behind it."""
    shapes: list[Shape] = []
    for at, (name, style) in enumerate(PARTS.items()):
        x = LEFT + 110 * at
        shapes += [Rectangle(x, TOP - 30, 24, BAR, style), Words(x + 30, TOP - 17, name, 12, INK)]
    for at, row in enumerate(seen):
        y, x = TOP + PITCH * at, LEFT
        shapes.append(Words(LEFT - 8, y + BAR - 3, row.row, 12, INK, anchor="end"))
        for (name, style), seconds in zip(PARTS.items(), (row.route_s, row.switch_s, row.run_s), strict=True):
            width = ROOM * 1e3 * seconds / row.value
            shapes.append(Rectangle(x, y, width, BAR, style, f"{name}: {1e3 * seconds:,.1f} ms"))
            x += width
        shapes.append(Words(LEFT + ROOM + 8, y + BAR - 3, f"{row.value:,.0f} ms", 12, INK))
    return Drawing(LEFT + ROOM + 90, TOP + PITCH * len(seen) + 16, tuple(shapes))


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    return show("fig2", parser("fig2", __doc__).parse_args(arguments), COLUMNS, rows(), stacked)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
