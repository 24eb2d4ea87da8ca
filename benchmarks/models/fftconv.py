"""FlashFFTConv: a long convolution as Fourier transforms made of small matrix products (Monarch decomposition).

    x --DFT(n1), twiddle, DFT(n2), ...--> * filter in the same order --inverse--> y

A transform of N = n1 x n2 x ... points is a stage of n-point DFTs (matrix products) for every factor, with twiddle
factors between them. Complex numbers are pairs of real arrays. Matrices, twiddles and the transformed filter are data
that the host computes once. `FlashFFTConv` is all of it as a Flax module.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.models.parts import Table

Pair = tuple[jax.Array, jax.Array]
ORDER_4 = (32, 32, 32, 32)  # 1,048,576 points, as the published code factors them


class FlashFFTConv(nnx.Module):
    """A gated long convolution of every channel with a filter of its own, drawn at random from a seed."""

    def __init__(self, factors: Sequence[int], channels: int, seed: int = 0, dtype: Any = jnp.bfloat16):
        points = prod(factors)
        kernel = np.random.default_rng(seed).standard_normal((channels, points)) / points**0.5
        self.spectrum = _held(transformed_filter(kernel, factors, dtype))
        stages = tables(factors, dtype)
        self.stages = nnx.List([nnx.Dict({name: _held(pair) for name, pair in stage.items()}) for stage in stages])

    def __call__(self, x: jax.Array, gate: jax.Array) -> jax.Array:
        """[batch, channels, points], the same out."""
        stages = [{name: _pair_of(held) for name, held in stage.items()} for stage in self.stages]
        return convolve(x, gate, _pair_of(self.spectrum), stages)


def _held(pair: Pair) -> nnx.List:
    return nnx.List([Table(part) for part in pair])


def _pair_of(held: nnx.List) -> Pair:
    real, imaginary = (part.get_value() for part in held)
    return real, imaginary


def tables(factors: Sequence[int], dtype: Any = jnp.bfloat16) -> list[dict[str, Pair]]:
    """For every stage, the DFT matrix [n, n] and the twiddles [n, points left], as (real, imaginary)."""
    found = []
    for i, n in enumerate(factors):
        rest = prod(factors[i + 1 :])
        angles = -2 * np.pi * np.outer(np.arange(n), np.arange(n)) / n
        twists = -2 * np.pi * np.outer(np.arange(n), np.arange(rest)) / (n * rest)
        found.append({"matrix": _pair(angles, dtype), "twiddle": _pair(twists, dtype)})
    return found


def _pair(angles: np.ndarray, dtype: Any) -> Pair:
    return jnp.asarray(np.cos(angles), dtype), jnp.asarray(np.sin(angles), dtype)


def transformed_filter(kernel: np.ndarray, factors: Sequence[int], dtype: Any = jnp.bfloat16) -> Pair:
    """The spectrum of a filter [channels, N] in the order in which `transform` leaves its points."""
    spectrum = np.fft.fft(np.asarray(kernel, np.float64), axis=-1)
    shape = spectrum.shape[:-1]
    # Point k = k1 + n1 (k2 + n2 (...)): the first stage gives the fastest digit.
    digits = spectrum.reshape(*shape, *reversed(factors))
    rank = len(factors)
    ordered = np.transpose(digits, (*range(len(shape)), *(len(shape) + i for i in reversed(range(rank)))))
    flat = ordered.reshape(*shape, -1)
    return jnp.asarray(flat.real, dtype), jnp.asarray(flat.imag, dtype)


def transform(x: Pair, stages: Sequence[dict[str, Pair]]) -> Pair:
    """The DFT over the last axis, its points in digit-reversed order."""
    if not stages:
        return x
    stage, rest = stages[0], stages[1:]
    n = stage["matrix"][0].shape[0]
    shape = x[0].shape
    split = tuple(part.reshape(*shape[:-1], n, -1) for part in x)
    turned = _times(_product(stage["matrix"], split), stage["twiddle"])  # type: ignore[arg-type]
    done = transform(turned, rest)
    return tuple(part.reshape(shape) for part in done)  # type: ignore[return-value]


def inverse(x: Pair, stages: Sequence[dict[str, Pair]]) -> Pair:
    """The inverse of `transform`, without the division by N."""
    if not stages:
        return x
    stage, rest = stages[0], stages[1:]
    n = stage["matrix"][0].shape[0]
    shape = x[0].shape
    split = tuple(part.reshape(*shape[:-1], n, -1) for part in x)
    turned = _times(inverse(split, rest), _conjugate(stage["twiddle"]))  # type: ignore[arg-type]
    done = _product(_conjugate(stage["matrix"]), turned)
    return tuple(part.reshape(shape) for part in done)  # type: ignore[return-value]


def convolve(x: jax.Array, gate: jax.Array, spectrum: Pair, stages: Sequence[dict[str, Pair]]) -> jax.Array:
    """The circular convolution of x [batch, channels, N] with a filter given by its spectrum, gated: y x gate."""
    points = x.shape[-1]
    there = transform((x, jnp.zeros_like(x)), stages)
    back, _ = inverse(_times(there, spectrum), stages)
    return back * np.float32(1 / points).astype(x.dtype) * gate


def _product(m: Pair, x: Pair) -> Pair:
    """Complex matrix product over the axis before the last: four real ones."""
    (a, b), (c, d) = m, x
    return a @ c - b @ d, a @ d + b @ c


def _times(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    return a * c - b * d, a * d + b * c


def _conjugate(x: Pair) -> Pair:
    return x[0], -x[1]
