"""Fused against unfused against float64: bits, ULPs, where they part, and which choice parted them (law L2).

The baseline is the same function primitive by primitive with no choice that changes bits. For every node that both
programs compute, results are compared bit by bit. A difference is traced to its cause in two steps: the node is run
again on the baseline's operands with the program's own choices, which tells a difference that is made here from one
that is only passed on; and each choice made here is switched off in turn, which names the one that made it.

Nodes inside of loops are compared trip by trip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base import compat
from rdujax.base.errors import ConcretenessError, UnsupportedError, describe
from rdujax.compiler import driver
from rdujax.compiler.driver import Choices
from rdujax.compiler.program import Kernel, Program, compile
from rdujax.compiler.texts import table
from rdujax.compiler.trips import Values, of_float64, of_run
from rdujax.emulate.node import evaluate
from rdujax.frontend.modules import as_function
from rdujax.graph.graph import Graph, Node, Region, Trip, all_nodes, rewritten
from rdujax.graph.regions import Loop
from rdujax.graph.sources import short
from rdujax.numerics.formats import FP32, Format
from rdujax.ops.contract import Contract
from rdujax.ops.move import Move
from rdujax.ops.op import Work


@dataclass(frozen=True)
class Difference:
    """One node: how the program's result differs from the baseline's, how both differ from float64, and why.

    mismatches: elements whose bits differ. max_ulp: largest distance in units in the last place of the result's format.
    error, baseline_error: largest absolute difference from float64. made_by: choices that made a difference at this
    node. inherited_from: labels of operands that were already different. trip: where it first differs, inside of loops
    the trip of each, the outermost first. A loop that turned more often in one of the two is compared in the trips that
    both have, and with float64 in those that it has, too; elements, mismatches and errors are of all these trips.
    """

    label: str
    source: str
    elements: int
    fmt: str
    mismatches: int
    max_ulp: int
    error: float
    baseline_error: float
    made_by: tuple[str, ...]
    inherited_from: tuple[str, ...]
    trip: tuple[int, ...] = ()

    @property
    def reason(self) -> str:
        """The cause in words."""
        parts = list(self.made_by)
        if self.inherited_from:
            parts.append("inherited from " + ", ".join(self.inherited_from))
        if self.mismatches and self.trip:
            parts.append("first in trip " + ".".join(map(str, self.trip)))
        return "; ".join(parts)


@dataclass(frozen=True)
class Validation:
    """The comparison of a program with its baseline; prints as a table."""

    nodes: tuple[Difference, ...]
    outputs: tuple[Difference, ...]
    choices: str

    @property
    def bit_equal(self) -> bool:
        """True where every output has the bits of the unfused baseline."""
        return all(d.mismatches == 0 for d in self.outputs)

    @property
    def mismatches(self) -> int:
        """Elements of outputs whose bits differ."""
        return sum(d.mismatches for d in self.outputs)

    @property
    def max_ulp(self) -> int:
        """Largest distance of an output from the baseline."""
        return max((d.max_ulp for d in self.outputs), default=0)

    def __str__(self) -> str:
        rows = [
            [
                d.label,
                f"{d.mismatches:,}",
                f"{d.elements:,}",
                f"{d.max_ulp:,}",
                f"{d.error:.3g}",
                f"{d.baseline_error:.3g}",
                short([d.source]),
                d.reason or "-",
            ]
            for d in self.nodes
        ]
        verdict = (
            "every output has the bits of the unfused program"
            if self.bit_equal
            else f"{self.mismatches:,} output elements differ"
        )
        head = ["node", "differ", "of", "max ULP", "error", "unfused error", "source", "because of"]
        return f"{self.choices}: {verdict}\n" + table(head, rows) + "\n    error: largest |value - float64|"


def validate(fn: Callable[..., Any] | Program | Kernel, *args: Any, **choices: Any) -> Validation:
    """Runs `fn` fused and unfused on the same arguments and compares every node.

    fn: a function, a `Program` or a kernel written by hand. args: arrays. choices: those of `compile`, or those that a
    program is compiled again with.
    Raises what `compile` and a call raise, and ConcretenessError where args have no values.
    """
    if any(compat.is_tracer(x) for x in jax.tree.leaves(args)):
        raise ConcretenessError(
            describe("a comparison needs values", given="tracers", do="call validate outside of jit, vmap and grad")
        )
    if not isinstance(fn, Program | Kernel):
        fn, args = as_function(fn, args)
    program = _program(fn, args, choices)
    if program.traced.sockets.axes:
        raise UnsupportedError(
            describe("one socket's values need those of the others", given=f"{program.traced.sockets.count} sockets",
                     do="validate the function of one socket, without collectives", where=program.name)
        )  # fmt: skip
    chosen = program.choices
    plain = Choices(fusion="primitives", orchestration=chosen.orchestration, tier=chosen.tier, tiers=chosen.tiers)
    graph = program.graph
    baseline_graph = _without_splits(graph)
    baseline = Program(
        replace(program.traced, graph=baseline_graph),
        driver.placed(baseline_graph, program.machine, plain),  # the same nodes as in the program
        program.machine,
        plain,
        program.name,
    )
    (ours, left), (theirs, right) = _values(program, args), _values(baseline, args)
    exact = of_float64(baseline_graph, program._checked(args))
    wide = {v for planned in program.plan.kernels for v in planned.wide}
    comparison = _Comparison(ours, theirs, exact, wide)
    comparison.visit(graph)
    in_memory = replace(comparison, ours=ours | left, theirs=theirs | right)
    outputs = tuple(
        in_memory.compare(graph, node, v)
        for v in graph.outputs
        for node in graph.nodes
        if v in node.results and v in left
    )
    return Validation(tuple(comparison.nodes), outputs, _named_choices(program))


def _program(fn: Callable[..., Any] | Program | Kernel, args: tuple[Any, ...], choices: dict[str, Any]) -> Program:
    """The program to compare, with the choices made."""
    if isinstance(fn, Kernel):
        fn = fn.program(*args)
    if isinstance(fn, Program):
        return fn.replace(**choices) if choices else fn
    return compile(fn, *args, **choices)


def _values(program: Program, args: tuple[Any, ...]) -> tuple[Values, Values]:
    """(what the readers of each value find, what memory holds outside of regions), as carriers.

    Both differ where a stage buffer keeps FP32 of what memory holds in BF16.
    """
    result, graph = program.captured(*args), program.graph
    held = {v: {(): np.asarray(x)} for v, x in result.memory.items() if v in graph.types}
    return of_run(graph, result), held


@dataclass
class _Comparison:
    """Two runs and the reference, and what was found so far.

    different: a value that differs, and the labels that a reader inherits it from.
    """

    ours: Values
    theirs: Values
    exact: Values
    wide: set[int]
    nodes: list[Difference] = field(default_factory=list)
    different: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def visit(self, graph: Graph) -> None:
        """Compares all nodes of a graph, those inside of its regions before what reads the region's results."""
        for node in graph.nodes:
            if isinstance(node.op, Region):
                self._region(graph, node, node.op)
                continue
            if node.result not in self.ours or node.result not in self.theirs:
                # Inside a chain of maps no buffer holds the value: what it inherited is passed on.
                self.different[node.result] = self._inherited(node.operands)
                continue
            self._add(self.compare(graph, node, node.result), node.result)

    def compare(self, graph: Graph, node: Node, value: int) -> Difference:
        """One value of a node, over all trips that both runs have."""
        fmt, ours, theirs = graph.types[value].fmt, self.ours[value], self.theirs[value]
        exact, trips = self.exact.get(value, {}), sorted(ours.keys() & theirs.keys())
        wrong = {t: int((_bits(ours[t]) != _bits(theirs[t])).sum()) for t in trips}
        differ = [t for t in trips if wrong[t]]
        made, inherited = self._cause(graph, node, value, differ) if differ else ((), ())
        errors, others = ([_error(run[t], exact[t]) for t in trips if t in exact] for run in (ours, theirs))
        return Difference(
            graph.labels[value], node.source, sum(ours[t].size for t in trips), fmt.name, sum(wrong.values()),
            max((_ulps(ours[t], theirs[t], fmt) for t in trips), default=0), max(errors, default=0.0),
            max(others, default=0.0), made, inherited, differ[0] if differ else (),
        )  # fmt: skip

    def _add(self, found: Difference, value: int) -> None:
        if found.mismatches:
            self.different[value] = (found.label,)
        self.nodes.append(found)

    def _region(self, graph: Graph, node: Node, region: Region) -> None:
        """The nodes inside, then the results; what comes in brings its differences along, as does a carry."""
        for body, operands in zip(region.bodies, region.given(node.operands), strict=True):
            self.different |= {v: self._inherited((o,)) for v, o in zip(body.inputs, operands, strict=True)}
            if isinstance(region, Loop):
                for value, returned in zip(region.carried(body), region.body.outputs, strict=False):
                    ours, theirs = self.ours[value], self.theirs[value]
                    later = [t for t in ours.keys() & theirs.keys() if t[-1]]
                    if any((_bits(ours[t]) != _bits(theirs[t])).any() for t in later):
                        self.different[value] += (region.body.labels[returned],)
            self.visit(body)
        for value in node.results:
            self._add(self.compare(graph, node, value), value)

    def _cause(
        self, graph: Graph, node: Node, value: int, trips: Sequence[Trip]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(choices that made a difference here, operands that brought one), in these trips."""
        if isinstance(node.op, Region):
            at = node.results.index(value)
            return (), self._inherited([body.outputs[at] for body in node.op.bodies if at < len(body.outputs)])
        inherited = self._inherited(node.operands)
        if isinstance(node.op, Move):
            return (), inherited
        assert isinstance(node.op, Work)
        fmts = tuple(graph.types[v].fmt for v in node.operands)
        is_wide, splits = node.result in self.wide, node.op.config.k_splits if isinstance(node.op, Contract) else 1

        def bits(trip: Trip, split: bool, wide: bool) -> np.ndarray:
            op = node.op if split else _unsplit(graph, node).op
            operands = [jnp.asarray(self.theirs[v][trip]) for v in node.operands]
            return _bits(np.asarray(evaluate(op, operands, fmts, wide=wide)))  # type: ignore[arg-type]

        made: dict[str, None] = {}
        for trip in trips:
            chosen = bits(trip, True, is_wide)
            if splits > 1 and (chosen != bits(trip, False, is_wide)).any():
                made[f"k_splits={splits}"] = None
            if is_wide and (chosen != bits(trip, True, False)).any():
                made["stage_buffer_format=fp32"] = None
        return tuple(made), inherited

    def _inherited(self, values: Sequence[int]) -> tuple[str, ...]:
        """Labels of the nodes from which values bring differences."""
        return tuple(dict.fromkeys(label for v in values for label in self.different.get(v, ())))


def _unsplit(graph: Graph, node: Node) -> Node:
    if isinstance(node.op, Contract):
        return replace(node, op=replace(node.op, config=replace(node.op.config, k_splits=1)))
    return node


def _without_splits(graph: Graph) -> Graph:
    return rewritten(graph, _unsplit)


def _bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.int32) if x.dtype == np.float32 else x


def _ulps(a: np.ndarray, b: np.ndarray, fmt: Format) -> int:
    """Largest distance in units in the last place of `fmt`, rounded up; any NaN against a number counts as 2^31."""
    if not fmt.is_float:
        return int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0))
    step = 1 << (FP32.mantissa_bits - fmt.mantissa_bits)
    distance = np.abs(_place(a) - _place(b))
    distance = np.where(np.isnan(a) & np.isnan(b), 0, np.where(np.isnan(a) | np.isnan(b), step << 31, distance))
    return int(-(-distance.max(initial=0) // step))


def _place(x: np.ndarray) -> np.ndarray:
    """Position of a float among all floats, with both zeros at 0."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _error(x: np.ndarray, exact: np.ndarray) -> float:
    """Largest |x - exact| over the elements where both are finite."""
    ours, other = x.astype(np.float64), exact.astype(np.float64)
    finite = np.isfinite(ours) & np.isfinite(other)
    return float(np.abs(ours[finite] - other[finite]).max(initial=0.0))


def _named_choices(program: Program) -> str:
    c = program.choices
    parts = [f"fusion {program.plan.fusion}", f"stage buffers {c.stage_buffer_format}"]
    splits = {
        n.label: n.op.config.k_splits
        for n in all_nodes(program.graph)
        if isinstance(n.op, Contract) and n.op.config.k_splits > 1
    }
    if splits:
        parts.append("k_splits " + ", ".join(f"{label}={n}" for label, n in splits.items()))
    return "; ".join(parts)
