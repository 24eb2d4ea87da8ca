"""PMU, address expressions: what the integer ALUs of an address pipeline compute from counters and scalars.

What it is     The operations of the address side of a PMU (see address.py for the nest, the streams and their limits):
               ordinary integer arithmetic, and bit-field extract and shift-and-set (MICRO 2024, IV-B).

                   counters --+--> [ALU][ALU] ... [ALU] --> an address, or a predicate
                   scalars  --+

The law        INT32, wrapping (N7). Each operation takes one stage, a subexpression that occurs twice takes its stages
               once. An operation on a lane counter is done beside the banks and takes no stage.
Modelled       arithmetic, shifts, comparisons, bit fields; stages.
Not modelled   one expression spread over the stages of several PMUs.
Sources        MICRO 2024, IV-B; "lanes take no stage" is an assumption of the machine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Union

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.numerics import integer

Operand = Union["Address", int]

# An expression is printed up to so many characters: one of a few shared operations may be a text without end.
_LONGEST = 240


@dataclass(frozen=True, eq=False, repr=False)
class Address:
    """An integer expression over counters and scalars; immutable, compared by structure.

    Operators: + - * << >> & | ^ and the comparisons < <= > >=, which give 0 or 1; an int on either side is a
    constant. `>>` shifts zeros in. Subexpressions that are shared cost no more than one: to hash, compare or evaluate.

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
    _hash: int = field(init=False)

    def __post_init__(self) -> None:
        # Kept with the node: Python's own would walk through a shared operand once for each path to it.
        object.__setattr__(self, "_hash", hash((self.function, self.operands, self.numbers)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        pairs: list[tuple[Address, Address]] = [(self, other)]
        seen: set[tuple[int, int]] = set()
        while pairs:
            x, y = pairs.pop()
            if x is y or (id(x), id(y)) in seen:
                continue
            if (hash(x), x.function, x.numbers) != (hash(y), y.function, y.numbers):
                return False
            seen.add((id(x), id(y)))
            pairs.extend(zip(x.operands, y.operands, strict=True))
        return True

    def __reduce__(self) -> tuple[type, tuple]:
        return Address, (self.function, self.operands, self.numbers)  # another process hashes words differently

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

    def __radd__(self, other: int) -> "Address":
        return _operation("+", other, self)

    def __rsub__(self, other: int) -> "Address":
        return _operation("-", other, self)

    def __rmul__(self, other: int) -> "Address":
        return _operation("*", other, self)

    def __rlshift__(self, other: int) -> "Address":
        return _operation("<<", other, self)

    def __rrshift__(self, other: int) -> "Address":
        return _operation(">>", other, self)

    def __rand__(self, other: int) -> "Address":
        return _operation("&", other, self)

    def __ror__(self, other: int) -> "Address":
        return _operation("|", other, self)

    def __rxor__(self, other: int) -> "Address":
        return _operation("^", other, self)

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
        text = ""
        for word in _words(self):
            text += word
            if len(text) > _LONGEST:
                return text[:_LONGEST] + " ..."
        return text

    __repr__ = __str__


def _words(node: Address) -> Iterator[str]:
    """The text of an expression, word by word, so that a long one need not be written to its end."""
    if node.function in _LEAVES:
        yield f"{_LEAVES[node.function]}{node.numbers[0]}"
        return
    infix = node.function in _INFIX
    if not infix:
        low, width = node.numbers
        yield f"{node.function}[{low}:{low + width}]("
    for i, operand in enumerate(node.operands):
        if i:
            yield f" {node.function} " if infix else ", "
        inner = infix and operand.function in _INFIX
        yield "(" if inner else ""
        yield from _words(operand)
        yield ")" if inner else ""
    yield "" if infix else ")"


def counter(number: int) -> Address:
    """Counter `number` of the nest, 0 the outermost. Raises ArgumentError below 0."""
    return _leaf("counter", number)


def scalar(number: int) -> Address:
    """Operand `number` from the scalar network. Raises ArgumentError below 0."""
    return _leaf("scalar", number)


def constant(value: int) -> Address:
    """A configuration word. Raises ArgumentError for what is no whole number, and outside of INT32."""
    word = _whole(value, "address constant")
    if not -(2**31) <= word < 2**31:
        raise ArgumentError(describe("an address constant beyond INT32", given=f"{word:,}", allowed="-2^31 to 2^31-1"))
    return Address("constant", numbers=(word,))


def _leaf(function: str, number: int) -> Address:
    number = _whole(number, function)
    if number < 0:
        raise ArgumentError(describe(f"a {function} that is not there", given=number, allowed="0 or more"))
    return Address(function, numbers=(number,))


def _whole(value: int, what: str) -> int:
    try:
        return index(value)
    except TypeError:
        raise ArgumentError(
            describe(f"a whole number is needed: {what}", given=repr(value), allowed="an int",
                     do="hand in what is known only while the program runs as a scalar")
        ) from None  # fmt: skip


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
    for node in _nodes(address):
        if node.function in _ALU:
            known[node] = _ALU[node.function](*(known[x] for x in node.operands), *node.numbers)
        elif node.function == "constant":
            known[node] = jnp.asarray(node.numbers[0], jnp.int32)
        else:
            known[node] = _given(node, given[node.function])
    return known[address]


def _given(leaf: Address, there: Sequence[jax.Array | int]) -> jax.Array:
    (number,) = leaf.numbers
    if number >= len(there):
        raise ShapeError(
            describe(f"a {leaf.function} that is not given", given=str(leaf), allowed=f"{len(there)} of them")
        )
    return jnp.asarray(there[number], jnp.int32)


def _nodes(*expressions: Address) -> list[Address]:
    """Every different subexpression once, operands first."""
    found: dict[Address, None] = {}
    waiting = list(expressions[::-1])
    while waiting:
        node = waiting[-1]
        missing = [x for x in node.operands if x not in found]
        if missing:
            waiting += missing[::-1]
        else:
            found[waiting.pop()] = None
    return list(found)


def stages(*expressions: Address | None, lanes: Sequence[int] = ()) -> int:
    """ALU stages that the expressions take together; `lanes` are the indices of counters that run as lanes."""
    taken, in_lanes = 0, set()
    for node in _nodes(*(x for x in expressions if x is not None)):
        if not in_lanes.isdisjoint(node.operands) or (node.function == "counter" and node.numbers[0] in lanes):
            in_lanes.add(node)
        elif node.function in _ALU:
            taken += 1
    return taken
