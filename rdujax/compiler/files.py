"""Files that appear complete or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from rdujax.base.errors import ArgumentError, describe


def with_whole_file(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Fills a file beside `path` and moves it there: a reader never sees half of it, and an error leaves what was.

    Raises ArgumentError where there is no such folder.
    """
    if not path.parent.is_dir():
        raise ArgumentError(describe("no folder to write the file into", given=str(path.parent), where=str(path)))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            fill(file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
