"""Finds a benchmark by its name and runs it, or lists them all."""

import ast
import os
import runpy
import sys
from pathlib import Path

from rdujax.base.errors import UnknownNameError, unknown

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def benchmarks() -> dict[str, str]:
    """Name of each benchmark (a file, or a folder that runs) and the first line of its docstring, none imported."""
    files = {path.stem: path for path in FOLDER.glob("[!_]*.py")}
    files |= {path.parent.name: path for path in FOLDER.glob("[!_]*/__main__.py")}
    return {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        for name, path in sorted(files.items())
    }


def main(arguments: list[str]) -> int:
    """Runs the benchmark named by the first argument with the others as its own; exit status 2 if there is none."""
    names = benchmarks()
    if not arguments:
        width = max(map(len, names), default=0)
        print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
        return 0
    name, *rest = arguments
    try:
        if name not in names:
            raise unknown("benchmark", name, names, do="./scripts/bench lists them")
    except UnknownNameError as error:
        print(error, file=sys.stderr)
        return 2
    sys.argv = [f"./scripts/bench {name}", *rest]
    try:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=False)
    except BrokenPipeError:  # the reader has seen enough, as in `./scripts/bench units | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
