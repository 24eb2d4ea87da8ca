"""The systolic contraction (N8): sequential in k, every product and every sum rounded to FP32.

For each output: acc = acc + a[k] * b[k] for k = 0, 1, ..., K-1, beginning at +0, both operations by N3. The result does
not depend on M, N, tiles, batch, threads or devices. A split of K into s consecutive segments is part of a mapping and
visible in the bits: each segment is a chain from +0, and the partial sums are added in order.

How it is fast: one loop over chunks of 16 k, whose body is 16 rank-1 updates that XLA fuses into a single kernel, with
an integer minimum between product and sum against contraction into a fused multiply-add. Words at rest are widened
inside that kernel.
"""

from functools import partial
from operator import index

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.numerics.bits import as_carriers, canonicalize, from_bits, isolate

# Fewer updates per turn make XLA fuse the slicing of the operands into the kernel, which then reads them one by one;
# more do not fit the registers.
_RANK = 16
# A loop of one turn is inlined, and constants are then folded by rules other than those of the machine.
_MIN_TURNS = 2


def contract(a: ArrayLike, b: ArrayLike, *, acc: ArrayLike | None = None, k_splits: int = 1) -> jax.Array:
    """a [..., M, K] times b [..., K, N] -> FP32 carrier [..., M, N] by N8; not rounded to BF16.

    a, b: FP32 or BF16 carriers, or uint16 words of BF16 at rest (the same leading batch axes).
    acc: FP32 carrier [..., M, N] to continue from instead of +0; contracting k-tiles one after another with acc gives
    the bits of one call. k_splits: number of consecutive segments of ceil(K / k_splits) values (the last one shorter,
    empty ones left out); not together with acc.
    The tangent is the plain FP32 matmul of tangents; words have none.
    Raises ShapeError, FormatError, ArgumentError.
    """
    k_splits = index(k_splits)
    a, b = _operand("a", a), _operand("b", b)
    _check_shapes(a, b)
    _check_splits(a.shape[-1], k_splits, acc)
    if acc is not None:
        (acc,) = as_carriers("contract acc", acc)
        _check_accumulator(acc, (*a.shape[:-1], b.shape[-1]))
    return _contract(a, b, acc, k_splits=k_splits)


def _operand(name: str, x: ArrayLike) -> jax.Array:
    x = jnp.asarray(x)
    if x.dtype not in (jnp.float32, jnp.uint16):
        raise FormatError(
            describe("an operand of the wrong dtype", given=x.dtype.name, where=f"contract, {name}",
                     allowed="float32 carriers, uint16 words of BF16", do="use enter, pack, or integer.contract")
        )  # fmt: skip
    return x


def _check_shapes(a: jax.Array, b: jax.Array) -> None:
    fits = a.ndim >= 2 and b.ndim >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2]
    if not fits or 0 in a.shape or 0 in b.shape:
        raise ShapeError(
            describe("operands that cannot be contracted", given=f"a {list(a.shape)}, b {list(b.shape)}",
                     allowed="a [..., M, K], b [..., K, N], equal leading axes, no length 0", where="contract")
        )  # fmt: skip


def _check_splits(length: int, k_splits: int, acc: ArrayLike | None) -> None:
    if not 1 <= k_splits <= length:
        raise ArgumentError(
            describe("a split that the sum does not have", given=k_splits, allowed=f"1 to K = {length}",
                     where="contract, k_splits")
        )  # fmt: skip
    if acc is not None and k_splits != 1:
        raise ArgumentError(
            describe("an accumulator for several segments", given=f"acc and k_splits={k_splits}",
                     allowed="acc with k_splits=1", where="contract", do="add the segments yourself")
        )  # fmt: skip


def _check_accumulator(acc: jax.Array, shape: tuple[int, ...]) -> None:
    if acc.shape != shape:
        raise ShapeError(
            describe("an accumulator of the wrong shape", given=list(acc.shape), allowed=list(shape),
                     where="contract, acc")
        )  # fmt: skip


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _evaluate(a, b, acc, k_splits):
    if k_splits == 1:
        return canonicalize(_chain(a, b, acc))
    a, b = _segmented(a, -1, k_splits), _segmented(b, -2, k_splits)
    partials = canonicalize(_chain(a, b, acc))
    total = partials[0]
    for i in range(1, partials.shape[0]):
        total = canonicalize(total + partials[i])
    return total


def _evaluate_jvp(k_splits, primals, tangents):
    a, b, _ = primals
    da, db, dacc = tangents
    out = _evaluate(*primals, k_splits)
    tangent = jnp.zeros_like(out) if dacc is None or isinstance(dacc, SymbolicZero) else dacc
    if jnp.issubdtype(a.dtype, jnp.floating) and not isinstance(da, SymbolicZero):
        tangent = tangent + jnp.matmul(da, _widen(b), precision=jax.lax.Precision.HIGHEST)
    if jnp.issubdtype(b.dtype, jnp.floating) and not isinstance(db, SymbolicZero):
        tangent = tangent + jnp.matmul(_widen(a), db, precision=jax.lax.Precision.HIGHEST)
    return out, tangent


_evaluate.defjvp(_evaluate_jvp, symbolic_zeros=True)


@partial(jax.jit, static_argnames="k_splits")
def _contract(a, b, acc, k_splits):
    return _evaluate(a, b, acc, k_splits)


def _widen(x: jax.Array) -> jax.Array:
    return from_bits(x.astype(jnp.int32) << 16) if x.dtype == jnp.uint16 else x


def _padded(x: jax.Array, axis: int, length: int, sign: float) -> jax.Array:
    """`x` lengthened to `length` along `axis` with zeros of a sign, as words or as numbers."""
    missing = length - x.shape[axis]
    if not missing:
        return x
    zero = np.float32(sign * 0.0) if x.dtype == jnp.float32 else np.uint16(0x8000 if sign < 0 else 0)
    widths = [(0, 0)] * x.ndim
    widths[axis % x.ndim] = (0, missing)
    return jnp.pad(x, widths, constant_values=zero)


def _segmented(x: jax.Array, axis: int, k_splits: int) -> jax.Array:
    """The segments of K as a new leading axis; a product of the padding is -0, which changes no sum."""
    length = x.shape[axis]
    segment = -(-length // k_splits)
    segments = -(-length // segment)
    x = _padded(x, axis, segments * segment, -1.0 if axis == -1 else 1.0)
    axis %= x.ndim
    x = x.reshape(*x.shape[:axis], segments, segment, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)


def _chain(a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    """The chain of N8 over the last axis of `a` and the last but one of `b`, not yet canonical."""
    if acc is None:
        # Behind a barrier, or the first addition to +0 would be removed and leave -0.
        acc = jax.lax.optimization_barrier(jnp.zeros((*a.shape[:-1], b.shape[-1]), jnp.float32))
    else:
        acc = canonicalize(acc)
    turns = max(-(-a.shape[-1] // _RANK), _MIN_TURNS)
    a, b = _padded(a, -1, turns * _RANK, -1.0), _padded(b, -2, turns * _RANK, 1.0)

    def turn(i, acc):
        columns = jax.lax.dynamic_slice_in_dim(a, i * _RANK, _RANK, axis=-1)
        rows = jax.lax.dynamic_slice_in_dim(b, i * _RANK, _RANK, axis=-2)
        for k in range(_RANK):
            acc = acc + isolate(_widen(columns[..., :, k, None]) * _widen(rows[..., None, k, :]))
        return acc

    return jax.lax.fori_loop(0, turns, turn, acc)
