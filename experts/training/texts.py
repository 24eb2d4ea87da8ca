r"""What is trained on, as texts: questions with answers, and windows of program sources.

    <s> question \n answer </s>

The answer begins behind the line break, where a prompt ends when the model is asked.
"""

from collections.abc import Iterator, Sequence
from random import Random

from experts.data.tasks import Example
from experts.tokenizer import END, Tokenizer, prompt_ids
from experts.training.packing import Text


def answered(tokenizer: Tokenizer, example: Example, prompt_weight: float) -> Text:
    """A question with its answer. prompt_weight: of the tokens of the question; those of the answer have 1."""
    asked = prompt_ids(tokenizer, example.prompt)
    answer = [*tokenizer.encode(example.answer), END]
    return Text([*asked, *answer], [prompt_weight] * len(asked) + [1.0] * len(answer))


def windows(tokens: Sequence[Sequence[int]], length: int, rng: Random) -> Iterator[Text]:
    """Random windows of texts, without end; long texts are taken more often."""
    weights = [len(each) for each in tokens]
    while True:
        (text,) = rng.choices(tokens, weights)
        at = rng.randrange(max(1, len(text) - length))
        window = text[at : at + length + 1]
        if len(window) > 1:
            yield Text(window, [1.0] * len(window))
