"""Law L6 for every unit that is counted: full fits, one more is refused, with the list of what is needed."""

from collections.abc import Mapping

from rdujax.base.errors import CapacityError, describe
from rdujax.ledger.numbers import whole


def check(
    unit: str, needs: Mapping[str, int], there: int, *, where: str = "", do: str, problem: str | None = None
) -> None:
    """Raises CapacityError where the needs, by name, sum to more units than there are, with all of them in a table.

    problem: the first line of the message; by default that a kernel needs too many. Raises ArgumentError for a need
    that is negative or no whole number: it would make room for another.
    """
    counts = {name: whole(count, what=f"{unit}s", where=name) for name, count in needs.items()}
    needed = sum(counts.values())
    if needed <= there:
        return
    width = max(6, len(f"{needed:,}"))
    most_first = sorted(counts.items(), key=lambda need: -need[1])
    table = "".join(f"\n    {count:>{width},} {unit}s  {name}" for name, count in most_first)
    raise CapacityError(
        describe(
            problem or f"a kernel needs more {unit}s than there are",
            given=f"{needed:,} {unit}s, {needed - there:,} too many:{table}",
            allowed=f"{there:,} {unit}s",
            where=where,
            do=do,
        )
    )
