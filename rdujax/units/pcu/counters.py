"""Counters of a PCU: loop nests that say which element comes next and emit control events.

What it is     A chain of counters in which the wrap of an inner one advances the next outer one (MICRO 2024, IV-A: a
               counter that reaches its maximum emits a control event). The events are the tokens of the control fabric.

                   counter 0 <--wrap-- counter 1 <--wrap-- counter 2
                       | done              | done              | done     > control wires

The law        As the loops `for i0 in range(start, stop, step): for i1 in ...: for i2 in ...:`, the last counter being
               the fastest, `lanes` values of it in one turn. A counter is done in the turn of its last value, if all
               counters inside it are done too. A loop without a value takes one turn in which no lane is enabled, and
               is done in it: whoever waits for its event is never forgotten.
               turns = product of max(1, values of a counter), the innermost divided by the lanes, rounded up;
               cycles = ceil(turns / turns per cycle).
Modelled       nests of any depth, either sign of the step, stops that arrive as scalars and may depend on the data and
               on the outer counters (a triangular loop), lanes of the innermost counter.
Not modelled   how a scalar reaches the counter, counters of one nest in several PCUs.
Sources        MICRO 2024, IV-A; one turn per cycle and the turn of an empty loop are assumptions.

The closed form (`unroll`) and the stepped form (`step`) are two ways to the same turns:

>>> nest = Nest((Counter(0, 2), Counter(3, 9, 2)))
>>> turns = unroll(nest)
>>> turns.indices.tolist()
[[0, 3], [0, 5], [0, 7], [1, 3], [1, 5], [1, 7]]
>>> turns.done.astype(int).tolist()
[[0, 0], [0, 0], [0, 1], [0, 0], [0, 0], [1, 1]]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import index
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.units import pcu


def _word(value: Any, what: str) -> int:
    """A whole number of Python or NumPy that an INT32 word holds."""
    try:
        number = index(value)
    except TypeError:
        given = f"{value!r} ({type(value).__name__})"
        raise FormatError(describe(f"{what} is not a whole number", given=given, allowed="INT32 words")) from None
    if not -(2**31) <= number < 2**31:
        raise ArgumentError(describe(f"{what} that no scalar holds", given=f"{number:,}", allowed="INT32 words"))
    return number


@dataclass(frozen=True)
class Counter:
    """One counter: start, start + step, ... as long as it has not reached `stop`, as in Python's `range`.

    stop: None for one that arrives as a scalar. Raises ArgumentError for a step of 0, and for words beyond INT32;
    FormatError for anything but whole numbers.
    """

    start: int = 0
    stop: int | None = None
    step: int = 1

    def __post_init__(self) -> None:
        for name in ("start", "stop", "step"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _word(getattr(self, name), f"a {name}"))
        if self.step == 0:
            raise ArgumentError(describe("a counter that cannot count", given=str(self), allowed="a step other than 0"))

    def __str__(self) -> str:
        return f"range({self.start}, {'scalar' if self.stop is None else self.stop}, {self.step})"


@dataclass(frozen=True)
class Nest:
    """Counters from the outermost to the innermost; `lanes` values of the innermost are taken in one turn."""

    counters: tuple[Counter, ...]
    lanes: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", _word(self.lanes, "a number of lanes"))
        if not self.counters or self.lanes < 1 or self.lanes * abs(self.counters[-1].step) >= 2**31:
            raise ArgumentError(
                describe(
                    "a nest that cannot count",
                    given=f"{len(self.counters)} counters, {self.lanes} lanes",
                    allowed="one counter or more, one lane or more, lanes x step within INT32",
                )
            )


@partial(jax.tree_util.register_dataclass, data_fields=["values", "finished"], meta_fields=[])
@dataclass(frozen=True)
class State:
    """values: int32 [n_counters], those of the coming turn. finished: bool [], no turn is left."""

    values: jax.Array
    finished: jax.Array


@partial(jax.tree_util.register_dataclass, data_fields=["indices", "lanes", "enabled", "done"], meta_fields=[])
@dataclass(frozen=True)
class Turn:
    """One turn, or many along a leading axis.

    indices: int32 [n_counters], the values of the counters. lanes: int32 [lanes], the innermost value of each lane.
    enabled: bool [lanes], which lanes hold a value; the `lanes` of others mean nothing.
    done: bool [n_counters], which counters end a count with this turn: the control events.
    After the last turn of a nest nothing is enabled and nothing is done.
    """

    indices: Any
    lanes: Any
    enabled: Any
    done: Any


def init(nest: Nest) -> State:
    """Every counter at its start."""
    return State(jnp.asarray([c.start for c in nest.counters], jnp.int32), jnp.zeros((), bool))


def step(nest: Nest, state: State, stops: Sequence[Any] = ()) -> tuple[State, Turn, Counts]:
    """One turn.

    stops: int32 scalars, one for each counter without a stop of its own, from the outermost in. They are compared in
    this turn; a stop must stay while its counter runs, and may differ in the next count. Nothing carries a tangent.
    Raises ArgumentError for another number of stops and for ints beyond INT32, FormatError for other scalars.
    """
    limits = [jnp.asarray(stop, jnp.int32) for stop in _all_stops(nest, _scalars(nest, stops))]
    values = [state.values[i] for i in range(len(nest.counters))]
    left = [_distance(c, value, stop) for c, value, stop in zip(nest.counters, values, limits, strict=True)]
    strides = [abs(c.step) for c in nest.counters[:-1]] + [abs(nest.counters[-1].step) * nest.lanes]
    active = ~state.finished
    done, coming = [], []
    advance = active
    for counter, value, distance, stride in reversed(list(zip(nest.counters, values, left, strides, strict=True))):
        last = distance <= np.uint32(stride)
        done.append(advance & last)
        signed = stride if counter.step > 0 else -stride
        moved = jnp.where(last, jnp.int32(counter.start), value + jnp.int32(signed))
        coming.append(jnp.where(advance, moved, value))
        advance = advance & last
    enabled = active
    for distance in left[:-1]:
        enabled = enabled & (distance > np.uint32(0))
    offsets = np.arange(nest.lanes, dtype=np.int32)
    inner = nest.counters[-1].step
    turn = Turn(
        state.values,
        values[-1] + offsets * np.int32(inner),
        enabled & (offsets.astype(np.uint32) * np.uint32(abs(inner)) < left[-1]),
        jnp.stack(done[::-1]),
    )
    return State(jnp.stack(coming[::-1]), state.finished | advance), turn, _tally(active, turn.done)


def _tally(active: jax.Array, done: jax.Array) -> Counts:
    return Counts({"pcu.turns": active.astype(jnp.int32), "pcu.events": jnp.sum(done, dtype=jnp.int32)})


def _all_stops(nest: Nest, stops: Sequence[Any]) -> list[Any]:
    """One stop for each counter: its own, or the next of those that arrive."""
    missing = sum(c.stop is None for c in nest.counters)
    if len(stops) != missing:
        raise ArgumentError(
            describe("stops for another number of counters", given=len(stops), allowed=f"{missing}, one for each None")
        )
    arriving = iter(stops)
    return [next(arriving) if c.stop is None else c.stop for c in nest.counters]


def _scalars(nest: Nest, stops: Sequence[Any]) -> tuple[jax.Array, ...]:
    """The stops that arrive, as int32 []; nothing is cut off to make them so."""
    _all_stops(nest, stops)
    return tuple(_scalar(stop) for stop in stops)


def _scalar(stop: Any) -> jax.Array:
    if isinstance(stop, jax.Array | np.ndarray) and (stop.dtype != np.int32 or stop.shape):
        raise FormatError(
            describe("a stop is a scalar", given=f"{stop.dtype}{list(stop.shape)}", allowed="int32[], or a Python int")
        )
    return jnp.asarray(stop if isinstance(stop, jax.Array | np.ndarray) else _word(stop, "a stop"), jnp.int32)


def _distance(counter: Counter, value: jax.Array, stop: jax.Array) -> jax.Array:
    """How far the stop lies ahead, 0 if it is reached: uint32, so that no distance of two INT32 words overflows."""
    ahead, words = (value < stop, stop - value) if counter.step > 0 else (value > stop, value - stop)
    return jnp.where(ahead, words.astype(jnp.uint32), np.uint32(0))


def run(
    nest: Nest, turns: int, stops: Sequence[Any] | Callable[[jax.Array], Sequence[Any]] = ()
) -> tuple[Turn, Counts]:
    """`turns` turns, one after the other, those after the end idle.

    stops: scalars, or a function of the values int32 [n_counters] of a turn, which gives the scalars of that turn (it
    may be another one at each call, so eager calls compile each time: jit what calls them). Errors as `step`.
    Returns the turns stacked, and the counts, one entry per turn.

    >>> triangle = Nest((Counter(0, 3), Counter()))
    >>> turns, counts = run(triangle, 7, lambda values: [values[0] + 1])
    >>> turns.indices[:6].tolist(), turns.done[:, 1].astype(int).tolist()
    ([[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]], [1, 0, 1, 0, 0, 1, 0])
    """
    return _turns(nest, turns, stops) if callable(stops) else _run(nest, turns, _scalars(nest, stops))


@partial(jax.jit, static_argnums=(0, 1))
def _run(nest: Nest, turns: int, stops: tuple[jax.Array, ...]) -> tuple[Turn, Counts]:
    return _turns(nest, turns, lambda values: stops)


def _turns(nest: Nest, turns: int, stops: Callable[[jax.Array], Sequence[Any]]) -> tuple[Turn, Counts]:
    def body(state: State, _: None) -> tuple[State, tuple[Turn, Counts]]:
        state, turn, counts = step(nest, state, stops(state.values))
        return state, (turn, counts)

    return jax.lax.scan(body, init(nest), None, length=turns)[1]


def unroll(nest: Nest, stops: Sequence[int] = ()) -> Turn:
    """All turns of a nest whose stops are known, from the closed form, as NumPy arrays along a leading axis."""
    ranges = _ranges(nest, stops)
    grid = _grid(nest, ranges)
    number = np.arange(prod(grid))
    digits = np.unravel_index(number, grid)
    steps = [c.step for c in nest.counters[:-1]] + [nest.counters[-1].step * nest.lanes]
    indices = np.stack([r.start + d * s for r, d, s in zip(ranges, digits, steps, strict=True)], axis=-1)
    lanes = indices[:, -1:] + np.arange(nest.lanes) * nest.counters[-1].step
    position = digits[-1][:, None] * nest.lanes + np.arange(nest.lanes)
    enabled = (position < len(ranges[-1])) & all(len(r) for r in ranges[:-1])
    inside = [prod(grid[i:]) for i in range(len(grid))]
    done = np.stack([(number + 1) % n == 0 for n in inside], axis=-1)
    return Turn(indices.astype(np.int32), lanes.astype(np.int32), enabled, done)


def predict(nest: Nest, stops: Sequence[int] = ()) -> Counts:
    """The counts of a whole nest whose stops are known: its turns, and one event for each count that ends."""
    grid = _grid(nest, _ranges(nest, stops))
    return Counts({"pcu.turns": prod(grid), "pcu.events": sum(prod(grid[:i]) for i in range(len(grid)))})


def cycles(config: pcu.Config, nest: Nest, stops: Sequence[int] = ()) -> Any:
    """Cycles of a whole nest; exact, or differentiable in the facts."""
    return ceil_div(prod(_grid(nest, _ranges(nest, stops))), config.turns_per_cycle.value)


def _ranges(nest: Nest, stops: Sequence[int]) -> list[range]:
    if not all(isinstance(stop, int | np.integer) for stop in stops):
        raise ConcretenessError(
            describe(
                "the closed form needs stops that are known",
                given=", ".join(type(stop).__name__ for stop in stops),
                allowed="ints",
                do="step the nest with `run`",
            )
        )
    ends = [_word(stop, "a stop") for stop in _all_stops(nest, stops)]
    return [range(c.start, end, c.step) for c, end in zip(nest.counters, ends, strict=True)]


def _grid(nest: Nest, ranges: list[range]) -> tuple[int, ...]:
    values = [len(r) for r in ranges]
    values[-1] = -(-values[-1] // nest.lanes)
    return tuple(max(1, n) for n in values)
