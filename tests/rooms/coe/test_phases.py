"""Prices by shapes: the smallest that hold what is asked, token by token, and nothing beyond."""

import pytest

from rdujax.base.errors import ArgumentError
from rdujax.coe.phases import Table

PREFILL = {(1, 64): 10, (1, 128): 20, (4, 64): 30, (4, 128): 50}
DECODE = {(1, 96): 3, (1, 256): 5, (4, 96): 7, (4, 256): 11}


def test_the_smallest_shapes_that_hold_it():
    table = Table(PREFILL, DECODE)
    assert [table.prefill_ps(*each) for each in ((1, 1), (1, 64), (1, 65), (2, 64), (4, 128))] == [10, 10, 20, 30, 50]


@pytest.mark.parametrize("prompts", [1, 2, 4])
@pytest.mark.parametrize("context", [1, 95, 96, 97, 200])
@pytest.mark.parametrize("tokens", [0, 1, 2, 50])
def test_decoding_is_a_sum_over_tokens(prompts: int, context: int, tokens: int):
    row = 1 if prompts == 1 else 4
    one_by_one = sum(DECODE[row, 96 if at <= 96 else 256] for at in range(context, context + tokens))
    assert Table(PREFILL, DECODE).decode_ps(prompts, context, tokens) == one_by_one


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda t: t.prefill_ps(5, 64), "prompts"),
        (lambda t: t.prefill_ps(0, 64), "prompts"),
        (lambda t: t.prefill_ps(1, 129), "tokens of a prompt"),
        (lambda t: t.decode_ps(1, 200, 58), "positions of the cache"),
        (lambda t: t.decode_ps(1, 0, 1), "positions of the cache"),
    ],
)
def test_what_no_program_was_priced_for_is_refused(ask, words: str):
    with pytest.raises(ArgumentError, match=f"{words} that no program was priced for"):
        ask(Table(PREFILL, DECODE))


@pytest.mark.parametrize("bad", [{}, {(1, 64): 1, (2, 128): 2}])
def test_prices_are_of_all_pairs(bad: dict):
    with pytest.raises(ArgumentError, match="some pairs of prompts"):
        Table(bad, DECODE)
