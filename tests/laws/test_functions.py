"""The family of element-wise functions: every member, in every format that it has.

It has a float64 (int64) reference, keeps its bound against it, and runs as a SIMD stage with the bits of the whole
tensor, however the tensor is cut.
"""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.ledger.counts import Counts, total
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, UINT32
from rdujax.numerics.functions import FUNCTIONS, apply
from rdujax.ops import reference
from rdujax.streams.layout import tiled
from rdujax.streams.stream import untile
from rdujax.units.pcu.expression import TABLES, TAIL, Expression, Instruction
from rdujax.units.pcu.simd import simd
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.units.streams_of import carriers, stream_of

MEMBERS = [(name, fmt) for name, function in FUNCTIONS.items() for fmt in function.formats]
IDS = [f"{name}-{fmt}" for name, fmt in MEMBERS]
SMALLEST, LARGEST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127
POWER = 5
WHOLE = {"floor", "ceil", "round", "round_even", "is_finite"}


def formats_of(name, fmt):
    """The formats of the operands: a selection is steered by a predicate."""
    return (BOOL, fmt, fmt) if name == "select" else (fmt,) * FUNCTIONS[name].arity


def expression_of(name, fmt) -> Expression:
    inputs = formats_of(name, fmt)
    immediate = POWER if name == "integer_power" else None
    return Expression(inputs, (Instruction(name, fmt, tuple(range(len(inputs))), immediate),))


def operands_of(rng, name, fmt, shape):
    """Many magnitudes, signs and zeros; shift distances on both sides of the word's width; limits in order."""
    found = [carriers(rng, shape, each) for each in formats_of(name, fmt)]
    if name.startswith("shift"):
        found[1] = rng.integers(-2, 36, shape).astype(np.int32)
    if name in ("div", "rem") and not fmt.is_float:
        found[1] = np.where(rng.random(shape) < 0.5, rng.integers(-3, 4, shape), found[1]).astype(np.int32)
    if name.startswith(("equal", "not_", "less", "greater")):
        found[1] = np.where(rng.random(shape) < 0.3, found[0], found[1])
    return found


def parameters_of(name):
    return {"n": POWER} if name == "integer_power" else {}


def test_the_reference_names_functions_only():
    assert set(reference.FLOAT) | set(reference.INTEGER) == set(FUNCTIONS)


@pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)
def test_every_member_has_a_reference_in_every_format(fmt):
    table = reference.FLOAT if fmt.is_float else reference.INTEGER
    assert {name for name, each in MEMBERS if each is fmt} - set(table) == set()


def test_the_tail_holds_functions_and_all_tables():
    special = {name for name, function in FUNCTIONS.items() if function.formats == (BF16, FP32) and function.arity == 1}
    assert special - {"neg", "abs", "sign", "square", "integer_power", *WHOLE} == TABLES
    assert TAIL - {"convert"} <= set(FUNCTIONS)


def wide(x: np.ndarray, fmt=None) -> np.ndarray:
    """Carriers as the reference takes them."""
    if fmt is UINT32 and x.dtype == np.int32:
        return x.astype(np.int64) % 2**32
    return x if x.dtype == bool else x.astype(np.float64 if x.dtype == np.float32 else np.int64)


def errors_ulp(got: np.ndarray, want: np.ndarray, mantissa_bits: int) -> np.ndarray:
    """The distance from the real result in ulps of it; 0 for the right infinity, NaN or flushed result."""
    with np.errstate(all="ignore"):
        exponent = np.frexp(np.maximum(np.abs(want), SMALLEST))[1] - 1
        error = np.abs(got - want) / np.exp2(np.clip(exponent, -126, 127) - mantissa_bits)
    fine = (np.isnan(got) & np.isnan(want)) | (got == want)
    fine |= np.isinf(got) & (np.sign(got) == np.sign(want)) & (np.abs(want) > LARGEST)
    fine |= (got == 0) & (np.abs(want) < SMALLEST)
    return np.where(fine, 0.0, np.where(np.isnan(error), np.inf, error))


def bound_ulp(name, fmt) -> float:
    """The registered bound of the FP32 form; half an ulp for BF16, and a trace for arithmetic rounded twice (N4).

    A power is a chain of products with an error of 2^-24 each, which a square doubles: 2^-24 (n - 1) in all.
    """
    if name == "integer_power":
        return POWER - 1 if fmt is FP32 else 0.5 + POWER * 2.0**-16
    bound = FUNCTIONS[name].bound_ulp
    if fmt is BF16 and bound:
        return 0.5 if name in TABLES else 0.5 + 2.0**-16
    return bound


@pytest.mark.parametrize(("name", "fmt"), MEMBERS, ids=IDS)
def test_every_member_keeps_its_bound_against_the_reference(rng, name, fmt):
    operands = operands_of(rng, name, fmt, (4096,))
    want = reference.evaluate(expression_of(name, fmt), [wide(x, fmt) for x in operands])
    got = np.asarray(apply(name, fmt, *map(jnp.asarray, operands), **parameters_of(name)))
    if not fmt.is_float or FUNCTIONS[name].is_predicate:
        assert got.dtype == (bool if FUNCTIONS[name].is_predicate else fmt.carrier)
        assert np.array_equal(wide(got, fmt), wide(want))
        return
    errors = errors_ulp(got.astype(np.float64), want, fmt.mantissa_bits)
    worst = int(errors.argmax())
    assert errors[worst] <= bound_ulp(name, fmt), (errors[worst], [x[worst] for x in operands], got[worst], want[worst])


def beginning(rng, name, fmt, shape):
    """The first of 4096 operands and patterns of results: the function is compiled for one length only."""
    operands = operands_of(rng, name, fmt, (4096,))
    found = patterns(apply(name, fmt, *map(jnp.asarray, operands), **parameters_of(name)))
    size = prod(shape)
    return [x[:size].reshape(shape) for x in operands], found[:size].reshape(shape)


@pytest.mark.parametrize("how", ["scan", pytest.param("vmap", marks=pytest.mark.full)])
@pytest.mark.parametrize(("name", "fmt"), MEMBERS, ids=IDS)
def test_every_member_is_a_simd_stage_with_the_bits_of_the_whole(rng, name, fmt, how):
    layout = tiled((7, 5), (3, 2), (1, 0))
    expression = expression_of(name, fmt)
    operands, want = beginning(rng, name, fmt, (7, 5))
    streams = [stream_of(x, layout, each) for x, each in zip(operands, expression.inputs, strict=True)]
    stream, counts = jax.jit(lambda given: simd(expression, *given, how=how))(streams)
    assert (stream.layout, stream.fmt) == (layout, expression.output)
    assert_same_bits(untile(stream), want)
    read_bytes = 35 * sum(each.width_bytes for each in expression.inputs)
    assert total(counts) == Counts({"pcu.simd_operations": 35, "pmu.read_bytes": read_bytes})


@pytest.mark.parametrize("name", [name for name, fmt in MEMBERS if fmt is BF16])
def test_a_wide_stage_leaves_out_the_last_rounding_only(rng, name):
    """Arithmetic keeps its FP32 result, a table has none wider; rounding afterwards gives the narrow form's bits."""
    expression = expression_of(name, BF16)
    operands, narrow = beginning(rng, name, BF16, (64,))
    streams = [stream_of(x, tiled((64,), (24,)), each) for x, each in zip(operands, expression.inputs, strict=True)]
    held, _ = simd(expression, *streams, wide=True, how="vmap")
    if FUNCTIONS[name].is_predicate:
        assert held.fmt is BOOL
        assert_same_bits(untile(held), narrow)
        return
    assert held.fmt is FP32
    want = narrow if name in TABLES else patterns(apply(name, FP32, *map(jnp.asarray, operands), **parameters_of(name)))
    assert_same_bits(untile(held), want)
    assert_same_bits(softfloat.to_bf16(patterns(untile(held))), narrow)


BF16_VALUED = [name for name, fmt in MEMBERS if fmt is BF16 and not FUNCTIONS[name].is_predicate]


@pytest.mark.parametrize("name", BF16_VALUED)
def test_bf16_results_of_wide_operands_are_bf16_values(rng, name):
    """A buffer that holds FP32 feeds a BF16 stage: what leaves the stage as BF16 has no bit below BF16's."""
    expression = expression_of(name, BF16)
    operands = [x if x.dtype == bool else carriers(rng, (64,), FP32) for x in operands_of(rng, name, BF16, (64,))]
    streams = [stream_of(x, tiled((64,), (24,)), BOOL if x.dtype == bool else FP32) for x in operands]
    stream, _ = simd(expression, *streams, how="vmap")
    got = patterns(untile(stream))
    assert stream.fmt is BF16 and (got & 0xFFFF == 0).all()
    taken = [softfloat.to_bf16(patterns(x)).view(np.float32) if name in TABLES else x for x in operands]
    want = apply(name, BF16 if name in TABLES else FP32, *map(jnp.asarray, taken), **parameters_of(name))
    assert_same_bits(got, softfloat.to_bf16(patterns(want)))
