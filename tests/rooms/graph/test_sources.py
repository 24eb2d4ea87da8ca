"""The user's lines in few words."""

import pytest

from rdujax.graph.sources import lines, short


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([], ""),
        ([""], ""),
        (["/a/model.py:12:8 (layer.<locals>.body)"], "model.py:12"),
        (["model.py:12 (layer)"], "model.py:12"),
        (["/a/model.py:12"], "model.py:12"),
        (["<stdin>:1:4 (<module>)"], "<stdin>:1"),
        (["/a/model.py (layer)"], "model.py"),
        (["/a/m.py:3:1 (f)", "/a/m.py:3:9 (f)"], "m.py:3"),
        (["/a/m.py:3:1 (f)", "/a/m.py:5:1 (f)"], "m.py:3, 5"),
        (["/a/m.py:3:1 (f); /a/n.py:5:1 (g)", "/a/n.py:6:1 (g)"], "m.py:3, n.py:5, 6"),
        (["/a/m.py:3 (f)", "", "/a/m.py:5 (f)", "/a/m.py:7 (f)", "/a/m.py:9 (f)"], "m.py:3, 5, 7 + 1 more"),
    ],
)
def test_lines_in_few_words(sources: list[str], words: str):
    assert short(sources) == words


def test_lines_are_named_once_and_in_order():
    assert lines(["b:2 (f); a:1 (f)", "", "a:1 (f)", "c:3 (g)"]) == ("b:2 (f)", "a:1 (f)", "c:3 (g)")
