"""Running results, places of extremes, sorting: bits on every road, against NumPy and softfloat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import FormatError, ShapeError
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.ops.argument import Argument
from rdujax.ops.cumulate import Cumulate
from rdujax.ops.op import TensorType
from rdujax.ops.order import Order
from rdujax.units.pcu.simd import Chain
from tests.oracles import softfloat as sf
from tests.oracles.harness import in_full
from tests.rooms.ops.works import check_price, check_reference, check_work
from tests.rooms.units.streams_of import carriers

SHAPE = (5, 6, 7)
AXES = [(0, (5, 4, 3)), (1, (2, 6, 3)), (2, (3, 4, 7))]  # an axis, and a tile that leaves it whole
STEPS = {"sum": sf.add, "prod": sf.mul, "max": lambda x, y: sf.tree_max(np.stack([x, y], -1)),
         "min": lambda x, y: sf.tree_min(np.stack([x, y], -1))}  # fmt: skip
NAN, INF = np.float32(np.nan), np.float32(np.inf)


def running(step, x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    """One value after the other."""
    rows = list(np.moveaxis(x, axis, 0))
    rows = rows[::-1] if reverse else rows
    found = [rows[0]]
    for row in rows[1:]:
        found.append(step(found[-1], row))
    return np.moveaxis(np.stack(found[::-1] if reverse else found), 0, axis)


@pytest.mark.parametrize("reverse", [True, *in_full(False)])
@pytest.mark.parametrize(("axis", "tile"), [AXES[1], *in_full(AXES[0], AXES[2])])
@pytest.mark.parametrize(("fmt", "output"), [(BF16, BF16), *in_full((FP32, FP32), (BF16, FP32))])
@pytest.mark.parametrize("function", ["sum", "max", *in_full("prod", "min")])
def test_running_results_are_one_step_after_the_other(rng, function, fmt, output, axis, tile, reverse):
    """Steps are FP32, never rounded to BF16 before they are delivered."""
    x = carriers(rng, SHAPE, fmt)
    want = running(STEPS[function], x.view(np.uint32), axis, reverse)
    op = Cumulate(function, axis, output, reverse)
    check_work(op, [x], [fmt], sf.to_bf16(want).reshape(want.shape) if output is BF16 else want, tile)


@pytest.mark.parametrize("function", ["sum", "max", *in_full("prod", "min")])
def test_running_words_wrap(rng, function):
    x = carriers(rng, SHAPE, INT32)
    step = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[function]
    want = running(step, x.view(np.uint32) if function in ("sum", "prod") else x, 1, False).view(np.int32)
    check_work(Cumulate(function, 1, INT32), [x], [INT32], want, (2, 6, 3))
    check_reference(Cumulate(function, 1, INT32, reverse=True), [x], [INT32])


@pytest.mark.parametrize(("function", "step"), [("max", np.logical_or), ("min", np.logical_and)])
def test_running_predicates(rng, function, step):
    x = rng.random(SHAPE) < 0.5
    check_work(Cumulate(function, 0, BOOL), [x], [BOOL], running(step, x, 0, False), (5, 4, 3))


def test_running_log_sum_exp(rng):
    """Every step is within a few ulp; equal infinities, and -inf as the empty sum, are exact."""
    x = rng.normal(size=(9, 40)).astype(np.float32) * 30
    check_reference(Cumulate("logsumexp", 1, FP32), [x], [FP32], rtol=2e-6)
    edge = np.array([[-INF, -INF, 1.0, -INF, INF, INF, 0.0], [0.0, NAN, 1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)
    want = np.array([[-INF, -INF, 1.0, 1.0, INF, INF, INF], [0.0, *[NAN] * 6]], np.float32)
    check_work(Cumulate("logsumexp", 1, FP32), [edge], [FP32], want.view(np.uint32), (1, 7))


@pytest.mark.parametrize(
    "fn", [jnp.cumsum, jax.lax.cumlogsumexp, *in_full(jnp.cumprod, jax.lax.cummax)], ids=lambda f: f.__name__
)
def test_running_results_have_jax_s_gradient(rng, fn):
    x, weight = (jnp.asarray(rng.normal(size=(6, 9)), jnp.float32) for _ in range(2))
    program = rdu.compile(lambda x: fn(x, axis=1), x, machine="tiny")
    got, want = (jax.grad(lambda x, f=f: jnp.sum(f(x) * weight))(x) for f in (program, lambda x: fn(x, axis=1)))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_empty_sum_has_no_derivative_and_spoils_none():
    """-inf is the logarithm of nothing: what comes after it has its own derivative, and nobody has NaN."""
    x = jnp.asarray([[-jnp.inf, -jnp.inf, 0.5, 1.0]], jnp.float32)
    program = rdu.compile(lambda x: jax.lax.cumlogsumexp(x, axis=1), x, machine="tiny")
    slope = jax.grad(lambda x: program(x)[0, 3])(x)
    np.testing.assert_allclose(slope, [[0.0, 0.0, *jax.nn.softmax(x[0, 2:])]], rtol=1e-5)


TIES = np.array(
    [[1.0, NAN, 3.0, NAN, 3.0], [-0.0, 0.0, -0.0, 0.0, -1.0], [INF, 2.0, INF, -INF, -INF], [4.0, 4.0, 4.0, 4.0, 4.0]],
    np.float32,
)


@pytest.mark.parametrize("fmt", [BF16, *in_full(FP32, INT32, BOOL)], ids=str)
@pytest.mark.parametrize("most", [False, *in_full(True)])
def test_places_of_extremes(rng, most, fmt):
    """The first of equals; NumPy's places, zeros of either sign being equal, and NaN first of all."""
    x = carriers(rng, SHAPE, fmt)
    for axis, tile in ((0, (4, 3)), (1, (2, 5)), (2, (3, 4))):
        want = (np.argmax if most else np.argmin)(x, axis=axis).astype(np.int32)
        check_work(Argument(axis, most), [x], [fmt], want, tile)
        check_reference(Argument(axis, most), [x], [fmt])


def test_places_of_ties_and_nan():
    for most, want in ((True, [1, 0, 0, 0]), (False, [1, 4, 3, 0])):
        check_work(Argument(1, most), [TIES], [FP32], np.array(want, np.int32), (3,))


@pytest.mark.parametrize("fmt", [BF16, *in_full(FP32, INT32, BOOL)], ids=str)
def test_orders_are_stable_and_total(rng, fmt):
    x = carriers(rng, SHAPE, fmt)
    x = np.where(rng.random(SHAPE) < 0.4, np.roll(x, 1, 1), x)  # many ties
    for axis, tile in AXES:
        want = np.argsort(x, axis, kind="stable").astype(np.int32)
        check_work(Order(axis), [x], [fmt], want, tile)
        check_reference(Order(axis), [x], [fmt])
        keys = carriers(rng, SHAPE, BOOL)
        check_work(Order(axis), [keys, x], [BOOL, fmt], np.lexsort((x, keys), axis=axis).astype(np.int32), tile)


def test_orders_of_ties_and_nan():
    want = np.array([[0, 2, 4, 1, 3], [4, 0, 1, 2, 3], [3, 4, 1, 0, 2], [0, 1, 2, 3, 4]], np.int32)
    check_work(Order(1), [TIES], [FP32], want, (3, 5))
    top = np.array([[1, 3, 2], [1, 3, 0], [0, 2, 1], [0, 1, 2]], np.int32)
    check_work(Order(1, 3), [TIES], [FP32], top, (3, 3))


@pytest.mark.parametrize("fmt", [BF16, *in_full(INT32)], ids=str)
def test_the_largest(rng, fmt):
    x = carriers(rng, SHAPE, fmt)
    x = np.where(rng.random(SHAPE) < 0.4, np.roll(x, 1, 1), x)
    for axis, k, tile in ((0, 2, (2, 4, 3)), (2, 5, (3, 4, 5))):
        want = np.take(np.argsort(-x.astype(np.float64), axis, kind="stable"), range(k), axis).astype(np.int32)
        check_work(Order(axis, k), [x], [fmt], want, tile)
        check_reference(Order(axis, k), [x], [fmt])


def test_types_operations_and_text():
    x = TensorType(SHAPE, BF16)
    assert Cumulate("sum", 1, FP32).infer(x) == TensorType(SHAPE, FP32)
    assert Argument(1, True).infer(x) == TensorType((5, 7), INT32) == Argument(1, False).infer(x)
    assert Order(2, 3).infer(x) == TensorType((5, 6, 3), INT32) and Order(2).infer(x, x) == TensorType(SHAPE, INT32)
    assert Cumulate("sum", 1, FP32).flops(x) == 210 and Argument(1, True).flops(x) == 35 * 5
    assert Order(2).work(x)["pcu.simd_operations"] == 210 * 6  # 7 values in a network of 8: 3 * 4 / 2 steps
    assert Order(2, 3).work(x)["pcu.simd_operations"] == 5 * 6 * 3 * 14
    assert [str(op) for op in (Cumulate("max", 1, BF16, True), Argument(0, False), Order(1), Order(1, 4))] == [
        "cummax[1]->bf16 reverse", "argmin[0]", "order[1]", "top[1] 4",
    ]  # fmt: skip


def test_prices():
    """Tiny has 4 lanes of 32 bits and 8 of BF16."""
    machine, one = tiny(), Chain(1, 1)
    config = machine.pcu
    wide, words = int(config.lanes_bf16.value), int(config.lanes_32bit.value)
    fill = int(config.simd_stages.value) - 1
    rows = TensorType((2 * wide + 1, 10), BF16)
    assert Cumulate("sum", 1, BF16).cycles(machine, one, rows) == 3 * 10 + fill  # three groups of rows
    assert Cumulate("sum", 1, BF16).cycles(machine, Chain(1, 3), rows) == 10 + fill
    assert Cumulate("logsumexp", 1, BF16).cycles(machine, Chain(1, 3), rows) == 70 + fill
    keys = TensorType((3, 16), BF16)
    assert Order(1).cycles(machine, one, keys) == 3 * (-(-16 // words)) * 10 + fill
    assert Order(1).cycles(machine, one, keys, keys) == 3 * (-(-16 // words)) * 20 + fill
    tree = (words - 1).bit_length()
    assert Argument(1, True).cycles(machine, one, TensorType((1, 5 * words), FP32)) == 5 + fill + tree
    for op in (Cumulate("sum", 1, BF16), Argument(1, True), Order(1), Order(1, 2)):
        check_price(op, rows)


@pytest.mark.parametrize(
    ("op", "operands", "error", "message"),
    [
        (Cumulate("sum", 3, FP32), [FP32], ShapeError, r"no axis to run along\n  given:   3\n  allowed: of 3"),
        (Cumulate("sum", 1, INT32), [FP32], FormatError, "fp32 to int32"),
        (Cumulate("sum", 1, BOOL), [BOOL], FormatError, "allowed: bf16 or fp32 to either, int32"),
        (Cumulate("logsumexp", 1, INT32), [INT32], FormatError, "formats of a running result"),
        (Argument(3, True), [FP32], ShapeError, "no axis to search"),
        (Order(3), [FP32], ShapeError, "keys to order"),
        (
            Order(1, 7),
            [FP32],
            ShapeError,
            r"how many of the largest\n  given:   7 of fp32\[5x6x7\](.|\n)*1 to 6",
        ),
        (Order(1, 2), [FP32, FP32], ShapeError, "of one key"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(op, operands, error, message):
    with pytest.raises(error, match=message):
        op.infer(*(TensorType(SHAPE, fmt) for fmt in operands))
