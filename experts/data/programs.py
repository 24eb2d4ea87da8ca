"""Python functions of one argument: of a list, of a number, of a string. Judged by running them."""

import ast
from random import Random

from experts.data.interpreter import Refused, run
from experts.data.tasks import Content, Task
from experts.data.wordings import bare, digest, questions, requests

INPUTS = 12  # lists on which two functions must agree

# What is left of the numbers of a list, and how it is said.
FILTERS = {
    "": "the numbers in a list",
    "x % 2 == 0": "the even numbers in a list",
    "x % 2 == 1": "the odd numbers in a list",
    "x > 0": "the positive numbers in a list",
    "x < 0": "the negative numbers in a list",
    "x > {k}": "the numbers above {k} in a list",
    "x < {k}": "the numbers below {k} in a list",
    "x != {k}": "the numbers other than {k} in a list",
    "x % {k} == 0": "the multiples of {k} in a list",
}
# What is done with each of them, and how it is said.
MAPS = {
    "x": "{}",
    "x * x": "the squares of {}",
    "x ** 3": "the cubes of {}",
    "abs(x)": "the absolute values of {}",
    "-x": "the negatives of {}",
    "x * {m}": "{}, each times {m}",
    "x + {m}": "{}, each plus {m}",
    "x - {m}": "{}, each minus {m}",
    "x % {m}": "the remainders of {} divided by {m}",
}
TOTALS = {"sum": "the sum of", "max": "the largest of", "min": "the smallest of", "len": "the number of"}
ORDERS = {"{}": "{}", "sorted({})": "{}, in ascending order", "sorted({}, reverse=True)": "{}, in descending order"}
NUMBERS = {
    "n % {k} == 0": "whether a number is divisible by {k}",
    "n > {k}": "whether a number is greater than {k}",
    "n < {k}": "whether a number is less than {k}",
    "{k} <= n <= {l}": "whether a number is in the range from {k} to {l}",
    "n % {k}": "the remainder of a number divided by {k}",
    "n * {k} + {m}": "{k} times a number, plus {m}",
    "n * {k} - {m}": "{k} times a number, minus {m}",
    "(n + {m}) * {k}": "a number plus {m}, all times {k}",
    "(n - {m}) * {k}": "a number minus {m}, all times {k}",
    "n * n + {k}": "the square of a number, plus {k}",
    "n * n - {k}": "the square of a number, minus {k}",
    "max(n, {k})": "the larger one of a number and {k}",
    "min(n, {k})": "the smaller one of a number and {k}",
}
PARTS = {
    "s": "a string",
    "s[:{k}]": "the first {k} characters of a string",
    "s[-{k}:]": "the last {k} characters of a string",
    "s[{k}:]": "a string without its first {k} characters",
    "s[:-{k}]": "a string without its last {k} characters",
}
CHANGES = {
    "{}.upper()": "{} in upper case",
    "{}.lower()": "{} in lower case",
    "{}[::-1]": "{}, reversed",
    "{}.replace('{a}', '{b}')": "{}, with every letter {a} replaced by {b}",
    "{}.replace('{a}', '')": "{}, without the letter {a}",
    "{}.count('{a}')": "how often the letter {a} occurs in {}",
    "{}.startswith('{a}')": "whether the letter {a} is at the start of {}",
    "{}.endswith('{a}')": "whether the letter {a} is at the end of {}",
}
LETTERS = "aeioulnrst"


def _filled(text: str, **values: object) -> str:
    """The text with some of its fields written in; {} stays for what comes in its place."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _loop(rng: Random, step: str) -> tuple[str, str]:
    """A loop over a list, `x * x for x in xs if x > 3`, and what it gives in words."""
    test = rng.choice(tuple(FILTERS))
    if rng.random() < 0.6:  # more often with a number in it: of the others there are few
        test = rng.choice([each for each in FILTERS if "{k}" in each])
    k, m = rng.randint(3, 20), rng.randint(2, 12)
    words = _filled(MAPS[step], m=m).replace("{}", _filled(FILTERS[test], k=k))
    return _filled(f"{step} for x in xs" + f" if {test}" * bool(test), k=k, m=m), words


def _total(rng: Random) -> Content:
    how = rng.choice(tuple(TOTALS))
    loop, words = _loop(rng, rng.choice(tuple(MAPS)) if how != "len" else "x")
    loop, words = (f"[{loop}]", words.removeprefix("the ")) if how == "len" else (loop, words)
    return f"def f(xs): return {how}({loop})", f"{TOTALS[how]} {words}"


def _list(rng: Random) -> Content:
    order = rng.choice(tuple(ORDERS))
    loop, words = _loop(rng, rng.choice(tuple(MAPS)))
    return f"def f(xs): return {order.replace('{}', f'[{loop}]')}", ORDERS[order].replace("{}", words)


def _number(rng: Random) -> Content:
    form = rng.choice(tuple(NUMBERS))
    k = rng.randint(2, 50)
    values = {"k": k, "l": k + rng.randint(2, 50), "m": rng.randint(2, 30)}
    return f"def f(n): return {_filled(form, **values)}", _filled(NUMBERS[form], **values)


def _text(rng: Random) -> Content:
    part, change = rng.choice(tuple(PARTS)), rng.choice(tuple(CHANGES))
    a, b = rng.sample(LETTERS, 2)
    k = rng.randint(2, 9)
    code = _filled(change, a=a, b=b).replace("{}", _filled(part, k=k))
    return f"def f(s): return {code}", _filled(CHANGES[change], a=a, b=b).replace("{}", _filled(PARTS[part], k=k))


def _inputs(program: str) -> list[object]:
    """Arguments that tell functions like this one apart: some around every number and with every letter in it."""
    tree = ast.parse(program)
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    rng = Random(digest(program))
    near = [n + step for n in constants if isinstance(n, int) for step in (-1, 0, 1)]
    name = ast.unparse(tree.body[0]).partition("(")[2].partition(")")[0]
    if name == "n":
        return [*near, *(-n for n in near), *range(-9, 10), *(rng.randint(-200, 200) for _ in range(INPUTS))]
    if name == "s":
        letters = "".join(each for each in constants if isinstance(each, str)) + LETTERS
        words = ["".join(rng.choices(letters + letters.upper() + "xyz ", k=rng.randint(9, 24))) for _ in range(INPUTS)]
        first = [f"{a}{word}{b}" for a, b, word in zip(letters, reversed(letters), words, strict=False)]
        return ["", "Anna", "Hello, world", *words, *first]
    lists = [[rng.randint(-30, 60) for _ in range(rng.randint(4, 9))] for _ in range(INPUTS)]
    many = [n * step for n in near for step in (1, 2, -1)]
    return [[], [7], many, *(each + rng.sample(many, min(len(many), 4)) for each in lists)]


def same_outcomes(answer: str, text: str) -> bool:
    """Whether both functions give the same, or raise the same, for every one of several arguments."""
    arguments = _inputs(answer)
    try:
        return [(*each, type(each[1])) for each in run(answer, *arguments)] == [
            (*each, type(each[1])) for each in run(text.strip(), *arguments)
        ]
    except Refused:
        return False


def _written(content: Content) -> dict[str, str]:
    return {"what": content[1]}


def _program(content: Content) -> str:
    return content[0]


def tasks() -> tuple[Task, ...]:
    """Four kinds of functions, which are asked for in the same wordings."""
    function = "[Python function|function in Python|Python function f]"
    wordings = (
        *requests(
            f"[write|give me|show me] a {function} that [returns|computes|gives|finds] {{what}}",
            f"[define|implement|code|program] a {function} [that returns|which returns|that computes] {{what}}",
            "use Python to [return|compute|find] {what}",
            "[write|give me|show me] Python code [that returns|which returns|that finds] {what}",
        ),
        *questions(
            "how [do you|do I|would you] [compute|find|return] {what} in Python",
            f"what does a {function} [which|that] [returns|finds] {{what}} look like",
            f"which {function} [returns|computes|gives] {{what}}",
        ),
        *bare(
            "[Python|Python function|Python code|function in Python]: {what}",
            "def f that [returns|gives|computes] {what}",
            "{what}, [in Python|as a Python function]",
        ),
    )
    kinds = (("list to number", _total), ("list to list", _list), ("number", _number), ("string", _text))
    return tuple(Task(name, "code", wordings, draw, _written, _program, same_outcomes) for name, draw in kinds)
