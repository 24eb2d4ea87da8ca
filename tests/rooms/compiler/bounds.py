"""How far a program may be from float64: the running error of every value, from the formats alone.

For each operation the errors of its operands are carried to first order exactly and bounded beyond it, and the
rounding of the result is added: half a unit of its format, and one for a special function in FP32.
"""

import numpy as np

from rdujax.graph.graph import Graph
from rdujax.numerics.formats import BF16, Format
from rdujax.ops.contract import Contract
from rdujax.ops.move import Move
from rdujax.units.pcu.expression import IMMEDIATE, Instruction

UNIT = {"bf16": 2.0**-8, "fp32": 2.0**-24}
SMALLEST = 2.0**-126
STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "neg": 1.0, "abs": 1.0}


def error_bounds(graph: Graph, exact: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """A bound of |emulated - exact| for every element of every value; `exact` holds the values in float64."""
    bounds = {v: np.zeros(exact[v].shape) for v in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        values, errors = [exact[v] for v in node.operands], [bounds[v] for v in node.operands]
        if isinstance(node.op, Move):
            bounds[node.result] = node.op.access.read(errors[0])
        elif isinstance(node.op, Contract):
            bounds[node.result] = _contraction(node.op, values, errors)
        else:
            for step in node.op.expression.instructions:
                value, error = _step(step, values, errors)
                values, errors = [*values, value], [*errors, error]
            bounds[node.result] = errors[-1]
    return bounds


def _rounded(value: np.ndarray, error: np.ndarray, fmt: Format) -> np.ndarray:
    return error + UNIT[fmt.name] * (np.abs(value) + error) + SMALLEST


def _contraction(op: Contract, values: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    a, b = (np.abs(v) for v in values)
    operands = op.reference(a, errors[1]) + op.reference(errors[0], b) + op.reference(*errors)
    largest = op.reference(a + errors[0], b + errors[1])
    k = op.config.extent(a.shape, b.shape).k
    growth = (k + 1) * UNIT["fp32"] * 1.01
    return _rounded(op.reference(*values), operands + growth * largest + k * SMALLEST, op.output)


def _step(step: Instruction, values: list[np.ndarray], errors: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    if step.function == IMMEDIATE:
        return np.full(values[0].shape, step.immediate, np.float64), np.zeros(values[0].shape)
    (x, *rest), (ex, *others) = [values[i] for i in step.operands], [errors[i] for i in step.operands]
    if step.function in ("add", "sub"):
        sign = 1 if step.function == "add" else -1
        return x + sign * rest[0], _rounded(x + sign * rest[0], ex + others[0], step.fmt)
    if step.function == "mul":
        return x * rest[0], _rounded(x * rest[0], abs(x) * others[0] + ex * abs(rest[0]) + ex * others[0], step.fmt)
    if step.function == "max":
        return np.maximum(x, rest[0]), np.maximum(ex, others[0])
    value = {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh, "neg": np.negative, "abs": np.abs}[
        step.function
    ](x)
    error = STEEPEST[step.function] * ex
    once = _rounded(value, error, step.fmt)
    return value, once if step.fmt is BF16 else once + 4 * UNIT["fp32"] * np.abs(value)
