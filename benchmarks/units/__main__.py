"""Every unit of the RDU: what was checked against what, how many mismatch, how fast it is emulated.

Each unit brings its rows in the file of its name beside this one. What is compared is counted while it is compared; a
row with mismatches makes the exit status 1. The throughput is that of this machine, compilation not included: a figure
to hold against an earlier one of the same machine, not a claim about hardware.
"""

import argparse
import json
import sys
from collections.abc import Iterator

from benchmarks._timing import progress
from benchmarks.units import agcu, d2d, host_link, memory, p2p, pcu, pmu, rdn, tln
from benchmarks.units.row import Row
from rdujax.base.errors import RduError, unknown

BY_UNIT = {
    "pcu": pcu, "pmu": pmu, "rdn": rdn, "agcu": agcu, "tln": tln, "d2d": d2d, "p2p": p2p, "host_link": host_link,
    "memory": memory,
}  # fmt: skip


def rows(units: list[str], quick: bool) -> Iterator[Row]:
    """The rows of the units by name, in their order."""
    for name in units:
        progress(f"measuring {name} ...")
        yield from BY_UNIT[name].rows(quick)


def as_json(row: Row) -> str:
    """The row as one JSON object: the value is the number of mismatches, the rest stands beside it."""
    return json.dumps(
        {
            "benchmark": "units",
            "row": f"{row.unit}: {row.checked}",
            "value": row.mismatches,
            "unit": "mismatches",
            "published": None,
            "ratio": None,
            "kind": "measured",
            "compared": row.compared,
            "of": row.of,
            "per_s": row.per_s,
        }
    )


def as_text(row: Row) -> str:
    """The row of a table."""
    return f"{row.unit:<10} {row.compared:>12,} {row.of:<10} {row.mismatches:>9,} {row.per_s:>11.3g}/s  {row.checked}"


def main(arguments: list[str]) -> int:
    """Prints a table, or with --json one object per row; 1 if anything mismatches, 2 for a unit that is not there."""
    there = list(BY_UNIT)
    parser = argparse.ArgumentParser(
        prog="./scripts/bench units", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("unit", nargs="*", help=f"which (default all): {', '.join(there)}")
    parser.add_argument("--json", action="store_true", help="one JSON object per row on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer vectors and cycles")
    options = parser.parse_args(arguments)
    try:
        for name in options.unit:
            if name not in there:
                raise unknown("unit", name, there)
    except RduError as error:
        print(error, file=sys.stderr)
        return 2
    if not options.json:
        print(f"{'unit':<10} {'compared':>12} {'':<10} {'mismatch':>9} {'emulated':>13}  what against what")
    mismatches = 0
    for row in rows(options.unit or there, options.quick):
        progress("")
        mismatches += row.mismatches
        print(as_json(row) if options.json else as_text(row), flush=True)
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
