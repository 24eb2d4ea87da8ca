"""Texts that every Python brings along: the modules of its standard library."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from experts.data.wordings import digest

PARTS = ("train", "held")
HELD_IN = 10  # one module in so many is held out

# What others installed, what tests, data of tools, and what is generated for one machine.
_SKIPPED = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "idle_test",
    "lib2to3",
    "turtledemo",
    "__pycache__",
}
_GENERATED = ("_sysconfigdata", "config-")


def part_of(module: str) -> str:
    """Whether a module is trained on or held out, by its name alone."""
    return PARTS[digest(module) % HELD_IN == 0]


def library_texts(part: str | None = None) -> Iterator[tuple[str, str]]:
    """Name and source of each module of the standard library, sorted by name; of one part, or of both."""
    if part is not None and part not in PARTS:
        raise ValueError(f"parts of the library are {', '.join(PARTS)}, given: {part!r}")
    return _texts(part)


def _texts(part: str | None) -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = {_name(path.relative_to(root)): path for path in root.rglob("*.py")}
    for name in sorted(found):
        if not _wanted(found[name].relative_to(root)) or part not in (None, part_of(name)):
            continue
        try:
            yield name, found[name].read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def _wanted(path: Path) -> bool:
    return _SKIPPED.isdisjoint(path.parts) and not any(part.startswith(_GENERATED) for part in path.parts)


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
