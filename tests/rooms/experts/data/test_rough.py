"""Prompts typed in a hurry: other than the ones asked, with the same numbers, the same again from the same seed."""

import re
from random import Random

from experts.data.handwritten import HANDWRITTEN
from experts.data.others import OTHER
from experts.data.rough import roughened
from experts.data.splits import DOMAINS, examples


def test_numbers_and_their_order_stay_and_most_prompts_change():
    changed = 0
    for domain in DOMAINS:
        for each in examples(domain, "train", "seen", 3, 200):
            rough = roughened(each.prompt, Random(each.prompt))
            assert re.findall(r"\d+", rough) == re.findall(r"\d+", each.prompt) and rough.strip()
            assert rough == roughened(each.prompt, Random(each.prompt))
            changed += rough != each.prompt
    assert 0.75 < changed / 1600 < 1


def test_words_may_be_left_out_but_never_all():
    found = {roughened("what is it", Random(seed)) for seed in range(200)}
    assert all(each.strip() for each in found) and {"what is it"} < found


def test_short_texts_survive():
    for text in ("", "a", "7", "?", "ab cd", "[1]"):
        for seed in range(50):
            assert len(roughened(text, Random(seed))) <= len(text) + 2


def test_prompts_by_hand_are_of_all_labels():
    assert set(HANDWRITTEN) == {*DOMAINS, OTHER}
    every = [prompt for own in HANDWRITTEN.values() for prompt in own]
    assert len(every) == len(set(every)) >= 70 and min(map(len, HANDWRITTEN.values())) >= 8
