"""Threefry-2x32-20 against its published test vectors, against integers in NumPy, and against JAX's own generator."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from rdujax.base.errors import FormatError, ShapeError
from rdujax.numerics.threefry import threefry
from tests.oracles import harness
from tests.oracles import threefry_reference as reference
from tests.oracles.harness import assert_same_bits

# counter, key, words: the known answers that the authors publish with their library (20 rounds).
PUBLISHED = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counters", "key", "want"), PUBLISHED)
def test_published_vectors(counters, key, want):
    got = threefry(jnp.asarray(key, jnp.uint32), *(jnp.asarray(c, jnp.uint32) for c in counters))
    assert tuple(map(int, got)) == want == tuple(map(int, reference.words(key, *map(np.asarray, counters))))


ROADS: dict[str, Callable] = {
    "eager": harness.eager,
    "jit": harness.jit,
    "without_jit": harness.without_jit,
    "constants": harness.constants,
}


@pytest.mark.parametrize("road", ROADS)
def test_words_are_those_of_the_law(road: str, rng):
    key, first, second = (rng.integers(0, 2**32, shape, np.uint32) for shape in ((2,), (200,), (200,)))
    got = ROADS[road](lambda *operands: jnp.stack(threefry(*operands), axis=-1), key, first, second)
    assert_same_bits(got, np.stack(reference.words((int(key[0]), int(key[1])), first, second), axis=-1))


def test_words_are_those_of_another_library(rng):
    """JAX draws its random numbers with the same generator, written by others; it takes both halves in one array."""
    key, counters = rng.integers(0, 2**32, 2, np.uint32), rng.integers(0, 2**32, (2, 1 << 14), np.uint32)
    want = threefry_2x32(jnp.asarray(key), jnp.asarray(counters.reshape(-1))).reshape(2, -1)
    assert_same_bits(jnp.stack(jax.jit(threefry)(key, *counters)), np.asarray(want))


def test_keys_may_be_mapped_over(rng):
    keys, counters = rng.integers(0, 2**32, (3, 2), np.uint32), np.arange(5, dtype=np.uint32)
    got = jax.vmap(lambda key: threefry(key, counters, jnp.uint32(4))[1])(jnp.asarray(keys))
    want = [reference.words((int(a), int(b)), counters, np.full(5, 4))[1] for a, b in keys]
    assert_same_bits(got, np.stack(want))


def test_what_is_no_word_is_refused():
    word = jnp.zeros(2, jnp.uint32)
    with pytest.raises(FormatError, match=r"takes words\n  given:   uint32\[2\], int32\[\], uint32\[2\]"):
        threefry(word, jnp.int32(0), word)
    with pytest.raises(FormatError, match=r"uint32\[3\].*\n  allowed: a key uint32\[2\]"):
        threefry(jnp.zeros(3, jnp.uint32), word, word)
    with pytest.raises(ShapeError, match="do not broadcast"):
        threefry(word, word, jnp.zeros(3, jnp.uint32))
