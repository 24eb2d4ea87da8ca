"""The systolic contraction (N8) against the softfloat chain over k: 0 differing bits for every shape, kind and road."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics.contract import contract
from tests.oracles import harness, vectors
from tests.oracles import softfloat as sf
from tests.oracles.harness import assert_same_bits, in_full, raw

# A turn of the loop takes 4 values up to a length of 64, as long as the face is small; 16 otherwise.
LENGTHS = (1, 2, 7, 8, 9, 31, 64, 65, 100)
FACES = ((1, 1), (1, 33), (5, 1), (3, 7), (16, 16), (17, 40))
EDGE = "roots of the smallest"
QUICK = [*((*FACES[i % len(FACES)], k) for i, k in enumerate(LENGTHS)), (32, 33, 17)]
REST = [(m, n, k) for m, n in FACES for k in LENGTHS if (m, n, k) not in QUICK]
SHAPES = QUICK + in_full(*REST)


def _operands(kind: str, m: int, n: int, k: int, *, batch: tuple[int, ...] = (), fmt: str = "fp32"):
    """Patterns a [*batch, m, k] and b [*batch, k, n]. Tiny times huge if k is odd; -0 times +0 if it is even."""
    partner = "huge" if kind == "tiny" and k % 2 else kind
    cut = getattr(vectors, fmt)
    a = cut(vectors.carriers(kind, (*batch, m, k), seed=m + k))
    b = cut(vectors.carriers(partner, (*batch, k, n), seed=1000 + n + k))
    return a, np.zeros_like(b) if kind == "negative zeros" and k % 2 == 0 else b


def _windows(m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Products on the flush window of N3: a holds first factors, b the partners of row 0."""
    x, y = vectors.flush_window(np.random.default_rng(m + n + k), m * k + k * n)
    return vectors.fp32(np.resize(x, (m, k))), vectors.fp32(np.resize(y, (k, n)))


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_shapes_and_kinds(m: int, n: int, k: int):
    """Every kind of BF16 and FP32 carriers, through one compiled function per shape."""
    op = jax.jit(contract)
    for kind in vectors.KINDS:
        for fmt in ("bf16", "fp32"):
            a, b = _operands(kind, m, n, k, fmt=fmt)
            assert_same_bits(op(raw(a), raw(b)), sf.contract(a, b), note=f"{kind} {fmt}")
    a, b = _windows(m, n, k)
    assert_same_bits(op(raw(a), raw(b)), sf.contract(a, b), note="flush window")


def test_flush_window_of_single_products():
    """K = 1 and M = N = 1 in a batch: each pair of the window is one output."""
    x, y = map(vectors.fp32, vectors.flush_window(np.random.default_rng(7), 1 << 12))
    a, b = x[:, None, None], y[:, None, None]
    want = sf.add(np.uint32(0), sf.mul(x, y))[:, None, None]
    for mode in (harness.jit, harness.eager, harness.constants, harness.last_constant, harness.vmap):
        assert_same_bits(mode(contract, raw(a), raw(b)), want, a, b, note=mode.__name__)


def _scan(op, a: np.ndarray, b: np.ndarray) -> jax.Array:
    return jax.jit(lambda ab: jax.lax.scan(lambda carry, row: (carry, op(*row)), 0, ab)[1])((a, b))


ROADS = {
    "eager": harness.eager,
    "without_jit": harness.without_jit,
    "constants": harness.constants,
    "first_constant": harness.first_constant,
    "last_constant": harness.last_constant,
    "vmap": lambda op, a, b: jax.jit(jax.vmap(op))(a, b),
    "eager vmap": lambda op, a, b: jax.vmap(op)(a, b),
    "scan": _scan,
}


@pytest.mark.parametrize("k", [4, *in_full(1, 2, 33)])
@pytest.mark.parametrize("road", ROADS)
def test_roads(road: str, k: int):
    """The same bits however XLA meets the operands; a loop that might be one trip (K <= 4) is the treacherous one."""
    for kind, fmt in (("normal", "bf16"), ("bits", "fp32"), ("negative zeros", "fp32"), (EDGE, "fp32")):
        a, b = _operands(kind, 5, 9, k, batch=(3,), fmt=fmt)
        assert_same_bits(ROADS[road](contract, raw(a), raw(b)), sf.contract(a, b), note=f"{kind} {fmt}")


@pytest.mark.parametrize("k", [16, *in_full(7, 50)])
def test_batch_axes(k: int):
    """No, one and two leading axes; a batch of one; batching of one operand only, over any axis."""
    for batch in ((), (1,), (4,), (2, 3)):
        a, b = _operands("bits", 4, 6, k, batch=batch)
        assert_same_bits(jax.jit(contract)(raw(a), raw(b)), sf.contract(a, b), note=str(batch))
    a, b = _operands("normal", 4, 6, k, batch=(5,))
    shared = jax.jit(jax.vmap(contract, in_axes=(0, None)))(raw(a), raw(b[0]))
    assert_same_bits(shared, sf.contract(a, b[:1]), note="b shared")
    shared = jax.jit(jax.vmap(contract, in_axes=(None, 0)))(raw(a[0]), raw(b))
    assert_same_bits(shared, sf.contract(a[:1], b), note="a shared")
    moved = jax.jit(jax.vmap(contract, in_axes=(2, 1), out_axes=1))(
        raw(np.moveaxis(a, 0, 2)), raw(np.moveaxis(b, 0, 1))
    )
    assert_same_bits(moved, np.moveaxis(sf.contract(a, b), 0, 1), note="inner batch axes")


@pytest.mark.parametrize("k", [64, *in_full(15, 100)])
def test_slices(k: int):
    """Rows, columns and blocks alone equal those of the whole: the bits do not depend on M, N or the batch."""
    a, b = _operands("normal", 33, 48, k)
    whole = sf.contract(a, b)
    op = jax.jit(contract)
    for rows, columns in (
        ((0, 33), (0, 48)),
        ((7, 8), (0, 48)),
        ((0, 33), (13, 14)),
        ((2, 5), (3, 20)),
        ((0, 1), (0, 1)),
    ):
        part = op(raw(a[slice(*rows)]), raw(b[:, slice(*columns)]))
        assert_same_bits(part, whole[slice(*rows), slice(*columns)], note=f"{rows} {columns}")


@pytest.mark.parametrize("k", [35, *in_full(1, 16)])
def test_words_at_rest(k: int):
    """uint16 words for either operand or both give the bits of the carriers."""
    for kind in ("normal", "bits", EDGE):
        a, b = _operands(kind, 6, 18, k, batch=(2,), fmt="bf16")
        want = sf.contract(a, b)
        words = [(v >> 16).astype(np.uint16) for v in (a, b)]
        for left, right in ((words[0], raw(b)), (raw(a), words[1]), tuple(words)):
            assert_same_bits(jax.jit(contract)(left, right), want, note=f"{kind} batch")
            assert_same_bits(jax.jit(contract)(left[0], right[0]), want[0], note=kind)
    for left, right in ((words[0], raw(b)), (raw(a), words[1])):
        assert_same_bits(harness.last_constant(contract, left[0], right[0]), want[0], note="constant")


@pytest.mark.parametrize("tile", [5, 16, *in_full(1, 24)])
def test_continuing_an_accumulator(tile: int):
    """k-tiles one after another, each continuing the last sum, are one call; also from any first accumulator."""
    k = 48
    for kind in ("normal", "bits", EDGE, "negative zeros"):
        a, b = _operands(kind, 3, 10, k)
        acc = vectors.carriers(kind, (3, 10), seed=5)
        op = jax.jit(lambda p, q, acc: contract(p, q, acc=acc))
        assert_same_bits(op(raw(a), raw(b), raw(acc)), sf.contract(a, b, acc=acc), note=f"{kind} acc")
        total = jnp.zeros((3, 10), jnp.float32)
        for start in range(0, k, tile):
            total = op(raw(a[:, start : start + tile]), raw(b[start : start + tile]), total)
        assert_same_bits(total, sf.contract(a, b), note=f"{kind} tiles of {tile}")
        assert_same_bits(total, harness.patterns(jax.jit(contract)(raw(a), raw(b))), note=f"{kind} one call")


def test_tiles_in_a_scan():
    """The accumulator as the carry of a loop over k-tiles."""
    a, b = _operands("normal", 4, 8, 60)
    tiles = (raw(a.reshape(4, 5, 12).swapaxes(0, 1)), raw(b.reshape(5, 12, 8)))
    step = lambda acc, ab: (contract(*ab, acc=acc), None)  # noqa: E731
    got = jax.jit(lambda ab: jax.lax.scan(step, jnp.zeros((4, 8), jnp.float32), ab)[0])(tiles)
    assert_same_bits(got, sf.contract(a, b))


def _segments(k: int, splits: int) -> tuple[int, ...]:
    size = -(-k // splits)
    return tuple(min(size, k - start) for start in range(0, k, size))


@pytest.mark.parametrize(
    ("k", "splits"),
    [(7, 7), (16, 3), (33, 1), (33, 7), (100, 2), *in_full(*((k, s) for k in (7, 16, 33, 100) for s in (1, 2, 3, 7)))],
)
def test_k_splits(k: int, splits: int):
    """Declared segments, each a chain from +0, then the partial sums as a chain."""
    op = jax.jit(partial(contract, k_splits=splits))
    for kind in vectors.KINDS:
        a, b = _operands(kind, 5, 11, k)
        want = sf.contract(a, b, segments=_segments(k, splits))
        assert_same_bits(op(raw(a), raw(b)), want, note=kind)
    a, b = _operands("normal", 5, 11, k, batch=(2,), fmt="bf16")
    want = sf.contract(a, b, segments=_segments(k, splits))
    words = (b >> 16).astype(np.uint16)
    assert_same_bits(op(raw(a), words), want, note="batch, words")
    assert_same_bits(jax.vmap(op)(raw(a), words), want, note="vmap, words")
    assert_same_bits(harness.constants(op, raw(a), raw(b)), want, note="constants")


def test_splits_are_visible_in_the_bits():
    """On ordinary data a split does change the result: the test above compares different things."""
    a, b = _operands("normal", 8, 8, 100)
    results = {splits: harness.patterns(contract(raw(a), raw(b), k_splits=splits)) for splits in (1, 2, 3, 7)}
    assert all((results[1] != results[s]).any() for s in (2, 3, 7))


@pytest.mark.full
@pytest.mark.parametrize(("m", "n", "k"), [(1, 512, 1024), (8, 300, 700), (64, 130, 515), (257, 129, 128)])
def test_large(m: int, n: int, k: int):
    """Shapes at which a kernel blocks its output or changes its path."""
    for kind in ("normal", "specials", "tiny"):
        a, b = _operands(kind, m, n, k, fmt="bf16")
        want = sf.contract(a, b)
        words = (b >> 16).astype(np.uint16)
        assert_same_bits(jax.jit(contract)(raw(a), raw(b)), want, note=kind)
        assert_same_bits(jax.jit(contract)(raw(a), words), want, note=f"{kind} words")


@pytest.mark.parametrize("k", [8, 16, 96])
@pytest.mark.parametrize("words", [False, True])
def test_compiled_without_a_library_dot(k: int, words: bool):
    """The compiled program multiplies and adds itself: no dot and no library call that chooses its own order."""
    a, b = np.ones((32, k), np.float32), np.ones((k, 64), np.uint16 if words else np.float32)
    text = jax.jit(contract).lower(a, b).compile().as_text()
    assert re.search(r"\bmultiply\(", text) and re.search(r"\bminimum\(", text)
    assert not re.search(r"\b(dot|convolution|custom-call)\(", text)
    assert "ynn" not in text.lower() and "onednn" not in text.lower()
