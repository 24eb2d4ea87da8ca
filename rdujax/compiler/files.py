"""Files that appear complete or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from rdujax.base.errors import ArgumentError, describe


def path_of(path: str | os.PathLike[str]) -> Path:
    """The path by which a user names a file; raises ArgumentError for what names none."""
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ArgumentError(describe("no path to write a file to", given=repr(path), allowed="a str or pathlib.Path"))
    return Path(name)


def with_whole_file(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Fills a file beside `path` and moves it there: a reader never sees half of it, and an error leaves what was.

    Raises ArgumentError, which names `path`, where there is no such folder, where `path` is a folder itself, and where
    the system does not let the file be written.
    """
    if not os.path.isdir(path.parent):
        raise ArgumentError(describe("no folder to write the file into", given=str(path.parent), where=str(path)))
    if os.path.isdir(path):
        raise ArgumentError(describe("a folder where the file would be", given=str(path), do="name a file in it"))
    partial = path.with_name(f".{uuid4().hex}.partial")  # short, however long the name of the file is
    try:
        with partial.open("xb") as file:
            fill(file)
        partial.replace(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise ArgumentError(describe(f"the file cannot be written: {why}", given=str(path))) from error
    finally:
        partial.unlink(missing_ok=True)
