"""BF16 and FP32 arithmetic through the registry of functions, against the integer softfloat."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import functions
from rdujax.numerics.formats import BF16, FP32, Format
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import COUNTS, MODES, assert_same_bits, in_full, raw

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


@pytest.mark.parametrize("name", ["mul", "div"])
def test_bf16_flush_window(name: str):
    """Every pair of BF16 significands with its result around 2^-126 (flushed before it is rounded) or the overflow."""
    first, second = np.meshgrid(np.arange(128, dtype=np.uint32), np.arange(128, dtype=np.uint32))
    fields = {"mul": ((63, 64), (63, 63), (190, 191), (190, 190)), "div": ((1, 127), (1, 128), (254, 127), (254, 126))}
    for left, right in fields[name]:
        x, y = (field << 23 | fraction.ravel() << 16 for field, fraction in ((left, first), (right, second)))
        x, y = x.astype(np.uint32), y.astype(np.uint32)
        want = sf.to_bf16(getattr(sf, name)(x, y))
        for mode in (harness.jit, harness.eager, harness.constants):
            got = mode(partial(functions.apply, name, BF16), raw(x), raw(y))
            assert_same_bits(got, want, x, y, note=f"{name} {mode.__name__}")


@pytest.mark.parametrize("mode", ["jit", "constants", *in_full("eager", "odd_lengths", "scan")])
@pytest.mark.parametrize("name", [*BINARY, *COMPARISONS, "neg", "absolute", "sqrt", "reciprocal", "rsqrt"])
def test_fp32_of_the_registry(name: str, mode: str):
    """The registry's FP32 entries take carriers as they are, and give the same bits."""
    x, y = map(vectors.fp32, vectors.pairs(1 << 13, seed=26))
    operands = (x, y) if name in (*BINARY, *COMPARISONS) else (x,)
    got = MODES[mode](partial(functions.apply, REGISTERED.get(name, name), FP32), *map(raw, operands))
    assert_same_bits(got, getattr(sf, name)(*operands), *operands, note=name)


@pytest.mark.parametrize("fmt", [BF16, FP32], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_scalar_constants(name: str, fmt: Format):
    """A constant or a column against a whole array, on either side."""
    cut, finish = (vectors.bf16, sf.to_bf16) if fmt is BF16 else (vectors.fp32, lambda v: v)
    x = cut(np.concatenate([vectors.SPECIALS, vectors.pairs(1 << 9, seed=29)[0]]))
    scalars = cut(np.array([0, 0x80000000, 0x3F800000, 0xBF800000, 0x3EAAAAAB, 0x3F333333, 0x7F800000, 0x7FC00000]))
    op, oracle = partial(functions.apply, REGISTERED.get(name, name), fmt), getattr(sf, name)
    values = [jnp.float32(v) for v in raw(scalars)]
    right = jax.jit(lambda v: jnp.stack([op(v, c) for c in values]))(raw(x))
    left = jax.jit(lambda v: jnp.stack([op(c, v) for c in values]))(raw(x))
    column = jax.jit(op)(np.tile(raw(x), (len(scalars), 1)), raw(scalars)[:, None])
    assert_same_bits(right, finish(oracle(x[None], scalars[:, None])), x[None], scalars[:, None], note="right")
    assert_same_bits(left, finish(oracle(scalars[:, None], x[None])), scalars[:, None], x[None], note="left")
    assert_same_bits(column, finish(oracle(x[None], scalars[:, None])), x[None], scalars[:, None], note="column")


def _apply(name: str):
    return partial(functions.apply, name, BF16)


@pytest.mark.parametrize("mode", ["jit", "constants", "last_constant", "vmap"])
def test_bf16_compositions(mode: str):
    """Every operation rounds to BF16, also between two that a compiler could merge (no excess precision)."""
    add, sub, mul, div = (_apply(name) for name in ("add", "sub", "mul", "div"))
    x, y, z = (vectors.bf16(vectors.carriers(kind, (1 << 13,), seed)) for seed, kind in enumerate(("normal",) * 3))

    def rounded(name: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return sf.to_bf16(getattr(sf, name)(p, q))

    chains = (
        (lambda x, y, z: add(mul(x, y), z), rounded("add", rounded("mul", x, y), z)),
        (lambda x, y, z: sub(add(x, y), y), rounded("sub", rounded("add", x, y), y)),
        (lambda x, y, z: div(mul(x, y), y), rounded("div", rounded("mul", x, y), y)),
        (lambda x, y, z: mul(div(x, z), z), rounded("mul", rounded("div", x, z), z)),
    )
    for op, want in chains:
        assert_same_bits(MODES[mode](op, raw(x), raw(y), raw(z)), want, x, y, z, note=mode)
