"""Every unit of the RDU: what was checked against what, how many mismatch, how fast it is emulated.

Each unit brings its rows in the file of its name beside this one. What is compared is counted while it is compared; a
row with mismatches makes the exit status 1. The throughput is that of this machine, compilation not included: a figure
to hold against an earlier one of the same machine, not a claim about hardware.
"""

import argparse
import sys
from collections.abc import Iterator

from benchmarks._rows import Column, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.units import agcu, d2d, host_link, memory, p2p, pcu, pmu, rdn, tln
from benchmarks.units.row import Row
from rdujax.base.errors import unknown

BY_UNIT = {
    "pcu": pcu, "pmu": pmu, "rdn": rdn, "agcu": agcu, "tln": tln, "d2d": d2d, "p2p": p2p, "host_link": host_link,
    "memory": memory,
}  # fmt: skip


COLUMNS = (
    Column("mismatch", "value", 9, ","),
    Column("compared", "compared", 12, ","),
    Column("", "of", 10, left=True),
    Column("per second", "per_s", 10, ".3g"),
    names("unit: what against what", 24),
)


def rows(units: list[str], quick: bool) -> Iterator[Row]:
    """The rows of the units by name, in their order."""
    for name in units:
        progress(f"measuring {name} ...")
        yield from BY_UNIT[name].rows(quick)


def unit(name: str) -> str:
    """The name of a unit, refused as argparse refuses."""
    if name not in BY_UNIT:
        raise argparse.ArgumentTypeError(str(unknown("unit", name, BY_UNIT)))
    return name


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("units", __doc__, quick="fewer vectors and cycles")
    asked.add_argument("unit", nargs="*", type=unit, help=f"which (default all): {', '.join(BY_UNIT)}")
    options = asked.parse_args(arguments)
    return show("units", options, COLUMNS, rows(options.unit or list(BY_UNIT), options.quick))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
