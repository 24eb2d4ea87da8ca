"""Random words: Threefry-2x32 with 20 rounds, a counter-based generator made of additions, rotations and exclusive ors.

A word is a function of a key and a counter and of nothing else: no state is carried, so the words of an element do not
depend on the order in which elements are visited. The law, on words of 32 bits that wrap:

    k2 = k0 ^ k1 ^ 0x1BD11BDA;  x0, x1 = c0 + k0, c1 + k1
    for r = 0 .. 19:  x0 = x0 + x1;  x1 = rotate_left(x1, R[r mod 8]) ^ x0
                      after every fourth round, the s-th time:  x0 += k[s mod 3];  x1 += k[(s + 1) mod 3] + s

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Its published test vectors
are among the tests. Integers carry no tangent.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, describe
from rdujax.numerics.bits import broadcast

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
ROUNDS = 20


@partial(jax.jit, inline=True)
def threefry(key: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two random words for every counter (first, second).

    key: uint32 [2]. first, second: uint32, broadcast against each other. Returns two uint32 arrays of their shape.
    Raises FormatError for other dtypes and for a key of another shape.
    """
    arrays = [jnp.asarray(x) for x in (key, first, second)]
    if any(x.dtype != jnp.uint32 for x in arrays) or arrays[0].shape != (2,):
        raise FormatError(
            describe(
                "a generator takes words",
                given=", ".join(f"{x.dtype.name}{list(x.shape)}" for x in arrays),
                allowed="a key uint32[2] and counters uint32",
                where="threefry",
            )
        )
    return rounds(arrays[0][0], arrays[0][1], *broadcast("threefry", *arrays[1:]))


def rounds(k0: jax.Array, k1: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The law on uint32 arrays: keys and counters of one shape, or keys of none."""
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = first + k0, second + k1
    for r in range(ROUNDS):
        x0 = x0 + x1
        x1 = _rotated(x1, _ROTATIONS[r % 8]) ^ x0
        if r % 4 == 3:
            turn = r // 4 + 1
            x0, x1 = x0 + keys[turn % 3], x1 + keys[(turn + 1) % 3] + np.uint32(turn)
    return x0, x1


def _rotated(x: jax.Array, places: int) -> jax.Array:
    return (x << np.uint32(places)) | (x >> np.uint32(32 - places))
