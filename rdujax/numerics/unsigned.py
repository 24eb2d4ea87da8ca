"""UINT32: the words of INT32 read as whole numbers from 0 to 2**32 - 1 (N7).

They travel on int32 carriers. What wraps, and what works bit by bit, is that of `integer`; here is what reads the sign
bit otherwise: division, order, and conversion. Functions take int32 carriers (NumPy broadcasting) and return them
(comparisons: bool). Nothing here carries a tangent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rdujax.numerics import threefry
from rdujax.numerics.bits import SIGN_BIT, as_integers, canonicalize, from_bits, to_bits

_TWO_TO_32 = np.float32(2.0**32)


def words(x: jax.Array) -> jax.Array:
    """int32 carriers as uint32, the same bits."""
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def carriers(x: jax.Array) -> jax.Array:
    """uint32 as int32 carriers, the same bits."""
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def _ordered(where: str, *operands: ArrayLike) -> list[jax.Array]:
    """Operands so that their signed order is the unsigned one."""
    return [x ^ SIGN_BIT for x in as_integers(where, *operands)]


def _divisor(y: jax.Array) -> jax.Array:
    # Division by zero, folded at compile time, kills the process.
    return jnp.where(y == 0, np.uint32(1), words(y))


@jax.jit
def div(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x / y rounded down; x/0 is 2**32 - 1."""
    x, y = as_integers("unsigned div", x, y)
    return jnp.where(y == 0, np.int32(-1), carriers(jax.lax.div(words(x), _divisor(y))))


@jax.jit
def rem(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """Remainder of `div`; x rem 0 = x."""
    x, y = as_integers("unsigned rem", x, y)
    return jnp.where(y == 0, x, carriers(jax.lax.rem(words(x), _divisor(y))))


@jax.jit
def maximum(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The larger operand."""
    return jnp.maximum(*_ordered("unsigned maximum", x, y)) ^ SIGN_BIT


@jax.jit
def minimum(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """The smaller operand."""
    return jnp.minimum(*_ordered("unsigned minimum", x, y)) ^ SIGN_BIT


@jax.jit
def clamp(lo: ArrayLike, x: ArrayLike, hi: ArrayLike) -> jax.Array:
    """minimum(maximum(x, lo), hi)."""
    lo, x, hi = _ordered("unsigned clamp", lo, x, hi)
    return jnp.minimum(jnp.maximum(x, lo), hi) ^ SIGN_BIT


@jax.jit
def less(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x < y, bool."""
    x, y = _ordered("unsigned less", x, y)
    return x < y


@jax.jit
def less_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x <= y, bool."""
    x, y = _ordered("unsigned less_equal", x, y)
    return x <= y


@jax.jit
def greater(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x > y, bool."""
    x, y = _ordered("unsigned greater", x, y)
    return x > y


@jax.jit
def greater_equal(x: ArrayLike, y: ArrayLike) -> jax.Array:
    """x >= y, bool."""
    x, y = _ordered("unsigned greater_equal", x, y)
    return x >= y


def _threefry(where: str, *operands: ArrayLike) -> list[jax.Array]:
    return [carriers(x) for x in threefry.rounds(*(words(x) for x in as_integers(where, *operands)))]


@jax.jit
def random_first(key: ArrayLike, more_key: ArrayLike, counter: ArrayLike, more_counter: ArrayLike) -> jax.Array:
    """The first random word of Threefry-2x32-20 for a key of two words and a counter of two words (threefry.py)."""
    return _threefry("random_first", key, more_key, counter, more_counter)[0]


@jax.jit
def random_second(key: ArrayLike, more_key: ArrayLike, counter: ArrayLike, more_counter: ArrayLike) -> jax.Array:
    """The second random word; see `random_first`."""
    return _threefry("random_second", key, more_key, counter, more_counter)[1]


@jax.jit
def random_bits(key: ArrayLike, more_key: ArrayLike, counter: ArrayLike, more_counter: ArrayLike) -> jax.Array:
    """The first random word ^ the second; see `random_first`."""
    first, second = _threefry("random_bits", key, more_key, counter, more_counter)
    return first ^ second


def to_single(x: jax.Array) -> jax.Array:
    """The nearest FP32 value, ties to even: the upper bits in one rounding, with a sticky bit for those below."""
    halved = jnp.where(x < 0, jax.lax.shift_right_logical(x, np.int32(1)) | (x & 1), x)
    single = canonicalize(halved.astype(jnp.float32))
    # Twice of a normal number is one more in its exponent.
    return from_bits(jnp.where(x < 0, to_bits(single) + np.int32(1 << 23), to_bits(single)))


def from_single(x: jax.Array) -> jax.Array:
    """A canonical float32 truncated toward zero; below zero and NaN 0, above the range 2**32 - 1 (N6)."""
    inside = (x > 0) & (x < _TWO_TO_32)
    return jnp.where(x >= _TWO_TO_32, np.int32(-1), carriers(jnp.where(inside, x, 0.0).astype(jnp.uint32)))
