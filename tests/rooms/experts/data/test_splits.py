"""Examples: the same for the same arguments, nothing of a test in the training, and every answer is right."""

import hashlib
import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from experts.data import DOMAINS, OTHER, TASKS, Example, Task, correct, examples, others
from experts.data.splits import SPLITS, split_of, task_of
from experts.data.tasks import canonical
from experts.data.wordings import by_core

ROOT = Path(__file__).resolve().parents[4]
OTHERS = {task.name: task for task in map(task_of, others("train", 0, 500))}
ALL = [*(task for domain in DOMAINS for task in TASKS[domain]), *OTHERS.values()]
STEPPED = {"math", "lists", "units"}  # only what stands behind the last "=" counts
LONGEST = {
    "math": 150,
    "translate": 230,
    "code": 260,
    "sql": 240,
    "json": 240,
    "lists": 220,
    "roman": 110,
    "units": 150,
}


def title(task: Task) -> str:
    return f"{task.domain} {task.name}"


def some(domain: str, split: str, count: int, wordings: str = "seen", seed: int = 3) -> list[Example]:
    if domain == OTHER:
        return list(others(split, seed, count, wordings))
    return list(examples(domain, split, wordings, seed, count))


def fingerprint() -> str:
    """A hash of some examples of every domain and split."""
    text = json.dumps(
        [[vars(each) for each in some(domain, split, 20)] for domain in (*DOMAINS, OTHER) for split in SPLITS]
    )
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_draws_the_same(hash_seed: str):
    code = "from tests.rooms.experts.data.test_splits import fingerprint; print(fingerprint())"
    environment = {"PYTHONHASHSEED": hash_seed, "PATH": ""}
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == fingerprint(), found.stderr


def test_other_calls_change_nothing():
    first = examples("math", "train", "seen", 5)
    begun = list(islice(first, 3))
    other = list(islice(examples("math", "train", "seen", 6), 3))
    assert [*begun, *islice(first, 3)] == list(examples("math", "train", "seen", 5, count=6))
    assert begun != other


def test_all_tasks_of_a_domain_are_drawn():
    for domain in DOMAINS:
        assert {each.task for each in some(domain, "train", 300)} == {task.name for task in TASKS[domain]}


@pytest.mark.parametrize("domain", [*DOMAINS, OTHER])
def test_no_content_is_in_two_splits(domain: str):
    contents = {split: {each.content for each in some(domain, split, 2000, seed=at)} for at, split in enumerate(SPLITS)}
    again = {each.content for each in some(domain, "test", 1000, "held", seed=9)}
    assert not contents["train"] & (contents["validation"] | contents["test"] | again)
    assert not contents["validation"] & (contents["test"] | again)
    assert all(split_of(domain, content) == split for split in SPLITS for content in contents[split])


@pytest.mark.parametrize("task", ALL, ids=title)
def test_every_split_has_contents_of_every_task(task: Task):
    rng = Random(0)
    found = [split_of(task.domain, canonical(task.draw(rng))) for _ in range(2000)]
    assert 0.7 < found.count("train") / 2000 < 0.9
    assert found.count("validation") and found.count("test") > 100


@pytest.mark.parametrize("task", ALL, ids=title)
def test_a_quarter_of_many_wordings_is_held_out(task: Task):
    seen, held = ([each for group in by_core(task.wordings, held=held) for each in group] for held in (False, True))
    assert len(set(task.wordings)) == len(task.wordings) >= 30
    assert sorted(seen + held) == sorted(task.wordings)
    assert 0.2 <= len(held) / len(task.wordings) <= 0.3


@pytest.mark.parametrize("domain", DOMAINS)
def test_held_out_wordings_are_made_of_words_that_are_trained_on(domain: str):
    for task in TASKS[domain]:
        texts = [" ".join(map(" ".join, by_core(task.wordings, held=held))) for held in (False, True)]
        seen, held = (re.findall(r"\w+", text) for text in texts)
        assert sum(map(set(seen).__contains__, held)) / len(held) > 0.95


@pytest.mark.parametrize("domain", [*DOMAINS, OTHER])
def test_held_out_wordings_are_never_trained_on(domain: str):
    trained = {(each.task, each.wording) for each in some(domain, "train", 3000)}
    tested = {(each.task, each.wording) for each in some(domain, "test", 1000, "held")}
    assert not trained & tested and len(tested) > 50


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_own_answer_is_right_and_most_changed_ones_are_wrong(domain: str):
    rng, wrong = Random(1), 0
    for each in (drawn := some(domain, "test", 400)):
        assert correct(each, each.answer) and correct(each, f" {each.answer} ")
        assert not correct(each, "") and not correct(each, "=") and not correct(each, each.prompt)
        start = each.answer.rindex("=") if domain in STEPPED else -1
        at = rng.choice([at for at, sign in enumerate(each.answer) if at > start and sign not in " ="][-4:])
        sign = rng.choice([sign for sign in "0123456789" if sign != each.answer[at]])
        wrong += not correct(each, each.answer[:at] + sign + each.answer[at + 1 :])
    assert wrong > 0.9 * len(drawn)


def test_the_answer_to_another_question_is_wrong():
    for domain in DOMAINS:
        drawn = some(domain, "test", 200)
        pairs = [(a, b) for a, b in zip(drawn, drawn[1:], strict=False) if a.answer != b.answer]
        assert sum(correct(a, b.answer) for a, b in pairs) <= len(pairs) / 50


@pytest.mark.parametrize("domain", [*DOMAINS, OTHER])
def test_prompts_and_answers_are_short_lines(domain: str):
    for each in some(domain, "train", 2000):
        assert each.domain == domain and "\n" not in each.prompt + each.answer
        assert each.prompt == " ".join(each.prompt.split()) != "" and not re.search(r"\{\w+\}", each.prompt)
        assert len(each.prompt + each.answer) <= LONGEST.get(domain, 110)


def test_no_prompt_belongs_to_two_domains():
    prompts = {domain: {each.prompt for each in some(domain, "train", 2000)} for domain in (*DOMAINS, OTHER)}
    assert len(set().union(*prompts.values())) == sum(map(len, prompts.values()))


def test_no_wording_of_a_task_says_nothing_of_its_domain():
    """Of different domains only what is filled in may be alike."""
    wordings = {domain: {each for task in TASKS[domain] for each in task.wordings} for domain in DOMAINS}
    shared = {each for a in DOMAINS for b in DOMAINS if a < b for each in wordings[a] & wordings[b]}
    assert shared == set()


def test_prompts_for_none_of_the_experts_have_no_answer():
    drawn = some(OTHER, "train", 200)
    assert {each.answer for each in drawn} == {""} and {each.domain for each in drawn} == {OTHER}
    assert correct(drawn[0], "") and not correct(drawn[0], "Yes.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maths", "train", "seen"), "unknown domain: 'maths'; there are math, translate, code"),
        (("math", "dev", "seen"), "unknown split: 'dev'; there are train, validation, test"),
        (("math", "test", "new"), "unknown kind of wordings: 'new'; there are seen, held"),
        (("math", "train", "held"), "held-out wordings are there to be never trained on"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(arguments: tuple[str, str, str], message: str):
    with pytest.raises(ValueError, match=message):
        examples(*arguments, seed=0)
