"""SQL over the tables of `database.py`: rows that meet conditions, counts, totals, rankings, groups."""

from collections.abc import Collection
from random import Random

from experts.data.database import TABLES, is_number, rows_of
from experts.data.tasks import Content, Task
from experts.data.wordings import bare, questions, requests

_PLURALS = {
    "city": "cities",
    "category": "categories",
    "salary": "salaries",
    "quantity": "quantities",
}
_COMPARED = {">": "above", "<": "below", ">=": "at least", "<=": "at most", "=": ""}
_TOTALS = {"AVG": "average", "SUM": "total", "MAX": "highest", "MIN": "lowest"}
_ORDERS = {"ASC": ("from low to high", "lowest"), "DESC": ("from high to low", "highest")}


def _columns(table: str, *, numbers: bool) -> list[str]:
    return [column for column in TABLES[table] if is_number(table, column) == numbers]


def _condition(rng: Random, table: str, unlike: Collection[str], signs: str) -> tuple[str, str, str | int]:
    """A column, how it is compared, and with what: for a number with one well inside of its range.

    unlike: columns that it is not about. signs: for numbers, which are taken more often than words.
    """
    columns = [column for column in TABLES[table] if column not in unlike]
    column = rng.choice([*columns, *(column for column in columns if is_number(table, column))])
    values = TABLES[table][column]
    if not isinstance(values, range):
        return column, rng.choice(("=", "=", "!=")), rng.choice(values)
    edge = len(values) // 10
    return column, rng.choice(signs.split()), rng.choice(values[edge:-edge])


def _conditions(rng: Random, table: str, unlike: Collection[str]) -> Content:
    """One, or in one case of four two on different columns, that some rows meet."""
    first = _condition(rng, table, unlike, "> < >= <= =")
    found = (first,) if rng.random() < 0.75 else (first, _condition(rng, table, {*unlike, first[0]}, "> < >= <= ="))
    return found if _met(table, found, 1) else _conditions(rng, table, unlike)


def _maybe(rng: Random, table: str, unlike: Collection[str]) -> Content:
    """No condition, or more often one that leaves several rows."""
    if rng.random() < 0.2:
        return ()
    found = (_condition(rng, table, unlike, "> < >= <="),)
    return found if _met(table, found, 3) else _maybe(rng, table, unlike)


def _met(table: str, conditions: Content, count: int) -> bool:
    return len(rows_of(f"SELECT 1 FROM {table}{_where(conditions)}") or ()) >= count


def _where(conditions: Content) -> str:
    texts = [f"{column} {sign} {value!r}" for column, sign, value in conditions]
    return f" WHERE {' AND '.join(texts)}" if texts else ""


def _said(conditions: Content, style: str) -> str:
    """The conditions in words, behind a blank: in a relative clause, behind "with", or behind "where"."""
    how = _with if style == "with" else _is
    said = " and ".join(how(*condition) for condition in conditions)
    return f" {style} {said}" if said else ""


def _is(column: str, sign: str, value: str | int) -> str:
    words = f"{_COMPARED.get(sign, 'not')} {value}".strip()
    return f"{column} is {words}"


def _with(column: str, sign: str, value: str | int) -> str:
    if sign == "=":
        return f"{column} {value}"
    return f"{column} {_COMPARED.get(sign, 'other than')} {value}"


def _plural(column: str) -> str:
    return _PLURALS.get(column, f"{column}s")


def _styles(conditions: Content) -> dict[str, str]:
    return {style: _said(conditions, style) for style in ("whose", "with", "where")}


def _table(rng: Random) -> str:
    return rng.choice(tuple(TABLES))


def _draw_rows(rng: Random) -> Content:
    table = _table(rng)
    columns = rng.sample(tuple(TABLES[table]), rng.choice((1, 1, 2)))
    return table, tuple(columns), _conditions(rng, table, columns)


def _rows_fields(content: Content) -> dict[str, str]:
    table, columns, conditions = content
    return {"table": table, "columns": " and ".join(map(_plural, columns)), **_styles(conditions)}


def _rows(content: Content) -> str:
    table, columns, conditions = content
    return f"SELECT {', '.join(columns)} FROM {table}{_where(conditions)}"


def _draw_count(rng: Random) -> Content:
    table = _table(rng)
    return table, _conditions(rng, table, ())


def _count_fields(content: Content) -> dict[str, str]:
    return {"table": content[0], **_styles(content[1])}


def _count(content: Content) -> str:
    return f"SELECT COUNT(*) FROM {content[0]}{_where(content[1])}"


def _draw_total(rng: Random) -> Content:
    table = _table(rng)
    how, column = rng.choice(tuple(_TOTALS)), rng.choice(_columns(table, numbers=True))
    return table, how, column, _maybe(rng, table, (column,))


def _total_fields(content: Content) -> dict[str, str]:
    table, how, column, conditions = content
    return {"table": table, "how": _TOTALS[how], "column": column, **_styles(conditions)}


def _total(content: Content) -> str:
    table, how, column, conditions = content
    return f"SELECT {how}({column}) FROM {table}{_where(conditions)}"


def _draw_ranking(rng: Random) -> Content:
    table = _table(rng)
    by = rng.choice(_columns(table, numbers=True))
    column = rng.choice([each for each in TABLES[table] if each != by])
    return table, column, by, rng.choice(tuple(_ORDERS)), rng.randint(2, 9), _maybe(rng, table, (column, by))


def _ranking_fields(content: Content) -> dict[str, str]:
    table, column, by, order, limit, conditions = content
    towards, most = _ORDERS[order]
    shown = {"table": table, "columns": _plural(column), "by": by, "towards": towards, "most": most, "n": str(limit)}
    return shown | _styles(conditions)


def _ranking(content: Content) -> str:
    table, column, by, order, limit, conditions = content
    return f"SELECT {column} FROM {table}{_where(conditions)} ORDER BY {by} {order} LIMIT {limit}"


def _draw_grouped(rng: Random) -> Content:
    table = _table(rng)
    how, column = rng.choice(tuple(_TOTALS)), rng.choice(_columns(table, numbers=True))
    group = rng.choice(_columns(table, numbers=False))
    return table, how, column, _maybe(rng, table, (column, group)), group


def _grouped_fields(content: Content) -> dict[str, str]:
    return {**_total_fields(content[:4]), "group": content[4]}


def _grouped(content: Content) -> str:
    table, how, column, conditions, group = content
    return f"SELECT {group}, {how}({column}) FROM {table}{_where(conditions)} GROUP BY {group}"


def same_rows(answer: str, text: str) -> bool:
    """Whether both queries find the same rows; in the same order where the right one asks for an order."""
    right, found = rows_of(answer), rows_of(text.strip())
    if right is None or found is None:
        return False
    return right == found if " ORDER BY " in answer else sorted(map(repr, right)) == sorted(map(repr, found))


_SHOW = "[show|list|give me|find|get|select]"
_QUERY = "[write an SQL query|write SQL|give me an SQL query]"
_ALL = "[all|the|all the] {table}"
_WHICH = "[{whose}|{with}|{where}]"


def _row_wordings() -> tuple[str, ...]:
    what = f"the {{columns}} of {_ALL}{_WHICH}"
    return (
        *requests(f"{_SHOW} {what}", f"{_QUERY} for {what}", f"[look up|select] {what} in the table"),
        *questions(f"what are {what}", f"which {{columns}} do {_ALL}[{{whose}}|{{with}}] have"),
        *bare(f"SQL for {what}", f"[the|] {{columns}} of [all|the] {{table}}{_WHICH}"),
    )


def _count_wordings() -> tuple[str, ...]:
    return (
        *requests(
            f"count {_ALL}{_WHICH}",
            f"{_QUERY} [that counts|for the number of] [all|the] {{table}}{_WHICH}",
            f"[show|give me|find|get] the number of {{table}}{_WHICH}",
        ),
        *questions(
            f"how many {{table}} are there{_WHICH}",
            "how many {table}[{whose}|{with}] [are in the table|do we have]",
            f"what is the number of {{table}}{_WHICH}",
        ),
        *bare(f"[the|] number of {{table}}{_WHICH}", f"SQL for the number of {{table}}{_WHICH}"),
    )


def _total_wordings() -> tuple[str, ...]:
    what = f"the {{how}} {{column}} of {_ALL}{_WHICH}"
    return (
        *requests(f"{_SHOW} {what}", f"{_QUERY} for {what}"),
        *questions(f"what is {what}", f"which is {what}"),
        *bare(f"SQL for {what}", f"[the|] {{how}} {{column}} of [all|the] {{table}}{_WHICH}"),
    )


def _ranking_wordings() -> tuple[str, ...]:
    most = "the {columns} of the {n} {table}[{whose}|{where}] [with|that have] the {most} {by}"
    first = f"the first {{n}} {{columns}} of {_ALL}{_WHICH}"
    return (
        *requests(
            f"{_SHOW} {most}",
            f"{_SHOW} {first} [sorted|ordered] by {{by}} {{towards}}",
            f"{_QUERY} for {most}",
            f"[sort|order] [the|all] {{table}}{_WHICH} by {{by}} {{towards}} and {_SHOW} the first {{n}} {{columns}}",
        ),
        *questions(f"what are {most}", f"what are {first} [sorted|ordered] by {{by}} {{towards}}"),
        *bare(f"SQL for {most}"),
    )


def _grouped_wordings() -> tuple[str, ...]:
    what = f"the {{how}} {{column}} of {_ALL}{_WHICH}"
    return (
        *requests(
            f"{_SHOW} {what} [for each|per|by] {{group}}",
            f"for [each|every] {{group}}, {_SHOW} {what}",
            f"{_QUERY} for {what} [for each|per] {{group}}",
            f"group {_ALL}{_WHICH} by {{group}} and {_SHOW} the {{how}} {{column}}",
        ),
        *questions(f"what is {what} [for each|per|in each] {{group}}", f"for [each|every] {{group}}, what is {what}"),
        *bare(f"SQL for {what} [per|by] {{group}}", f"{{how}} {{column}} of [the|all] {{table}}{_WHICH} per {{group}}"),
    )


def tasks() -> tuple[Task, ...]:
    """All tasks of the domain."""
    kinds = (
        ("rows", _row_wordings(), _draw_rows, _rows_fields, _rows),
        ("number of rows", _count_wordings(), _draw_count, _count_fields, _count),
        ("totals", _total_wordings(), _draw_total, _total_fields, _total),
        ("rankings", _ranking_wordings(), _draw_ranking, _ranking_fields, _ranking),
        ("groups", _grouped_wordings(), _draw_grouped, _grouped_fields, _grouped),
    )
    return tuple(
        Task(name, "sql", wordings, draw, fields, answer, same_rows) for name, wordings, draw, fields, answer in kinds
    )
