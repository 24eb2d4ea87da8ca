"""A few small tables in memory, and queries that nobody has vetted.

A query may read these tables and nothing else: SQLite asks before it prepares anything but a plain SELECT over them and
the functions named below, and is refused. It is stopped after a number of its steps, and no value or text may be
longer than a few thousand characters.

Within a table every number of a column occurs once, and the numbers fill their range: two conditions that differ by
one step find different rows, and no order has ties.
"""

import sqlite3
from collections.abc import Mapping
from functools import cache
from random import Random

Rows = list[tuple[object, ...]]

LONGEST_TEXT = 300  # characters of a query
LONGEST_VALUE = 2000  # bytes
MOST_STEPS = 200_000  # of SQLite's machine; the largest honest query takes about a hundredth
MOST_ROWS = 500

NAMES = """Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karl Laura Max Nina Oskar Paul Rosa Sara Tom Vera
    Will Zoe Adam Bella Chris Diana Eric Fiona Gavin Helen""".split()
# What each column can hold: words, or numbers.
TABLES: Mapping[str, Mapping[str, tuple[str, ...] | range]] = {
    "people": {
        "name": tuple(NAMES),
        "age": range(18, 78),
        "city": ("Paris", "London", "Berlin", "Rome", "Madrid", "Vienna", "Oslo", "Prague"),
        "salary": range(1000, 7000, 100),
    },
    "products": {
        "name": ("lamp", "chair", "table", "phone", "radio", "clock", "knife", "glass", "shirt", "shoe", "ball", "bag"),
        "price": range(1, 100),
        "stock": range(2, 101),
        "category": ("toys", "tools", "food", "clothes", "garden", "music"),
    },
    "books": {
        "title": ("Night", "Rivers", "The Wall", "Home", "Winter", "Stars", "The Road", "Fire", "Islands", "Silence"),
        "author": ("Miller", "Brown", "Jones", "Smith", "Taylor", "Clark", "Lewis", "Young"),
        "year": range(1920, 2020),
        "rating": range(1, 101),
    },
    "orders": {
        "customer": tuple(NAMES[:20]),
        "product": ("lamp", "chair", "table", "phone", "radio", "clock", "knife", "glass"),
        "quantity": range(1, 81),
        "amount": range(5, 405, 5),
    },
}
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
_FUNCTIONS = {"count", "sum", "avg", "min", "max", "abs", "round", "lower", "upper", "length"}


def is_number(table: str, column: str) -> bool:
    """Whether the column holds numbers."""
    return isinstance(TABLES[table][column], range)


def rows_of(query: str) -> Rows | None:
    """What the query finds, in the order in which it comes; None where it is wrong, refused or takes too long."""
    if len(query) > LONGEST_TEXT:
        return None
    connection = _opened()
    left = [MOST_STEPS // 1000]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    connection.set_progress_handler(stop, 1000)
    try:
        cursor = connection.execute(query)
        found = cursor.fetchmany(MOST_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError):
        return None
    return found if cursor.description and len(found) <= MOST_ROWS else None


def _allowed(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    known = action in _READS or action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FUNCTIONS
    return sqlite3.SQLITE_OK if known else sqlite3.SQLITE_DENY


@cache
def _opened() -> sqlite3.Connection:
    """The tables, in a connection that can only read them."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for table, columns in TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", _rows(table))
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, LONGEST_TEXT)
    connection.execute("PRAGMA query_only = ON")
    connection.set_authorizer(_allowed)
    return connection


def _rows(table: str) -> Rows:
    """As many rows as a column of numbers has numbers, shuffled; words at random."""
    rng, columns = Random(table), TABLES[table].values()
    count = min(len(kind) for kind in columns if isinstance(kind, range))
    filled = [rng.sample(kind, count) if isinstance(kind, range) else rng.choices(kind, k=count) for kind in columns]
    return list(zip(*filled, strict=True))
