"""One row of `./scripts/bench units`: what was checked against what, and how fast the emulation of it is."""

from dataclasses import dataclass

from benchmarks import _rows


@dataclass(frozen=True, kw_only=True)
class Row(_rows.Row):
    """A check of one unit, and a measured throughput. value: how many of what was compared differ; none should.

    compared: how many. of: what was compared ("vectors", "cycles", "packets"). per_s: how many of them are emulated per
    second, compilation not included.
    """

    compared: int
    of: str
    per_s: float


def row(unit: str, checked: str, compared: int, of: str, mismatches: int, per_s: float) -> Row:
    """The row of a unit by its name in the registry; checked: what was compared with what."""
    return Row(
        row=f"{unit}: {checked}", value=mismatches, unit="mismatches", goal=0, compared=compared, of=of, per_s=per_s
    )
