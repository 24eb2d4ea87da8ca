"""Kinds of work: types, float64 values, floating operations, text, and what is refused."""

import numpy as np
import pytest

from rdujax.base.errors import FormatError, ShapeError
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.ops import reference
from rdujax.ops.contract import Contract
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.on_lanes import OnLanes
from rdujax.ops.op import TensorType, Work
from rdujax.streams.access import Broadcast, Reshape, Transpose
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.expression import Expression, Instruction

MATMUL = Contraction((1,), (0,))


def contract_by_hand(config, lhs, rhs):
    """np.tensordot for each batch index."""
    lhs = np.moveaxis(lhs, config.lhs_batch, range(len(config.lhs_batch)))
    rhs = np.moveaxis(rhs, config.rhs_batch, range(len(config.rhs_batch)))
    n = len(config.lhs_batch)
    left = [axis - sum(b < axis for b in config.lhs_batch) for axis in config.lhs_contract]
    right = [axis - sum(b < axis for b in config.rhs_batch) for axis in config.rhs_contract]
    results = [np.tensordot(lhs[i], rhs[i], (left, right)) for i in np.ndindex(lhs.shape[:n])]
    return np.array(results).reshape(lhs.shape[:n] + results[0].shape)


@pytest.mark.parametrize(
    ("config", "lhs", "rhs"),
    [
        (MATMUL, (3, 4), (4, 5)),
        (Contraction((0,), (1,)), (4, 3), (5, 4)),
        (Contraction((2, 0), (0, 1)), (2, 3, 4), (4, 2, 5)),
        (Contraction((2,), (1,), (0,), (2,)), (6, 3, 4), (5, 4, 6)),
        (Contraction((3,), (0,), (2, 0), (1, 3)), (2, 3, 6, 4), (4, 6, 5, 2)),
        (Contraction((0,), (0,)), (4,), (4,)),
        (Contraction((), ()), (3,), (4,)),
    ],
    ids=str,
)
def test_contractions(rng, config, lhs, rhs):
    op = Contract(config, FP32)
    x, y = rng.normal(size=lhs), rng.normal(size=rhs)
    want = contract_by_hand(config, x, y)
    left, right = TensorType(lhs, BF16), TensorType(rhs, BF16)
    assert np.allclose(op.reference(x, y), want, rtol=1e-12, atol=1e-12)
    assert op.infer(left, right) == TensorType(want.shape, FP32)
    k = int(np.prod([lhs[i] for i in config.lhs_contract], dtype=int))
    assert op.flops(left, right) == 2 * want.size * k
    assert (config.extent(lhs, rhs).macs, op.name) == (want.size * k, "gemm")


def test_integer_contractions_have_no_flops_and_stay_integers(rng):
    op = Contract(MATMUL, INT32)
    x, y = rng.integers(-9, 9, (3, 4)), rng.integers(-9, 9, (4, 5))
    assert np.array_equal(op.reference(x, y), x @ y) and op.reference(x, y).dtype.kind == "i"
    left, right = TensorType((3, 4), INT32), TensorType((4, 5), INT32)
    assert (op.infer(left, right), op.flops(left, right)) == (TensorType((3, 5), INT32), 0)


@pytest.mark.parametrize(
    ("left", "right", "output"),
    [(BF16, FP32, FP32), (BF16, BF16, INT32), (INT32, INT32, FP32), (BOOL, BOOL, BF16), (INT32, BF16, BF16)],
    ids=str,
)
def test_formats_of_a_contraction_are_checked(left, right, output):
    message = rf"formats of a contraction\n  given:   {left}\[3x4\] and {right}\[4x5\] to {output}(.|\n)*do: "
    with pytest.raises(FormatError, match=message):
        Contract(MATMUL, output).infer(TensorType((3, 4), left), TensorType((4, 5), right))


def test_shapes_of_a_contraction_are_checked():
    with pytest.raises(ShapeError, match=r"contracted axes have different lengths\n  given:   \(3, 4\) at \(1,\)"):
        Contract(MATMUL, BF16).infer(TensorType((3, 4), BF16), TensorType((5, 4), BF16))
    batched = Contraction((2,), (1,), (0,), (0,))
    with pytest.raises(ShapeError, match="batch axes have different lengths"):
        Contract(batched, BF16).infer(TensorType((2, 3, 4), BF16), TensorType((3, 4, 5), BF16))


def test_texts_of_contractions():
    assert str(Contract(MATMUL, BF16)) == "gemm[k1xk0]->bf16"
    assert str(Contract(Contraction((2,), (1,), (0,), (2,), 4), FP32)) == "gemm[b0k2xb2k1]->fp32 k_splits=4"


SCALE_SHIFT = Map(
    Expression(
        (BF16, BF16),
        (Instruction("mul", BF16, (0, 1)), Instruction("immediate", BF16, (), 0.1), Instruction("add", BF16, (2, 3))),
    )
)


def test_maps(rng):
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    kind = TensorType((3, 4), BF16)
    assert np.array_equal(SCALE_SHIFT.reference(x, y), x * y + 0.1)
    assert SCALE_SHIFT.infer(kind, kind) == kind
    assert (SCALE_SHIFT.flops(kind, kind), SCALE_SHIFT.name) == (24, "mul_add")
    assert str(SCALE_SHIFT) == f"map {SCALE_SHIFT.expression}"
    compare = Map(Expression((BF16, BF16), (Instruction("less", BF16, (0, 1)),)))
    assert compare.infer(kind, kind) == TensorType((3, 4), BOOL)
    assert np.array_equal(compare.reference(x, y), x < y)


def test_maps_refuse_other_shapes_and_formats():
    with pytest.raises(ShapeError, match=r"given:   bf16\[3\], bf16\[4\]\n  allowed: one shape"):
        SCALE_SHIFT.infer(TensorType((3,), BF16), TensorType((4,), BF16))
    with pytest.raises(FormatError, match=r"given:   bf16\[3\], fp32\[3\]\n  allowed: bf16, bf16"):
        SCALE_SHIFT.infer(TensorType((3,), BF16), TensorType((3,), FP32))


@pytest.mark.parametrize(
    ("access", "name", "is_view", "delivered"),
    [
        (Transpose((1, 0)), "transpose", False, (4, 3)),
        (Reshape((2, 6)), "reshape", True, (2, 6)),
        (Broadcast((5, 3, 4), (1, 2)), "broadcast", True, (5, 3, 4)),
    ],
)
def test_moves(rng, access, name, is_view, delivered):
    op, x = Move(access), rng.normal(size=(3, 4))
    assert (op.name, op.is_view, op.flops(TensorType((3, 4), BF16)), str(op)) == (name, is_view, 0, str(access))
    assert op.infer(TensorType((3, 4), INT32)) == TensorType(delivered, INT32)
    assert np.array_equal(op.reference(x), access.read(x)) and op.reference(x).shape == delivered
    with pytest.raises(ShapeError):
        op.infer(TensorType((3, 4, 2), BF16))


def test_types_know_their_size():
    kind = TensorType((3, 4), BF16)
    assert (kind.elements, kind.size_bytes, str(kind)) == (12, 24, "bf16[3x4]")
    assert (TensorType((), FP32).elements, TensorType((2**20, 2**22), FP32).size_bytes) == (1, 2**44)


EDGES = np.array([-(2**31), -(2**31) + 1, -7, -1, 0, 1, 3, 2**31 - 1], np.int64)


def test_the_integer_reference_wraps_and_has_the_edges_of_the_law():
    """INT_MIN / -1 wraps, x / 0 is -1, x rem 0 is x, a shift by 32 or more leaves nothing or the sign (N7)."""

    def value(name, *operands, n=None):
        inputs = (INT32,) * len(operands)
        step = Instruction(name, INT32, tuple(range(len(operands))), n)
        return reference.evaluate(Expression(inputs, (step,)), [np.array([x], np.int64) for x in operands])[0]

    low, high = -(2**31), 2**31 - 1
    assert value("add", high, 1) == low and value("neg", low) == low and value("abs", low) == low
    assert value("mul", 2**16, 2**16) == 0 and value("square", 46341) == 46341**2 - 2**32
    assert (value("div", low, -1), value("div", 7, 0), value("div", -7, 2), value("div", 7, -2)) == (low, -1, -3, -3)
    assert (value("rem", -7, 2), value("rem", 7, -2), value("rem", 7, 0), value("rem", low, -1)) == (-1, 1, 7, 0)
    assert (value("shift_left", 1, 31), value("shift_left", 1, 32), value("shift_left", 1, -1)) == (low, 0, 0)
    assert (value("shift_right_logical", -1, 31), value("shift_right_logical", -1, 32)) == (1, 0)
    assert (value("shift_right_arithmetic", -8, 1), value("shift_right_arithmetic", -8, 40)) == (-4, -1)
    assert value("integer_power", 3, n=21) == (3**21 + 2**31) % 2**32 - 2**31 and value("integer_power", 0, n=0) == 1


@pytest.mark.parametrize("source", [FP32, INT32, BOOL], ids=str)
def test_conversions_of_the_reference(source):
    x = {FP32: np.array([-1.5, 0.0, 2.9, 1e30, -1e30, np.inf, np.nan]), INT32: EDGES, BOOL: np.array([True, False])}[
        source
    ]
    assert np.array_equal(reference.converted(x, BF16), x.astype(np.float64), equal_nan=True)
    assert np.array_equal(reference.converted(x, BOOL), x != 0)
    want = {FP32: [-1, 0, 2, 2**31 - 1, -(2**31), 2**31 - 1, 0], INT32: EDGES, BOOL: [1, 0]}[source]
    assert np.array_equal(reference.converted(x, INT32), want)


OPEN = ["name", "infer", "reference", "walks", "tile"]  # what every kind on lanes or on buffers says itself
WHOLE = [*OPEN[:-1], "flops", "reads_wide", "run", "work", "fewest", "shares", "cycles", "feeds"]


@pytest.mark.parametrize(
    ("family", "question"),
    [
        *((OnBuffers, name) for name in OPEN),
        *((OnLanes, name) for name in [*OPEN, "each", "groups"]),
        *((Work, name) for name in WHOLE),
    ],
)
def test_a_kind_that_leaves_a_question_open_cannot_be_made(family, question):
    said = {name: lambda self, *_: None for name in {*OPEN, *WHOLE, "each", "groups"} & set(dir(family))}
    assert type("Whole", (family,), said)()
    del said[question]
    with pytest.raises(TypeError, match=rf"abstract class Gap .*abstract method '?{question}'?$"):
        type("Gap", (family,), said)()
