"""One row of `./scripts/bench units`: what was checked against what, and how fast the emulation of it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A check of one unit, and a measured throughput.

    unit: name in the registry. checked: what was compared with what. compared: how many vectors, cycles or packets.
    of: what was compared ("vectors", "cycles", "packets"). mismatches: how many of them differ. per_s: how many of
    them are emulated per second, compilation not included.
    """

    unit: str
    checked: str
    compared: int
    of: str
    mismatches: int
    per_s: float
