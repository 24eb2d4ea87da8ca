"""Element-wise primitives: one SIMD instruction each."""

from typing import Any

import numpy as np

from rdujax.frontend.rule import Scalar, Site, rule
from rdujax.numerics.formats import BOOL, Format, format_of
from rdujax.numerics.functions import FUNCTIONS
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.streams.access import Broadcast
from rdujax.units.pcu.expression import CONVERT, IMMEDIATE, Expression, Instruction

# JAX's name of a primitive -> the machine's name of the function. Operands in the same order.
SAME_ORDER = {
    "add": "add", "add_any": "add", "sub": "sub", "mul": "mul", "div": "div", "rem": "rem", "neg": "neg",
    "abs": "abs", "sign": "sign", "max": "max", "min": "min", "square": "square", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log1p": "log1p", "logistic": "sigmoid",
    "tanh": "tanh", "erf": "erf", "erfc": "erfc", "sin": "sin", "cos": "cos",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "clamp": "clamp", "and": "and", "or": "or", "xor": "xor", "not": "not", "shift_left": "shift_left",
    "shift_right_logical": "shift_right_logical", "shift_right_arithmetic": "shift_right_arithmetic",
}  # fmt: skip


@rule(*SAME_ORDER)
def _function(site: Site) -> tuple[int, ...]:
    return (instruction(site, SAME_ORDER[site.primitive], tuple(range(len(site.operands)))),)


@rule("integer_pow")
def _integer_power(site: Site) -> tuple[int, ...]:
    return (instruction(site, "integer_power", (0,), immediate=int(site.parameters["y"])),)


@rule("one_minus_square")
def _one_minus_square(site: Site) -> tuple[int, ...]:
    """The slope of tanh as newer versions of JAX write it: two results, the square and the difference."""
    fmt = _format(site, 0)
    one = Instruction(IMMEDIATE, fmt, (), 1.0)
    steps = (one, Instruction("square", fmt, (0,)), Instruction("sub", fmt, (1, 2)))
    return (site.add(Map(Expression((fmt,), steps)), site.value(0)),)


@rule("select_n")
def _select(site: Site) -> tuple[int, ...]:
    if len(site.operands) != 3 or _format(site, 0) is not BOOL:
        raise site.unsupported("more than two cases", "use a boolean predicate, as jnp.where does")
    return (instruction(site, "select", (0, 2, 1)),)  # JAX lists the case of False first


@rule("convert_element_type")
def _convert(site: Site) -> tuple[int, ...]:
    source, target = _format(site, 0), format_of(site.parameters["new_dtype"], where=site.source)
    if source is target:
        return (site.value(0),)
    expression = Expression((source,), (Instruction(CONVERT, source, (0,), target=target),))
    return (site.add(Map(expression), site.value(0)),)


@rule("copy", "optimization_barrier")
def _same(site: Site) -> tuple[int, ...]:
    return tuple(site.value(i) for i in range(len(site.operands)))


def instruction(site: Site, function: str, order: tuple[int, ...], immediate: int | None = None) -> int:
    """One SIMD stage of one function; scalars of the text become immediates of the expression."""
    fmt = _compute_format(site, function)
    formats = FUNCTIONS[function].formats
    if fmt not in formats:
        raise site.unsupported(
            f"{function} does not exist in {fmt}", f"convert to one of {', '.join(map(str, formats))}"
        )
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
