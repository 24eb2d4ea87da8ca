"""Goldens are refreshed on demand: pytest tests/goldens --update-goldens."""

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that rewrites the texts."""
    parser.addoption(
        "--update-goldens", action="store_true", help="rewrite tests/goldens/*.txt from what is printed now"
    )


@pytest.fixture
def assert_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the golden of that name, or rewrites the golden."""

    def compare(name: str, text: str) -> None:
        path = FOLDER / f"{name}.txt"
        if request.config.getoption("--update-goldens", default=False):
            path.write_text(text + "\n")
        assert path.read_text() == text + "\n", f"{path.name} reads otherwise now; if that is meant: --update-goldens"

    return compare
