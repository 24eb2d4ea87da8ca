"""Programs and queries that nobody has vetted: what is right is seen as right, what is hostile ends at once."""

import time
from collections.abc import Callable

import pytest

from experts.data import correct, examples
from experts.data.database import TABLES, rows_of
from experts.data.interpreter import LONGEST_TEXT, Refused, run
from experts.data.programs import _inputs, same_outcomes
from experts.data.queries import same_rows
from experts.data.tasks import same_result

LONGEST_S = 0.5
SUM = "def f(xs): return sum(x for x in xs if x > 7)"
ROWS = "SELECT name FROM people WHERE age > 30"
RANKED = "SELECT name FROM people ORDER BY age DESC LIMIT 3"


def quickly(judge: Callable[[], bool]) -> bool:
    begun = time.perf_counter()
    found = judge()
    assert time.perf_counter() - begun < LONGEST_S
    return found


@pytest.mark.parametrize(
    "text",
    [
        "def f(xs): return __import__('os').system('true')",
        "import os\ndef f(xs): return 1",
        "def f(xs):\n    while True: pass",
        "def f(xs): return 9 ** 9 ** 9",
        "def f(xs): return 7 ** 8 * 10 ** 8 * 10 ** 8 * 10 ** 8",
        "def f(xs): return 'a' * 10 ** 10",
        "def f(xs): return 10 ** 8 * 'a'",
        "def f(xs): return [0] * 10 ** 8",
        "def f(xs): return '%1000000000d' % 5",
        "def f(xs): return f(xs)",
        "def f(xs): return (lambda g: g(g))(lambda g: g(g))",
        "def f(xs): return [y for y in range(10 ** 9)]",
        "def f(xs): return sum([1 for a in xs for b in xs for c in xs for d in xs for e in xs for g in xs])",
        "def f(xs): return [[[[c for c in xs] for b in xs] for a in xs] for x in xs]",
        "def f(xs): return " + "'aaaaaaaaaa'" + ".replace('', 'aaaaaaaaaa')" * 9,
        "def f(xs): return sum([[1, 2] for x in xs], [])",
        "def f(xs): return xs.__class__.__mro__[1].__subclasses__()",
        "def f(xs): return ().__class__",
        "def f(xs): return xs.append(1)",
        "def f(xs): return eval('1')",
        "def f(xs): return open('passwords').read()",
        "def f(xs): return (y := 7)",
        "def f(xs): return f'{xs:>1000000000}'",
        "def f(xs, ys=print(1)): return 1",
        "@print\ndef f(xs): return 1",
        "def f(*xs): return 1",
        "async def f(xs): return 1",
        "def f(xs): return " + "(" * 250,
        "def f(xs): return " + "-" * 250 + "1",
        "def f(xs): return " + "not " * 60 + "1",
        "def f(xs): return 1" + " " * 10**6,
        "def f(xs): return '\0'",
        "def f(xs): return \\",
        "def f(xs): return 1e999",
        "def f(xs): return int(1e999)",
        "def f(xs): return xs.sort",
        "def f(xs): return None",
        "lambda xs: 1",
        "SELECT 1",
        "",
    ],
)
def test_hostile_programs_are_wrong_and_end_at_once(text: str):
    assert not quickly(lambda: same_outcomes(SUM, text))


def test_other_programs_that_do_the_same_are_right():
    for text in (
        "def g(values): return sum([v for v in values if not v <= 7])",
        "def f(xs):\n    return sum(x if x >= 8 else 0 for x in xs)",
        "def f(xs): return 0 + sum(sorted(x for x in xs if 7 < x))",
    ):
        assert same_outcomes(SUM, text)
    for text in ("def f(xs): return sum(x for x in xs if x > 8)", "def f(xs): return sum(x for x in xs if x >= 7)"):
        assert not same_outcomes(SUM, text)


def test_a_truth_is_no_number():
    assert not same_outcomes("def f(n): return n > 3", "def f(n): return 1 if n > 3 else 0")
    assert same_outcomes("def f(n): return n > 3", "def f(n): return not n < 4")


def test_exceptions_are_outcomes():
    assert run("def f(xs): return max(xs)", [3, 4], []) == [("gives", 4), ("raises", "ValueError")]
    assert not same_outcomes("def f(xs): return max(x for x in xs)", "def f(xs): return max(xs, default=0)")


def test_a_program_is_refused_from_the_first_character_too_many():
    text = "def f(n): return 1"
    assert run(text.ljust(LONGEST_TEXT), 0) == [("gives", 1)]
    with pytest.raises(Refused, match="too long"):
        run(text.ljust(LONGEST_TEXT + 1), 0)


def test_programs_run_as_python_runs_them():
    """The answers, which are trusted, by Python itself."""
    for each in examples("code", "train", "seen", 6, count=300):
        names = {}
        exec(each.answer, names)
        for argument in _inputs(each.answer):
            [(how, found)] = run(each.answer, argument)
            if how == "raises":
                with pytest.raises(ValueError):
                    names["f"](argument)
            else:
                expected = names["f"](argument)
                assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE people",
        "DELETE FROM people",
        "UPDATE people SET age = 1",
        "INSERT INTO people VALUES (1, 2, 3, 4)",
        "CREATE TABLE other (a)",
        "SELECT name FROM people WHERE age > 30; DROP TABLE people",
        "ATTACH DATABASE 'other.db' AS other",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "VACUUM",
        "BEGIN",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT COUNT(*) FROM r",
        "SELECT COUNT(*) FROM people a, people b, people c, people d, people e",
        "SELECT 1 FROM books a, books b, books c ORDER BY a.year * b.year * c.year",
        "SELECT a.name FROM people a, people b",
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(1000000000)",
        "SELECT printf('%1000000000d', 1)",
        "SELECT group_concat(a.name) FROM people a, people b",
        "SELECT load_extension('x')",
        "SELECT readfile('passwords')",
        "SELECT name FROM sqlite_master, nowhere",
        "SELECT name FROM people WHERE age > ?",
        "SELECT " + "(" * 280,
        "SELECT 1" + " " * 10**6,
        "SELECT '\0",
        "SELECT \ud800",
        "EXPLAIN SELECT 1",
        "",
        ";",
        "def f(xs): return 1",
    ],
)
def test_hostile_queries_are_wrong_and_end_at_once(text: str):
    assert not quickly(lambda: same_rows(ROWS, text))
    assert same_rows(ROWS, ROWS) and len(rows_of("SELECT * FROM people") or ()) == 60


def test_rows_are_compared_in_order_only_where_an_order_is_asked_for():
    assert same_rows(ROWS, "SELECT name FROM people WHERE NOT age <= 30 ORDER BY age")
    assert same_rows(RANKED, f"{RANKED};") and same_rows(RANKED, "select name from people order by -age limit 3")
    backwards = f"SELECT name FROM (SELECT name, age FROM people WHERE name IN ({RANKED})) ORDER BY age"
    assert not same_rows(RANKED, backwards) and not same_rows(RANKED, "SELECT name FROM people LIMIT 3")
    assert not same_rows(ROWS, "SELECT name, age FROM people WHERE age > 30")


@pytest.mark.parametrize("table", TABLES)
def test_conditions_that_differ_by_one_step_find_different_rows(table: str):
    for column, values in TABLES[table].items():
        if isinstance(values, range):
            counts = [len(rows_of(f"SELECT 1 FROM {table} WHERE {column} > {value}") or ()) for value in values]
            assert counts == list(reversed(range(len(values))))


def test_only_the_result_of_steps_counts():
    right = "17*23:7*3=21;=391"
    assert same_result(right, "17*23=391") and same_result(right, "= 391 ") and same_result(right, "7*3=22;=391")
    assert not same_result(right, "391") and not same_result(right, "17*23=391=390") and not same_result(right, "=3911")


def test_hostile_texts_are_wrong_in_every_domain():
    texts = ["9" * 10**5, "[" * 10**5, "=" * 10**5, "\0", "\ud800", "{" * 1000, "=[" + "1, " * 10**4]
    for domain in ("math", "translate", "json", "lists", "roman", "units", "code", "sql"):
        each = next(examples(domain, "test", "seen", 0))
        assert not any(quickly(lambda text=text, each=each: correct(each, text)) for text in texts)
