"""How often a model is right, by task: greedy answers to questions that it never saw."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experts.data.splits import correct, examples
from experts.data.tasks import Example
from experts.generate import generate
from experts.llama import Llama
from experts.tokenizer import END, Tokenizer, prompt_ids

BATCH, MOST = 64, 140  # questions at once, tokens of an answer


@dataclass(frozen=True)
class Score:
    """Right answers of so many; by task, (right, all)."""

    right: int
    count: int
    tasks: dict[str, tuple[int, int]]

    @property
    def share(self) -> float:
        """Right ones of all; every question counts the same."""
        return self.right / self.count


def scored(model: Llama, tokenizer: Tokenizer, domain: str, wordings: str, count: int, seed: int = 0) -> Score:
    """The score on so many questions of the test split of a domain; wordings: "seen" or "held"."""
    asked = list(examples(domain, "test", wordings, seed, count))
    tasks: dict[str, list[bool]] = defaultdict(list)
    for example, answer in zip(asked, answers(model, tokenizer, asked), strict=True):
        tasks[example.task].append(correct(example, answer))
    by_task = {name: (sum(each), len(each)) for name, each in sorted(tasks.items())}
    return Score(sum(right for right, _ in by_task.values()), count, by_task)


def answers(model: Llama, tokenizer: Tokenizer, asked: Sequence[Example]) -> Iterator[str]:
    """What a model answers, greedily, in order."""
    for at in range(0, len(asked), BATCH):
        prompts = [prompt_ids(tokenizer, example.prompt) for example in asked[at : at + BATCH]]
        room = model.config.positions - max(map(len, prompts))
        for tokens in generate(model, prompts, most=min(MOST, room), stop={END}):
            yield tokenizer.decode(tokens)
