"""The project's own text, parsed once: files, imports with their true names, functions."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FOLDERS = ("rdujax", "experts", "benchmarks", "scripts", "tests")
TEXT_FOLDERS = (*PYTHON_FOLDERS, ".ci")


def relative(path: Path) -> str:
    """The path as a reader of the project writes it."""
    return path.relative_to(ROOT).as_posix()


def python_files(*folders: str) -> list[Path]:
    """Every Python file under the given folders of the project."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files() -> list[Path]:
    """Every file that belongs to the project: the top level's own files and all in its folders."""
    files = [path for path in ROOT.iterdir() if path.is_file() and not path.name.endswith(".lock")]
    files += [ROOT / "requirements.lock"]
    files += [path for folder in TEXT_FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in files if "__pycache__" not in path.parts and b"\0" not in path.read_bytes())


@cache
def parse(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(), str(path))


def module_name(path: Path) -> str:
    """The dotted name under which the file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Import:
    """One imported name: `from module import name as bound`, or `import module as bound` with an empty name."""

    module: str
    name: str
    bound: str
    line: int

    @property
    def dotted(self) -> str:
        """The full name of the imported thing."""
        return f"{self.module}.{self.name}" if self.name else self.module


def imports(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import of a tree, those inside functions and conditions too; relative ones are made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", alias.asname or alias.name.partition(".")[0], node.lineno)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = module.split(".")
                base = base[: len(base) - node.level + is_package]
                source = ".".join([*base, source] if source else base)
            for alias in node.names:
                yield Import(source, alias.name, alias.asname or alias.name, node.lineno)


def file_imports(path: Path) -> list[Import]:
    """Every import of a file."""
    return list(imports(parse(path), module_name(path), is_package=path.name == "__init__.py"))


def true_names(tree: ast.AST, module: str = "") -> dict[str, str]:
    """What each imported name stands for: {"jnp": "jax.numpy", "exp": "jax.lax.exp", "jax": "jax"}."""
    names = {}
    for each in imports(tree, module):
        # `import jax.numpy` binds only `jax`; `import jax.numpy as jnp` binds the module itself.
        binds_root = not each.name and each.bound == each.module.partition(".")[0]
        names[each.bound] = each.bound if binds_root else each.dotted
    return names


def dotted_name(node: ast.AST, names: dict[str, str]) -> str:
    """The true dotted name of `jnp.linalg.norm` and the like; empty when it does not start at an import."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join([names[node.id], *reversed(attributes)])


FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    """Every function of a tree, methods and nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
