"""Hardware that flushes a tiny result before it rounds it, as some CPUs do, changes no bit of a product or quotient.

No such CPU is needed: the raw multiplier and divider are replaced by NumPy ones that flush early.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import registers
from tests.oracles import softfloat as sf
from tests.oracles import vectors
from tests.oracles.harness import assert_same_bits, raw

SMALLEST = 2.0**-126


def flushed_early(exact: np.ndarray) -> np.ndarray:
    """float32 patterns of float64 results, zero wherever the magnitude was below 2^-126 before the rounding."""
    with np.errstate(all="ignore"):
        rounded = np.where(np.abs(exact) < SMALLEST, np.copysign(0.0, exact), exact).astype(np.float32)
    return rounded.view(np.int32)


def early_mul(x, y):
    """The product of two float32 values is exact in float64."""
    with np.errstate(all="ignore"):
        return jnp.asarray(flushed_early(np.float64(x) * np.float64(y)))


def early_div(x, y):
    """float64 holds a float32 quotient far beyond any boundary of rounding or flushing."""
    with np.errstate(all="ignore"):
        return jnp.asarray(flushed_early(np.float64(x) / np.float64(y)))


@pytest.mark.parametrize("make", [vectors.tiny, vectors.flush_window, vectors.specials], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("name", "early"), [("mul", early_mul), ("div", early_div)])
def test_early_flushing_changes_no_bit(name, early, make, monkeypatch):
    x, y = (sf.canonical(v) for v in make(np.random.default_rng(31), 1 << 14))
    raw_bits, want = early(raw(x), raw(y)), getattr(sf, name)(x, y)
    if make is vectors.flush_window and name == "mul":
        lost = (np.asarray(raw_bits).view(np.uint32) & 0x7FFFFFFF == 0) & (want & 0x7FFFFFFF != 0)
        assert lost.any(), "the vectors do not reach what is defended"
    monkeypatch.setattr(registers, f"_raw_{name}", early)
    got = getattr(registers, f"_{name}_bits")(jnp.asarray(raw(x)), jnp.asarray(raw(y)))
    assert_same_bits(np.asarray(got).view(np.float32), want, x, y, note=name)
