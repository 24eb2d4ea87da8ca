"""Loops and branches: nodes whose work is said by graphs of their own.

    Loop    scan     body (constants, carry, one slice of every x) -> (carry, one slice of every y), so many trips
            while    body (constants, carry) -> carry, for as long as condition (constants, carry) holds
    Branch           one of several graphs of the same inputs and outputs, chosen by an index

A body reads nothing but its inputs. A slice of an x or y is an address in the whole of it, along its leading axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rdujax.base.errors import ArgumentError, describe
from rdujax.graph.graph import Graph, Region, Seen, T, Trip, evaluate
from rdujax.numerics.formats import BOOL, INT32
from rdujax.ops.op import TensorType


@dataclass(frozen=True)
class Loop(Region):
    """A loop. Operands: constants of the condition, constants of the body, the first carry, the xs.

    Results: the last carry, the ys. trips: how often it turns; None where a condition says so, which has no xs and no
    ys. reverse: the slices are taken and laid down from the last to the first.
    """

    body: Graph
    n_consts: int
    n_carry: int
    trips: int | None
    reverse: bool = False
    condition: Graph | None = None

    @property
    def name(self) -> str:
        """See `Op`."""
        return "scan" if self.condition is None else "while"

    @property
    def n_condition_consts(self) -> int:
        """How many constants the condition has."""
        return 0 if self.condition is None else len(self.condition.inputs) - self.n_carry

    @property
    def bodies(self) -> tuple[Graph, ...]:
        """The body, then the condition of a `while` loop."""
        return (self.body,) if self.condition is None else (self.body, self.condition)

    @property
    def body_names(self) -> tuple[str, ...]:
        """See `Region`."""
        return ("body", "condition")[: len(self.bodies)]

    def with_bodies(self, bodies: Sequence[Graph]) -> "Loop":
        """See `Region`."""
        return replace(self, body=bodies[0], condition=None if self.condition is None else bodies[1])

    def split(self, operands: Sequence[T]) -> tuple[list[T], list[T], list[T], list[T]]:
        """The operands as (constants of the condition, of the body, carry, xs)."""
        a = self.n_condition_consts
        b = a + self.n_consts
        c = b + self.n_carry
        return list(operands[:a]), list(operands[a:b]), list(operands[b:c]), list(operands[c:])

    def given(self, operands: Sequence[T]) -> tuple[list[T], ...]:
        """See `Region`."""
        asked, consts, carry, xs = self.split(operands)
        return ([*consts, *carry, *xs], [*asked, *carry])[: len(self.bodies)]

    def carried(self, body: Graph) -> tuple[int, ...]:
        """The inputs of the body, or of the condition, that are the carry."""
        before = self.n_consts if body is self.body else self.n_condition_consts
        return body.inputs[before : before + self.n_carry]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """See `Region`."""
        of_condition, of_body, carry, xs = self.split(operands)
        given = self.body.types_of(self.body.inputs)
        made = self.body.types_of(self.body.outputs)
        slices = [TensorType(x.shape[1:], x.fmt) for x in xs]
        _agree("inputs of the body", given, [*of_body, *carry, *slices])
        _agree("the carry that the body returns", made[: self.n_carry], carry)
        if self.condition is not None:
            _agree("inputs of the condition", self.condition.types_of(self.condition.inputs), [*of_condition, *carry])
            _agree("the condition", self.condition.types_of(self.condition.outputs), [TensorType((), BOOL)])
        if (self.trips is None) != (self.condition is not None) or (self.trips is None and len(made) > self.n_carry):
            raise ArgumentError(describe("a loop turns a number of times or while a condition holds", given=str(self)))
        wrong = [str(x) for x in xs if not x.shape or x.shape[0] != self.trips]
        if wrong:
            raise ArgumentError(describe("xs of another length than the loop", given=wrong, allowed=self.trips))
        return (*carry, *(TensorType((self.trips or 0, *y.shape), y.fmt) for y in made[self.n_carry :]))

    def places(self) -> range:
        """The places of the slices, in the order of the trips of a `scan`."""
        assert self.trips is not None
        return range(self.trips - 1, -1, -1) if self.reverse else range(self.trips)

    def reference(self, *operands: np.ndarray, trip: Trip = (), seen: Seen | None = None) -> tuple[np.ndarray, ...]:
        """See `Region`."""
        of_condition, of_body, carry, xs = self.split(operands)
        if self.condition is not None:
            turn = 0
            while evaluate(self.condition, [*of_condition, *carry], (*trip, turn), seen)[0]:
                carry = list(evaluate(self.body, [*of_body, *carry], (*trip, turn), seen))
                turn += 1
            return tuple(carry)
        ys: dict[int, tuple[np.ndarray, ...]] = {}
        for turn, place in enumerate(self.places()):
            outputs = evaluate(self.body, [*of_body, *carry, *(x[place] for x in xs)], (*trip, turn), seen)
            carry, ys[place] = list(outputs[: self.n_carry]), outputs[self.n_carry :]
        stacked = zip(*(ys[place] for place in sorted(ys)), strict=True)
        return (*carry, *(np.stack(each) for each in stacked))

    def flops(self, *operands: TensorType) -> int:
        """See `Region`."""
        if self.trips is None:
            raise ArgumentError(describe("a while loop turns as often as values say", given=str(self)))
        return self.trips * self.body.flops()

    def __str__(self) -> str:
        if self.trips is None:
            return "while"
        return f"scan of {self.trips} trip{'s' * (self.trips != 1)}{', reversed' * self.reverse}"


@dataclass(frozen=True)
class Branch(Region):
    """One of several graphs. Operands: an INT32 index within their number, then the inputs that all graphs take."""

    branches: tuple[Graph, ...]

    @property
    def name(self) -> str:
        """See `Op`."""
        return "cond"

    @property
    def bodies(self) -> tuple[Graph, ...]:
        """The branches."""
        return self.branches

    @property
    def body_names(self) -> tuple[str, ...]:
        """See `Region`."""
        return tuple(f"branch {i}" for i in range(len(self.branches)))

    def with_bodies(self, bodies: Sequence[Graph]) -> "Branch":
        """See `Region`."""
        return Branch(tuple(bodies))

    def given(self, operands: Sequence[T]) -> tuple[Sequence[T], ...]:
        """See `Region`."""
        return (operands[1:],) * len(self.branches)

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """See `Region`."""
        index, *inputs = operands
        _agree("the index of a branch", [index], [TensorType((), INT32)])
        results = self.branches[0].types_of(self.branches[0].outputs)
        for graph in self.branches:
            _agree("inputs of a branch", graph.types_of(graph.inputs), inputs)
            _agree("results of a branch", graph.types_of(graph.outputs), results)
        return results

    def reference(self, *operands: np.ndarray, trip: Trip = (), seen: Seen | None = None) -> tuple[np.ndarray, ...]:
        """See `Region`."""
        index, *inputs = operands
        return evaluate(self.branches[int(index)], inputs, trip, seen)

    def flops(self, *operands: TensorType) -> int:
        """See `Region`."""
        work = {graph.flops() for graph in self.branches}
        if len(work) > 1:
            raise ArgumentError(describe("branches of different work", given=sorted(work)))
        return work.pop()

    def __str__(self) -> str:
        return f"one of {len(self.branches)} branches"


def _agree(what: str, given: Sequence[TensorType], allowed: Sequence[TensorType]) -> None:
    if tuple(given) != tuple(allowed):
        first, second = (", ".join(map(str, each)) for each in (given, allowed))
        raise ArgumentError(describe(f"{what}: other types than are needed", given=first, allowed=second))
