"""The PMU in its parts: a striped transpose, a scatter and a gather with collisions, a tensor in two PMUs, a buffer."""

import jax.numpy as jnp
import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.units.pmu import address, aligned, alignment, banks, nbuffer, parts, scratchpad
from rdujax.units.pmu.address import Generator, Loop
from rdujax.units.pmu.expression import counter
from tests.laws.cases.case import Case
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers

CONFIG = tiny().pmu
POISON = np.uint32(0x7FC00000)


def cases(rng: np.random.Generator) -> list[Case]:
    """Small ones, on the tiny machine: 4 banks of 4-byte words, vectors of 8 bytes, 2 addresses per cycle."""
    return [transpose(rng), collisions(rng), two_pmus(rng), double_buffer(rng), aligned_reads(rng)]


def transpose(rng: np.random.Generator) -> Case:
    """6 x 8 BF16 values, two to a word, four to a vector: 12 vectors each way, none of which waits."""
    pad = scratchpad.pad(CONFIG, BF16)
    stripe = alignment.stripe(banks.geometry(CONFIG), BF16, 6, 8)
    x = carriers(rng, (6, 8), BF16)

    def run(x):
        rows, columns = address.static(stripe.by_rows()), address.static(stripe.by_columns())
        state, written = scratchpad.write(pad, scratchpad.init(pad), rows[0], stripe.vectors_of(x), rows[1])
        vectors, read = scratchpad.read(pad, state, *columns)
        return stripe.columns_of(vectors), written + read

    moved = {"pmu.written_bytes": 96, "pmu.read_bytes": 96, "pmu.addresses": 24, "pmu.bank_cycles": 24}
    return Case("striped transpose", run, (x,), patterns(x).T.copy(), Counts(moved))


def collisions(rng: np.random.Generator) -> Case:
    """Six values to five places, the last for a place stays; seven reads, of a place nobody wrote and of none."""
    pad = scratchpad.pad(CONFIG, FP32)
    to = np.asarray([[8, 3], [8, 12], [1, 8]], np.int32)
    at = np.asarray([[8, 3], [12, 12], [7, 1], [-1, 3]], np.int32)
    keep = np.asarray([[True, True], [True, True], [True, True], [True, False]])
    x = carriers(rng, (3, 2), FP32)

    def run(to, x, at, keep):
        state, written = scratchpad.write(pad, scratchpad.init(pad), to, x, own=True)
        values, read = scratchpad.read(pad, state, at, keep, own=True)
        return values, written + read

    bits = patterns(x)
    eight, three, twelve, one = bits[2, 1], bits[0, 1], bits[1, 1], bits[2, 0]
    want = np.asarray([[eight, three], [twelve, twelve], [POISON, one], [POISON, POISON]], np.uint32)
    # Words 8 and 12 lie in bank 0: the second vector takes two cycles. Its two equal reads share one access.
    moved = {"pmu.written_bytes": 24, "pmu.read_bytes": 24, "pmu.addresses": 6 + 7, "pmu.bank_cycles": 4 + 3}
    counts = Counts({**moved, "pmu.conflict_cycles": 1, "pmu.unwritten_reads": 2})
    return Case("scatter and gather", run, (to, x, at, keep), want, counts)


def two_pmus(rng: np.random.Generator) -> Case:
    """Eight vectors of INT32, every second one in the other PMU, read in reverse order."""
    pad = scratchpad.pad(CONFIG, INT32)
    forth = Generator((Loop(8, step=2), Loop(2)), counter(0) + counter(1))
    back = Generator((Loop(8, step=-2, start=14), Loop(2)), counter(0) + counter(1))
    x = carriers(rng, (8, 2), INT32)

    def run(x):
        written = [address.static(part) for part in parts.interleaved(forth, 2, pad.lanes)]
        read = [address.static(part) for part in parts.interleaved(back, 2, pad.lanes)]
        states, first = parts.write(pad, [scratchpad.init(pad)] * 2, written, x)
        values, second = parts.read(pad, states, read)
        return values, sum([*first, *second], Counts())

    moved = {"pmu.written_bytes": 64, "pmu.read_bytes": 64, "pmu.addresses": 32, "pmu.bank_cycles": 16}
    return Case("interleaved over two PMUs", run, (x,), x[::-1].copy(), Counts(moved))


def double_buffer(rng: np.random.Generator) -> Case:
    """Three writes into two slots: the third is refused; then three reads: the third finds poison."""
    buffer = nbuffer.NBuffer(scratchpad.pad(CONFIG, FP32), slots=2, slot_elements=4)
    at = np.arange(4, dtype=np.int32).reshape(2, 2)
    x = carriers(rng, (3, 2, 2), FP32)

    def run(x):
        state, tally, tokens, tiles = nbuffer.init(buffer), Counts(), [], []
        for i in range(3):
            state, token, counts = nbuffer.write(buffer, state, at, x[i])
            tally, tokens = tally + counts, [*tokens, token]
        for _ in range(3):
            state, tile, token, counts = nbuffer.read(buffer, state, at)
            tally, tokens, tiles = tally + counts, [*tokens, token], [*tiles, tile]
        return (jnp.stack(tiles), jnp.stack(tokens)), tally

    want = np.concatenate([patterns(x[:2]), np.full((1, 2, 2), POISON)])
    moved = {"pmu.written_bytes": 32, "pmu.read_bytes": 32, "pmu.addresses": 8, "pmu.bank_cycles": 8}
    return Case("double buffer", run, (x,), (want, np.asarray([True, True, False] * 2)), Counts(moved))


def aligned_reads(rng: np.random.Generator) -> Case:
    """Three vectors of two words: two that lie between them, all of them with their lanes swapped, and a look-up."""
    pad = scratchpad.pad(CONFIG, FP32)
    at = np.arange(6, dtype=np.int32).reshape(3, 2)
    x, asked = carriers(rng, (3, 2), FP32), np.asarray([[0, 4], [3, 4]], np.int32)

    def run(x, asked, offset):
        state, written = scratchpad.write(pad, scratchpad.init(pad), at, x)
        between, first = aligned.unaligned(pad, state, at, offset)
        swapped, second = aligned.permute(pad, state, at, (1, 0))
        found, third = aligned.lookup(pad, state, asked, 4, start=2)
        return (between, swapped, found), written + first + second + third

    bits = patterns(x)
    flat = bits.ravel()
    want = (
        flat[1:5].reshape(2, 2),
        bits[:, ::-1].copy(),
        np.asarray([[flat[2], POISON], [flat[5], POISON]], np.uint32),
    )
    # Written 3 vectors; read 2 as two accesses each, 3 swapped, and 2 whose lanes ask for 2 entries and 2 beyond.
    read = 4 * (4 + 6 + 2)
    moved = {"pmu.written_bytes": 24, "pmu.read_bytes": read, "pmu.addresses": 3 + 4 + 3 + 4, "pmu.bank_cycles": 12}
    return Case("aligned reads", run, (x, asked, np.int32(1)), want, Counts({**moved, "pmu.unwritten_reads": 2}))
