"""The roads inside `contract` that shapes, ranges and hardware choose between: all of them the same bits (N8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import chain
from rdujax.numerics.contract import contract
from tests.oracles import softfloat as sf
from tests.oracles.harness import assert_same_bits, raw

# Larger than a block in both output axes, in one, ragged or not; a short last axis; enough work to look at ranges.
SHAPES = [(600, 21, 530), (1030, 5, 513), (513, 40, 40), (20, 17, 1100), (700, 3, 8), (129, 70, 128)]
# Exponents from (included) and to (excluded): the whole moderate range, one step out on each side, products that
# overflow, products that are tiny.
RANGES = [(-56, 63), (-57, 0), (0, 64), (60, 66), (-70, -58)]


def _patterns(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """FP32 patterns with exponents low .. high-1 and some zeros of both signs."""
    sign = rng.integers(0, 2, shape) << 31
    field = np.where(rng.random(shape) < 0.01, 0, rng.integers(127 + low, 127 + high, shape))
    fraction = np.where(field == 0, 0, rng.integers(0, 1 << 23, shape))
    return (sign | field << 23 | fraction).astype(np.uint32)


def _bf16(bits: np.ndarray) -> np.ndarray:
    return bits & np.uint32(0xFFFF0000)


@pytest.mark.parametrize("limits", RANGES, ids=str)
@pytest.mark.parametrize("shape", [SHAPES[0], *(pytest.param(s, marks=pytest.mark.full) for s in SHAPES[1:])], ids=str)
def test_blocks_and_ranges(shape: tuple[int, int, int], limits: tuple[int, int], rng: np.random.Generator):
    m, k, n = shape
    a, b = _bf16(_patterns(rng, (m, k), *limits)), _bf16(_patterns(rng, (k, n), *limits))
    acc = _patterns(rng, (m, n), -20, 20)
    want = sf.contract(a, b, acc=acc)
    assert_same_bits(contract(raw(a), raw(b), acc=raw(acc)), want, note="carriers")
    assert_same_bits(contract(raw(a), (b >> 16).astype(np.uint16), acc=raw(acc)), want, note="words")


def test_products_of_fp32_are_never_fused(rng: np.random.Generator):
    a, b = _patterns(rng, (130, 20), -3, 3), _patterns(rng, (20, 140), -3, 3)
    assert_same_bits(contract(raw(a), raw(b)), sf.contract(a, b))


@pytest.mark.parametrize(
    ("value", "moderate"),
    [
        (0.0, True),
        (-0.0, True),
        (2.0**-56, True),
        (2.0**-56 * (1 - 2.0**-8), False),
        (-(2.0**63) * (1 - 2.0**-8), True),
        (2.0**63, False),
        (1 + 2.0**-7, True),
        (1 + 2.0**-8, False),
        (np.inf, False),
        (np.nan, False),
    ],
)
def test_the_guard_of_the_fast_road(value: float, moderate: bool):
    x = jnp.ones((3, 5), jnp.float32).at[1, 2].set(value)
    assert bool(chain._is_moderate(x)) is moderate


def test_moderate_products_have_one_result():
    """The claim behind the guard: no product overflows, and the last bit of the smallest is not below 2**-126."""
    smallest, largest = (float(np.int32(x).view(np.float32)) for x in (chain._FAST_MIN_BITS, chain._FAST_MAX_BITS))
    assert largest * largest <= float(np.finfo(np.float32).max)
    assert smallest * smallest * 2.0**-14 >= 2.0**-126


@pytest.mark.parametrize("limits", [(-70, -50), (-3, 3), (55, 66)], ids=str)
def test_the_road_for_other_hardware(limits: tuple[int, int], rng: np.random.Generator):
    """Every step explicit: runs here too, where denormals reach it through constant folding alone."""
    a, b = _patterns(rng, (5, 32), *limits), _patterns(rng, (32, 7), *limits)
    road = jax.jit(chain._anywhere)
    assert_same_bits(road(raw(a), raw(b), jnp.zeros((5, 7), jnp.float32)), sf.contract(a, b))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
def test_vmap_in_every_combination(axes: tuple[int | None, int | None], rng: np.random.Generator):
    a, b = _bf16(_patterns(rng, (3, 30, 20), -3, 3)), _bf16(_patterns(rng, (3, 20, 40), -3, 3))
    a, b = (x if axis == 0 else x[1] for x, axis in zip((a, b), axes, strict=True))
    want = sf.contract(*(x if axis == 0 else x[None] for x, axis in zip((a, b), axes, strict=True)))
    assert_same_bits(jax.jit(jax.vmap(contract, axes))(raw(a), raw(b)), want)
    twice = jax.vmap(jax.vmap(contract, axes), (None, None), axis_size=2)
    assert_same_bits(twice(raw(a), raw(b))[1], want)


def test_vmap_over_batched_rows_and_accumulators(rng: np.random.Generator):
    a, b = _bf16(_patterns(rng, (2, 3, 4, 20), -3, 3)), _bf16(_patterns(rng, (3, 20, 9), -3, 3))
    acc = _patterns(rng, (2, 3, 4, 9), -3, 3)
    mapped = jax.vmap(lambda a, acc: contract(a, raw(b), acc=acc))
    assert_same_bits(mapped(raw(a), raw(acc)), sf.contract(a, b[None], acc=acc))
    only_acc = jax.vmap(lambda acc: contract(raw(a[0]), raw(b), acc=acc))
    assert_same_bits(only_acc(raw(acc)), sf.contract(a[:1], b[None], acc=acc))


def test_vmap_keeps_the_fast_road_a_branch():
    """A batch of `a` against one `b` is one contraction of more rows: a cond, not both roads and a select."""
    a, b = jnp.ones((4, 64, 32), jnp.float32), jnp.ones((32, 256), jnp.float32)
    text = jax.jit(jax.vmap(contract, (0, None))).lower(a, b).compile().as_text()
    assert "conditional(" in text
