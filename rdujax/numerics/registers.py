"""Single operations from register to register: operands are canonical carriers, results are one rounding away (N3).

These are the cores of `arithmetic`, which reads any float32 operand first, and of `functions`, which takes carriers as
they are. The BF16 forms are the FP32 operation and the rounding to BF16 in one step on the bits (N4): a product,
quotient or sum of BF16 values never lands where rounding would lift it to 2**-126, so they need no second look.

Derivatives are those of the real-number function; flushing and rounding are straight-through. float32 arrays of equal
shape in and out (comparisons: bool).
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.numerics.bits import (
    INF_BITS,
    MAGNITUDE_MASK,
    MIN_NORMAL_BITS,
    QNAN_BITS,
    SIGN_BIT,
    commit_bits,
    from_bits,
    magnitude,
    one_nan,
    round_bits_to_bf16,
    to_bits,
)

# A product is judged tiny on a copy scaled by 2**64: there it is an ordinary rounding to 24 bits.
_SCALE = np.float32(2.0**64)
_SCALED_MIN_NORMAL_BITS = np.int32((127 - 126 + 64) << 23)
_MIN_NORMAL_EXPONENT = np.int32(126 << 23)
_ONE_BITS = np.int32(0x3F800000)

Pair = tuple[jax.Array, jax.Array]


def _hidden(x: jax.Array, y: jax.Array) -> Pair:
    """Both operands made to depend on each other, so that a constant one does not look like one.

    XLA drops the addition of zero, and with it the sign of -0. Where one operand is NaN both become NaN, and so does
    the result, as it should.
    """
    x_bits, y_bits = to_bits(x), to_bits(y)
    nan = jnp.maximum(magnitude(x_bits), magnitude(y_bits)) > INF_BITS
    return from_bits(jnp.where(nan, QNAN_BITS, x_bits)), from_bits(jnp.where(nan, QNAN_BITS, y_bits))


def _divisor(x: jax.Array, y: jax.Array) -> jax.Array:
    """y as nobody can see through it: the smaller of its bits and of bits that are never smaller.

    XLA divides by constants with a reciprocal, and a division by a broadcast value becomes a product with a broadcast
    reciprocal; it moves broadcasts below element-wise operations to get there. Nothing that depends on the place is a
    constant or a broadcast; where there is but one place, the limit depends on x. As integers, the bits of no carrier
    lie above those of the one NaN.
    """
    places = [
        jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis, length in enumerate(x.shape) if length > 1
    ] or [magnitude(to_bits(x))]
    return from_bits(jnp.minimum(to_bits(y), reduce(jnp.bitwise_or, places, QNAN_BITS)))


def _raw_add(x, y):
    x, y = _hidden(x, y)
    return to_bits(x + y)


def _raw_sub(x, y):
    x, y = _hidden(x, y)
    return to_bits(x - y)


def _raw_mul(x, y):
    return to_bits(x * y)


@jax.custom_batching.custom_vmap
def _quotient(x: jax.Array, y: jax.Array) -> jax.Array:
    return x / _divisor(x, y)


@_quotient.def_vmap
def _quotient_of_batch(axis_size, in_batched, x, y):
    # What hides the divisor must differ along the batch, too, or the divisor would be a broadcast over it.
    x, y = (
        v if batched else jnp.broadcast_to(v, (axis_size, *v.shape))
        for v, batched in zip((x, y), in_batched, strict=True)
    )
    return _quotient(x, y), True


def _raw_div(x, y):
    return to_bits(_quotient(x, y))


def _add_jvp(out, primals, tangents):
    return tangents[0] + tangents[1]


def _sub_jvp(out, primals, tangents):
    return tangents[0] - tangents[1]


def _mul_jvp(out, primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return dx * y + x * dy


def _div_jvp(out, primals, tangents):
    (_, y), (dx, dy) = primals, tangents
    return (dx - out * dy) / y


def _differentiable(bits: Callable[..., jax.Array], tangent: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The function whose result has those bits and that tangent(out, primals, tangents)."""
    unit = jax.custom_jvp(lambda *operands: from_bits(bits(*operands)))

    def jvp(primals, tangents):
        out = unit(*primals)
        return out, tangent(out, primals, tangents)

    unit.defjvp(jvp)
    return unit


def _mul_bits(x, y):
    # Hardware and folding disagree on products that round up to 2**-126, and other hardware flushes before it rounds:
    # the scaled copy decides by itself whether the result is zero, 2**-126, or what the multiplier gave.
    # Scaling by a power of two is exact, so XLA may re-associate it as it likes.
    bits, scaled = _raw_mul(x, y), magnitude(to_bits((x * _SCALE) * y))
    result = jnp.where(scaled < _SCALED_MIN_NORMAL_BITS, bits & SIGN_BIT, bits)
    result = jnp.where(scaled == _SCALED_MIN_NORMAL_BITS, (bits & SIGN_BIT) | MIN_NORMAL_BITS, result)
    return jnp.where(magnitude(bits) > INF_BITS, QNAN_BITS, result)


def _div_bits(x, y):
    # A quotient below 2**-126 never rounds up to it, so the exact comparison of the operands decides about flushing,
    # whatever the hardware or the folder did.
    bits = _raw_div(x, y)
    tiny = magnitude(to_bits(x)) < magnitude(to_bits(y)) - _MIN_NORMAL_EXPONENT
    return jnp.where(magnitude(bits) > INF_BITS, QNAN_BITS, jnp.where(tiny, bits & SIGN_BIT, bits))


add = _differentiable(lambda x, y: commit_bits(_raw_add(x, y)), _add_jvp)
sub = _differentiable(lambda x, y: commit_bits(_raw_sub(x, y)), _sub_jvp)
mul = _differentiable(_mul_bits, _mul_jvp)
div = _differentiable(_div_bits, _div_jvp)
add_bf16 = _differentiable(lambda x, y: round_bits_to_bf16(_raw_add(x, y)), _add_jvp)
sub_bf16 = _differentiable(lambda x, y: round_bits_to_bf16(_raw_sub(x, y)), _sub_jvp)
mul_bf16 = _differentiable(lambda x, y: round_bits_to_bf16(_raw_mul(x, y)), _mul_jvp)
div_bf16 = _differentiable(lambda x, y: round_bits_to_bf16(_raw_div(x, y)), _div_jvp)
sqrt = _differentiable(lambda x: commit_bits(to_bits(jnp.sqrt(x))), lambda out, _, tangents: tangents[0] * (0.5 / out))
sqrt_bf16 = _differentiable(
    lambda x: round_bits_to_bf16(to_bits(jnp.sqrt(x))), lambda out, _, tangents: tangents[0] * (0.5 / out)
)
neg = _differentiable(lambda x: one_nan(to_bits(x) ^ SIGN_BIT), lambda out, _, tangents: -tangents[0])
absolute = _differentiable(
    lambda x: magnitude(to_bits(x)), lambda out, primals, tangents: jnp.sign(primals[0]) * tangents[0]
)


def reciprocal(x: jax.Array) -> jax.Array:
    """1 / x, one result."""
    return div(jnp.ones_like(x), x)


# Of a division by one there is nothing to rewrite: x goes unhidden. No quotient lies so near to 2**-126 that the
# rounding to BF16 could lift it there, so flushing before or after is the same.
reciprocal_bf16 = _differentiable(
    lambda x: round_bits_to_bf16(to_bits(jnp.ones_like(x) / x)),
    lambda out, primals, tangents: -out * out * tangents[0],
)


def rsqrt(x: jax.Array) -> jax.Array:
    """1 / sqrt(x), two results."""
    return reciprocal(sqrt(x))


def sign(x: jax.Array) -> jax.Array:
    """-1, -0, +0 or +1; NaN for NaN."""
    bits = to_bits(jax.lax.stop_gradient(x))
    m = magnitude(bits)
    return from_bits(jnp.where((m == 0) | (m > INF_BITS), bits, (bits & SIGN_BIT) | _ONE_BITS))


def _rank(x):
    """The order key of a canonical carrier: NaN last."""
    bits = to_bits(x)
    return jnp.where(bits < 0, bits ^ MAGNITUDE_MASK, bits)


def _rank_nan_first(x):
    rank = _rank(x)
    return jnp.where(rank > INF_BITS, SIGN_BIT, rank)


def _chosen_tangent(x_first, same, dx, dy):
    share = jnp.where(same, 0.5, jnp.where(x_first, 1.0, 0.0)).astype(jnp.float32)
    return share * dx + (1.0 - share) * dy


def _max_jvp(out, primals, tangents):
    x, y = map(_rank, primals)
    return _chosen_tangent(x > y, x == y, *tangents)


def _min_jvp(out, primals, tangents):
    x, y = map(_rank_nan_first, primals)
    return _chosen_tangent(x < y, x == y, *tangents)


maximum = _differentiable(lambda x, y: jnp.where(_rank(x) >= _rank(y), to_bits(x), to_bits(y)), _max_jvp)
minimum = _differentiable(
    lambda x, y: jnp.where(_rank_nan_first(x) <= _rank_nan_first(y), to_bits(x), to_bits(y)), _min_jvp
)


def clamp(lo: jax.Array, x: jax.Array, hi: jax.Array) -> jax.Array:
    """minimum(maximum(x, lo), hi)."""
    return minimum(maximum(x, lo), hi)


def integer_power(x: jax.Array, n: int, multiply: Callable[..., jax.Array] = mul) -> jax.Array:
    """x**n by squaring from the low bit of |n| up; a negative n is the reciprocal of that; x**0 is 1 (NaN for NaN)."""
    if n == 0:
        return from_bits(jnp.where(magnitude(to_bits(x)) > INF_BITS, QNAN_BITS, _ONE_BITS))
    rest, square = abs(n), x
    while not rest & 1:
        rest, square = rest >> 1, multiply(square, square)
    power = square
    while rest := rest >> 1:
        square = multiply(square, square)
        if rest & 1:
            power = multiply(power, square)
    return reciprocal(power) if n < 0 else power
