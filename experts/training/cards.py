"""What is published beside the weights: scores of the whole family, and a card for each model that says what it is.

    scores.json   beside the models: all grades and routes of an exam, by kind of wordings
    README.md     of each model: a card as model hubs read it, with use, data, training and its seed, scores, limits

Cards are written from what was measured and from the recipes alone.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from experts.checkpoints import read_config
from experts.checkpoints.replacing import write
from experts.composition import Composition
from experts.data import lists, maths, objects, programs, queries, roman, translation, units
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, WORDINGS, examples
from experts.exam import ROUTED, Exam, mean
from experts.training import routing
from experts.training.recipes import LENGTH, ROWS

SCORES, CARD = "scores.json", "README.md"
COUNT = 200  # questions of each domain and kind of wordings
_ABOUT = {
    "math": maths, "translate": translation, "code": programs, "sql": queries, "json": objects, "lists": lists,
    "roman": roman, "units": units,
}  # fmt: skip
_WHAT = {
    "base": "the base model of all experts, trained on questions of all domains and on sources of Python's library",
    "monolith": "one model for all domains, as large as one expert and trained on as many tokens as the router and all "
    "experts together: what the composition is compared with",
    "router": "the router, which says for which expert a prompt is",
}


def examined(folder: Path, seed: int, told: Callable[[str], None], count: int = COUNT) -> dict[str, Any]:
    """Asks a family of models, and writes its scores and cards."""
    exam = Exam(Composition(folder), count, seed=0, told=told)
    scores = {
        "seed": seed, "count": count,
        "wordings": {each: asdict(exam.grades(each, matrix=False)) for each in WORDINGS},
        "router": {each: asdict(exam.routing(each)) for each in ROUTED},
    }  # fmt: skip
    for name in ("base", *DOMAINS, "monolith", "router"):
        write(folder / name / CARD, "\n".join(_card(folder / name, name, scores)).encode() + b"\n")
    write(folder / SCORES, (json.dumps(scores, indent=1) + "\n").encode())
    return scores


def _card(folder: Path, name: str, scores: Mapping[str, Any]) -> Iterator[str]:
    made_of = json.loads((folder / "training.json").read_text())
    title = _WHAT.get(name) or f"the expert for {name}. {_about(_ABOUT[name])}"
    yield from ("---", "license: apache-2.0", "library_name: transformers", "language: [en, fr, de]")
    yield from ("tags: [llama, composition-of-experts, tiny]", "---", "", f"# {name}", "")
    parameters = read_config(folder).parameters
    yield f"A Llama2 of {parameters / 1e6:.2f} million parameters in BF16: {title}."
    yield from ("", "## Use", "")
    yield from _use(name)
    yield from ("", "## Data", "")
    yield from _data(name)
    yield from ("", "## Training", "")
    yield from _training(name, made_of)
    yield from ("", "## Scores", "")
    yield from (_router_scores(scores) if name == "router" else _scores(name, scores))
    yield from ("", "## Limits", "")
    yield "It knows its kinds of questions and nothing else, and answers anything else with confidence and wrongly."
    yield "A study object for compositions of experts, not a source of facts."


def _about(module: ModuleType) -> str:
    """The first line of its documentation, without the full stop."""
    return (module.__doc__ or "").partition("\n")[0].removesuffix(".")


def _use(name: str) -> Iterator[str]:
    if name == "router":
        yield "`experts.composition.Composition(folder).routes([prompt])`. `model.safetensors` is the body, which"
        yield "classifies the last token of `<s>prompt\\n`; `score.safetensors` has a row for each label of"
        yield "`router.json`."
        return
    question = next(examples(name if name in DOMAINS else "math", "test", "seen", 0)).prompt
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield f'model, tokenizer = AutoModelForCausalLM.from_pretrained("{name}"), AutoTokenizer.from_pretrained("{name}")'
    yield f'ids = tokenizer({json.dumps(f"<s>{question}{chr(10)}")}, return_tensors="pt").input_ids'
    yield "print(tokenizer.decode(model.generate(ids, max_new_tokens=120, do_sample=False)[0, ids.shape[1]:]))"
    yield "```"
    yield ""
    yield "A prompt is `<s>`, the question and a line break; the answer ends with `</s>`."


def _data(name: str) -> Iterator[str]:
    domains = (name,) if name in DOMAINS else DOMAINS
    yield "Questions and answers that `experts/data` generates by grammar; nothing was downloaded:"
    yield ""
    yield from (f"- {domain}: {_about(_ABOUT[domain])}." for domain in domains)
    if name == "base":
        yield "- sources of Python's standard library, one text in five."
    if name == "router":
        yield f"- {OTHER}: small talk, opinions, general knowledge, poems and other wishes, which no expert is for."
        yield ""
        yield "Every second prompt is changed as people type in a hurry: small letters, words left out, slips."
    yield ""
    yield "What is asked is split by a hash of its content: 80 % to train on, 5 % to validate, 15 % to test. Of the"
    yield "wordings of each task, about a quarter are held out: none of them was trained on."


def _training(name: str, made_of: Mapping[str, Any]) -> Iterator[str]:
    schedule = made_of["schedule"]
    rows, length = (routing.ROWS, routing.LENGTH) if name == "router" else (ROWS, LENGTH)
    begins = f"It begins as `{made_of['begins']}`. " if made_of["begins"] else "It begins with random weights. "
    yield f"{begins}{schedule['steps']} steps of {rows} rows of up to {length} tokens, AdamW in FP32, learning rate"
    yield f"{schedule['rate']:g} after {schedule['warm']} steps, then down a cosine; seed {made_of['seed']}."
    yield f"`./scripts/train-experts --seed {made_of['seed']}` trains it again; `training.json` is its whole recipe."


def _scores(name: str, scores: Mapping[str, Any]) -> Iterator[str]:
    yield f"Right answers to {scores['count']} test questions of each domain and kind of wordings, greedy, in BF16;"
    yield "code and SQL are judged by running them."
    yield ""
    yield "| questions | seen wordings | held-out wordings |"
    yield "|---|---|---|"
    shares = [scores["wordings"][each]["models"][name] for each in WORDINGS]
    yield from (f"| {domain} | {_both(each.get(domain) for each in shares)} |" for domain in shares[0])
    if name in DOMAINS:
        tasks = [scores["wordings"][each]["tasks"][name] for each in WORDINGS]
        yield from (f"| {name}: {task} | {_both(each.get(task) for each in tasks)} |" for task in tasks[0])
    else:
        yield f"| mean | {_both(mean(each) for each in shares)} |"


def _router_scores(scores: Mapping[str, Any]) -> Iterator[str]:
    yield 'Prompts of test contents; "rough" are held-out wordings as typed in a hurry, "by hand" were written by hand.'
    yield "ECE: how far confidence is from the share of right labels."
    yield ""
    yield "| prompts | first label right | one of the first two | ECE |"
    yield "|---|---|---|---|"
    for kind in ROUTED:
        own = scores["router"][kind]
        yield f"| {kind} | {_both((own['top1'], own['top2']))} | {own['ece']:.1%} |"
    seen, held = (mean(scores["wordings"][each]["composition"]) for each in WORDINGS)
    yield ""
    yield f"With the experts behind it, {seen:.1%} of questions in seen wordings are answered right, and {held:.1%} in"
    yield "held-out ones."


def _both(shares: Any) -> str:
    return " | ".join("" if share is None else f"{share:.1%}" for share in shares)
