"""Machine variants as columns of numbers, one for each fact that varies; what cannot be is refused before any price."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from rdujax.base.compat import is_tracer
from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, ShapeError, describe, unknown
from rdujax.base.facts import COUNTED, Fact
from rdujax.machines.machine import Machine

MOST_VARIANTS = 10**8
EXAMPLE = '{"hbm.bandwidth_bytes_per_s": [1.6e12, 2.0e12]}'


def columns(machine: Machine, values: Any, grid: bool) -> dict[str, np.ndarray]:
    """The values of every fact, by its path, all of the shape of the sweep: int64 of what is counted, or float64.

    values: [n] by path. grid: every value with every other, [n of the first, n of the second ...]; or side by side,
    [n]. Raises UnknownNameError for a path that names no fact, ConcretenessError for traced values, FormatError for
    what are no numbers, ShapeError for what is not one row or not as long as the others, ArgumentError for a value that
    its fact cannot have and for more variants than are priced at once.
    """
    if not isinstance(values, Mapping) or not values:
        raise ArgumentError(describe("values of facts to sweep over", given=repr(values), allowed=f"such as {EXAMPLE}"))
    facts = machine.facts()
    for path in values:
        if path not in facts:
            raise unknown("fact", path, facts)
    rows = {path: _checked(machine, path, facts[path], _row(path, row)) for path, row in values.items()}
    lengths = {path: len(row) for path, row in rows.items()}
    if not grid and len(set(lengths.values())) > 1:
        raise ShapeError(
            describe(
                "variants side by side have one value of every fact",
                given=", ".join(f"{n:,} of {path}" for path, n in lengths.items()),
                allowed="rows of equal length",
                do="grid=True prices every value with every other",
            )
        )
    shape = tuple(lengths.values()) if grid else (min(lengths.values()),)
    if prod(shape) > MOST_VARIANTS:
        given = f"{prod(shape):,} variants" + (f", {' x '.join(f'{n:,}' for n in shape)}" if grid else "")
        raise ArgumentError(
            describe("more variants than fit in memory", given=given, allowed=f"{MOST_VARIANTS:,}", do="sweep in parts")
        )
    return {path: _spread(row, i if grid else 0, shape) for i, (path, row) in enumerate(rows.items())}


def _spread(row: np.ndarray, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    """A row along one axis of the sweep, read only and without a copy."""
    return np.broadcast_to(row.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


def _row(path: str, given: Any) -> np.ndarray:
    """What was given of a fact as int64 or float64 [n]."""
    each = list(given) if isinstance(given, list | tuple | range) else [given]
    if any(is_tracer(x) for x in each):
        raise ConcretenessError(
            describe(
                "a sweep needs values",
                given="tracers",
                allowed="numbers",
                where=path,
                do="program.cost(machine.replace(...)) is a function of facts that jit, vmap and grad go through",
            )
        )
    try:
        row = np.asarray(given)
    except (TypeError, ValueError):
        row = np.asarray(None)
    is_number = row.dtype.kind in "if" or row.dtype.kind == "u" and bool(np.all(row <= np.iinfo(np.int64).max))
    if not is_number or any(isinstance(x, bool | np.bool_) for x in each):
        allowed = "integers or floats, in a list or in an array of one axis"
        raise FormatError(describe("values of a fact are numbers", given=repr(given)[:80], allowed=allowed, where=path))
    if row.ndim != 1 or not len(row):
        raise ShapeError(
            describe(
                "values of a fact are a row of one or more",
                given=f"an array of shape {row.shape}",
                allowed="[n]",
                where=path,
                do="grid=True makes the product of rows" if row.ndim > 1 else "[value] is a row of one",
            )
        )
    return row.astype(np.float64 if row.dtype.kind == "f" else np.int64)


def _checked(machine: Machine, path: str, fact: Fact, row: np.ndarray) -> np.ndarray:
    """The values, if the fact can have every one of them; ArgumentError says which it cannot have.

    What a unit allows lies between two bounds, so that only the ends have to be asked for.
    """
    counted = fact.unit in COUNTED
    for at in (
        np.argmin(row),
        np.argmax(row),
        np.argmax(row != np.trunc(row)),
    ):  # where there is a NaN, the first of them
        value = row[at].item()
        try:
            machine.replace({path: int(value) if counted and value % 1 == 0 else value})
        except ArgumentError as error:
            raise ArgumentError(f"{error}\n  {'variant:':<9}{at:,} of {len(row):,}") from None
    return row.astype(np.int64 if counted else np.float64)
