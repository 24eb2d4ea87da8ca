"""The trained experts as their users meet them: answers, grades, and bits through the emulator."""

import json
import re

import jax
import pytest

from benchmarks import experts as grading
from benchmarks import generation, training
from experts.composition import TRAINED, Composition
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, WORDINGS
from experts.exam import Exam, Grades, Routing, mean
from experts.together import CHAINS, chained, ensemble
from rdujax.cli import demo
from rdujax.cli.experts import PROMPTS

MIB = 2**20


@pytest.fixture(autouse=True)
def _promotions_of_users():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def composition() -> Composition:
    return Composition()


def test_what_is_committed_is_small_and_says_what_it_is():
    files = [path for path in TRAINED.rglob("*") if path.is_file() and ".states" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 25 * MIB
    scores = json.loads((TRAINED / "scores.json").read_text())
    for name in ("base", *DOMAINS, "monolith", "router"):
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "training.json"} <= {
            path.name for path in (TRAINED / name).iterdir()
        }
        assert json.loads((TRAINED / name / "training.json").read_text())["seed"] == scores["seed"]


def test_seventeen_times_twenty_three(capsys):
    assert demo.main(["experts", "What is 17 times 23?"]) == 0
    printed = capsys.readouterr().out
    [confidence] = re.findall(r"router: math, confidence ([\d.]+)%", printed)
    assert 90 < float(confidence) <= 100 and "17*23:" in printed and "\n  answer: 391\n" in printed


def test_every_domain_answers_its_prompt_and_json_says_the_same(capsys):
    assert demo.main(["experts", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == list(PROMPTS)
    assert [row["expert"] for row in rows] == [*DOMAINS, OTHER]
    answers = {row["expert"]: row["answer"] for row in rows}
    assert answers["math"] == "391" and answers["roman"] == "MCMXCIV" and answers["units"] == "144"
    assert answers["lists"] == "[4, 15, 31, 65, 92]" and answers[OTHER] == ""
    for row in rows:
        assert row["confidence"] == max(row["shares"].values()) and 0 < row["confidence"] <= 1


def test_bad_requests_of_the_demo_are_refused(tmp_path, capsys):
    assert demo.main(["experts", "--models", str(tmp_path), "hello"]) == 2
    assert "name the directory of a checkpoint" in capsys.readouterr().err
    assert demo.main(["experts", "What is " + "1 + " * 200 + "1?"]) == 2
    assert "tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("language", "prompt", "experts", "last"),
    [
        ("german", "Was ist 17 mal 23?", ["translate", "math", "translate"], "Das Ergebnis ist 391."),
        ("french", "Combien font 12 plus 30 ?", ["translate", "math", "translate"], "Le résultat est 42."),
        (
            "german",
            "Schreibe 1994 als römische Zahl.",
            ["translate", "roman", "translate"],
            "Das Ergebnis ist MCMXCIV.",
        ),
    ],
)
def test_what_an_expert_says_decides_who_is_asked_next(composition, language, prompt, experts, last):
    steps = chained(composition, CHAINS[language], prompt)
    assert [step.answer.route.label for step in steps] == experts and steps[-1].answer.result == last


def test_an_ensemble_of_real_experts_has_the_right_one_first(composition):
    for prompt, answer in (("What is 17 times 23?", "391"), ("Write 1994 as a Roman numeral.", "MCMXCIV")):
        first, second = ensemble(composition, prompt)
        assert first.answer.result == answer and first.score > second.score


@pytest.mark.parametrize("wordings", WORDINGS)
def test_unseen_questions_are_mostly_answered_through_the_router(composition, wordings):
    exam = Exam(composition, 16, seed=11)
    shares = {domain: exam.composed(domain, wordings) for domain in DOMAINS}
    assert min(shares.values()) >= 0.5 and mean(shares) >= 0.85


def test_every_expert_writes_the_same_bits_fused_and_unfused(composition):
    rows = list(generation.rows(composition, list(DOMAINS), 32))
    assert [row.row for row in rows] == list(DOMAINS)
    for row in rows:
        assert row.met and row.value == 0 and row.compared == 32 * 1024 + 2 * 4 * 52 * 2 * 24
        assert row.equal == row.tokens or row.parting <= 2 * row.apart
        assert 0 < row.apart < 1
    assert len({row.text for row in rows}) == len(DOMAINS)


@pytest.mark.full
def test_the_first_steps_of_training_have_the_same_bits_fused_and_unfused():
    job = training.job(TRAINED, "math", steps=20, rows=2, seed=0)
    rows = {row.row: row for row in training.rows(job)}
    steps = [row for row in rows.values() if row.plain is not None]
    assert len(steps) == 20 and all(row.value == pytest.approx(row.plain, rel=1e-3) for row in steps)
    assert len({row.value for row in steps}) == 20
    [differ] = [row for name, row in rows.items() if name.startswith("differ")]
    assert differ.met and differ.value == 0
    assert rows["a step, fused"].value < rows["a step, operator by operator"].value


def test_grades_become_rows_with_their_goals():
    shares = dict.fromkeys(DOMAINS, 0.95) | {"math": 0.8}
    models = {name: dict.fromkeys(DOMAINS, 0.1) for name in ("base", "monolith", *DOMAINS)}
    models["math"]["math"] = 0.8
    found = Grades(models, shares, {"math": {"divide": 0.5}})
    rows = {row.row: row for row in grading._grades("seen", found)}
    assert rows["composition"].value == pytest.approx((7 * 0.95 + 0.8) / 8) and rows["composition"].met is True
    assert rows["domains above 90%"].value == 7 and rows["domains above 90%"].met is True
    assert rows["math expert"].shares["math"] == 0.8 and rows["math expert"].met is None
    own = grading.margins_of("seen", found)
    [margin] = grading._margins("seen", [own, {"seen": {"composition": 0.5, "monolith": 0.6}}])
    assert margin.value == pytest.approx(0.5 - 0.6) and margin.met is None and "2 seeds" in margin.row
    [margin] = grading._margins("seen", [own, own, {"seen": {"composition": 0.5, "monolith": 0.6}}])
    assert margin.met is False and "3 seeds" in margin.row
    assert [each.met for each in grading._margins("seen", [own] * 3)] == [True]
    [first, second, error, *ways] = grading._routing("held", Routing(0.94, 0.99, 0.01, {"math": {"sql": 1.0}}))
    assert first.met is False and second.met is None and error.value == 0.01
    assert ways[0].row == "math prompts go to" and ways[0].value == 0 and ways[0].shares == {"sql": 1.0}
    notes = list(grading.notes(list(rows.values())))
    assert "math: divide in seen wordings 50%" in notes[-1]
    drawing = grading.matrix(list(rows.values()))
    assert drawing.svg().count("95%") >= 7
