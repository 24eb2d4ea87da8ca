"""Reduce: sum, product, maximum, minimum, and the bit-wise ones, over one axis or several."""

# not emulated: NumPy computes the float64 reference
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.numerics.reductions import REDUCTIONS, reduce
from rdujax.ops import reference
from rdujax.ops.on_lanes import OnLanes, vectors_of_rows
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes
from rdujax.units import pcu
from rdujax.units.pcu import lanes as pcu_lanes

REFERENCE = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


@dataclass(frozen=True)
class Reduce(OnLanes):
    """Combines the values along `axes` (in increasing order of their places, row-major) in the order of N9.

    lanes: None for the halving tree over the whole row; a number for lanes in time and then a tree across them. It is
    part of the meaning of the bits of a sum. Partial results are FP32, converted to `output` at the end.
    """

    function: str
    axes: tuple[int, ...]
    output: Format
    lanes: int | None = None

    def __post_init__(self) -> None:
        if self.lanes is not None and self.lanes < 1:
            raise ArgumentError(describe("too few lanes", given=self.lanes, allowed="1 or more", where=self.name))

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
        return reference.wrapped(found, self.output)

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

    def each(self, *shapes: tuple[int, ...]) -> Mapping[str, int]:
        """See `OnLanes`: pairs combined."""
        return {"pcu.lane_reductions": self._length(shapes[0]) - 1}

    def groups(self, config: pcu.Config, *operands: TensorType) -> tuple[Any, Any]:
        """See `OnLanes`: vectors; with `lanes`, rows must lie across them.

        Otherwise it changes no bit of the halving tree how they lie, for the values of a row are read in the order in
        which a stack of partial results makes the tree.
        """
        (x,) = operands
        n = self._length(x.shape)
        rows = x.elements // n
        if self.lanes is None:
            return vectors_of_rows(config, x.fmt, rows, n), 1
        return rows * ceil_div(n, pcu.lane_count(config, x.fmt)), 1

    def after_cycles(self, config: pcu.Config, *operands: TensorType) -> Any:
        """See `OnLanes`: the tree across the lanes."""
        return pcu_lanes.tree_cycles(pcu.lane_count(config, operands[0].fmt))

    def _kept(self, rank: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(rank) if axis not in self.axes)

    def _length(self, shape: tuple[int, ...]) -> int:
        """Values of a row."""
        return prod(shape[axis] for axis in self.axes)

    def __str__(self) -> str:
        order = "" if self.lanes is None else f" lanes={self.lanes}"
        return f"reduce {self.function}[{','.join(map(str, self.axes))}]->{self.output}{order}"
