"""Runs a traced JAX function step by step in NumPy.

NumPy does one IEEE operation at a time on the processor or in its own loops: it neither fuses nor reorders nor folds,
and it keeps denormals where XLA's compiled code flushes them. A function that gives the same bits here and there
depends on no such choice. Only the primitives that FP32 special functions are made of are known.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def _broadcast(x: np.ndarray, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...], **_: Any) -> np.ndarray:
    inner = [1] * len(shape)
    for axis, length in zip(broadcast_dimensions, x.shape, strict=True):
        inner[axis] = length
    return np.broadcast_to(x.reshape(inner), shape)


def _iota(*, dtype: np.dtype, shape: tuple[int, ...], dimension: int, **_: Any) -> np.ndarray:
    return np.indices(shape, dtype)[dimension]


def _gather(table: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
    assert table.ndim == 1 and indices.shape[-1] == 1
    assert indices.min() >= 0 and indices.max() < table.size, "an index was promised to be in bounds"
    return table[indices[..., 0]]


def _shift_right_logical(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) >> amount.view(np.uint32)).astype(np.uint32).view(x.dtype)


PRIMITIVES: dict[str, Callable[..., np.ndarray]] = {
    "add": lambda x, y, **_: x + y,
    "sub": lambda x, y, **_: x - y,
    "mul": lambda x, y, **_: x * y,
    "div": lambda x, y, **_: x / y,
    "neg": lambda x: -x,
    "abs": np.abs,
    "sqrt": lambda x, **_: np.sqrt(x),
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift,
    "shift_right_logical": _shift_right_logical,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "select_n": lambda which, on_false, on_true: np.where(which, on_true, on_false),
    "bitcast_convert_type": lambda x, *, new_dtype: np.ascontiguousarray(x).view(new_dtype).reshape(x.shape),
    "convert_element_type": lambda x, *, new_dtype, **_: x.astype(new_dtype),
    "broadcast_in_dim": _broadcast,
    "gather": _gather,
    "iota": _iota,
}


def _inner(params: dict[str, Any]) -> Any:
    for name in ("jaxpr", "call_jaxpr", "call"):  # the last of what has a rule of its own under vmap
        if name in params:
            return params[name]
    return None


def _run(closed: Any, arguments: list[np.ndarray]) -> list[np.ndarray]:
    jaxpr, values = closed.jaxpr, {}
    values.update(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> np.ndarray:
        return np.asarray(atom.val) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = _inner(equation.params)
        if inner is not None:
            results = _run(inner, operands)
        else:
            results = [PRIMITIVES[equation.primitive.name](*operands, **equation.params)]
        for variable, result in zip(equation.outvars, results, strict=True):
            result = np.asarray(result)
            assert result.dtype == variable.aval.dtype and result.shape == variable.aval.shape, equation
            values[variable] = result
    return [read(atom) for atom in jaxpr.outvars]


def mirror(function: Callable, *x: np.ndarray) -> np.ndarray:
    """function(*x), each primitive done by NumPy. KeyError for a primitive without a rule."""
    with np.errstate(all="ignore"):
        (result,) = _run(jax.make_jaxpr(function)(*x), list(x))
    return result
