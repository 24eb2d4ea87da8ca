"""Banks: which word lies where, and how long single ports take, by brute force and by discrete-event simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simpy

from rdujax.base.errors import ArgumentError
from rdujax.machines import sn40l, tiny
from rdujax.units.pmu import banks
from rdujax.units.pmu.banks import Banking, Geometry

SMALL = Geometry(banks=4, word_bytes=4, words=64, vector_words=2)
BANKINGS = [Banking((0, 1)), Banking((1, 4)), Banking((0, 1), (2, 3)), Banking((5, 0), (3,))]


def bank(banking: Banking, word: int) -> int:
    """The bank, bit by bit from the text of the number."""
    bits = f"{word:032b}"[::-1]
    chosen = [int(bits[bit]) for bit in banking.bits]
    for i, bit in enumerate(banking.mixed):
        chosen[i] = (chosen[i] + int(bits[bit])) % 2
    return int("".join(map(str, chosen[::-1])), 2)


def simulated(banking: Banking, *accesses: set[int]) -> int:
    """Cycles until every access is served: each bank is a resource of one port, held for one cycle."""
    env = simpy.Environment()
    ports = [simpy.Resource(env, capacity=1) for _ in range(1 << len(banking.bits))]

    def access(word: int):
        with ports[bank(banking, word)].request() as turn:
            yield turn
            yield env.timeout(1)

    for words in accesses:
        for word in words:
            env.process(access(word))
    env.run()
    return int(env.now)


def test_the_banks_of_the_machines():
    assert banks.geometry(sn40l().pmu) == Geometry(banks=16, word_bytes=8, words=65536, vector_words=8)
    assert banks.geometry(tiny().pmu) == Geometry(banks=4, word_bytes=4, words=1024, vector_words=2)
    assert (SMALL.bank_bits, SMALL.word_bits) == (2, 6)


@pytest.mark.parametrize(
    "change", [{"banks": 3}, {"banks": 1}, {"banks": 32}, {"port_bytes_per_cycle": 6}, {"capacity_bytes": 4090}]
)
def test_facts_that_bits_cannot_tell_apart_are_refused(change):
    machine = tiny().replace({f"pmu.{name}": value for name, value in change.items()})
    with pytest.raises(ArgumentError, match="cannot be told apart by address bits"):
        banks.geometry(machine.pmu)


@pytest.mark.parametrize("banking", BANKINGS, ids=str)
def test_every_word_has_a_bank_and_every_bank_as_many(banking):
    banks.check(SMALL, banking)
    words = np.arange(64, dtype=np.int32)
    got = np.asarray(jax.jit(lambda w: banks.bank_of(banking, w))(words))
    assert got.tolist() == [bank(banking, int(w)) for w in words]
    assert np.bincount(got).tolist() == [16] * 4
    rows = words.copy()
    for bit in banking.bits:
        rows &= ~(1 << bit)
    assert len(set(zip(got.tolist(), rows.tolist(), strict=True))) == 64


@pytest.mark.parametrize(
    "banking",
    [
        Banking((0,)),
        Banking((0, 0)),
        Banking((0, 6)),
        Banking((0, -1)),
        Banking((0, 1), (1,)),
        Banking((0, 1), (2, 3, 4)),
    ],
    ids=str,
)
def test_bits_that_choose_no_bank_are_refused(banking):
    with pytest.raises(ArgumentError, match="2 different bits of 6"):
        banks.check(SMALL, banking)


@pytest.mark.parametrize("banking", BANKINGS, ids=str)
def test_cycles_are_those_of_ports_that_serve_one_access_at_a_time(rng, banking):
    words = rng.integers(0, 64, (2, 40, 6)).astype(np.int32)
    valid = rng.random((2, 40, 6)) < 0.7
    valid[:, 0] = False
    streams = [(jnp.asarray(w), jnp.asarray(v)) for w, v in zip(words, valid, strict=True)]
    for used in (streams, streams[:1]):
        chosen = [[{int(x) for x in words[s][i][valid[s][i]]} for s in range(len(used))] for i in range(40)]
        want = [simulated(banking, *each) for each in chosen]
        got = jax.jit(lambda *s: banks.bank_cycles(banking, *s))(*used)
        assert got.dtype == jnp.int32 and got.tolist() == want and want[0] == 0 and max(want) > 2
        host = [(np.asarray(w), np.asarray(v)) for w, v in used]
        assert banks.predicted_cycles(banking, *host).tolist() == want


def access(*words: int) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray([words], jnp.int32), jnp.ones((1, len(words)), bool)


def test_lanes_share_a_word_but_a_read_and_a_write_do_not():
    cycles = jax.jit(lambda *streams: banks.bank_cycles(banks.interleaved(SMALL), *streams))
    assert cycles(access(5, 5, 5, 5)) == 1 and cycles(access(5, 6, 7, 8)) == 1
    assert cycles(access(5, 9, 9, 5)) == 2 and cycles(access(5, 9, 13, 5)) == 3
    assert cycles(access(5, 5, 5, 5), access(5, 5, 5, 5)) == 2
    assert cycles(access(5, 9, 13, 0), access(1, 2, 2, 3)) == 4


@pytest.mark.parametrize("machine", [tiny(), sn40l()], ids=lambda m: m.name)
def test_halves_of_a_double_buffer_never_meet(rng, machine):
    """A whole vector from one half and one to the other, anywhere, take one cycle; interleaved banks may need two."""
    of = banks.geometry(machine.pmu)
    size = 16 * of.vector_words
    apart, mixed = banks.halves(of, size), banks.interleaved(of)
    banks.check(of, apart)
    first = rng.integers(0, size - of.vector_words + 1, (2, 50, 1)).astype(np.int32)
    lanes = np.arange(of.vector_words, dtype=np.int32)
    valid = jnp.ones((50, of.vector_words), bool)
    read, written = (jnp.asarray(first[half] + lanes + half * size) for half in (0, 1))
    assert banks.bank_cycles(apart, (read, valid), (written, valid)).tolist() == [1] * 50
    assert set(banks.bank_cycles(mixed, (read, valid), (written, valid)).tolist()) == {1, 2}


@pytest.mark.parametrize("size", [1, 12, 64, 128])
def test_a_half_that_no_bit_chooses_is_refused(size):
    with pytest.raises(ArgumentError, match=f"{size} words\n.*2 to 32 words"):
        banks.halves(SMALL, size)
    assert banks.halves(SMALL, 32) == Banking((0, 5))
