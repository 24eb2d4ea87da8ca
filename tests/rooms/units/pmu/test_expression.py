"""Address expressions: every operation against NumPy, bit fields, stages, and what sharing must not cost."""

import pickle
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.units.pmu import address, expression
from rdujax.units.pmu.address import Generator, Loop
from rdujax.units.pmu.expression import constant, counter, scalar

WORDS = [0, 1, -1, 2, 31, 32, 33, 2**31 - 1, -(2**31), 0x5A5A5A5A, -0x5A5A5A5B]


def wrapped(x):
    """The low 32 bits as int32."""
    return (np.asarray(x).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def shifted(x, amount, *, left: bool):
    """Python's shift of the unsigned word, 0 for an unsigned amount of 32 or more."""
    words = [(int(a) & 0xFFFFFFFF, int(n) & 0xFFFFFFFF) for a, n in zip(x, amount, strict=True)]
    return wrapped([0 if n > 31 else (a << n if left else a >> n) & 0xFFFFFFFF for a, n in words])


REFERENCE = {
    "+": lambda x, y: wrapped(x + y),
    "-": lambda x, y: wrapped(x - y),
    "*": lambda x, y: wrapped([int(a) * int(b) & 0xFFFFFFFF for a, b in zip(x, y, strict=True)]),
    "<<": lambda x, y: shifted(x, y, left=True),
    ">>": lambda x, y: shifted(x, y, left=False),
    "&": lambda x, y: wrapped(x & y),
    "|": lambda x, y: wrapped(x | y),
    "^": lambda x, y: wrapped(x ^ y),
    "<": lambda x, y: wrapped(x < y),
    "<=": lambda x, y: wrapped(x <= y),
    ">": lambda x, y: wrapped(x > y),
    ">=": lambda x, y: wrapped(x >= y),
    "==": lambda x, y: wrapped(x == y),
}
OPERATORS = {
    "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "<<": lambda x, y: x << y,
    ">>": lambda x, y: x >> y, "&": lambda x, y: x & y, "|": lambda x, y: x | y, "^": lambda x, y: x ^ y,
    "<": lambda x, y: x < y, "<=": lambda x, y: x <= y, ">": lambda x, y: x > y, ">=": lambda x, y: x >= y,
    "==": lambda x, y: x.equals(y),
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCE)
def test_each_operation_is_int32_and_wraps(rng, name):
    pairs = np.asarray([*product(WORDS, WORDS), *rng.integers(-(2**31), 2**31, (200, 2))], np.int64).T
    built = OPERATORS[name](scalar(0), scalar(1))
    want = REFERENCE[name](*pairs)
    x, y = (jnp.asarray(p.astype(np.int32)) for p in pairs)
    for got in (
        expression.evaluate(built, (), (x, y)),
        jax.jit(lambda *s: expression.evaluate(built, (), s))(x, y),
        jax.jit(lambda: expression.evaluate(built, (), (x, y)))(),
    ):
        assert got.dtype == jnp.int32 and np.array_equal(got, want)


def test_bit_fields_are_taken_out_and_put_in(rng):
    x, field = rng.integers(-(2**31), 2**31, (2, 16))
    for low, width in [(0, 1), (31, 1), (0, 32), (4, 7), (16, 16), (1, 31)]:
        mask = (1 << width) - 1
        taken = wrapped([(int(a) & 0xFFFFFFFF) >> low & mask for a in x])
        put = wrapped([int(a) & ~(mask << low) | (int(f) & mask) << low for a, f in zip(x, field, strict=True)])
        given = (jnp.asarray(x.astype(np.int32)), jnp.asarray(field.astype(np.int32)))
        assert np.array_equal(expression.evaluate(scalar(0).extract(low, width), (), given), taken)
        assert np.array_equal(expression.evaluate(scalar(0).set(scalar(1), low, width), (), given), put)


@pytest.mark.parametrize(("low", "width"), [(-1, 2), (0, 0), (31, 2), (0, 33)])
def test_a_field_beyond_the_word_is_refused(low, width):
    with pytest.raises(ArgumentError, match="within bits 0 to 31"):
        counter(0).extract(low, width)
    with pytest.raises(ArgumentError, match=f"low={low}, width={width}"):
        counter(0).set(1, low, width)


def test_constants_are_words():
    assert expression.evaluate(constant(2**31 - 1) + 1, ()).item() == -(2**31)
    with pytest.raises(ArgumentError, match="2,147,483,648"):
        constant(2**31)
    with pytest.raises(ArgumentError, match="beyond INT32"):
        counter(0) + (-(2**31) - 1)


def test_stages_are_the_different_operations_that_no_lane_takes_part_in():
    row, lane = counter(0), counter(1)
    base = row * 3
    assert expression.stages(row) == expression.stages(constant(3)) == 0
    assert expression.stages(base + base) == 2
    assert expression.stages(base + 1, base + 1) == 2
    assert expression.stages(base + 1, base < 7) == 3
    assert expression.stages((base + 1) + lane, lanes=[1]) == 2
    assert expression.stages(row * 3 + 1) == expression.stages((counter(0) * 3) + 1) == 2
    generator = Generator((Loop(4), Loop(4)), base + lane, (base + lane) < 9)
    assert address.stages_of(generator) == 1


def test_expressions_print_as_they_are_read():
    x = ((counter(0) << 4) | counter(1)).set(scalar(0) - 1, 2, 3)
    assert str(x) == "set[2:5]((c0 << 4) | c1, s0 - 1)"
    assert str(Generator((Loop(2), Loop(3)), x.extract(0, 5), counter(1) >= 1)) == (
        "c0<2 c1<3: extract[0:5](set[2:5]((c0 << 4) | c1, s0 - 1)) if c1 >= 1"
    )


def doubled(times: int) -> expression.Address:
    """x + x of x + x of ...: `times` operations, 2^times paths to the counter."""
    x = counter(0)
    for _ in range(times):
        x = x + x
    return x


def test_shared_subexpressions_cost_no_more_than_one():
    """Sixty operations with 2^60 paths to their counter: walked once each, or this does not end."""
    x, same = doubled(60), doubled(60)
    assert x == same and hash(x) == hash(same) and x is not same and x != doubled(61) != same + 1
    assert expression.stages(x, same, x + 1) == 61
    assert expression.evaluate(doubled(31), [3]).item() == -(2**31)
    assert expression.evaluate(x, [3]).item() == 0
    assert expression.stages(x, lanes=[0]) == 0


def test_long_expressions_are_written_up_to_a_length():
    text = str(doubled(60))
    assert len(text) < 300 and text.endswith(" ...") and repr(doubled(60)) == text
    assert str(doubled(2)) == "(c0 + c0) + (c0 + c0)"


def test_chains_may_be_longer_than_the_stack_of_python():
    x = y = counter(0)
    for i in range(3000):
        x, y = x ^ i, y ^ i
    assert x == y and expression.stages(x) == 3000 and str(x).startswith("((((")


def test_an_expression_survives_the_way_to_another_process():
    x = (counter(0) * 3).set(scalar(1), 2, 3)
    again = pickle.loads(pickle.dumps(x))
    assert again == x and hash(again) == hash(x) and str(again) == str(x)


def test_numbers_stand_on_either_side():
    c, seven = counter(0), [7]
    got = {
        "+": 4 + c, "-": 4 - c, "*": 4 * c, "<<": 4 << c, ">>": 400 >> c, "&": 6 & c, "|": 8 | c, "^": 5 ^ c,
        "<": 3 < c, ">=": 3 >= c, "numpy": np.int32(4) + c,
    }  # fmt: skip
    want = {"+": 11, "-": -3, "*": 28, "<<": 512, ">>": 3, "&": 6, "|": 15, "^": 2, "<": 1, ">=": 0, "numpy": 11}
    assert {name: expression.evaluate(x, seven).item() for name, x in got.items()} == want
    assert 4 + c == constant(4) + c != c + 4


def test_what_is_no_whole_number_is_refused():
    for wrong in (2.5, 2.0, "2", jnp.float32(2)):
        with pytest.raises(ArgumentError, match=r"whole number(.|\n)*an int\n.*as a scalar"):
            counter(0) + wrong
    with pytest.raises(ArgumentError, match="whole number is needed: counter"):
        counter(0.0)
    for leaf in (counter, scalar):
        with pytest.raises(ArgumentError, match="-1\n.*0 or more"):
            leaf(-1)
    with pytest.raises(ArgumentError, match="2.5"):
        Loop(2.5)
