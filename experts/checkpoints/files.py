"""Files of a directory that may have come from anywhere: none outside is opened, no JSON beyond a size is read."""

import json
from pathlib import Path
from typing import Any

from experts.checkpoints.errors import CheckpointError, refused


def inside(directory: Path, name: str, where: Path) -> Path:
    """The regular file of that name in the directory. Raises CheckpointError for any other file, or for none.

    where: the file that names it. A link is followed as long as it stays in the directory.
    """
    if name in ("", ".", "..") or any(letter in name for letter in "/\\\0"):
        raise refused("files lie in the checkpoint's directory", given=repr(name), allowed="a bare name", where=where)
    path = directory / name
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise refused(f"{name} cannot be opened: {error}", where=where, do="copy the complete checkpoint") from error
    if target.parent != directory.resolve():
        raise refused(
            "a file of a checkpoint is a link that leads out of its directory",
            given=f"{name} -> {target}",
            where=where,
            do="copy the file itself into the directory",
        )
    if not target.is_file():
        raise refused("a file of a checkpoint is not a regular file", given=name, where=where)
    return path


def read_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError for what is larger, not UTF-8, not JSON, or not an object."""
    inside(path.parent, path.name, path)
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise refused("a file of JSON is too large", allowed=f"{most_bytes} bytes", where=path)
        value = json.loads(content.decode(), parse_constant=_no_number)
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, endless digits
        raise refused(f"not a file of JSON: {error}", where=path, do="copy the file again") from error
    if not isinstance(value, dict):
        raise refused("the file holds no JSON object", given=type(value).__name__, where=path)
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")
