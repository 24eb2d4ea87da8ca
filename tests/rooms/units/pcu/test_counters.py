"""Counters against Python's own loops, closed form against steps, events against the ends of loops."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import tiny
from rdujax.units.pcu import counters
from rdujax.units.pcu.counters import Counter, Nest, cycles, init, predict, run, step, unroll
from tests.rooms.units.compiles import assert_compiles_once

LIMIT = 2**31


def loops(nest: Nest, stops: tuple[int, ...] = ()) -> list[tuple[list[int], list[int], list[bool]]]:
    """The turns of a nest as Python's loops make them: indices, values of the enabled lanes, done events."""
    arriving = iter(stops)
    ranges = [range(c.start, next(arriving) if c.stop is None else c.stop, c.step) for c in nest.counters]
    *outer, inner = ranges
    groups = [list(inner[i : i + nest.lanes]) for i in range(0, len(inner), nest.lanes)] or [[]]
    empty = any(len(r) == 0 for r in outer)
    axes = [list(r) or [r.start] for r in outer]
    turns = []
    for at in product(*(range(len(a)) for a in axes), range(len(groups))):
        lanes = groups[at[-1]]
        first = lanes[0] if lanes else inner.start
        last = [i == n - 1 for i, n in zip(at, [*map(len, axes), len(groups)], strict=True)]
        done = [all(last[i:]) for i in range(len(last))]
        turns.append(([*(a[i] for a, i in zip(axes, at, strict=False)), first], [] if empty else lanes, done))
    return turns


def random_nest(rng: np.random.Generator) -> tuple[Nest, tuple[int, ...]]:
    """Up to three counters of either sign, some empty, some with a stop that arrives."""
    made, stops = [], []
    for _ in range(rng.integers(1, 4)):
        start, length, pace = (
            int(rng.integers(-20, 20)),
            int(rng.integers(-2, 12)),
            int(rng.choice([-3, -2, -1, 1, 2, 5])),
        )
        stop = start + (length if pace > 0 else -length)
        arrives = rng.random() < 0.4
        stops += [stop] * arrives
        made.append(Counter(start, None if arrives else stop, pace))
    return Nest(tuple(made), int(rng.choice([1, 1, 2, 4]))), tuple(stops)


def assert_turns(turns: counters.Turn, want: list) -> None:
    indices, done = np.asarray(turns.indices), np.asarray(turns.done)
    lanes, enabled = np.asarray(turns.lanes), np.asarray(turns.enabled)
    assert indices[: len(want)].tolist() == [w[0] for w in want]
    assert [lanes[t][enabled[t]].tolist() for t in range(len(want))] == [w[1] for w in want]
    assert done[: len(want)].tolist() == [w[2] for w in want]
    assert not enabled[len(want) :].any() and not done[len(want) :].any()


@pytest.mark.parametrize("nests", [10, pytest.param(200, marks=pytest.mark.full)])
def test_steps_and_closed_form_are_those_of_loops(nests: int, rng):
    for _ in range(nests):
        nest, stops = random_nest(rng)
        want = loops(nest, stops)
        assert_turns(unroll(nest, stops), want)
        turns, counts = run(nest, len(want) + 3, stops)
        assert_turns(turns, want)
        assert (
            total(counts)
            == predict(nest, stops)
            == Counts({"pcu.turns": len(want), "pcu.events": sum(map(sum, (w[2] for w in want)))})
        )
        assert cycles(tiny().pcu, nest, stops) == len(want)
        closed = unroll(nest, stops)
        for name in ("indices", "lanes", "enabled", "done"):
            np.testing.assert_array_equal(getattr(turns, name)[: len(want)], getattr(closed, name))


def test_a_count_is_done_at_its_last_turn_and_not_one_before():
    nest = Nest((Counter(0, 3), Counter(0, 4)))
    turns, _ = run(nest, 14)
    inner, outer = np.flatnonzero(turns.done[:, 1]), np.flatnonzero(turns.done[:, 0])
    assert inner.tolist() == [3, 7, 11] and outer.tolist() == [11]
    state = init(nest)
    for turn in range(12):
        assert not bool(state.finished), turn
        state, _, _ = step(nest, state)
    assert bool(state.finished)


def test_a_loop_without_a_value_is_one_turn_and_one_event():
    turns, counts = run(Nest((Counter(0, 2), Counter())), 4, [jnp.int32(0)])
    assert turns.done.tolist() == [[False, True], [True, True], [False, False], [False, False]]
    assert not np.asarray(turns.enabled).any()
    assert total(counts) == Counts({"pcu.turns": 2, "pcu.events": 3})
    assert not unroll(Nest((Counter(5, 5), Counter(0, 3)))).enabled.any()


@pytest.mark.parametrize("inner", [Counter(0, None), Counter(10, None, -3)])
def test_an_inner_stop_may_depend_on_the_outer_counter(inner: Counter):
    nest = Nest((Counter(0, 4), inner), lanes=2)
    stop_of = lambda i: inner.start + inner.step * i  # noqa: E731
    want = []
    for i in range(4):
        values = list(range(inner.start, stop_of(i), inner.step))
        groups = [values[j : j + 2] for j in range(0, len(values), 2)] or [[]]
        for j, lanes in enumerate(groups):
            last = j == len(groups) - 1
            want.append(([i, lanes[0] if lanes else inner.start], lanes, [last and i == 3, last]))
    turns, _ = jax.jit(lambda: run(nest, 9, lambda values: [inner.start + inner.step * values[0]]))()
    assert_turns(turns, want)


@pytest.mark.parametrize(
    ("counter", "lanes"),
    [
        (Counter(-LIMIT, LIMIT - 1, LIMIT - 1), 1),
        (Counter(LIMIT - 1, -LIMIT, -(LIMIT - 1)), 1),
        (Counter(LIMIT - 7, LIMIT - 1, 4), 4),
        (Counter(-LIMIT + 9, -LIMIT, -4), 2),
        (Counter(-LIMIT, LIMIT - 1, 2**28), 4),
    ],
)
def test_counters_do_not_overflow_at_the_ends_of_int32(counter: Counter, lanes: int):
    nest = Nest((counter,), lanes)
    want = loops(nest)
    assert_turns(run(nest, len(want) + 2)[0], want)
    assert_turns(unroll(nest), want)


def test_eager_jit_and_vmap_agree():
    nest = Nest((Counter(0, 3), Counter()), lanes=2)
    stops = jnp.asarray([0, 1, 5], jnp.int32)
    together, counts = jax.jit(jax.vmap(lambda s: run(nest, 12, [s])))(stops)
    for i, stop in enumerate((0, 1, 5)):
        alone, _ = run(nest, 12, [jnp.int32(stop)])
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[i]), alone, together)  # noqa: B023
        assert_turns(alone, loops(nest, (stop,)))
    assert total(counts) == predict(nest, (0,)) + predict(nest, (1,)) + predict(nest, (5,))


def test_what_cannot_count_is_refused():
    with pytest.raises(ArgumentError, match=r"cannot count\n  given:   range\(0, 4, 0\)"):
        Counter(0, 4, 0)
    for words in ((0, 2**31), (-(2**31) - 1, 0), (0, 1, np.int64(2**31))):
        with pytest.raises(ArgumentError, match="that no scalar holds(.|\n)*allowed: INT32 words"):
            Counter(*words)
    with pytest.raises(ArgumentError, match="given:   0 counters, 1 lanes"):
        Nest(())
    with pytest.raises(ArgumentError, match="1 counters, 4 lanes"):
        Nest((Counter(0, 1, 2**30),), 4)
    with pytest.raises(ArgumentError, match="another number of counters\n  given:   2\n  allowed: 1"):
        run(Nest((Counter(),)), 3, [1, 2])
    with pytest.raises(ConcretenessError, match="closed form needs stops that are known"):
        jax.jit(lambda s: predict(Nest((Counter(),)), (s,)))(3)
    for call in (predict, lambda nest, stops: run(nest, 3, stops)):
        with pytest.raises(ArgumentError, match="a stop that no scalar holds\n  given:   2,147,483,648"):
            call(Nest((Counter(),)), (2**31,))


class Word:
    """A whole number that says so by `__index__` and must not be searched for."""

    def __index__(self) -> int:
        return 10

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared with one word after the other")

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def test_whole_numbers_of_any_kind_count():
    for ten in (np.int32(10), np.uint8(10), np.int64(10), Word()):
        assert Counter(0, ten) == Counter(0, 10) and type(Counter(0, ten).stop) is int
        assert Nest((Counter(0, 3),), ten) == Nest((Counter(0, 3),), 10)  # pyright: ignore[reportArgumentType]
    assert predict(Nest((Counter(),)), [np.int32(10)]) == predict(Nest((Counter(0, 10),)))
    assert_turns(run(Nest((Counter(),)), 4, [np.int64(3)])[0], loops(Nest((Counter(0, 3),))))


def test_anything_but_whole_numbers_is_refused():
    for words in ((0.5, 3), (0, 3.0), (0, 3, np.float32(1)), (jnp.float32(0), 3)):
        with pytest.raises(FormatError, match="is not a whole number\n  given:   (.|\n)*allowed: INT32 words"):
            Counter(*words)
    with pytest.raises(FormatError, match=r"a number of lanes is not a whole number\n  given:   2.0 \(float\)"):
        Nest((Counter(0, 3),), 2.0)  # pyright: ignore[reportArgumentType]
    nest = Nest((Counter(),))
    with pytest.raises(FormatError, match=r"a stop is not a whole number\n  given:   2.7 \(float\)"):
        run(nest, 4, [2.7])
    for stop, given in ((jnp.float32(2.7), r"float32\[\]"), (jnp.zeros(2, jnp.int32), r"int32\[2\]")):
        for stops in ([stop], lambda values: [stop]):  # noqa: B023
            with pytest.raises(FormatError, match=f"a stop is a scalar\n  given:   {given}"):
                run(nest, 4, stops)


def test_an_eager_run_compiles_once():
    nest = Nest((Counter(0, 3), Counter()))
    assert_compiles_once(lambda: run(nest, 12, [4]))
