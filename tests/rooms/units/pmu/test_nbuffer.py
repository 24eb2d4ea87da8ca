"""N-buffers: tokens against a queue in Python, poison ahead of the writer, capacity, banks of their own."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import tiny
from rdujax.numerics.formats import FORMATS, FP32, INT32
from rdujax.streams.stream import POISON
from rdujax.units.pmu import banks, nbuffer, scratchpad
from rdujax.units.pmu.nbuffer import NBuffer
from tests.oracles.harness import patterns
from tests.rooms.units.streams_of import carriers

CONFIG = tiny().replace({"pmu.capacity_bytes": 256}).pmu
BY_ROWS = np.arange(8, dtype=np.int32).reshape(4, 2)
BY_COLUMNS = BY_ROWS.reshape(4, 2).T.reshape(4, 2)
FORMS = [fmt for _, fmt in FORMATS.items()]


def buffer_of(slots: int, fmt=FP32, banking=None) -> NBuffer:
    return NBuffer(scratchpad.pad(CONFIG, fmt, banking), slots, 8)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_tokens_and_values_are_those_of_a_queue(rng, slots):
    """Sixty random turns in one loop: a write, a read, or a read that keeps the slot; many are refused."""
    buffer = buffer_of(slots, INT32)
    tiles = carriers(rng, (60, 4, 2), INT32)
    actions = rng.integers(0, 3, 60).astype(np.int32)

    def turn(state, each):
        action, tile = each
        nothing = jnp.full((4, 2), POISON[INT32])

        def write(state):
            state, accepted, counts = nbuffer.write(buffer, state, BY_ROWS, tile)
            return state, nothing, accepted, counts + none

        def read(release):
            def run(state):
                state, got, ready, counts = nbuffer.read(buffer, state, BY_COLUMNS, release=release)
                return state, got, ready, counts + none

            return run

        zero = jnp.zeros((), jnp.int32)
        names = "written_bytes read_bytes addresses bank_cycles conflict_cycles unwritten_reads".split()
        none = Counts({f"pmu.{name}": zero for name in names})
        state, got, token, counts = jax.lax.switch(action, [write, read(True), read(False)], state)
        return state, (got, token, counts)

    start = nbuffer.init(buffer)
    end, (got, tokens, counts) = jax.jit(lambda: jax.lax.scan(turn, start, (actions, tiles)))()
    queue, refused = deque(), 0
    for i, (action, tile) in enumerate(zip(actions, tiles, strict=True)):
        want, token = np.full((4, 2), POISON[INT32]), len(queue) < slots if action == 0 else bool(queue)
        if token and action == 0:
            queue.append(tile)
        elif token:
            want = queue[0].reshape(-1)[BY_COLUMNS]
            if action == 1:
                queue.popleft()
        refused += not token
        assert (bool(tokens[i]), got[i].tolist()) == (token, want.tolist()), i
        assert int(counts["pmu.addresses"][i]) == 4 * token
    assert refused > 5 and total(counts)["pmu.unwritten_reads"] == 0 and int(end.full) == len(queue)


@pytest.mark.parametrize("fmt", FORMS, ids=str)
def test_a_reader_ahead_of_the_writer_finds_poison(rng, fmt):
    buffer, tile = buffer_of(2, fmt), carriers(rng, (4, 2), fmt)
    poison = patterns(np.full((4, 2), POISON[fmt], fmt.carrier))
    state, early, ready, counts = nbuffer.read(buffer, nbuffer.init(buffer), BY_ROWS)
    assert not ready and np.array_equal(patterns(early), poison) and not any(total(counts).values())
    state, accepted, _ = nbuffer.write(buffer, state, BY_ROWS, jnp.asarray(tile))
    state, got, ready, _ = nbuffer.read(buffer, state, BY_ROWS)
    assert accepted and ready and np.array_equal(patterns(got), patterns(tile))
    _, again, ready, _ = nbuffer.read(buffer, state, BY_ROWS)
    assert not ready and np.array_equal(patterns(again), poison)
    assert np.array_equal(patterns(state.memory.data), np.broadcast_to(poison[0, 0], buffer.pad.elements))
    assert not state.memory.written.any()


def test_half_a_tile_leaves_the_other_half_unwritten(rng):
    buffer, tile = buffer_of(2), carriers(rng, (4, 2), FP32)
    valid = np.arange(8).reshape(4, 2) < 5
    state, _, counts = nbuffer.write(buffer, nbuffer.init(buffer), BY_ROWS, jnp.asarray(tile), valid)
    _, got, _, read = nbuffer.read(buffer, state, BY_ROWS)
    assert np.array_equal(got, np.where(valid, tile, np.nan), equal_nan=True)
    assert total(counts)["pmu.written_bytes"] == 20 and total(read)["pmu.unwritten_reads"] == 3


def test_slots_fill_the_pmu_and_no_more():
    pad = scratchpad.pad(CONFIG, FP32)
    NBuffer(pad, 8, 8)
    with pytest.raises(CapacityError, match="9 slots of 32 bytes, 288 in all\n.*256 bytes"):
        NBuffer(pad, 9, 8)
    for slots, elements in ((0, 8), (2, 0)):
        with pytest.raises(ArgumentError, match="1 slot and element or more"):
            NBuffer(pad, slots, elements)


def test_addresses_stay_within_their_slot():
    buffer = buffer_of(2)
    with pytest.raises(ArgumentError, match="the first 8\n.*0 to 7\n.*a slot of 8 elements"):
        nbuffer.write(buffer, nbuffer.init(buffer), BY_ROWS + 1, jnp.ones((4, 2)))
    with pytest.raises(ArgumentError, match="the first -1"):
        nbuffer.read(buffer, nbuffer.init(buffer), BY_ROWS - 1)


@pytest.mark.parametrize("fmt", FORMS, ids=str)
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_addresses_that_only_the_program_knows_stay_within_their_slot_too(rng, jitted, fmt):
    """Slot 0 is full; below and above it lie other slots, beyond INT32 the memory begins again."""
    buffer, tile = buffer_of(3, fmt), carriers(rng, (4, 2), fmt)
    write, read = (
        jax.jit(lambda *args, f=f: f(buffer, *args)) if jitted else (lambda *args, f=f: f(buffer, *args))
        for f in (nbuffer.write, nbuffer.read)
    )
    state, _, _ = nbuffer.write(buffer, nbuffer.init(buffer), BY_ROWS, jnp.asarray(tile))
    astray = jnp.asarray([[-2, -1], [8, 9], [2**31 - 1, -(2**31)], [0, 7]], jnp.int32)
    values = carriers(rng, (4, 2), fmt)
    full, accepted, counts = write(state, astray, jnp.asarray(values))
    assert accepted and total(counts)["pmu.written_bytes"] == 2 * fmt.width_bytes
    memory, want = patterns(full.memory.data), patterns(np.full(buffer.pad.elements, POISON[fmt], fmt.carrier))
    want[:8], want[[8, 15]] = patterns(tile).ravel(), patterns(values)[3]
    assert np.array_equal(memory, want) and np.flatnonzero(full.memory.written).tolist() == [*range(9), 15]
    _, got, ready, counts = read(full, astray)
    want = patterns(np.full((4, 2), POISON[fmt], fmt.carrier))
    want[3] = patterns(tile).ravel()[[0, 7]]
    assert ready and np.array_equal(patterns(got), want) and total(counts)["pmu.unwritten_reads"] == 6


def test_validity_that_only_the_program_knows_opens_no_slot():
    """The addresses are NumPy's and go unrefused, since the program may drop them; those it keeps are dropped here."""
    buffer = buffer_of(2, INT32)
    state, _, _ = nbuffer.write(buffer, nbuffer.init(buffer), BY_ROWS, jnp.ones((4, 2), jnp.int32))
    state, _, _ = nbuffer.write(buffer, state, BY_ROWS - 4, jnp.full((4, 2), 7), jnp.ones((4, 2), bool))
    assert state.memory.data[:8].tolist() == [1] * 8 and state.memory.data[8:12].tolist() == [7] * 4


def test_slots_in_banks_of_their_own():
    """The two slots of a double buffer under `banks.halves`: no bank holds words of both."""
    buffer = buffer_of(2, FP32, banks.halves(banks.geometry(CONFIG), 8))
    words = np.arange(16, dtype=np.int32)
    of = np.asarray(banks.bank_of(buffer.pad.banking, jnp.asarray(words)))
    assert not set(of[:8]) & set(of[8:]) and len(set(of.tolist())) == 4


def test_derivatives_pass_from_writer_to_reader():
    buffer = buffer_of(2)

    def run(tiles):
        state = nbuffer.init(buffer)
        for tile in tiles:
            state, _, _ = nbuffer.write(buffer, state, BY_ROWS, tile)
        state, first, _, _ = nbuffer.read(buffer, state, BY_COLUMNS)
        _, second, _, _ = nbuffer.read(buffer, state, BY_ROWS)
        return (first * first).sum() + 3 * second[1, 0]

    tiles = jnp.arange(24.0).reshape(3, 4, 2)
    slope = jax.jit(jax.grad(run))(tiles)
    want = np.zeros((3, 4, 2), np.float32)
    want[0] = 2 * np.arange(8).reshape(4, 2)
    want[1, 1, 0] = 3  # the third tile found no free slot
    assert np.array_equal(slope, want)
