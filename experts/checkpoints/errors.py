"""The one error of this package, and the shape of its message."""

from collections.abc import Collection


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written as it is. Nothing of it was loaded, and nothing was replaced."""


def refused(
    problem: str, *, given: object = "", allowed: object = "", where: object = "", do: str = ""
) -> CheckpointError:
    """An error whose message says the problem, then what was given, what is allowed, in which file, what to do."""
    known = {"given": given, "allowed": allowed, "where": where, "do": do}
    lines = [f"  {word + ':':<9}{value}" for word, value in known.items() if value != ""]
    return CheckpointError("\n".join([problem, *lines]))


def listed(names: Collection[str], most: int = 5) -> str:
    """The first names in order, and how many more there are."""
    first = ", ".join(sorted(names)[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"
