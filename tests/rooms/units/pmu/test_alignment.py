"""Data alignment: striped transposes without a conflict, moves against NumPy, collisions, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, INT32
from rdujax.units.pmu import address, alignment, banks
from rdujax.units.pmu.alignment import Stripe
from rdujax.units.pmu.banks import Banking
from rdujax.units.pmu.expression import Address
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, patterns, raw
from tests.rooms.units.streams_of import carriers

FORMS = [fmt for _, fmt in FORMATS.items()]


def waits(stripe: Stripe, generator: address.Generator, banking: Banking) -> tuple[int, int]:
    """(vectors, cycles beyond one for each) of a stream."""
    at, valid = address.static(generator)
    cycles = banks.predicted_cycles(banking, (at // stripe.word_elements, valid))
    return len(at), int(cycles.sum()) - len(at)


def every_tile(stripe: Stripe, full: bool) -> list[tuple[int, int]]:
    """(rows, columns) up to a vector each way and one beyond."""
    most = range(1, stripe.lanes + 2)
    short = (1, 2, 3, stripe.vector_words, stripe.lanes - 1, stripe.lanes, stripe.lanes + 1)
    return [(r, c) for r in (most if full else short) for c in (most if full else short)]


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.full)], ids=["edges", "all"])
@pytest.mark.parametrize("fmt", [BF16, FP32], ids=str)
@pytest.mark.parametrize("machine", [tiny(), sn40l()], ids=lambda m: m.name)
def test_rows_and_columns_of_a_striped_tile_never_wait(machine, fmt, full):
    of = banks.geometry(machine.pmu)
    for rows, columns in every_tile(alignment.stripe(of, fmt, 1, 1), full):
        stripe = alignment.stripe(of, fmt, rows, columns)
        by_rows, by_columns = host(stripe.by_rows()), host(stripe.by_columns())
        for banking in (banks.interleaved(of), banks.halves(of, of.words // 2)):
            assert np.max(cycles_of(stripe, by_rows, banking)) == 1, (rows, columns)
            assert np.max(cycles_of(stripe, by_columns, banking)) == 1, (rows, columns)
        assert len(by_rows[0]) == rows * -(-columns // stripe.lanes)
        assert len(by_columns[0]) == -(-columns // stripe.word_elements) * -(-rows // stripe.vector_words)


def host(generator: address.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The addresses and validity of a stream by NumPy: counters from a grid, the expression node by node."""
    lengths = [loop.length for loop in generator.nest]
    turns = np.indices(lengths).reshape(len(lengths), *generator.shape)
    counters = [loop.start + loop.step * turn for loop, turn in zip(generator.nest, turns, strict=True)]
    valid = np.ones(generator.shape, bool) if generator.predicate is None else value(generator.predicate, counters) != 0
    return value(generator.address, counters) + np.zeros(generator.shape, int), valid


def value(node: Address, counters: list[np.ndarray]) -> np.ndarray:
    """An expression of small numbers, evaluated by NumPy."""
    if node.function == "counter":
        return counters[node.numbers[0]]
    if node.function == "constant":
        return np.asarray(node.numbers[0])
    x, *rest = (value(operand, counters) for operand in node.operands)
    if node.function == "set":
        low, width = node.numbers
        mask = ((1 << width) - 1) << low
        return (x & ~mask) | ((rest[0] << low) & mask)
    plain = {"+": np.add, "*": np.multiply, ">>": np.right_shift, "<": np.less, "&": np.bitwise_and}
    return plain[node.function](x, rest[0]).astype(np.int64)


def cycles_of(stripe: Stripe, stream: tuple[np.ndarray, np.ndarray], banking: Banking) -> np.ndarray:
    """Cycles of each vector: the most different words of one bank, counted pair by pair."""
    words, valid = np.where(stream[1], stream[0] // stripe.word_elements, -1), stream[1]
    first = valid & ~np.tril(words[:, :, None] == words[:, None, :], -1).any(axis=2)
    at = sum((((words >> bit) & 1) << i for i, bit in enumerate(banking.bits)), np.zeros_like(words))
    return np.max([np.count_nonzero(first & (at == b), axis=1) for b in range(1 << len(banking.bits))], axis=0)


def test_without_stripes_a_column_waits_for_every_row():
    of = banks.geometry(sn40l().pmu)
    plain = Stripe(32, 32, lanes=32, word_elements=4, diagonal=False)
    assert waits(plain, plain.by_rows(), banks.interleaved(of)) == (32, 0)
    # Eight rows, 8 words apart, in 16 banks: four of them in each of two banks.
    assert waits(plain, plain.by_columns(), banks.interleaved(of)) == (32, 3 * 32)
    mixed = Banking((0, 1, 2, 9), mixed=(3, 4, 5))
    banks.check(of, mixed)
    assert waits(plain, plain.by_rows(), mixed) == waits(plain, plain.by_columns(), mixed) == (32, 0)


SHAPES = [(4, 4), (3, 5), (8, 2), (1, 9), (9, 1), (5, 12)]


@pytest.mark.parametrize("diagonal", [True, False], ids=["striped", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_written_by_rows_is_read_by_columns(rng, shape, diagonal):
    stripe = Stripe(*shape, lanes=4, word_elements=2, diagonal=diagonal)
    x = carriers(rng, shape, FP32)
    rows, rows_valid = address.static(stripe.by_rows())
    columns, columns_valid = address.static(stripe.by_columns())
    assert len(set(rows[rows_valid].tolist())) == x.size and rows.max() < stripe.elements
    assert set(rows[rows_valid].tolist()) == set(columns[columns_valid].tolist())

    @jax.jit
    def run(x):
        memory = alignment.scatter(jnp.full(stripe.elements, jnp.nan), rows, stripe.vectors_of(x), rows_valid)
        back = stripe.rows_of(alignment.gather(memory, rows, FP32, rows_valid))
        return back, stripe.columns_of(alignment.gather(memory, columns, FP32, columns_valid))

    back, turned = run(x)
    assert_same_bits(back, patterns(x))
    assert_same_bits(turned, patterns(x).T)
    for got, generator in (((rows, rows_valid), stripe.by_rows()), ((columns, columns_valid), stripe.by_columns())):
        assert all(map(np.array_equal, got, host(generator)))


def test_striped_streams_fit_into_the_address_pipeline():
    stripe = alignment.stripe(banks.geometry(sn40l().pmu), BF16, 32, 32)
    address.check(sn40l().pmu, {"write rows": stripe.by_rows(), "read columns": stripe.by_columns()}, "a PMU")
    assert (address.stages_of(stripe.by_rows()), address.stages_of(stripe.by_columns())) == (4, 4)


@pytest.mark.parametrize("sizes", [(0, 4, 4, 1), (4, 0, 4, 1), (4, 4, 3, 1), (4, 4, 4, 8), (4, 4, 4, 0)])
def test_matrices_that_cannot_be_striped_are_refused(sizes):
    with pytest.raises(ArgumentError, match="powers of two"):
        Stripe(*sizes)


POISON_BITS = {"bf16": 0x7FC00000, "fp32": 0x7FC00000, "int32": -0x5A5A5A5B, "uint32": -0x5A5A5A5B, "bool": False}


@pytest.mark.parametrize("fmt", FORMS, ids=str)
def test_a_gather_moves_bits_and_poisons_what_is_not_there(rng, fmt):
    memory = carriers(rng, (20,), fmt)
    at = rng.integers(-5, 25, (6, 4)).astype(np.int32)
    valid = rng.random((6, 4)) < 0.8
    there = valid & (at >= 0) & (at < 20)
    want = np.where(there, patterns(memory)[np.clip(at, 0, 19)], POISON_BITS[fmt.name])
    for run in (
        lambda *a: alignment.gather(*a[:2], fmt, a[2]),
        jax.jit(lambda m, a, v: alignment.gather(m, a, fmt, v)),
    ):
        got = run(jnp.asarray(memory), jnp.asarray(at), jnp.asarray(valid))
        assert got.dtype == fmt.carrier
        assert_same_bits(got, want.astype(patterns(memory).dtype))
    assert (~there).any()


def test_a_gather_takes_rows_too(rng):
    rows = carriers(rng, (5, 3), FP32)
    got = alignment.gather(jnp.asarray(rows), jnp.asarray([4, 0, 7], jnp.int32), FP32)
    assert np.array_equal(got[:2], rows[[4, 0]]) and np.isnan(got[2]).all()


@pytest.mark.parametrize("lanes", [3, 16], ids=["pair by pair", "by a table"])
def test_the_last_arrival_of_a_scatter_stays(rng, lanes):
    memory = carriers(rng, (16,), FP32)
    at = rng.integers(-3, 19, (8, lanes)).astype(np.int32)
    values, valid = carriers(rng, at.shape, FP32), rng.random(at.shape) < 0.8
    want = patterns(memory).copy()
    for place, bits, kept in zip(at.ravel(), patterns(values).ravel(), valid.ravel(), strict=True):
        if kept and 0 <= place < 16:
            want[place] = bits
    run = jax.jit(alignment.scatter)
    assert_same_bits(run(memory, at, values, valid), want)
    twice = jax.jit(jax.vmap(alignment.scatter))(*(np.stack([x, x]) for x in (memory, at, values, valid)))
    assert_same_bits(twice[1], want)


def test_scatters_and_gathers_are_linear(rng):
    memory, values = carriers(rng, (6,), FP32), carriers(rng, (5,), FP32)
    to, valid = np.asarray([2, 4, 2, 0, 4], np.int32), np.asarray([True, True, True, False, True])
    at = np.asarray([2, 2, 9, 4, 5], np.int32)
    weights = np.asarray([1.0, 10.0, 100.0, 1000.0, 10000.0], np.float32)

    def run(memory, values):
        return jnp.vdot(
            weights,
            jnp.nan_to_num(alignment.gather(alignment.scatter(memory, to, values, valid), jnp.asarray(at), FP32)),
        )

    by_memory, by_values = jax.jit(jax.grad(run, (0, 1)))(memory, values)
    assert by_memory.tolist() == [0, 0, 0, 0, 0, 10000.0]
    assert by_values.tolist() == [0, 0, 11.0, 0, 1000.0]


def test_poison_has_no_derivative():
    slope = jax.grad(lambda m: alignment.gather(m, jnp.asarray([0, 9], jnp.int32), FP32)[1])(jnp.ones(3))
    assert slope.tolist() == [0, 0, 0]


def test_static_addresses_outside_are_refused():
    memory = jnp.zeros(8)
    at = np.asarray([[0, 8], [-1, 7]], np.int32)
    kept = np.asarray([[True, False], [False, True]])
    for run in (
        lambda valid: alignment.gather(memory, at, FP32, valid),
        lambda valid: alignment.scatter(memory, at, jnp.ones((2, 2)), valid),
    ):
        run(kept)
        with pytest.raises(ArgumentError, match="2 of them, the first 8\n.*0 to 7"):
            run(None)


def test_lanes_are_permuted_and_repeated(rng):
    x = carriers(rng, (3, 4), BF16)
    for lanes in ([3, 1, 0, 2], [2, 2, 0, 0, 1], [1]):
        assert_same_bits(alignment.permute(jnp.asarray(x), lanes), patterns(x)[:, lanes])
    with pytest.raises(ArgumentError, match="the first 4\n.*0 to 3\n.*lane permute"):
        alignment.permute(jnp.asarray(x), [0, 4])
    with pytest.raises(ArgumentError, match="whole number\n.*0.9\n.*an int\n.*lane permute"):
        alignment.permute(jnp.asarray(x), [0.9, 1.9, 2.5, 3.2])


def test_unaligned_vectors_begin_anywhere(rng):
    x = carriers(rng, (4, 8), FP32)
    flat = patterns(x).ravel()
    for offset in range(9):
        want = flat[offset : offset + 24].reshape(3, 8)
        assert_same_bits(alignment.unaligned(jnp.asarray(x), offset, FP32), want)
        assert_same_bits(alignment.unaligned(jnp.asarray(x), np.int32(offset), FP32), want)
        assert_same_bits(jax.jit(alignment.unaligned, static_argnums=2)(x, jnp.int32(offset), FP32), want)
    for outside in (9, -1, np.int32(9), np.asarray(-1)):
        with pytest.raises(ArgumentError, match=f"the first {outside}\n.*0 to 8"):
            alignment.unaligned(jnp.asarray(x), outside, FP32)
    with pytest.raises(ArgumentError, match="whole number\n.*1.5"):
        alignment.unaligned(jnp.asarray(x), 1.5, FP32)
    for wrong in (jnp.float32(1), jnp.asarray([1])):
        with pytest.raises(FormatError, match=r"int32\[\]\n.*offset"):
            alignment.unaligned(jnp.asarray(x), wrong, FP32)
    with pytest.raises(ShapeError, match="1 vectors"):
        alignment.unaligned(jnp.asarray(x[:1]), 0, FP32)


@pytest.mark.parametrize("fmt", FORMS, ids=str)
def test_an_offset_outside_that_only_the_program_knows_is_poison(rng, fmt):
    x = jnp.asarray(carriers(rng, (3, 4), fmt))
    run = jax.jit(lambda offset: alignment.unaligned(x, offset, fmt))
    for offset in (-2, -1, 5, 9, -(2**31), 2**31 - 1):
        for got in (run(jnp.int32(offset)), alignment.unaligned(x, jnp.int32(offset), fmt)):
            assert got.dtype == fmt.carrier
            assert (patterns(got) == POISON_BITS[fmt.name]).all()


def test_a_dilation_inserts_the_filling(rng):
    x = carriers(rng, (3, 2), FP32)
    want = np.full((5, 4), np.float32(-np.inf))
    want[::2, ::3] = x
    assert_same_bits(alignment.dilate(jnp.asarray(x), (2, 3), -np.inf), patterns(want))
    assert_same_bits(alignment.dilate(jnp.asarray(x), (1, 1)), patterns(x))
    assert alignment.dilate(jnp.asarray([1, 2], jnp.int32), (3,), 7).tolist() == [1, 7, 7, 2]
    assert jax.grad(lambda x: alignment.dilate(x, (2, 3))[2, 0])(jnp.asarray(x)).tolist() == [[0, 0], [1, 0], [0, 0]]
    for factors in ((0, 1), (2,)):
        with pytest.raises(ArgumentError, match="2 of 1 or more"):
            alignment.dilate(jnp.asarray(x), factors)


def test_conversions_are_those_of_the_machine(rng):
    words = rng.integers(0, 2**32, 300, dtype=np.uint32)
    assert_same_bits(alignment.cast(jnp.asarray(raw(words)), FP32, BF16), softfloat.to_bf16(words))
    assert alignment.cast(jnp.asarray([2.9, -2.9, np.nan]), FP32, INT32).tolist() == [2, -2, 0]
    assert alignment.cast(jnp.asarray([True, False]), BOOL, BF16).tolist() == [1.0, 0.0]


def test_tables_are_looked_up_by_number_or_by_word(rng):
    table = carriers(rng, (9,), BF16)
    x = np.asarray([8, 0, -1, 9, 3], np.int32)
    got = alignment.lookup(jnp.asarray(table), jnp.asarray(x), BF16)
    assert np.array_equal(got, np.where((x >= 0) & (x < 9), table[x % 9], np.nan), equal_nan=True)
    everything = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    values = rng.normal(size=65536).astype(np.float32)
    canonical = ~np.isnan(everything) & ((np.abs(everything) >= 2.0**-126) | (everything == 0))
    got = jax.jit(lambda t, x: alignment.lookup(t, x, FP32))(values, everything[canonical])
    assert_same_bits(got, patterns(values[canonical]))
    slope = jax.grad(lambda t: alignment.lookup(t, jnp.asarray([2, 2, 12], jnp.int32), FP32)[:2].sum())(jnp.ones(4))
    assert slope.tolist() == [0, 0, 2, 0]
