"""Writes requirements.lock from what pip resolves for pyproject.toml under two interpreters."""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every package of the environment that ./scripts sets up, for Python 3.11 and for newer ones.
# Made by ./scripts/lock from pyproject.toml; installed with pip install --no-deps -r requirements.lock.
"""


def requirements() -> list[str]:
    """The direct dependencies of the project and of all its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]


def resolve(python: str) -> dict[str, str]:
    """Name and version of every package pip would install in an empty environment of that interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        report = Path(folder, "report.json")
        options = ["install", "-qq", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([f"{folder}/bin/python", "-m", "pip", *options, *requirements()], check=True)
        found = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    return {each["name"].lower().replace("_", "-"): each["version"] for each in found}


def merge(oldest: dict[str, str], newer: dict[str, str]) -> list[str]:
    """One line a pin, with a marker where the two interpreters differ."""
    lines = []
    for name in sorted(oldest.keys() | newer.keys()):
        if oldest.get(name) == newer.get(name):
            lines.append(f"{name}=={oldest[name]}")
            continue
        if name in oldest:
            lines.append(f'{name}=={oldest[name]} ; python_version < "3.12"')
        if name in newer:
            lines.append(f'{name}=={newer[name]} ; python_version >= "3.12"')
    return lines


def main(oldest: str, newer: str) -> None:
    """Resolves under both interpreters and writes the lock."""
    lines = merge(resolve(oldest), resolve(newer))
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"requirements.lock: {len(lines)} pins", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
