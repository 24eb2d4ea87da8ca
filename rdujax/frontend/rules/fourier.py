"""Fourier transforms as matrix products (Monarch decomposition).

N = n1 x n2 points are transforms of n1 points, twiddle factors, and transforms of n2 points:

    X[k1 + n1 k2] = sum over b of W(n2)^(b k2) ( W(N)^(b k1) sum over a of W(n1)^(a k1) x[a n2 + b] )

The small transforms are contractions with constant matrices, so that a transform is made of PCU work that fuses with
its neighbours. Constants are computed in float64 and rounded once; sums are FP32 (N8).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from rdujax.frontend.rule import Operand, Pair, Scalar, Site
from rdujax.frontend.rules.complexes import (
    ZERO,
    Part,
    difference,
    is_zero,
    negative,
    on_parts,
    parts,
    product,
    rule,
    total,
)

MOST_POINTS = 64  # of one matrix: factors are joined up to this, as two passes of the array's rows
LARGEST_PRIME = 4096

Parts = tuple[Part, Part]  # the imaginary part of a real signal is ZERO


@rule("fft")
def _fft(site: Site) -> tuple[Operand, ...]:
    kind, lengths = _kind(site.parameters["fft_type"]), tuple(site.parameters["fft_lengths"])
    shape = _shape(site, 0)
    axes = tuple(range(len(shape) - len(lengths), len(shape)))
    if kind in ("FFT", "IFFT"):
        x: Parts = parts(site, 0)
        for axis in axes:
            x, shape = _along(site, x, shape, axis, kind == "IFFT")
        return (Pair(*x),)
    if kind == "RFFT":
        x = (site.value(0), ZERO)
        x, shape = _along(site, x, shape, axes[-1], False)
        x, shape = _kept(site, x, shape, axes[-1], lengths[-1] // 2 + 1)
        for axis in axes[:-1]:
            x, shape = _along(site, x, shape, axis, False)
        return (Pair(*x),)
    x = parts(site, 0)
    for axis in axes[:-1]:
        x, shape = _along(site, x, shape, axis, True)
    return (_real_inverse(site, x, shape, axes[-1], lengths[-1]),)


def _kind(fft_type: Any) -> str:
    return str(getattr(fft_type, "name", fft_type)).rpartition(".")[-1].upper()


def _shape(site: Site, i: int) -> tuple[int, ...]:
    operand = site.operands[i]
    found = (operand.real, operand.imaginary) if isinstance(operand, Pair) else (operand,)
    shapes = [site.builder.types[part].shape for part in found if isinstance(part, int)]
    if not shapes:
        raise site.unsupported("a transform of a number of the text", "transform an array")
    return shapes[0]


def _along(site: Site, x: Parts, shape: tuple[int, ...], axis: int, is_inverse: bool) -> tuple[Parts, tuple[int, ...]]:
    """The transform over one axis, divided by its length if inverse; the shape stays."""
    order = (*(a for a in range(len(shape)) if a != axis), axis)
    moved = tuple(shape[a] for a in order)
    done = _last(site, _each(x, lambda p: _transposed(site, p, shape, order)), moved, is_inverse)
    if is_inverse:
        scale = Scalar(np.asarray(1 / shape[axis], np.float32), np.dtype(np.float32))  # not emulated: a constant
        done = _each(done, lambda p: _real(site, "mul", moved, p, scale))
    back = tuple(int(a) for a in np.argsort(order))
    return _each(done, lambda p: _transposed(site, p, moved, back)), shape


def _last(site: Site, x: Parts, shape: tuple[int, ...], is_inverse: bool) -> Parts:
    """The transform over the last axis, not scaled."""
    points, *others = shape[-1], *shape[:-1]
    first = _factors(site, points)[0]
    rest = points // first
    matrix, split = _roots(first, first, first, is_inverse), (*others, first, rest)
    x = _each(x, lambda p: _reshaped(site, p, split))
    done = _contracted(site, x, split, matrix)  # [..., rest, first]
    turned = (*others, rest, first)
    if rest == 1:
        return _each(done, lambda p: _reshaped(site, p, shape))
    done = _twiddled(site, done, turned, _roots(rest, first, points, is_inverse))
    swap = (*range(len(others)), len(others) + 1, len(others))
    done = _each(done, lambda p: _transposed(site, p, turned, swap))  # [..., k1, b]
    done = _last(site, done, split, is_inverse)  # [..., k1, k2]
    done = _each(done, lambda p: _transposed(site, p, split, swap))
    return _each(done, lambda p: _reshaped(site, p, shape))


def _factors(site: Site, points: int) -> tuple[int, ...]:
    """Factors of at most MOST_POINTS, largest first; a larger prime stands alone."""
    primes, left, p = [], points, 2
    while left > 1:
        if p * p > left:
            p = left
        while left % p == 0:
            primes.append(p)
            left //= p
        p += 1
    if max(primes, default=1) > LARGEST_PRIME:
        raise site.unsupported(
            f"a transform of {points} points has the prime factor {max(primes)}",
            f"pad to a length whose prime factors are at most {LARGEST_PRIME}",
        )
    factors: list[int] = []
    for prime in sorted(primes, reverse=True):
        for i, factor in enumerate(factors):
            if factor * prime <= MOST_POINTS:
                factors[i] = factor * prime
                break
        else:
            factors.append(prime)
    return tuple(sorted(factors, reverse=True)) or (1,)


@lru_cache(maxsize=64)
def _roots(rows: int, columns: int, points: int, is_inverse: bool) -> tuple[np.ndarray, np.ndarray]:
    """exp(-2 pi i r c / points) (or its conjugate) for r < rows, c < columns: real and imaginary part, FP32."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % points  # not emulated: constants
    angles = (2 if is_inverse else -2) * np.pi * turns / points  # not emulated: constants
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)  # not emulated: constants


def _contracted(site: Site, x: Parts, shape: tuple[int, ...], matrix: tuple[np.ndarray, np.ndarray]) -> Parts:
    """x [..., a, b] with matrix [a, k] -> [..., b, k]."""
    axis, batch = len(shape) - 2, shape[:-2]
    result = (*batch, shape[-1], matrix[0].shape[1])
    numbers = (((axis,), (0,)), ((), ()))
    cosines, sines = (_constant(site, part) for part in matrix)

    def dot(p: Part, m: int) -> Part:
        if is_zero(p):
            return ZERO
        return _real(site, "dot_general", result, p, m, dimension_numbers=numbers, preferred_element_type=np.float32)

    whole, (real, imaginary) = _with_results(site, result), x
    return (
        difference(whole, dot(real, cosines), dot(imaginary, sines)),
        total(whole, dot(real, sines), dot(imaginary, cosines)),
    )


def _twiddled(site: Site, x: Parts, shape: tuple[int, ...], factors: tuple[np.ndarray, np.ndarray]) -> Parts:
    ends = (len(shape) - 2, len(shape) - 1)
    spread = [
        _real(site, "broadcast_in_dim", shape, _constant(site, part), shape=shape, broadcast_dimensions=ends)
        for part in factors
    ]
    found = product(_with_results(site, shape), x, (spread[0], spread[1]))
    return found.real, found.imaginary


def _kept(site: Site, x: Parts, shape: tuple[int, ...], axis: int, count: int) -> tuple[Parts, tuple[int, ...]]:
    """The first `count` points along an axis."""
    result = tuple(count if a == axis else n for a, n in enumerate(shape))
    return _each(x, lambda p: _sliced(site, p, result, (0,) * len(shape), result)), result


def _sliced(site: Site, p: Operand, result: tuple[int, ...], start: tuple[int, ...], limit: tuple[int, ...]) -> int:
    return _real(site, "slice", result, p, start_indices=start, limit_indices=limit, strides=None)


def _real_inverse(site: Site, x: Parts, shape: tuple[int, ...], axis: int, points: int) -> int:
    """The real signal of a half spectrum [..., points // 2 + 1]: the other half is its mirrored conjugate."""
    half = points // 2 + 1
    if shape[axis] != half:
        x, shape = _kept(site, x, shape, axis, half)
    others = (points - 1) // 2  # points that are there only as a conjugate
    whole = tuple(points if a == axis else n for a, n in enumerate(shape))
    if others:
        mirrored = tuple(others if a == axis else n for a, n in enumerate(shape))
        start = tuple(1 if a == axis else 0 for a in range(len(shape)))
        limit = tuple(1 + others if a == axis else n for a, n in enumerate(shape))

        def mirror(p: Part) -> int:
            return _real(site, "rev", mirrored, _sliced(site, p, mirrored, start, limit), dimensions=(axis,))

        def joined(p: Part, sign: Callable[[Part], Part]) -> Part:
            return ZERO if is_zero(p) else _real(site, "concatenate", whole, p, sign(mirror(p)), dimension=axis)

        conjugate = partial(negative, _with_results(site, mirrored))
        x = joined(x[0], lambda p: p), joined(x[1], conjugate)
    done, _ = _along(site, x, whole, axis, True)
    assert isinstance(done[0], int)
    return done[0]


def _each(x: Parts, fn: Callable[[Part], Part]) -> Parts:
    real, imaginary = x
    return ZERO if is_zero(real) else fn(real), ZERO if is_zero(imaginary) else fn(imaginary)


def _transposed(site: Site, p: Operand, shape: tuple[int, ...], permutation: Sequence[int]) -> int:
    result = tuple(shape[a] for a in permutation)
    return _real(site, "transpose", result, p, permutation=tuple(permutation))


def _reshaped(site: Site, p: Operand, shape: tuple[int, ...]) -> int:
    return _real(site, "reshape", shape, p, new_sizes=shape, dimensions=None)


def _constant(site: Site, array: np.ndarray) -> int:
    return site.builder.constant(array, "fourier")


def _with_results(site: Site, shape: tuple[int, ...]) -> Site:
    return Site(site.builder, site.primitive, site.operands, site.parameters,
                (jax.ShapeDtypeStruct(shape, np.float32),), site.scope, site.source)  # fmt: skip


def _real(site: Site, name: str, result: tuple[int, ...], /, *operands: Operand, **parameters: Any) -> int:
    """One real equation with a result of that shape."""
    return on_parts(_with_results(site, result), name, *operands, parameters=parameters)
