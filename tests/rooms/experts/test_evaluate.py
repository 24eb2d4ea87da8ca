"""Scores of answers that are known, and answers of a model in the order of the questions."""

import pytest

from experts import evaluate
from experts.data.splits import DOMAINS, correct, examples
from experts.llama import Config, random_model
from experts.tokenizer import END, prompt_ids, train


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("wordings", ["seen", "held"])
def test_of_known_answers_the_right_ones_are_counted_by_task(domain, wordings, monkeypatch):
    """Every third answer is that of another question."""
    asked = list(examples(domain, "test", wordings, 3, 60))
    given = [asked[at - 7].answer if at % 3 == 0 else example.answer for at, example in enumerate(asked)]
    right = [correct(example, answer) for example, answer in zip(asked, given, strict=True)]
    monkeypatch.setattr(evaluate, "answers", lambda *_: iter(given))
    found = evaluate.scored(None, None, domain, wordings, 60, seed=3)  # type: ignore[arg-type]
    assert 40 <= sum(right) == found.right < 60 == found.count and found.share == found.right / 60
    for task in {example.task for example in asked}:
        own = [each for example, each in zip(asked, right, strict=True) if example.task == task]
        assert found.tasks[task] == (sum(own), len(own))


def test_answers_come_in_the_order_of_the_questions_whatever_their_batch(monkeypatch):
    asked = list(examples("roman", "test", "seen", 0, 7))
    tokenizer = train([example.prompt for example in asked], 300)
    sizes = Config(d_model=16, layers=1, heads=2, kv_heads=1, d_ff=24, vocab=300, positions=200, dtype="float32")
    model = random_model(sizes, 0)
    together = list(evaluate.answers(model, tokenizer, asked))
    monkeypatch.setattr(evaluate, "BATCH", 3)
    assert list(evaluate.answers(model, tokenizer, asked)) == together and len(together) == 7
    prompts = [prompt_ids(tokenizer, example.prompt) for example in asked]
    most = min(evaluate.MOST, 200 - max(map(len, prompts)))
    alone = evaluate.generate(model, prompts[4:5], most=most, stop={END})[0]
    assert together[4] == tokenizer.decode(alone)
