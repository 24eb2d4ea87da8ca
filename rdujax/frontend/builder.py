"""Builds a graph node by node: numbers values, infers types, makes labels unique."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rdujax.base.errors import ShapeError, describe
from rdujax.graph.graph import NO_PINS, Graph, Node, Pins
from rdujax.numerics.formats import format_of
from rdujax.ops.op import Op, TensorType


class Builder:
    """A graph under construction."""

    def __init__(self) -> None:
        self.types: dict[int, TensorType] = {}
        self.labels: dict[int, str] = {}
        self.inputs: list[int] = []
        self.constants: dict[int, Any] = {}
        self.nodes: list[Node] = []

    def input(self, shape: tuple[int, ...], dtype: Any, label: str) -> int:
        """A new input; raises FormatError for a dtype that the machine does not have."""
        value = self._value(TensorType(shape, format_of(dtype, where=f"argument {label}")), label)
        self.inputs.append(value)
        return value

    def constant(self, array: Any, label: str) -> int:
        """A new constant: an array that the function closed over or a scalar of its text."""
        shape, dtype = np.shape(array), getattr(array, "dtype", np.asarray(array).dtype)
        value = self._value(TensorType(shape, format_of(dtype, where=f"constant {label}")), self._unique(label))
        if isinstance(array, np.ndarray):
            array = array.copy()  # a program is a value: what the caller does to the array later is not part of it
            array.flags.writeable = False
        self.constants[value] = array
        return value

    def add(self, op: Op, operands: Sequence[int], *, scope: str = "", source: str = "", pins: Pins = NO_PINS) -> int:
        """A new node; its type is what the operation infers from the operands."""
        label = self._unique(f"{scope}/{op.name}" if scope else op.name)
        value = self._value(op.infer(*(self.types[v] for v in operands)), label, source)
        self.nodes.append(Node(op, tuple(operands), value, label, source, pins))
        return value

    def graph(self, outputs: Sequence[int]) -> Graph:
        """The finished graph, without nodes whose result nothing uses."""
        needed = set(outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.result in needed:
                kept.insert(0, node)
                needed.update(node.operands)
        values = {*self.inputs, *(v for v in self.constants if v in needed), *(n.result for n in kept)}
        return Graph(
            {v: t for v, t in self.types.items() if v in values},
            {v: t for v, t in self.labels.items() if v in values},
            tuple(self.inputs),
            {v: a for v, a in self.constants.items() if v in needed},
            tuple(kept),
            tuple(outputs),
        )

    def _value(self, kind: TensorType, label: str, where: str = "") -> int:
        if 0 in kind.shape:
            raise ShapeError(
                describe("an empty array", given=f"{kind}, {label}", allowed="at least one element", where=where)
            )
        value = len(self.types)
        self.types[value], self.labels[value] = kind, label
        return value

    def _unique(self, label: str) -> str:
        taken = set(self.labels.values())
        count, candidate = 1, label
        while candidate in taken:
            count += 1
            candidate = f"{label}#{count}"
        return candidate
