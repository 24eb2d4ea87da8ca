"""A PCU checked against NumPy: sums in one order, loops of Python, a generator on wide integers, chains of PCUs.

The references use IEEE arithmetic of NumPy on values whose sums and products stay far from the smallest and the
largest numbers, where the laws of the machine and IEEE agree; the tests hold the rest against an integer softfloat.
"""

import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.units.row import Row, row
from rdujax.numerics.formats import BF16, FP32
from rdujax.streams import stream as streams
from rdujax.streams.layout import tiled
from rdujax.units.pcu import counters, lanes, parallel, tail
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.counters import Counter, Nest
from rdujax.units.pcu.lanes import Reducer
from rdujax.units.pcu.systolic import Fork
from rdujax.units.pcu.tail import Tail

LANES = 32


def rows(quick: bool) -> Iterator[Row]:
    """The rows of the unit; `quick` compares less."""
    size = 64 if quick else 256
    yield _row_sums(rows_=size, width=2048)
    yield _stochastic_rounding(size, 1024)
    yield _random_words(size * 1024)
    yield _loop_nest((size, 8, 8))
    yield _forked_contraction(size, k=256)


def _measured(run: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a compiled function gives, and the shortest of three runs in seconds."""
    compiled = jax.jit(run)
    result = jax.block_until_ready(compiled(*arguments))
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        best = min(best, time.perf_counter() - start)
    return result, best


def _differing(got: Any, want: np.ndarray) -> int:
    """How many 32-bit words differ."""
    found = np.asarray(got)
    assert found.shape == want.shape and found.dtype == want.dtype, (found.shape, want.shape, found.dtype, want.dtype)
    return int((found.view(np.uint32) != want.view(np.uint32)).sum())


def _row_sums(rows_: int, width: int) -> Row:
    x = np.random.default_rng(1).normal(size=(rows_, width)).astype(np.float32)

    def run(v: jax.Array) -> jax.Array:
        stream = streams.tile(v, (16, 8 * LANES), fmt=FP32)
        return streams.untile(lanes.reduce_rows(Reducer("sum", LANES), stream, how="vmap", tally=False)[0])

    got, seconds = _measured(run, x)
    want = x[:, :LANES].copy()
    for first in range(LANES, width, LANES):
        want = want + x[:, first : first + LANES]
    while want.shape[1] > 1:
        half = want.shape[1] // 2
        want = want[:, :half] + want[:, half:]
    checked = f"row sums of {width} FP32 over {LANES} lanes, cut in tiles, against NumPy's additions in that order"
    return row("pcu", checked, x.size, "values", _differing(got, want[:, 0]), x.size / seconds)


def _threefry(key: int, places: np.ndarray, draw: int) -> np.ndarray:
    """The law of the generator on unsigned integers of 64 bits, cut to 32 after every addition."""
    mask, k = np.uint64(0xFFFFFFFF), [np.uint64(key), np.uint64(0), np.uint64(key ^ 0x1BD11BDA)]
    x, y = (places.astype(np.uint64) + k[0]) & mask, np.full(places.shape, draw, np.uint64) + k[1]
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = (x + y) & mask
            y = ((y << np.uint64(rotation) | y >> np.uint64(32 - rotation)) & mask) ^ x
        x = (x + k[(group + 1) % 3]) & mask
        y = (y + k[(group + 2) % 3] + np.uint64(group + 1)) & mask
    return x.astype(np.uint32)


def _stochastic_rounding(rows_: int, columns: int) -> Row:
    x = np.random.default_rng(2).normal(size=(rows_, columns)).astype(np.float32)

    def run(v: jax.Array) -> jax.Array:
        stream = streams.tile(v, (16, columns), fmt=FP32)
        return streams.untile(tail.tail(Tail(BF16, rounding="stochastic"), tail.generator(7), stream, "vmap", False)[1])

    got, seconds = _measured(run, x)
    noise = _threefry(7, np.arange(x.size).reshape(x.shape), 0) & 0xFFFF
    want = ((x.view(np.uint32).astype(np.uint64) + noise) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    checked = "stochastic rounding of FP32 to BF16 with the words of a seed, against NumPy's integers"
    return row("pcu", checked, x.size, "values", _differing(got, want), x.size / seconds)


def _random_words(size: int) -> Row:
    def run(state: tail.Generator) -> jax.Array:
        return streams.untile(tail.draw(state, tiled((size,), (size // 8,)), how="vmap", tally=False)[1])

    got, seconds = _measured(run, tail.generator(11))
    mismatches = _differing(got, _threefry(11, np.arange(size), 0).view(np.int32))
    return row("pcu", "random words, against Threefry-2x32-20 in NumPy", size, "words", mismatches, size / seconds)


def _loop_nest(lengths: tuple[int, ...]) -> Row:
    nest = Nest(tuple(Counter() for _ in lengths))  # the stops arrive as scalars
    turns = int(np.prod(lengths))
    stops = [jnp.int32(length) for length in lengths]
    (got, counts), seconds = _measured(lambda scalars: counters.run(nest, turns, scalars), stops)
    indices = np.array(list(product(*map(range, lengths))), np.int32)
    done = [(indices[:, i:] == np.array(lengths[i:]) - 1).all(axis=1) for i in range(len(lengths))]
    wrong = (np.asarray(got.indices) != indices).any(axis=1) | (np.asarray(got.done) != np.stack(done, 1)).any(axis=1)
    wrong |= np.asarray(counts["pcu.events"]) != np.stack(done, 1).sum(axis=1)
    return row(
        "pcu", "counters and their events, against loops in Python", turns, "cycles", int(wrong.sum()), turns / seconds
    )


def _forked_contraction(size: int, k: int) -> Row:
    rng = np.random.default_rng(3)
    words = [rng.normal(size=shape).astype(np.float32).view(np.uint32) for shape in ((size, k), (k, size))]
    a, b = ((w & 0xFFFF0000).view(np.float32) for w in words)
    config = Contraction((1,), (0,), k_splits=4)

    def run(x: jax.Array, y: jax.Array) -> jax.Array:
        left, right = streams.tile(x, (size // 2, k), fmt=BF16), streams.tile(y, (k, size), fmt=BF16)
        out = tiled((size, size), (size // 2, size))
        return streams.untile(parallel.tensor_parallel(config, Fork(2, 1, 4), left, right, out, FP32, "vmap")[0])

    got, seconds = _measured(run, jnp.asarray(a), jnp.asarray(b))
    want = None
    for first in range(0, k, k // 4):
        segment = np.zeros((size, size), np.float32)
        for i in range(first, first + k // 4):
            segment = segment + a[:, i, None] * b[None, i]
        want = segment if want is None else want + segment
    assert want is not None
    checked = f"a contraction over K = {k} on 8 PCUs, K in 4 segments, against NumPy's sums in that order"
    return row("pcu", checked, size * size, "outputs", _differing(got, want), size * size / seconds)
