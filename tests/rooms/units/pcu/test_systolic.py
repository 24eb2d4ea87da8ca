"""The systolic array against a loop over k in integer arithmetic, for any axes, tiles and executors."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.streams.layout import Layout, tiled, whole
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import Stream, cut, untile
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.systolic import systolic
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, in_full, patterns
from tests.rooms.units.compiles import assert_compiles_once
from tests.rooms.units.streams_of import carriers, stream_of


@dataclass(frozen=True)
class Case:
    """A contraction with its operands' layouts, its result's, and the operands' format."""

    config: Contraction
    a: Layout
    b: Layout
    out: Layout
    fmt: object = BF16
    output: object = FP32


def random_case(seed: int, fmt=BF16) -> Case:
    """Random axes in random places, cut at random: ragged along batch, free and the first contracted axis."""
    rng = np.random.default_rng(seed)
    n_batch, n_left, n_right = (int(rng.integers(0, 2 + (seed % 3 == i))) for i in range(3))
    n_k = int(rng.integers(1, 3))
    kinds = [[f"b{i}" for i in range(n_batch)] + [f"k{i}" for i in range(n_k)] + [f"{side}{i}" for i in range(n)]
             for side, n in (("l", n_left), ("r", n_right))]  # fmt: skip
    length = {name: int(rng.integers(1, 6)) for name in kinds[0] + kinds[1]}
    length["k0"] = int(rng.integers(3, 10))
    tile = {name: int(rng.integers(1, n + 1)) for name, n in length.items()}
    tile |= {f"k{i}": length[f"k{i}"] for i in range(1, n_k)}
    left, right = (list(rng.permutation(names)) for names in kinds)
    config = Contraction(*(tuple(side.index(f"{kind}{i}") for i in range(n)) for kind, n in (("k", n_k), ("b", n_batch))
                           for side in (left, right)))  # fmt: skip
    kept = [f"b{i}" for i in range(n_batch)] + [name for side in (left, right) for name in side if name[0] in "lr"]

    def layout_of(names):
        order = tuple(int(axis) for axis in rng.permutation(len(names)))
        return Layout(tuple(length[n] for n in names), tuple(tile[n] for n in names), order)

    return Case(config, layout_of(left), layout_of(right), layout_of(kept), fmt, INT32 if fmt is INT32 else FP32)


def rows_of(x: np.ndarray, batch: tuple[int, ...], free: tuple[int, ...], contracted: tuple[int, ...]) -> np.ndarray:
    """[every batch index, every free index, every k], gathered element by element in row-major order."""

    def indices(axes):
        return [dict(zip(axes, at, strict=True)) for at in np.ndindex(*(x.shape[i] for i in axes))]

    def pick(*parts):
        place = {axis: i for part in parts for axis, i in part.items()}
        return x[tuple(place[axis] for axis in range(x.ndim))]

    return np.array([[[pick(i, j, k) for k in indices(contracted)] for j in indices(free)] for i in indices(batch)])


def oracle(case: Case, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every sum by itself, k in increasing row-major order over the contracted axes (N8); INT32 wraps (N7)."""
    c = case.config
    left = rows_of(a, c.lhs_batch, c.lhs_free(a.ndim), c.lhs_contract)
    right = rows_of(b, c.rhs_batch, c.rhs_free(b.ndim), c.rhs_contract)
    if case.fmt is INT32:
        products = left.astype(object)[:, :, None, :] * right.astype(object)[:, None, :, :]
        return softfloat.wrap((products.sum(-1) & 0xFFFFFFFF).astype(np.int64)).reshape(case.out.shape)
    k, s = left.shape[-1], c.k_splits
    size = -(-k // s)
    segments = None if s == 1 else tuple(min(size, k - i) for i in range(0, k, size))
    bits = softfloat.contract(left.view(np.uint32), right.view(np.uint32).transpose(0, 2, 1), segments=segments)
    return bits.reshape(case.out.shape)


def run(case: Case, a: np.ndarray, b: np.ndarray, how="vmap", packed=(False, False)):
    """The result's stream and counts."""
    left = stream_of(a, case.a, case.fmt, packed=packed[0])
    right = stream_of(b, case.b, case.fmt, packed=packed[1])
    return jax.jit(lambda x, y: systolic(case.config, x, y, case.out, case.output, how))(left, right)


def operands(case: Case, seed: int = 0):
    rng = np.random.default_rng(seed)
    return carriers(rng, case.a.shape, case.fmt), carriers(rng, case.b.shape, case.fmt)


def predicted(case: Case) -> Counts:
    """Multiply-accumulates, and every operand element once for each result tile that needs it."""
    extent = case.config.extent(case.a.shape, case.b.shape)
    n_batch, n_left = len(case.config.lhs_batch), len(case.config.lhs_free(len(case.a.shape)))
    grid = case.out.grid
    again_a, again_b = (
        np.prod(grid[n_batch + n_left :], dtype=int),
        np.prod(grid[n_batch : n_batch + n_left], dtype=int),
    )
    read = np.prod(case.a.shape, dtype=int) * again_a + np.prod(case.b.shape, dtype=int) * again_b
    return Counts({"pcu.macs": extent.macs, "pmu.read_bytes": int(read) * case.fmt.width_bytes})


@pytest.mark.parametrize("seed", [*range(4), *in_full(*range(4, 10))])
def test_whole_vmap_scan_and_the_oracle_agree_bit_for_bit(seed):
    case = random_case(seed, (BF16, FP32)[seed % 2])
    a, b = operands(case, seed)
    want = oracle(case, a, b)
    for how in ("vmap", "scan"):
        stream, counts = run(case, a, b, how)
        assert stream.layout == case.out and stream.fmt is FP32
        assert_same_bits(untile(stream), want, note=f"{how} {case}")
        assert total(counts) == predicted(case)
    uncut = replace(case, a=whole(case.a.shape), b=whole(case.b.shape), out=whole(case.out.shape))
    assert_same_bits(untile(run(uncut, a, b, "whole")[0]), want, note=f"whole {case}")


@pytest.mark.parametrize("seed", range(3))
def test_integers_wrap_in_any_tiling(seed):
    case = random_case(seed + 20, INT32)
    a, b = operands(case, seed)
    want = oracle(case, a, b)
    stream, counts = run(case, a, b, "scan")
    assert_same_bits(untile(stream), want)
    assert (stream.fmt, total(counts)) == (INT32, predicted(case))


MATRICES = Case(Contraction((1,), (0,)), tiled((5, 7), (2, 3)), tiled((7, 4), (3, 3)), tiled((5, 4), (2, 3), (1, 0)))
TWO_K = Case(
    Contraction((1, 2), (0, 1)),
    tiled((3, 5, 3), (2, 2, 3)),
    tiled((5, 3, 4), (2, 3, 3)),
    tiled((3, 4), (2, 3)),
)
BATCHED = Case(
    Contraction((2,), (1,), (0,), (0,)),
    tiled((3, 2, 4), (2, 2, 4)),
    tiled((3, 4, 3), (2, 4, 2)),
    tiled((3, 2, 3), (2, 2, 2)),
)


@pytest.mark.parametrize("case", [MATRICES, TWO_K, BATCHED], ids=["matrices", "two contracted axes", "batched"])
@pytest.mark.parametrize(("fmt", "how"), [(BF16, "vmap"), (BF16, "scan"), (FP32, "vmap"), (INT32, "scan")], ids=str)
def test_poison_stays_in_the_tails(case, fmt, how):
    """Finite operands with ragged tiles give finite results, whose own tails are poison and nothing else."""
    case = replace(case, fmt=fmt, output=INT32 if fmt is INT32 else FP32)
    a, b = operands(case)
    assert case.a.is_ragged and case.b.is_ragged
    stream, _ = run(case, a, b, how)
    assert fmt is INT32 or np.isfinite(untile(stream)).all()
    assert_same_bits(untile(stream), oracle(case, a, b))
    again = cut(jnp.asarray(untile(stream)), case.out, stream.fmt)
    assert case.out.is_ragged and np.array_equal(patterns(stream.data), patterns(again))


@pytest.mark.parametrize(
    ("case", "packed"), [(MATRICES, (True, False)), (MATRICES, (False, True)), (TWO_K, (True, True))]
)
def test_words_at_rest_give_the_same_bits(case, packed):
    a, b = operands(case)
    assert_same_bits(untile(run(case, a, b, "scan", packed)[0]), oracle(case, a, b))


def test_special_values_reach_the_results_that_they_belong_to():
    a, b = operands(MATRICES)
    a[4, 6], a[1, 0], b[6, 3] = np.nan, np.inf, -np.inf
    a.view(np.uint32)[4, 6] = 0x7FC00000
    got = np.asarray(untile(run(MATRICES, a, b)[0]))
    assert_same_bits(got, oracle(MATRICES, a, b))
    assert np.isnan(got[4]).all() and np.isfinite(got[[0, 2, 3]][:, :3]).all()


def test_a_ragged_k_keeps_a_negative_zero_that_cannot_be():
    """From +0 no sum is -0: masked tails add -0, which leaves both zeros as they are."""
    a, b = np.zeros((5, 7), np.float32), -np.ones((7, 4), np.float32)
    assert_same_bits(untile(run(MATRICES, a, b, "scan")[0]), np.zeros((5, 4), np.uint32))


@pytest.mark.parametrize("splits", [2, 3, 4])
def test_splits_of_k_are_segments_added_in_order(splits):
    case = replace(
        MATRICES, config=replace(MATRICES.config, k_splits=splits), a=tiled((5, 7), (2, 7)), b=tiled((7, 4), (7, 3))
    )
    a, b = operands(case)
    for how in ("vmap", "scan"):
        assert_same_bits(untile(run(case, a, b, how)[0]), oracle(case, a, b))
    # Segments of one product each are the chain itself.
    assert (oracle(case, a, b) != oracle(MATRICES, a, b)).any() == (splits < 7)


@pytest.mark.parametrize("held", [(FP32, BF16), (BF16, FP32)], ids=str)
def test_bytes_are_read_in_the_width_that_the_buffers_hold(held):
    a, b = operands(MATRICES)
    left, right = stream_of(a, MATRICES.a, BF16), stream_of(b, MATRICES.b, BF16)
    _, counts = systolic(MATRICES.config, left, right, MATRICES.out, FP32, "vmap", held=held)
    again_a, again_b = MATRICES.out.grid[1], MATRICES.out.grid[0]
    want = 35 * again_a * held[0].width_bytes + 28 * again_b * held[1].width_bytes
    assert total(counts)["pmu.read_bytes"] == want


def test_the_tail_rounds_once():
    case = replace(MATRICES, output=BF16)
    a, b = operands(case)
    stream, _ = run(case, a, b)
    assert stream.fmt is BF16
    assert_same_bits(untile(stream), softfloat.to_bf16(oracle(case, a, b)))


def test_an_outer_product_contracts_nothing():
    case = Case(Contraction((), ()), tiled((3,), (2,)), tiled((4,), (3,)), tiled((3, 4), (2, 3)))
    a, b = operands(case)
    stream, counts = run(case, a, b, "scan")
    assert_same_bits(untile(stream), oracle(case, a, b))
    assert total(counts) == predicted(case) and total(counts)["pcu.macs"] == 12


def test_without_a_tally_nothing_is_counted():
    a, b = operands(MATRICES)
    left, right = stream_of(a, MATRICES.a, BF16), stream_of(b, MATRICES.b, BF16)
    for how in EXECUTORS:
        assert systolic(MATRICES.config, left, right, MATRICES.out, FP32, how, tally=False)[1] == Counts()


def struct(layout: Layout, fmt) -> Stream:
    return Stream(jax.ShapeDtypeStruct((layout.n_tiles, *layout.tile), fmt.carrier), layout, fmt)


def abstract(config, a, b, out, fmts=(BF16, BF16), output=FP32):
    return jax.eval_shape(lambda x, y: systolic(config, x, y, out, output), struct(a, fmts[0]), struct(b, fmts[1]))


@pytest.mark.parametrize("k", [2**30 - 1, 2**30, 2**29 - 1, 2**29, 2**31])
def test_a_step_whose_tally_would_not_fit_is_refused(k):
    """One row times one column of BF16 reads 4 bytes for each multiply-accumulate."""
    arguments = (Contraction((1,), (0,)), whole((1, k)), whole((k, 1)), whole((1, 1)))
    if 4 * k < 2**31:
        assert abstract(*arguments)[0].shape == (1, 1)
    else:
        with pytest.raises(ArgumentError, match="too much for one step to be tallied(.|\n)*2\\^31"):
            abstract(*arguments)


def test_a_step_counts_all_of_k_however_it_is_cut():
    k, cut = 2**20, 2**14
    fits = Contraction((1,), (0,)), tiled((64, k), (63, cut)), tiled((k, 32), (cut, 32)), tiled((64, 32), (63, 32))
    assert abstract(*fits)[0].shape == (64, 32)
    with pytest.raises(ArgumentError, match="given:   2,147,483,648 multiply-accumulates or bytes of a tile"):
        abstract(fits[0], tiled((64, k), (64, cut)), fits[2], tiled((64, 32), (64, 32)))


@pytest.mark.parametrize(
    ("fmts", "message"),
    [((BF16, FP32), "given:   bf16 and fp32"), ((INT32, FP32), "int32 and fp32"), ((BOOL, BOOL), "bool and bool")],
)
def test_operands_share_a_format_that_can_be_contracted(fmts, message):
    with pytest.raises(
        FormatError, match=f"operands of a contraction\n(.|\n)*{message}(.|\n)*both bf16, both fp32 or both int32"
    ):
        abstract(MATRICES.config, MATRICES.a, MATRICES.b, MATRICES.out, fmts)


@pytest.mark.parametrize(
    ("error", "changes", "message"),
    [
        (
            ShapeError,
            {"b": tiled((6, 4), (3, 3))},
            r"contracted axes have different lengths\n  given:   \(5, 7\) at \(1,\)",
        ),
        (ShapeError, {"b": tiled((7, 4), (2, 3))}, r"contracted axes have different lengths\n  given:   \(2, 3\)"),
        (ShapeError, {"out": tiled((5, 4), (2, 4))}, r"cut in another way than its operands\n  given:   5x4/2x4@01"),
        (ShapeError, {"out": tiled((4, 5), (2, 3))}, r"allowed: \(5, 4\) in tiles of \(2, 3\)"),
        (
            ArgumentError,
            {"config": Contraction((1,), (0,), k_splits=2)},
            "not together with k_splits\n  given: (.|\n)*k_splits=2",
        ),
    ],
)
def test_operands_that_do_not_meet_are_refused(error, changes, message):
    case = replace(MATRICES, **changes)
    with pytest.raises(error, match=message):
        abstract(case.config, case.a, case.b, case.out)


def test_only_the_outermost_contracted_axis_may_be_cut():
    case = replace(TWO_K, a=tiled((3, 5, 3), (2, 2, 2)), b=tiled((5, 3, 4), (2, 2, 3)))
    with pytest.raises(ArgumentError, match="K may be cut along its outermost axis only"):
        abstract(case.config, case.a, case.b, case.out)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (((-1,), (0,)), r"axes of the left operand\n  given:   \(-1,\)\n  allowed: each axis once, counted from 0"),
        (((1, 1), (0, 1)), r"axes of the left operand\n  given:   \(1, 1\)"),
        (((1,), (0,), (0,), (0,)), r"axes of the right operand\n  given:   \(0, 0\)"),
        (((0, 1), (0,)), r"the contracted axes do not pair up\n  given:   \(0, 1\) and \(0,\)"),
        (((1,), (0,), (0,)), r"the batch axes do not pair up\n  given:   \(0,\) and \(\)"),
        (((1,), (0,), (), (), 0), "segments of K\n  given:   k_splits=0\n  allowed: 1 or more"),
    ],
)
def test_axes_that_no_operands_have_are_refused(axes, message):
    with pytest.raises(ArgumentError, match=message):
        Contraction(*axes)


def test_axes_beyond_the_operands_are_refused():
    for ask in (Contraction((5,), (0,)).shape_of, Contraction((5,), (0,)).extent):
        with pytest.raises(
            ShapeError, match=r"left operand does not have\n  given:   \(5, 7\) at \(5,\)\n  allowed: axes below 2"
        ):
            ask((5, 7), (7, 4))
    with pytest.raises(ShapeError, match="right operand does not have"):
        Contraction((1,), (2,)).shape_of((5, 7), (7, 4))
    assert Contraction((1,), (0,)).shape_of((5, 7), (7, 4)) == (5, 4)


def test_an_eager_call_compiles_once():
    a, b = operands(MATRICES)
    left, right = stream_of(a, MATRICES.a, BF16), stream_of(b, MATRICES.b, BF16)
    assert_compiles_once(lambda: systolic(MATRICES.config, left, right, MATRICES.out, FP32, "vmap"))


def test_the_gradient_is_that_of_a_plain_product():
    a, b = operands(MATRICES)
    weights = np.random.default_rng(5).normal(size=(5, 4)).astype(np.float32)

    def through_unit(x, y):
        left, right = (Stream(jnp.asarray(v), s, FP32) for v, s in ((x, MATRICES.a), (y, MATRICES.b)))
        return jnp.vdot(untile(systolic(MATRICES.config, left, right, MATRICES.out, FP32, "vmap")[0]), weights)

    tiles = stream_of(a, MATRICES.a, FP32).data, stream_of(b, MATRICES.b, FP32).data
    of_a, of_b = jax.jit(jax.grad(through_unit, (0, 1)))(*tiles)
    for got, layout, want in ((of_a, MATRICES.a, weights @ b.T), (of_b, MATRICES.b, a.T @ weights)):
        joined = np.asarray(untile(Stream(got, layout, FP32)))
        assert np.allclose(joined, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
