"""Aligned reads: values against NumPy, counts against predictions, prices against the vectors they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.streams.stream import POISON
from rdujax.units import pmu
from rdujax.units.pmu import aligned, scratchpad
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.units.compiles import compiled_by
from tests.rooms.units.streams_of import carriers

MACHINES = {"tiny": tiny().replace({"pmu.capacity_bytes": 1024}).pmu, "sn40l": sn40l().pmu}
each_machine = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def filled(rng, machine, fmt, vectors: int = 6):
    """A scratchpad, addresses of its first vectors, what they hold, and the memory."""
    pad = scratchpad.pad(machine, fmt)
    at = np.arange(vectors * pad.lanes, dtype=np.int32).reshape(vectors, pad.lanes)
    x = carriers(rng, at.shape, fmt)
    return pad, at, x, scratchpad.write(pad, scratchpad.init(pad), at, jnp.asarray(x))[0]


def cycles(machine, counts: Counts) -> int:
    """The price without the latency."""
    return pmu.price(machine, counts, 1) - machine.latency_cycles.value


@pytest.mark.parametrize("fmt", [BF16, INT32], ids=str)
@each_machine
def test_permuted_vectors_take_a_cycle_each(rng, machine, fmt):
    pad, at, x, state = filled(rng, machine, fmt)
    valid = rng.random(at.shape) < 0.7
    for lanes in (range(pad.lanes)[::-1], [0] * pad.lanes, [pad.lanes - 1]):
        got, counts = jax.jit(lambda s, v, lanes=lanes: aligned.permute(pad, s, at, lanes, v))(state, valid)
        poison = patterns(np.full(1, POISON[fmt], fmt.carrier))
        assert_same_bits(got, np.where(valid, patterns(x), poison)[:, list(lanes)])
        assert total(counts) == aligned.predict_permute(pad, at, lanes, valid)
        assert cycles(machine, aligned.predict_permute(pad, at, lanes)) == len(at)
    with pytest.raises(ArgumentError, match="lane permute"):
        aligned.predict_permute(pad, at, [pad.lanes])


@each_machine
def test_a_dilated_vector_leaves_through_the_port_with_its_filling(rng, machine):
    pad, at, x, state = filled(rng, machine, FP32)
    valid = rng.random(at.shape) < 0.7
    got, counts = aligned.dilate(pad, state, at, (2, 3), -1.0, valid)
    want = np.full((11, 3 * pad.lanes - 2), np.float32(-1))
    want[::2, ::3] = np.where(valid, x, np.nan)
    assert np.array_equal(got, want, equal_nan=True)
    assert total(counts) == aligned.predict_dilate(pad, at, (2, 3), valid)
    port_elements = machine.port_bytes_per_cycle.value // 4
    assert cycles(machine, aligned.predict_dilate(pad, at, (2, 3))) == -(-want.size // port_elements)
    assert aligned.predict_dilate(pad, at, (1, 1)) == scratchpad.predict(pad, "read", at)


@each_machine
def test_a_conversion_leaves_through_the_port_in_its_format(rng, machine):
    pad, at, x, state = filled(rng, machine, BF16)
    got, counts = aligned.cast(pad, state, at, FP32)
    assert_same_bits(got, patterns(x))
    assert total(counts) == aligned.predict_cast(pad, at, FP32)
    assert cycles(machine, total(counts)) == 2 * len(at)
    assert cycles(machine, aligned.predict_cast(pad, at, BF16)) == len(at)


@pytest.mark.parametrize("target", [BF16, FP32, INT32], ids=str)
@pytest.mark.parametrize("source", [BF16, FP32, INT32, BOOL], ids=str)
def test_poison_is_poison_after_a_conversion_too(source, target):
    """A NaN would become the INT32 0, the poison of INT32 a number, and a BOOL nobody wrote 0."""
    pad = scratchpad.pad(MACHINES["tiny"], source)
    at = np.asarray([[0, 1], [2, 3]], np.int32)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), at[:1], jnp.ones((1, 2), source.carrier))
    valid = np.asarray([[True, False], [True, True]])
    got, counts = aligned.cast(pad, state, at, target, valid)
    want = np.full((2, 2), POISON[target], target.carrier)
    want[0, 0] = 1
    assert got.dtype == target.carrier and np.array_equal(patterns(got), patterns(want))
    assert total(counts)["pmu.unwritten_reads"] == 2


@pytest.mark.parametrize("fmt", [BF16, FP32], ids=str)
@each_machine
def test_an_unaligned_vector_is_two_accesses(rng, machine, fmt):
    pad, at, x, state = filled(rng, machine, fmt)
    run = jax.jit(lambda s, offset: aligned.unaligned(pad, s, at, offset))
    flat, one = patterns(x).ravel(), len(at) - 1
    for offset in sorted({0, 1, pad.lanes // 2, pad.lanes - 1, pad.lanes}):
        want = flat[offset : offset + one * pad.lanes].reshape(one, -1)
        for got, counts in (run(state, jnp.int32(offset)), aligned.unaligned(pad, state, at, offset)):
            assert_same_bits(got, want)
            assert total(counts) == aligned.predict_unaligned(pad, at, offset)
        assert cycles(machine, total(counts)) == (one if offset in (0, pad.lanes) else 2 * one)
        assert counts["pmu.read_bytes"] == one * machine.port_bytes_per_cycle.value
    assert np.isnan(run(state, jnp.int32(-1))[0]).all() and np.isnan(run(state, jnp.int32(pad.lanes + 1))[0]).all()


def test_an_unaligned_vector_asks_for_its_own_lanes_only(rng):
    """The lanes before the first and after the last vector were never written, and nobody wants them."""
    pad = scratchpad.pad(MACHINES["tiny"], BF16)
    at = np.arange(12, dtype=np.int32).reshape(3, 4)
    wanted = (at >= 3) & (at < 11)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), at, jnp.ones((3, 4)), wanted)
    got, counts = aligned.unaligned(pad, state, at, 3)
    assert np.array_equal(got, np.ones((2, 4))) and total(counts)["pmu.unwritten_reads"] == 0
    _, counts = aligned.unaligned(pad, state, at, 2)
    assert total(counts)["pmu.unwritten_reads"] == 1
    got, counts = aligned.unaligned(pad, state, at, 3, at != 5)
    assert np.isnan(got).tolist() == (at[:2] + 3 == 5).tolist()
    assert total(counts) == aligned.predict_unaligned(pad, at, 3, at != 5)
    with pytest.raises(ShapeError, match="1 vectors"):
        aligned.unaligned(pad, state, at[:1], 3)
    with pytest.raises(ArgumentError, match="the first 512"):
        aligned.unaligned(pad, state, at + 504, 3)
    with pytest.raises(ShapeError, match="1 to 4"):
        aligned.unaligned(pad, state, at[0], 3)


@each_machine
def test_a_look_up_is_a_gather(rng, machine):
    pad, at, x, state = filled(rng, machine, FP32)
    entries = x.size - 8
    indices = rng.integers(0, entries, (5, pad.lanes)).astype(np.int32)
    got, counts = jax.jit(lambda s, i: aligned.lookup(pad, s, i, entries, start=8))(state, indices)
    assert_same_bits(got, patterns(x).ravel()[indices + 8])
    predicted = aligned.predict_lookup(pad, indices, entries, start=8)
    assert total(counts) == predicted == scratchpad.predict(pad, "read", indices + 8, own=True)
    a_vector = -(-pad.lanes // pad.addresses_per_cycle)
    assert cycles(machine, predicted) >= len(indices) * a_vector and a_vector == {2: 1, 16: 4}[pad.lanes]
    beyond = jnp.asarray([[-1, entries], [0, 2**31 - 1]], jnp.int32)
    got, counts = aligned.lookup(pad, state, beyond, entries, start=8)
    assert np.isnan(got).tolist() == [[True, True], [False, True]] and got[1, 0] == x.ravel()[8]
    assert total(counts)["pmu.unwritten_reads"] == 3
    with pytest.raises(ArgumentError, match=f"a table of {entries:,} entries"):
        aligned.predict_lookup(pad, np.asarray(beyond), entries)


def test_a_look_up_by_words_finds_the_entry_of_every_word(rng):
    machine = sn40l().pmu
    pad = scratchpad.pad(machine, BF16)
    table = carriers(rng, (65536,), BF16)
    at = np.arange(65536, dtype=np.int32).reshape(-1, pad.lanes)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), at, jnp.asarray(table.reshape(at.shape)))
    x = np.asarray([[1.0, -2.5, 0.0, -0.0]], np.float32)
    words = (patterns(x) >> 16).astype(np.int32)
    got, counts = aligned.lookup(pad, state, jnp.asarray(x), 65536)
    assert_same_bits(got, patterns(table)[words])
    assert total(counts) == aligned.predict_lookup(pad, words, 65536)


def test_aligned_reads_are_linear_in_the_memory(rng):
    pad, at, x, state = filled(rng, MACHINES["tiny"], FP32, 3)

    def run(x):
        state, _ = scratchpad.write(pad, scratchpad.init(pad), at, x)
        turned, _ = aligned.permute(pad, state, at, [1, 1])
        shifted, _ = aligned.unaligned(pad, state, at, 1)
        found, _ = aligned.lookup(pad, state, jnp.asarray([[4, 4]], jnp.int32), 6)
        cast, _ = aligned.cast(pad, state, at, BF16)
        return turned[0, 0] + 10 * shifted[1, 1] + 100 * found[0, 1] + 1000 * cast[2, 1]

    assert jax.jit(jax.grad(run))(jnp.asarray(x)).tolist() == [[0, 1], [0, 0], [110, 1000]]


def test_aligned_reads_compile_once(rng):
    pad, at, _, state = filled(rng, MACHINES["tiny"], FP32, 3)

    def call():
        return (
            aligned.permute(pad, state, at, [1, 0]), aligned.dilate(pad, state, at, (1, 2)),
            aligned.cast(pad, state, at, BF16), aligned.unaligned(pad, state, at, 1),
            aligned.lookup(pad, state, jnp.asarray(at % 4), 4),
        )  # fmt: skip

    call()
    assert compiled_by(call) == 0
