"""Home copies of experts: checkpoints of a disk that were read once, verified, and stand in for DDR.

    store = Store.of_folders({"math": folder, ...});  model = load(store.home("math"))

An expert is brought home when it is first asked for: its files are copied, piece by piece, and their SHA-256 has to be
the one that was known before. Whatever happens to the original from then on changes no answer; where it was changed
before, this expert is refused and the others go on. A home copy lies on a disk and takes no memory of the process
(`experts.checkpoints.load` maps it and reads what is activated, tensor by tensor), so that a store of a thousand
experts needs no more memory than one.

Homes lie in a folder of their own under the temporary directory, which is removed with the store; one that a killed
process left behind is removed by the next store.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from experts.checkpoints import CheckpointError, digest
from rdujax.base.errors import ArgumentError, RduError, describe, unknown

PREFIX = "rdujax-homes-"  # of a store's folder; behind it the process that it belongs to


class StoreError(RduError, OSError):
    """An expert that cannot be brought home. Nothing of it was kept, and others are as they were."""


@dataclass(frozen=True)
class Original:
    """A checkpoint on a disk, and the SHA-256 that all of its files have together (`experts.checkpoints.digest`)."""

    folder: Path
    sha256: str


class Store:
    """Experts by name. Bringing home is done once for each, also where several threads ask at the same time.

    scratch: where homes lie; the temporary directory by default. Raises ArgumentError for a name that is no name of a
    folder.
    """

    def __init__(self, originals: Mapping[str, Original], scratch: Path | None = None):
        for name in originals:
            if name in ("", ".", "..") or any(letter in name for letter in "/\\\0"):
                raise ArgumentError(describe("the name of an expert", given=repr(name), allowed="a bare name"))
        self._originals = dict(originals)
        parent = scratch or Path(tempfile.gettempdir())
        for left in _left_behind(parent):
            shutil.rmtree(left, ignore_errors=True)
        self._own = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        self._homes, self._coming = self._own / "home", self._own / "coming"
        self._homes.mkdir()
        self._coming.mkdir()
        self._locks = {name: Lock() for name in originals}

    @classmethod
    def of_folders(cls, folders: Mapping[str, Path], scratch: Path | None = None) -> "Store":
        """A store of checkpoints as they are now. Raises CheckpointError where one is no directory of files."""
        return cls({name: Original(folder, digest(folder)) for name, folder in folders.items()}, scratch)

    @property
    def names(self) -> tuple[str, ...]:
        """All experts, at home or not."""
        return tuple(self._originals)

    def is_home(self, name: str) -> bool:
        """Whether an expert was brought home. Raises UnknownNameError for one that the store does not have."""
        self._original(name)
        return (self._homes / name).is_dir()

    def home(self, name: str) -> Path:
        """The folder of an expert's home copy, brought home if it is not.

        Raises UnknownNameError for an expert that the store does not have, StoreError where it cannot be brought home:
        its files are gone, are others than they were, or do not fit on the disk.
        """
        original, home = self._original(name), self._homes / name
        with self._locks[name]:
            if not home.is_dir():
                self._bring(name, original, home)
        return home

    def close(self) -> None:
        """Removes all home copies."""
        shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _original(self, name: str) -> Original:
        if name not in self._originals:
            raise unknown("expert", name, self._originals)
        return self._originals[name]

    def _bring(self, name: str, original: Original, home: Path) -> None:
        """Copies elsewhere, and moves it home once it is whole and right."""
        coming = self._coming / name
        try:
            shutil.copytree(original.folder, coming)
            found = digest(coming)
            if found != original.sha256:
                raise StoreError(
                    describe(f"expert {name!r} is not what it was", given=f"SHA-256 {found}", allowed=original.sha256,
                             where=str(original.folder), do="put its files back, and ask again")
                )  # fmt: skip
            coming.rename(home)
        except StoreError:
            raise
        except (OSError, CheckpointError) as error:
            raise StoreError(
                describe(f"expert {name!r} cannot be brought home: {error}", where=str(original.folder))
            ) from error
        finally:
            shutil.rmtree(coming, ignore_errors=True)


def _left_behind(parent: Path) -> Iterator[Path]:
    """Folders of stores whose process is no more."""
    for path in parent.glob(f"{PREFIX}*"):
        process = path.name.removeprefix(PREFIX).partition("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            yield path


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
