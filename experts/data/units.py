"""Units of time, length, weight, volume and money: into smaller ones by a product, into larger ones by a quotient."""

from random import Random

from experts.data.steps import chain, divide, multiply, product_steps
from experts.data.tasks import Content, Task, same_result
from experts.data.wordings import bare, questions, requests

# The larger unit, the smaller one, how many of these it is; the short names of both.
CONVERSIONS = (
    ("hours", "minutes", 60, "h", "min"),
    ("minutes", "seconds", 60, "min", "s"),
    ("days", "hours", 24, "days", "h"),
    ("weeks", "days", 7, "weeks", "days"),
    ("years", "months", 12, "years", "months"),
    ("dozen", "pieces", 12, "dozen", "pieces"),
    ("feet", "inches", 12, "ft", "in"),
    ("yards", "feet", 3, "yd", "ft"),
    ("pounds", "ounces", 16, "lb", "oz"),
    ("gallons", "pints", 8, "gal", "pt"),
    ("kilometres", "metres", 1000, "km", "m"),
    ("metres", "centimetres", 100, "m", "cm"),
    ("centimetres", "millimetres", 10, "cm", "mm"),
    ("kilograms", "grams", 1000, "kg", "g"),
    ("tonnes", "kilograms", 1000, "t", "kg"),
    ("litres", "millilitres", 1000, "l", "ml"),
    ("euros", "cents", 100, "EUR", "cents"),
)
_POWERS = (10, 100, 1000)


def _amount(rng: Random) -> Content:
    """A conversion, and a number of the larger unit."""
    at = rng.randrange(len(CONVERSIONS))
    factor = CONVERSIONS[at][2]
    return at, rng.randint(2, 999 if factor < 10 or factor in _POWERS else 99)


def _downwards(content: Content) -> dict[str, str]:
    large, small, _, large_short, small_short = CONVERSIONS[content[0]]
    return {"n": str(content[1]), "from": large, "to": small, "from_short": large_short, "to_short": small_short}


def _upwards(content: Content) -> dict[str, str]:
    large, small, factor, large_short, small_short = CONVERSIONS[content[0]]
    number = str(content[1] * factor)
    return {"n": number, "from": small, "to": large, "from_short": small_short, "to_short": large_short}


def _product(content: Content) -> str:
    factor, n = CONVERSIONS[content[0]][2], content[1]
    if factor in _POWERS:
        return f"{n}*{factor}={n * factor}"
    if factor != 60:
        return multiply(n, factor)
    steps = [*product_steps(n, 6), *([f"{n}*6={6 * n}"] if n > 9 else [])]
    return chain(f"{n}*60", iter(steps), n * 60)


def _quotient(content: Content) -> str:
    factor, n = CONVERSIONS[content[0]][2], content[1]
    number = n * factor
    if factor in _POWERS:
        return f"{number}/{factor}={n}"
    return f"{number}/60={divide(number // 10, 6)}" if factor == 60 else divide(number, factor)


def tasks() -> tuple[Task, ...]:
    """Both directions, which are asked in the same wordings."""
    wordings = (
        *requests(
            "[convert|change] {n} {from} [to|into] {to}",
            "turn {n} {from} into {to}",
            "[express|write|give|state] {n} {from} [in|as] {to}",
            "[work out|calculate|find|tell me] how many {to} [there are in|are in|make] {n} {from}",
        ),
        *questions(
            "how many {to} [are there in|are in|make|make up|are] {n} {from}",
            "[what is|how much is|what are] {n} {from} in {to}",
            "how many {to} do [you get from|I have in|I get from] {n} {from}",
            "{n} {from} [is|are|make] how many {to}",
            "what do {n} {from} come to in {to}",
        ),
        *bare(
            "{n} {from} [in|to|into|as] {to}",
            "{n} {from_short} [in|to|into] {to_short}",
            "{to} in {n} {from}",
            "{n} {from_short} = ? {to_short}",
        ),
    )
    return (
        Task("to smaller units", "units", wordings, _amount, _downwards, _product, same_result),
        Task("to larger units", "units", wordings, _amount, _upwards, _quotient, same_result),
    )
