"""The systolic contraction (N8): sequential in k, every product and every sum rounded to FP32.

For each output: acc = acc + a[k] * b[k] for k = 0, 1, ..., K-1, beginning at +0, both operations by N3. The result does
not depend on M, N, tiles, batch, threads or devices. A split of K into s consecutive segments is part of a mapping and
visible in the bits: each segment is a chain from +0, and the partial sums are added in order.
"""

from functools import partial
from operator import index
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.numerics import registers
from rdujax.numerics.bits import as_carriers, canonicalize, high_half
from rdujax.numerics.chain import chain, padded, widen
from rdujax.numerics.formats import BF16, FP32, Format, lookup

# Options for the outermost jax.jit (compiler_options=...), where XLA takes them: twice as wide vectors on CPUs with
# AVX-512. They change the speed only.
COMPILER_OPTIONS = MappingProxyType({"xla_cpu_prefer_vector_width": 512})


def contract(
    a: ArrayLike, b: ArrayLike, *, acc: ArrayLike | None = None, k_splits: int = 1, fmt: Format | str = FP32
) -> jax.Array:
    """a [..., M, K] times b [..., K, N] -> FP32 carrier [..., M, N] by N8; not rounded to BF16.

    a, b: FP32 or BF16 carriers, or uint16 words of BF16 at rest (the same leading batch axes).
    acc: FP32 carrier [..., M, N] to continue from instead of +0; contracting k-tiles one after another with acc gives
    the bits of one call. k_splits: number of consecutive segments of ceil(K / k_splits) values (the last one shorter,
    empty ones left out); not together with acc. fmt: what carriers hold; of BF16 only the high halves are read: fewer
    bytes, and products that are known to be exact take a faster road; no bit changes.
    The tangent is the plain FP32 matmul of tangents; words have none.
    Raises ShapeError, FormatError, ArgumentError, UnknownNameError.
    """
    k_splits = index(k_splits)
    a, b = _operand("a", a), _operand("b", b)
    _check_shapes(a, b)
    _check_splits(a.shape[-1], k_splits, acc)
    if acc is not None:
        (acc,) = as_carriers("contract acc", acc)
        _check_accumulator(acc, (*a.shape[:-1], b.shape[-1]))
    return _contract(a, b, acc, k_splits=k_splits, as_words=lookup(fmt) is BF16)


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


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _evaluate(a, b, acc, k_splits, as_words):
    if as_words:
        a, b = (x if x.dtype == jnp.uint16 else high_half(x) for x in (a, b))
    if k_splits == 1:
        return chain(a, b, None if acc is None else canonicalize(acc))
    a, b = _segmented(a, a.ndim - 1, k_splits, -1.0), _segmented(b, b.ndim - 2, k_splits, 1.0)
    partials = chain(a, b, None)
    total = partials[0]
    for i in range(1, partials.shape[0]):
        total = registers.add(total, partials[i])
    return total


def _evaluate_jvp(k_splits, as_words, primals, tangents):
    a, b, _ = primals
    da, db, dacc = tangents
    out = _evaluate(*primals, k_splits, as_words)
    tangent = jnp.zeros_like(out) if dacc is None or isinstance(dacc, SymbolicZero) else dacc
    if a.dtype == jnp.float32 and not isinstance(da, SymbolicZero):
        tangent = tangent + jnp.matmul(da, widen(b), precision=jax.lax.Precision.HIGHEST)
    if b.dtype == jnp.float32 and not isinstance(db, SymbolicZero):
        tangent = tangent + jnp.matmul(widen(a), db, precision=jax.lax.Precision.HIGHEST)
    return out, tangent


_evaluate.defjvp(_evaluate_jvp, symbolic_zeros=True)


@partial(jax.jit, static_argnames=("k_splits", "as_words"))
def _contract(a, b, acc, k_splits, as_words):
    return _evaluate(a, b, acc, k_splits, as_words)


def _segmented(x: jax.Array, axis: int, k_splits: int, sign: float) -> jax.Array:
    """The segments of K as a new leading axis, the last one padded."""
    segment = -(-x.shape[axis] // k_splits)
    segments = -(-x.shape[axis] // segment)
    x = padded(x, axis, segments * segment, sign)
    x = x.reshape(*x.shape[:axis], segments, segment, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)
