"""PMU, data alignment unit: transposes, gathers, permutes, shifts, dilates, converts and looks up what banks deliver.

What it is     The unit between the banks and the ports of a PMU (MICRO 2024, IV-B). A tensor written diagonally
               striped over the banks is read by rows or by columns, both at full rate:

                   row 0   [ 00 01 02 03 ]        bank = (row + word of the row) mod words of a vector:
                   row 1   [ 13 10 11 12 ]        a row and a column both touch every bank once
                   row 2   [ 22 23 20 21 ]

               An element narrower than a bank word travels with its neighbours: a read by columns fetches, for as
               many rows as a vector has words, one word of each, and regroups as many vectors as a word has elements.
The law        striped address = row x pitch + column, its word bits replaced by those of row + word of the row.
               vectors by rows = rows x ceil(columns / lanes);
               vectors by columns = ceil(columns / elements of a word) x ceil(rows / words of a vector).
               A scatter keeps, of several values for one place, the one that arrives last (later vector, then higher
               lane). Nothing is computed: bits are moved, except by a conversion (N6).
Modelled       transpose, gather, scatter, lane permute, unaligned vectors, dilation, conversion, table look-up.
Not modelled   latency of the unit, and the vectors that it holds while it regroups columns. This file moves bits; what
               the moves cost as reads of a PMU stands in aligned.py.
Sources        MICRO 2024, IV-B; IEEE Micro 2024; Hot Chips 2024 (gather, scatter, dilation). The address map is ours.

Addresses outside of the memory and invalid lanes: a read gives poison (NaN, for INT32 a conspicuous word; BOOL has
none and gives False, so its reader must look at the validity), a write is dropped; addresses that are known while
tracing (NumPy) are refused. Derivatives: moving is linear; poison has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.numerics import convert
from rdujax.numerics.formats import FP32, Format
from rdujax.streams.stream import POISON
from rdujax.units.pmu.address import Generator, Loop
from rdujax.units.pmu.banks import Geometry
from rdujax.units.pmu.expression import Address, counter

# Up to so many lanes at once, collisions are found pair by pair; beyond, by a table of the whole memory.
_PAIRS = 64


@dataclass(frozen=True)
class Stripe:
    """A matrix [rows, columns] striped diagonally over the banks: its address map and its streams.

    lanes: elements of a vector; word_elements: elements of a bank word; both powers of two.
    diagonal=False lays rows one after another instead, which reads columns with conflicts.

    >>> square = Stripe(rows=4, columns=4, lanes=4, word_elements=1)
    >>> print(square.by_rows())
    c0<4 c1<1 c2<4: set[0:2](((c0 * 4) + c1) + c2, (c0 + c1) + c2)
    """

    rows: int
    columns: int
    lanes: int
    word_elements: int
    diagonal: bool = True

    def __post_init__(self) -> None:
        sizes = (self.lanes, self.word_elements)
        if (
            min(self.rows, self.columns, *sizes) < 1
            or self.lanes % self.word_elements
            or any(n & (n - 1) for n in sizes)
        ):
            raise ArgumentError(
                describe("a matrix that cannot be striped", given=str(self),
                         allowed="1 row and column or more; lanes and elements of a word powers of two")
            )  # fmt: skip

    @property
    def vector_words(self) -> int:
        """Bank words of one vector, and rows that one read by columns touches."""
        return self.lanes // self.word_elements

    @property
    def pitch(self) -> int:
        """Elements from one row to the next: whole vectors."""
        return -(-self.columns // self.lanes) * self.lanes

    @property
    def elements(self) -> int:
        """Elements of memory that the matrix takes."""
        return self.rows * self.pitch

    def _address(self, row: Address, column: Address, lane_row: Address | None, lane: Address) -> Address:
        """The address of (row + lane_row, column + lane); a vector's own part comes first and alone takes stages."""
        base, sub = row * self.pitch + column, self.word_elements.bit_length() - 1
        diagonal = row + (column >> sub if sub else column)
        if lane_row is not None:
            base, diagonal = base + lane_row * self.pitch, diagonal + lane_row
        else:
            diagonal = diagonal + (lane >> sub if sub else lane)
        if not self.diagonal or self.vector_words == 1:
            return base + lane
        return (base + lane).set(diagonal, sub, self.vector_words.bit_length() - 1)

    def by_rows(self) -> Generator:
        """Row after row, each in vectors of neighbouring columns: how it is written, or read as it is."""
        row, first, lane = counter(0), counter(1), counter(2)
        nest = (Loop(self.rows), Loop(self.pitch // self.lanes, step=self.lanes), Loop(self.lanes))
        inside = None if self.columns % self.lanes == 0 else first + lane < self.columns
        return Generator(nest, self._address(row, first, None, lane), inside)

    def by_columns(self) -> Generator:
        """The transposed read: vectors of [rows, elements of one word], which `columns_of` regroups."""
        word, first, lane_row, lane = counter(0), counter(1), counter(2), counter(3)
        nest = (
            Loop(-(-self.columns // self.word_elements), step=self.word_elements),
            Loop(-(-self.rows // self.vector_words), step=self.vector_words),
            Loop(self.vector_words),
            Loop(self.word_elements),
        )
        inside = []
        if self.rows % self.vector_words:
            inside.append(first + lane_row < self.rows)
        if self.columns % self.word_elements:
            inside.append(word + lane < self.columns)
        predicate = inside[0] & inside[1] if len(inside) == 2 else inside[0] if inside else None
        return Generator(nest, self._address(first, word, lane_row, lane), predicate, lane_loops=2)

    def rows_of(self, vectors: jax.Array) -> jax.Array:
        """What `by_rows` delivered, [vectors, lanes], as the matrix [rows, columns]."""
        return vectors.reshape(self.rows, self.pitch)[:, : self.columns]

    def vectors_of(self, matrix: jax.Array) -> jax.Array:
        """The matrix [rows, columns] as the vectors that `by_rows` writes; its predicate drops the zeros beyond."""
        return jnp.pad(matrix, ((0, 0), (0, self.pitch - self.columns))).reshape(-1, self.lanes)

    def columns_of(self, vectors: jax.Array) -> jax.Array:
        """What `by_columns` delivered, [vectors, lanes], as the transposed matrix [columns, rows]."""
        words, blocks = -(-self.columns // self.word_elements), -(-self.rows // self.vector_words)
        split = vectors.reshape(words, blocks, self.vector_words, self.word_elements).transpose(0, 3, 1, 2)
        return split.reshape(words * self.word_elements, -1)[: self.columns, : self.rows]


def stripe(of: Geometry, fmt: Format, rows: int, columns: int) -> Stripe:
    """The stripe of a matrix of `fmt` in the banks of a PMU. Raises ArgumentError for an empty matrix."""
    word = of.word_bytes // fmt.width_bytes
    return Stripe(rows, columns, of.vector_words * word, word)


def gather(
    memory: jax.Array, addresses: jax.Array | np.ndarray, fmt: Format, valid: jax.Array | np.ndarray | None = None
) -> jax.Array:
    """memory [n, ...] at int32 addresses [*shape]: [*shape, ...]; poison where not `valid` or outside.

    Raises ArgumentError for NumPy addresses that are valid and outside.
    """
    refuse_outside(memory.shape[0], addresses, valid, where="gather")
    there = inside(memory.shape[0], addresses, valid)
    found = memory[jnp.where(there, jnp.asarray(addresses), 0)]
    spread = there.reshape(there.shape + (1,) * (memory.ndim - 1))
    return jnp.where(jnp.broadcast_to(spread, found.shape), found, jnp.asarray(POISON[fmt], found.dtype))


def scatter(
    memory: jax.Array,
    addresses: jax.Array | np.ndarray,
    values: jax.Array,
    valid: jax.Array | np.ndarray | None = None,
) -> jax.Array:
    """memory [n] with values [*shape] at int32 addresses [*shape]; of several for one place the last arrival stays.

    Dropped where not `valid` or outside. Raises ArgumentError for NumPy addresses that are valid and outside.
    """
    refuse_outside(memory.shape[0], addresses, valid, where="scatter")
    places = surviving(memory.shape[0], addresses, valid)
    return memory.at[places].set(values.reshape(-1), mode="drop", unique_indices=True)


def surviving(size: int, addresses: jax.Array | np.ndarray, valid: jax.Array | np.ndarray | None = None) -> jax.Array:
    """int32 [n]: where each of n values goes, in order of arrival; beyond `size` if it is dropped or overwritten."""
    there = inside(size, addresses, valid).reshape(-1)
    places, order = jnp.asarray(addresses).reshape(-1), jnp.arange(there.size, dtype=jnp.int32)
    if there.size <= _PAIRS:
        later = (order[:, None] < order[None, :]) & there[None, :] & (places[:, None] == places[None, :])
        stays = there & ~later.any(axis=1)
    else:
        kept = jnp.where(there, places, size)
        last = jnp.full(size, -1, jnp.int32).at[kept].max(order, mode="drop")  # not emulated: order of arrival
        stays = there & (last[jnp.where(there, places, 0)] == order)
    return jnp.where(stays, places, size + order)


def inside(size: int, addresses: jax.Array | np.ndarray, valid: jax.Array | np.ndarray | None) -> jax.Array:
    """bool: which addresses are valid and lie in [0, size)."""
    there = jnp.asarray((addresses >= 0) & (addresses < size))
    return there if valid is None else there & jnp.asarray(valid)


def refuse_outside(
    size: int, addresses: jax.Array | np.ndarray, valid: jax.Array | np.ndarray | None, *, where: str
) -> None:
    """Raises ArgumentError for valid addresses outside of [0, size) where they are known: NumPy arrays."""
    if not isinstance(addresses, np.ndarray) or not (valid is None or isinstance(valid, np.ndarray)):
        return
    outside = (addresses < 0) | (addresses >= size)
    wrong = addresses[outside if valid is None else outside & valid]
    if wrong.size:
        raise ArgumentError(
            describe(
                "addresses outside of the memory",
                given=f"{wrong.size:,} of them, the first {int(wrong.flat[0]):,}",
                allowed=f"0 to {size - 1:,}",
                where=where,
                do="drop them with a predicate, or make the memory larger",
            )
        )


def permute(vectors: jax.Array, lanes: Sequence[int]) -> jax.Array:
    """vectors [..., n] with lane i taken from lane `lanes[i]`, which may repeat.

    Raises ArgumentError for lanes that are not there, or are no whole numbers.
    """
    return vectors[..., chosen_lanes(vectors.shape[-1], lanes)]


def chosen_lanes(there: int, lanes: Sequence[int]) -> np.ndarray:
    """int32: the lanes of a permute of vectors of `there` lanes. Raises ArgumentError as `permute`."""
    chosen = np.asarray([_whole(lane, "lane permute") for lane in lanes], np.int32)
    refuse_outside(there, chosen, None, where="lane permute")
    return chosen


def unaligned(vectors: jax.Array, offset: int | jax.Array, fmt: Format) -> jax.Array:
    """vectors [n, lanes] shifted: vector i begins `offset` lanes into vector i and ends in i + 1; [n - 1, lanes].

    offset: 0 to lanes. A JAX offset outside gives poison. Raises ShapeError below two vectors, ArgumentError for a
    known offset outside or that is no whole number, FormatError for a JAX offset that is no integer scalar.
    """
    count, lanes = vectors.shape
    start = checked_offset(count, lanes, offset)
    joined = jax.lax.dynamic_slice_in_dim(vectors.reshape(-1), start, (count - 1) * lanes).reshape(-1, lanes)
    return jnp.where((start >= 0) & (start <= lanes), joined, jnp.asarray(POISON[fmt], vectors.dtype))


def checked_offset(count: int, lanes: int, offset: int | jax.Array) -> jax.Array:
    """int32 scalar: the offset of unaligned vectors in `count` vectors. Errors as `unaligned`."""
    if count < 2:
        raise ShapeError(describe("an unaligned vector lies in two", given=f"{count} vectors", allowed="2 or more"))
    if isinstance(offset, jax.Array):
        if offset.ndim or not jnp.issubdtype(offset.dtype, jnp.integer):
            raise FormatError(
                describe("an offset is one whole number", given=f"{offset.dtype}{list(offset.shape)}",
                         allowed="int32[]", where="unaligned vector, offset")
            )  # fmt: skip
        return offset.astype(jnp.int32)
    known = _whole(offset, "unaligned vector, offset")
    refuse_outside(lanes + 1, np.asarray([known]), None, where="unaligned vector, offset")
    return jnp.asarray(known, jnp.int32)


def _whole(value: object, where: str) -> int:
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(
            describe("a lane is a whole number", given=repr(value), allowed="an int", where=where)
        ) from None


def dilate(x: jax.Array, factors: Sequence[int], filling: float | int = 0) -> jax.Array:
    """x with factors[i] - 1 elements of `filling` between neighbours along axis i. Raises ArgumentError below 1."""
    if len(factors) != x.ndim or min(factors, default=1) < 1:
        raise ArgumentError(describe("factors of a dilation", given=tuple(factors), allowed=f"{x.ndim} of 1 or more"))
    return jax.lax.pad(x, jnp.asarray(filling, x.dtype), [(0, 0, factor - 1) for factor in factors])


def cast(x: jax.Array, source: Format, target: Format) -> jax.Array:
    """Carriers of `source` as carriers of `target` (N6); between floats the derivative is one."""
    return convert.convert(x, source, target)


def lookup(table: jax.Array, x: jax.Array, fmt: Format) -> jax.Array:
    """table [n] at INT32 indices x, or at the upper 16 bits of BF16 carriers x; poison beyond its n entries.

    fmt: the format of the table. Derivative: in the table, none in x.

    >>> lookup(jnp.asarray([1.0, 4.0, 9.0]), jnp.asarray([2, 0, 3]), FP32)
    Array([ 9.,  1., nan], dtype=float32)
    """
    return gather(table, indices_of(x), fmt)


def indices_of(x: jax.Array) -> jax.Array:
    """int32: the entries of a table that INT32 indices, or the upper 16 bits of BF16 carriers, ask for."""
    return convert.pack(x).astype(jnp.int32) if x.dtype == FP32.carrier else x
