"""Fused against unfused against float64: bits, ULPs, where they part, and which choice parted them (law L2).

The baseline is the same function operator by operator with no choice that changes bits. For every node that both
programs compute, results are compared bit by bit. A difference is traced to its cause in two steps: the node is run
again on the baseline's operands with the program's own choices, which tells a difference that is made here from one
that is only passed on; and each choice made here is switched off in turn, which names the one that made it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base import compat
from rdujax.base.errors import ConcretenessError, describe
from rdujax.compiler import driver
from rdujax.compiler.driver import Choices
from rdujax.compiler.program import Kernel, Program, compile
from rdujax.compiler.report import table
from rdujax.emulate.node import evaluate
from rdujax.frontend.modules import as_function
from rdujax.graph.graph import Graph, Node
from rdujax.numerics import convert
from rdujax.numerics.formats import FP32, Format
from rdujax.ops.contract import Contract
from rdujax.ops.move import Move
from rdujax.ops.op import Work


@dataclass(frozen=True)
class Difference:
    """One node: how the program's result differs from the baseline's, how both differ from float64, and why.

    mismatches: elements whose bits differ. max_ulp: largest distance in units in the last place of the result's format.
    error, baseline_error: largest absolute difference from float64. made_by: choices that made a difference at this
    node. inherited_from: labels of operands that were already different.
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

    @property
    def reason(self) -> str:
        """The cause in words."""
        parts = list(self.made_by)
        if self.inherited_from:
            parts.append("inherited from " + ", ".join(self.inherited_from))
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
                d.reason or "-",
            ]
            for d in self.nodes
        ]
        verdict = (
            "every output has the bits of the unfused program"
            if self.bit_equal
            else f"{self.mismatches:,} output elements differ"
        )
        head = ["node", "differ", "of", "max ULP", "error", "unfused error", "because of"]
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
    plain = Choices(fusion="none", orchestration=program.choices.orchestration, tier=program.choices.tier)
    graph = driver.with_k_splits(program.traced.graph, program.choices.k_splits)
    baseline_graph = _without_splits(graph)
    baseline = Program(
        replace(program.traced, graph=baseline_graph),
        driver.plan(baseline_graph, program.machine, plain),
        program.machine,
        plain,
        program.name,
    )
    (ours, left), (theirs, right) = _values(program, args), _values(baseline, args)
    exact = reference(baseline_graph, program._checked(args))
    wide = {v for planned in program.plan.kernels for v in planned.wide}
    nodes: list[Difference] = []
    different: dict[int, tuple[str, ...]] = {}  # a value that differs, and the labels that a reader inherits it from
    for node in graph.nodes:
        if node.result not in ours or node.result not in theirs:
            # Inside a chain of maps no buffer holds the value: what it inherited is passed on.
            different[node.result] = _inherited(node, different)
            continue
        found = _compare(graph, node, ours, theirs, exact, wide, different)
        if found.mismatches:
            different[node.result] = (node.label,)
        nodes.append(found)
    outputs = tuple(
        _compare(graph, node, ours | left, theirs | right, exact, wide, different)
        for v in graph.outputs
        for node in graph.nodes
        if node.result == v and v in left
    )
    return Validation(tuple(nodes), outputs, _named_choices(program))


def reference(graph: Graph, arrays: list[Any]) -> dict[int, np.ndarray]:
    """Every value in float64 (int64 for INT32), from the carriers of the inputs."""
    values: dict[int, np.ndarray] = {}
    given = dict(zip(graph.inputs, arrays, strict=True)) | graph.constants
    for value, array in given.items():
        carriers = np.asarray(convert.enter(jnp.asarray(array), graph.types[value].fmt))
        values[value] = carriers.astype(
            np.float64 if graph.types[value].fmt.is_float else np.int64 if carriers.dtype != bool else bool
        )
    for node in graph.nodes:
        values[node.result] = node.op.reference(*(values[v] for v in node.operands))
    return values


def _program(fn: Callable[..., Any] | Program | Kernel, args: tuple[Any, ...], choices: dict[str, Any]) -> Program:
    """The program to compare, with the choices made."""
    if isinstance(fn, Kernel):
        fn = fn.program(*args)
    if isinstance(fn, Program):
        return fn.replace(**choices) if choices else fn
    return compile(fn, *args, **choices)


def _values(program: Program, args: tuple[Any, ...]) -> tuple[dict[int, jax.Array], dict[int, jax.Array]]:
    """(what the readers of each value find, what memory holds), as carriers by value; views follow.

    Both differ where a stage buffer keeps FP32 of what memory holds in BF16.
    """
    result = program.captured(*args)
    values = result.memory | result.captured
    for node in program.graph.nodes:
        if isinstance(node.op, Move) and node.result not in values and node.operands[0] in values:
            values[node.result] = node.op.access.read(values[node.operands[0]])
    return values, result.memory


def _compare(
    graph: Graph,
    node: Node,
    ours: dict[int, jax.Array],
    theirs: dict[int, jax.Array],
    exact: dict[int, np.ndarray],
    wide: set[int],
    different: dict[int, tuple[str, ...]],
) -> Difference:
    kind = graph.types[node.result]
    mine, other = np.asarray(ours[node.result]), np.asarray(theirs[node.result])
    mismatch = _bits(mine) != _bits(other)
    made, inherited = _cause(graph, node, ours, theirs, wide, different) if mismatch.any() else ((), ())
    return Difference(
        node.label, node.source, mine.size, kind.fmt.name, int(mismatch.sum()), _ulps(mine, other, kind.fmt),
        _error(mine, exact[node.result]), _error(other, exact[node.result]), made, inherited,
    )  # fmt: skip


def _cause(
    graph: Graph,
    node: Node,
    ours: dict[int, jax.Array],
    theirs: dict[int, jax.Array],
    wide: set[int],
    different: dict[int, tuple[str, ...]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(choices that made a difference here, operands that brought one)."""
    inherited = _inherited(node, different)
    if isinstance(node.op, Move):
        return (), inherited
    assert isinstance(node.op, Work)
    operands, fmts = [theirs[v] for v in node.operands], [graph.types[v].fmt for v in node.operands]
    is_wide, splits = node.result in wide, node.op.config.k_splits if isinstance(node.op, Contract) else 1

    def bits(split: bool, wide: bool) -> np.ndarray:
        op = node.op if split else _unsplit(node).op
        return _bits(np.asarray(evaluate(op, operands, fmts, wide=wide)))  # type: ignore[arg-type]

    chosen, made = bits(True, is_wide), []
    if splits > 1 and (chosen != bits(False, is_wide)).any():
        made.append(f"k_splits={splits}")
    if is_wide and (chosen != bits(True, False)).any():
        made.append("stage_buffer_format=fp32")
    return tuple(made), inherited


def _inherited(node: Node, different: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """Labels of the nodes from which the operands of a node bring differences."""
    return tuple(dict.fromkeys(label for v in node.operands for label in different.get(v, ())))


def _unsplit(node: Node) -> Node:
    if isinstance(node.op, Contract):
        return replace(node, op=replace(node.op, config=replace(node.op.config, k_splits=1)))
    return node


def _without_splits(graph: Graph) -> Graph:
    return replace(graph, nodes=tuple(_unsplit(node) for node in graph.nodes))


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
        for n in program.graph.nodes
        if isinstance(n.op, Contract) and n.op.config.k_splits > 1
    }
    if splits:
        parts.append("k_splits " + ", ".join(f"{label}={n}" for label, n in splits.items()))
    return "; ".join(parts)
