"""Text that ends before a stop, whatever pieces it comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.tokenizer import Tokenizer
from rdujax.serve.wishes import Text
from tests.rooms.experts.family import tokenizer


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return tokenizer()


TEXTS = st.text("ab=;", max_size=12)
STOPS = st.lists(st.text("ab=;", min_size=1, max_size=4), max_size=3)


@given(TEXTS, STOPS, st.data())
def test_a_text_ends_before_its_first_stop_and_what_was_shown_stays(words, text, stops, data):
    ids = words.encode(text)
    shown, at = "", 0
    found = Text(words.stream(), tuple(stops))
    while at < len(ids):
        size = data.draw(st.integers(1, len(ids) - at))
        shown += found.push(ids[at : at + size])
        at += size
    shown += found.finish()
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    assert shown == (text[: min(ends)] if ends else text)
    assert found.has_ended == bool(ends)


def test_what_may_become_a_stop_waits(words):
    found = Text(words.stream(), ("abc",))
    assert found.push(words.encode("x")) == "x"
    assert "".join(found.push([each]) for each in words.encode("ab")) == ""
    assert found.push(words.encode("d")) == "abd"
