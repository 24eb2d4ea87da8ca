"""The loop behind `contract`: acc + a[0] b[0] + a[1] b[1] + ..., each product and each sum one FP32 result (N8).

One turn of the loop is 16 rank-1 updates (2 where there is little work), which XLA fuses into a single kernel that
reads and writes the accumulators once. An integer minimum between product and sum keeps XLA from contracting them into
a fused multiply-add. Large outputs are computed in blocks that stay in the cache.

Where every nonzero operand is a BF16 value between 2**-56 and 2**63, products are exact and can neither overflow nor be
tiny, and every sum is a multiple of 2**-126: then fused or not, flushed or not, the bits are the same, and the minimum
is left out. For words of BF16, which also take half the bytes, that is found out at run time, where finding out is
cheap beside the work: other words are read as NaN, and where the sums show one they are made again with the minimum.

None of this changes a bit, so a batch axis of only `a` is folded into the rows. What is compiled counts, too: XLA
compiles equal kernels once, and each other one takes it about 10 ms. So turns read their slices from where the operands
lie, `a` turned to lie as `b` does, and what is not a slice is alike for all lengths. Below `chain`, `a` is [B, K, M].
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base import compat
from rdujax.numerics import registers
from rdujax.numerics.bits import canonicalize, from_bits, isolate

# Fewer updates per turn make XLA fuse the slicing and widening of the operands into the kernel, which then reads them
# one by one: a producer is copied for up to 15 readers. More do not fit the registers.
_RANK = 16
# The products of so many updates are one array, of which each sum takes its part: fewer operations for XLA to compile.
# No array is made of them as long as they have at most 15 readers, see above.
_TOGETHER = 8
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
# Fewer rows stay in the cache however many columns there are.
_FEWEST_ROWS = 24
# Looking at an operand costs as much as about 64 updates with it save.
_WORK_TO_LOOK = 64
# Vectors shorter than this leave most lanes empty: the longer of the two output axes is then run along instead.
_SHORT_VECTOR = 16

# Products of magnitudes from 2**-56 on and below 2**63, as words of BF16, have one result: the last bit of the smallest
# is not below 2**-126, so that every sum is a multiple of that, and the largest does not overflow.
_MODERATE_FROM = np.uint16((127 - 56) << 7)
_MODERATE_TO = np.uint16((127 + 63) << 7)
_NAN = np.uint16(0x7FC0)

Product = Callable[[jax.Array, jax.Array], jax.Array]
Sum = Callable[[jax.Array, jax.Array], jax.Array]
Place = int | jax.Array
Loop = Callable[[jax.Array, jax.Array, jax.Array, Sequence[Place]], jax.Array]

_sliced = partial(jax.lax.dynamic_slice, allow_negative_indices=False)


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
def chain(a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    """acc [..., M, N] (None: +0) continued over the last axis of a [..., M, K] and the last but one of b [..., K, N].

    a, b: float32 carriers or uint16 words; acc: FP32 carrier. FP32 carrier out.
    """
    return canonicalize(_oriented(a, b, acc))


@chain.def_vmap
def _chain_of_batch(axis_size, in_batched, a, b, acc):
    if not in_batched[1] and in_batched[0]:
        return _folded(axis_size, in_batched[2], a, b, acc), True
    operands = [
        x if batched or x is None else jnp.broadcast_to(x, (axis_size, *x.shape))
        for x, batched in zip((a, b, acc), in_batched, strict=True)
    ]
    return chain(*operands), True


def _folded(axis_size: int, acc_batched: bool | None, a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    """A batch of `a` against one `b`: the batch axis joins the rows."""
    if acc is not None:
        acc = _rows_joined(acc if acc_batched else jnp.broadcast_to(acc, (axis_size, *acc.shape)))
    out = chain(_rows_joined(a), b, acc)
    return jnp.moveaxis(out.reshape(*out.shape[:-2], axis_size, a.shape[-2], out.shape[-1]), -3, 0)


def _rows_joined(x: jax.Array) -> jax.Array:
    """[B, ..., M, N] as [..., B M, N]."""
    x = jnp.moveaxis(x, 0, -3)
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def _oriented(a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    """Runs along the longer output axis if the last one is short: products commute."""
    rows, columns = a.shape[-2], b.shape[-1]
    if columns >= _SHORT_VECTOR or columns >= rows:
        return _with_padding(jnp.swapaxes(a, -1, -2), b, acc)
    acc = None if acc is None else jnp.swapaxes(acc, -1, -2)
    return jnp.swapaxes(_with_padding(b, jnp.swapaxes(a, -1, -2), acc), -1, -2)


def _with_padding(a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    # The product of the padding, -0 times +0, leaves every accumulator as it is.
    shape = (*a.shape[:-2], a.shape[-1], b.shape[-1])
    a, b = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    acc = None if acc is None else acc.reshape(-1, *acc.shape[-2:])
    rank = _rank(a, b)
    length = max(-(-a.shape[1] // rank), _MIN_TURNS) * rank
    a, b = padded(a, 1, length, -1.0), padded(b, 1, length, 1.0)
    return jax.lax.platform_dependent(a, b, acc, cpu=_on_cpu, default=_anywhere).reshape(shape)


def _rank(a: jax.Array, b: jax.Array) -> int:
    """Updates per turn of the loop over K; what is padded takes as many as before, or a divisor."""
    is_little = a.shape[1] <= _SHORT_LENGTH and prod(_outputs(a, b)) <= _FEW_SUMS
    return _SHORT_RANK if is_little else _RANK


def _outputs(a: jax.Array, b: jax.Array) -> tuple[int, int, int]:
    """The shape [B, M, N] that a [B, K, M] and b [B, K, N] give."""
    return a.shape[0], a.shape[2], b.shape[2]


def _on_cpu(a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    """For hardware that flushes by itself, after rounding, as XLA sets up x86."""
    if compat.fast_math():
        return _blocked(a, b, acc, partial(_loop, product=_isolated, total=_licensed_sum))
    _, rows, columns = _outputs(a, b)
    if {a.dtype, b.dtype} != {jnp.dtype(jnp.uint16)} or rows * columns < _WORK_TO_LOOK * (rows + columns):
        return _blocked(a, b, acc, partial(_loop, product=_isolated))
    return _blocked(a, b, acc, partial(_free_loop, moderate=(_moderate(a), _moderate(b))))


def _anywhere(a: jax.Array, b: jax.Array, acc: jax.Array | None) -> jax.Array:
    """For any hardware with correctly rounded products and sums: every step is explicit."""
    a, b = canonicalize(widen(a)), canonicalize(widen(b))
    return _loop(a, b, _sums(acc, _outputs(a, b)), (0, 0, 0), registers.mul, registers.add)


def _isolated(x: jax.Array, y: jax.Array) -> jax.Array:
    return isolate(x * y)


def _licensed_sum(acc: jax.Array, product: jax.Array) -> jax.Array:
    # Under fast math LLVM re-orders a chain of sums, unless each is isolated as well.
    return isolate(acc + product)


def _cut(shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Blocks of outputs [B, M, N]: the shape of each, and how many along each axis; a whole block is of one product."""
    rows, columns = (min(length, _BLOCK) for length in shape[1:])
    size = (1 if rows == columns == _BLOCK else shape[0], rows, columns)
    return size, tuple(-(-length // part) for length, part in zip(shape, size, strict=True))


def _corner(i: jax.Array, counts: tuple[int, ...], shape: tuple[int, ...], block: tuple[int, ...]) -> list[Place]:
    """Where block number i begins; the last ones overlap those before them."""
    found: list[Place] = []
    for axis, (count, length, part) in enumerate(zip(counts, shape, block, strict=True)):
        place = _place(i, counts, axis)
        found.append(0 if count == 1 else jnp.minimum(place * part, length - part))
    return found


def _place(i: jax.Array, counts: tuple[int, ...], axis: int) -> jax.Array:
    """Which block along `axis` number i is; division and remainder only where they do something."""
    inner, outer = prod(counts[axis + 1 :]), prod(counts[:axis])
    place = jax.lax.div(i, inner) if inner > 1 else i
    return jax.lax.rem(place, counts[axis]) if outer > 1 else place


def _sums(acc: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    """What a chain begins with."""
    # Behind a barrier, or the first addition to +0 would be removed and leave -0.
    return jax.lax.optimization_barrier(jnp.zeros(shape, jnp.float32)) if acc is None else acc


def _blocked(a: jax.Array, b: jax.Array, acc: jax.Array | None, loop: Loop) -> jax.Array:
    """The loop over k, for one block of outputs [B, M, N] after the other where there are many of them."""
    shape = _outputs(a, b)
    size, counts = _cut(shape)
    if shape[1] < _FEWEST_ROWS or size == shape:
        return loop(a, b, _sums(acc, shape), (0, 0, 0))

    def block(i, out):
        at = _corner(i, counts, shape, size)
        # Overlapping blocks begin again from the accumulators as they were given.
        done = loop(a, b, _sums(None if acc is None else _sliced(acc, at, size), size), at)
        return jax.lax.dynamic_update_slice(out, done, at, allow_negative_indices=False)

    return jax.lax.fori_loop(0, prod(counts), block, jnp.zeros(shape, jnp.float32))


def _loop(
    a: jax.Array,
    b: jax.Array,
    acc: jax.Array,
    at: Sequence[Place],
    product: Product = jnp.multiply,
    total: Sum = jnp.add,
) -> jax.Array:
    """A few updates a turn, in increasing k, of the outputs from `at` (batch, row, column) on."""
    rank = _rank(a, b)
    batch, row, column = at
    batches, height, width = acc.shape

    def turn(i, acc):
        columns = widen(_sliced(a, (batch, i * rank, row), (batches, rank, height)))
        rows = widen(_sliced(b, (batch, i * rank, column), (batches, rank, width)))
        for k in range(0, rank, _TOGETHER):
            products = product(*_spread(columns[:, k : k + _TOGETHER], rows[:, k : k + _TOGETHER]))
            for own in range(products.shape[1]):
                acc = total(acc, jax.lax.index_in_dim(products, own, 1, keepdims=False))
        return acc

    return jax.lax.fori_loop(0, a.shape[1] // rank, turn, acc)


def _spread(columns: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, K, M] and [B, K, N] as operands of the K rank-1 updates, [B, K, M, N]."""
    shape = (*columns.shape, rows.shape[2])
    return jax.lax.broadcast_in_dim(columns, shape, (0, 1, 2)), jax.lax.broadcast_in_dim(rows, shape, (0, 1, 3))


def _moderate(words: jax.Array) -> jax.Array:
    """The words of zeros and of the range where fused and unfused steps agree; NaN in the place of others."""
    size = words & np.uint16(0x7FFF)
    return jnp.where((size == 0) | ((size >= _MODERATE_FROM) & (size < _MODERATE_TO)), words, _NAN)


def _free_loop(
    a: jax.Array, b: jax.Array, acc: jax.Array, at: Sequence[Place], moderate: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Free steps over what is moderate of both operands; isolated steps from anew where something is not.

    Every row of `a` comes into the first column of the sums, and every column of `b` into the first row.
    """
    done = _loop(*moderate, acc, at)
    edges = jnp.concatenate([done[:, :, 0].ravel(), done[:, 0, :].ravel()])
    return jax.lax.cond(jnp.any(jnp.isnan(edges)), lambda: _loop(a, b, acc, at, _isolated), lambda: done)
