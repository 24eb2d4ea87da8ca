"""Numbers in words, as reports, errors and printed prices say them."""


def counted(number: int, thing: str) -> str:
    """A number of things in words: "1 turn", "1,024 turns"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
