"""Every value of a program trip by trip: what a run captured inside of loops and branches, and what float64 gives.

A trip is named by its place in every loop around, the outermost first: () outside of loops, (2,) in the third trip of
one, (2, 0) in the first trip of a loop inside of that. A `while` loop's condition is asked in one more trip than its
body has. A branch has the trips in which it was taken.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rdujax.emulate.regions import Result
from rdujax.graph.graph import Graph, Node, Trip, evaluate
from rdujax.graph.regions import Branch, Loop
from rdujax.numerics import convert
from rdujax.ops.move import Move

Values = dict[int, dict[Trip, np.ndarray]]


def of_run(graph: Graph, result: Result) -> Values:
    """The carriers of a run that captured, as readers find each value; views follow what they are read from."""
    return _Run(result).visit(graph, [()], {v: {(): np.asarray(result.memory[v])} for v in graph.inputs})


class _Run:
    """The values that are known so far."""

    def __init__(self, result: Result):
        self.memory = {v: np.asarray(x) for v, x in result.memory.items()}
        self.captured = self.memory | {v: np.asarray(x) for v, x in result.captured.items()}
        self.turned = {label: np.asarray(x) for label, x in result.turned.items()}
        self.values: Values = {}

    def visit(self, graph: Graph, trips: Sequence[Trip], inputs: Values) -> Values:
        """The values of a graph in these trips, its regions included; inputs: those that are known from outside."""
        for value in graph.types:
            if value in self.captured:
                self.values[value] = {trip: self.captured[value][trip] for trip in trips}
        self.values |= inputs
        for node in graph.nodes:
            if isinstance(node.op, Move) and node.result not in self.values and node.operands[0] in self.values:
                source = self.values[node.operands[0]]
                self.values[node.result] = {trip: np.asarray(node.op.access.read(source[trip])) for trip in trips}
        for node in graph.nodes:
            if isinstance(node.op, Loop):
                self._loop(node, node.op, trips)
            elif isinstance(node.op, Branch):
                self._branch(node, node.op, trips)
        return self.values

    def _loop(self, node: Node, loop: Loop, trips: Sequence[Trip]) -> None:
        asked, consts, first, xs = ([self.values[v] for v in part] for part in loop.split(node.operands))
        counts = {trip: loop.trips if loop.trips is not None else int(self.turned[node.label][trip]) for trip in trips}
        within = [(*trip, t) for trip in trips for t in range(counts[trip])]
        returned = [{t: self.memory[v][t] for t in within} for v in loop.body.outputs[: loop.n_carry]]
        places = list(loop.places()) if loop.trips is not None else []

        def inputs(graph: Graph, constants: list[dict[Trip, np.ndarray]], inside: list[Trip]) -> Values:
            found: list[dict[Trip, np.ndarray]] = [{t: each[t[:-1]] for t in inside} for each in constants]
            for begin, later in zip(first, returned, strict=True):
                found.append({t: later[(*t[:-1], t[-1] - 1)] if t[-1] else begin[t[:-1]] for t in inside})
            if graph is loop.body:
                found += [{t: x[t[:-1]][places[t[-1]]] for t in inside} for x in xs]
            return dict(zip(graph.inputs, found, strict=True))

        self.visit(loop.body, within, inputs(loop.body, consts, within))
        if loop.condition is not None:
            asks = [(*trip, t) for trip in trips for t in range(counts[trip] + 1)]
            self.visit(loop.condition, asks, inputs(loop.condition, asked, asks))

    def _branch(self, node: Node, branch: Branch, trips: Sequence[Trip]) -> None:
        operands = [self.values[v] for v in node.operands[1:]]
        for i, graph in enumerate(branch.branches):
            taken = [trip for trip in trips if self.turned[node.label][trip] == i]
            given = [{trip: each[trip] for trip in taken} for each in operands]
            self.visit(graph, taken, dict(zip(graph.inputs, given, strict=True)))


def of_float64(graph: Graph, arrays: Sequence[object]) -> Values:
    """Every value in float64 (int64 for integers), from the public arrays of the inputs."""
    values: Values = {}
    given = []
    for value, array in zip((*graph.inputs, *graph.constants), (*arrays, *graph.constants.values()), strict=True):
        carriers = np.asarray(convert.enter(jnp.asarray(array), graph.types[value].fmt))
        exact = np.float64 if graph.types[value].fmt.is_float else np.int64 if carriers.dtype != bool else bool
        given.append(carriers.astype(exact))  # not emulated: the reference in float64
    evaluate(graph, given, seen=lambda value, trip, array: values.setdefault(value, {}).update({trip: array}))
    return values
