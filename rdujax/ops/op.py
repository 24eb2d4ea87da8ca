"""Kinds of work: what a node of a program computes, apart from where it runs.

Every kind (`Op`) answers the same questions about its meaning: the type of its result, its value in float64 (the
reference that emulated values are held against), its floating operations, and its text. A kind that is a stage of a
pipeline (`Work`) also says how it streams, how the units compute it, what they count, and what it costs on so many of
them. The passes of the compiler, the executor and the pricing ask these questions and know no kind by name, so that a
new kind of work is one new file here (and a rule of the front end that makes it). Every question is abstract: of a kind
that derives from `Work` and leaves one open, no value can be made.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import Format
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream


@dataclass(frozen=True)
class TensorType:
    """Shape and number format of a tensor."""

    shape: tuple[int, ...]
    fmt: Format

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes at rest."""
        return self.elements * self.fmt.width_bytes

    def __str__(self) -> str:
        return f"{self.fmt}[{'x'.join(map(str, self.shape))}]"


class Op(Protocol):
    """One kind of work: what it means."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name for labels and reports."""
        ...

    @abstractmethod
    def infer(self, *operands: TensorType) -> TensorType:
        """The type of the result; raises ShapeError or FormatError where the operands do not fit."""
        ...

    @abstractmethod
    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """The value in float64 (int64 for INT32), without any rounding to the machine's formats."""
        ...

    @abstractmethod
    def flops(self, *operands: TensorType) -> int:
        """Floating operations; a multiply-accumulate is two."""
        ...


class Share(Protocol):
    """What a stage is given of the machine."""

    @property
    def pcus(self) -> int:
        """PCUs in all."""
        ...


Stairs = tuple[tuple[int, Any], ...]  # the useful shares as (cycles of a turn, share): slower ones have fewer PCUs


@runtime_checkable
class Work(Op, Protocol):
    """A kind of work that is a stage of a pipeline.

    A turn of the stage makes one tile of its result. What it needs for that follows from `walks`.
    """

    @property
    @abstractmethod
    def reads_wide(self) -> bool:
        """Whether it takes FP32 where a stage buffer keeps FP32 of a BF16 value; False where it rounds what it reads.

        Said by arithmetic whose operands are FP32 anyway, not by a contraction, whose array takes BF16.
        """
        ...

    @property
    def group(self) -> int:
        """How many sockets do it together; `work` is that of all of them."""
        return 1

    @abstractmethod
    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """For every axis of every operand, the axis of the result that it walks along one to one.

        None where every tile of the result needs all of the axis. The result can be cut along an axis that some operand
        walks, and along no other.
        """
        ...

    def sums(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """One axis of every operand along which tiles, in increasing order, may be added up turn by turn.

        The sums are kept from turn to turn, and the bits are those of whole operands. Empty where that cannot be.
        """
        return ()

    @abstractmethod
    def run(
        self,
        operands: Sequence[Stream],
        layout: Layout,
        output: Format,
        held: Sequence[Format],
        how: Executor = "whole",
        tally: bool = True,
    ) -> tuple[Stream, Counts]:
        """The stream of `layout`, and counts per tile: units' work, and bytes read of the operands' buffers.

        operands: cut like the result along the axes that they walk, whole along the others (see `operand_tiles`), or
        all of them cut along the axes of `sums`. output: the format that the result's buffer holds, FP32 where it is
        kept wide. held: what theirs hold.
        """
        ...

    @abstractmethod
    def work(self, *operands: TensorType) -> Counts:
        """What the units count for the whole of it, bytes of buffers not included, however it is cut."""
        ...

    @abstractmethod
    def fewest(self, machine: Machine, *operands: TensorType) -> int:
        """The smallest number of PCUs that can do it."""
        ...

    @abstractmethod
    def shares(self, machine: Machine, most: int, *operands: TensorType) -> Stairs:
        """The useful ways to do one turn with at most `most` PCUs; operands: tiles. Empty where there are too few."""
        ...

    @abstractmethod
    def cycles(self, machine: Machine, share: Any, *operands: TensorType) -> Any:
        """Cycles of one turn on a share; operands: tiles. Exact on plain facts, differentiable in traced ones."""
        ...

    def resuming_cycles(self, machine: Machine, *operands: TensorType) -> Any:
        """Cycles by which a turn is longer that adds to what the turn before left; operands: tiles."""
        return 0

    def arrival_cycles(self, machine: Machine, *operands: TensorType) -> Any:
        """Cycles from the end of a turn until all of its result is there, while the next turn may already run."""
        return 0

    @abstractmethod
    def feeds(
        self, machine: Machine, share: Any, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """Bytes per cycle that it reads of each operand's buffer while it runs, and that it writes.

        A share that holds int64 arrays in place of numbers gives arrays, or numbers that are the same for all.
        """
        ...


def operand_tiles(work: Work, shapes: Sequence[tuple[int, ...]], result_tile: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What one tile of the result needs of each operand: the extent of the tiles of the operands."""
    return [
        tuple(length if axis is None else result_tile[axis] for length, axis in zip(shape, axes, strict=True))
        for shape, axes in zip(shapes, work.walks(*shapes), strict=True)
    ]


def visits(axes: Axes, grid: tuple[int, ...]) -> int:
    """How many tiles of a result of `grid` tiles need each tile of an operand that walks along `axes` of it."""
    return prod(count for axis, count in enumerate(grid) if axis not in axes)
