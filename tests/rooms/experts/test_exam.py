"""An exam of known answers and known routes: shares, the matrix, the composition's mistakes; its scores and cards."""

import json

import numpy as np
import pytest

from experts import exam as exams
from experts.composition import Composition
from experts.data.handwritten import HANDWRITTEN
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, correct, examples
from experts.exam import ROUTED, TOGETHER, Exam, mean
from experts.router import Route
from experts.training import cards
from tests.rooms.experts.family import published


class Known:
    """A composition whose experts are right in their own domain but for every fourth question, others never.

    What has an "e" behind its first forty letters is routed to math, "other" among it; the rest where it belongs.
    """

    tokenizer = None

    def __init__(self):
        self.asked = 0

    def model(self, name: str) -> str:
        return name

    def routes(self, prompts):
        found = []
        for prompt in prompts:
            own = next((d for d in DOMAINS for each in drawn(d) if each.prompt == prompt), OTHER)
            label = "math" if "e" in prompt[40:] else own
            found.append(Route(label, 0.8, ((label, 0.8), (own if own != label else OTHER, 0.2))))
        return found


def drawn(domain: str, wordings: str = "seen"):
    return list(examples(domain, "test", wordings, 0, 12))


@pytest.fixture
def known(monkeypatch) -> Known:
    found = Known()

    def answers(model, tokenizer, asked):
        found.asked += len(asked)
        own = {each: at for at, each in enumerate(drawn(asked[0].domain))}
        return [each.answer if model == each.domain and own[each] % 4 else "wrong" for each in asked]

    monkeypatch.setattr(exams, "answers", answers)
    return found


def test_grades_are_shares_of_right_answers(known):
    grades = Exam(known, 12).grades("seen")
    for domain in DOMAINS:
        own = drawn(domain)
        right = [correct(each, each.answer) and at % 4 != 0 for at, each in enumerate(own)]
        assert grades.models[domain][domain] == grades.perfect[domain] == np.mean(right)
        assert grades.models["base"][domain] == grades.models["monolith"][domain] == 0
        kept = [way.label == domain for way in known.routes([each.prompt for each in own])]
        assert grades.composition[domain] == pytest.approx(np.mean([a and b for a, b in zip(right, kept, strict=True)]))
        for task, share in grades.tasks[domain].items():
            assert share == np.mean([good for good, each in zip(right, own, strict=True) if each.task == task])
    assert set(grades.models) == {*TOGETHER, *DOMAINS} and set(grades.models["sql"]) == set(DOMAINS)
    assert mean(grades.perfect) == np.mean(list(grades.perfect.values()))


def test_nothing_is_asked_twice_and_the_matrix_is_left_out_on_request(known):
    exam = Exam(known, 12)
    grades = exam.grades("seen", matrix=False)
    before = known.asked
    assert {name: set(own) for name, own in grades.models.items() if name in DOMAINS} == {d: {d} for d in DOMAINS}
    assert exam.grades("seen", matrix=False) == grades and known.asked == before


def test_the_confusion_says_where_prompts_go(known):
    found = Exam(known, 12).routing("seen")
    for domain in DOMAINS:
        labels = [way.label for way in known.routes([each.prompt for each in drawn(domain)])]
        assert found.confusion[domain] == {label: labels.count(label) / 12 for label in labels}
        assert sum(found.confusion[domain].values()) == pytest.approx(1)
    assert found.top1 == pytest.approx(np.mean([found.confusion[domain].get(domain, 0.0) for domain in DOMAINS]))
    assert found.top2 == 1  # the right one is always among the first two
    every = np.mean([found.confusion[label].get(label, 0.0) for label in (*DOMAINS, OTHER)])
    assert found.ece == pytest.approx(abs(every - 0.8))


def test_a_family_is_examined_and_every_model_gets_its_card(tmp_path):
    folder = published(tmp_path)
    lines: list[str] = []
    scores = cards.examined(folder, 0, lines.append, count=2)
    assert scores == json.loads((folder / cards.SCORES).read_text()) and lines
    assert set(scores["router"]) == set(ROUTED)
    for name in ("base", *DOMAINS, "monolith", "router"):
        card = (folder / name / cards.CARD).read_text()
        assert card.startswith("---\nlicense:") and f"# {name}\n" in card
        assert "seed 0" in card and "100 steps" in card and "begins as `base`" in card
        for chapter in ("Use", "Data", "Training", "Scores", "Limits"):
            assert f"\n## {chapter}\n" in card
        assert (name == "router") == ("ECE" in card)
    shown = f"{scores['wordings']['held']['models']['math']['math']:.1%}"
    assert f"| {shown} |" in (folder / "math" / cards.CARD).read_text()


def test_the_router_is_asked_prompts_by_hand_and_rough_ones(tmp_path, monkeypatch):
    composition = Composition(published(tmp_path))
    asked: list[str] = []
    own = composition.routes
    monkeypatch.setattr(composition, "routes", lambda prompts: asked.extend(prompts) or own(prompts))
    exam = Exam(composition, 4)
    exam.routing("by hand")
    assert asked == [prompt for each in HANDWRITTEN.values() for prompt in each]
    asked.clear()
    exam.routing("rough")
    held = [each.prompt for domain in DOMAINS for each in examples(domain, "test", "held", 0, 4)]
    assert len(asked) == len(held) + 4 and 0 < sum(a != b for a, b in zip(asked, held, strict=False)) <= len(held)
    assert exam.routing("rough") == exam.routing("rough")
