"""The bits of FP32 carriers: isolation, flushing, the one NaN, and the order of numbers.

XLA may contract, re-associate, fold or flush any composition of floating operations. What it never does is look
through a bitcast followed by integer arithmetic. Every result of the library therefore passes through one of the
integer steps of this file, which is what makes eager, jit, vmap, scan and folded constants give the same bits.

The gradient of every function here is straight-through: the derivative of rounding, flushing and isolating is one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rdujax.base.errors import FormatError, ShapeError, describe

SIGN_BIT = np.int32(-(2**31))
MAGNITUDE_MASK = np.int32(0x7FFFFFFF)
MIN_NORMAL_BITS = np.int32(0x00800000)
INF_BITS = np.int32(0x7F800000)
QNAN_BITS = np.int32(0x7FC00000)
BF16_HIGH_MASK = np.int32(-(2**16))


def to_bits(x: jax.Array) -> jax.Array:
    """The 32 bits of float32 `x` as int32, same shape. Zero gradient."""
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def from_bits(bits: jax.Array) -> jax.Array:
    """The float32 array whose bits are int32 `bits`, same shape. Zero gradient."""
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def magnitude(bits: jax.Array) -> jax.Array:
    """The bits without the sign: ordered as the absolute values are, NaN above infinity."""
    return bits & MAGNITUDE_MASK


def flush_bits(bits: jax.Array) -> jax.Array:
    """Denormals become zeros of their sign (DAZ and FTZ); NaN patterns stay as they are."""
    return jnp.where(magnitude(bits) < MIN_NORMAL_BITS, bits & SIGN_BIT, bits)


def one_nan(bits: jax.Array) -> jax.Array:
    """Every NaN pattern becomes 0x7FC00000."""
    return jnp.where(magnitude(bits) > INF_BITS, QNAN_BITS, bits)


def commit_bits(bits: jax.Array) -> jax.Array:
    """FTZ and one NaN, on bits."""
    return one_nan(flush_bits(bits))


def round_bits_to_bf16(bits: jax.Array) -> jax.Array:
    """FP32 bits -> FP32 bits that hold a BF16 value: nearest even, FTZ, one NaN (N6).

    Rounding can overflow to infinity, which the carry into the exponent does by itself, but it cannot turn a
    normal number into a denormal one.
    """
    rounded = (bits + np.int32(0x7FFF) + ((bits >> 16) & np.int32(1))) & BF16_HIGH_MASK
    m = magnitude(bits)
    rounded = jnp.where(m < MIN_NORMAL_BITS, bits & SIGN_BIT, rounded)
    return jnp.where(m > INF_BITS, QNAN_BITS, rounded)


def straight_through(fn: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """Gives a function of one float32 array the derivative one (same shape in and out)."""
    wrapped = jax.custom_jvp(fn)
    wrapped.defjvp(lambda primals, tangents: (wrapped(*primals), tangents[0]))
    return wrapped


@straight_through
def isolate(x: jax.Array) -> jax.Array:
    """The same number, behind a wall that no compiler rewrites through: one integer minimum.

    The signed minimum with 0x7FC00000 changes positive NaN payloads, so it is not the identity and may not be
    dropped; for every number it is. It stops multiply-add contraction and all algebra. float32 in and out.
    """
    return from_bits(jnp.minimum(to_bits(x), QNAN_BITS))


@straight_through
def flush(x: jax.Array) -> jax.Array:
    """Reads float32 `x` as the machine does: denormals are zeros of their sign (N2, DAZ)."""
    return from_bits(flush_bits(to_bits(x)))


@straight_through
def canonicalize(x: jax.Array) -> jax.Array:
    """A result register: isolated, denormals flushed, one NaN (N3). float32 in, FP32 carrier out."""
    return from_bits(commit_bits(to_bits(x)))


@straight_through
def commit_bf16(x: jax.Array) -> jax.Array:
    """A result register of BF16: `canonicalize` and the rounding to BF16 in one. float32 in, BF16 carrier out."""
    return from_bits(round_bits_to_bf16(to_bits(x)))


def high_half(x: jax.Array) -> jax.Array:
    """The upper 16 bits of float32 `x`: of a BF16 carrier, its word at rest. No derivative."""
    words = jax.lax.bitcast_convert_type(x, jnp.uint32) >> np.uint32(16)
    return words.astype(jnp.uint16)


def order_key(x: jax.Array) -> jax.Array:
    """int32 keys in the order of the numbers (N5): -inf < ... < -0 < +0 < ... < +inf < NaN. Any float32 in."""
    bits = commit_bits(to_bits(x))
    return jnp.where(bits < 0, bits ^ MAGNITUDE_MASK, bits)


def from_order_key(key: jax.Array) -> jax.Array:
    """The FP32 carrier of an `order_key`."""
    return from_bits(one_nan(jnp.where(key < 0, key ^ MAGNITUDE_MASK, key)))


def as_carriers(where: str, *operands: ArrayLike) -> list[jax.Array]:
    """float32 arrays of one common shape from arrays and Python scalars (NumPy broadcasting).

    Raises FormatError for any other dtype and ShapeError for shapes that do not broadcast.
    """
    arrays = [_as_dtype(x, jnp.float32, where, i) for i, x in enumerate(operands)]
    return broadcast(where, *arrays)


def as_integers(where: str, *operands: ArrayLike) -> list[jax.Array]:
    """int32 arrays of one common shape from arrays and Python integers; errors as `as_carriers`."""
    arrays = [_as_dtype(x, jnp.int32, where, i) for i, x in enumerate(operands)]
    return broadcast(where, *arrays)


def broadcast(where: str, *arrays: jax.Array) -> list[jax.Array]:
    """The arrays broadcast to their common shape; ShapeError if they have none."""
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        given = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(
            describe("operands do not broadcast", given=given, allowed="NumPy broadcasting", where=where)
        ) from None
    return [a if a.shape == shape else jnp.broadcast_to(a, shape) for a in arrays]


def _as_dtype(x: ArrayLike, dtype: type, where: str, index: int) -> jax.Array:
    array = jnp.asarray(x)
    if array.dtype == dtype:
        return array
    weak_kinds = "if" if dtype == jnp.float32 else "i"
    if getattr(array, "weak_type", False) and array.dtype.kind in weak_kinds:
        return array.astype(dtype)
    raise FormatError(
        describe(
            "an operand of the wrong dtype",
            given=f"{array.dtype.name}{list(array.shape)}",
            allowed=f"{jnp.dtype(dtype).name} carriers and Python numbers",
            where=f"{where}, operand {index}",
            do="bring public arrays in with rdujax.numerics.convert.enter",
        )
    )
