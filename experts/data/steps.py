"""Arithmetic on paper: chains of steps so small that each is a look-up in a table of digits.

A chain is written `expression:step;step;=result`. Every step is true as it stands, needs only digits of the expression
or of the last few steps, and is written left to right. Results are read off the steps: of a sum, the last step and
the ones digits of those before it.

    457+368:7+8=15;5+6+1=12;4+3+1=8;=825        ones, tens, hundreds, each with the carry of the one before
    457-368:17-8=9;15-6-1=8;4-3-1=0;=89         17 for 7: one is borrowed, which the next step takes away
    17*23:7*3=21;1*3=3;3+2=5;7*2=14;14+5=19;1*2=2;2+1=3;=391      columns of the product; 2 and 1 are carries
    4738/7:47-7*6=47-42=5;53-7*7=53-49=4;48-7*6=48-42=6;=676 r 6      long division; a rest goes before the next digit
"""

from collections.abc import Iterator
from itertools import zip_longest

END = ";"  # of a step


def chain(expression: str, steps: Iterator[str], result: int | str) -> str:
    """All of an answer: what is computed, how, and what comes out."""
    return f"{expression}:{''.join(step + END for step in steps)}={result}"


def _columns(a: int, b: int) -> Iterator[tuple[int, int]]:
    """Digits of both numbers from the ones up, the shorter one with zeros before it."""
    pairs = zip_longest(reversed(str(a)), reversed(str(b)), fillvalue="0")
    return ((int(x), int(y)) for x, y in pairs)


def sum_steps(a: int, b: int) -> Iterator[str]:
    """Column by column, each with the carry of the one before it."""
    carry = None
    for x, y in _columns(a, b):
        total = x + y + (carry or 0)
        yield f"{x}+{y}={total}" if carry is None else f"{x}+{y}+{carry}={total}"
        carry = total // 10


def difference_steps(a: int, b: int) -> Iterator[str]:
    """Column by column, for a >= b. Where the upper digit is too small, ten is borrowed and written before it."""
    borrowed = None
    for x, y in _columns(a, b):
        x += 10 * (x < y + (borrowed or 0))
        rest = x - y - (borrowed or 0)
        yield f"{x}-{y}={rest}" if borrowed is None else f"{x}-{y}-{borrowed}={rest}"
        borrowed = int(x > 9)


def product_steps(a: int, b: int) -> Iterator[str]:
    """Column by column: the carry, then one product of digits after the other. A product of two digits is one step."""
    upper, lower = (tuple(map(int, reversed(str(number)))) for number in (a, b))
    total: int | None = None
    for column in range(len(upper) + len(lower) - 1):
        total = total // 10 if total is not None else None
        for x, y in ((upper[column - i], y) for i, y in enumerate(lower) if 0 <= column - i < len(upper)):
            yield f"{x}*{y}={x * y}"
            if total is not None:
                yield f"{x * y}+{total}={x * y + total}"
            total = x * y + (total or 0)


def quotient_steps(a: int, b: int) -> Iterator[str]:
    """Long division: as many leading digits as reach b, then each further digit behind the rest so far."""
    text = str(a)
    first = next((n for n in range(1, len(text)) if int(text[:n]) >= b), len(text))
    part = int(text[:first])
    for digit in (*text[first:], None):
        quotient, rest = divmod(part, b)
        yield f"{part}-{b}*{quotient}={part}-{b * quotient}={rest}"
        if digit is not None:
            part = 10 * rest + int(digit)


def add(a: int, b: int) -> str:
    """The chain of a + b, of numbers of 0 or more."""
    return chain(f"{a}+{b}", sum_steps(a, b), a + b)


def subtract(a: int, b: int) -> str:
    """The chain of a - b, of numbers of 0 or more; where b is larger, that of b - a with its sign changed."""
    expression = f"{a}-{b}" if a >= b else f"{a}-{b}=-({b}-{a})"
    return chain(expression, difference_steps(max(a, b), min(a, b)), a - b)


def multiply(a: int, b: int) -> str:
    """The chain of a * b, of numbers of 0 or more."""
    return f"{a}*{b}={a * b}" if max(a, b) < 10 else chain(f"{a}*{b}", product_steps(a, b), a * b)


def divide(a: int, b: int) -> str:
    """The chain of a / b, of whole numbers; what is left over stands behind an r."""
    quotient, rest = divmod(a, b)
    return chain(f"{a}/{b}", quotient_steps(a, b), f"{quotient} r {rest}" if rest else quotient)
