"""Builds a graph node by node: numbers values, infers types, makes labels unique."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

from rdujax.base.errors import ShapeError, describe
from rdujax.graph.graph import NO_PINS, Graph, Node, Pins, Region, infer
from rdujax.numerics.formats import format_of
from rdujax.ops.op import Op, TensorType


class Builder:
    """A graph under construction.

    outer: the builder of the graph around, where this one is the body of a region. Numbers and labels of nodes are
    unique in all of them together; what a body needs of the graph around it is captured, as an input of its own.
    operator, again: of the nodes that are added from now on (see `Node`).
    """

    def __init__(self, outer: "Builder | None" = None) -> None:
        self.outer = outer
        self.axes: dict[str, int] = {} if outer is None else outer.axes  # of sockets, by name
        self.types: dict[int, TensorType] = {}
        self.labels: dict[int, str] = {}
        self.inputs: list[int] = []
        self.constants: dict[int, Any] = {}
        self.nodes: list[Node] = []
        self.operator, self.again = "" if outer is None else outer.operator, 0
        self.captured: dict[int, int] = {}  # value of the graph around: the input that stands for it here
        self._numbers = count() if outer is None else outer._numbers
        self._operators: Counter[str] = Counter() if outer is None else outer._operators
        self._calls: Iterator[int] = count(1) if outer is None else outer._calls
        self._taken: set[str] = set() if outer is None else outer._taken
        self._own: set[str] = set()

    def input(self, shape: tuple[int, ...], dtype: Any, label: str) -> int:
        """A new input; raises FormatError for a dtype that the machine does not have."""
        self._taken.add(label)
        return self.local(TensorType(shape, format_of(dtype, where=f"argument {label}")), label)

    def local(self, kind: TensorType, label: str) -> int:
        """A new input of a body, under the label of the value around that it stands for."""
        candidate, number = label, 1
        while candidate in self._own or (number > 1 and candidate in self._taken):
            number += 1
            candidate = f"{label}#{number}"
        value = self._value(kind, candidate)
        self.inputs.append(value)
        return value

    def capture(self, value: int) -> int:
        """The input that stands for a value of the graph around; one for each."""
        assert self.outer is not None
        if value not in self.captured:
            self.captured[value] = self.local(self.outer.types[value], self.outer.labels[value])
        return self.captured[value]

    def constant(self, array: Any, label: str) -> int:
        """A new constant: an array that the function closed over or a scalar of its text; a body captures it."""
        if self.outer is not None:
            return self.capture(self.outer.constant(array, label))
        shape, dtype = np.shape(array), getattr(array, "dtype", np.asarray(array).dtype)
        value = self._value(TensorType(shape, format_of(dtype, where=f"constant {label}")), self.unique(label))
        if isinstance(array, np.ndarray):
            array = array.copy()  # a program is a value: what the caller does to the array later is not part of it
            array.flags.writeable = False
        self.constants[value] = array
        return value

    def add(self, op: Op, operands: Sequence[int], *, scope: str = "", source: str = "", pins: Pins = NO_PINS) -> int:
        """A new node; its type is what the operation infers from the operands."""
        label = self.unique(f"{scope}/{op.name}" if scope else op.name)
        value = self._value(op.infer(*(self.types[v] for v in operands)), label, source)
        self.nodes.append(Node(op, tuple(operands), (value,), label, source, pins, self.operator, self.again))
        return value

    def add_region(self, op: Region, operands: Sequence[int], label: str, source: str) -> tuple[int, ...]:
        """A new loop or branch under a label that is already its own (see `unique`); the values of its results."""
        kinds = infer(op, [self.types[v] for v in operands])
        names = [label] if len(kinds) == 1 else [self.unique(f"{label}[{i}]") for i in range(len(kinds))]
        values = tuple(self._value(kind, name, source) for kind, name in zip(kinds, names, strict=True))
        self.nodes.append(Node(op, tuple(operands), values, label, source, again=self.again))
        return values

    def new_operator(self, name: str) -> str:
        """The name of one more operator: "softmax#2" is the second softmax of all graphs together."""
        self._operators[name] += 1
        return f"{name}#{self._operators[name]}"

    @contextmanager
    def within_operator(self, operator: str) -> Iterator[None]:
        """Nodes that are added within are parts of an operator."""
        before, self.operator = self.operator, operator
        yield
        self.operator = before

    @contextmanager
    def computed_again(self) -> Iterator[None]:
        """Nodes that are added within are one call that `jax.checkpoint` computes a second time."""
        before, self.again = self.again, next(self._calls)
        yield
        self.again = before

    def needs(self, outputs: Sequence[int]) -> set[int]:
        """Every value that these outputs depend on, themselves included."""
        needed = set(outputs)
        for node in reversed(self.nodes):
            if needed.intersection(node.results):
                needed.update(node.operands)
        return needed

    def graph(self, outputs: Sequence[int], inputs: Sequence[int] | None = None) -> Graph:
        """The finished graph, without nodes whose results nothing uses; inputs: all in their order, or those given."""
        inputs, needed = tuple(self.inputs if inputs is None else inputs), self.needs(outputs)
        kept = tuple(node for node in self.nodes if needed.intersection(node.results))
        constants = {v: a for v, a in self.constants.items() if v in needed}
        values = {*inputs, *constants, *(v for node in kept for v in node.results)}
        return Graph(
            {v: t for v, t in self.types.items() if v in values},
            {v: t for v, t in self.labels.items() if v in values},
            inputs,
            constants,
            kept,
            tuple(outputs),
        )

    def unique(self, label: str) -> str:
        """The label, or with a number where a node or constant has it already; taken from now on."""
        candidate, number = label, 1
        while candidate in self._taken or candidate in self._own:
            number += 1
            candidate = f"{label}#{number}"
        self._taken.add(candidate)
        return candidate

    def _value(self, kind: TensorType, label: str, where: str = "") -> int:
        if 0 in kind.shape:
            raise ShapeError(
                describe("an empty array", given=f"{kind}, {label}", allowed="at least one element", where=where)
            )
        value = next(self._numbers)
        self.types[value], self.labels[value] = kind, label
        self._own.add(label)
        return value
