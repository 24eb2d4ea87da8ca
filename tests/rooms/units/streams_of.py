"""Operands for units: carriers of every format, and streams whose tails hold poison."""

import jax.numpy as jnp
import numpy as np

from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32, Format
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.stream import Stream
from tests.oracles import softfloat


def carriers(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format) -> np.ndarray:
    """Canonical values of a format, of many magnitudes, one in eight a zero or a small whole number."""
    if fmt in (INT32, UINT32):
        return rng.integers(-(2**31), 2**31, shape).astype(np.int32)
    if fmt is BOOL:
        return rng.random(shape) < 0.5
    values = rng.normal(size=shape) * np.exp2(rng.integers(-20, 21, shape))
    values = np.where(rng.random(shape) < 0.125, rng.integers(-2, 3, shape), values).astype(np.float32)
    return values if fmt is FP32 else softfloat.to_bf16(values.view(np.uint32)).view(np.float32).reshape(shape)


def stream_of(x: np.ndarray, layout: Layout, fmt: Format, *, packed: bool = False) -> Stream:
    """A stream of carriers, or of words at rest."""
    words = (x.view(np.uint32) >> 16).astype(np.uint16) if packed else x
    assert fmt is BF16 or not packed
    return Stream(streams.cut(jnp.asarray(words), layout, fmt), layout, fmt)
