"""PCUs that share work: bits equal to one PCU's, or different, exactly where the law says; counts; cycles."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simpy

from rdujax.base.errors import ArgumentError, ShapeError
from rdujax.ledger.counts import total
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams.layout import tiled, whole
from rdujax.streams.stream import untile
from rdujax.units.pcu import parallel
from rdujax.units.pcu.contraction import Contraction, Extent
from rdujax.units.pcu.expression import Expression, Instruction, compose
from rdujax.units.pcu.lanes import Reducer, reduce_rows
from rdujax.units.pcu.parallel import Split, data_parallel, join, pipeline_parallel, split, tensor_parallel
from rdujax.units.pcu.simd import simd
from rdujax.units.pcu.systolic import Fork, systolic
from rdujax.units.pcu.systolic import cycles as systolic_cycles
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.streams.layouts import random_layout, shape_of_rank
from tests.rooms.units.compiles import assert_compiles_once
from tests.rooms.units.streams_of import carriers, stream_of

SQUARE = Expression((BF16,), (Instruction("mul", BF16, (0, 0)),))
SHIFT = Expression((BF16,), (Instruction("immediate", BF16, (), 1.0), Instruction("add", BF16, (0, 1))))


def summed(counts):
    """The counts of all PCUs together."""
    return sum((total(each) for each in counts[1:]), total(counts[0]))


@pytest.mark.parametrize("shapes", [3, pytest.param(30, marks=pytest.mark.full)])
@pytest.mark.parametrize("dealt", [True, False])
def test_shares_partition_the_tiles_and_join_to_what_they_were(dealt, shapes, rng):
    for _ in range(shapes):
        layout = random_layout(rng, shape_of_rank(rng, int(rng.integers(1, 4))))
        axis = int(rng.integers(len(layout.shape)))
        grid = layout.grid[axis]
        allowed = {n for n in range(1, grid + 1) if dealt or -(-grid // -(-grid // n)) == n}
        for pcus in range(1, grid + 2):
            how = Split(axis, pcus, dealt)
            if pcus not in allowed:
                with pytest.raises(ShapeError, match=f"{pcus} PCUs along axis {axis}"):
                    how.owners(layout)
                continue
            x = np.arange(np.prod(layout.shape), dtype=np.int32).reshape(layout.shape)
            stream = stream_of(x, layout, INT32)
            shares = split(stream, how)
            starts = np.arange(0, layout.shape[axis], layout.tile[axis])
            for pcu, share in enumerate(shares):
                mine = starts[pcu::pcus] if dealt else starts[pcu * -(-grid // pcus) : (pcu + 1) * -(-grid // pcus)]
                rows = np.concatenate([np.arange(s, min(s + layout.tile[axis], layout.shape[axis])) for s in mine])
                np.testing.assert_array_equal(untile(share), np.take(x, rows, axis))
            joined = join(shares, how, layout)
            assert joined.layout == layout
            np.testing.assert_array_equal(joined.data, stream.data)


@pytest.mark.parametrize("how", ["vmap", "scan"])
def test_data_parallel_gives_the_bits_and_work_of_one_pcu(how, rng):
    layout = tiled((13, 6), (2, 4), (1, 0))
    x = stream_of(carriers(rng, layout.shape, BF16), layout, BF16)
    unit = lambda s: simd(SQUARE, s, how=how)  # noqa: E731
    want, spent = unit(x)
    for pcus in (1, 3, 7):
        got, counts = data_parallel(unit, Split(0, pcus, dealt=True), x)
        assert got.layout == layout and got.fmt is BF16 and len(counts) == pcus
        assert_same_bits(got.data, patterns(want.data))
        assert summed(counts) == total(spent)
    tiles = [np.asarray(each["pcu.simd_operations"]).size for each in counts]
    assert tiles == [2] * 7


def test_data_parallel_rows_of_a_reduction_and_of_a_contraction(rng):
    layout = tiled((9, 8), (2, 4))
    x = stream_of(carriers(rng, layout.shape, BF16), layout, BF16)
    reduction = lambda s: reduce_rows(Reducer("sum", 4), s, how="vmap")  # noqa: E731
    want, spent = jax.jit(reduction)(x)
    run = lambda s: data_parallel(reduction, Split(0, 2, dealt=True), s, layout=want.layout)  # noqa: E731
    got, counts = jax.jit(run)(x)
    assert_same_bits(got.data, patterns(want.data))
    assert summed(counts) == total(spent)
    weights = stream_of(carriers(rng, (8, 3), BF16), tiled((8, 3), (4, 3)), BF16)
    result = tiled((9, 3), (2, 3))

    def gemm(rows):
        out = replace(result, shape=(rows.shape[0], 3), tile=(rows.layout.tile[0], 3))
        return systolic(Contraction((1,), (0,)), rows, weights, out, BF16, "vmap")

    got, _ = jax.jit(lambda s: data_parallel(gemm, Split(0, 3, dealt=True), s, layout=result))(x)
    assert_same_bits(got.data, patterns(jax.jit(gemm)(x)[0].data))


def operands(rng, fmt=BF16, batch=False):
    """Two matrices whose K is ragged in tiles, and the layout of their product."""
    lead, cut = ((2,), (1,)) if batch else ((), ())
    a = stream_of(carriers(rng, (*lead, 10, 13), fmt), tiled((*lead, 10, 13), (*cut, 3, 5)), fmt)
    b = stream_of(carriers(rng, (*lead, 13, 7), fmt), tiled((*lead, 13, 7), (*cut, 5, 2)), fmt)
    order = (0, 2, 1) if batch else (1, 0)
    return a, b, tiled((*lead, 10, 7), (*cut, 3, 2), order)


FORKS = [Fork(2, 4), Fork(2, 1, transposed=True), Fork(1, 2)]


@pytest.mark.parametrize("fmt", [BF16, FP32, INT32], ids=str)
def test_forks_of_rows_and_columns_change_no_bit(fmt, rng):
    a, b, layout = operands(rng, fmt)
    output = INT32 if fmt is INT32 else BF16
    config = Contraction((1,), (0,))
    want, spent = jax.jit(partial(systolic, config, layout=layout, output=output, how="vmap"))(a, b)
    for fork in FORKS if fmt is BF16 else FORKS[2:]:
        run = partial(tensor_parallel, config, fork, layout=layout, output=output, how="vmap")
        got, counts = jax.jit(run)(a, b)
        assert got.layout == layout and got.fmt is output and len(counts) == fork.pcus
        assert_same_bits(got.data, patterns(want.data), note=str(fork))
        assert summed(counts) == total(spent)


@pytest.mark.parametrize("splits", [3, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 5, 7))])
def test_a_fork_of_k_has_the_bits_of_its_segments(splits, rng):
    a, b, layout = operands(rng)
    config = Contraction((1,), (0,), k_splits=splits)
    size = -(-13 // splits)
    segments = tuple(min(size, 13 - i) for i in range(0, 13, size))
    x, y = (patterns(untile(s)) for s in (a, b))
    want = softfloat.contract(x, y, segments=segments)
    for fork in (Fork(1, 1, len(segments)), Fork(2, 1, len(segments))):
        got, counts = jax.jit(partial(tensor_parallel, config, fork, layout=layout, output=FP32, how="scan"))(a, b)
        assert_same_bits(untile(got), want)
        assert summed(counts)["pcu.macs"] == 10 * 7 * 13
        assert summed(counts)["pcu.simd_operations"] == 10 * 7 * (len(segments) - 1)
    assert (want != softfloat.contract(x, y)).any(), "the split shows in no bit: this test would see nothing"
    run = partial(tensor_parallel, config, Fork(1, 1, len(segments)), layout=layout, output=BF16, how="scan")
    rounded, _ = jax.jit(run)(a, b)
    assert_same_bits(untile(rounded), softfloat.to_bf16(want))


def test_integers_wrap_alike_however_k_is_forked(rng):
    a, b, layout = operands(rng, INT32)
    want, _ = systolic(Contraction((1,), (0,)), a, b, layout, INT32, "vmap")
    config = Contraction((1,), (0,), k_splits=4)
    got, _ = jax.jit(partial(tensor_parallel, config, Fork(2, 1, 4), layout=layout, output=INT32, how="vmap"))(a, b)
    assert_same_bits(untile(got), np.asarray(untile(want)))


def test_batched_operands_and_words_at_rest(rng):
    a, b, layout = operands(rng, batch=True)
    x = stream_of(np.asarray(untile(a)), a.layout, BF16, packed=True)
    config = Contraction((2,), (1,), (0,), (0,), k_splits=2)
    want, _ = systolic(config, *(stream_of(np.asarray(untile(s)), whole(s.shape), BF16) for s in (a, b)),
                       whole(layout.shape), FP32)  # fmt: skip
    for fork in (Fork(2, 1, 2), Fork(2, 1, 2, batches=2)):
        run = partial(tensor_parallel, config, fork, layout=layout, output=FP32, how="vmap")
        got, counts = jax.jit(run)(x, b)
        assert_same_bits(untile(got), patterns(untile(want)), note=str(fork))
        assert len(counts) == fork.pcus and summed(counts)["pcu.macs"] == 2 * 10 * 7 * 13


def test_derivatives_of_a_fork_are_those_of_one_array(rng):
    config, layout = Contraction((1,), (0,), k_splits=2), tiled((5, 3), (2, 2))
    x, y = (jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in ((5, 8), (8, 3)))

    def loss(v, w, forked):
        a, b = stream_of(v, tiled((5, 8), (2, 8)), FP32), stream_of(w, tiled((8, 3), (8, 2)), FP32)
        if forked:
            return untile(tensor_parallel(config, Fork(3, 1, 2), a, b, layout, FP32, "vmap")[0]).sum()
        return untile(systolic(config, a, b, layout, FP32, "vmap")[0]).sum()

    for one, many in zip(
        *(jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)(x, y, forked) for forked in (False, True)), strict=True
    ):
        assert np.isfinite(many).all()
        np.testing.assert_allclose(many, one, rtol=1e-6)


def test_an_eager_fork_of_k_compiles_once(rng):
    a, b, layout = operands(rng)
    config = Contraction((1,), (0,), k_splits=2)
    assert_compiles_once(lambda: tensor_parallel(config, Fork(1, 1, 2), a, b, layout, BF16, "scan"))


def test_a_pipeline_has_the_bits_of_its_stages_and_of_what_they_hand_on(rng):
    x = stream_of(carriers(rng, (8, 6), BF16), tiled((8, 6), (3, 4)), BF16)
    stages = [lambda s: simd(SQUARE, s, how="vmap"), lambda s: simd(SHIFT, s, how="vmap")]
    got, counts = pipeline_parallel(stages, x)
    together, spent = simd(compose(SHIFT, 0, SQUARE), x, how="vmap")
    assert_same_bits(got.data, patterns(together.data))
    assert [total(c)["pcu.simd_operations"] for c in counts] == [48, 48]
    assert total(spent)["pcu.simd_operations"] == 96
    wide, _ = pipeline_parallel([lambda s: simd(SQUARE, s, wide=True, how="vmap"), stages[1]], x)
    bits = patterns(untile(x))
    square = softfloat.mul(bits, bits)
    one = np.full(bits.shape, softfloat.ONE, np.uint32)
    assert_same_bits(untile(wide), softfloat.to_bf16(softfloat.add(square, one)))
    assert_same_bits(untile(got), softfloat.to_bf16(softfloat.add(softfloat.to_bf16(square), one)))
    assert (patterns(untile(wide)) != patterns(untile(got))).any()


def simulated(tiles: int, services: list[int]) -> int:
    """The chain as processes of SimPy, with as much room between the stages as they want."""
    world = simpy.Environment()
    links = [simpy.Store(world) for _ in range(len(services) + 1)]

    def stage(i):
        for _ in range(tiles):
            tile = yield links[i].get()
            yield world.timeout(services[i])
            yield links[i + 1].put(tile)

    for i in range(len(services)):
        world.process(stage(i))
    for t in range(tiles):
        links[0].put(t)
    world.run()
    return int(world.now)


def test_cycles_of_a_chain_are_those_of_a_simulation(rng):
    for _ in range(20):
        services = [int(s) for s in rng.integers(1, 9, rng.integers(1, 5))]
        tiles = int(rng.integers(1, 7))
        assert parallel.pipeline_cycles(tiles, services) == simulated(tiles, services)
    slope = jax.grad(lambda slow: parallel.pipeline_cycles(10, [2, slow, 3]))(jnp.float32(5))
    assert slope == 10


def test_cycles_of_shares_are_those_of_the_busiest():
    for tiles in range(1, 12):
        for pcus in range(1, 6):
            dealt = [len(range(p, tiles, pcus)) for p in range(pcus)]
            assert parallel.data_parallel_cycles(tiles, pcus, 7) == 7 * max(dealt)


def test_cycles_of_a_fork_never_grow_and_end_in_one_pass():
    config, extent = tiny().pcu, Extent(1, 16, 8, 32)
    rows, columns = config.systolic_rows.value, config.systolic_columns.value
    times = [systolic_cycles(rows, columns, extent, Fork(r, c)) for r, c in ((1, 1), (2, 1), (2, 2), (4, 4))]
    drain = rows + columns - 2
    assert times == [16 * 32 + drain, 8 * 32 + drain, 4 * 32 + drain, 32 + drain]


def test_what_cannot_be_shared_is_refused(rng):
    a, b, layout = operands(rng)
    config = Contraction((1,), (0,))
    with pytest.raises(ShapeError, match=r"cannot share\n  given:   5 PCUs along axis 0 .*, 4 tiles"):
        tensor_parallel(config, Fork(5, 1), a, b, layout, FP32)
    with pytest.raises(ArgumentError, match=r"does not declare\n  given:   2 PCUs along K, 1 segments"):
        tensor_parallel(config, Fork(1, 1, 2), a, b, layout, FP32)
    with pytest.raises(ArgumentError, match=r"K of several axes"):
        both = stream_of(carriers(rng, (4, 6), BF16), whole((4, 6)), BF16)
        tensor_parallel(Contraction((0, 1), (0, 1), k_splits=2), Fork(1, 1, 2), both, both, whole(()), FP32)
    with pytest.raises(ShapeError, match=r"the contraction has no batch to fork\n  given:   2 PCUs"):
        tensor_parallel(config, Fork(1, 1, batches=2), a, b, layout, FP32)
    with pytest.raises(ShapeError, match="the left operand has no axis to fork"):
        row = stream_of(carriers(rng, (13,), BF16), whole((13,)), BF16)
        tensor_parallel(Contraction((0,), (0,)), Fork(2, 1), row, b, whole((7,)), FP32)
    with pytest.raises(ShapeError, match="shares of another tensor"):
        join(split(a, Split(0, 2)), Split(0, 4), a.layout)
    with pytest.raises(ShapeError, match="along axis 2"):
        split(a, Split(2, 1))
    with pytest.raises(ArgumentError, match="a pipeline without stages"):
        pipeline_parallel([], a)
