"""A program as data: values, nodes, and the graph of them.

Nodes are in an order in which every operand is there before it is used. A node is an operation, or a region: a loop or
a branch, whose bodies are graphs of their own (see `regions.py`). A graph knows no kernels: those are made of it by the
compiler (see `plan.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

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


# A place in every loop around, the outermost first: () outside of loops, (2,) in the third trip of one.
Trip = tuple[int, ...]
Seen = Callable[[int, Trip, np.ndarray], None]
T = TypeVar("T")


class Region(ABC):
    """A loop or a branch: graphs of its own say what it computes. It answers as an `Op` does, for all results."""

    @property
    @abstractmethod
    def name(self) -> str:
        """See `Op`."""
        ...

    @property
    @abstractmethod
    def bodies(self) -> "tuple[Graph, ...]":
        """The graphs inside, in the order of their text."""
        ...

    @property
    @abstractmethod
    def body_names(self) -> tuple[str, ...]:
        """What each of the bodies is: "body", "condition", "branch 0" ..."""
        ...

    @abstractmethod
    def with_bodies(self, bodies: "Sequence[Graph]") -> "Region":
        """The same region around other graphs of the same types."""
        ...

    @abstractmethod
    def given(self, operands: Sequence[T]) -> "tuple[Sequence[T], ...]":
        """For each body, the operand that each of its inputs is, is a slice of, or is at first."""
        ...

    @abstractmethod
    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """The types of the results; raises ArgumentError where operands or bodies do not fit together."""
        ...

    @abstractmethod
    def reference(self, *operands: np.ndarray, trip: Trip = (), seen: "Seen | None" = None) -> tuple[np.ndarray, ...]:
        """The values in float64 (int64 for integers), by a Python loop; trip, seen: see `evaluate`."""
        ...

    @abstractmethod
    def flops(self, *operands: TensorType) -> int:
        """Floating operations; raises ArgumentError where they depend on values."""
        ...


@dataclass(frozen=True)
class Node:
    """One operation or region: operands and results are value numbers.

    label: unique within the graph and all graphs inside of it, for reports. source: the user's source line, or several
    with "; " between them where equal work was joined. pins: choices made by hand. operator: the operator of an
    operator-by-operator framework that it is a part of ("softmax#2"), "" where it is one by itself. again: which of the
    calls that `jax.checkpoint` computes a second time it is a part of, 0 for none.
    """

    op: Op | Region
    operands: tuple[int, ...]
    results: tuple[int, ...]
    label: str
    source: str = ""
    pins: Pins = NO_PINS
    operator: str = ""
    again: int = 0

    @property
    def result(self) -> int:
        """The one result of an operation."""
        (only,) = self.results
        return only


@dataclass(frozen=True)
class Graph:
    """Values by number, each with a type and a label; inputs, constants, nodes, outputs.

    A number is used once, also by the graphs of regions inside: these read nothing but their own inputs. constants: the
    arrays that the function closed over, by value number; they rest in memory like weights. joined: of equal work that
    was joined, each label that is gone and the one that stands for it here, of nodes and of values.
    """

    types: dict[int, TensorType]
    labels: dict[int, str]
    inputs: tuple[int, ...]
    constants: dict[int, Any]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    joined: dict[str, str] = field(default_factory=dict)

    def types_of(self, values: tuple[int, ...]) -> tuple[TensorType, ...]:
        """The types of several values."""
        return tuple(self.types[v] for v in values)

    def flops(self) -> int:
        """Floating operations of the whole graph; a multiply-accumulate is two.

        Raises ArgumentError where they depend on values: a `while` loop, branches of different work.
        """
        return sum(node.op.flops(*self.types_of(node.operands)) for node in self.nodes)


def all_graphs(graph: Graph) -> Iterator[Graph]:
    """A graph and every one inside of its regions."""
    yield graph
    for node in graph.nodes:
        if isinstance(node.op, Region):
            for body in node.op.bodies:
                yield from all_graphs(body)


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Every node of a graph in the order of its text, those of its regions' bodies included."""
    for node in graph.nodes:
        yield node
        if isinstance(node.op, Region):
            for body in node.op.bodies:
                yield from all_nodes(body)


def node_labels(graph: Graph) -> dict[str, str]:
    """For every label by which a node may be named, also inside of regions: that of the node that stands for it."""
    own = {node.label: node.label for node in all_nodes(graph)}
    gone = {label: stays for each in all_graphs(graph) for label, stays in each.joined.items() if stays in own}
    return gone | own


def value_labels(graph: Graph) -> Iterator[tuple[str, int]]:
    """Every label by which a value may be named, also inside of regions, with the value."""
    for each in all_graphs(graph):
        gone: dict[str, list[str]] = {}
        for label, stays in each.joined.items():
            gone.setdefault(stays, []).append(label)
        for value, label in each.labels.items():
            yield from ((name, value) for name in (label, *gone.get(label, ())))


def rewritten(graph: Graph, change: Callable[[Graph, Node], Node]) -> Graph:
    """The graph with every operation, also inside of regions, changed to what `change` makes of it and its graph."""
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Region):
            nodes.append(replace(node, op=node.op.with_bodies([rewritten(body, change) for body in node.op.bodies])))
        else:
            nodes.append(change(graph, node))
    return replace(graph, nodes=tuple(nodes))


def infer(op: Op | Region, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """The types of all results of an operation or region."""
    return op.infer(*operands) if isinstance(op, Region) else (op.infer(*operands),)


def evaluate(
    graph: Graph, operands: Sequence[np.ndarray], trip: Trip = (), seen: Seen | None = None
) -> tuple[np.ndarray, ...]:
    """The outputs of a graph in float64 (int64 for integers), from its inputs and then its constants.

    seen: is told every value on the way, also inside of regions, in which trip of the loops around it was computed. A
    condition is asked in one more trip than its body has. trip: of the loops around this graph.
    """
    values = dict(zip((*graph.inputs, *graph.constants), operands, strict=True))
    for node in graph.nodes:
        given = [values[v] for v in node.operands]
        if isinstance(node.op, Region):
            values |= dict(zip(node.results, node.op.reference(*given, trip=trip, seen=seen), strict=True))
        else:
            values[node.result] = node.op.reference(*given)
    if seen is not None:
        for value, array in values.items():
            seen(value, trip, array)
    return tuple(values[v] for v in graph.outputs)


def check(graph: Graph) -> None:
    """The grammar of a graph and of all graphs inside of it.

    Operands exist before use, types are those that the operations infer, numbers and labels are unique.
    Raises ArgumentError, which would mean a mistake of the compiler and not of its user.
    """
    _check_values(graph, set())
    labels = [node.label for node in all_nodes(graph)]
    if len(set(labels)) != len(labels):
        raise ArgumentError(
            describe("two nodes of one label", given=sorted({n for n in labels if labels.count(n) > 1}))
        )


def _check_values(graph: Graph, elsewhere: set[int]) -> None:
    """elsewhere: the numbers that other graphs of the program use; those of this one are added."""
    known = {*graph.inputs, *graph.constants}
    if again := known & elsewhere:
        raise ArgumentError(describe("values of one number in two graphs", given=sorted(again)))
    elsewhere |= known
    for node in graph.nodes:
        missing = [v for v in node.operands if v not in known]
        if missing or set(node.results) & elsewhere or len(set(node.results)) != len(node.results):
            computed = " ".join(map(str, node.results))
            raise ArgumentError(
                describe("a node out of order", given=f"{node.label} reads {missing} and computes {computed}")
            )
        inferred, declared = infer(node.op, graph.types_of(node.operands)), graph.types_of(node.results)
        if inferred != declared:
            raise ArgumentError(
                describe(
                    "a value of another type than its node infers",
                    given=f"{node.label}: {', '.join(map(str, declared))}",
                    allowed=", ".join(map(str, inferred)),
                )
            )
        known |= set(node.results)
        elsewhere |= known
        if isinstance(node.op, Region):
            for body in node.op.bodies:
                _check_values(body, elsewhere)
    if not set(graph.outputs) <= known:
        raise ArgumentError(describe("outputs that nothing computes", given=sorted(set(graph.outputs) - known)))


def text(graph: Graph, indent: str = "") -> str:
    """The graph as stable text, one node per line; the bodies of a region stand below it."""
    lines = header(graph)
    for node in graph.nodes:
        lines.append(node_text(graph, node))
        if isinstance(node.op, Region):
            for name, body in zip(node.op.body_names, node.op.bodies, strict=True):
                lines += [f"  {name}", *text(body, "    ").splitlines()]
    return "\n".join(indent + line for line in [*lines, "output   " + " ".join(f"%{v}" for v in graph.outputs)])


def header(graph: Graph) -> list[str]:
    """The lines of the text that say what goes in."""
    kinds = {"input   ": graph.inputs, "constant": graph.constants}
    return [f"{kind} %{v} {graph.types[v]} {graph.labels[v]}" for kind, values in kinds.items() for v in values]


def node_text(graph: Graph, node: Node) -> str:
    """The line of the text that says what one node does; a region's bodies are not in it."""
    operands = " ".join(f"%{v}" for v in node.operands)
    results = ", ".join(f"%{v} {graph.types[v]}" for v in node.results)
    names = ", ".join([node.label, *(gone for gone, stays in graph.joined.items() if stays == node.label)])
    part = f", part of {node.operator}" if node.operator else ""
    return f"node     {results} = {node.op} ({operands})  # {names}{part}"
