"""Chains and ensembles, with experts that say what the test wants, and scores against a plain softmax."""

import jax.numpy as jnp
import numpy as np
import pytest

from experts.composition import Answer, Composition
from experts.data.others import OTHER
from experts.llama import empty_cache
from experts.router import Route
from experts.together import CHAINS, chained, ensemble, mean_log_probability
from experts.tokenizer import END, prompt_ids
from tests.rooms.experts.family import published


@pytest.fixture(scope="module")
def composition(tmp_path_factory) -> Composition:
    return Composition(published(tmp_path_factory.mktemp("family")))


def said(texts: dict[str, tuple[str, str]]):
    """Answers by the words that a prompt has in it: who says what."""

    def answered(composition: Composition, prompt: str) -> Answer:
        [(label, text)] = [says for words, says in texts.items() if words in prompt]
        return Answer(text, Route(label, 1.0, ((label, 1.0),)))

    return answered


def test_what_is_found_stands_in_the_next_prompt(composition):
    says = {
        "Was ist": ("translate", "What is 17 times 23?"),
        "English: What": ("code", "never asked"),
        "What is 17": ("math", "17*23:7*3=21;=391"),
        "result is 391": ("translate", "Das Ergebnis ist 391."),
    }
    steps = chained(composition, CHAINS["german"], "Was ist 17 mal 23?", said(says))
    assert [step.prompt for step in steps] == [
        "Translate the following German text to English: Was ist 17 mal 23?",
        "What is 17 times 23?",
        "Translate this text to German: The result is 391.",
    ]
    assert [step.answer.result for step in steps] == ["What is 17 times 23?", "391", "Das Ergebnis ist 391."]


def test_a_chain_ends_where_nobody_answers(composition):
    steps = chained(composition, ("{}", "so {}", "and {}"), "a", said({"a": ("math", "")}))
    assert [step.prompt for step in steps] == ["a"] and steps[0].answer.text == ""


@pytest.mark.parametrize("prompts", [(), ("no place",), ("{}", "none")])
def test_prompts_that_are_no_chain_are_refused(composition, prompts):
    with pytest.raises(ValueError, match="chain"):
        chained(composition, prompts, "a")


def routed(monkeypatch, composition: Composition, *shares: tuple[str, float]) -> None:
    monkeypatch.setattr(composition, "routes", lambda prompts: [Route(*shares[0], shares) for _ in prompts])


def test_an_ensemble_asks_the_likeliest_and_the_surest_comes_first(composition, monkeypatch):
    routed(monkeypatch, composition, ("math", 0.5), (OTHER, 0.3), ("sql", 0.15), ("code", 0.05))
    steps = ensemble(composition, "one two", 3, most=6)
    assert {step.answer.route.label for step in steps} == {"math", "sql", "code"}
    assert [step.score for step in steps][0] == max(step.score for step in steps)
    assert {step.answer.route.label: step.named for step in steps} == {"math": False, "sql": True, "code": True}
    for step in steps:
        way = Route(step.answer.route.label, 1.0, ())
        assert composition.answer_of(way, "one two", most=6).text == step.answer.text
    [alone] = ensemble(composition, "one two", 1, most=6)
    assert alone.answer.route.label == "math"


def test_an_ensemble_of_none(composition, monkeypatch):
    routed(monkeypatch, composition, (OTHER, 0.9), ("math", 0.1))
    assert ensemble(composition, "hello") == []
    with pytest.raises(ValueError, match="one expert or more"):
        ensemble(composition, "hello", 0)


def test_how_sure_an_expert_is_against_one_token_after_the_other(composition):
    model, ids = composition.model("math"), prompt_ids(composition.tokenizer, "one two")
    tokens = [40, 41, 299, 40, END]
    logs = []
    for at, token in enumerate(tokens):
        text = [*ids, *tokens[:at]]
        logits, _ = model(jnp.asarray([text]), empty_cache(model.config, 1, len(text)), jnp.int32(0))
        wide = np.asarray(logits, np.float64)[0]
        logs.append(wide[token] - np.log(np.exp(wide - wide.max()).sum()) - wide.max())
    assert mean_log_probability(model, ids, tokens) == pytest.approx(np.mean(logs), abs=0.02)  # BF16 in another order
