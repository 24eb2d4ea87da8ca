"""A directory that is replaced in one step."""

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from experts.checkpoints.errors import refused

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def replaced(directory: Path, own: tuple[str, ...]) -> Iterator[Path]:
    """An empty folder beside `directory` that takes its place when the block is left without an error.

    What of the directory fits none of the patterns `own` is carried over. An error, an interruption too, removes the
    folder and leaves the directory as it was; a process that is killed leaves the folder behind, which nobody reads.
    """
    directory = Path(os.path.abspath(directory))
    if os.path.lexists(directory) and (directory.is_symlink() or not directory.is_dir()):
        raise refused("a checkpoint is saved to a directory", given=directory, do="name one, or nothing yet there")
    directory.parent.mkdir(parents=True, exist_ok=True)
    folder = directory.with_name(f".{directory.name}.saving-{secrets.token_hex(6)}")
    folder.mkdir()
    try:
        yield folder
        if directory.exists():
            _carry_over(directory, folder, own)
        _sync(folder)
        exchange(folder, directory) if directory.exists() else os.rename(folder, directory)
        _sync_one(directory.parent)
    finally:
        # By now the old directory where all went well, else the new one.
        shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """A file of these bytes, which appears whole or not at all in the place of an older one."""
    beside = path.with_name(f".{path.name}.saving-{secrets.token_hex(6)}")
    try:
        beside.write_bytes(content)
        _sync_one(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> None:
    """Two directories change places, in one step.

    Where the system has no such step, `other` is away for a moment, complete, under a name beside it, and then removed.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old one
        rename = None
    if rename is None or rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        replace_in_steps(one, other)  # also where the file system knows no exchange


def replace_in_steps(one: Path, other: Path) -> None:
    """`one` takes the place of `other`, which is put back if that fails, and removed if not."""
    away = other.with_name(f"{one.name}.replaced")
    os.rename(other, away)
    try:
        os.rename(one, other)
    except BaseException:
        os.rename(away, other)
        raise
    shutil.rmtree(away, ignore_errors=True)


def _carry_over(directory: Path, folder: Path, own: tuple[str, ...]) -> None:
    """Everything but the checkpoint's own files; as second names of the same files where that is possible."""
    for path in directory.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in own):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, folder / path.name, symlinks=True, copy_function=_second_name)
        else:
            _second_name(path, folder / path.name)
    shutil.copymode(directory, folder)


def _second_name(source: str | Path, target: str | Path) -> str | Path:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _sync(folder: Path) -> None:
    """All files and folders in it, and itself, are on the disk."""
    for at, _, names in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(at, name)):
                _sync_one(Path(at, name))
        _sync_one(Path(at))


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
