"""Every error the library raises on purpose, and the one shape their messages have.

A message is written for a reader who has never seen the code: what is wrong, what was given, what is
allowed, where (the argument, the node, the line of the user's source), and what to do about it.
Each class also inherits the built-in exception that a caller would expect to catch.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RduError(Exception):
    """Root of the library's own errors."""


class ShapeError(RduError, ValueError):
    """Ranks, lengths or tiles that do not fit together."""


class FormatError(RduError, TypeError):
    """A dtype or number format that the machine does not have."""


class ArgumentError(RduError, ValueError):
    """A value outside what an argument allows."""


class UnknownNameError(RduError, LookupError):
    """A name that no registry holds."""


class UnsupportedError(RduError, NotImplementedError):
    """A legal JAX program that uses something without a rule."""


class CapacityError(RduError, ValueError):
    """More of a physical resource is needed than the machine has (law L6)."""


class ConcretenessError(RduError, TypeError):
    """An abstract value (tracer or shape) where a value is needed."""


def describe(problem: str, *, given: object = None, allowed: object = None, where: str = "", do: str = "") -> str:
    """Lays out a message: the problem first, then one indented line for each thing that is known."""
    lines = [problem]
    for name, text in (("given", given), ("allowed", allowed), ("where", where), ("do", do)):
        if text is not None and text != "":
            lines.append(f"  {name + ':':<9}{text}")
    return "\n".join(lines)


def unknown(kind: str, given: object, allowed: Iterable[str], *, where: str = "", do: str = "") -> UnknownNameError:
    """An error for a name that is not in `allowed`, with the near miss if there is one."""
    names = sorted(allowed)
    close = get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(
        describe(
            f"unknown {kind}",
            given=repr(given),
            allowed=", ".join(map(repr, names)) or "nothing is registered",
            where=where,
            do="; ".join(part for part in (hint, do) if part),
        )
    )
