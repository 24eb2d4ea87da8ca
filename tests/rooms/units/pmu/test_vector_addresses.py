"""Addresses that vectors bring: one where the lanes follow, as many as lanes where they do not, and their cycles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.ledger.counts import total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.units import pmu
from rdujax.units.pmu import scratchpad


@pytest.mark.parametrize("fmt", [BF16, FP32], ids=str)
@pytest.mark.parametrize("machine", [tiny().pmu, sn40l().pmu], ids=["tiny", "sn40l"])
def test_a_gather_arrives_when_it_is_priced(rng, machine, fmt):
    """Lanes find their own place, so many addresses a cycle; each group waits for its own banks."""
    pad = scratchpad.pad(machine, fmt)
    at = rng.integers(0, pad.elements, (12, pad.lanes)).astype(np.int32)
    cycles = scratchpad.vector_cycles(pad, at, own=True)
    size, want = pad.addresses_per_cycle, []
    for vector in at:
        words = [set((vector[i : i + size] // pad.word_elements).tolist()) for i in range(0, pad.lanes, size)]
        want.append(sum(max(np.bincount([w % pad.geometry.banks for w in group])) for group in words))
    assert cycles.dtype == jnp.int32 and cycles.tolist() == want
    assert jax.jit(lambda at: scratchpad.vector_cycles(pad, at, own=True))(at).tolist() == want
    priced = pmu.price(machine, scratchpad.predict(pad, "read", at, own=True), 1)
    assert scratchpad.arrival_cycles(machine, cycles)[-1] == priced
    one = np.arange(pad.lanes, dtype=np.int32)[None]
    groups = -(-pad.lanes // size)
    arrived = scratchpad.arrival_cycles(machine, scratchpad.vector_cycles(pad, one, own=True))
    assert arrived.tolist() == [groups + machine.latency_cycles.value]
    assert scratchpad.vector_cycles(pad, one, one < 0, own=True).tolist() == [0]


def test_lanes_that_do_not_follow_from_their_vector_bring_addresses(rng):
    """One address for words at one step, striped or not; one more for each word elsewhere: a random vector gathers."""
    machine = sn40l().pmu
    pad = scratchpad.pad(machine, FP32)  # two elements to a word, eight words to a vector
    lane = np.arange(16, dtype=np.int32)
    jump = lane + 100 * (lane >= 8)
    turned = (lane + 6) % 16
    vectors = {
        "neighbours": (lane, 1), "unaligned": (lane + 3, 1), "backwards": (lane[::-1], 1), "every other": (lane * 2, 1),
        "one place": (lane * 0, 1), "striped": (turned, 1), "two rows": (jump, 2), "by turns": (lane % 2 * 64, 8),
    }  # fmt: skip
    vectors["striped column"] = (((lane // 2) * 64 + (lane // 2 + 5) % 8 * 2 + lane % 2).astype(np.int32), 1)
    for name, (at, want) in vectors.items():
        at = at.astype(np.int32)[None]
        state = scratchpad.init(pad)
        assert scratchpad.predict(pad, "read", at)["pmu.addresses"] == want, name
        assert total(scratchpad.read(pad, state, jnp.asarray(at))[1])["pmu.addresses"] == want, name
    at = rng.permutation(pad.elements)[: 64 * 16].reshape(64, 16).astype(np.int32)
    follows, own = (scratchpad.predict(pad, "read", at, own=own) for own in (False, True))
    assert 0.85 * own["pmu.addresses"] < follows["pmu.addresses"] <= own["pmu.addresses"]
    arrived = scratchpad.arrival_cycles(machine, scratchpad.vector_cycles(pad, at))[-1]
    assert pmu.price(machine, follows, 1) <= arrived and arrived > 64 * 3


def test_steps_are_between_the_lanes_that_are_not_dropped():
    """Lanes 2 and 3 would leave the step; dropped, they cost nothing, and the step goes on beyond them."""
    pad = scratchpad.pad(sn40l().pmu, INT32)
    at = np.asarray([[0, 2, 900, 77, 4, 6], [0, 2, 900, 77, 4, 6]], np.int32)
    valid = np.asarray([[True, True, False, False, True, True], [False] * 6])
    _, counts = scratchpad.read(pad, scratchpad.init(pad), at, valid)
    assert total(counts)["pmu.addresses"] == scratchpad.predict(pad, "read", at, valid)["pmu.addresses"] == 2
    assert scratchpad.predict(pad, "read", at[:1])["pmu.addresses"] == 4
