"""Law L6 for every unit that is counted: full fits, one more is refused, with the list of what is needed."""

from rdujax.base.errors import CapacityError, describe


def check(unit: str, needs: dict[str, int], there: int, *, where: str, do: str) -> None:
    """Raises CapacityError where the needs, by name, sum to more units than there are."""
    needed = sum(needs.values())
    if needed <= there:
        return
    table = "".join(f"\n    {count:>6} {unit}s  {name}" for name, count in sorted(needs.items(), key=lambda n: -n[1]))
    raise CapacityError(
        describe(
            f"a kernel needs more {unit}s than there are",
            given=f"{needed} {unit}s, {needed - there} too many:{table}",
            allowed=f"{there} {unit}s",
            where=where,
            do=do,
        )
    )
