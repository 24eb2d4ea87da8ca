"""The loop behind `contract`: acc + a[0] b[0] + a[1] b[1] + ..., each product and each sum one FP32 result (N8).

One turn of the loop is 16 rank-1 updates (4 where there is little work), which XLA fuses into a single kernel that
reads and writes the accumulators once. An integer minimum between product and sum keeps XLA from contracting them into
a fused multiply-add. Large outputs are computed in blocks that stay in the cache.

Where every nonzero operand is a BF16 value between 2**-56 and 2**63, products are exact and can neither overflow nor be
tiny, and every sum is a multiple of 2**-126: then fused or not, flushed or not, the bits are the same, and the minimum
is left out. That is looked up at run time, where looking is cheap beside the work.

None of this changes a bit, so a batch axis of only `a` is folded into the rows.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base import compat
from rdujax.numerics import registers
from rdujax.numerics.bits import canonicalize, from_bits, isolate, magnitude, to_bits

# Fewer updates per turn make XLA fuse the slicing of the operands into the kernel, which then reads them one by one;
# more do not fit the registers.
_RANK = 16
# Little work takes longer to compile than it ever runs: then a turn is short, and the turns are few enough. Not four
# updates: XLA 0.10.2 for CPUs, where it shares rows out over devices, then reads the slices of one operand where those
# of the other lie (`tests/oracles/test_chain.py` tells; without `xla_cpu_use_fusion_emitters` it does not).
_SHORT_RANK = 2
_SHORT_LENGTH = 64
_FEW_SUMS = 1024
# A loop of one turn is inlined, and constants are then folded by rules other than those of the machine.
_MIN_TURNS = 2
# 16 rows of 512 values of `b` fill a first-level cache, and 512 x 512 accumulators a second-level one.
_BLOCK = 512
# With fewer rows, words of `b` are widened where they are used; with more, once per turn.
_ROWS_TO_WIDEN_ONCE = 24
# Looking at an operand costs as much as about 64 updates with it save.
_WORK_TO_LOOK = 64
# Vectors shorter than this leave most lanes empty: the longer of the two output axes is then run along instead.
_SHORT_VECTOR = 16

_FAST_MIN_BITS = np.int32((127 - 56) << 23)
_FAST_MAX_BITS = np.int32(((127 + 63) << 23) - 1)

Step = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def widen(x: jax.Array) -> jax.Array:
    """uint16 words of BF16 as float32; float32 as it is."""
    return from_bits(x.astype(jnp.int32) << 16) if x.dtype == jnp.uint16 else x


def padded(x: jax.Array, axis: int, length: int, sign: float) -> jax.Array:
    """`x` lengthened to `length` along `axis` with zeros of a sign, as words or as numbers."""
    missing = length - x.shape[axis]
    if not missing:
        return x
    zero = np.float32(sign * 0.0) if x.dtype == jnp.float32 else np.uint16(0x8000 if sign < 0 else 0)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, missing)
    return jnp.pad(x, widths, constant_values=zero)


@jax.custom_batching.custom_vmap
def chain(a: jax.Array, b: jax.Array, acc: jax.Array) -> jax.Array:
    """acc [..., M, N] continued over the last axis of a [..., M, K] and the last but one of b [..., K, N].

    a, b: float32 carriers or uint16 words; acc: FP32 carrier. FP32 carrier out.
    """
    return canonicalize(_oriented(a, b, acc))


@chain.def_vmap
def _chain_of_batch(axis_size, in_batched, a, b, acc):
    if not in_batched[1] and in_batched[0]:
        return _folded(axis_size, in_batched[2], a, b, acc), True
    operands = [
        x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))
        for x, batched in zip((a, b, acc), in_batched, strict=True)
    ]
    return chain(*operands), True


def _folded(axis_size: int, acc_batched: bool, a: jax.Array, b: jax.Array, acc: jax.Array) -> jax.Array:
    """A batch of `a` against one `b`: the batch axis joins the rows."""
    if not acc_batched:
        acc = jnp.broadcast_to(acc, (axis_size, *acc.shape))
    rows = a.shape[-2]
    a, acc = (jnp.moveaxis(x, 0, -3) for x in (a, acc))
    a, acc = (x.reshape(*x.shape[:-3], axis_size * rows, x.shape[-1]) for x in (a, acc))
    out = chain(a, b, acc)
    return jnp.moveaxis(out.reshape(*out.shape[:-2], axis_size, rows, out.shape[-1]), -3, 0)


def _oriented(a: jax.Array, b: jax.Array, acc: jax.Array) -> jax.Array:
    """Runs along the longer output axis if the last one is short: products commute."""
    rows, columns = acc.shape[-2:]
    if columns >= _SHORT_VECTOR or columns >= rows:
        return _with_padding(a, b, acc)
    a, b, acc = (jnp.swapaxes(x, -1, -2) for x in (b, a, acc))
    return jnp.swapaxes(_with_padding(a, b, acc), -1, -2)


def _with_padding(a: jax.Array, b: jax.Array, acc: jax.Array) -> jax.Array:
    # The product of the padding, -0 times +0, leaves every accumulator as it is.
    rank = _rank(a.shape[-1], prod(acc.shape))
    length = max(-(-a.shape[-1] // rank), _MIN_TURNS) * rank
    a, b = padded(a, a.ndim - 1, length, -1.0), padded(b, b.ndim - 2, length, 1.0)
    return jax.lax.platform_dependent(a, b, acc, cpu=_on_cpu, default=_anywhere)


def _rank(length: int, sums: int) -> int:
    """Updates per turn of a loop over K = `length`; what is cut from it takes as many, or a divisor."""
    return _SHORT_RANK if length <= _SHORT_LENGTH and sums <= _FEW_SUMS else _RANK


def _on_cpu(a: jax.Array, b: jax.Array, acc: jax.Array) -> jax.Array:
    """For hardware that flushes by itself, after rounding, as XLA sets up x86."""
    if compat.fast_math():
        return _blocked(a, b, acc, partial(_loop, step=_licensed_step))
    isolated, free = partial(_loop, step=_isolated_step), partial(_loop, step=_free_step)
    rows, columns = acc.shape[-2:]
    if rows * columns < _WORK_TO_LOOK * (rows + columns):
        return _blocked(a, b, acc, isolated)
    moderate = _is_moderate(a) & _is_moderate(b)
    # The choice is made in every block anew: around them it would have them all compiled twice.
    return _blocked(a, b, acc, lambda *operands: jax.lax.cond(moderate, free, isolated, *operands))


def _anywhere(a: jax.Array, b: jax.Array, acc: jax.Array) -> jax.Array:
    """For any hardware with correctly rounded products and sums: every step is explicit."""
    return _loop(canonicalize(widen(a)), canonicalize(widen(b)), acc, _explicit_step)


# Traced once for each shape, and not once for each update; the text stays the same.
_in_line = partial(jax.jit, inline=True)


@_in_line
def _isolated_step(acc, x, y):
    return acc + isolate(x * y)


@_in_line
def _free_step(acc, x, y):
    return acc + x * y


@_in_line
def _licensed_step(acc, x, y):
    # Under fast math LLVM re-orders a chain of sums, unless each is isolated as well.
    return isolate(acc + isolate(x * y))


@_in_line
def _explicit_step(acc, x, y):
    x, y = jnp.broadcast_arrays(x, y)
    return registers.add(acc, registers.mul(x, y))


def _is_moderate(x: jax.Array) -> jax.Array:
    """True if every value is zero, or a BF16 value of the range where fused and unfused steps agree."""
    bits = to_bits(widen(x))
    size = magnitude(bits)
    fits = (size == 0) | ((size >= _FAST_MIN_BITS) & (size <= _FAST_MAX_BITS))
    return jnp.all(fits & ((bits & np.int32(0xFFFF)) == 0))


def _blocked(a: jax.Array, b: jax.Array, acc: jax.Array, loop: Step) -> jax.Array:
    """The loop over k for one block of outputs after the other; the last blocks overlap those before them."""
    rows, columns = acc.shape[-2:]
    if rows < _ROWS_TO_WIDEN_ONCE or (rows <= _BLOCK and columns <= _BLOCK):
        return loop(a, b, acc)
    height, width = min(rows, _BLOCK), min(columns, _BLOCK)
    down, across = -(-rows // height), -(-columns // width)
    a, b, out = (x.reshape(-1, *x.shape[-2:]) for x in (a, b, acc))
    depth = a.shape[-1]

    def block(i, out):
        batch, row, column = i // (down * across), i // across % down, i % across
        row, column = jnp.minimum(row * height, rows - height), jnp.minimum(column * width, columns - width)
        part_a = jax.lax.dynamic_slice(a, (batch, row, 0), (1, height, depth))
        part_b = jax.lax.dynamic_slice(b, (batch, 0, column), (1, depth, width))
        start = jax.lax.dynamic_slice(first, (batch, row, column), (1, height, width))
        return jax.lax.dynamic_update_slice(out, loop(part_a, part_b, start), (batch, row, column))

    first = out  # overlapping blocks begin again from the accumulators as they were given
    out = jax.lax.fori_loop(0, a.shape[0] * down * across, block, jnp.zeros_like(out))
    return out.reshape(acc.shape)


def _loop(a: jax.Array, b: jax.Array, acc: jax.Array, step: Step) -> jax.Array:
    """A few updates a turn, in increasing k."""
    rank = _rank(a.shape[-1], prod(acc.shape))
    once = prod(acc.shape[:-1]) >= _ROWS_TO_WIDEN_ONCE

    def turn(i, acc):
        columns = jax.lax.dynamic_slice_in_dim(a, i * rank, rank, axis=a.ndim - 1)
        rows = jax.lax.dynamic_slice_in_dim(b, i * rank, rank, axis=b.ndim - 2)
        if once:
            # The barrier keeps the widening of words out of the kernel, which would repeat it for every row.
            columns, rows = widen(columns), jax.lax.optimization_barrier(widen(rows))
        for k in range(rank):
            acc = step(acc, widen(columns[..., :, k, None]), widen(rows[..., None, k, :]))
        return acc

    return jax.lax.fori_loop(0, a.shape[-1] // rank, turn, acc)
