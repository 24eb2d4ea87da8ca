"""One number for all bytes of a directory."""

import hashlib
import os
from os import PathLike
from pathlib import Path

from experts.checkpoints.errors import refused
from experts.checkpoints.files import inside


def digest(directory: str | PathLike[str]) -> str:
    """SHA-256 in hexadecimal over the names and bytes of every file in a directory, folders in it included.

    It is the SHA-256 of the lines "<SHA-256 of a file>  <path in the directory>", sorted by the paths' bytes: of what
    sha256sum prints. Files are read piece by piece. Raises CheckpointError for links that lead out of their folder, and
    for what is no regular file.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise refused("there is no such directory", given=folder)
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {os.fsencode(path.relative_to(folder).as_posix()): path for path in files}
    lines = hashlib.sha256()
    for name in sorted(names):
        if b"\n" in name or b"\\" in name:  # would make two directories read the same
            raise refused("a name with a line break or a backslash", given=name, where=folder)
        lines.update(_of_file(names[name]).encode() + b"  " + name + b"\n")
    return lines.hexdigest()


def _of_file(path: Path) -> str:
    with inside(path.parent, path.name, path.parent).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
