"""Kinds of work that only move data: values, order of updates, costs, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import rdujax as rdu
from rdujax.base.errors import FormatError, ShapeError
from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.ops.concat import Concat
from rdujax.ops.dynamic import DynamicSlice, DynamicUpdate
from rdujax.ops.on_buffers import Ports, vectors_of_slices
from rdujax.ops.op import TensorType
from rdujax.ops.put import Put
from rdujax.ops.take import Places, Take, dimension_numbers
from rdujax.units.pcu.simd import Chain
from tests.oracles import softfloat as sf
from tests.rooms.ops.works import assert_walks

TINY = rdu.machines.tiny()
PCU = TINY.pcu
VECTOR_BYTES = int(PCU.lanes_bf16.value) * 2
ROWS = Places((1,), (0,), (0,))  # whole rows of a matrix


def kinds(*shapes, fmt=BF16):
    return [TensorType(shape, fmt) for shape in shapes]


@st.composite
def gathers(draw):
    """A random gather: which axes are named, which collapsed, which go together, where the slices' axes come to lie."""
    rank = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 5)) for _ in range(rank))
    axes = list(range(rank))
    batch = tuple(draw(st.sets(st.sampled_from(axes), max_size=rank - 1))) if rank > 1 else ()
    batch = tuple(sorted(batch))
    named = tuple(draw(st.permutations([a for a in axes if a not in batch])))
    named = named[: draw(st.integers(0, len(named)))]
    free = [a for a in axes if a not in batch]
    collapsed = tuple(sorted(draw(st.sets(st.sampled_from(free))))) if free else ()
    sizes = tuple(1 if a in (*batch, *collapsed) else draw(st.integers(1, n)) for a, n in enumerate(shape))
    more = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 1)))]
    rows = [*(shape[a] for a in batch), *more]
    kept = rank - len(batch) - len(collapsed)
    offsets = tuple(sorted(draw(st.permutations(range(kept + len(rows))))[:kept]))
    index = np.array(draw(st.lists(st.integers(-7, 8), min_size=(n := int(np.prod(rows, dtype=int)) * len(named)),
                                   max_size=n)), np.int32).reshape(*rows, len(named))  # fmt: skip
    return Places(offsets, collapsed, named, batch, tuple(range(len(batch)))), shape, sizes, index


@given(gathers(), st.sampled_from(["clip", "fill"]))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_takes_of_every_form(drawn, mode):
    """The reference by loops equals XLA's gather, and so does the emulated tile."""
    places, shape, sizes, index = drawn
    op, x = Take(places, sizes, mode, -1), np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
    want = jax.lax.gather(
        x, index, dimension_numbers(places), sizes, mode=mode, fill_value=-1 if mode == "fill" else None
    )
    assert np.array_equal(op.reference(x, index), want)
    assert op.infer(*kinds(shape, index.shape, fmt=INT32)).shape == want.shape
    assert np.array_equal(op.tile(INT32, jnp.asarray(x), jnp.asarray(index)), want)
    assert_walks(op, (x, index), want)


SCATTERS = {"set": jax.lax.scatter, "add": jax.lax.scatter_add, "sub": jax.lax.scatter_sub,
            "mul": jax.lax.scatter_mul, "min": jax.lax.scatter_min, "max": jax.lax.scatter_max}  # fmt: skip


@given(gathers(), st.sampled_from(["clip", "fill"]), st.sampled_from(list(SCATTERS)), st.integers(0, 99))
@settings(deadline=None, max_examples=20, derandomize=True)
def test_puts_of_every_form(drawn, mode, function, seed):
    """Against XLA's scatter on integers, where the order shows only in what is set: there, by the loop alone."""
    places, shape, sizes, index = drawn
    assume(places.named)  # without an index, XLA applies one update of many
    rng = np.random.default_rng(seed)
    shape_of_slices = jax.eval_shape(
        lambda x, i: jax.lax.gather(x, i, dimension_numbers(places), sizes), np.zeros(shape, np.int32), index
    ).shape
    x, updates = (rng.integers(-9, 9, s).astype(np.int32) for s in (shape, shape_of_slices))
    op = Put(places, function, INT32, mode)
    want = op.reference(x.astype(np.int64), index, updates.astype(np.int64))
    numbers = jax.lax.ScatterDimensionNumbers(
        places.offsets, places.collapsed, places.named, places.batch, places.index_batch
    )
    theirs = SCATTERS[function](x, index, updates, numbers, mode=mode)
    assert function == "set" or np.array_equal(want, theirs)
    assert op.infer(*kinds(shape, index.shape, updates.shape, fmt=INT32)) == TensorType(shape, INT32)
    assert np.array_equal(op.tile(INT32, *map(jnp.asarray, (x, index, updates))), want)
    assert_walks(op, (x, index, updates), want)


@pytest.mark.parametrize("fmt", [BF16, FP32], ids=str)
@pytest.mark.parametrize("function", ["add", "sub", "mul", "min", "max"])
def test_updates_of_one_place_take_their_turn(rng, fmt, function):
    """Against integer softfloat, update after update: every combination is one FP32 result, rounded to the format."""
    dtype = jnp.bfloat16 if fmt is BF16 else jnp.float32
    x, u = (jnp.asarray(rng.standard_normal(n) * 4.0, dtype) for n in (5, 60))
    x, u = x.at[0].set(jnp.inf), u.at[3].set(-jnp.inf).at[7].set(jnp.nan).at[11].set(-0.0)
    i = jnp.asarray(rng.integers(-1, 6, 60), jnp.int32)  # -1 is the last in JAX, 5 and beyond are dropped
    combine = {"add": sf.add, "sub": sf.sub, "mul": sf.mul, "min": sf.minimum, "max": sf.maximum}[function]
    words = [np.asarray(a.astype(jnp.float32)).view(np.uint32) for a in (x, u)]
    want = words[0].copy()
    for place, word in zip(np.asarray(i).tolist(), words[1], strict=True):
        place = place + 5 if place < 0 else place
        if place < 5:
            value = combine(want[place : place + 1], word[None])
            want[place] = (sf.to_bf16(value) if fmt is BF16 else value)[0]
    method = {"sub": "subtract", "mul": "multiply"}.get(function, function)
    program = rdu.compile(lambda x, i, u: getattr(x.at[i], method)(u), x, i, u, machine="tiny")
    got = np.asarray(program(x, i, u).astype(jnp.float32)).view(np.uint32)
    assert got.tolist() == want.tolist()


def test_of_two_that_write_one_place_the_later_one_stays(rng):
    i = jnp.asarray(rng.integers(0, 4, 50), jnp.int32)
    got = rdu.compile(lambda x, i, u: x.at[i].set(u), jnp.zeros(4, jnp.int32), i, i, machine="tiny")(
        jnp.zeros(4, jnp.int32), i, jnp.arange(50, dtype=jnp.int32)
    )
    assert got.tolist() == [int(np.flatnonzero(np.asarray(i) == place)[-1]) for place in range(4)]


def test_concatenations(rng):
    op, parts = Concat(1), [rng.normal(size=(3, n)) for n in (2, 5, 1)]
    assert np.array_equal(op.reference(*parts), np.concatenate(parts, 1))
    assert op.infer(*kinds((3, 2), (3, 5), (3, 1))) == TensorType((3, 8), BF16)
    assert (op.walks((3, 2), (3, 5)), str(op), op.flops()) == (((0, None), (0, None)), "concatenate[1]", 0)


@pytest.mark.parametrize(
    ("op", "operands", "error", "text"),
    [
        (Concat(0), kinds((3, 2), (3, 5)), ShapeError, "tensors that do not join"),
        (Concat(2), kinds((3, 2), (3, 2)), ShapeError, "tensors that do not join"),
        (Concat(0), [*kinds((3, 2)), TensorType((3, 2), FP32)], FormatError, "allowed: one format"),
        (Take(ROWS, (1, 4)), kinds((5, 4), (2, 1)), FormatError, "indices(.|\n)*allowed: int32"),
        (Take(ROWS, (1, 5)), [*kinds((5, 4)), TensorType((2, 1), INT32)], ShapeError, "a slice that does not fit"),
        (Put(ROWS, "add", BF16), kinds((5, 4), (2, 1), (2, 4)), FormatError, "formats of a scatter"),
        (Put(ROWS, "add", BOOL), [TensorType((5, 4), BOOL), TensorType((2, 1), INT32), TensorType((2, 4), BOOL)],
         FormatError, "a combination of bool"),
        (Put(ROWS, "add", BF16), [*kinds((5, 4)), TensorType((2, 1), INT32), *kinds((2, 5))],
         ShapeError, "slices that do not fit"),
        (DynamicSlice((0,), (2,)), kinds((5, 4), ()), FormatError, "1 scalars of int32"),
        (DynamicSlice((0,), (6,)), [*kinds((5, 4)), TensorType((), INT32)], ShapeError, "a slice that does not fit"),
        (DynamicUpdate((0,)), [*kinds((5, 4), (2, 3)), TensorType((), INT32)], ShapeError, "that does not fit"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(op, operands, error, text):
    with pytest.raises(error, match=text):
        op.infer(*operands)


def test_fills_of_other_bits_are_other_work():
    def take(fill):
        return Take(ROWS, (1, 4), "fill", fill)

    assert take(0.0) != take(-0.0) and take(float("nan")) == take(float("nan")) and take(1) == take(1)
    assert hash(take(float("nan"))) == hash(take(float("nan")))


def test_a_slice_costs_a_vector_for_each_run_of_neighbours():
    words = VECTOR_BYTES // 4

    def vectors(sizes, shape, count=1):
        return vectors_of_slices(PCU, sizes, shape, count, FP32)

    assert vectors((1, words), (9, words)) == 1 and vectors((1, words + 1), (9, words + 1)) == 2
    assert vectors((2, words // 2), (9, words // 2)) == 1  # whole rows lie side by side
    assert vectors((2, words // 2), (9, words)) == 2  # parts of rows do not
    assert vectors((3, 2, 1), (4, 5, 6), 7) == 7 * 6
    assert vectors((), ()) == 1


def test_stages_on_buffers_take_no_pcu_and_fewer_cycles_on_more_ports():
    x, i, u = TensorType((40, 30), FP32), TensorType((16, 1), INT32), TensorType((16, 30), FP32)
    scalar = TensorType((), INT32)
    works = [
        (Concat(0), (x, x), 2 * x.size_bytes),
        (Take(ROWS, (1, 30)), (x, i), None), (Put(ROWS, "set", FP32), (x, i, u), None),
        (DynamicSlice((0,), (8,)), (x, scalar), 8 * 30 * 4), (DynamicUpdate((0,)), (x, u, scalar), x.size_bytes),
    ]  # fmt: skip
    for op, operands, moved_bytes in works:
        stairs = op.shares(TINY, 0, *operands)
        assert op.fewest(TINY, *operands) == 0 and op.work(*operands) == Counts()
        assert all(share.pcus == 0 for _, share in stairs) and len(stairs) > 3
        times, ports = [time for time, _ in stairs], [share.ports for _, share in stairs]
        assert times == sorted(set(times)) and ports == sorted(set(ports), reverse=True)
        assert all(op.cycles(TINY, share, *operands) == time for time, share in stairs)
        if moved_bytes:
            assert times[-1] == -(-moved_bytes // VECTOR_BYTES)
        reads, writes = op.feeds(TINY, Ports(2), operands, [o.fmt for o in operands], FP32)
        joined = isinstance(op, Concat)  # its two operands share what is written
        assert (reads[0], writes) == (VECTOR_BYTES if joined else 2 * VECTOR_BYTES, 2 * VECTOR_BYTES)
        assert all(rate == min(8, o.size_bytes) for rate, o in zip(reads, operands, strict=True) if o.fmt is INT32)


def test_combined_updates_take_pcus_and_are_counted():
    x, i, u = TensorType((40, 30), FP32), TensorType((16, 1), INT32), TensorType((16, 30), FP32)
    op, row = Put(ROWS, "add", FP32), -(-30 * 4 // VECTOR_BYTES)
    stages = int(PCU.simd_stages.value)
    for copies in (1, 4):
        vectors = -(-x.size_bytes // VECTOR_BYTES) + 16 * row
        assert op.cycles(TINY, Chain(1, copies), x, i, u) == -(-vectors // copies) + stages - 1
    assert (op.fewest(TINY, x, i, u), op.shares(TINY, 0, x, i, u), op.flops(x, i, u)) == (1, (), 16 * 30)
    assert max(share.pcus for _, share in op.shares(TINY, 5, x, i, u)) == 4
    assert op.work(x, i, u) == Counts({"pcu.simd_operations": 16 * 30})


def test_reports_and_pictures_show_stages_without_pcus(rng, tmp_path):
    x, i = jnp.asarray(rng.standard_normal((20, 24)), jnp.bfloat16), jnp.asarray([3, 1, 19, 0], jnp.int32)
    program = rdu.compile(lambda x, i: jnp.tanh(jnp.take(jnp.exp(x), i, axis=0, mode="clip")), x, i)
    report = program.report()
    (line,) = [text for text in str(report).splitlines() if "take[0](1x24) clip" in text]
    assert " PMUs " in line and "per cycle: take" in line and "PCU" not in line
    program.floorplan().save(tmp_path / "plan.svg")
    program.timeline().save(tmp_path / "trace.json")
    assert "take" in (tmp_path / "plan.svg").read_text() and "take" in (tmp_path / "trace.json").read_text()
