"""Argument: where along an axis the largest or the smallest value stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.numerics.formats import INT32, UINT32, Format
from rdujax.numerics.order import SIGNED, extreme
from rdujax.ops.on_lanes import OnLanes, vectors_of_rows
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes
from rdujax.units import pcu
from rdujax.units.pcu import lanes as pcu_lanes


@dataclass(frozen=True)
class Argument(OnLanes):
    """The first place (INT32) of the largest value along `axis` (`most`) or of the smallest; a NaN goes before all.

    The order is that of numbers: zeros of either sign tie (see `rdujax.numerics.order`).
    Assumption: lanes carry a value and its place side by side, so that a pair is combined like one value of 32 bits.
    """

    axis: int
    most: bool

    @property
    def name(self) -> str:
        """See `Op`."""
        return "argmax" if self.most else "argmin"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        (x,) = operands
        if x.fmt is UINT32:
            raise FormatError(describe("an order without a sign", given=x.fmt, allowed=SIGNED, where=self.name))
        if not 0 <= self.axis < len(x.shape):
            raise ShapeError(describe("no axis to search", given=self.axis, allowed=f"of {len(x.shape)}"))
        return TensorType(x.shape[: self.axis] + x.shape[self.axis + 1 :], INT32)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        return (np.argmax if self.most else np.argmin)(operands[0], axis=self.axis).astype(np.int64)

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: the axes that stay."""
        return (tuple(None if a == self.axis else a - (a > self.axis) for a in range(len(shapes[0]))),)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        return extreme(operands[0], self.axis, self.most)

    def each(self, *shapes: tuple[int, ...]) -> Mapping[str, int]:
        """See `OnLanes`: pairs combined."""
        return {"pcu.lane_reductions": shapes[0][self.axis] - 1}

    def lane_format(self, *operands: TensorType) -> Format:
        """See `OnLanes`: that of the places."""
        return INT32

    def groups(self, config: pcu.Config, *operands: TensorType) -> tuple[Any, Any]:
        """See `OnLanes`: vectors."""
        n = operands[0].shape[self.axis]
        return vectors_of_rows(config, INT32, operands[0].elements // n, n), 1

    def after_cycles(self, config: pcu.Config, *operands: TensorType) -> Any:
        """See `OnLanes`: the tree across the lanes."""
        return pcu_lanes.tree_cycles(pcu.lane_count(config, INT32))

    def __str__(self) -> str:
        return f"{self.name}[{self.axis}]"
