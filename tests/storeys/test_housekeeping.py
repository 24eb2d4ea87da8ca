"""The project as a whole: folders, read-mes, scripts, pins, and words."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.storeys.source import PYTHON_FOLDERS, ROOT, python_files, relative, text_files
from tests.storeys.test_imports import STOREYS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.name.startswith("_"))
TEXTS = text_files()
BUILD_OUTPUTS = {"build", "dist", "rdujax.egg-info"}


def text(path: Path) -> str:
    """The file as text."""
    return path.read_text(encoding="utf-8")


def test_no_folder_but_those_of_the_plan():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - BUILD_OUTPUTS - {"__pycache__"} <= set(PYTHON_FOLDERS)


def test_no_file_at_the_top_but_those_of_the_plan():
    files = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert files <= {"pyproject.toml", "README.md", "LICENSE", "requirements.lock"}


def test_no_room_but_those_of_the_plan():
    rooms = {path.name for path in (ROOT / "rdujax").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(STOREYS)


@pytest.mark.parametrize("room", sorted({path.parent for path in python_files("rdujax")}), ids=relative)
def test_each_room_has_a_short_readme(room: Path):
    readme = room / "README.md"
    if room == ROOT / "rdujax":
        readme = ROOT / "README.md"
        assert readme.is_file(), "the project has no README.md"
        return
    if room.parent != ROOT / "rdujax":
        assert (room.parent / "README.md").is_file() or readme.is_file()
        return
    assert readme.is_file(), f"{relative(room)} has no README.md"
    assert 3 <= len(text(readme).splitlines()) <= 40


def test_the_type_checker_sees_every_folder_but_the_tests():
    written = {folder for folder in PYTHON_FOLDERS if python_files(folder)} - {"tests"}
    assert set(PROJECT["tool"]["basedpyright"]["include"]) == written


def test_configured_paths_exist():
    assert all((ROOT / path).is_dir() for path in PROJECT["tool"]["pytest"]["ini_options"]["testpaths"])
    assert all(list(ROOT.glob(pattern)) for pattern in PROJECT["tool"]["ruff"]["lint"]["per-file-ignores"])
    assert all((ROOT / path).is_file() for path in [PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]])


PIN = re.compile(r'([a-z0-9-]+)==([0-9][\w.]*)(?: ; (python_version (?:<|>=) "3\.12"))?')


def test_the_lock_holds_pins_and_nothing_else():
    lines = [line for line in text(ROOT / "requirements.lock").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    keys = [PIN.fullmatch(line).group(1, 3) for line in lines]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("python_version", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_the_declared_dependencies(python_version: str):
    lines = [line for line in text(ROOT / "requirements.lock").splitlines() if not line.startswith("#")]
    pins = {
        pin.name: Version(str(pin.specifier).removeprefix("=="))
        for pin in map(Requirement, lines)
        if pin.marker is None or pin.marker.evaluate({"python_version": python_version})
    }
    lists = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in (Requirement(line) for each in lists for line in each):
        assert requirement.name in pins
        assert pins[requirement.name] in requirement.specifier


def test_set_up_names_no_package_index():
    files = [ROOT / "requirements.lock", ROOT / "pyproject.toml", ROOT / ".ci" / "run", *(ROOT / "scripts").iterdir()]
    asked = re.compile(r"://|--(extra-)?index-url|--find-links|--trusted-host|\s-i\s+\S+\.")
    assert {relative(path): found for path in files if path.is_file() and (found := asked.findall(text(path)))} == {}


# A machine's folders, and papers that are not in the project, mean nothing to its reader.
MACHINE_PATH = re.compile(r"(?<![\w.\]}$/*])/(?:home|root|work|tmp|opt|mnt|srv|Users|usr/local)/\w+")
MENTIONED_PAPER = re.compile(r"\b[\w/-]+\.md\b")
TICKET = re.compile(r"(?i:\b(?:issue|ticket|pull request|PR|MR) #?\d+\b)|\b(?:TODO|FIXME|XXX)\b")


@pytest.mark.parametrize("path", [path for path in TEXTS if path != Path(__file__)], ids=relative)
def test_files_speak_only_of_the_project(path: Path):
    words = text(path)
    assert MACHINE_PATH.findall(words) == []
    assert TICKET.findall(words) == []
    papers = {paper for each in TEXTS if each.suffix == ".md" for paper in (each.name, relative(each))}
    folder = path.parent.relative_to(ROOT).as_posix()
    assert {name for name in MENTIONED_PAPER.findall(words) if not {name, f"{folder}/{name}"} & papers} == set()


def test_the_rule_of_words_catches():
    assert MACHINE_PATH.search("see /home/someone/notes") and MACHINE_PATH.search('open("/tmp/x")')
    assert not MACHINE_PATH.search("#!/usr/bin/env bash") and not MACHINE_PATH.search("tests/work/x")
    assert TICKET.search("as issue 12 says") and TICKET.search("# TODO") and not TICKET.search("issue width 4")
    assert MENTIONED_PAPER.findall("law N4 of NOTES.md") == ["NOTES.md"]


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / ".ci" / "run"], ids=relative)
def test_scripts_can_be_run(path: Path):
    assert os.access(path, os.X_OK)
    assert text(path).startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text(path)
    assert subprocess.run(["bash", "-n", path]).returncode == 0


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.name != "demo"], ids=relative)
def test_scripts_explain_themselves_from_any_folder(path: Path, tmp_path: Path):
    result = subprocess.run([path, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0
    assert f"./scripts/{path.name}" in result.stdout
    assert result.stderr == ""


def test_helpers_of_scripts_are_used():
    helpers = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and path.name.startswith("_")]
    assert all(any(helper.name in text(script) for script in SCRIPTS) for helper in helpers)
