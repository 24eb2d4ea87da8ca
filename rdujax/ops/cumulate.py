"""Cumulate: running sums, products, maxima, minima and log-sum-exps along one axis."""

# not emulated: NumPy computes the float64 reference
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rdujax.base.errors import ShapeError, describe
from rdujax.numerics import convert
from rdujax.numerics.cumulate import RUNNING, cumulate
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.ops import reference
from rdujax.ops.on_lanes import OnLanes, rows_on_lanes
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes
from rdujax.units import pcu

REFERENCE: dict[str, Callable[..., Any]] = {
    "sum": np.add.accumulate, "prod": np.multiply.accumulate, "max": np.maximum.accumulate,
    "min": np.minimum.accumulate, "logsumexp": np.logaddexp.accumulate,
}  # fmt: skip


@dataclass(frozen=True)
class Cumulate(OnLanes):
    """y[0] = x[0], y[i] = y[i - 1] combined with x[i], along `axis` (from its end with `reverse`).

    Partial results are FP32; each is converted to `output`.
    Assumption "a row per lane": one value after the other, one per cycle and lane for each instruction of a step; rows
    are read transposed from their buffer. Nothing is gained for a single row.
    """

    function: str
    axis: int
    output: Format
    reverse: bool = False

    @property
    def name(self) -> str:
        """See `Op`."""
        return f"cum{self.function}"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        (x,) = operands
        if not 0 <= self.axis < len(x.shape):
            raise ShapeError(
                describe("no axis to run along", given=self.axis, allowed=f"of {len(x.shape)}", where=self.name)
            )
        RUNNING[self.function].check(x.fmt, self.output)
        return TensorType(x.shape, self.output)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        x = np.flip(operands[0], self.axis) if self.reverse else operands[0]
        with np.errstate(all="ignore"):
            found = REFERENCE[self.function](x, axis=self.axis)
        found = np.flip(found, self.axis) if self.reverse else found
        return reference.wrapped(found, self.output)

    @property
    def reads_wide(self) -> bool:
        """See `Work`: partial results are FP32."""
        return True

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: every axis but the one that it runs along, which each of its tiles needs whole."""
        return (tuple(None if a == self.axis else a for a in range(len(shapes[0]))),)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        value = cumulate(self.function, operands[0], self.axis, self.reverse)
        return convert.convert(value, FP32, BF16) if output is BF16 else value

    def each(self, *shapes: tuple[int, ...]) -> Mapping[str, int]:
        """See `OnLanes`: the instructions of a step; the first value of a row takes one as well, with the identity."""
        return {"pcu.simd_operations": RUNNING[self.function].operations}

    def groups(self, config: pcu.Config, *operands: TensorType) -> tuple[Any, Any]:
        """See `OnLanes`: rows by the lanes."""
        (x,) = operands
        n = x.shape[self.axis]
        return rows_on_lanes(config, x.fmt, x.elements // n), n * RUNNING[self.function].operations

    def __str__(self) -> str:
        return f"cum{self.function}[{self.axis}]->{self.output}{' reverse' if self.reverse else ''}"
