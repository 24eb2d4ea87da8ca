"""SIMD expressions: what the body and tail of a PCU are configured to compute, element by element.

    inputs %0 %1     %2 = mul.bf16 %0 %1     %3 = tanh.bf16 %2

An expression is a straight line of instructions over operands that all have one shape. Each instruction names a
function of the numerics registry (or `convert`, `bitcast`, an `immediate`) and the format in which it computes. The
text form is for reading; `to_json` and `from_json` are complete: `from_json(e.to_json()) == e`.

Instructions and expressions that compute other bits are not equal: -0.0 is another immediate than 0.0, and NaN is NaN.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, describe
from rdujax.numerics import convert, formats
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32, Format
from rdujax.numerics.functions import FUNCTIONS, apply

IMMEDIATE, CONVERT, BITCAST = "immediate", "convert", "bitcast"
_POWER, _SELECT = "integer_power", "select"
TARGETED = (CONVERT, BITCAST)  # they say in which format the result is
# Functions that the tail looks up in a table or a sequencer rather than in an arithmetic stage of the body. Its
# generator of random words, which rounds stochastically, is assumed to take keys and counters as operands as well.
TABLES = frozenset(
    "exp exp2 expm1 log log1p reciprocal rsqrt sqrt cbrt sigmoid tanh silu gelu erf erfc erf_inv"
    " sin cos tan asin acos atan sinh cosh asinh acosh atanh".split()
)
TAIL = TABLES | {"div", "rem", "pow", "atan2", "random_first", "random_second", "random_bits", CONVERT}


@dataclass(frozen=True, eq=False)
class Instruction:
    """One step: `function` in format `fmt` on the values numbered `operands`.

    immediate: the value of a constant, or an exponent. target: the format that a conversion gives.
    Raises UnknownNameError for a function that does not exist, FormatError for a format that it does not have, and
    ArgumentError for another number of operands, and for an immediate or a target that is missing, too much, or no
    value of the format.
    """

    function: str
    fmt: Format
    operands: tuple[int, ...]
    immediate: float | int | bool | None = None
    target: Format | None = None

    def __post_init__(self) -> None:
        function = None if self.function in (IMMEDIATE, CONVERT, BITCAST) else FUNCTIONS[self.function]
        if function and self.fmt not in function.formats:
            allowed = ", ".join(map(str, function.formats))
            raise FormatError(
                describe("a format that the function does not have", given=str(self), allowed=allowed, where="SIMD")
            )
        arity = function.arity if function else int(self.function in TARGETED)
        if len(self.operands) != arity:
            raise ArgumentError(describe("another number of operands", given=str(self), allowed=arity, where="SIMD"))
        if (self.target is not None) != (self.function in TARGETED):
            raise ArgumentError(
                describe("a target is for conversions", given=str(self), allowed=f"one with {CONVERT}, else none")
            )
        if (self.immediate is not None) != (self.function in (IMMEDIATE, _POWER)):
            raise ArgumentError(
                describe("an immediate is for constants and exponents", given=str(self),
                         allowed=f"one with {IMMEDIATE} and {_POWER}, else none")
            )  # fmt: skip
        if self.immediate is not None:
            kind = self.fmt if self.function == IMMEDIATE else INT32
            object.__setattr__(self, "immediate", _plain(self.immediate, kind, str(self)))

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Instruction) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.function, self.fmt, self.operands, repr(self.immediate), self.target

    @property
    def takes(self) -> tuple[Format, ...]:
        """Formats of the operands: `fmt`, but a selection is steered by a predicate."""
        return (BOOL, self.fmt, self.fmt) if self.function == _SELECT else (self.fmt,) * len(self.operands)

    @property
    def result(self) -> Format:
        """Format of the result: predicates for comparisons, the target of a conversion, otherwise `fmt`."""
        if self.function in TARGETED:
            assert self.target is not None
            return self.target
        if self.function == IMMEDIATE:
            return self.fmt
        return BOOL if FUNCTIONS[self.function].is_predicate else self.fmt

    def __str__(self) -> str:
        name = f"{self.function}.{self.fmt}" + (f"->{self.target}" if self.target else "")
        words = [f"%{i}" for i in self.operands] + ([repr(self.immediate)] if self.immediate is not None else [])
        return " ".join([name, *words])


@dataclass(frozen=True)
class Expression:
    """A straight-line SIMD program; its value is that of the last instruction.

    inputs: the formats of the operands. At least one instruction.
    Raises ArgumentError for an operand that is not computed yet, FormatError for one in another format than its
    instruction takes: an instruction rounds its result, not its operands.
    """

    inputs: tuple[Format, ...]
    instructions: tuple[Instruction, ...]

    def __post_init__(self) -> None:
        known = list(self.inputs)
        if not self.instructions:
            raise ArgumentError("an expression without instructions computes nothing")
        for step in self.instructions:
            if any(not 0 <= i < len(known) for i in step.operands):
                allowed = f"%0 to %{len(known) - 1}"
                raise ArgumentError(describe("an operand that is not computed yet", given=str(step), allowed=allowed))
            found = tuple(known[i] for i in step.operands)
            if found != step.takes:
                raise FormatError(
                    describe("an operand in another format", given=f"{step} of {', '.join(map(str, found))}",
                             allowed=", ".join(map(str, step.takes)), do="convert it first")
                )  # fmt: skip
            known.append(step.result)

    @property
    def output(self) -> Format:
        """Format of the value."""
        return self.instructions[-1].result

    @cached_property
    def work(self) -> tuple[Instruction, ...]:
        """The instructions that take a place in the pipeline: all but immediates."""
        return tuple(step for step in self.instructions if step.function != IMMEDIATE)

    @property
    def flops(self) -> int:
        """Floating operations per element: one for each instruction that computes in BF16 or FP32."""
        return sum(step.function not in TARGETED and step.fmt.is_float for step in self.work)

    def __str__(self) -> str:
        head = " ".join(str(f) for f in self.inputs)
        first = len(self.inputs)
        return f"({head}) " + "; ".join(f"%{first + i} = {step}" for i, step in enumerate(self.instructions))

    def to_json(self) -> str:
        """The complete text form; `from_json` reads it back."""
        steps = [
            [s.function, s.fmt.name, list(s.operands), _spell(s.immediate), s.target.name if s.target else None]
            for s in self.instructions
        ]
        return json.dumps([[f.name for f in self.inputs], steps], separators=(",", ":"))


def from_json(text: str) -> Expression:
    """The expression of a text made by `Expression.to_json`."""
    inputs, steps = json.loads(text)
    return Expression(
        tuple(formats.lookup(name) for name in inputs),
        tuple(
            Instruction(
                function,
                formats.lookup(fmt),
                tuple(operands),
                _unspell(immediate),
                formats.lookup(target) if target else None,
            )
            for function, fmt, operands, immediate, target in steps
        ),
    )


def evaluate(
    expression: Expression, operands: Sequence[jax.Array], *, wide_operands: bool = False, wide: bool = False
) -> jax.Array:
    """Runs the expression on carriers of one shape; returns carriers of `expression.output`.

    wide: leave out the rounding of the last result from FP32 to BF16, for a stage buffer that holds FP32.
    wide_operands: BF16 operands may hold FP32 values, as such a buffer delivers them: arithmetic takes them as they
        are, a table rounds what it reads, and what only selects or moves rounds its result.
    Derivatives: those of the instructions (rounding is straight-through).
    """
    values = list(operands)
    last = len(expression.instructions) - 1
    for i, step in enumerate(expression.instructions):
        keep = wide and i == last
        value = _step(step, values, wide=keep)
        if wide_operands and step.result is BF16 and not keep:
            value = convert.round_to(value, BF16)
        values.append(value)
    return values[-1]


def _step(step: Instruction, values: list[jax.Array], *, wide: bool) -> jax.Array:
    if step.function == IMMEDIATE:
        shape = values[0].shape if values else ()
        # An immediate is a configuration word: it enters the machine like any other value (N11).
        return jnp.broadcast_to(convert.enter(jnp.asarray(step.immediate, step.fmt.dtype), step.fmt), shape)
    operands = [values[i] for i in step.operands]
    if step.function == CONVERT:
        assert step.target is not None
        return convert.convert(operands[0], step.fmt, step.target)
    if step.function == BITCAST:
        assert step.target is not None
        return convert.reinterpret(operands[0], step.fmt, step.target)
    fmt = step.fmt
    if fmt is BF16 and step.function in TABLES:
        operands = [convert.round_to(x, BF16) for x in operands]
    elif fmt is BF16 and wide:
        fmt = FP32
    parameters = {} if step.immediate is None else {"n": int(step.immediate)}
    return apply(step.function, fmt, *operands, **parameters)


def _plain(immediate: Any, fmt: Format, where: str) -> float | int | bool:
    """An immediate as the Python value that `fmt` is made of; an INT32 word must be one."""
    if fmt is BOOL and isinstance(immediate, bool | np.bool_):
        return bool(immediate)
    if fmt is INT32 and isinstance(immediate, int | np.integer) and -(2**31) <= immediate < 2**31:
        return int(immediate)
    if fmt is UINT32 and isinstance(immediate, int | np.integer) and 0 <= immediate < 2**32:
        return int(immediate)
    if fmt.is_float and isinstance(immediate, int | float | np.generic):
        return float(immediate)
    raise ArgumentError(describe("an immediate of another kind", given=repr(immediate), allowed=fmt, where=where))


def _spell(immediate: float | int | bool | None) -> Any:
    return [type(immediate).__name__, str(immediate)] if immediate is not None else None


def _unspell(spelt: Any) -> Any:
    if spelt is None:
        return None
    kind, text = spelt
    return {"float": float, "int": int, "bool": lambda t: t == "True"}[kind](text)


def compose(outer: Expression, position: int, inner: Expression) -> Expression:
    """The expression that computes operand `position` of `outer` by `inner`; the other operands keep their order.

    Operands of the result: those of `outer` before `position`, those of `inner`, those of `outer` after it.
    """
    if outer.inputs[position] is not inner.output:
        raise ArgumentError(describe("formats do not meet", given=f"{inner.output} into {outer.inputs[position]}"))
    inputs = outer.inputs[:position] + inner.inputs + outer.inputs[position + 1 :]
    total, n_inner = len(inputs), len(inner.inputs)
    inner_map = {i: position + i for i in range(n_inner)}
    inner_map |= {n_inner + i: total + i for i in range(len(inner.instructions))}
    shift = total + len(inner.instructions)
    outer_map = {i: i if i < position else i + n_inner - 1 for i in range(len(outer.inputs)) if i != position}
    outer_map[position] = shift - 1
    outer_map |= {len(outer.inputs) + i: shift + i for i in range(len(outer.instructions))}
    steps = [_renumber(s, inner_map) for s in inner.instructions] + [
        _renumber(s, outer_map) for s in outer.instructions
    ]
    return Expression(inputs, tuple(steps))


def share(expression: Expression, groups: Sequence[int]) -> Expression:
    """The expression after operands that read the same values become one; `groups[i]` is operand i's new number."""
    n = max(groups) + 1
    inputs: list[Format] = [expression.inputs[groups.index(i)] for i in range(n)]
    old = len(expression.inputs)
    mapping = dict(enumerate(groups)) | {old + i: n + i for i in range(len(expression.instructions))}
    return Expression(tuple(inputs), tuple(_renumber(s, mapping) for s in expression.instructions))


def _renumber(step: Instruction, mapping: dict[int, int]) -> Instruction:
    return Instruction(step.function, step.fmt, tuple(mapping[i] for i in step.operands), step.immediate, step.target)
