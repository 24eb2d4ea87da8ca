"""How every benchmark is asked, and what it does with its rows: a table, lines of JSON, a picture.

A benchmark says what it measures: rows, one after the other, and the columns of its table; `show` does the rest. The
exit status is 1 where a row misses its goal: a time, a ratio, or a number of mismatches that should be none.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks._bars import bars, picture_path
from benchmarks._rows import Column, Row, as_json, as_text, heading
from benchmarks._timing import progress
from rdujax.compiler.drawing import Drawing


def parser(benchmark: str, question: str | None, quick: str = "") -> argparse.ArgumentParser:
    """The options of every benchmark. quick: what a quick run leaves out; without it there is no such option."""
    made = argparse.ArgumentParser(
        prog=f"./scripts/bench {benchmark}",
        description=question,
        epilog="The exit status is 1 where a goal is missed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="one JSON object per row on standard output")
    made.add_argument("--plot", metavar="FILE", type=picture_path, help="also draw the rows into a .svg or .png")
    if quick:
        made.add_argument("--quick", action="store_true", help=quick)
    return made


def show(
    benchmark: str,
    options: argparse.Namespace,
    columns: Sequence[Column],
    rows: Iterable[Row],
    picture: Callable[[list[Any]], Drawing] = bars,
    notes: Callable[[list[Any]], Iterable[str]] = lambda rows: (),
) -> int:
    """Prints each row as soon as it is measured, draws all in the end if asked to; 1 if one misses its goal, else 0.

    notes: lines below the table.
    """
    if not options.json:
        print(heading(columns), flush=True)
    seen = []
    for row in rows:
        progress("")
        print(as_json(benchmark, row) if options.json else as_text(columns, row), flush=True)
        seen.append(row)
    for line in notes(seen) if not options.json else ():
        print(line)
    if options.plot:
        picture(seen).save(options.plot)
    return int(any(row.met is False for row in seen))
