"""Words and columns of what is printed for a person."""

from typing import Any

ROWS = 12  # of a long table, in the printed form; data have all


def percent(share: float) -> str:
    """A share in words; little is not nothing."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def table(head: list[str], rows: list[list[Any]], indent: str = "    ", *, right: bool = False) -> str:
    """Aligned text columns: the first left, the others right; the last left too unless `right`."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    to_left = {0} if right else {0, len(head) - 1}

    def line(row: list[str]) -> str:
        parts = [c.ljust(w) if i in to_left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return (indent + "  ".join(parts)).rstrip()

    return "\n".join(line(row) for row in cells)
