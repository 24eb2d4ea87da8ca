"""Importing the library is free: no backend, no array, no setting, no thread, and little time."""

import os
import subprocess
import sys

import pytest

from tests.storeys.source import ROOT, module_name, python_files

OTHERS = "import jax, jax.numpy, jax.extend, flax.linen, flax.nnx, optax, chex, einops, scipy.special, numpy\n"
SNAPSHOT = """
import logging, os, sys, threading, warnings, numpy
def snapshot():
    return repr([sorted(os.environ.items()), sorted(jax.config.values.items(), key=lambda item: item[0]), sys.path,
                 threading.active_count(), logging.root.handlers, warnings.filters, os.getcwd(),
                 numpy.random.get_state(), numpy.geterr(), sys.getrecursionlimit()])
"""


def run(code: str, **environment: str) -> str:
    """Standard output of a fresh interpreter that runs `code`."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def library_modules() -> list[str]:
    """Every module of the library, by its dotted name."""
    return [name for path in python_files("rdujax") if not (name := module_name(path)).endswith("__main__")]


def importing(modules: list[str]) -> str:
    """Code that imports the modules one after the other."""
    return "".join(f"import {name}\n" for name in modules)


def test_no_backend_is_started_and_no_array_is_made():
    # There is no platform of that name: whatever starts a backend, as every array does, raises.
    run(importing(library_modules()), JAX_PLATFORMS="no_such_platform")
    with pytest.raises(AssertionError, match="no_such_platform"):
        run("import jax.numpy\njax.numpy.zeros(1)", JAX_PLATFORMS="no_such_platform")


def test_nothing_global_is_changed():
    code = f"{OTHERS}{SNAPSHOT}before = snapshot()\n{{}}print(before == snapshot())"
    assert run(code.format(importing(library_modules()))) == "True\n"
    assert run(code.format("jax.config.update('jax_enable_x64', True)\n")) == "False\n"
    assert run(code.format("os.environ['RDUJAX_TEST'] = '1'\n")) == "False\n"


def test_importing_takes_little_time_beyond_jax():
    # Processor time, the best of three: a busy machine does not fail this.
    code = "import time, jax, jax.numpy\nt = time.process_time()\nimport rdujax\nprint(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 1.5
