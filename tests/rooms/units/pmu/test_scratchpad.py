"""Scratchpads: against a dictionary in Python, at the edges in time, and against a discrete-event simulation."""

import doctest
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simpy

from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.streams.stream import POISON
from rdujax.units import pmu
from rdujax.units.pmu import address, aligned, alignment, banks, expression, nbuffer, parts, pattern, scratchpad
from rdujax.units.pmu.banks import Banking
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, patterns, raw
from tests.rooms.units.compiles import compiled_by
from tests.rooms.units.streams_of import carriers
from tests.storeys.raw_equations import raw_equations

SMALL = tiny().replace({"pmu.capacity_bytes": 256}).pmu


class Reference:
    """A memory of single words, and what a PMU would count while it serves vectors one after another."""

    def __init__(self, pad: scratchpad.Pad):
        self.pad, self.words, self.counts = pad, {}, dict.fromkeys(pmu.COUNTERS, 0)

    def serve(self, port: str, at, valid, own: bool) -> None:
        """Counts one vector."""
        asked = [int(a) for a, v in zip(at, valid, strict=True) if v]
        size = self.pad.addresses_per_cycle if own else len(at)
        lanes = list(zip(at.tolist(), valid.tolist(), strict=True))
        for start in range(0, len(lanes), size):
            words = {
                a // self.pad.word_elements for a, v in lanes[start : start + size] if v and 0 <= a < self.pad.elements
            }
            turns = max(np.bincount([w % self.pad.geometry.banks for w in words], minlength=1)) if words else 0
            self.counts["pmu.bank_cycles"] += int(turns)
            self.counts["pmu.conflict_cycles"] += max(int(turns) - 1, 0)
        inside = [a for a in asked if 0 <= a < self.pad.elements]
        steps = [b - a for a, b in pairwise(a // self.pad.word_elements for a in inside) if b != a]
        odd = sum(abs(step - steps[0]) not in (0, self.pad.geometry.vector_words) for step in steps)
        self.counts["pmu.addresses"] += len(asked) if own else 1 + odd
        self.counts[f"pmu.{port}_bytes"] += len(inside) * self.pad.fmt.width_bytes

    def write(self, at, values, valid, own: bool = False) -> None:
        for a, x, v in zip(at, values, valid, strict=True):
            self.serve("written", a, v, own)
            self.words |= {int(i): w for i, w, kept in zip(a, x, v, strict=True) if kept and 0 <= i < self.pad.elements}

    def read(self, at, valid, own: bool = False) -> np.ndarray:
        out = np.full(at.shape, POISON[self.pad.fmt], self.pad.fmt.carrier)
        for i, (a, v) in enumerate(zip(at, valid, strict=True)):
            self.serve("read", a, v, own)
            for lane in np.flatnonzero(v):
                self.counts["pmu.unwritten_reads"] += int(a[lane]) not in self.words
                out[i, lane] = self.words.get(int(a[lane]), out[i, lane])
        return out


def some(rng, pad: scratchpad.Pad, n: int, beyond: int = 4):
    """Addresses, values and validity of n vectors, some outside of the memory."""
    at = rng.integers(-beyond, pad.elements + beyond, (n, pad.lanes)).astype(np.int32)
    return at, carriers(rng, at.shape, pad.fmt), rng.random(at.shape) < 0.8


@pytest.mark.parametrize(
    ("fmt", "own"), [(BF16, False), (FP32, True), (INT32, False), (BOOL, True), (BF16, True)], ids=str
)
def test_a_memory_keeps_what_was_written_last(rng, fmt, own):
    pad = scratchpad.pad(SMALL, fmt)
    assert pad.elements * fmt.width_bytes == 256 and pad.lanes * fmt.width_bytes == 8
    memory = Reference(pad)

    @jax.jit
    def run(writes, reads, later):
        state, first = scratchpad.write(pad, scratchpad.init(pad), *writes, own=own)
        before, second = scratchpad.read(pad, state, *reads, own=own)
        state, third = scratchpad.write(pad, state, *later, own=own)
        after, fourth = scratchpad.read(pad, state, *reads, own=own)
        return before, after, first + second + third + fourth

    writes, later = some(rng, pad, 10), some(rng, pad, 30)
    at, _, valid = some(rng, pad, 25)
    before, after, counts = run(writes, (at, valid), later)
    memory.write(*writes, own)
    assert_same_bits(before, patterns(memory.read(at, valid, own)))
    memory.write(*later, own)
    assert_same_bits(after, patterns(memory.read(at, valid, own)))
    assert total(counts) == Counts(memory.counts)
    assert all(memory.counts.values())


@pytest.mark.parametrize("own", [False, True], ids=["by vectors", "by lanes"])
@pytest.mark.parametrize("banking", [None, Banking((1, 3)), Banking((0, 1), (4, 2))], ids=str)
def test_counts_are_predicted_from_the_addresses_alone(rng, banking, own):
    pad = scratchpad.pad(SMALL, BF16, banking)
    at, values, valid = some(rng, pad, 40, beyond=0)
    state, written = jax.jit(lambda *w: scratchpad.write(pad, scratchpad.init(pad), *w, own=own))(at, values, valid)
    _, read = jax.jit(lambda s, a, v: scratchpad.read(pad, s, a, v, own=own))(state, at, valid)
    assert total(written) == scratchpad.predict(pad, "written", at, valid, own=own)
    assert total(read) == scratchpad.predict(pad, "read", at, valid, own=own)
    assert scratchpad.predict(pad, "read", at) == scratchpad.predict(pad, "read", at, np.ones(at.shape, bool))


def test_values_are_rounded_to_the_format_of_the_memory(rng):
    pad = scratchpad.pad(SMALL, BF16)
    words = rng.integers(0, 2**32, (16, 4), dtype=np.uint32)
    at = np.arange(64, dtype=np.int32).reshape(16, 4)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), at, jnp.asarray(raw(words)))
    assert_same_bits(scratchpad.read(pad, state, at)[0], softfloat.to_bf16(words.reshape(-1)).reshape(16, 4))


def turn(pad: scratchpad.Pad, *words: int):
    """One lane's vectors: addresses [n, 1] and validity; a negative address asks for nothing."""
    at = np.asarray(words, np.int32)[:, None]
    return at, at >= 0


@pytest.mark.parametrize("banking", [None, Banking((0, 5))], ids=["interleaved", "halves"])
def test_a_read_sees_what_earlier_turns_wrote_and_not_its_own(banking):
    """Word 7 is written in turn 1: not there in turn 1, there in turn 2."""
    pad = scratchpad.pad(SMALL, INT32, banking)
    to, kept = turn(pad, 3, 7, 11, -1)
    at, asked = turn(pad, 3, 7, 7, 11)
    values = jnp.asarray([[30], [70], [110], [0]])
    _, got, counts = jax.jit(lambda v: scratchpad.together(pad, scratchpad.init(pad), (to, v, kept), (at, asked)))(
        values
    )
    poison = POISON[INT32]
    assert got.tolist() == [[poison], [poison], [70], [110]]
    assert counts["pmu.unwritten_reads"].tolist() == [1, 1, 0, 0]
    # Turns 0 and 1 write and read one word, turn 2 words 11 and 7 of the same bank; a single port takes two cycles.
    assert counts["pmu.bank_cycles"].tolist() == [2, 2, 2, 1] and counts["pmu.conflict_cycles"].tolist() == [1, 1, 1, 0]
    assert total(counts)["pmu.addresses"] == 8


def test_streams_in_halves_of_their_own_run_side_by_side(rng):
    of = banks.geometry(SMALL)
    for banking, waits in ((banks.halves(of, 32), False), (banks.interleaved(of), True)):
        pad = scratchpad.pad(SMALL, FP32, banking)
        to = np.arange(32, dtype=np.int32).reshape(16, 2)
        at = 32 + rng.permutation(to)
        everywhere = np.ones(to.shape, bool)
        state, _ = scratchpad.write(pad, scratchpad.init(pad), np.sort(at, axis=0), jnp.ones((16, 2)), everywhere)
        run = jax.jit(lambda s, v: scratchpad.together(pad, s, (to, v, everywhere), (at, everywhere)))  # noqa: B023
        _, got, counts = run(state, jnp.zeros((16, 2)))
        assert np.array_equal(got, np.ones((16, 2)))
        assert bool(total(counts)["pmu.conflict_cycles"]) == waits
        price = pmu.price(SMALL, total(counts), 1)
        assert (price == 16 + SMALL.latency_cycles.value) != waits


def test_turn_by_turn_is_the_same_as_all_at_once(rng):
    pad = scratchpad.pad(SMALL, FP32)
    at, values, valid = some(rng, pad, 40)
    nothing = np.zeros(at.shape, bool)

    @jax.jit
    def run(values):
        start = scratchpad.init(pad)
        at_once, written = scratchpad.write(pad, start, jnp.asarray(at), values, valid)
        by_turns, _, turns = scratchpad.together(
            pad, start, (jnp.asarray(at), values, valid), (jnp.asarray(at), nothing)
        )
        return at_once, by_turns, written, turns

    at_once, by_turns, written, turns = run(values)
    assert_same_bits(by_turns.data, patterns(at_once.data))
    assert np.array_equal(by_turns.written, at_once.written)
    extra = {"pmu.addresses": 40}  # those of the read stream, all dropped
    assert total(turns) == total(written) + Counts(extra)


def test_vectors_arrive_when_a_simulation_says_so(rng):
    """One vector after another, each bank a port for one access a cycle, data a latency later."""
    pad = scratchpad.pad(SMALL, INT32)
    at = rng.integers(0, pad.elements, (20, 2)).astype(np.int32)
    env, arrivals = simpy.Environment(), []
    ports = [simpy.Resource(env, capacity=1) for _ in range(pad.geometry.banks)]

    def access(word: int):
        with ports[word % len(ports)].request() as request:
            yield request
            yield env.timeout(1)

    def deliver():
        yield env.timeout(SMALL.latency_cycles.value)
        arrivals.append(env.now)

    def stream():
        for vector in at:
            yield env.all_of([env.process(access(int(word))) for word in set(vector.tolist())])
            env.process(deliver())

    env.process(stream())
    env.run()
    cycles = scratchpad.vector_cycles(pad, at)
    got = scratchpad.arrival_cycles(SMALL, cycles)
    assert got.tolist() == arrivals and set(cycles.tolist()) == {1, 2}
    assert pmu.price(SMALL, scratchpad.predict(pad, "read", at), 1) == arrivals[-1]


def test_turns_compile_once(rng):
    """The second eager call with other values compiles nothing."""
    pad = scratchpad.pad(SMALL, FP32)

    def call():
        at, values, valid = some(rng, pad, 6, beyond=0)
        return scratchpad.together(pad, scratchpad.init(pad), (at, jnp.asarray(values), valid), (at, valid))

    call()
    assert compiled_by(call) == 0


def test_bool_has_no_poison_and_says_what_was_written():
    pad = scratchpad.pad(SMALL, BOOL)
    at = np.asarray([[0, 1, 2, 3]], np.int32)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), at[:, :2], jnp.asarray([[True, False]]))
    got, counts = scratchpad.read(pad, state, at)
    assert got.tolist() == [[True, False, False, False]] and total(counts)["pmu.unwritten_reads"] == 2
    assert scratchpad.written_at(state, at).tolist() == [[True, True, False, False]]
    assert scratchpad.written_at(state, at - 1, at > 1).tolist() == [[False, False, True, False]]


def test_an_unaligned_vector_takes_a_word_more():
    """Four BF16 elements lie in two or three words of two: three take one cycle in four banks, two cycles in two."""
    at = np.arange(8, dtype=np.int32)[:, None] + np.arange(4, dtype=np.int32)
    everywhere, half = (
        scratchpad.vector_cycles(scratchpad.pad(SMALL, BF16, banking), at).tolist()
        for banking in (None, banks.halves(banks.geometry(SMALL), 32))
    )
    assert everywhere == [1] * 8 and half == [1, 2] * 4


def test_only_bits_are_moved():
    """No equation of a program outside of `numerics/` computes with what a PMU holds."""
    pad = scratchpad.pad(SMALL, BF16)
    at = np.arange(8, dtype=np.int32).reshape(2, 4)

    def run(values):
        state, _ = scratchpad.write(pad, scratchpad.init(pad), at, values)
        kept = jnp.ones(at.shape, bool)
        state, first, _ = scratchpad.together(pad, state, (at, values, kept), (at, kept))
        return first, scratchpad.read(pad, state, at, own=True)[0]

    assert raw_equations(run, jax.ShapeDtypeStruct((2, 4), jnp.float32)) == []


def test_more_than_a_counter_holds_is_refused():
    pad = scratchpad.pad(SMALL, INT32)
    state = scratchpad.init(pad)
    fits, too_many = (jax.ShapeDtypeStruct((n, 2), jnp.int32) for n in (2**28 - 1, 2**28))
    jax.eval_shape(lambda at: scratchpad.read(pad, state, at), fits)
    with pytest.raises(ArgumentError, match="2,147,483,648 bytes or cycles"):
        jax.eval_shape(lambda at: scratchpad.read(pad, state, at), too_many)


def test_a_gather_is_bound_by_the_addresses_of_a_cycle():
    """A vector of 16 words takes four cycles on the SN40L where each lane finds its own, and one where none does."""
    machine = sn40l().pmu
    pad = scratchpad.pad(machine, FP32)
    at = np.arange(16, dtype=np.int32)[None].repeat(8, axis=0)
    latency = machine.latency_cycles.value
    assert pmu.price(machine, scratchpad.predict(pad, "read", at), 1) == 8 + latency
    assert pmu.price(machine, scratchpad.predict(pad, "read", at, own=True), 1) == 8 * 4 + latency
    same_bank = at * 32
    assert pmu.price(machine, scratchpad.predict(pad, "read", same_bank), 1) == 8 * 16 + latency


def test_reading_what_nobody_wrote_is_refused_where_it_is_asked_for():
    pad = scratchpad.pad(SMALL, BOOL)
    at = np.asarray([[0, 1, 2]], np.int32)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), at[:, :2], jnp.ones((1, 2), bool))
    _, good = scratchpad.read(pad, state, at[:, :2])
    scratchpad.refuse_unwritten(total(good), "stage 3")
    _, bad = scratchpad.read(pad, state, at)
    with pytest.raises(ArgumentError, match="nobody had written\n.*1 elements\n.*none\n.*stage 3"):
        scratchpad.refuse_unwritten(total(bad), "stage 3")
    _, outside = scratchpad.read(pad, state, jnp.asarray([[256]], jnp.int32))
    assert total(outside) == Counts({"pmu.addresses": 1, "pmu.unwritten_reads": 1})


def test_the_last_element_fits_and_the_next_is_refused():
    pad = scratchpad.pad(SMALL, INT32)
    last = np.asarray([[63]], np.int32)
    state, _ = scratchpad.write(pad, scratchpad.init(pad), last, jnp.asarray([[5]]))
    assert scratchpad.read(pad, state, last)[0].tolist() == [[5]]
    for run in (
        lambda: scratchpad.read(pad, state, last + 1),
        lambda: scratchpad.write(pad, state, last + 1, jnp.asarray([[5]])),
        lambda: scratchpad.together(pad, state, (last + 1, jnp.asarray([[5]]), last > 0), (last, last > 0)),
    ):
        with pytest.raises(ArgumentError, match="the first 64\n.*0 to 63\n.*PMU, 64 elements of int32"):
            run()
    assert scratchpad.read(pad, state, last + 1, last < 0)[0].tolist() == [[POISON[INT32]]]


@pytest.mark.parametrize(
    ("at", "valid"),
    [
        (np.zeros((2, 3), np.int32), None), (np.zeros(2, np.int32), None), (np.zeros((2, 2), np.int64), None),
        (np.zeros((2, 0), np.int32), None),
        (np.zeros((2, 2), np.int32), np.ones((2, 1), bool)), (np.zeros((2, 2), np.int32), np.ones((2, 2), np.int32)),
    ],
)  # fmt: skip
def test_what_is_no_vector_is_refused(at, valid):
    pad = scratchpad.pad(SMALL, INT32)
    with pytest.raises(ShapeError, match=r"int32\[n, 1 to 2\]"):
        scratchpad.read(pad, scratchpad.init(pad), at, valid)


def test_values_of_another_kind_or_shape_are_refused():
    pad = scratchpad.pad(SMALL, INT32)
    at = np.asarray([[0, 1]], np.int32)
    for values in (jnp.ones((1, 2)), jnp.ones((1, 1), jnp.int32)):
        with pytest.raises(FormatError, match=r"int32\[1, 2\]\n.*write, int32"):
            scratchpad.write(pad, scratchpad.init(pad), at, values)
    with pytest.raises(ArgumentError, match="bank bits that do not choose a bank"):
        scratchpad.pad(SMALL, INT32, Banking((0, 0)))


def test_a_memory_is_linear_in_what_is_written(rng):
    pad = scratchpad.pad(SMALL, FP32)
    to = np.asarray([[0, 1], [1, 2]], np.int32)
    at = np.asarray([[1, 1], [2, 9]], np.int32)

    def run(values):
        state, _ = scratchpad.write(pad, scratchpad.init(pad), to, values)
        got, _ = scratchpad.read(pad, state, at)
        return jnp.where(jnp.isnan(got), 0, got * jnp.asarray([[1.0, 2.0], [4.0, 8.0]])).sum()

    assert jax.jit(jax.grad(run))(jnp.ones((2, 2))).tolist() == [[0, 0], [3, 4]]


@pytest.mark.parametrize(
    "module",
    [address, expression, pattern, banks, alignment, scratchpad, aligned, parts, nbuffer],
    ids=lambda module: module.__name__,
)
def test_the_examples_of_the_files_run(module):
    failed, tried = doctest.testmod(module)
    assert tried > 0 and failed == 0
