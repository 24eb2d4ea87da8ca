"""Worked steps: every one is true, and so is the result, by another road than the one that wrote them."""

import re
from fractions import Fraction

import pytest

from experts.data import examples
from experts.data.maths import DIVISORS
from experts.data.steps import add, divide, multiply, subtract
from experts.data.units import CONVERSIONS

TOKENS = re.compile(r"\d+|[-+*/()]")


def value(text: str) -> Fraction:
    """An expression's value by recursive descent: sums of products of numbers, signs and brackets."""
    tokens = [*TOKENS.findall(text), "end"]
    assert "".join(tokens[:-1]) == text

    def atom() -> Fraction:
        token = tokens.pop(0)
        if token == "-":
            return -atom()
        if token != "(":
            return Fraction(token)
        inside = total()
        assert tokens.pop(0) == ")"
        return inside

    def product() -> Fraction:
        found = atom()
        while tokens[0] in "*/":
            found = found * atom() if tokens.pop(0) == "*" else found / atom()
        return found

    def total() -> Fraction:
        found = product()
        while tokens[0] in "+-":
            found += product() if tokens.pop(0) == "+" else -product()
        return found

    found = total()
    assert tokens == ["end"]
    return found


def result(text: str) -> Fraction:
    """What stands behind the last equals sign, where "676 r 6" of a quotient by 7 is 676 and 6/7."""
    whole, _, rest = text.rpartition("=")[2].partition(" r ")
    divisor = re.findall(r"/(\d+)", text)[-1] if rest else "1"
    return Fraction(whole) + Fraction(int(rest or 0), int(divisor))


def check_steps(text: str) -> None:
    """Parts between equals signs are equal, and what is asked, at the front, has the value at the end."""
    for step in re.split("[;:]", text):
        if step.startswith("=") or "=" not in step:
            continue
        assert len(set(map(value, re.sub(r" r \d+$", "", step).split("=")))) == 1, step
    assert value(re.split("[:=]", text)[0]) == result(text)


@pytest.mark.parametrize("domain", ["math", "units"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_step_is_true(domain: str, split: str):
    for each in examples(domain, split, "seen", 4, count=2000):
        check_steps(each.answer)


def test_the_rule_of_true_steps_catches():
    check_steps("17*23:7*3=21;1*3=3;3+2=5;7*2=14;14+5=19;1*2=2;2+1=3;=391")
    for wrong in (
        "17*23:7*3=22;=391",
        "17*23:7*3=21;=392",
        "22/7:22-7*3=22-21=1;=3 r 2",
        "22/7:22-7*3=22-21=2;=3 r 1",
        "1-3=-(3-2):3-1=2;=-2",
    ):
        with pytest.raises(AssertionError):
            check_steps(wrong)


def test_chains_are_written_as_promised():
    assert add(457, 368) == "457+368:7+8=15;5+6+1=12;4+3+1=8;=825"
    assert add(99, 7) == "99+7:9+7=16;9+0+1=10;=106"
    assert subtract(457, 368) == "457-368:17-8=9;15-6-1=8;4-3-1=0;=89"
    assert subtract(368, 457) == "368-457=-(457-368):17-8=9;15-6-1=8;4-3-1=0;=-89"
    assert multiply(17, 23) == "17*23:7*3=21;1*3=3;3+2=5;7*2=14;14+5=19;1*2=2;2+1=3;=391"
    assert multiply(123, 7) == "123*7:3*7=21;2*7=14;14+2=16;1*7=7;7+1=8;=861"
    assert multiply(7, 8) == "7*8=56"
    assert divide(4738, 7) == "4738/7:47-7*6=47-42=5;53-7*7=53-49=4;48-7*6=48-42=6;=676 r 6"
    assert divide(888, 24) == "888/24:88-24*3=88-72=16;168-24*7=168-168=0;=37"


@pytest.mark.parametrize("a", [1, 9, 10, 50, 99, 100, 999, 1000, 9999])
def test_edges_are_true(a: int):
    for b in (1, 9, 10, 90, 99, 101, 999):
        for chain in (add(a, b), subtract(a, b), subtract(b, a), multiply(a, b), divide(a, b)):
            check_steps(chain)


def test_a_result_is_read_off_the_steps():
    """Of sums and products: the last step, then the last digits of the steps that end a column."""
    for a in range(10, 100, 7):
        for b in range(10, 100, 9):
            steps = add(a, b).partition(":")[2].split(";")[:-1]
            digits = [step.partition("=")[2] for step in steps]
            assert int(digits[-1] + "".join(each[-1] for each in reversed(digits[:-1]))) == a + b
            ones, _, _, _, tens, _, hundreds = (
                step.partition("=")[2] for step in multiply(a, b).partition(":")[2].split(";")[:-1]
            )
            assert int(hundreds + tens[-1] + ones[-1]) == a * b


def test_no_factor_of_a_step_is_larger_than_a_digit_but_for_the_few_long_divisors():
    for each in examples("math", "train", "seen", 8, count=1000):
        steps = re.findall(r"(\d+)\*(\d+)=", each.answer.partition(":")[2])
        allowed = {*range(10), *(DIVISORS if each.task == "divide" else ())}
        assert all(int(a) in allowed and int(b) < 10 for a, b in steps)


def test_factors_of_units_are_right():
    factors = {(large, small): factor for large, small, factor, *_ in CONVERSIONS}
    assert factors["hours", "minutes"] == factors["minutes", "seconds"] == 60
    assert (factors["days", "hours"], factors["weeks", "days"], factors["years", "months"]) == (24, 7, 12)
    assert factors["feet", "inches"] * factors["yards", "feet"] == 36
    assert factors["kilometres", "metres"] * factors["metres", "centimetres"] == 100_000
    assert factors["metres", "centimetres"] * factors["centimetres", "millimetres"] == 1000
    assert (factors["pounds", "ounces"], factors["gallons", "pints"], factors["dozen", "pieces"]) == (16, 8, 12)
