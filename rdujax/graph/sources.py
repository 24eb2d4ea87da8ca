"""Lines of the user's source in few words: "model.py:12, 14" for a report's row or the place of an error."""

import os
import re
from collections.abc import Iterable
from functools import lru_cache

SHOWN = 3  # lines: a row of a report stays one line
_LINE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(:\d+)?( \(.*\))?")


def lines(sources: Iterable[str]) -> tuple[str, ...]:
    """The lines that these are, each once and in their order; a source may be several, with "; " between them."""
    return tuple(dict.fromkeys(line for source in sources for line in source.split("; ") if line))


def short(sources: Iterable[str], most: int = SHOWN) -> str:
    """The lines by the names of their files, without folders, columns and functions; "" where none is known."""
    places = list(dict.fromkeys(map(_place, lines(sources))))
    words, before = "", None
    for file, number in places[:most]:
        same = file == before and number
        words += (", " if words else "") + (number if same else f"{file}:{number}" if number else file)
        before = file
    return words + (f" + {len(places) - most} more" if len(places) > most else "")


@lru_cache(maxsize=4096)  # a program has few lines and many nodes
def _place(source: str) -> tuple[str, str]:
    """(name of the file, number of the line) of "file:line:column (function)"; no number where JAX tells none."""
    found = _LINE.fullmatch(source)
    if found is None:
        return os.path.basename(source.partition(" (")[0]), ""
    return os.path.basename(found["file"]), found["line"]
