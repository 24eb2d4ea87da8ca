"""Questions for other experts, and what these find, in English, French and German.

They are there so that experts can be asked one after the other: one translates a question into English, another
answers it, and the first translates the result back.
"""

from random import Random
from typing import Any

from experts.data.roman import numeral

# A question has an operation and two numbers, or "roman" and a number; in English, French and German.
_QUESTIONS = {
    "plus": ("What is {} plus {}?", "Combien font {} plus {} ?", "Was ist {} plus {}?"),
    "minus": ("What is {} minus {}?", "Combien font {} moins {} ?", "Was ist {} minus {}?"),
    "times": ("What is {} times {}?", "Combien font {} fois {} ?", "Was ist {} mal {}?"),
    "divided": ("What is {} divided by {}?", "Combien font {} divisé par {} ?", "Was ist {} geteilt durch {}?"),
    "roman": ("Write {} as a Roman numeral.", "Écris {} en chiffres romains.", "Schreibe {} als römische Zahl."),
}
_RESULTS = ("The result is {}.", "Le résultat est {}.", "Das Ergebnis ist {}.")


def draw_question(rng: Random) -> tuple[Any, ...]:
    """An operation and its numbers, which may be out of the range in which the other experts are good."""
    kind = rng.choice(tuple(_QUESTIONS))
    if kind == "roman":
        return kind, rng.randint(1, 3999)
    most = {"plus": 999, "minus": 999, "times": 99, "divided": 9999}[kind]
    return kind, rng.randint(1, most), rng.randint(1, 25 if kind == "divided" else most)


def draw_result(rng: Random) -> tuple[Any, ...]:
    """What was found, as text: a number, or in one case of four a Roman one."""
    number = rng.randint(0, 9999) if rng.random() < 0.5 else rng.randint(0, 999)
    return (numeral(rng.randint(1, 3999)) if rng.random() < 0.25 else str(number),)


def question(content: tuple[Any, ...], language: int) -> str:
    """The question in English (0), French (1) or German (2)."""
    kind, *numbers = content
    return _QUESTIONS[kind][language].format(*numbers)


def result(content: tuple[Any, ...], language: int) -> str:
    """The sentence that says what was found, likewise."""
    return _RESULTS[language].format(*content)
