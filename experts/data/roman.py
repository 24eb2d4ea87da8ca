"""Roman numerals from 1 to 3999, both ways."""

from random import Random

from experts.data.tasks import Content, Task, same
from experts.data.wordings import bare, questions, requests

_VALUES = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
_SIGNS = "M CM D CD C XC L XL X IX V IV I".split()


def numeral(number: int) -> str:
    """1994 as MCMXCIV."""
    text = ""
    for value, sign in zip(_VALUES, _SIGNS, strict=True):
        count, number = divmod(number, value)
        text += count * sign
    return text


def _number(rng: Random) -> Content:
    return (rng.randint(1, 3999),)


def _written(content: Content) -> dict[str, str]:
    return {"n": str(content[0]), "r": numeral(content[0])}


def tasks() -> tuple[Task, ...]:
    """Both directions."""
    kind = "[Roman numerals|Roman digits|Roman letters]"
    either = f"[in {kind}|with {kind}|as a Roman numeral]"
    to = (
        *requests(
            f"[write|express|show] [the number|] {{n}} {either}",
            f"[convert|change|translate] [the number|] {{n}} [to|into] [{kind}|a Roman numeral]",
            f"turn [the number|] {{n}} into [{kind}|a Roman numeral]",
            "[give me|find|show me] the Roman [numeral|form] [of|for] [the number|] {n}",
        ),
        *questions(
            f"what is [the number|] {{n}} in {kind}",
            f"how [do you|do I|would you] write [the number|] {{n}} [in|with] {kind}",
            "what is the Roman [numeral|form] [of|for] [the number|] {n}",
            "how did the Romans write [the number|] {n}",
        ),
        *bare("{n} in Roman numerals", "{n} as a Roman numeral", "{n} in Roman letters", "{n} to Roman", "{n} Roman"),
    )
    back = "[an ordinary number|a normal number|an Arabic number|decimal|digits]"
    numeral_ = "[the Roman numeral|the Roman number|] {r}"
    from_ = (
        *requests(
            f"[write|express|show] {numeral_} as {back}",
            f"[convert|change|translate] {numeral_} [to|into] {back}",
            f"turn {numeral_} into {back}",
            f"[give me|find|work out] [the value of|the number behind] {numeral_}",
            f"[read|decode] {numeral_}",
        ),
        *questions(
            f"[what|which] number is {numeral_}",
            f"what is {numeral_} as {back}",
            f"what is the value of {numeral_}",
            f"what does {numeral_} [mean|stand for]",
            "which number did the Romans write as {r}",
            f"how much is {numeral_}",
        ),
        *bare("{r}", "{r} as a number", "{r} in digits", "{r} in decimal", "Roman {r}"),
    )
    return (
        Task("to roman", "roman", to, _number, _written, lambda content: numeral(content[0]), same),
        Task("from roman", "roman", from_, _number, _written, lambda content: str(content[0]), same),
    )
