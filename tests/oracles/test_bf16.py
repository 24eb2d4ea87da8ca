"""BF16 arithmetic through the registry of functions, against the integer softfloat."""

from functools import partial

import pytest

from rdujax.numerics import functions
from rdujax.numerics.formats import BF16, FP32
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import COUNTS, assert_same_bits, raw

BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")
REGISTERED = {"absolute": "abs", "maximum": "max", "minimum": "min"}  # other names in the registry
LARGE_ENOUGH = 1 << 16  # constants beyond this only cost compile time


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", [*BINARY, "neg", "absolute", "square"])
def test_bf16(name: str, count: int):
    """A BF16 operation is the FP32 operation, then the rounding to BF16 (N4)."""
    x, y = map(vectors.bf16, vectors.pairs(count, seed=25))
    operands = (x, y) if name in BINARY else (x,)
    want = sf.to_bf16(sf.mul(x, x) if name == "square" else getattr(sf, name)(*operands))
    op = partial(functions.apply, REGISTERED.get(name, name), BF16)
    for mode in (harness.jit, harness.eager, harness.constants, harness.vmap, harness.odd_lengths):
        cut = [v[:LARGE_ENOUGH] for v in operands] if mode is harness.constants else operands
        got = mode(op, *map(raw, cut))
        assert_same_bits(got, want[: cut[0].size], *cut, note=f"{name} {mode.__name__}")


@pytest.mark.parametrize("name", [*BINARY, *COMPARISONS, "neg", "absolute", "sqrt", "reciprocal", "rsqrt"])
def test_registry_is_the_same_arithmetic(name: str):
    """The registry's FP32 entries are these functions, on carriers."""
    x, y = map(vectors.fp32, vectors.pairs(1 << 13, seed=26))
    operands = (x, y) if name in (*BINARY, *COMPARISONS) else (x,)
    got = functions.apply(REGISTERED.get(name, name), FP32, *map(raw, operands))
    assert_same_bits(got, getattr(sf, name)(*operands), *operands, note=name)
