"""One tensor in several PMUs: what comes back is what one large memory would hold; the buffers of Figure 4."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams.stream import POISON
from rdujax.units import pmu
from rdujax.units.pmu import address, alignment, banks, parts, scratchpad
from rdujax.units.pmu.address import Generator, Loop
from rdujax.units.pmu.expression import counter
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.units.streams_of import carriers

SMALL = tiny().replace({"pmu.capacity_bytes": 128}).pmu
ROWS = Generator((Loop(64, step=2), Loop(2)), counter(0) + counter(1), counter(0) < 120)
WAYS = {
    "split": lambda g: parts.split(g, 4, 32),
    "interleaved": lambda g: parts.interleaved(g, 4, 2),
    "interleaved by elements": lambda g: parts.interleaved(g, 4, 1),
    "interleaved within a split": lambda g: [x for h in parts.split(g, 2, 64) for x in parts.interleaved(h, 2, 2)],
    "split within an interleaving": lambda g: [x for h in parts.interleaved(g, 2, 2) for x in parts.split(h, 2, 32)],
}  # fmt: skip
PLACES = {
    "split": lambda a: (a // 32, a % 32),
    "interleaved": lambda a: (a // 2 % 4, a // 8 * 2 + a % 2),
    "interleaved by elements": lambda a: (a % 4, a // 4),
    "interleaved within a split": lambda a: (a // 64 * 2 + a // 2 % 2, a % 64 // 4 * 2 + a % 2),
    "split within an interleaving": lambda a: (a // 2 % 2 * 2 + a // 64, (a // 4 * 2 + a % 2) % 32),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_address_has_one_place_in_one_part(way):
    streams = [address.static(part) for part in WAYS[way](ROWS)]
    whole, valid = address.static(ROWS)
    kept = np.stack([v for _, v in streams])
    assert np.array_equal(kept.sum(axis=0), valid)
    for a in whole[valid]:
        part, place = PLACES[way](int(a))
        assert streams[part][0][whole == a].item() == place and kept[part][whole == a].item()


@pytest.mark.parametrize("fmt", [INT32, FP32], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_the_parts_together_are_one_memory(rng, way, fmt):
    """Each PMU of 32 words is full to the last; 8 of the 128 addresses are never written."""
    pad = scratchpad.pad(SMALL, fmt)
    values = carriers(rng, (64, 2), fmt)
    written = [address.static(part) for part in WAYS[way](ROWS)]
    read = [address.static(part) for part in WAYS[way](replace(ROWS, predicate=None))]

    @jax.jit
    def run(values):
        states, first = parts.write(pad, [scratchpad.init(pad)] * 4, written, values)
        got, second = parts.read(pad, states, read)
        return got, first, second

    got, first, second = run(values)
    one = np.where(
        np.arange(128).reshape(64, 2) < 120, patterns(values), patterns(np.full(1, POISON[fmt], fmt.carrier))
    )
    assert_same_bits(got, one)
    assert sum((total(c) for c in first), Counts())["pmu.written_bytes"] == 480
    assert [total(c)["pmu.read_bytes"] for c in second] == [128] * 4
    assert sum(total(c)["pmu.unwritten_reads"] for c in second) == 8


def test_lanes_that_nobody_keeps_are_poison():
    values = [jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, 4.0])]
    valid = [np.asarray([True, False]), np.asarray([False, False])]
    assert_same_bits(parts.join(FP32, values, valid), np.asarray([0x3F800000, 0x7FC00000], np.uint32))
    slope = jax.grad(lambda v: parts.join(FP32, v, valid)[0])(values)
    assert [s.tolist() for s in slope] == [[1, 0], [0, 0]]


def test_parts_that_cannot_be_are_refused():
    with pytest.raises(ArgumentError, match="3 PMUs, runs of 2 elements\n.*powers of two"):
        parts.interleaved(ROWS, 3, 2)
    with pytest.raises(ArgumentError, match="2 PMUs, runs of 6 elements"):
        parts.interleaved(ROWS, 2, 6)
    for way in (parts.split, parts.interleaved):
        with pytest.raises(ArgumentError, match="0 PMUs of 4 elements"):
            way(ROWS, 0, 4)
        with pytest.raises(ArgumentError, match="beyond INT32"):
            way(ROWS, 2**16, 2**16)
    assert parts.interleaved(ROWS, 1, 4) == (ROWS,)


def test_two_interleaved_pmus_deliver_twice_the_bandwidth():
    """I0 and I1: vectors go to either in turn, so each is busy for half of the cycles."""
    machine = sn40l().pmu
    pad = scratchpad.pad(machine, BF16)
    rows = Generator((Loop(64, step=pad.lanes), Loop(pad.lanes)), counter(0) + counter(1))
    alone = pmu.price(machine, scratchpad.predict(pad, "read", *address.static(rows)), 1)
    halves = [scratchpad.predict(pad, "read", *address.static(p)) for p in parts.interleaved(rows, 2, pad.lanes)]
    latency = machine.latency_cycles.value
    assert [alone, *(pmu.price(machine, each, 1) for each in halves)] == [64 + latency, 32 + latency, 32 + latency]


@pytest.mark.parametrize("size", [128, pytest.param(1024, marks=pytest.mark.full)])
def test_a_tensor_in_four_pmus_is_transposed_as_it_is_read(rng, size):
    """Figure 4: a 1024 x 1024 BF16 tensor fills S0 to S3 and is read by columns, vector by vector, without a conflict.

    On the smaller size the PMUs are smaller too, so that both are full to the last byte.
    """
    machine = sn40l().replace({"pmu.capacity_bytes": size * size * 2 // 4}).pmu
    pad = scratchpad.pad(machine, BF16)
    stripe = alignment.stripe(banks.geometry(machine), BF16, size, size)
    assert stripe.elements == 4 * pad.elements
    rows, columns = (parts.split(g, 4, pad.elements) for g in (stripe.by_rows(), stripe.by_columns()))
    x = carriers(rng, (size, size), BF16)

    @jax.jit
    def run(x):
        written, read = ([address.vectors(part) for part in streams] for streams in (rows, columns))
        states, first = parts.write(pad, [scratchpad.init(pad)] * 4, written, stripe.vectors_of(x))
        got, second = parts.read(pad, states, read)
        return stripe.columns_of(got), first, second

    got, first, second = run(x)
    assert_same_bits(got, patterns(x).T)
    vectors = size * size // 32 // 4
    for port, counts, streams in (("written", first, rows), ("read", second, columns)):
        for each, stream in zip(counts, streams, strict=True):
            assert total(each) == scratchpad.predict(pad, port, *address.static(stream))
            assert total(each)["pmu.bank_cycles"] == vectors and total(each)["pmu.conflict_cycles"] == 0
            assert total(each)["pmu.addresses"] == 4 * vectors
            assert pmu.price(machine, total(each), 1) == vectors + machine.latency_cycles.value
