"""Facts of the hardware: numbers that carry their unit, their source and how far they can be trusted (law L7).

A record of facts (a unit's configuration, a whole machine) is a frozen dataclass and a pytree whose leaves are
the values of its facts, so that `jax.grad` of a price with respect to a machine is a price's sensitivity to
every number it rests on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from functools import partial
from math import isfinite
from typing import Any, Literal, TypeVar, dataclass_transform

import jax
import numpy as np

from rdujax.base.compat import is_tracer
from rdujax.base.errors import ArgumentError, describe, unknown

Confidence = Literal["stated", "derived", "assumed", "overridden"]
CONFIDENCES: tuple[Confidence, ...] = ("stated", "derived", "assumed", "overridden")

# Units of things that come in whole numbers.
COUNTED = frozenset(
    "PCUs PMUs AGCUs GPUs cells lanes stages banks tiles dies rows columns wires packets flows links ports sockets "
    "segments counters cycles turns/cycle bytes bytes/cycle packets/cycle addresses/cycle".split()
)

R = TypeVar("R")


@partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["unit", "source", "confidence"])
@dataclass(frozen=True)
class Fact:
    """One number of the hardware.

    value: a Python number (or, under a JAX transformation, a tracer standing for one).
    unit: the unit of the value, spelled out ("bytes", "bytes/s", "Hz", "1").
    source: where it was read, how it was derived, or why it was assumed.
    confidence: stated (read in a primary text), derived (computed from stated numbers), assumed (not public), or
        overridden (set by a user).
    """

    value: Any
    unit: str
    source: str
    confidence: Confidence

    def __post_init__(self) -> None:
        if self.confidence not in CONFIDENCES:
            raise unknown("confidence of a fact", self.confidence, CONFIDENCES)
        if not self.unit or not self.source:
            raise ArgumentError(describe("a fact needs a unit and a source", given=repr(self)))
        if isinstance(self.value, bool | str | int | float | Fraction):
            _check_value(self.value, self.unit, self.source)

    def override(self, value: Any) -> "Fact":
        """The fact with another value, marked as the user's, its former value kept in the source.

        value: a Python or NumPy number that the unit allows, or a real JAX scalar (traced, or checked if it is not).
        Raises ArgumentError for anything else.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if not is_tracer(value):
            is_array = isinstance(value, jax.Array) and value.ndim == 0 and value.dtype.kind == "f"
            if not is_array and not isinstance(value, int | float | Fraction):
                raise ArgumentError(
                    describe("a fact that cannot be", given=f"{value!r} {self.unit}", allowed="a real number")
                )
            _check_value(float(value) if is_array else value, self.unit, self.source, relaxed=is_array)
        return Fact(value, self.unit, f"set by the user; was {self.value} ({self.source})", "overridden")

    def __str__(self) -> str:
        return f"{self.value} {self.unit} ({self.confidence}: {self.source})"


def _is_number(x: Any) -> bool:
    return not isinstance(x, bool | str) and isfinite(x)


def _check_value(x: Any, unit: str, where: str, *, relaxed: bool = False) -> None:
    """Refuses a plain number that its unit does not allow; what JAX traces cannot be looked at.

    relaxed: what comes in whole numbers may lie between them, as it does while a machine is tuned.
    """
    number = _is_number(x)
    if unit == "1":
        fits, allowed = number and 0 < x <= 1, "a share, greater than 0 and at most 1"
    elif unit == "s":
        fits, allowed = number and x >= 0, "a finite number, 0 or more"
    elif unit in COUNTED:
        fits, allowed = number and x > 0 and (relaxed or isinstance(x, int)), "a whole number, 1 or more"
    else:
        fits, allowed = number and x > 0, "a finite number greater than 0"
    if not fits:
        raise ArgumentError(describe("a fact that cannot be", given=f"{x!r} {unit}", allowed=allowed, where=where))


@dataclass_transform(frozen_default=True)
def record(*static: str):
    """Class decorator: a frozen dataclass whose fields are facts and records, except the `static` ones (strings)."""

    def wrap(cls: type[R]) -> type[R]:
        cls = dataclass(frozen=True)(cls)
        data = [f.name for f in fields(cls) if f.name not in static]  # type: ignore[arg-type]
        jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=list(static))
        return cls

    return wrap


def walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Fact]]:
    """Every fact below a record with its dotted path, in order of declaration."""
    for field in fields(node):
        value = getattr(node, field.name)
        path = f"{prefix}{field.name}"
        if isinstance(value, Fact):
            yield path, value
        elif is_dataclass(value) and not isinstance(value, type):
            yield from walk(value, path + ".")


def override(node: R, path: str, value: Any) -> R:
    """The record with the fact at the dotted `path` overridden.

    Raises UnknownNameError for a path that names no fact, with the nearest one.
    """
    paths = [known for known, _ in walk(node)]
    if path not in paths:
        raise unknown("fact", path, paths)
    try:
        return _override(node, path.split("."), value)
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from None


def _override(node: Any, parts: list[str], value: Any) -> Any:
    child = getattr(node, parts[0])
    new = child.override(value) if len(parts) == 1 else _override(child, parts[1:], value)
    return replace(node, **{parts[0]: new})
