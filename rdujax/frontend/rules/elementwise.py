"""Element-wise primitives: one SIMD instruction each."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.lax import RoundingMethod

from rdujax.frontend.rule import Scalar, Site, expanded, rule
from rdujax.numerics.convert import WORDS
from rdujax.numerics.formats import BF16, INT32, UINT32, Format, format_of
from rdujax.numerics.functions import FUNCTIONS
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.streams.access import Broadcast
from rdujax.units.pcu.expression import BITCAST, CONVERT, IMMEDIATE, Expression, Instruction

# JAX's name of a primitive -> the machine's name of the function. Operands in the same order.
SAME_ORDER = {
    "add": "add", "add_any": "add", "sub": "sub", "mul": "mul", "div": "div", "rem": "rem", "neg": "neg",
    "abs": "abs", "sign": "sign", "max": "max", "min": "min", "square": "square", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log1p": "log1p", "logistic": "sigmoid",
    "tanh": "tanh", "erf": "erf", "erfc": "erfc", "erf_inv": "erf_inv", "cbrt": "cbrt",
    "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan", "atan2": "atan2", "sinh": "sinh", "cosh": "cosh",
    "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "sin": "sin", "cos": "cos",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "floor": "floor", "ceil": "ceil", "is_finite": "is_finite", "population_count": "population_count",
    "clz": "count_leading_zeros", "nextafter": "next_after", "clamp": "clamp",
    "and": "and", "or": "or", "xor": "xor", "not": "not", "shift_left": "shift_left",
    "shift_right_logical": "shift_right_logical", "shift_right_arithmetic": "shift_right_arithmetic",
}  # fmt: skip

# What to write where a function does not exist in a format. An exact remainder of floating numbers takes a division of
# up to 277 bits; the difference below is as exact as its quotient.
INSTEAD = {"rem": "write x - y * jnp.floor(x / y) for x % y, and with jnp.trunc for jnp.fmod and lax.rem"}


@rule(*SAME_ORDER)
def _function(site: Site) -> tuple[int, ...]:
    return (instruction(site, SAME_ORDER[site.primitive], tuple(range(len(site.operands)))),)


@rule("integer_pow")
def _integer_power(site: Site) -> tuple[int, ...]:
    return (instruction(site, "integer_power", (0,), immediate=int(site.parameters["y"])),)


@rule("pow")
def _power(site: Site) -> tuple[int, ...]:
    """An exponent in INT32 is read as a floating number, exact up to 2^24."""
    base, exponent = site.operands
    fmt = _format(site, 0)
    if _format(site, 1) is fmt:
        return (instruction(site, "pow", (0, 1)),)
    if isinstance(exponent, Scalar):
        exponent = Scalar(float(exponent.value), fmt.dtype)
    else:
        exponent = converted(site, site.value(1), fmt)
    return (instruction(replace(site, operands=(base, exponent)), "pow", (0, 1)),)


@rule("round")
def _round(site: Site) -> tuple[int, ...]:
    to_even = int(site.parameters["rounding_method"]) == int(RoundingMethod.TO_NEAREST_EVEN)
    return (instruction(site, "round_even" if to_even else "round", (0,)),)


@rule("reduce_precision")
def _reduce_precision(site: Site) -> tuple[int, ...]:
    """To BF16 and back; what a format has anyway stays."""
    value, fmt = site.value(0), _format(site, 0)
    exponent_bits, mantissa_bits = site.parameters["exponent_bits"], site.parameters["mantissa_bits"]
    if exponent_bits >= fmt.exponent_bits and mantissa_bits >= fmt.mantissa_bits:
        return (value,)
    if (exponent_bits, mantissa_bits) != (BF16.exponent_bits, BF16.mantissa_bits):
        raise site.unsupported(f"{exponent_bits} exponent bits and {mantissa_bits} mantissa bits", "use 8 and 7: bf16")
    steps = (Instruction(CONVERT, fmt, (0,), target=BF16), Instruction(CONVERT, BF16, (1,), target=fmt))
    return (site.add(Map(Expression((fmt,), steps)), value),)


@rule("one_minus_square")
def _one_minus_square(site: Site) -> tuple[int, ...]:
    """The slope of tanh as newer versions of JAX write it: two results, the square and the difference."""
    fmt = _format(site, 0)
    one = Instruction(IMMEDIATE, fmt, (), 1.0)
    steps = (one, Instruction("square", fmt, (0,)), Instruction("sub", fmt, (1, 2)))
    return (site.add(Map(Expression((fmt,), steps)), site.value(0)),)


ORDERED = {"eq_to": "eq", "lt_to": "lt", "le_to": "le"}


@rule(*ORDERED)
def _in_total_order(site: Site) -> tuple[int, ...]:
    """Comparisons in an order of all numbers: -0 is before 0, NaN after infinity, a negative NaN before all.

    JAX searches by them. Of a floating number, the order is that of its bits, those but the sign flipped in negatives.
    """
    compare = getattr(lax, ORDERED[site.primitive])
    if not _format(site, 0).is_float:
        return _function(replace(site, primitive=ORDERED[site.primitive]))

    def place(x: jax.Array) -> jax.Array:
        single = x.astype(jnp.float32)  # not emulated: this is what gets traced
        bits = lax.bitcast_convert_type(single, jnp.int32)  # not emulated: this is what gets traced
        return bits ^ ((bits >> 31) & 0x7FFFFFFF)

    def compared(x: jax.Array, y: jax.Array) -> jax.Array:
        return compare(place(x), place(y))

    return expanded(site, compared, *(_spread(site, site.value(i)) for i in range(2)))


@rule("log2")
def _log2(site: Site) -> tuple[int, ...]:
    """As versions of JAX write it that have no primitive for it: two results, the logarithm and the quotient."""

    def quotient(x: jax.Array) -> jax.Array:
        return lax.log(x) / math.log(2.0)  # not emulated: this is what gets traced

    return expanded(site, quotient, site.value(0))


@rule("polynomial")
def _polynomial(site: Site) -> tuple[int, ...]:
    """Coefficients from the lowest on. Horner's scheme, as newer versions of JAX lower it; each step is two results."""
    given = [i for i, operand in enumerate(site.operands) if not isinstance(operand, Scalar)] or [0]

    def horner(*values: jax.Array) -> jax.Array:
        of: dict[int, Any] = {i: o.value for i, o in enumerate(site.operands) if isinstance(o, Scalar)}
        of |= dict(zip(given, values, strict=True))
        x, *coefficients = (of[i] for i in range(len(of)))
        total = coefficients[-1]
        for coefficient in reversed(coefficients[:-1]):
            total = total * x + coefficient  # not emulated: this is what gets traced
        return total

    return expanded(site, horner, *(site.value(i) for i in given))


@rule("select_n")
def _select(site: Site) -> tuple[int, ...]:
    if len(site.operands) == 2:
        return (site.value(1),)
    if _format(site, 0) is INT32:
        return (_one_of_many(site),)
    return (instruction(site, "select", (0, 2, 1)),)  # JAX lists the case of False first


def _one_of_many(site: Site) -> int:
    """Case i where the selector is i: the last, unless the selector is below it, and so on to the first."""
    fmt, values = _format(site, 1), [site.value(i) for i in range(len(site.operands))]
    cases = range(1, len(values))
    inputs, steps, found = (INT32, *(fmt for _ in cases)), [], len(values) - 1
    for i in reversed(cases[:-1]):
        at = len(inputs) + len(steps)
        steps += [Instruction(IMMEDIATE, INT32, (), i), Instruction("less", INT32, (0, at))]
        steps.append(Instruction("select", fmt, (at + 1, i, found)))
        found = at + 2
    return site.add(Map(Expression(inputs, tuple(steps))), *(_spread(site, v) for v in values))


@rule("convert_element_type")
def _convert(site: Site) -> tuple[Any, ...]:
    target, operand = format_of(site.parameters["new_dtype"], where=site.source), site.operands[0]
    if isinstance(operand, Scalar) and target.is_float:
        number = np.float32(operand.number).astype(target.dtype)  # not emulated: a number of the text, rounded as by N6
        return (Scalar(number, target.dtype),)
    return (converted(site, site.value(0), target),)


@rule("bitcast_convert_type")
def _bitcast(site: Site) -> tuple[int, ...]:
    source, target = _format(site, 0), format_of(site.parameters["new_dtype"], where=site.source)
    if source is target:
        return (site.value(0),)
    if {source, target} - WORDS:
        raise site.unsupported(
            f"bits of {source} read as {target}", f"one of {', '.join(sorted(map(str, WORDS)))} in another of them"
        )
    return (site.add(Map(Expression((source,), (Instruction(BITCAST, source, (0,), target=target),))), site.value(0)),)


def flipped(site: Site, value: int) -> int:
    """A UINT32 value as INT32 of the same order, or back: the upper bit flipped."""
    source = site.builder.types[value].fmt
    flip = Instruction(IMMEDIATE, INT32, (), -(2**31))
    if source is UINT32:
        steps = (Instruction(BITCAST, UINT32, (0,), target=INT32), flip, Instruction("xor", INT32, (1, 2)))
    else:
        steps = (flip, Instruction("xor", INT32, (0, 1)), Instruction(BITCAST, INT32, (2,), target=UINT32))
    return site.add(Map(Expression((source,), steps)), value)


def converted(site: Site, value: int, target: Format) -> int:
    """The value in another format, by one conversion where it has another one."""
    source = site.builder.types[value].fmt
    if source is target:
        return value
    return site.add(Map(Expression((source,), (Instruction(CONVERT, source, (0,), target=target),))), value)


@rule("copy", "optimization_barrier", "name", "sharding_constraint", "reshard")
def _same(site: Site) -> tuple[int, ...]:
    """What computes nothing: it says in which order values are made, their names, or how they lie on devices."""
    return tuple(site.value(i) for i in range(len(site.operands)))


@rule("device_put")
def _put(site: Site) -> tuple[int, ...]:
    if any(device is not None for device in site.parameters["devices"]):
        raise site.unsupported("a place for a value", "leave it out; where values rest is a choice of compile: tier=")
    return _same(site)


def instruction(site: Site, function: str, order: tuple[int, ...], immediate: int | None = None) -> int:
    """One SIMD stage of one function; scalars of the text become immediates of the expression."""
    fmt = _compute_format(site, function)
    formats = FUNCTIONS[function].formats
    if fmt not in formats:
        do = f"convert to one of {', '.join(map(str, formats))}"
        if function in INSTEAD:
            do = f"{INSTEAD[function]}, or {do}"
        raise site.unsupported(f"{function} does not exist in {fmt}", do)
    values = [i for i in order if not isinstance(site.operands[i], Scalar)]
    if not values:
        values = [order[0]]
    inputs = tuple(_format(site, i) for i in values)
    steps: list[Instruction] = []
    places: dict[int, int] = {i: place for place, i in enumerate(values)}
    for i in order:
        if i not in places:
            places[i] = len(inputs) + len(steps)
            steps.append(Instruction(IMMEDIATE, _format(site, i), (), _plain(site.operands[i])))
    steps.append(Instruction(function, fmt, tuple(places[i] for i in order), immediate))
    return site.add(Map(Expression(inputs, tuple(steps))), *(_spread(site, site.value(i)) for i in values))


def _spread(site: Site, value: int) -> int:
    """The value in the result's shape: what JAX spreads without an equation of its own is read again and again.

    That is a scalar in memory (a bound of a clamp, a predicate), or axes of length one among operands of equal rank.
    """
    shape, source = tuple(site.results[0].shape), site.builder.types[value].shape
    if source == shape:
        return value
    return site.add(Move(Broadcast(shape, tuple(range(len(source))))), value)


def _compute_format(site: Site, function: str) -> Format:
    """Where formats differ, the predicate of a select is the odd one out."""
    return _format(site, 1 if function == "select" else 0)


def _format(site: Site, i: int) -> Format:
    operand = site.operands[i]
    if isinstance(operand, Scalar):
        return format_of(operand.dtype, where=site.source)
    return site.builder.types[site.value(i)].fmt


def _plain(operand: Any) -> float | int | bool:
    value = np.asarray(operand.value)
    if value.dtype.kind == "b":
        return bool(value)
    return int(value) if value.dtype.kind in "iu" else float(value)
