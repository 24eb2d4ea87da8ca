"""SIMD expressions: their text form, their composition, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, UnknownNameError
from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.numerics.functions import apply
from rdujax.streams.layout import tiled, whole
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import POISON, Stream, untile
from rdujax.units.pcu import expression as expressions
from rdujax.units.pcu.expression import Expression, Instruction, evaluate
from rdujax.units.pcu.simd import simd
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.units.compiles import assert_compiles_once
from tests.rooms.units.streams_of import carriers, stream_of

LAYOUT = tiled((6, 5), (4, 2), (1, 0))
# %0 bf16, %1 fp32, %2 bool: tanh(%0 * %0) widened, selected against a constant, added to %1 to the third power
MIXED = Expression(
    (BF16, FP32, BOOL),
    (
        Instruction("mul", BF16, (0, 0)),
        Instruction("tanh", BF16, (3,)),
        Instruction("convert", BF16, (4,), target=FP32),
        Instruction("immediate", FP32, (), 0.1),
        Instruction("select", FP32, (2, 5, 6)),
        Instruction("integer_power", FP32, (1,), 3),
        Instruction("add", FP32, (7, 8)),
    ),
)
SQUARE_PLUS = Expression((BF16, BF16), (Instruction("mul", BF16, (0, 0)), Instruction("add", BF16, (2, 1))))
NEGATE = Expression((BF16,), (Instruction("neg", BF16, (0,)),))
LESS = Expression((BF16, BF16), (Instruction("less", BF16, (0, 1)),))


def random_operands(rng, inputs, shape=(6, 5)):
    return [carriers(rng, shape, fmt) for fmt in inputs]


def mixed_by_hand(x, y, pred):
    square = apply("mul", BF16, x, x)
    chosen = apply("select", FP32, pred, apply("tanh", BF16, square), jnp.full_like(x, 0.1))
    return apply("add", FP32, chosen, apply("mul", FP32, y, apply("mul", FP32, y, y)))


def test_an_expression_is_its_instructions_one_after_another(rng):
    operands = random_operands(rng, MIXED.inputs)
    want = patterns(mixed_by_hand(*map(jnp.asarray, operands)))
    assert_same_bits(evaluate(MIXED, list(map(jnp.asarray, operands))), want)
    streams = [stream_of(x, LAYOUT, fmt) for x, fmt in zip(operands, MIXED.inputs, strict=True)]
    for how in EXECUTORS:
        assert_same_bits(untile(simd(MIXED, *streams, how=how)[0]), want, note=how)
    assert (MIXED.output, len(MIXED.work), MIXED.flops) == (FP32, 6, 5)


def test_words_at_rest_are_unpacked_on_the_way_in(rng):
    x, y = random_operands(rng, SQUARE_PLUS.inputs)
    want = patterns(untile(simd(SQUARE_PLUS, stream_of(x, LAYOUT, BF16), stream_of(y, LAYOUT, BF16))[0]))
    packed = [stream_of(v, LAYOUT, BF16, packed=True) for v in (x, y)]
    assert_same_bits(untile(simd(SQUARE_PLUS, *packed, how="scan")[0]), want)


@pytest.mark.parametrize("immediate", [0.1, -0.0, float("inf"), 2.0**-130, 7, -(2**31), True, False])
def test_an_immediate_enters_like_any_other_value(immediate):
    fmt = {float: FP32, int: INT32, bool: BOOL}[type(immediate)]
    constant = Expression((fmt,), (Instruction("immediate", fmt, (), immediate),))
    got = patterns(evaluate(constant, [jnp.zeros(3, fmt.carrier)]))
    flushed = 0.0 if fmt is FP32 and abs(immediate) < 2.0**-126 and immediate > 0 else immediate
    assert np.array_equal(got, patterns(np.full(3, flushed, fmt.carrier)))
    assert constant.work == () and constant.flops == 0
    again = expressions.from_json(constant.to_json())
    assert again == constant and str(again) == str(constant)
    assert type(again.instructions[0].immediate) is type(immediate)


@pytest.mark.parametrize("expression", [MIXED, SQUARE_PLUS, NEGATE, LESS], ids=str)
def test_the_complete_text_form_reads_back(expression):
    assert expressions.from_json(expression.to_json()) == expression


def test_the_form_for_reading():
    assert str(MIXED) == (
        "(bf16 fp32 bool) %3 = mul.bf16 %0 %0; %4 = tanh.bf16 %3; %5 = convert.bf16->fp32 %4; "
        "%6 = immediate.fp32 0.1; %7 = select.fp32 %2 %5 %6; %8 = integer_power.fp32 %1 3; %9 = add.fp32 %7 %8"
    )


@pytest.mark.parametrize("position", [0, 1, 2])
def test_composition_computes_one_operand_of_the_outer_by_the_inner(rng, position):
    outer = Expression((BF16, BF16, BF16), (Instruction("mul", BF16, (0, 1)), Instruction("sub", BF16, (3, 2))))
    both = expressions.compose(outer, position, SQUARE_PLUS)
    operands = list(map(jnp.asarray, random_operands(rng, both.inputs)))
    assert len(operands) == 4
    inner = evaluate(SQUARE_PLUS, operands[position : position + 2])
    want = evaluate(outer, [*operands[:position], inner, *operands[position + 2 :]])
    assert_same_bits(evaluate(both, operands), patterns(want))


def test_composition_needs_formats_that_meet():
    with pytest.raises(ArgumentError, match="formats do not meet\n  given:   bool into bf16"):
        expressions.compose(NEGATE, 0, LESS)


@pytest.mark.parametrize("groups", [(0, 0), (0, 1), (1, 0)])
def test_operands_that_read_the_same_values_become_one(rng, groups):
    shared = expressions.share(SQUARE_PLUS, groups)
    assert len(shared.inputs) == max(groups) + 1
    operands = list(map(jnp.asarray, random_operands(rng, shared.inputs)))
    want = evaluate(SQUARE_PLUS, [operands[group] for group in groups])
    assert_same_bits(evaluate(shared, operands), patterns(want))


def test_sharing_keeps_the_formats(rng):
    expression = Expression((FP32, BOOL, FP32), (Instruction("select", FP32, (1, 0, 2)),))
    assert expressions.share(expression, (1, 0, 1)).inputs == (BOOL, FP32)


def test_malformed_expressions_are_refused():
    with pytest.raises(ArgumentError, match="without instructions"):
        Expression((BF16,), ())
    with pytest.raises(ArgumentError, match="not computed yet\n  given:   add.bf16 %0 %1\n  allowed: %0 to %0"):
        Expression((BF16,), (Instruction("add", BF16, (0, 1)),))
    with pytest.raises(ArgumentError, match="not computed yet"):
        Expression((BF16,), (Instruction("neg", BF16, (1,)), Instruction("neg", BF16, (0,))))


@pytest.mark.parametrize(
    ("inputs", "step", "message"),
    [
        (
            (FP32,),
            ("max", BF16, (0, 0)),
            "given:   max.bf16 %0 %0 of fp32, fp32\n  allowed: bf16, bf16\n  do:      convert",
        ),
        ((FP32,), ("abs", BF16, (0,)), "given:   abs.bf16 %0 of fp32\n  allowed: bf16"),
        ((BF16,), ("abs", FP32, (0,)), "given:   abs.fp32 %0 of bf16\n  allowed: fp32"),
        ((INT32, FP32), ("add", FP32, (0, 1)), "of int32, fp32"),
        ((FP32,), ("select", FP32, (0, 0, 0)), "of fp32, fp32, fp32\n  allowed: bool, fp32, fp32"),
        ((FP32,), ("convert", BF16, (0,), None, INT32), "convert.bf16->int32 %0 of fp32"),
        ((BF16, FP32), ("less", BF16, (0, 1)), "of bf16, fp32"),
    ],
)
def test_operands_are_in_the_format_of_their_instruction(inputs, step, message):
    """An instruction rounds its result only: what only selects would hand on what the format does not hold."""
    with pytest.raises(FormatError, match=f"an operand in another format\n(.|\n)*{message}"):
        Expression(inputs, (Instruction(*step),))


def test_a_result_is_an_operand_in_its_own_format():
    less = Instruction("less", BF16, (0, 0))
    assert Expression((BF16,), (less, Instruction("select", BF16, (1, 0, 0)))).output is BF16
    with pytest.raises(FormatError, match="given:   neg.bf16 %1 of bool"):
        Expression((BF16,), (less, Instruction("neg", BF16, (1,))))


@pytest.mark.parametrize(
    ("error", "step", "message"),
    [
        (UnknownNameError, ("cosinus", BF16, (0,)), "unknown function\n  given:   'cosinus'"),
        (
            FormatError,
            ("exp", INT32, (0,)),
            "the function does not have\n  given:   exp.int32 %0\n  allowed: bf16, fp32",
        ),
        (ArgumentError, ("add", BF16, (0,)), "another number of operands\n  given:   add.bf16 %0\n  allowed: 2"),
        (ArgumentError, ("immediate", BF16, (0,), 1.0), "another number of operands(.|\n)*allowed: 0"),
        (ArgumentError, ("convert", BF16, (0,)), "a target is for conversions\n  given:   convert.bf16 %0"),
        (ArgumentError, ("neg", BF16, (0,), None, FP32), "a target is for conversions"),
        (ArgumentError, ("immediate", BF16, ()), "an immediate is for constants and exponents"),
        (ArgumentError, ("integer_power", BF16, (0,)), "an immediate is for constants and exponents"),
        (ArgumentError, ("neg", BF16, (0,), 2), "an immediate is for constants and exponents"),
        (
            ArgumentError,
            ("immediate", INT32, (), 2.5),
            "another kind\n  given:   2.5\n  allowed: int32\n  where:   immediate",
        ),
        (ArgumentError, ("immediate", INT32, (), 2**31), "an immediate of another kind\n  given:   2147483648"),
        (ArgumentError, ("immediate", BOOL, (), 1), "an immediate of another kind(.|\n)*allowed: bool"),
        (ArgumentError, ("integer_power", FP32, (0,), 2.5), "an immediate of another kind\n  given:   2.5"),
    ],
)
def test_malformed_instructions_are_refused(error, step, message):
    with pytest.raises(error, match=message):
        Instruction(*step)


@pytest.mark.parametrize(
    ("immediate", "fmt", "kind"),
    [(np.float32(0.1), FP32, float), (3, BF16, float), (np.int64(7), INT32, int), (np.bool_(True), BOOL, bool)],
)
def test_immediates_of_numpy_read_back(immediate, fmt, kind):
    constant = Expression((), (Instruction("immediate", fmt, (), immediate),))
    again = expressions.from_json(constant.to_json())
    assert again == constant and type(again.instructions[0].immediate) is kind
    assert again.instructions[0].immediate == immediate


def test_expressions_are_equal_where_their_bits_are():
    def constant(value):
        return Expression((), (Instruction("immediate", FP32, (), value),))

    nan = constant(float("nan"))
    assert expressions.from_json(nan.to_json()) == nan == constant(np.float32("nan")) and hash(nan) == hash(
        constant(np.nan)
    )
    assert constant(0.0) != constant(-0.0) and constant(1) == constant(1.0)
    ones = stream_of(np.ones(2, np.float32), whole((2,)), FP32)
    for zero, bits in ((0.0, 0), (-0.0, 0x80000000)):
        stream, _ = simd(Expression((FP32,), constant(zero).instructions), ones)
        assert_same_bits(untile(stream), np.full(2, bits, np.uint32))


@pytest.mark.parametrize("how", EXECUTORS)
@pytest.mark.parametrize(
    ("fmt", "step"),
    [(FP32, ("immediate", FP32, (), 2.0)), (INT32, ("add", INT32, (0, 0))), (INT32, ("immediate", INT32, (), 3)),
     (BF16, ("max", BF16, (0, 0))), (FP32, ("convert", FP32, (0,), None, INT32)), (FP32, ("less", FP32, (0, 0)))],
    ids=str,
)  # fmt: skip
def test_ragged_tiles_end_in_poison_whatever_is_computed(rng, fmt, step, how):
    layout, expression = tiled((3,), (2,)), Expression((fmt,), (Instruction(*step),))
    stream, _ = simd(expression, stream_of(carriers(rng, (3,), fmt), layout, fmt), how=how)
    poison = np.asarray(POISON[expression.output], expression.output.carrier)
    assert_same_bits(stream.data[1, 1], patterns(poison))


def test_an_eager_call_compiles_once(rng):
    x = stream_of(carriers(rng, (6, 5), BF16), LAYOUT, BF16)
    assert_compiles_once(lambda: simd(NEGATE, x, how="scan"))
    assert_compiles_once(lambda: simd(SQUARE_PLUS, x, x, how="vmap"))


def test_streams_that_do_not_fit_the_expression_are_refused(rng):
    x, y = (stream_of(carriers(rng, (6, 5), BF16), LAYOUT, BF16) for _ in range(2))
    other = stream_of(carriers(rng, (6, 5), BF16), whole((6, 5)), BF16)
    with pytest.raises(ShapeError, match="wrong number of operands\n  given:   1\n  allowed: 2"):
        simd(SQUARE_PLUS, x)
    with pytest.raises(
        ShapeError, match="operands are cut differently\n  given:   operand 1: 6x5/6x5@01\n  allowed: 6x5/4x2@10"
    ):
        simd(SQUARE_PLUS, x, other)
    with pytest.raises(FormatError, match="wrong format of an operand\n  given:   operand 1: int32\n  allowed: bf16"):
        simd(SQUARE_PLUS, x, stream_of(carriers(rng, (6, 5), INT32), LAYOUT, INT32))
    narrow = Expression((FP32,), (Instruction("neg", FP32, (0,)),))
    with pytest.raises(FormatError, match="operand 0: bf16\n  allowed: fp32"):
        simd(narrow, y)


def test_without_a_tally_nothing_is_counted_and_too_large_a_tile_is_not_refused():
    layout = whole((2**30,))

    def run(tally):
        struct = Stream(jax.ShapeDtypeStruct((1, 2**30), jnp.float32), layout, BF16)
        return jax.eval_shape(lambda s: simd(NEGATE, s, tally=tally), struct)

    assert run(tally=False)[1] == Counts()
    with pytest.raises(ArgumentError, match="2,147,483,648 operations or bytes of a tile"):
        run(tally=True)


def test_derivatives_are_those_of_the_instructions(rng):
    x = np.abs(carriers(rng, (6, 5), FP32)) + np.float32(0.5)
    expression = Expression((FP32,), (Instruction("log", FP32, (0,)), Instruction("mul", FP32, (1, 1))))

    def through(data):
        return untile(simd(expression, Stream(data, LAYOUT, FP32), how="vmap")[0]).sum()

    slope = untile(Stream(jax.jit(jax.grad(through))(stream_of(x, LAYOUT, FP32).data), LAYOUT, FP32))
    wide = x.astype(np.float64)
    assert np.allclose(slope, 2 * np.log(wide) / wide, rtol=1e-5, atol=1e-30)
