"""Progress is one line on a terminal, and nothing anywhere else."""

import sys

import pytest

from rdujax.base.progress import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_takes_the_place_of_the_one_before(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    for text in ("one", "two", ""):
        progress(text)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("\r\033[Kone\r\033[Ktwo\r\033[K" if terminal else "")
