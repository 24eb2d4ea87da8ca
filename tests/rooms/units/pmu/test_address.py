"""Address generation: every operation against NumPy, the nest against Python's loops, fragments at their limits."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError, ShapeError
from rdujax.machines import sn40l, tiny
from rdujax.units.pmu import address
from rdujax.units.pmu.address import Address, Generator, Loop, constant, counter, scalar

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
        address.evaluate(built, (), (x, y)),
        jax.jit(lambda *s: address.evaluate(built, (), s))(x, y),
        jax.jit(lambda: address.evaluate(built, (), (x, y)))(),
    ):
        assert got.dtype == jnp.int32 and np.array_equal(got, want)


def test_bit_fields_are_taken_out_and_put_in(rng):
    x, field = rng.integers(-(2**31), 2**31, (2, 16))
    for low, width in [(0, 1), (31, 1), (0, 32), (4, 7), (16, 16), (1, 31)]:
        mask = (1 << width) - 1
        taken = wrapped([(int(a) & 0xFFFFFFFF) >> low & mask for a in x])
        put = wrapped([int(a) & ~(mask << low) | (int(f) & mask) << low for a, f in zip(x, field, strict=True)])
        given = (jnp.asarray(x.astype(np.int32)), jnp.asarray(field.astype(np.int32)))
        assert np.array_equal(address.evaluate(scalar(0).extract(low, width), (), given), taken)
        assert np.array_equal(address.evaluate(scalar(0).set(scalar(1), low, width), (), given), put)


@pytest.mark.parametrize(("low", "width"), [(-1, 2), (0, 0), (31, 2), (0, 33)])
def test_a_field_beyond_the_word_is_refused(low, width):
    with pytest.raises(ArgumentError, match="within bits 0 to 31"):
        counter(0).extract(low, width)
    with pytest.raises(ArgumentError, match=f"low={low}, width={width}"):
        counter(0).set(1, low, width)


def test_constants_are_words():
    assert address.evaluate(constant(2**31 - 1) + 1, ()).item() == -(2**31)
    with pytest.raises(ArgumentError, match="2,147,483,648"):
        constant(2**31)
    with pytest.raises(ArgumentError, match="beyond INT32"):
        counter(0) + (-(2**31) - 1)


NESTS = [
    (Loop(5),),
    (Loop(3, step=10), Loop(4)),
    (Loop(2, step=-3, start=7), Loop(1), Loop(3, step=2, start=1)),
    (Loop(2), Loop(3, step=0), Loop(2), Loop(2)),
]


def reference(nest: tuple[Loop, ...]) -> list[tuple[int, ...]]:
    """The values of the counters, turn after turn."""
    return list(product(*([loop.start + i * loop.step for i in range(loop.length)] for loop in nest)))


def mixed(rank: int) -> tuple[Address, Address]:
    """An address and a predicate that know every counter."""
    total = counter(0)
    for i in range(1, rank):
        total = (total << 2) ^ counter(i) * 5
    return total, total.extract(1, 1).equals(0)


@pytest.mark.parametrize("nest", NESTS, ids=len)
def test_the_nest_counts_as_loops_do(nest):
    total, even = mixed(len(nest))
    want, kept = [], []
    for turn in reference(nest):
        value = turn[0]
        for x in turn[1:]:
            value = (value << 2) ^ (x * 5)
        want.append(value)
        kept.append((value >> 1) & 1 == 0)
    for lane_loops in range(len(nest) + 1):
        generator = Generator(nest, total, even, lane_loops)
        got, valid = jax.jit(lambda g=generator: address.vectors(g))()
        assert got.shape == valid.shape == generator.shape and got.size == len(want)
        assert got.reshape(-1).tolist() == want and valid.reshape(-1).tolist() == kept


@pytest.mark.parametrize("nest", NESTS, ids=len)
def test_one_step_after_another_gives_the_same_addresses(nest):
    generator = Generator(nest, *mixed(len(nest)))

    def step(turns, _):
        here = address.at(generator, tuple(turns))
        after, done = address.advance(nest, turns)
        return after, (*here, done)

    count = len(reference(nest))
    start = jnp.zeros(len(nest), jnp.int32)
    end, (got, valid, done) = jax.lax.scan(step, start, length=count)
    want, kept = address.static(generator)
    assert np.array_equal(got, want.reshape(-1)) and np.array_equal(valid, kept.reshape(-1))
    assert not end.any() and done.tolist() == [False] * (count - 1) + [True]


def test_a_static_stream_is_known_while_tracing():
    generator = Generator((Loop(2, step=8), Loop(4)), counter(0) + counter(1), counter(1) < 3)

    def traced(x):
        at, valid = address.static(generator)
        assert isinstance(at, np.ndarray) and at.dtype == np.int32 and valid.dtype == bool
        return x + jnp.asarray(at[valid].sum(), jnp.int32)

    assert jax.jit(traced)(jnp.int32(1)).item() == 1 + 0 + 1 + 2 + 8 + 9 + 10


def test_scalars_arrive_while_the_program_runs():
    generator = Generator((Loop(3),), scalar(0) + counter(0), counter(0) < scalar(1))
    at, valid = jax.jit(lambda *s: address.vectors(generator, s))(jnp.int32(100), jnp.int32(2))
    assert at.tolist() == [[100, 101, 102]] and valid.tolist() == [[True, True, False]]
    with pytest.raises(ShapeError, match="a scalar that is not given\n.*s0"):
        address.vectors(generator)
    with pytest.raises(ShapeError, match="a counter that is not given\n.*c1\n.*1 of them"):
        address.evaluate(counter(1), [0])


def test_empty_loops_and_too_many_lanes_are_refused():
    with pytest.raises(ArgumentError, match="1 turn or more"):
        Loop(0)
    with pytest.raises(ArgumentError, match="2,147,483,648\n.*2\\^31-1"):
        Loop(2, step=2**31)
    with pytest.raises(ShapeError, match="0 to 1"):
        Generator((Loop(2),), counter(0), lane_loops=2)


def test_stages_are_the_different_operations_that_no_lane_takes_part_in():
    row, lane = counter(0), counter(1)
    base = row * 3
    assert address.stages(row) == address.stages(constant(3)) == 0
    assert address.stages(base + base) == 2
    assert address.stages(base + 1, base + 1) == 2
    assert address.stages(base + 1, base < 7) == 3
    assert address.stages((base + 1) + lane, lanes=[1]) == 2
    assert address.stages(row * 3 + 1) == address.stages((counter(0) * 3) + 1) == 2
    generator = Generator((Loop(4), Loop(4)), base + lane, (base + lane) < 9)
    assert address.stages_of(generator) == 1


def chained(count: int) -> Generator:
    """A stream that takes `count` stages."""
    total = counter(0)
    for i in range(count):
        total = total + (i + 1)
    return Generator((Loop(4), Loop(2)), total)


@pytest.mark.parametrize("machine", [tiny(), sn40l()], ids=lambda m: m.name)
def test_fragments_fill_the_pipeline_and_no_more(machine):
    there = machine.pmu.address_stages.value
    address.check(machine.pmu, {"write": chained(2), "read": chained(there - 2)}, "a PMU")
    with pytest.raises(CapacityError) as error:
        address.check(machine.pmu, {"write": chained(3), "read": chained(there - 2)}, "stage 7")
    text = str(error.value)
    assert f"{there + 1} address stages, 1 too many" in text and "stage 7" in text
    assert "3 address stages  write: c0<4 c1<2: ((c0 + 1) + 2) + 3" in text


@pytest.mark.parametrize("machine", [tiny(), sn40l()], ids=lambda m: m.name)
def test_as_many_streams_as_addresses_per_cycle(machine):
    there = machine.pmu.addresses_per_cycle.value
    address.check(machine.pmu, {f"stream {i}": chained(1) for i in range(there)}, "a PMU")
    with pytest.raises(CapacityError, match=f"{there + 1} address streams, 1 too many"):
        address.check(machine.pmu, {f"stream {i}": chained(1) for i in range(there + 1)}, "a PMU")


def test_expressions_print_as_they_are_read():
    x = ((counter(0) << 4) | counter(1)).set(scalar(0) - 1, 2, 3)
    assert str(x) == "set[2:5]((c0 << 4) | c1, s0 - 1)"
    assert str(Generator((Loop(2), Loop(3)), x.extract(0, 5), counter(1) >= 1)) == (
        "c0<2 c1<3: extract[0:5](set[2:5]((c0 << 4) | c1, s0 - 1)) if c1 >= 1"
    )
