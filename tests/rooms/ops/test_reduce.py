"""Reduce: the bits of the halving tree and of lanes, tile by tile as well; counts, prices, derivatives, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.ops.op import TensorType
from rdujax.ops.reduce import Reduce
from rdujax.units.pcu.simd import Chain
from tests.oracles import softfloat as sf
from tests.oracles.harness import in_full
from tests.rooms.ops.works import check_price, check_reference, check_work
from tests.rooms.units.streams_of import carriers

SHAPE = (5, 6, 7)
# axes reduced, and a tile of what is left that divides none of its axes
CUTS = [((2,), (2, 4)), ((0,), (4, 3)), ((1,), (3, 5)), ((0, 2), (4,)), ((1, 2), (2,)), ((0, 1, 2), ())]


def rows_of(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The reduced axes last and joined, in their order."""
    kept = [a for a in range(x.ndim) if a not in axes]
    return x.transpose(*kept, *axes).reshape([x.shape[a] for a in kept] + [-1])


def tree_prod(x: np.ndarray) -> np.ndarray:
    """The last axis of patterns halved, i with i + n/2 of the next power of two."""
    while (n := x.shape[-1]) > 1:
        half = 1 << ((n - 1).bit_length() - 1)
        paired = sf.mul(x[..., : n - half], x[..., half:])
        x = np.concatenate([paired, x[..., n - half : half]], -1)
    return x[..., 0]


TREES = {"sum": sf.tree_sum, "max": sf.tree_max, "min": sf.tree_min, "prod": tree_prod}


@pytest.mark.parametrize(("axes", "tile"), [CUTS[3], *in_full(*CUTS[:3], *CUTS[4:])])
@pytest.mark.parametrize(("fmt", "output"), [(BF16, BF16), *in_full((FP32, FP32), (BF16, FP32), (FP32, BF16))])
@pytest.mark.parametrize("function", TREES)
def test_floating_reductions_are_halving_trees(rng, function, fmt, output, axes, tile):
    x = carriers(rng, SHAPE, fmt)
    want = TREES[function](rows_of(x.view(np.uint32), axes))
    check_work(Reduce(function, axes, output), [x], [fmt], sf.to_bf16(want) if output is BF16 else want, tile)


INTEGERS = {
    "sum": lambda x: sf.wrap(x.sum(-1, dtype=np.int64)),
    "prod": lambda x: np.multiply.reduce(x.view(np.uint32), -1, dtype=np.uint32).view(np.int32),
    "max": lambda x: x.max(-1),
    "min": lambda x: x.min(-1),
    "and": lambda x: np.bitwise_and.reduce(x, -1),
    "or": lambda x: np.bitwise_or.reduce(x, -1),
    "xor": lambda x: np.bitwise_xor.reduce(x, -1),
}


@pytest.mark.parametrize(("axes", "tile"), [CUTS[1], *in_full(CUTS[4])])
@pytest.mark.parametrize("function", ["sum", "prod", "xor", *in_full("max", "min", "and", "or")])
def test_words_wrap(rng, function, axes, tile):
    x = carriers(rng, SHAPE, INT32)
    check_work(Reduce(function, axes, INT32), [x], [INT32], INTEGERS[function](rows_of(x, axes)), tile)
    check_reference(Reduce(function, axes, INT32), [x], [INT32])


@pytest.mark.parametrize(
    ("function", "numpy"),
    [("max", np.any), ("xor", np.logical_xor.reduce), *in_full(("and", np.all), ("or", np.any), ("min", np.all))],
)
def test_predicates(rng, function, numpy):
    x = rng.random(SHAPE) < 0.8
    want = numpy(rows_of(x, (0,)), axis=-1)
    check_work(Reduce(function, (0,), BOOL), [x], [BOOL], want, (4, 3))
    check_reference(Reduce(function, (0,), BOOL), [x], [BOOL])


@pytest.mark.parametrize("lanes", [4, *in_full(1, 3, 16, 64)])
def test_lanes_add_in_time_and_then_as_a_tree(rng, lanes):
    """Every lane's own values one after the other; lanes without a value hold -0."""
    x = carriers(rng, (6, 29), FP32)
    bits = x.view(np.uint32)
    chains = [sf.chain([bits[:, i] for i in range(lane, 29, lanes)]) for lane in range(min(lanes, 29))]
    empty = [np.full(6, 0x80000000, np.uint32)] * (lanes - len(chains))
    want = sf.tree_sum(np.stack([*chains, *empty], -1))
    check_work(Reduce("sum", (1,), FP32, lanes), [x], [FP32], want, (4,))
    assert (want != sf.tree_sum(bits)).any() == (lanes < 16)  # two steps in time are the first level of the tree


def test_a_row_of_one_value_is_that_value(rng):
    x = carriers(rng, (3, 1), FP32)
    for function in TREES:
        check_work(Reduce(function, (1,), FP32), [x], [FP32], x[:, 0].view(np.uint32), (2,))


@pytest.mark.parametrize("function", TREES)
def test_the_reference_is_the_real_value(rng, function):
    x = rng.uniform(0.5, 2.0, SHAPE).astype(np.float32)
    for axes, _ in CUTS:
        check_reference(Reduce(function, axes, FP32), [x], [FP32], rtol=2.0**-18)


def test_operations_and_types():
    op, x = Reduce("sum", (0, 2), BF16), TensorType(SHAPE, BF16)
    assert (op.infer(x), op.flops(x), op.name) == (TensorType((6,), BF16), 6 * 34, "reduce_sum")
    assert op.work(x)["pcu.lane_reductions"] == 6 * 34
    assert Reduce("max", (1,), INT32).flops(TensorType(SHAPE, INT32)) == 0
    assert str(op) == "reduce sum[0,2]->bf16" and str(Reduce("sum", (0,), FP32, 8)).endswith("lanes=8")


def test_rows_lie_across_the_lanes_or_one_in_each_whichever_is_faster():
    """Tiny has 8 lanes of BF16 and 4 of 32 bits; 4 stages; the tree takes log2 of the lanes."""
    machine, one = tiny(), Chain(1, 1)
    lanes, stages = int(machine.pcu.lanes_bf16.value), int(machine.pcu.simd_stages.value)
    fill = stages - 1 + (lanes - 1).bit_length()
    op = Reduce("sum", (1,), BF16)
    assert op.cycles(machine, one, TensorType((2, 10 * lanes), BF16)) == 20 + fill  # 20 vectors across
    assert op.cycles(machine, one, TensorType((2 * lanes, 3), BF16)) == 6 + fill  # two groups of three
    in_order = Reduce("sum", (1,), BF16, lanes)
    assert in_order.cycles(machine, one, TensorType((2 * lanes, 3), BF16)) == 2 * lanes + fill
    for shape in ((2, 10 * lanes), (2 * lanes, 3), (1, 1)):
        check_price(op, TensorType(shape, BF16))


@pytest.mark.parametrize(
    ("op", "fmt", "error", "message"),
    [
        (Reduce("sum", (1, 0), FP32), FP32, ShapeError, r"axes to reduce\n  given:   \(1, 0\)\n  allowed: increasing"),
        (Reduce("sum", (3,), FP32), FP32, ShapeError, "axes to reduce"),
        (
            Reduce("xor", (0,), FP32),
            FP32,
            FormatError,
            r"given:   fp32 to fp32\n  allowed: int32, uint32, bool\n",
        ),
        (Reduce("sum", (0,), INT32), FP32, FormatError, "fp32 to int32"),
        (Reduce("sum", (0,), BOOL), BOOL, FormatError, "allowed: bf16 or fp32 to either, int32"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(op, fmt, error, message):
    with pytest.raises(error, match=message):
        op.infer(TensorType(SHAPE, fmt))


def test_lanes_are_positive():
    with pytest.raises(ArgumentError, match=r"too few lanes\n  given:   0"):
        Reduce("sum", (0,), FP32, 0)


USUAL = {
    "softmax": lambda x: jax.nn.softmax(x, -1),
    "log_softmax": lambda x: jax.nn.log_softmax(x, 0),
    "logsumexp": lambda x: jax.nn.logsumexp(x, 1),
    "var": lambda x: jnp.var(x, 1),
    "std": lambda x: jnp.std(x, 0),
    "standardize": lambda x: jax.nn.standardize(x, 1),
    "prod": lambda x: jnp.prod(x, 1),
    "range": lambda x: jnp.max(x, 1) - jnp.min(x, 1),
}


@pytest.mark.parametrize("name", ["softmax", "range", *in_full(*(n for n in USUAL if n not in ("softmax", "range")))])
def test_what_users_write_has_the_value_and_the_gradient_of_jax(rng, name):
    """Tiles are ragged and hold poison, which reaches neither."""
    fn = USUAL[name]
    x = jnp.asarray(rng.normal(size=(21, 19)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=fn(x).shape), jnp.float32)
    small = tiny().replace({"pmu.count": 14, "pmu.capacity_bytes": 1024})
    program = rdu.compile(fn, x, machine=small, fusion="none")
    np.testing.assert_allclose(program(x), fn(x), rtol=2e-5, atol=2e-6)
    for executor in ("whole", "scan"):
        got = jax.grad(lambda x, e=executor: jnp.sum(program.execute(x, executor=e) * weight))(x)
        np.testing.assert_allclose(got, jax.grad(lambda x: jnp.sum(fn(x) * weight))(x), rtol=2e-4, atol=2e-5)


def test_equals_share_the_derivative_of_a_maximum():
    x = jnp.asarray([[1.0, 3.0, 3.0, -2.0], [0.0, -0.0, -1.0, -1.0]], jnp.float32)
    program = rdu.compile(lambda x: jnp.max(x, 1), x, machine="tiny")
    slope = jax.grad(lambda x: jnp.sum(program(x)))(x)
    np.testing.assert_array_equal(slope, [[0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]])  # +0 is above -0 (N5)
