"""Recorded traffic, as published: CSV files of when somebody asked, and of how many tokens came and went.

    Azure LLM inference (2023, 2024)   TIMESTAMP,ContextTokens,GeneratedTokens
    BurstGPT                           Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type

Azure's times are dates, BurstGPT's seconds. No trace says which expert was asked: that is drawn. Rows are read one
after the other. A row that makes no sense is refused with its line; so are rows that go back in time.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from os import PathLike
from random import Random

from rdujax.base.errors import ArgumentError, FormatError, describe
from rdujax.coe.requests import Request
from rdujax.coe.traffic import SECOND_PS, Popularity
from rdujax.ledger.numbers import exact


@dataclass(frozen=True)
class Format:
    """Columns of a kind of trace, and how a time is read, in picoseconds."""

    name: str
    time: str
    tokens_in: str
    tokens_out: str
    read_ps: Callable[[str], int]


def _date_ps(text: str) -> int:
    """Of a date with up to ten digits of a second, which is more than dates of the library hold."""
    whole, _, rest = text.strip().partition(".")
    digits = rest.removesuffix("+00:00").removesuffix("Z")
    if digits and not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise ValueError(text)
    seconds = datetime.fromisoformat(whole.removesuffix("+00:00").removesuffix("Z")).replace(tzinfo=UTC).timestamp()
    return int(seconds) * SECOND_PS + int(digits.ljust(12, "0"))


def _seconds_ps(text: str) -> int:
    return round(Decimal(text.strip()) * SECOND_PS)


FORMATS = (
    Format("Azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", _date_ps),
    Format("BurstGPT", "Timestamp", "Request tokens", "Response tokens", _seconds_ps),
)


def read_trace(
    path: str | PathLike[str], popularity: Popularity, seed: int = 0, *, skip_empty: bool = False, speed: float = 1.0
) -> Iterator[Request]:
    """Requests of a trace, the first at time 0; experts are drawn.

    skip_empty: passes over requests without tokens, which recordings have of failures; otherwise they are refused.
    speed: how many times as fast the trace is played. Raises FormatError with the line of what cannot be read.
    """
    if not 0 < speed < float("inf"):
        raise ArgumentError(describe("how fast a trace is played", given=repr(speed), allowed="more than 0"))
    pace = Fraction(exact(speed))
    rng, number, start_ps, last_ps = Random(f"trace {seed}"), 0, None, 0
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, strict=True)
        found = _format(rows, path)
        for row in _rows(rows, path):
            at_ps, sizes = _row(found, row, f"{path}, line {rows.line_num}")
            start_ps = at_ps if start_ps is None else start_ps
            if at_ps < last_ps and number:
                raise _refused("a time before the one before", row, f"{path}, line {rows.line_num}")
            last_ps = at_ps
            if min(sizes) < 1:
                if skip_empty:
                    continue
                raise _refused("a request without tokens", row, f"{path}, line {rows.line_num}", "skip_empty=True")
            yield Request(number, round((at_ps - start_ps) / pace), (popularity(rng),), *sizes)
            number += 1


def _format(rows: csv.DictReader, path: object) -> Format:
    try:
        names = rows.fieldnames or ()
    except (csv.Error, UnicodeDecodeError) as error:
        raise _refused(f"a file that is no CSV ({error})", None, str(path)) from None
    for each in FORMATS:
        if {each.time, each.tokens_in, each.tokens_out} <= set(names):
            return each
    allowed = "; ".join(f"{f.name}: {f.time}, {f.tokens_in}, {f.tokens_out}" for f in FORMATS)
    raise FormatError(describe("columns of no known trace", given=", ".join(names), allowed=allowed, where=str(path)))


def _rows(rows: csv.DictReader, path: object) -> Iterator[dict]:
    try:
        yield from rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise _refused(f"a row that is no CSV ({error})", None, f"{path}, line {rows.line_num}") from None


def _row(found: Format, row: dict, where: str) -> tuple[int, tuple[int, int]]:
    """When, and tokens in and out."""
    try:
        sizes = int(row[found.tokens_in]), int(row[found.tokens_out])
        at_ps = found.read_ps(row[found.time])
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        raise _refused("a row that cannot be read", row, where) from None
    if min(sizes) < 0:
        raise _refused("fewer than no tokens", row, where)
    return at_ps, sizes


def _refused(problem: str, row: dict | None, where: str, do: str = "") -> FormatError:
    return FormatError(describe(problem, given=None if row is None else dict(row), where=where, do=do))
