"""A prompt through router and expert: told before it is answered, streamed as it is written, or refused."""

import pytest

from experts.checkpoints import CheckpointError
from experts.composition import Composition
from experts.data.others import OTHER
from experts.data.splits import result
from experts.generate import generate
from experts.router import Route
from experts.tokenizer import END, prompt_ids
from tests.rooms.experts.family import published

PROMPT = "What is 17 times 23?"


@pytest.fixture(scope="module")
def composition(tmp_path_factory) -> Composition:
    return Composition(published(tmp_path_factory.mktemp("family")))


def routed(monkeypatch, composition: Composition, label: str) -> None:
    """Sends every prompt to one label."""
    way = Route(label, 0.75, ((label, 0.75), ("base", 0.25)))
    monkeypatch.setattr(composition, "routes", lambda prompts: [way for _ in prompts])


def test_the_expert_of_the_route_answers_and_its_pieces_are_the_answer(composition, monkeypatch):
    routed(monkeypatch, composition, "roman")
    told: list[Route] = []
    pieces: list[str] = []
    answer = composition.answer(PROMPT, told.append, lambda piece: pieces.append(f"{len(told)}{piece}"), most=12)
    [tokens] = generate(composition.model("roman"), [prompt_ids(composition.tokenizer, PROMPT)], most=12, stop={END})
    assert answer.text == composition.tokenizer.decode(tokens) and answer.tokens == len(tokens)
    assert [way.label for way in told] == ["roman"] and all(piece[0] == "1" for piece in pieces)
    assert "".join(piece[1:] for piece in pieces) == answer.text
    assert composition.answer(PROMPT, most=12) == answer


def test_what_no_expert_is_for_is_not_answered(composition, monkeypatch):
    routed(monkeypatch, composition, OTHER)
    answer = composition.answer(PROMPT)
    assert (answer.text, answer.result, answer.tokens, answer.route.label) == ("", "", 0, OTHER)


def test_routes_are_the_routers_and_a_long_prompt_is_routed_by_its_end(composition):
    [short, long] = composition.routes([PROMPT, 400 * "a b " + PROMPT])
    assert set(dict(short.shares)) == set(composition.router.labels) == set(dict(long.shares))
    assert composition.experts == composition.router.labels[:-1]


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(composition, monkeypatch):
    routed(monkeypatch, composition, "math")
    with pytest.raises(ValueError, match="room for 224 tokens"):
        composition.answer(400 * "a b ")


def test_models_are_read_once_and_missing_ones_are_refused(composition, tmp_path):
    assert composition.model("math") is composition.model("math")
    with pytest.raises(CheckpointError):
        composition.model("astrology")
    with pytest.raises(CheckpointError):
        Composition(tmp_path).routes([PROMPT])


@pytest.mark.parametrize(
    ("domain", "text", "shown"),
    [
        ("math", "17*23:7*3=21;=391", "391"),
        ("units", "3*12=36", "36"),
        ("lists", "1:3;=[13]", "[13]"),
        ("code", "def f(x): return x == 3", "def f(x): return x == 3"),
        ("math", "no steps", "no steps"),
    ],
)
def test_the_result_stands_behind_the_steps(domain, text, shown):
    assert result(domain, text) == shown
