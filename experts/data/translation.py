"""English from and to French and German: numbers in words, dates, sentences of a small vocabulary, questions."""

from datetime import date
from functools import partial
from random import Random

from experts.data import numerals, relayed, sentences
from experts.data.tasks import Content, Task, same
from experts.data.wordings import bare, questions, requests

FIRST_DAY, LAST_DAY = date(1900, 1, 1).toordinal(), date(2029, 12, 31).toordinal()

_ENGLISH_MONTHS = """January February March April May June July August September October November December""".split()
_FRENCH_MONTHS = """janvier février mars avril mai juin juillet août septembre octobre novembre décembre""".split()
_GERMAN_MONTHS = """Januar Februar März April Mai Juni Juli August September Oktober November Dezember""".split()
_ENGLISH_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_FRENCH_DAYS = "lundi mardi mercredi jeudi vendredi samedi dimanche".split()
_GERMAN_DAYS = "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split()


def _draw(rng: Random) -> Content:
    """A sentence in half of the cases; else a number, a date with or without its day, a question or a result."""
    kind = rng.random()
    if kind < 0.2:
        return "number", rng.randint(0, 9999) if rng.random() < 0.8 else rng.randint(0, 99)
    if kind < 0.35:
        return "date", rng.randint(FIRST_DAY, LAST_DAY), rng.random() < 0.5
    if kind < 0.5:
        return ("question", relayed.draw_question(rng)) if kind < 0.45 else ("result", relayed.draw_result(rng))
    return "sentence", sentences.draw(rng)


def _english_date(day: date, named: bool) -> str:
    text = f"{day.day} {_ENGLISH_MONTHS[day.month - 1]} {day.year}"
    return f"{_ENGLISH_DAYS[day.weekday()]}, {text}" if named else text


def _french_date(day: date, named: bool) -> str:
    text = f"{'1er' if day.day == 1 else day.day} {_FRENCH_MONTHS[day.month - 1]} {day.year}"
    return f"{_FRENCH_DAYS[day.weekday()]} {text}" if named else text


def _german_date(day: date, named: bool) -> str:
    text = f"{day.day}. {_GERMAN_MONTHS[day.month - 1]} {day.year}"
    return f"{_GERMAN_DAYS[day.weekday()]}, {text}" if named else text


_WRITERS = {
    "number": (numerals.english, numerals.french, numerals.german),
    "date": (_english_date, _french_date, _german_date),
    "question": tuple(partial(relayed.question, language=each) for each in range(3)),
    "result": tuple(partial(relayed.result, language=each) for each in range(3)),
    "sentence": (sentences.english, sentences.french, sentences.german),
}
LANGUAGES = ("English", "French", "German")


def written(content: Content, language: str) -> str:
    """The content in one of the three languages."""
    kind, what, *named = content
    write = _WRITERS[kind][LANGUAGES.index(language)]
    return write(date.fromordinal(what), *named) if kind == "date" else write(what)


def _into(language: str) -> tuple[str, ...]:
    quoted = 'the [text|words] "{text}"'
    texts = f'["{{text}}"|{quoted}]'
    return (
        *requests(
            f"translate [this|the following|this text] [into|to] {language}: {{text}}",
            f"put [this|the following|this text] into {language}: {{text}}",
            f"[translate|put|turn] {texts} into {language}",
            f"translate into {language}: {{text}}",
            f"[say|write|express] {texts} in {language}",
            f"[say|write] [this|the following] in {language}: {{text}}",
            f"[give me|show me] the {language} [translation|version] [of|for] {texts}",
            f"translate from English [to|into] {language}: {{text}}",
        ),
        *questions(
            f"how [do you|do I|would you] [say|write] {texts} in {language}",
            f"what is {texts} in {language}",
            f"what is the {language} [translation|version] of {texts}",
            f"what do {language} speakers say for {texts}",
            f"how do {language} speakers say {texts}",
        ),
        *bare(f"[in|into|English to|] {language}: {{text}}", f'"{{text}}" in {language}'),
    )


def _out_of(language: str) -> tuple[str, ...]:
    texts = f'["{{text}}"|the {language} text "{{text}}"]'
    return (
        *requests(
            f"translate [this|the following] {language} text [into|to] English: {{text}}",
            f"[translate|put|turn] {texts} into English",
            f"[say|write|express] {texts} in English",
            f"translate from {language} [to|into] English: {{text}}",
            f"[say|write] [this|the following] {language} text in English: {{text}}",
            f"[give me|show me] the English [translation|version] [of|for] {texts}",
        ),
        *questions(
            f"what does {texts} mean [in English|]",
            f"what is {texts} in English",
            f"how [do you|do I|would you] [say|write] {texts} in English",
            f"what is the English [translation|version] of {texts}",
            f"what do {language} speakers mean by {texts}",
        ),
        *bare(f"[from {language}|{language} to English]: {{text}}", '"{text}" in English'),
    )


def _task(name: str, wordings: tuple[str, ...], source: str, target: str) -> Task:
    def fields(content: Content) -> dict[str, str]:
        return {"text": written(content, source)}

    def answer(content: Content) -> str:
        return written(content, target)

    return Task(name, "translate", wordings, _draw, fields, answer, same)


def tasks() -> tuple[Task, ...]:
    """Four directions."""
    return (
        _task("to French", _into("French"), "English", "French"),
        _task("from French", _out_of("French"), "French", "English"),
        _task("to German", _into("German"), "English", "German"),
        _task("from German", _out_of("German"), "German", "English"),
    )
