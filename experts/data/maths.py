"""Whole numbers: add, subtract, multiply, divide, and two of these after each other. All with their steps."""

from random import Random

from experts.data.steps import END, add, divide, multiply, subtract
from experts.data.tasks import Content, Task, same_result
from experts.data.wordings import bare, questions, requests

DIVISORS = (11, 12, 15, 20, 25)  # those of two digits: few enough to know their multiples

_ASKING = ("", " =", "=", " = ?", "?")
_WORK_OUT = "[compute|calculate|work out|find|evaluate|solve]"


def _asked(expression: str, noun: str, requested: str, asked: str, plain: str) -> tuple[str, ...]:
    """Wordings of one operation: its expression and its result's name in common ones, and those of its own."""
    either = f"[{expression}|the {noun}]"
    return (
        *requests(f"{_WORK_OUT} {either}", f"[give me|tell me] [the result of {expression}|the {noun}]", requested),
        *questions(f"[what is|how much is] {either}", f"what does [{expression}] [make|give|come to]", asked),
        *bare(plain, marks=_ASKING),
    )


def _sized(rng: Random, lengths: str) -> int:
    """A number of so many digits as one of the lengths says; those that stand there more often are more likely."""
    length = int(rng.choice(lengths))
    return rng.randrange(10 ** (length - 1) * (length > 1), 10**length)


def _terms(rng: Random) -> Content:
    return _sized(rng, "122333"), _sized(rng, "122333")


def _difference(rng: Random) -> Content:
    """One in four has a negative result."""
    small, large = sorted(_terms(rng))
    return (small, large) if rng.random() < 0.25 else (large, small)


def _factors(rng: Random) -> Content:
    return rng.choice([rng.randint(2, 9), *[rng.randint(10, 99)] * 6]), rng.randint(2 + 8 * (rng.random() < 0.8), 99)


def _quotient(rng: Random) -> Content:
    """Half of them come out even; one in six has a divisor of two digits, and then up to three digits."""
    long = rng.random() < 1 / 6
    divisor = rng.choice(DIVISORS) if long else rng.randint(2, 9)
    number = _sized(rng, "233" if long else "2334444")
    return max(number - number % divisor * rng.randint(0, 1), divisor), divisor


def _binary(content: Content) -> dict[str, str]:
    return {"a": str(content[0]), "b": str(content[1])}


_FORMS = {
    "a*b+c": ("{a} times {b} plus {c}", "multiply {a} by {b} and then add {c}"),
    "a*b-c": ("{a} times {b} minus {c}", "multiply {a} by {b} and then subtract {c}"),
    "c+a*b": ("{c} plus {a} times {b}", "add {c} to the product of {a} and {b}"),
    "(c+a)*b": ("the sum of {c} and {a}, times {b}", "add {c} and {a} and then multiply by {b}"),
}


def _two_operations(rng: Random) -> Content:
    form = rng.choice(tuple(_FORMS))
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.randint(10, 99)
    return form, a, b, rng.randint(1, min(a * b, 99)) if form == "a*b-c" else c


def _written(content: Content) -> dict[str, str]:
    form, a, b, c = content
    numbers = {"a": a, "b": b, "c": c}
    close = "".join(str(numbers.get(sign, sign)) for sign in form)
    wide = "".join(f" {sign} " if sign in "+-*" else sign for sign in close)
    words, told = (text.format(**numbers) for text in _FORMS[form])
    return {"close": close, "wide": wide, "words": words, "told": told}


def _in_two(content: Content) -> str:
    """The first operation, then the chain of the second one on its result."""
    form, a, b, c = content
    if form == "(c+a)*b":
        first, second = f"{c}+{a}={c + a}", multiply(c + a, b)
    else:
        first = f"{a}*{b}={a * b}"
        second = {"a*b+c": add(a * b, c), "a*b-c": subtract(a * b, c), "c+a*b": add(c, a * b)}[form]
    return f"{_written(content)['close']}:{first}{END}{second}"


def tasks() -> tuple[Task, ...]:
    """All tasks of the domain."""
    plus = _asked(
        "{a} [plus|+|added to] {b}",
        "[sum|total] of {a} and {b}",
        "[add|add up|add together] {a} [and|plus] {b}",
        "what do you get [if|when] you add {a} [and|to] {b}",
        "[{a} + {b}|{a}+{b}|{a} plus {b}]",
    )
    minus = _asked(
        "{a} [minus|-|less] {b}",
        "result of taking {b} away from {a}",
        "[subtract|take|take away] {b} from {a}",
        "what do you get [if|when] you [subtract|take] {b} from {a}",
        "[{a} - {b}|{a}-{b}|{a} minus {b}]",
    )
    times = _asked(
        "{a} [times|multiplied by|*|x] {b}",
        "product of {a} and {b}",
        "multiply {a} [by|and|with] {b}",
        "what do you get [if|when] you multiply {a} [by|and] {b}",
        "[{a} * {b}|{a}*{b}|{a} x {b}|{a} times {b}]",
    )
    over = _asked(
        "{a} [divided by|/|over] {b}",
        "quotient of {a} and {b}",
        "divide {a} by {b}",
        "what do you get [if|when] you divide {a} by {b}",
        "[{a} / {b}|{a}/{b}|{a} divided by {b}]",
    )
    both = (
        *requests(f"{_WORK_OUT} [{{wide}}|{{close}}|{{words}}]", "[give me|tell me] the result of [{wide}|{words}]"),
        *requests("{told}"),
        *bare("[{wide}|{close}|{words}]", marks=_ASKING),
        *questions("[what is|how much is] [{wide}|{close}|{words}]", "what does [{wide}|{words}] [make|give|come to]"),
    )
    return (
        Task("add", "math", plus, _terms, _binary, lambda content: add(*content), same_result),
        Task("subtract", "math", minus, _difference, _binary, lambda content: subtract(*content), same_result),
        Task("multiply", "math", times, _factors, _binary, lambda content: multiply(*content), same_result),
        Task("divide", "math", over, _quotient, _binary, lambda content: divide(*content), same_result),
        Task("two operations", "math", both, _two_operations, _written, _in_two, same_result),
    )
