"""A program as data: values, nodes, and the graph of them.

Nodes are in an order in which every operand is there before it is used. A graph knows no kernels: those are made of
it by the compiler (see `plan.py`).
"""

from dataclasses import dataclass
from typing import Any

from rdujax.base.errors import ArgumentError, describe
from rdujax.ops.op import Op, TensorType


@dataclass(frozen=True)
class Pins:
    """What the author of a kernel fixed by hand; None leaves the choice to the compiler.

    pcus: PCUs of the stage. tile: extent of the result's tiles. own_stage: never chained with another stage.
    """

    pcus: int | None = None
    tile: tuple[int, ...] | None = None
    own_stage: bool = False


NO_PINS = Pins()


@dataclass(frozen=True)
class Node:
    """One operation: operands and result are value numbers.

    label: unique within the graph, for reports. source: the user's source line. pins: choices made by hand.
    """

    op: Op
    operands: tuple[int, ...]
    result: int
    label: str
    source: str = ""
    pins: Pins = NO_PINS


@dataclass(frozen=True)
class Graph:
    """Values by number, each with a type and a label; inputs, constants, nodes, outputs.

    constants: the arrays that the function closed over, by value number; they rest in memory like weights.
    """

    types: dict[int, TensorType]
    labels: dict[int, str]
    inputs: tuple[int, ...]
    constants: dict[int, Any]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def types_of(self, values: tuple[int, ...]) -> tuple[TensorType, ...]:
        """The types of several values."""
        return tuple(self.types[v] for v in values)

    def flops(self) -> int:
        """Floating operations of the whole graph; a multiply-accumulate is two."""
        return sum(node.op.flops(*self.types_of(node.operands)) for node in self.nodes)


def check(graph: Graph) -> None:
    """The grammar of a graph: operands exist before use, types are those that the operations infer, labels are unique.

    Raises ArgumentError, which would mean a mistake of the compiler and not of its user.
    """
    known = {*graph.inputs, *graph.constants}
    for node in graph.nodes:
        missing = [v for v in node.operands if v not in known]
        if missing or node.result in known:
            raise ArgumentError(
                describe("a node out of order", given=f"{node.label} reads {missing} and computes {node.result}")
            )
        inferred = node.op.infer(*graph.types_of(node.operands))
        if inferred != graph.types[node.result]:
            raise ArgumentError(
                describe(
                    "a value of another type than its node infers",
                    given=f"{node.label}: {graph.types[node.result]}",
                    allowed=str(inferred),
                )
            )
        known.add(node.result)
    if not set(graph.outputs) <= known:
        raise ArgumentError(describe("outputs that nothing computes", given=sorted(set(graph.outputs) - known)))
    labels = [node.label for node in graph.nodes]
    if len(set(labels)) != len(labels):
        raise ArgumentError(
            describe("two nodes of one label", given=sorted({n for n in labels if labels.count(n) > 1}))
        )


def text(graph: Graph) -> str:
    """The graph as stable text, one node per line."""
    lines = [f"input    %{v} {graph.types[v]} {graph.labels[v]}" for v in graph.inputs]
    lines += [f"constant %{v} {graph.types[v]} {graph.labels[v]}" for v in graph.constants]
    for node in graph.nodes:
        operands = " ".join(f"%{v}" for v in node.operands)
        lines.append(f"node     %{node.result} {graph.types[node.result]} = {node.op} ({operands})  # {node.label}")
    return "\n".join([*lines, "output   " + " ".join(f"%{v}" for v in graph.outputs)])
