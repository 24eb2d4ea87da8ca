"""Where values stand in an order: the places of sorted values, of the largest and of the smallest (N5).

Two orders of floating values are in use, both with NaN above infinity, and both stable, so that ties stay in the order
of their places:

    numbers   -0 and +0 tie                        sort, argmax, argmin
    carriers  -0 below +0, the order of N5         top_k

Words are ordered with their sign; for UINT32 their upper bit is flipped before (see `SIGNED`). Results are places
(INT32): values are moved by them and no bit of a value changes. Nothing carries a tangent.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ShapeError, describe
from rdujax.numerics.bits import INF_BITS, SIGN_BIT, order_key

SIGNED = "bf16, fp32, int32, bool; of uint32, the word with its upper bit flipped"


def number_key(x: jax.Array) -> jax.Array:
    """int32 keys of carriers (float32, int32 or bool) in the order of numbers, same shape."""
    if x.dtype == jnp.float32:
        return order_key(jnp.where(x == 0, np.float32(0.0), x))
    return x.astype(jnp.int32)


def carrier_key(x: jax.Array) -> jax.Array:
    """int32 keys of carriers in the order of carriers, same shape."""
    return order_key(x) if x.dtype == jnp.float32 else x.astype(jnp.int32)


@partial(jax.jit, static_argnames="axis")
def ascending(keys: Sequence[jax.Array], axis: int) -> jax.Array:
    """int32 [*shape]: along `axis`, the places of the smallest, the next ...; later keys decide among equals.

    keys: one or more int32 arrays of one shape.
    """
    axis = _checked("ascending", keys[0], axis)
    places = jax.lax.broadcasted_iota(jnp.int32, keys[0].shape, axis)
    return jax.lax.sort((*keys, places), dimension=axis, is_stable=True, num_keys=len(keys))[-1]


@partial(jax.jit, static_argnames=("axis", "count"))
def largest(key: jax.Array, axis: int, count: int) -> jax.Array:
    """int32: along `axis`, the places of the `count` largest keys, the largest first."""
    return jax.lax.slice_in_dim(ascending((~key,), axis), 0, count, axis=axis % key.ndim)


@partial(jax.jit, static_argnames=("axis", "most"))
def extreme(x: jax.Array, axis: int, most: bool) -> jax.Array:
    """int32, `axis` removed: the first place of the largest carrier (most) or of the smallest; a NaN goes before all.

    x: float32, int32 or bool carriers.
    """
    axis = _checked("extreme", x, axis)
    key = number_key(x)
    if x.dtype == jnp.float32 and not most:
        key = jnp.where(key > INF_BITS, SIGN_BIT, key)
    find = jnp.argmax if most else jnp.argmin
    return find(key, axis).astype(jnp.int32)


def _checked(where: str, x: jax.Array, axis: int) -> int:
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ShapeError(
            describe("no values to order", given=f"axis {axis} of an array {list(x.shape)}",
                     allowed="an existing axis with at least one value", where=where)
        )  # fmt: skip
    return axis % x.ndim
