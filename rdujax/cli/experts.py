"""Small Llama2 experts that were really trained, behind their router: prompts go to one of them, and it answers.

The router says for which expert a prompt is and how sure it is; the expert writes its answer token by token, for
arithmetic with all steps. What no expert is for is called "other" and not answered. Models are read from
experts/trained and run in plain JAX here. Without a PROMPT, one of each domain is asked.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experts.composition import TRAINED, Answer, Composition
from experts.data.others import OTHER
from experts.router import Route

PROMPTS = (
    "What is 17 times 23?",
    'Translate "The young woman draws the house." into German.',
    "Write a Python function that returns the sum of the even numbers in a list.",
    "Show the average age of all people whose city is Paris.",
    "Write JSON from this sentence: The singer Ben works in London.",
    "Sort the list [31, 4, 15, 92, 65] in ascending order.",
    "Write 1994 as a Roman numeral.",
    "How many inches are 12 feet?",
    "How do I bake a cake for six people?",
)


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of `./scripts/demo experts`."""
    p.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to ask, each in quotes (default: one of each)")
    p.add_argument("--models", type=Path, default=TRAINED, help="folder of the models (default experts/trained)")
    p.add_argument("--json", action="store_true", help="print one JSON object for each prompt, and nothing else")


def main(args: argparse.Namespace) -> int:
    """Answers all prompts, one after the other; 0 whatever the answers are. Raises CheckpointError and ValueError."""
    composition = Composition(args.models)
    for prompt in args.prompt or PROMPTS:
        if args.json:
            print(json.dumps(row_of(prompt, composition.answer(prompt))), flush=True)
        else:
            shown(composition, prompt)
            print(flush=True)
    return 0


def row_of(prompt: str, answer: Answer) -> dict[str, Any]:
    """What --json prints."""
    way = answer.route
    return {
        "prompt": prompt, "expert": way.label, "confidence": way.confidence, "shares": dict(way.shares),
        "answer": answer.result, "text": answer.text, "tokens": answer.tokens,
    }  # fmt: skip


def shown(composition: Composition, prompt: str) -> Answer:
    """Prints a prompt, where it goes, and its answer as it is written."""
    print(f"> {prompt}")

    def told(way: Route) -> None:
        print("  " + "".join(ways(way)))
        if way.label == OTHER:
            print(f"  no expert is for this: there are {', '.join(composition.experts)}")
        else:
            print(f"  {way.label}: ", end="", flush=True)

    def streamed(piece: str) -> None:
        print(piece, end="", flush=True)

    answer = composition.answer(prompt, told, streamed)
    if answer.text:
        print()
    if answer.result != answer.text.strip():
        print(f"  answer: {answer.result}")
    return answer


def ways(way: Route) -> Iterator[str]:
    """The router's choice in words, and the next likeliest where it was not quite sure."""
    yield f"router: {way.label}, confidence {way.confidence:.1%}"
    label, share = way.shares[1]
    if share >= 0.0005:
        yield f" (then {label}, {share:.1%})"
