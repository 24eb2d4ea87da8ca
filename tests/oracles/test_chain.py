"""The roads inside `contract` that shapes, ranges and hardware choose between: all of them the same bits (N8)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import chain
from rdujax.numerics.contract import contract
from rdujax.numerics.formats import BF16
from tests.oracles import softfloat as sf
from tests.oracles.harness import assert_same_bits, raw
from tests.oracles.processes import printed, start

# Larger than a block in both output axes, in one, ragged or not; a short last axis; enough work to look at ranges.
SHAPES = [(520, 17, 513), (600, 21, 530), (1030, 5, 513), (513, 40, 40), (20, 17, 1100), (700, 3, 8), (129, 70, 128)]
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


def _words(bits: np.ndarray) -> np.ndarray:
    return (bits >> 16).astype(np.uint16)


@pytest.mark.parametrize("limits", RANGES, ids=str)
@pytest.mark.parametrize("shape", [SHAPES[0], *(pytest.param(s, marks=pytest.mark.full) for s in SHAPES[1:])], ids=str)
def test_blocks_and_ranges(shape: tuple[int, int, int], limits: tuple[int, int], rng: np.random.Generator):
    m, k, n = shape
    a, b = _bf16(_patterns(rng, (m, k), *limits)), _bf16(_patterns(rng, (k, n), *limits))
    acc = _patterns(rng, (m, n), -20, 20)
    want = sf.contract(a, b, acc=acc)
    assert_same_bits(contract(raw(a), raw(b), acc=raw(acc)), want, note="carriers")
    assert_same_bits(contract(raw(a), raw(b), acc=raw(acc), fmt=BF16), want, note="carriers of BF16")
    assert_same_bits(contract(raw(a), _words(b), acc=raw(acc)), want, note="carriers and words")
    assert_same_bits(contract(_words(a), _words(b), acc=raw(acc)), want, note="words")


def _edges() -> dict[str, tuple[int, int, int]]:
    """Shapes (m, k, n) on both sides of every limit at which `chain` takes another road.

    The limits are read from where they are, so that shapes move with them. Lengths are those of one turn, of the fewest
    turns that a loop has, and one beside.
    """
    few, many = (4, chain._FEW_SUMS // 4), (5, chain._FEW_SUMS // 5 + 1)
    fewest_rows, block, short = chain._FEWEST_ROWS, chain._BLOCK, chain._SHORT_VECTOR
    shapes = {}
    for rank, (m, n), size in ((chain._SHORT_RANK, few, "few"), (chain._RANK, many, "many")):
        fewest = chain._MIN_TURNS * rank
        for k in (1, rank - 1, rank, rank + 1, fewest - 1, fewest, fewest + 1):
            shapes[f"{k} of turns of {rank}"] = (m, k, n)
        for k in (chain._SHORT_LENGTH, chain._SHORT_LENGTH + 1):
            shapes[f"length {k}, {size} sums"] = (m, k, n)
    edges = ((fewest_rows - 1, block + 1), (fewest_rows, block), (fewest_rows, block + 1))
    for m, n in (*edges, (block + 1, short), (block + 1, short - 1)):
        shapes[f"rows and blocks {m} x {n}"] = (m, 3, n)
    shapes[f"blocks {block} x {block}"] = (block, 1, block)  # one more on either axis: test_blocks_and_ranges
    for m, n in ((short, short - 1), (short - 1, short - 1), (short - 1, short - 2), (short, short)):
        shapes[f"vectors {m} x {n}"] = (m, 9, n)
    enough = 2 * chain._WORK_TO_LOOK  # of a square face
    for m in (enough - 1, enough):
        shapes[f"work {m} x {enough}"] = (m, 2, enough)
    return shapes


EDGES = _edges()
LATER = (
    "length 65, few",
    "length 64, many",
    "3 of",
    "4 of",
    "8 of",
    "16 of",
    "31 of",
    "32 of",
    "x 15",
    "x 512",
    "127 x",
)
CHOSEN = [pytest.param(e, marks=pytest.mark.full if any(part in e for part in LATER) else ()) for e in EDGES]


def test_edges_lie_on_both_sides_of_every_limit():
    """What the roads are chosen by, written down again; a limit that none of the shapes straddles would go unseen."""
    choices = {
        "short turns": {k <= 64 and m * n <= 1024 for m, k, n in EDGES.values()},
        "of few sums alone": {m * n <= 1024 for m, k, n in EDGES.values() if k <= 64},
        "of a short length alone": {k <= 64 for m, k, n in EDGES.values() if m * n <= 1024},
        "one turn, padded to two": {k <= 16 for m, k, n in EDGES.values() if m * n > 1024},
        "one short turn, padded to two": {k <= 4 for m, k, n in EDGES.values() if m * n <= 1024},
        "blocks": {m >= 24 and max(m, n) > 512 for m, k, n in EDGES.values()},
        "blocks by rows alone": {m >= 24 for m, k, n in EDGES.values() if n > 512},
        "turned around": {n < 16 and n < m for m, k, n in EDGES.values()},
        "turned around by rows alone": {n < m for m, k, n in EDGES.values() if n == 15},
        "looked at": {m * n >= 64 * (m + n) for m, k, n in EDGES.values()},
    }
    assert {name for name, sides in choices.items() if sides != {False, True}} == set()
    assert any(m * n == 1024 for m, _, n in EDGES.values()) and any(m * n == 1025 for m, _, n in EDGES.values())
    assert any(m * n == 64 * (m + n) for m, _, n in EDGES.values())


@pytest.mark.parametrize("name", CHOSEN)
def test_both_sides_of_every_limit(name: str, rng: np.random.Generator):
    """Numbers near one, where every product counts, and tiny ones; carriers of FP32, words, and both as constants."""
    m, k, n = EDGES[name]
    carriers, words = jax.jit(contract), jax.jit(contract)
    for limits in ((-3, 3), (-70, -58)):
        a, b = _bf16(_patterns(rng, (m, k), *limits)), _bf16(_patterns(rng, (k, n), *limits))
        assert_same_bits(words(_words(a), _words(b)), sf.contract(a, b), note=f"words {limits}")
        a, b = (x | rng.integers(0, 1 << 16, x.shape).astype(np.uint32) for x in (a, b))
        want = sf.contract(a, b)
        assert_same_bits(carriers(raw(a), raw(b)), want, note=f"carriers {limits}")
    if k <= chain._RANK:
        folded = jax.jit(lambda: contract(jnp.asarray(raw(a)), jnp.asarray(raw(b))))
        assert_same_bits(folded(), want, note="constants")


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
        (np.inf, False),
        (np.nan, False),
    ],
)
def test_the_guard_of_the_fast_road(value: float, moderate: bool):
    word = _words(np.float32(value).view(np.uint32).reshape(1))
    read = np.asarray(chain._moderate(jnp.asarray(word)))
    assert (read == word).all() if moderate else np.isnan(np.asarray(chain.widen(jnp.asarray(read)))).all()


@pytest.mark.parametrize("place", [(0, 0), (129, 16), (64, 5)], ids=str)
@pytest.mark.parametrize("is_left", [True, False], ids=["a", "b"])
def test_one_stray_of_either_operand_is_met(is_left: bool, place: tuple[int, int], rng: np.random.Generator):
    """Its products are flushed, where a fused step would add them to the smallest of sums."""
    stray, other = _bf16(_patterns(rng, (130, 17), -3, 3)), _bf16(_patterns(rng, (17, 130), -56, -53))
    stray[place[0]] = 0
    stray[place] = np.float32(1.5 * 2.0**-74).view(np.uint32)
    acc = np.full((130, 130), np.float32(2.0**-126).view(np.uint32))
    a, b = (stray, other) if is_left else (other.T, stray.T)
    assert_same_bits(contract(_words(a), _words(b), acc=raw(acc)), sf.contract(a, b, acc=acc))


def test_moderate_products_have_one_result():
    """The claim behind the guard: no product overflows, and the last bit of the smallest is not below 2**-126."""
    edges = (np.uint32(chain._MODERATE_FROM), np.uint32(chain._MODERATE_TO) - 1)
    smallest, largest = (float(np.uint32(word << 16).view(np.float32)) for word in edges)
    assert largest * largest <= float(np.finfo(np.float32).max)
    assert smallest * smallest * 2.0**-14 >= 2.0**-126


@pytest.mark.parametrize("limits", [(-70, -50), (-3, 3), (55, 66)], ids=str)
def test_the_road_for_other_hardware(limits: tuple[int, int], rng: np.random.Generator):
    """Every step explicit: runs here too, where denormals reach it through constant folding alone."""
    a, b = _patterns(rng, (5, 32), *limits), _patterns(rng, (32, 7), *limits)
    road = jax.jit(chain._anywhere)
    for acc in (None, jnp.zeros((1, 5, 7), jnp.float32)):
        assert_same_bits(road(raw(a).T[None], raw(b)[None], acc)[0], sf.contract(a, b))


def test_blocks_of_several_products(rng: np.random.Generator):
    """Products that are a block each go one by one, and so does each block of larger ones."""
    for m, n in ((chain._BLOCK, chain._BLOCK), (chain._BLOCK + 8, chain._BLOCK + 8)):
        a, b = _bf16(_patterns(rng, (2, m, 2), -3, 3)), _bf16(_patterns(rng, (2, 2, n), -3, 3))
        assert_same_bits(contract(_words(a), _words(b)), sf.contract(a, b))


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
    text = jax.jit(jax.vmap(partial(contract, fmt=BF16), (0, None))).lower(a, b).compile().as_text()
    assert "conditional(" in text


# Rows and columns for each of four devices: short turns, in one direction or the other, longer ones, several blocks.
SHARED_OUT = ("1x8x16", "2x12x8", "8x64x4", "32x8x1", "1x64x16", "3x70x16", "20x33x40")
MORE = ("1x3x4", "1x8x128", "2x64x16", "8x12x8", "33x5x4", "4x100x4", "140x20x130")


@pytest.mark.parametrize("sizes", [SHARED_OUT, pytest.param(MORE, marks=pytest.mark.full)], ids=["few", "more"])
def test_what_the_compiler_shares_out_over_devices_has_the_same_bits(sizes):
    assert printed(start("tests.oracles.chain_on_devices", 4, *sizes)) == {}
