"""Reduce: sum, product, maximum, minimum, and the bit-wise ones, over one axis or several."""

# not emulated: NumPy computes the float64 reference
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div, minimum
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.numerics.reductions import REDUCTIONS, reduce
from rdujax.ops.op import Stairs, TensorType
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import over_results
from rdujax.units import pcu
from rdujax.units.pcu import lanes as pcu_lanes
from rdujax.units.pcu import simd
from rdujax.units.pcu.simd import Chain

REFERENCE = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


@dataclass(frozen=True)
class Reduce:
    """Combines the values along `axes` (in increasing order of their places, row-major) in the order of N9.

    lanes: None for the halving tree over the whole row; a number for lanes in time and then a tree across them. It is
    part of the meaning of the bits of a sum. Partial results are FP32, converted to `output` at the end.
    """

    function: str
    axes: tuple[int, ...]
    output: Format
    lanes: int | None = None

    @property
    def name(self) -> str:
        """See `Op`."""
        return f"reduce_{self.function}"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        (x,) = operands
        if list(self.axes) != sorted(set(self.axes)) or any(not 0 <= axis < len(x.shape) for axis in self.axes):
            raise ShapeError(
                describe("axes to reduce", given=self.axes, allowed=f"increasing, of {len(x.shape)}", where=self.name)
            )
        REDUCTIONS[self.function].check(x.fmt, self.output)
        return TensorType(tuple(x.shape[i] for i in self._kept(len(x.shape))), self.output)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        with np.errstate(all="ignore"):
            found = np.asarray(REFERENCE[self.function].reduce(operands[0], axis=self.axes))
        return found if self.output.is_float or found.dtype == bool else (found + 2**31) % 2**32 - 2**31

    def flops(self, *operands: TensorType) -> int:
        """See `Op`: one for each pair combined, comparisons included."""
        rows, n = self._rows(operands[0].shape)
        return rows * (n - 1) if operands[0].fmt.is_float else 0

    @property
    def reads_wide(self) -> bool:
        """See `Work`: partial results are FP32."""
        return True

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: the axes that stay."""
        rank = len(shapes[0])
        place = {axis: i for i, axis in enumerate(self._kept(rank))}
        return (tuple(place.get(axis) for axis in range(rank)),)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        (x,) = operands
        kept = self._kept(x.ndim)
        rows = x.transpose(*kept, *self.axes).reshape([x.shape[i] for i in kept] + [-1])
        value = reduce(self.function, rows, lanes=self.lanes)
        return convert.convert(value, FP32, BF16) if output is BF16 else value

    def run(
        self,
        operands: Sequence[Stream],
        layout: Layout,
        output: Format,
        held: Sequence[Format],
        how: Executor = "whole",
        tally: bool = True,
    ) -> tuple[Stream, Counts]:
        """See `Work`."""
        shape = operands[0].shape
        each = {"pcu.lane_reductions": self._rows(shape)[1] - 1}
        return over_results(self, operands, self.walks(shape), layout, output, held, how, tally, each)

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`."""
        rows, n = self._rows(operands[0].shape)
        return Counts({"pcu.lane_reductions": rows * (n - 1)})

    def fewest(self, config: pcu.Config, *operands: TensorType) -> int:
        """See `Work`."""
        return 1

    def shares(self, config: pcu.Config, most: int, *operands: TensorType) -> Stairs:
        """See `Work`."""
        vectors = int(self._vectors(config, *operands))
        tree = self._tree_cycles(config, *operands)
        return tuple((time + int(tree), chain) for time, chain in
                     simd.chains(1, int(config.simd_stages.value), 1, vectors, most))  # fmt: skip

    def cycles(self, config: pcu.Config, share: Chain, *operands: TensorType) -> Any:
        """See `Work`: a vector per cycle and copy, then the stages and the tree."""
        vectors = ceil_div(self._vectors(config, *operands), share.copies)
        return vectors + config.simd_stages.value - 1 + self._tree_cycles(config, *operands)

    def feeds(
        self, config: pcu.Config, share: Chain, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`: a vector in per cycle and copy; results leave as rows end."""
        lane_count = int(pcu.lane_count(config, operands[0].fmt))
        n = self._rows(operands[0].shape)[1]
        return [lane_count * share.copies * held[0].width_bytes], -(
            -lane_count * share.copies // n
        ) * output.width_bytes

    def _kept(self, rank: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(rank) if axis not in self.axes)

    def _rows(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(rows, values of each)."""
        n = prod(shape[axis] for axis in self.axes)
        return prod(shape) // n, n

    def _vectors(self, config: pcu.Config, *operands: TensorType) -> Any:
        """Vectors of a turn: those of each row across the lanes, or a row per lane, whichever are fewer.

        The second reads the rows transposed from their buffer. Which it is changes no bit of the halving tree, for the
        values of a row are read in the order in which a stack of partial results makes the tree; with `lanes`, rows
        must lie across them.
        """
        (x,) = operands
        lane_count, (rows, n) = pcu.lane_count(config, x.fmt), self._rows(x.shape)
        across = rows * ceil_div(n, lane_count)
        return across if self.lanes else minimum(across, ceil_div(rows, lane_count) * n)

    def _tree_cycles(self, config: pcu.Config, *operands: TensorType) -> Any:
        return pcu_lanes.tree_cycles(pcu.lane_count(config, operands[0].fmt))

    def __str__(self) -> str:
        order = "" if self.lanes is None else f" lanes={self.lanes}"
        return f"reduce {self.function}[{','.join(map(str, self.axes))}]->{self.output}{order}"


def with_lanes(op: Reduce, lanes: int) -> Reduce:
    """The reduction in the order of so many lanes; ArgumentError below one."""
    if lanes < 1:
        raise ArgumentError(describe("too few lanes", given=lanes, allowed="1 or more", where=op.name))
    return Reduce(op.function, op.axes, op.output, lanes)
