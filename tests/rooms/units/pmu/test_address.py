"""Address generation: the nest against Python's loops, streams known while tracing, fragments at their limits."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError, ShapeError
from rdujax.machines import sn40l, tiny
from rdujax.units.pmu import address, expression
from rdujax.units.pmu.address import Generator, Loop
from rdujax.units.pmu.expression import Address, counter, scalar
from tests.rooms.units.compiles import compiled_by

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
        expression.evaluate(counter(1), [0])


def test_empty_loops_and_too_many_lanes_are_refused():
    with pytest.raises(ArgumentError, match="1 turn or more"):
        Loop(0)
    with pytest.raises(ArgumentError, match="2,147,483,648\n.*2\\^31-1"):
        Loop(2, step=2**31)
    with pytest.raises(ShapeError, match="0 to 1"):
        Generator((Loop(2),), counter(0), lane_loops=2)


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


def test_too_many_stages_are_refused_however_many_paths_lead_to_them():
    x = counter(0)
    for _ in range(60):
        x = x + x
    with pytest.raises(CapacityError, match=r"60 address stages.*too many(.|\n)* \.\.\.") as error:
        address.check(sn40l().pmu, {"read": Generator((Loop(4), Loop(2)), x)}, "a PMU")
    assert len(str(error.value)) < 1000


def test_a_static_stream_is_computed_once():
    def stream():
        return Generator((Loop(3, step=7), Loop(5)), counter(0) + counter(1) * 11)

    first = address.static(stream())
    assert compiled_by(lambda: address.static(stream())) == 0
    again = address.static(stream())
    assert all(map(np.array_equal, first, again))
    with pytest.raises(ValueError, match="read-only"):
        again[0][0, 0] = 1
