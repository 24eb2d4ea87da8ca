"""Host link: every BF16 pattern and many FP32 ones on their way in and out, against the law on patterns."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row, row
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.units import host_link


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this unit; fewer FP32 patterns where `quick`."""
    yield _round_trip(np.arange(2**16, dtype=np.uint16), jnp.bfloat16, BF16, "every BF16 pattern in and out")
    words = np.random.default_rng(3).integers(0, 2**32, 2**16 if quick else 2**22, dtype=np.uint32)
    words[::4] &= np.uint32(0x807FFFFF)
    words[1::4] |= np.uint32(0x7F800000)
    yield _round_trip(words, jnp.float32, FP32, "FP32 patterns in and out, half of them denormal or NaN")


def _round_trip(words: np.ndarray, dtype: jnp.dtype, fmt: Format, checked: str) -> Row:
    def through(x: jax.Array) -> jax.Array:
        carriers, _ = host_link.to_device(x, fmt, "hbm")
        return host_link.to_host(carriers, fmt, "hbm")[0]

    public = jax.lax.bitcast_convert_type(jnp.asarray(words), dtype)
    move = compiled(through, public)
    got = np.asarray(jax.lax.bitcast_convert_type(move.run(public), words.dtype))
    wrong = int((got != _entered(words, fmt)).sum())
    seconds = race({"move": move}, 5)["move"]
    return row("host_link", f"{checked}, against N11", words.size, "values", wrong, words.size / seconds)


def _entered(words: np.ndarray, fmt: Format) -> np.ndarray:
    """Denormals are zeros of their sign, every NaN is the one NaN, all else stays."""
    mantissa, exponent = fmt.mantissa_bits, fmt.exponent_bits
    bits = words.astype(np.uint64)
    field, low = (bits >> mantissa) & (2**exponent - 1), bits & (2**mantissa - 1)
    sign, nan = bits & 2 ** (exponent + mantissa), ((2**exponent - 1) << mantissa) | 2 ** (mantissa - 1)
    is_nan = (field == 2**exponent - 1) & (low != 0)
    return np.where(field == 0, sign, np.where(is_nan, nan, bits)).astype(words.dtype)
