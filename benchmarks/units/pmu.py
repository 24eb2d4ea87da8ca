"""The PMU: transposes, gathers, scatters and bank cycles of the SN40L's facts against NumPy, vector by vector."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._timing import compiled, race
from benchmarks.units.row import Row, row
from rdujax.ledger.counts import total
from rdujax.machines import sn40l
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.units.pmu import address, alignment, banks, parts, scratchpad

CONFIG = sn40l().pmu


def rows(quick: bool) -> Iterator[Row]:
    """The rows of `./scripts/bench units pmu`."""
    rng = np.random.default_rng(11)
    for fmt in (BF16, FP32):
        yield transposed(rng, fmt, 128 if quick else 256)
    yield in_four_pmus(rng, 256 if quick else 1024)
    yield scattered_and_gathered(rng, 1 << 10 if quick else 1 << 13)
    yield conflicts(rng, 1 << 10 if quick else 1 << 14)
    yield side_by_side(rng, 1 << 10 if quick else 1 << 12)


def timed(run: Callable[..., Any], *operands: np.ndarray) -> tuple[Any, float]:
    """What the compiled function returns, and its shortest time in seconds."""
    contestant = compiled(run, *map(jnp.asarray, operands))
    return contestant.run(*contestant.arguments), race({"it": contestant}, rounds=3)["it"]


def differing(got: jax.Array, want: np.ndarray) -> int:
    """Vectors (rows of the last axis) whose bits are not those wanted."""
    unequal = np.asarray(got).view(np.uint32) != np.ascontiguousarray(want).view(np.uint32)
    return int(unequal.any(axis=-1).sum())


def transposed(rng: np.random.Generator, fmt: Format, size: int) -> Row:
    """A striped matrix in one PMU, written by rows and read by columns: bits, and no cycle lost to a conflict."""
    pad = scratchpad.pad(CONFIG, fmt)
    stripe = alignment.stripe(banks.geometry(CONFIG), fmt, size, size)

    def run(x: jax.Array) -> Any:
        at, valid = address.vectors(stripe.by_rows())
        state, written = scratchpad.write(pad, scratchpad.init(pad), at, stripe.vectors_of(x), valid)
        vectors, read = scratchpad.read(pad, state, *address.vectors(stripe.by_columns()))
        return stripe.columns_of(vectors), written + read

    x = rng.integers(-128, 128, (size, size)).astype(np.float32)
    (got, counts), seconds = timed(run, x)
    vectors = 2 * size * size // pad.lanes
    extra = total(counts)["pmu.bank_cycles"] - vectors
    checked = f"{size} x {size} {fmt} striped, written by rows and read by columns at full rate, against NumPy"
    return row("pmu", checked, vectors, "vectors", differing(got, x.T) + abs(int(extra)), vectors / seconds)


def in_four_pmus(rng: np.random.Generator, size: int) -> Row:
    """Figure 4: a BF16 matrix split over four PMUs, read by columns and joined, against NumPy."""
    pad = scratchpad.pad(CONFIG, BF16)
    stripe = alignment.stripe(banks.geometry(CONFIG), BF16, size, size)

    def run(x: jax.Array) -> Any:
        written = [address.vectors(part) for part in parts.split(stripe.by_rows(), 4, stripe.elements // 4)]
        read = [address.vectors(part) for part in parts.split(stripe.by_columns(), 4, stripe.elements // 4)]
        states, _ = parts.write(pad, [scratchpad.init(pad)] * 4, written, stripe.vectors_of(x))
        vectors, counts = parts.read(pad, states, read)
        return stripe.columns_of(vectors), counts

    x = rng.integers(-128, 128, (size, size)).astype(np.float32)
    (got, counts), seconds = timed(run, x)
    waited = sum(int(total(each)["pmu.conflict_cycles"]) for each in counts)
    vectors = 2 * size * size // pad.lanes
    checked = f"{size} x {size} bf16 split over four PMUs and read transposed, against NumPy"
    return row("pmu", checked, vectors, "vectors", differing(got, x.T) + waited, vectors / seconds)


def scattered_and_gathered(rng: np.random.Generator, count: int) -> Row:
    """Random scatters with collisions, then random gathers, against NumPy's assignment in order of arrival."""
    pad = scratchpad.pad(CONFIG, FP32)
    to, at = rng.integers(0, pad.elements, (2, count, pad.lanes)).astype(np.int32)
    x = rng.normal(size=to.shape).astype(np.float32)

    def run(to: jax.Array, x: jax.Array, at: jax.Array) -> Any:
        state, _ = scratchpad.write(pad, scratchpad.init(pad), to, x, own=True)
        return scratchpad.read(pad, state, at, own=True)

    (got, _), seconds = timed(run, to, x, at)
    memory = np.full(pad.elements, 0x7FC00000, np.uint32).view(np.float32)
    for places, values in zip(to, x, strict=True):
        for place, value in zip(places, values, strict=True):
            memory[place] = value
    wrong = differing(got, memory[at])
    return row(
        "pmu", "scatter and gather of random lanes, against NumPy", 2 * count, "vectors", wrong, 2 * count / seconds
    )


def conflicts(rng: np.random.Generator, count: int) -> Row:
    """Cycles of the banks for random vectors, against a count of each vector's words by sets."""
    pad = scratchpad.pad(CONFIG, FP32)
    at = rng.integers(0, pad.elements, (count, pad.lanes)).astype(np.int32)
    words, everywhere = at // pad.word_elements, jnp.ones(at.shape, bool)
    got, seconds = timed(lambda words: banks.bank_cycles(pad.banking, (words, everywhere)), words)
    want = []
    for vector in words.tolist():
        each = [word % pad.geometry.banks for word in set(vector)]
        want.append(max(map(each.count, each)))
    wrong = int((np.asarray(got) != want).sum())
    return row("pmu", "bank cycles of random vectors, against sets", count, "vectors", wrong, count / seconds)


def side_by_side(rng: np.random.Generator, turns: int) -> Row:
    """A read and a write stream in the halves of a double buffer, turn by turn: values, and one cycle a turn."""
    of = banks.geometry(CONFIG)
    pad = scratchpad.pad(CONFIG, FP32, banks.halves(of, of.words // 2))
    half = pad.elements // 2
    lane, everywhere = np.arange(pad.lanes, dtype=np.int32), np.ones((turns, pad.lanes), bool)
    to, at = rng.integers(0, half // pad.lanes, (2, turns, 1)).astype(np.int32) * pad.lanes + lane
    full = np.arange(half, dtype=np.int32).reshape(-1, pad.lanes)
    x, held = rng.normal(size=to.shape).astype(np.float32), rng.normal(size=full.shape).astype(np.float32)

    def run(x: jax.Array, held: jax.Array) -> Any:
        state, _ = scratchpad.write(pad, scratchpad.init(pad), full + half, held)
        _, got, counts = scratchpad.together(pad, state, (to, x, everywhere), (at + half, everywhere))
        return got, counts

    (got, counts), seconds = timed(run, x, held)
    slow = int((np.asarray(counts["pmu.bank_cycles"]) != 1).sum())
    wrong = differing(got, held.reshape(-1)[at]) + slow
    return row("pmu", "a read and a write stream in two halves, turn by turn", turns, "cycles", wrong, turns / seconds)
