"""Small files, small functions, and a docstring on everything public."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storeys.source import PYTHON_FOLDERS, FunctionNode, functions, parse, python_files, relative

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
ALL = python_files(*PYTHON_FOLDERS)
LIBRARY = python_files("rdujax", "experts", "benchmarks", "scripts")


def has_docstring(node: ast.AST) -> bool:
    """Whether a module, class or function begins with a docstring that is not blank."""
    return bool((ast.get_docstring(node) or "").strip())  # pyright: ignore[reportArgumentType]


def code_lines(node: FunctionNode) -> int:
    """Lines of a function without its decorators and docstring: documentation is never too long."""
    start = node.body[0].end_lineno + 1 if has_docstring(node) else node.lineno + 1
    return node.end_lineno - start + 2


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_files_are_small(path: Path):
    assert len(path.read_text().splitlines()) <= MOST_LINES_OF_A_FILE


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_functions_are_small(path: Path):
    sizes = {f"{node.name} (line {node.lineno})": code_lines(node) for node in functions(parse(path))}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FUNCTION} == {}


def undocumented(node: ast.AST, name: str) -> Iterator[str]:
    """Names of the public things at and below `node` that have no docstring."""
    if not has_docstring(node):
        yield name
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | FunctionNode) or child.name.startswith("_"):
            continue
        if isinstance(child, FunctionNode) and isinstance(node, FunctionNode):
            continue  # a function inside a function is nobody's to call
        if any(isinstance(each, ast.Attribute) and each.attr in ("setter", "defjvp") for each in child.decorator_list):
            continue  # the second half of something that has its docstring
        yield from undocumented(child, f"{name}.{child.name}")


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_everything_public_has_a_docstring(path: Path):
    assert list(undocumented(parse(path), relative(path))) == []


def test_the_docstring_rule_catches():
    text = '"""A."""\ndef f(): ...\nclass C:\n    """C."""\n    def g(self): ...\n    def _h(self): ...\n'
    assert list(undocumented(ast.parse(text), "file")) == ["file.f", "file.C.g"]
    assert list(undocumented(ast.parse("x = 1"), "file")) == ["file"]


def test_the_size_rule_counts_code_and_not_documentation():
    body = "\n".join("    x = 1" for _ in range(3))
    node = next(functions(ast.parse(f'def f():\n    """A.\n\n    B.\n    """\n{body}\n')))
    assert code_lines(node) == 4
    assert code_lines(next(functions(ast.parse(f"def f():\n{body}\n")))) == 4


def test_no_two_files_are_the_same():
    seen = defaultdict(list)
    for path in ALL:
        if text := path.read_text().strip():
            seen[text].append(relative(path))
    assert [names for names in seen.values() if len(names) > 1] == []


def test_no_two_functions_are_copies():
    """A body of five statements or more, docstring aside, is written once."""
    seen = defaultdict(list)
    for path in ALL:
        for node in functions(parse(path)):
            body = node.body[has_docstring(node) :]
            if sum(isinstance(each, ast.stmt) for line in body for each in ast.walk(line)) >= 5:
                seen["\n".join(map(ast.dump, body))].append(f"{relative(path)}: {node.name}")
    assert [names for names in seen.values() if len(names) > 1] == []
