"""The examples of every domain, and which of them are trained on.

What is asked decides the split: a hash of domain and content, so that the same content is in one split alone, whatever
its task, wording or seed. How it is asked decides whether a wording is seen in training or held out. Everything drawn
depends on the arguments alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count as endless
from random import Random

from experts.data import lists, maths, objects, programs, queries, roman, translation, units
from experts.data.others import OTHER
from experts.data.others import tasks as other_tasks
from experts.data.tasks import Example, Task, canonical, same_result
from experts.data.wordings import by_core, digest, fill

SPLITS = ("train", "validation", "test")
WORDINGS = ("seen", "held")
SHARES = (80, 5, 15)  # of the contents, in percent

TASKS: Mapping[str, tuple[Task, ...]] = {
    "math": maths.tasks(),
    "translate": translation.tasks(),
    "code": programs.tasks(),
    "sql": queries.tasks(),
    "json": objects.tasks(),
    "lists": lists.tasks(),
    "roman": roman.tasks(),
    "units": units.tasks(),
}
DOMAINS = tuple(TASKS)
_OTHERS = other_tasks()


def split_of(domain: str, content: str) -> str:
    """The split to which a content of a domain belongs."""
    at = digest(f"{domain} {content}") % 100
    return SPLITS[0] if at < SHARES[0] else SPLITS[1] if at < SHARES[0] + SHARES[1] else SPLITS[2]


def examples(domain: str, split: str, wordings: str, seed: int, count: int | None = None) -> Iterator[Example]:
    """So many random examples of a domain, all tasks equally often; without end where count is None.

    split: "train", "validation" or "test". wordings: "seen", or "held" for those that are never trained on.
    """
    _allowed("domain", domain, DOMAINS)
    return _drawn(TASKS[domain], split, wordings, seed, count)


def others(split: str, seed: int, count: int | None = None, wordings: str = "seen") -> Iterator[Example]:
    """The same for prompts that no expert can answer: their answers are empty."""
    return _drawn(_OTHERS, split, wordings, seed, count)


def correct(example: Example, text: str) -> bool:
    """Whether a generated answer is right: by its result, or by running it where it is a program or a query.

    Any text may be given. One that is hostile, endless or no answer at all is wrong, and quickly so.
    """
    return task_of(example).check(example.answer, text)


def result(domain: str, text: str) -> str:
    """The result in an answer: of a domain that works in steps, what stands behind the last "="; of others, all."""
    stepped = any(task.check is same_result for task in TASKS[domain])
    return (text.rpartition("=")[2] if stepped else text).strip()


def task_of(example: Example) -> Task:
    """The task of which this is an example."""
    tasks = _OTHERS if example.domain == OTHER else TASKS[example.domain]
    return next(task for task in tasks if task.name == example.task)


def _allowed(what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ValueError(f"unknown {what}: {given!r}; there are {', '.join(allowed)}")


def _drawn(tasks: tuple[Task, ...], split: str, wordings: str, seed: int, count: int | None) -> Iterator[Example]:
    """Checks at once what can be wrong, then draws when asked."""
    _allowed("split", split, SPLITS)
    _allowed("kind of wordings", wordings, WORDINGS)
    if (split, wordings) == ("train", "held"):
        raise ValueError('split "train" with wordings "held": held-out wordings are there to be never trained on')
    rng = Random(f"{tasks[0].domain} {split} {wordings} {seed}")
    turns = endless() if count is None else range(count)
    return (_example(rng, rng.choice(tasks), split, held=wordings == "held") for _ in turns)


def _example(rng: Random, task: Task, split: str, *, held: bool) -> Example:
    """Contents are drawn until one belongs to the split; of the wordings, every core is equally likely."""
    content = task.draw(rng)
    while split_of(task.domain, canonical(content)) != split:
        content = task.draw(rng)
    wording = rng.choice(rng.choice(by_core(task.wordings, held=held)))
    prompt = fill(wording, task.fields(content))
    return Example(task.domain, task.name, prompt, task.answer(content), canonical(content), wording)
