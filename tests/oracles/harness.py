"""Ways to run one operation, and the comparison of bits.

A mode takes (operation, operands) and returns what the operation gives for the whole operands, whatever road
XLA took: compiled, folded at compile time, batched, looped or operation by operation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

COUNTS = [1 << 14, pytest.param(1 << 20, marks=pytest.mark.full)]


def in_full(*values: Any) -> list[Any]:
    """Parameters of the same test that only the full run tries."""
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.full) for v in values]


ROW = 32  # vectors per row in the modes that batch or loop; a multiple of no prime that vector units like but 2


def raw(bits: np.ndarray) -> np.ndarray:
    """FP32 patterns as a float32 array with exactly these bits."""
    return np.ascontiguousarray(bits, np.uint32).reshape(np.shape(bits)).view(np.float32)


def patterns(values: jax.Array) -> np.ndarray:
    """The bits of a float32 array; other dtypes come back as they are."""
    array = np.asarray(values)
    return array.view(np.uint32) if array.dtype == np.float32 else array


def assert_same_bits(got: jax.Array, want: np.ndarray, *operands: np.ndarray, note: str = "") -> None:
    """Fails with the first few differing elements in hexadecimal."""
    got = patterns(got)
    assert got.shape == want.shape and got.dtype == want.dtype, (got.shape, want.shape, got.dtype, want.dtype)
    wrong = np.flatnonzero(got.ravel() != want.ravel())
    columns = [np.broadcast_to(v, want.shape).ravel() for v in (*operands, got, want)]
    shown = [[hex(int(v[i]) & 0xFFFFFFFF) for v in columns] for i in wrong[:4]]
    assert wrong.size == 0, f"{note}: {wrong.size} of {got.size} elements differ; operands, got, want: {shown}"


def _rows(operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [v.reshape(-1, ROW, *v.shape[1:]) for v in operands]


def _flat(values: jax.Array) -> np.ndarray:
    array = np.asarray(values)
    return array.reshape(-1, *array.shape[2:])


def eager(op: Callable, *operands: np.ndarray) -> jax.Array:
    """As a user calls it."""
    return op(*map(jnp.asarray, operands))


def jit(op: Callable, *operands: np.ndarray) -> jax.Array:
    """Compiled with every operand an argument."""
    return jax.jit(op)(*map(jnp.asarray, operands))


def without_jit(op: Callable, *operands: np.ndarray) -> jax.Array:
    """Primitive by primitive, each compiled alone."""
    with jax.disable_jit():
        return op(*map(jnp.asarray, operands))


def vmap(op: Callable, *operands: np.ndarray) -> np.ndarray:
    """Batched over rows, compiled."""
    return _flat(jax.jit(jax.vmap(op))(*_rows(operands)))


def scan(op: Callable, *operands: np.ndarray) -> np.ndarray:
    """Row by row in a compiled loop."""
    step = jax.jit(lambda rows: jax.lax.scan(lambda carry, row: (carry, op(*row)), 0, rows)[1])
    return _flat(step(tuple(_rows(operands))))


def constants(op: Callable, *operands: np.ndarray) -> jax.Array:
    """Every operand closed over: XLA may fold the operation with its other evaluator."""
    return jax.jit(lambda: op(*map(jnp.asarray, operands)))()


def first_constant(op: Callable, *operands: np.ndarray) -> jax.Array:
    """The first operand closed over."""
    return jax.jit(lambda *rest: op(jnp.asarray(operands[0]), *rest))(*operands[1:])


def last_constant(op: Callable, *operands: np.ndarray) -> jax.Array:
    """The last operand closed over: a constant divisor, a constant factor."""
    return jax.jit(lambda *rest: op(*rest, jnp.asarray(operands[-1])))(*operands[:-1])


def odd_lengths(op: Callable, *operands: np.ndarray) -> np.ndarray:
    """Pieces of 1, 2, ... 33 elements, each its own shape, so that vector bodies and scalar tails both run."""
    edges = np.cumsum(range(1, 34))
    head = [np.split(v[: edges[-1]], edges[:-1]) for v in operands]
    pieces = jax.jit(lambda *columns: [op(*piece) for piece in zip(*columns, strict=True)])(*head)
    rest = jax.jit(op)(*(v[edges[-1] :] for v in operands))
    return np.concatenate([*map(np.asarray, pieces), np.asarray(rest)])


MODES = {
    f.__name__: f for f in (eager, jit, without_jit, vmap, scan, constants, first_constant, last_constant, odd_lengths)
}
