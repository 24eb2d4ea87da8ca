"""Reductions over one axis in the machine's own order (N9): a halving tree, or lanes in time and then a tree.

Trees are FP32: inputs are carriers, partial results are FP32 carriers, and nothing is rounded to BF16 at the end.
"""

from collections.abc import Callable
from functools import partial
from operator import index

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.numerics import registers
from rdujax.numerics.bits import (
    INF_BITS,
    SIGN_BIT,
    as_carriers,
    as_integers,
    canonicalize,
    flush,
    from_order_key,
    order_key,
)

# Lanes run longer than this in time are looped over in chunks, to keep programs small.
_UNROLLED_STEPS = 16
# Parts that a tree is cut into at once. XLA fuses what makes a value into all that read it, and so computes it again
# for each of them, unless there are 16 or more: then it is computed once and written down.
_PARTS = 16
# Levels of a sum until its parts are written down: each doubles what XLA makes of the one that reads it.
_LEVELS = 4


@partial(jax.jit, static_argnames="axis")
def tree_sum(x: ArrayLike, axis: int) -> jax.Array:
    """The sum over `axis` (removed) by halving: pad to a power of two n with -0, then x[i] + x[i + n/2] until one.

    FP32 carrier in and out. The tangent is the plain sum of tangents.
    Raises ShapeError for an axis that does not exist or is empty.
    """
    (x,) = as_carriers("tree_sum", x)
    return _tree_sum(x, _checked_axis("tree_sum", x, axis))


def lane_sum(x: ArrayLike, axis: int, lanes: int) -> jax.Array:
    """The sum over `axis` (removed) as a SIMD unit of `lanes` lanes does it.

    Lane l adds x[l], x[l + lanes], x[l + 2 lanes] ... in that order, beginning with its first value; then the lanes
    are summed by the halving tree. Lanes without a value hold -0. Derivative and errors as `tree_sum`.
    """
    lanes = index(lanes)
    if lanes < 1:
        raise ArgumentError(describe("too few lanes", given=lanes, allowed="lanes >= 1", where="lane_sum"))
    return _lane_sum_entry(x, axis=axis, lanes=lanes)


@partial(jax.jit, static_argnames=("axis", "lanes"))
def _lane_sum_entry(x, axis, lanes):
    (x,) = as_carriers("lane_sum", x)
    return _lane_sum(x, _checked_axis("lane_sum", x, axis), lanes)


@jax.jit
def time_sum(total: jax.Array, rows: jax.Array) -> jax.Array:
    """total + rows[0] + rows[1] + ..., one after the other: what accumulators do in time.

    total: FP32 carriers [*shape]. rows: [steps, *shape], perhaps no step at all. Derivative: the plain sum of tangents.
    """
    if rows.shape[0] < _UNROLLED_STEPS:
        for row in rows:
            total = registers.add(total, row)
        return total
    return jax.lax.scan(lambda sum_, row: (registers.add(sum_, row), None), total, rows, unroll=_UNROLLED_STEPS)[0]


@jax.jit
def time_prod(total: jax.Array, rows: jax.Array) -> jax.Array:
    """total * rows[0] * rows[1] * ..., one after the other; shapes as `time_sum`."""
    return jax.lax.scan(lambda so_far, row: (registers.mul(so_far, row), None), total, rows)[0]


@partial(jax.jit, static_argnames="axis")
def tree_prod(x: ArrayLike, axis: int) -> jax.Array:
    """The product over `axis` (removed) by halving, padded with 1; derivatives are those of the products."""
    (x,) = as_carriers("tree_prod", x)
    return _halve(canonicalize(x), _checked_axis("tree_prod", x, axis), registers.mul)


def lane_prod(x: ArrayLike, axis: int, lanes: int) -> jax.Array:
    """The product over `axis` (removed) as a SIMD unit of `lanes` lanes makes it; order and errors as `lane_sum`."""
    lanes = index(lanes)
    if lanes < 1:
        raise ArgumentError(describe("too few lanes", given=lanes, allowed="lanes >= 1", where="lane_prod"))
    return _lane_prod_entry(x, axis=axis, lanes=lanes)


@partial(jax.jit, static_argnames=("axis", "lanes"))
def _lane_prod_entry(x, axis, lanes):
    (x,) = as_carriers("lane_prod", x)
    x = jnp.moveaxis(canonicalize(x), _checked_axis("lane_prod", x, axis), 0)
    rows = _in_lanes(x, lanes, 1.0)
    return _halve(time_prod(rows[0], rows[1:]), 0, registers.mul)


@partial(jax.jit, static_argnames="axis")
def tree_max(x: ArrayLike, axis: int) -> jax.Array:
    """The largest value over `axis` (removed) in the order of N5: -0 < +0, any NaN gives NaN.

    The tangent is shared equally by all elements that have the bits of the result.
    Raises ShapeError for an axis that does not exist or is empty.
    """
    (x,) = as_carriers("tree_max", x)
    return _tree_max(x, _checked_axis("tree_max", x, axis))


@partial(jax.jit, static_argnames="axis")
def tree_min(x: ArrayLike, axis: int) -> jax.Array:
    """The smallest value over `axis` (removed) in the order of N5; otherwise as `tree_max`."""
    (x,) = as_carriers("tree_min", x)
    return _tree_min(x, _checked_axis("tree_min", x, axis))


@partial(jax.jit, static_argnames="axis")
def integer_sum(x: ArrayLike, axis: int) -> jax.Array:
    """The wrapping INT32 sum over `axis` (removed)."""
    (x,) = as_integers("integer_sum", x)
    return jnp.sum(x, _checked_axis("integer_sum", x, axis), dtype=jnp.int32)


@partial(jax.jit, static_argnames="axis")
def integer_prod(x: ArrayLike, axis: int) -> jax.Array:
    """The wrapping INT32 product over `axis` (removed)."""
    (x,) = as_integers("integer_prod", x)
    return _halve(x, _checked_axis("integer_prod", x, axis), jnp.multiply)


@partial(jax.jit, static_argnames="axis")
def integer_max(x: ArrayLike, axis: int) -> jax.Array:
    """The largest INT32 over `axis` (removed)."""
    (x,) = as_integers("integer_max", x)
    return jnp.max(x, _checked_axis("integer_max", x, axis))


@partial(jax.jit, static_argnames="axis")
def integer_min(x: ArrayLike, axis: int) -> jax.Array:
    """The smallest INT32 over `axis` (removed)."""
    (x,) = as_integers("integer_min", x)
    return jnp.min(x, _checked_axis("integer_min", x, axis))


@partial(jax.jit, static_argnames="axis")
def integer_and(x: ArrayLike, axis: int) -> jax.Array:
    """The bits that all INT32 over `axis` (removed) have."""
    (x,) = as_integers("integer_and", x)
    return _halve(x, _checked_axis("integer_and", x, axis), jnp.bitwise_and)


@partial(jax.jit, static_argnames="axis")
def integer_or(x: ArrayLike, axis: int) -> jax.Array:
    """The bits that any INT32 over `axis` (removed) has."""
    (x,) = as_integers("integer_or", x)
    return _halve(x, _checked_axis("integer_or", x, axis), jnp.bitwise_or)


@partial(jax.jit, static_argnames="axis")
def integer_xor(x: ArrayLike, axis: int) -> jax.Array:
    """The bits that an odd number of INT32 over `axis` (removed) have."""
    (x,) = as_integers("integer_xor", x)
    return _halve(x, _checked_axis("integer_xor", x, axis), jnp.bitwise_xor)


def _checked_axis(where: str, x: jax.Array, axis: int) -> int:
    axis = index(axis)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ShapeError(
            describe("no values to reduce", given=f"axis {axis} of an array {list(x.shape)}",
                     allowed="an existing axis with at least one value", where=where)
        )  # fmt: skip
    return axis % x.ndim


def _halve(x: jax.Array, axis: int, combine: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Combines i with i + n/2 until one is left; n is the length padded to a power of two with the identity.

    A value whose partner is the identity is unchanged, so padding is not written out.
    """
    x = _to_power_of_two(x, axis, combine)
    while (n := x.shape[axis]) > 1:
        parts = jnp.split(x, min(n, _PARTS), axis)
        while half := len(parts) // 2:
            parts = [combine(low, high) for low, high in zip(parts[:half], parts[half:], strict=True)]
        (x,) = parts
    return jnp.squeeze(x, axis)


def _to_power_of_two(x: jax.Array, axis: int, combine: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """The first level, where the length is no power of two: then it becomes one."""
    n = x.shape[axis]
    if n.bit_count() == 1:
        return x
    half = 1 << (n.bit_length() - 1)
    low, alone, high = jnp.split(x, [n - half, half], axis)
    return jnp.concatenate([combine(low, high), alone], axis)


def _made_once(x: jax.Array) -> jax.Array:
    """`x` divided by a one that XLA does not see.

    Additions and selections XLA makes again for every element that their result is spread to, and for every reader;
    what ends in a division it makes once, and writes it down.
    """
    return x / jnp.where(x != x, x, np.float32(1))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _tree_sum(x, axis):
    # Flushing is all that the levels in between need: it is a wall to the compiler as well, and NaN stays NaN.
    x = _to_power_of_two(flush(x), axis, lambda low, high: flush(low + high))
    while x.shape[axis] > 1:
        for _ in range(min(_LEVELS, x.shape[axis].bit_length() - 1)):
            low, high = jnp.split(x, 2, axis)
            x = flush(low + high)
        x = _made_once(x)
    return canonicalize(jnp.squeeze(x, axis))


@_tree_sum.defjvp
def _tree_sum_jvp(axis, primals, tangents):
    return _tree_sum(*primals, axis), jnp.sum(tangents[0], axis)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _lane_sum(x, axis, lanes):
    x = _in_lanes(jnp.moveaxis(canonicalize(x), axis, 0), lanes, -0.0)
    return _halve(time_sum(x[0], x[1:]), 0, registers.add)


def _in_lanes(x: jax.Array, lanes: int, identity: float) -> jax.Array:
    """[n, *shape] -> [steps, lanes, *shape], the identity where there is no value."""
    fill = ((0, -x.shape[0] % lanes),) + ((0, 0),) * (x.ndim - 1)
    return jnp.pad(x, fill, constant_values=np.float32(identity)).reshape(-1, lanes, *x.shape[1:])


@_lane_sum.defjvp
def _lane_sum_jvp(axis, lanes, primals, tangents):
    return _lane_sum(*primals, axis, lanes), jnp.sum(tangents[0], axis)


def _nan_first_key(x):
    key = order_key(x)
    return jnp.where(key > INF_BITS, SIGN_BIT, key)


def _shared_tangent(key, selected, tangent, axis):
    chosen = (key == jnp.expand_dims(selected, axis)).astype(jnp.float32)
    return jnp.sum(chosen * tangent, axis) / jnp.sum(chosen, axis)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _tree_max(x, axis):
    return canonicalize(_made_once(from_order_key(_halve(order_key(x), axis, jnp.maximum))))


@_tree_max.defjvp
def _tree_max_jvp(axis, primals, tangents):
    out = _tree_max(*primals, axis)
    return out, _shared_tangent(order_key(primals[0]), order_key(out), tangents[0], axis)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _tree_min(x, axis):
    return canonicalize(_made_once(from_order_key(_halve(_nan_first_key(x), axis, jnp.minimum))))


@_tree_min.defjvp
def _tree_min_jvp(axis, primals, tangents):
    out = _tree_min(*primals, axis)
    return out, _shared_tangent(order_key(primals[0]), order_key(out), tangents[0], axis)
