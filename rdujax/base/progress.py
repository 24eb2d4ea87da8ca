"""How far long work is: one changing line on standard error, only on a terminal."""

import sys


def progress(text: str) -> None:
    """Puts a text in the place of the one before; an empty text clears the line. Does nothing where no one looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
