"""Every test can fail: it asserts something that is not a constant, prints nothing, and is never skipped in silence."""

import ast
from pathlib import Path

import pytest

from tests.storeys.source import FunctionNode, functions, parse, python_files, relative

TESTS = [path for path in python_files("tests") if path.name.startswith("test_")]
RAISES = {"raises", "warns", "fail"}


def called(node: ast.AST) -> str:
    """Name of the called function, without its package."""
    target = node.func if isinstance(node, ast.Call) else None
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""


def asserts_something(node: FunctionNode, others: dict[str, FunctionNode]) -> bool:
    """An assert on something computed, an expected error, or a call of something that is there to assert.

    That is a function named for it, or another one of the same file (`others`) that asserts.
    """
    for each in ast.walk(node):
        if isinstance(each, ast.Assert) and not isinstance(each.test, ast.Constant | ast.Tuple):
            return True
        name = called(each)
        if name in RAISES or name.startswith(("assert_", "check_")):
            return True
        rest = {key: value for key, value in others.items() if key != name}
        if name in others and asserts_something(others[name], rest):
            return True
    return False


def weak_spots(tree: ast.Module) -> list[str]:
    """What makes a test file say less than it seems to."""
    found = []
    others = {node.name: node for node in tree.body if isinstance(node, FunctionNode)}
    for node in functions(tree):
        if node.name.startswith("test_") and not asserts_something(node, others):
            found.append(f"line {node.lineno}: {node.name} asserts nothing")
    for node in ast.walk(tree):
        if called(node) == "print":
            found.append(f"line {node.lineno}: prints")
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple):
            found.append(f"line {node.lineno}: asserts a constant")
        if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body):
            found.append(f"line {node.lineno}: swallows an exception")
    top = [node.name for node in tree.body if isinstance(node, FunctionNode)]
    found += [f"{name} is defined twice: only the last one runs" for name in set(top) if top.count(name) > 1]
    return found


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_every_test_can_fail(path: Path):
    assert weak_spots(parse(path)) == []


@pytest.mark.parametrize("path", python_files("tests"), ids=relative)
def test_every_test_is_collected(path: Path):
    """A file with tests is named so that pytest finds it."""
    tests = [node.name for node in parse(path).body if isinstance(node, FunctionNode) and node.name.startswith("test_")]
    assert not tests or path.name.startswith("test_")


@pytest.mark.parametrize(
    "text",
    [
        "def test_a():\n    f()",
        "def f():\n    g()\ndef g():\n    f()\ndef test_a():\n    f()",
        "def test_a():\n    assert True",
        "def test_a():\n    assert (x == y, 'message')",
        "def test_a():\n    assert f()\n    print(1)",
        "def test_a():\n    assert f()\ndef test_a():\n    assert g()",
        "def test_a():\n    try:\n        assert f()\n    except Exception:\n        pass",
    ],
)
def test_the_rule_catches(text: str):
    assert weak_spots(ast.parse(text))


def test_the_rule_allows():
    assert weak_spots(ast.parse("def test_a():\n    with pytest.raises(ValueError):\n        f()")) == []
    assert weak_spots(ast.parse("def agree(x):\n    assert x\ndef test_a():\n    agree(f())")) == []
    assert weak_spots(ast.parse("def test_a():\n    assert_same_bits(x, y)")) == []
