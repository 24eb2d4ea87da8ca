"""PMU, address generation: loop counters, a pipeline of integer ALU stages, addresses and predicates.

What it is     The address side of a PMU: counters step through a loop nest, integer ALUs make an address and a
               predicate of them, with bit-field extract and shift-and-set beside ordinary arithmetic, and operands
               from the scalar network (MICRO 2024, IV-B). Software cuts the stages into fragments, one for each
               concurrent read or write stream; up to 4 addresses per cycle (Hot Chips 2024).

                   counters --+--> [ALU][ALU] ... | ... [ALU] --> addresses, predicates --> banks
                   scalars  --+    write fragment | read fragment

The law        INT32, wrapping (N7). Each operation takes one stage, a subexpression that occurs twice takes its stages
               once. The innermost counters may be lanes, which run at once: what a lane adds to the address of its
               vector is done beside the banks and takes no stage.
               stages of all streams <= stages of the PMU; streams <= addresses per cycle.
Modelled       affine and other addresses, predicates, the nest step by step or at once, fragments and their limits.
Not modelled   one expression spread over the stages of several PMUs; results sent to the scalar network.
Sources        MICRO 2024, IV-B; the number of stages is an assumption of the machine, and so is "lanes take no stage".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Union

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.numerics import integer
from rdujax.units import capacity, pmu

Operand = Union["Address", int]


@dataclass(frozen=True)
class Address:
    """An integer expression over counters and scalars; immutable, compared by structure.

    Operators: + - * << >> & | ^ and the comparisons < <= > >=, which give 0 or 1. `>>` shifts zeros in.

    >>> row, column = counter(0), counter(1)
    >>> striped = (row * 64 + column).set(row + column, low=0, width=4)
    >>> print(striped, "takes", stages(striped), "stages")
    set[0:4]((c0 * 64) + c1, c0 + c1) takes 4 stages
    >>> evaluate(striped, [3, 62]).item() == 3 * 64 + 48 + (3 + 62) % 16
    True
    """

    function: str
    operands: tuple["Address", ...] = ()
    numbers: tuple[int, ...] = ()

    def __add__(self, other: Operand) -> "Address":
        return _operation("+", self, other)

    def __sub__(self, other: Operand) -> "Address":
        return _operation("-", self, other)

    def __mul__(self, other: Operand) -> "Address":
        return _operation("*", self, other)

    def __lshift__(self, other: Operand) -> "Address":
        return _operation("<<", self, other)

    def __rshift__(self, other: Operand) -> "Address":
        return _operation(">>", self, other)

    def __and__(self, other: Operand) -> "Address":
        return _operation("&", self, other)

    def __or__(self, other: Operand) -> "Address":
        return _operation("|", self, other)

    def __xor__(self, other: Operand) -> "Address":
        return _operation("^", self, other)

    def __lt__(self, other: Operand) -> "Address":
        return _operation("<", self, other)

    def __le__(self, other: Operand) -> "Address":
        return _operation("<=", self, other)

    def __gt__(self, other: Operand) -> "Address":
        return _operation(">", self, other)

    def __ge__(self, other: Operand) -> "Address":
        return _operation(">=", self, other)

    def equals(self, other: Operand) -> "Address":
        """1 where both are equal, else 0 (`==` compares the expressions themselves)."""
        return _operation("==", self, other)

    def extract(self, low: int, width: int) -> "Address":
        """The bits [low, low + width) as a number from 0. Raises ArgumentError for bits that are not there."""
        return Address("extract", (self,), _field(low, width))

    def set(self, field: Operand, low: int, width: int) -> "Address":
        """Shift and set: the bits [low, low + width) replaced by the low bits of `field`. Errors as `extract`."""
        return Address("set", (self, _node(field)), _field(low, width))

    def __str__(self) -> str:
        names = [f"({x})" if x.function in _INFIX else str(x) for x in self.operands]
        if self.function in _INFIX:
            return f" {self.function} ".join(names)
        if self.function in ("extract", "set"):
            low, width = self.numbers
            return f"{self.function}[{low}:{low + width}]({', '.join(map(str, self.operands))})"
        return f"{_LEAVES[self.function]}{self.numbers[0]}"


def counter(index: int) -> Address:
    """Counter `index` of the nest, 0 the outermost."""
    return Address("counter", numbers=(index,))


def scalar(index: int) -> Address:
    """Operand `index` from the scalar network."""
    return Address("scalar", numbers=(index,))


def constant(value: int) -> Address:
    """A configuration word. Raises ArgumentError outside of INT32."""
    if not -(2**31) <= value < 2**31:
        raise ArgumentError(describe("an address constant beyond INT32", given=f"{value:,}", allowed="-2^31 to 2^31-1"))
    return Address("constant", numbers=(value,))


def _field(low: int, width: int) -> tuple[int, int]:
    if low < 0 or width < 1 or low + width > 32:
        raise ArgumentError(
            describe("a bit field that is not there", given=f"low={low}, width={width}", allowed="within bits 0 to 31")
        )
    return low, width


def _node(x: Operand) -> Address:
    return x if isinstance(x, Address) else constant(x)


def _operation(function: str, x: Operand, y: Operand) -> Address:
    return Address(function, (_node(x), _node(y)))


def _signed(word: int) -> int:
    return (word & 0xFFFFFFFF) - ((word & 0x80000000) << 1)


def _extract(x: jax.Array, low: int, width: int) -> jax.Array:
    return integer.bit_and(integer.shift_right_logical(x, low), _signed((1 << width) - 1))


def _set(x: jax.Array, field: jax.Array, low: int, width: int) -> jax.Array:
    mask = (1 << width) - 1
    moved = integer.shift_left(integer.bit_and(field, _signed(mask)), low)
    return integer.bit_or(integer.bit_and(x, _signed(~(mask << low))), moved)


def _flag(compare: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda x, y: integer.select(compare(x, y), 1, 0)


_LEAVES = {"counter": "c", "scalar": "s", "constant": ""}
_INFIX: dict[str, Callable[..., jax.Array]] = {
    "+": integer.add, "-": integer.sub, "*": integer.mul,
    "<<": integer.shift_left, ">>": integer.shift_right_logical,
    "&": integer.bit_and, "|": integer.bit_or, "^": integer.bit_xor,
    "<": _flag(integer.less), "<=": _flag(integer.less_equal),
    ">": _flag(integer.greater), ">=": _flag(integer.greater_equal), "==": _flag(integer.equal),
}  # fmt: skip
_ALU = {**_INFIX, "extract": _extract, "set": _set}


def evaluate(
    address: Address, counters: Sequence[jax.Array | int], scalars: Sequence[jax.Array | int] = ()
) -> jax.Array:
    """The value of the expression, int32, of the operands' common shape (NumPy broadcasting).

    Raises ShapeError for a counter or scalar that is not given. No derivative: addresses are integers.
    """
    given = {"counter": counters, "scalar": scalars}
    known: dict[Address, jax.Array] = {}

    def value(node: Address) -> jax.Array:
        if node not in known:
            known[node] = compute(node)
        return known[node]

    def compute(node: Address) -> jax.Array:
        if node.function in _ALU:
            return _ALU[node.function](*map(value, node.operands), *node.numbers)
        (number,) = node.numbers
        if node.function == "constant":
            return jnp.asarray(number, jnp.int32)
        there = given[node.function]
        if number >= len(there):
            raise ShapeError(
                describe(f"a {node.function} that is not given", given=str(node), allowed=f"{len(there)} of them")
            )
        return jnp.asarray(there[number], jnp.int32)

    return value(address)


@dataclass(frozen=True)
class Loop:
    """A counter: start, start + step, ... for `length` turns, then its control event.

    Raises ArgumentError for no turn, and for a start or step beyond INT32.
    """

    length: int
    step: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ArgumentError(describe("a counter that never counts", given=self.length, allowed="1 turn or more"))
        for word in (self.step, self.start):
            constant(word)


@dataclass(frozen=True)
class Generator:
    """One address stream: a loop nest, outermost counter first, the address, and a predicate (0 drops the address).

    lane_loops: how many of the innermost counters are lanes of one vector; all others count vectors.

    >>> rows = Generator((Loop(2, step=8), Loop(4)), counter(0) + counter(1))
    >>> static(rows)[0].tolist()
    [[0, 1, 2, 3], [8, 9, 10, 11]]
    """

    nest: tuple[Loop, ...]
    address: Address
    predicate: Address | None = None
    lane_loops: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.lane_loops <= len(self.nest):
            raise ShapeError(
                describe("more lane counters than counters", given=self.lane_loops, allowed=f"0 to {len(self.nest)}")
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(vectors, lanes of one vector)."""
        lengths, cut = [loop.length for loop in self.nest], len(self.nest) - self.lane_loops
        return prod(lengths[:cut]), prod(lengths[cut:])

    def __str__(self) -> str:
        nest = " ".join(f"c{i}<{loop.length}" for i, loop in enumerate(self.nest))
        return f"{nest}: {self.address}" + (f" if {self.predicate}" if self.predicate else "")


def at(
    generator: Generator, turns: Sequence[jax.Array], scalars: Sequence[jax.Array | int] = ()
) -> tuple[jax.Array, jax.Array]:
    """(int32 addresses, bool validity) at the given turns of the counters: int32 from 0, of one broadcast shape."""
    counters = [
        integer.add(integer.mul(turn, loop.step), loop.start) for turn, loop in zip(turns, generator.nest, strict=True)
    ]
    shape = jnp.broadcast_shapes(*(c.shape for c in counters), *(jnp.shape(s) for s in scalars))
    address = jnp.broadcast_to(evaluate(generator.address, counters, scalars), shape)
    if generator.predicate is None:
        return address, jnp.ones(shape, bool)
    return address, jnp.broadcast_to(evaluate(generator.predicate, counters, scalars) != 0, shape)


def vectors(generator: Generator, scalars: Sequence[jax.Array | int] = ()) -> tuple[jax.Array, jax.Array]:
    """The whole stream at once: int32 addresses and bool validity, both [vectors, lanes], in order of arrival."""
    rank = len(generator.nest)
    turns = [
        jnp.arange(loop.length, dtype=jnp.int32).reshape([-1 if i == axis else 1 for i in range(rank)])
        for axis, loop in enumerate(generator.nest)
    ]
    address, valid = at(generator, turns, scalars)
    return address.reshape(generator.shape), valid.reshape(generator.shape)


def static(generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """`vectors` on the host, as NumPy arrays, also while JAX traces; for streams without scalars."""
    with jax.ensure_compile_time_eval():
        address, valid = jax.jit(lambda: vectors(generator))()
        return np.asarray(address), np.asarray(valid)


def advance(nest: tuple[Loop, ...], turns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of the counters: int32 [len(nest)] turns -> (the next turns, done: the outermost one has wrapped).

    The innermost counter steps; each that reaches its end starts again and steps the one outside of it.
    """
    carry, after = jnp.asarray(True), []
    for axis in reversed(range(len(nest))):
        stepped = integer.add(turns[axis], 1)
        ends = carry & (stepped == nest[axis].length)
        after.append(jnp.where(ends, 0, jnp.where(carry, stepped, turns[axis])))
        carry = ends
    return jnp.stack(after[::-1]), carry


def stages(*expressions: Address | None, lanes: Sequence[int] = ()) -> int:
    """ALU stages that the expressions take together; `lanes` are the indices of counters that run as lanes."""
    seen: set[Address] = set()

    def visit(node: Address) -> bool:
        in_lanes = node.function == "counter" and node.numbers[0] in lanes
        for operand in node.operands:
            in_lanes |= visit(operand)
        if node.function in _ALU and not in_lanes:
            seen.add(node)
        return in_lanes

    for expression in expressions:
        if expression is not None:
            visit(expression)
    return len(seen)


def stages_of(generator: Generator) -> int:
    """ALU stages that a stream's fragment takes."""
    rank = len(generator.nest)
    return stages(generator.address, generator.predicate, lanes=range(rank - generator.lane_loops, rank))


def check(config: pmu.Config, streams: Mapping[str, Generator], where: str) -> None:
    """Refuses address streams that one PMU cannot run at once (law L6), with the list of what each needs."""
    capacity.check(
        "address stream", dict.fromkeys(streams, 1), int(config.addresses_per_cycle.value), where=where,
        do="serve fewer readers and writers from one PMU",
    )  # fmt: skip
    capacity.check(
        "address stage", {f"{name}: {g}": stages_of(g) for name, g in streams.items()},
        int(config.address_stages.value), where=where, do="simplify an address, or let counters step by its strides",
    )  # fmt: skip
