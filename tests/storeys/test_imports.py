"""The house is built storey upon storey: a room knows only the storeys below it (law L9)."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.storeys.source import (
    ROOT,
    Import,
    dotted_name,
    file_imports,
    imports,
    module_name,
    parse,
    python_files,
    relative,
    true_names,
)

STOREYS = {
    "base": 0,
    "numerics": 1,
    "ledger": 2,
    "streams": 3,
    "units": 4,
    "machines": 5,
    "ops": 6,
    "graph": 7,
    "frontend": 8,
    "estimate": 8,
    "emulate": 8,
    "compiler": 9,
    "tune": 10,
    "coe": 11,
    "serve": 12,
    "cli": 13,
}
LIBRARY = [path for path in python_files("rdujax") if path != ROOT / "rdujax" / "__init__.py"]
IMPORTED_AS = {"scikit-learn": "sklearn", "pytest-xdist": "xdist", "orbax-checkpoint": "orbax"}


def upward(room: str, each: Import) -> str:
    """Why a room may not import this, or an empty string."""
    parts = each.dotted.split(".")
    if parts[0] != "rdujax":
        return ""
    if len(parts) < 2 or parts[1] not in STOREYS:
        return f"line {each.line}: {each.dotted}: name the room, not the whole house"
    if parts[1] != room and STOREYS[parts[1]] >= STOREYS[room]:
        return f"line {each.line}: {each.dotted}: storey {STOREYS[parts[1]]} is not below {room} ({STOREYS[room]})"
    return ""


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_a_room_imports_only_from_storeys_below(path: Path):
    room = path.relative_to(ROOT / "rdujax").parts[0]
    assert room in STOREYS, f"{relative(path)} is in no room of the house: {', '.join(STOREYS)}"
    assert [why for each in file_imports(path) if (why := upward(room, each))] == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("numerics", "from rdujax.ledger import cost"),
        ("estimate", "import rdujax.emulate.run as run"),
        ("emulate", "def f():\n    from rdujax.estimate import price"),
        ("units", "from rdujax import compile"),
        ("units", "import rdujax"),
        ("base", "from ..numerics import bits"),
        ("base", "from .. import numerics"),
    ],
)
def test_the_direction_rule_catches(room: str, line: str):
    found = [upward(room, each) for each in imports(ast.parse(line), f"rdujax.{room}.file")]
    assert any(found)


@pytest.mark.parametrize(
    "line", ["from rdujax.base import errors", "from rdujax import base", "from .bits import isolate"]
)
def test_the_direction_rule_allows(line: str):
    assert [why for each in imports(ast.parse(line), "rdujax.numerics.file") if (why := upward("numerics", each))] == []


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules in circles of imports, and those that lead there: what remains when leaves are taken away in turn."""
    rest = dict(graph)
    while leaves := [name for name, targets in rest.items() if not targets & rest.keys()]:
        for name in leaves:
            del rest[name]
    return sorted(rest)


def test_no_module_waits_for_itself():
    """No circle of imports, so that any module may be the first one loaded."""
    modules = {module_name(path) for path in LIBRARY}
    graph = {}
    for path in LIBRARY:
        named = {name for each in file_imports(path) for name in (each.dotted, each.module)}
        graph[module_name(path)] = (named & modules) - {module_name(path.parent / "__init__.py")}
    assert cycle(graph) == []


def test_the_rule_of_circles_catches():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_experts_know_nothing_of_the_emulator():
    known = {f"{relative(path)}: {each.dotted}" for path in python_files("experts") for each in file_imports(path)}
    assert not [each for each in known if each.partition(": ")[2].partition(".")[0] == "rdujax"]


def forbidden(where: str, tree: ast.Module) -> list[str]:
    """Star imports, dynamic imports, private and experimental JAX, and jax.extend outside its two homes."""
    found = []
    names = true_names(tree)
    mentioned = [(each.dotted, each.line) for each in imports(tree, where)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            mentioned.append((dotted_name(node, names), node.lineno))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            found.append(f"line {node.lineno}: imports by a string")
    for name, line in mentioned:
        parts = name.split(".")
        if parts[-1] == "*":
            found.append(f"line {line}: star import {name}")
        if name == "importlib.import_module":
            found.append(f"line {line}: imports by a string")
        if parts[0] == "jax" and any(part.startswith("_") and not part.startswith("__") for part in parts):
            found.append(f"line {line}: private {name}")
        if name.startswith("jax.experimental"):
            found.append(f"line {line}: experimental {name}")
        if name.startswith("jax.extend") and not where.startswith(("rdujax.base.compat", "rdujax.frontend", "tests.")):
            found.append(f"line {line}: {name} belongs in base/compat.py or frontend/")
    return found


@pytest.mark.parametrize("path", python_files("rdujax", "experts", "benchmarks", "scripts", "tests"), ids=relative)
def test_only_the_public_doors_of_other_packages_are_used(path: Path):
    assert forbidden(module_name(path), parse(path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "from jax.numpy import *",
        "from jax._src import core",
        "import jax._src.lax as lax",
        "import jax\nx = jax._src.core.Jaxpr",
        "from jax import _src",
        "from jax.experimental import pallas",
        "from jax import experimental",
        "import jax\njax.experimental.io_callback",
        "from jax.extend import core",
        "import jax\njax.extend.core.Jaxpr",
        "import importlib\nimportlib.import_module('jax')",
        "from importlib import import_module",
        "__import__('jax')",
    ],
)
def test_the_door_rule_catches(text: str):
    assert forbidden("rdujax.units.pcu", ast.parse(text))


@pytest.mark.parametrize("where", ["rdujax.base.compat", "rdujax.frontend.trace"])
def test_second_tier_jax_has_two_homes(where: str):
    assert forbidden(where, ast.parse("from jax.extend import core")) == []


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("rdujax", ["plot", "serve"]),
        ("experts", ["experts"]),
        ("benchmarks", ["plot"]),
        ("tests", ["test", "plot", "experts", "serve", "oracle"]),
    ],
)
def test_every_package_that_is_imported_is_declared(folder: str, extras: list[str]):
    text = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, optional = text["project"], text["project"]["optional-dependencies"] | text["dependency-groups"]
    lists = [project["dependencies"], *(optional[extra] for extra in extras)]
    packages = [Requirement(line).name for each in lists for line in each]
    # packaging and ml_dtypes are promised by pytest and by JAX themselves.
    known = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in packages} | {"packaging", "ml_dtypes"}
    own = {"rdujax", "experts", "benchmarks", "tests"}
    used = {each.dotted.partition(".")[0] for path in python_files(folder) for each in file_imports(path)}
    assert used - known - own - sys.stdlib_module_names == set()
