"""What holds for every test: strict promotions, bounded memory, seeds, and a run that tested nothing fails.

JAX is set through its environment variables, before it is imported, so that the subprocesses some tests start
live under the same rules. The library itself sets nothing.
"""

import gc
import os
import random
import time

os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# A bit must come from the code under test, not from an executable that an older version left on disk.
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)

import jax  # noqa: E402  (after the environment, which JAX reads when it is imported)
import numpy as np  # noqa: E402
import pytest  # noqa: E402

SEED = 20240417


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator in the same state for every test, whatever ran before it."""
    return np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def _same_global_seeds():
    """Libraries that draw from the global generators draw the same numbers in any order of tests."""
    random.seed(SEED)
    np.random.seed(SEED)


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """Compiled programs live as long as the file that made them: a full run stays in the same memory as a quick one."""
    yield
    jax.clear_caches()
    gc.collect()


BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where time is short, the tests of the full run are those that there is time for."""
    help_ = "skip tests marked `full` that would begin later than this; all others come before them"
    parser.addoption("--full-within", type=float, metavar="SECONDS", help=help_)


def pytest_configure(config: pytest.Config) -> None:
    """A worker begins when it is configured."""
    config.stash[BEGUN] = time.monotonic()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is always to run comes first."""
    if config.option.full_within is not None:
        items.sort(key=lambda item: item.get_closest_marker("full") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what comes too late, and says so."""
    within, begun = item.config.option.full_within, item.config.stash[BEGUN]
    if within is not None and item.get_closest_marker("full") and time.monotonic() - begun > within:
        pytest.skip(f"no time left: {within:g} s are over")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which nothing was executed (all skipped or deselected) is no success."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly or hasattr(config, "workerinput"):
        return
    executed = sum(len(reporter.stats.get(outcome, ())) for outcome in ("passed", "failed", "xfailed", "error"))
    if exitstatus == pytest.ExitCode.OK and not executed:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
