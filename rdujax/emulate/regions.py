"""Loops and branches around the run of their bodies: `lax.scan`, `lax.while_loop`, `lax.switch`.

A body runs as a program does, on carriers that are the state of the loop. What units counted and stages computed inside
is stacked trip by trip. A `while` loop whose trips are to be seen one by one takes a given number of steps, of which
those after its end change nothing and count nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rdujax.graph.plan import Plan, PlannedRegion
from rdujax.graph.regions import Branch, Loop
from rdujax.ledger.counts import Counts
from rdujax.streams.lift import Executor


@partial(jax.tree_util.register_dataclass, data_fields=["memory", "counts", "captured", "turned"], meta_fields=[])
@dataclass(frozen=True)
class Result:
    """What a run gives: carriers of every value in memory, what was tallied, and stage results if captured.

    memory: also what bodies of regions left in it, if captured. turned: by the label of a region whose course values
    decide, the trips of a `while` loop or the index of a branch, INT32.

    What stands inside of a loop has an axis for its trips in front, the outermost loop first; where the run did not
    come to a place, since a loop ended before or another branch was taken, it holds zeros. Inside of a `while` loop
    that turned freely (see `Mode.longest`), `turned` is the largest of all its trips.
    """

    memory: dict[int, jax.Array]
    counts: tuple[Counts, ...]
    captured: dict[int, jax.Array]
    turned: dict[str, jax.Array]


@dataclass(frozen=True)
class Mode:
    """How to run. how: the executor. tally: also return what the units counted, per kernel.

    capture: also return every stage's result (FP32 where a stage buffer keeps it wide), and what bodies of regions
    leave in memory. longest: steps of each `while` loop by label, no fewer than its trips; needed where such a loop is
    tallied or captured.
    """

    how: Executor = "whole"
    tally: bool = False
    capture: bool = False
    longest: Mapping[str, int] | None = None


RunBody = Callable[[Plan, Mapping[int, jax.Array]], Result]


def run_region(
    step: PlannedRegion, operands: Sequence[jax.Array], run_body: RunBody, mode: Mode
) -> tuple[list[jax.Array], Result]:
    """(carriers of the results, what happened inside), from the carriers of the operands."""
    bodies = [partial(_run_body, plan, run_body, mode) for plan in step.plans]
    if isinstance(step.op, Branch):
        return _branch(step, operands, bodies)
    assert isinstance(step.op, Loop)
    if step.op.trips is not None:
        return _scan(step.op, operands, bodies[0])
    if mode.longest is None:
        return _while(step, operands, bodies[0], bodies[1])
    return _while_in_steps(step, operands, bodies[0], bodies[1], mode.longest[step.node.label])


Body = Callable[[Sequence[jax.Array]], tuple[list[jax.Array], Result]]


def _run_body(plan: Plan, run_body: RunBody, mode: Mode, inputs: Sequence[jax.Array]) -> tuple[list[jax.Array], Result]:
    given = dict(zip(plan.graph.inputs, inputs, strict=True))
    result = run_body(plan, given)
    left = {v: x for v, x in result.memory.items() if v not in given} if mode.capture else {}
    outputs = [result.memory[v] for v in plan.graph.outputs]
    return outputs, Result(left, _in_arrays(result.counts), result.captured, result.turned)


def _in_arrays(counts: tuple[Counts, ...]) -> tuple[Counts, ...]:
    """Amounts as INT32 arrays, of one type whatever trip or branch they come from."""
    return jax.tree.map(lambda amount: jnp.asarray(amount, dtype=jnp.int32), counts)


def _scan(loop: Loop, operands: Sequence[jax.Array], body: Body) -> tuple[list[jax.Array], Result]:
    _, consts, first, xs = loop.split(operands)

    def trip(carry: list[jax.Array], slices: list[jax.Array]) -> Any:
        outputs, inside = body([*consts, *carry, *slices])
        return outputs[: loop.n_carry], (outputs[loop.n_carry :], inside)

    last, (ys, inside) = lax.scan(trip, first, xs, length=loop.trips, reverse=loop.reverse)
    if loop.reverse:
        inside = jax.tree.map(lambda each: each[::-1], inside)  # by trip, not by place
    return [*last, *ys], inside


def _while(step: PlannedRegion, operands: Sequence[jax.Array], body: Body, condition: Body) -> Any:
    loop = step.op
    assert isinstance(loop, Loop)
    asked, consts, first, _ = loop.split(operands)
    inside = jax.eval_shape(lambda carry: body([*consts, *carry])[1].turned, first)
    deepest = jax.tree.map(lambda kind: jnp.zeros(kind.shape, jnp.int32), inside)

    def trip(state: Any) -> Any:
        carry, trips, most = state
        outputs, inside = body([*consts, *carry])
        return outputs, trips + 1, jax.tree.map(jnp.maximum, most, inside.turned)  # not emulated: trips

    state = (first, jnp.zeros((), jnp.int32), deepest)
    last, trips, most = lax.while_loop(lambda state: condition([*asked, *state[0]])[0][0], trip, state)
    return last, Result({}, (), {}, {step.node.label: trips, **most})


def _while_in_steps(
    step: PlannedRegion, operands: Sequence[jax.Array], body: Body, condition: Body, longest: int
) -> tuple[list[jax.Array], Result]:
    loop = step.op
    assert isinstance(loop, Loop)
    asked, consts, first, _ = loop.split(operands)

    def trip(state: Any, _: None) -> Any:
        carry, before = state
        (holds,), question = condition([*asked, *carry])
        outputs, inside = body([*consts, *carry])
        going = before & holds
        carry = [jnp.where(going, new, old) for new, old in zip(outputs, carry, strict=True)]
        return (carry, going), (going, _only_if(before, question), _only_if(going, inside))

    # The condition is asked once more than the body turns.
    (last, _), (turns, question, inside) = lax.scan(trip, (first, jnp.ones((), bool)), None, length=longest + 1)
    trips = jnp.sum(turns, dtype=jnp.int32)
    return last, Result(
        question.memory | inside.memory, question.counts + inside.counts, question.captured | inside.captured,
        {step.node.label: trips, **question.turned, **inside.turned},
    )  # fmt: skip


def _only_if(there: jax.Array, inside: Result) -> Result:
    return jax.tree.map(lambda each: jnp.where(there, each, jnp.zeros_like(each)), inside)


def _branch(
    step: PlannedRegion, operands: Sequence[jax.Array], bodies: Sequence[Body]
) -> tuple[list[jax.Array], Result]:
    index, *inputs = operands
    kinds = [jax.eval_shape(lambda *given, body=body: body(given)[1], *inputs) for body in bodies]
    nothing = [jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kind) for kind in kinds]

    def taken(i: int) -> Callable[..., Any]:
        def branch(*given: jax.Array) -> Any:
            outputs, inside = bodies[i](given)
            return outputs, [*nothing[:i], inside, *nothing[i + 1 :]]

        return branch

    outputs, inside = lax.switch(index, [taken(i) for i in range(len(bodies))], *inputs)
    counts = tuple(each for result in inside for each in result.counts)
    memory = {v: x for result in inside for v, x in result.memory.items()}
    captured = {v: x for result in inside for v, x in result.captured.items()}
    turned = {label: x for result in inside for label, x in result.turned.items()}
    chosen = jnp.clip(index, 0, len(bodies) - 1)  # not emulated: which branch ran
    return outputs, Result(memory, counts, captured, {step.node.label: chosen, **turned})
