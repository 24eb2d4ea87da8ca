"""From one tile step to a whole stream: the executors.

    whole  the tensor is one tile: the step runs once
    vmap   all tiles at once
    scan   strictly one tile after another, in order of arrival

Which executor runs is no part of a program's meaning: all three give the same bits (law L1).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from rdujax.base.errors import ArgumentError, describe, unknown

Executor = Literal["whole", "vmap", "scan"]
EXECUTORS: tuple[Executor, ...] = ("whole", "vmap", "scan")


def over_tiles(step: Callable[..., Any], how: Executor, *arrays: Any) -> Any:
    """Applies `step` to the leading-axis slices of `arrays` (pytrees); stacks what it returns along a leading axis.

    Raises UnknownNameError for an executor that does not exist.
    """
    if how not in EXECUTORS:
        raise unknown("executor", how, EXECUTORS)
    count = jax.tree.leaves(arrays)[0].shape[0]
    if count == 1:
        one = step(*jax.tree.map(lambda a: a[0], arrays))
        return jax.tree.map(lambda a: a[None], one)
    if how == "scan":
        return lax.map(lambda each: step(*each), arrays)
    return jax.vmap(step)(*arrays)


def taken(tiles: jax.Array, places: jax.Array) -> jax.Array:
    """The tile [*tile] at one place, or those [n, *tile] at n places, of `tiles` [n_tiles, *tile].

    places: int32 below n_tiles, as layouts give them; they are not looked at again, nor at all where there is one tile.
    """
    if tiles.shape[0] == 1:
        return jnp.broadcast_to(tiles[0], (*places.shape, *tiles.shape[1:]))
    return tiles.at[places].get(mode="promise_in_bounds")


def must_fit_int32(amount: int, what: str) -> None:
    """Refuses a tally per step that an INT32 counter cannot hold."""
    if amount >= 2**31:
        raise ArgumentError(
            describe(
                "too much for one step to be tallied",
                given=f"{amount:,} {what}",
                allowed="less than 2^31 a step",
                do="tally with smaller tiles; a prediction from shapes has no such limit",
            )
        )
