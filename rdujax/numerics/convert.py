"""Conversions between formats, and the border of the machine (N6, N11).

Inside a program BF16 values travel as FP32 carriers; `enter` and `leave` change between carriers and public dtypes,
`pack` and `unpack` between BF16 carriers and the 16-bit words they rest in. The `bfloat16` dtype itself never appears
between operations: XLA may keep more bits of it than it says.

Rounding and canonicalisation have the derivative one (straight-through); integers and predicates carry no tangent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rdujax.base.errors import FormatError, describe
from rdujax.numerics import unsigned
from rdujax.numerics.bits import (
    BF16_HIGH_MASK,
    INF_BITS,
    MAGNITUDE_MASK,
    QNAN_BITS,
    SIGN_BIT,
    as_carriers,
    as_integers,
    broadcast,
    canonicalize,
    commit_bf16,
    flush_bits,
    from_bits,
    high_half,
    magnitude,
    to_bits,
)
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32, Format, format_of, lookup

WORDS = frozenset({FP32, INT32, UINT32})  # formats whose bits may be read in one another
_INT32_MAX = MAGNITUDE_MASK
_INT32_MIN = SIGN_BIT
_TWO_TO_31 = np.float32(2.0**31)


def enter(x: ArrayLike, fmt: Format | str | None = None) -> jax.Array:
    """Brings a public array (bfloat16, float32, int32, uint32, bool) in as a carrier: DAZ and one NaN (N11).

    `fmt` is the format of `x`; by default the one of its dtype. Python numbers take any format that they fit.
    Raises FormatError for other dtypes, or if `fmt` is not the format of the array's dtype.
    """
    array = jnp.asarray(x)
    source = _public_format(array, None if fmt is None else lookup(fmt))
    if source is BF16:
        return _widen(array)
    if source is UINT32:
        return unsigned.carriers(array)
    return canonicalize(array) if source is FP32 else array


def leave(x: jax.Array, fmt: Format | str) -> jax.Array:
    """A carrier of `fmt` as an array of the public dtype; exact."""
    fmt = lookup(fmt)
    if x.dtype != fmt.carrier:
        raise FormatError(
            describe("not a carrier of the format", given=x.dtype.name, allowed=fmt.carrier_name, where=f"leave, {fmt}")
        )
    if fmt is UINT32:
        return unsigned.words(x)
    return _narrow(x) if fmt is BF16 else x


def round_to(x: ArrayLike, fmt: Format | str) -> jax.Array:
    """An FP32 carrier rounded to the nearest value of BF16, ties to even (N6); for FP32 only canonicalised."""
    fmt = lookup(fmt)
    (x,) = as_carriers("round_to", x)
    if fmt is BF16:
        return commit_bf16(x)
    if fmt is FP32:
        return canonicalize(x)
    raise FormatError(
        describe("a format without rounding", given=fmt, allowed="bf16, fp32", where="round_to",
                 do="use convert(x, source, target) for integers")
    )  # fmt: skip


@jax.jit
def round_stochastic(x: ArrayLike, random_bits: ArrayLike) -> jax.Array:
    """FP32 carrier -> BF16 carrier: the random bits are added to the low half, which is then cleared (N6).

    random_bits: uint16, uint32 or int32, of which the low 16 bits count. Flushing and NaN as for rounding to nearest;
    infinities stay. Straight-through derivative in `x`.
    """
    (x,) = as_carriers("round_stochastic", x)
    noise = jnp.asarray(random_bits)
    if noise.dtype not in (jnp.uint16, jnp.uint32, jnp.int32):
        raise FormatError(
            describe("random bits of the wrong dtype", given=noise.dtype.name, allowed="uint16, uint32, int32",
                     where="round_stochastic, operand 1")
        )  # fmt: skip
    noise = noise.astype(jnp.int32) & np.int32(0xFFFF)
    return _round_stochastic(*broadcast("round_stochastic", x, noise))


@jax.custom_jvp
def _round_stochastic(x, noise):
    bits = flush_bits(to_bits(x))
    rounded = (bits + noise) & BF16_HIGH_MASK
    return from_bits(jnp.where(magnitude(bits) > INF_BITS, QNAN_BITS, rounded))


@_round_stochastic.defjvp
def _round_stochastic_jvp(primals, tangents):
    return _round_stochastic(*primals), tangents[0]


def convert(x: ArrayLike, source: Format | str, target: Format | str) -> jax.Array:
    """A carrier of `source` as a carrier of `target` (N6).

    Integers -> BF16 go through FP32 (two roundings); floats -> integers truncate toward zero, saturate, NaN -> 0;
    between INT32 and UINT32 the word stays;
    predicates are 0 and 1, and anything but zero (NaN too) is true. Between floats straight-through derivative.
    """
    source, target = lookup(source), lookup(target)
    if source.is_float:
        (x,) = as_carriers("convert", x)
        return _from_float(x, target)
    if source is BOOL:
        return _from_predicate(jnp.asarray(x, bool), target)
    (x,) = as_integers("convert", x)
    return _from_integer(x, source, target)


def reinterpret(x: jax.Array, source: Format | str, target: Format | str) -> jax.Array:
    """The 32 bits of a carrier read in another format; as FP32 they enter the machine: DAZ and one NaN (N11).

    FP32, INT32 and UINT32 among each other. No derivative. Raises FormatError for other formats.
    """
    source, target = lookup(source), lookup(target)
    if {source, target} - WORDS:
        raise FormatError(
            describe("bits read in another format", given=f"{source} as {target}",
                     allowed=", ".join(sorted(map(str, WORDS))), where="reinterpret",
                     do="convert to float32 or int32 before and after")
        )  # fmt: skip
    if source is FP32:
        return x if target is FP32 else to_bits(jax.lax.stop_gradient(x))
    return canonicalize(from_bits(x)) if target is FP32 else x


@jax.jit
def pack(x: jax.Array) -> jax.Array:
    """A BF16 carrier as uint16 words at rest; exact. No derivative: words are not numbers."""
    return high_half(x)


@jax.jit
def unpack(words: jax.Array) -> jax.Array:
    """uint16 words at rest as a BF16 carrier (float32), denormal and NaN words canonical."""
    if words.dtype != jnp.uint16:
        raise FormatError(
            describe("words of the wrong dtype", given=words.dtype.name, allowed="uint16", where="unpack")
        )
    return canonicalize(from_bits(words.astype(jnp.int32) << 16))


def _public_format(array: jax.Array, fmt: Format | None) -> Format:
    if fmt is None or array.dtype == fmt.dtype:
        return format_of(array.dtype, where="enter")
    raise FormatError(
        describe("an array that is not of the stated format", given=array.dtype.name, allowed=fmt.dtype_name,
                 where="enter", do=f"convert it first, for example with x.astype(jnp.{fmt.dtype_name})")
    )  # fmt: skip


@jax.custom_jvp
def _widen(x):
    words = jax.lax.bitcast_convert_type(x, jnp.uint16)
    return unpack(words)


@_widen.defjvp
def _widen_jvp(primals, tangents):
    return _widen(*primals), tangents[0].astype(jnp.float32)


@jax.custom_jvp
def _narrow(x):
    return jax.lax.bitcast_convert_type(high_half(x), jnp.bfloat16)


@_narrow.defjvp
def _narrow_jvp(primals, tangents):
    return _narrow(*primals), tangents[0].astype(jnp.bfloat16)


def _from_float(x: jax.Array, target: Format) -> jax.Array:
    if target is BF16:
        return commit_bf16(x)
    if target is FP32:
        return canonicalize(x)
    x = jax.lax.stop_gradient(canonicalize(x))
    if target is BOOL:
        return x != 0
    if target is UINT32:
        return unsigned.from_single(x)
    inside = jnp.where(jnp.abs(x) < _TWO_TO_31, x, 0.0).astype(jnp.int32)
    return jnp.where(x >= _TWO_TO_31, _INT32_MAX, jnp.where(x <= -_TWO_TO_31, _INT32_MIN, inside))


def _from_integer(x: jax.Array, source: Format, target: Format) -> jax.Array:
    if target in (INT32, UINT32):
        return x
    if target is BOOL:
        return x != 0
    single = unsigned.to_single(x) if source is UINT32 else canonicalize(x.astype(jnp.float32))
    return commit_bf16(single) if target is BF16 else single


def _from_predicate(x: jax.Array, target: Format) -> jax.Array:
    return x.astype(target.carrier)
