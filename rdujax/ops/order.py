"""Order: the places of sorted values along an axis. What is sorted is then taken from these places."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics import order
from rdujax.numerics.formats import INT32, UINT32, Format
from rdujax.ops.on_lanes import OnLanes
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes
from rdujax.units import pcu


@dataclass(frozen=True)
class Order(OnLanes):
    """INT32 places along `axis`: of the smallest first, or of the `largest` first, so many of them.

    Operands: keys of one shape, the first decides, the next among its equals. Stable. From the smallest: the order of
    numbers, in which zeros of either sign tie. The largest: the order of carriers, -0 below +0, one key. NaN stands
    above infinity in both (see `rdujax.numerics.order`).
    Assumption "a bitonic network on the lanes": n values, padded to 2^p, take p (p + 1) / 2 steps; in a step every
    vector passes the lanes once, and each value is compared and exchanged once.
    """

    axis: int
    largest: int | None = None

    @property
    def name(self) -> str:
        """See `Op`."""
        return "order" if self.largest is None else "top"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        shape = operands[0].shape
        if UINT32 in (x.fmt for x in operands):
            raise FormatError(describe("an order without a sign", given=UINT32, allowed=order.SIGNED, where=self.name))
        if not 0 <= self.axis < len(shape) or any(x.shape != shape for x in operands):
            raise ShapeError(
                describe("keys to order", given=f"{', '.join(map(str, operands))} along {self.axis}",
                         allowed="one shape, and an axis of it", where=self.name)
            )  # fmt: skip
        if self.largest is None:
            return TensorType(shape, INT32)
        if len(operands) != 1 or not 1 <= self.largest <= shape[self.axis]:
            raise ShapeError(
                describe("how many of the largest", given=f"{self.largest} of {operands[0]} along {self.axis}",
                         allowed=f"1 to {shape[self.axis]}, of one key", where=self.name)
            )  # fmt: skip
        return TensorType(shape[: self.axis] + (self.largest,) + shape[self.axis + 1 :], INT32)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`: of reference values, whose zeros tie in any order."""
        if self.largest is None:
            return np.lexsort(operands[::-1], axis=self.axis)
        first = operands[0].shape[self.axis] - 1 - np.argsort(np.flip(operands[0], self.axis), self.axis, kind="stable")
        return np.take(np.flip(first, self.axis), range(self.largest), self.axis)

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: every axis but the one along which values are ordered."""
        return tuple(tuple(None if a == self.axis else a for a in range(len(shape))) for shape in shapes)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        if self.largest is not None:
            return order.largest(order.carrier_key(operands[0]), self.axis, self.largest)
        return order.ascending(tuple(map(order.number_key, operands)), self.axis)

    def each(self, *shapes: tuple[int, ...]) -> Mapping[str, int]:
        """See `OnLanes`: a comparison for every key and step; of a part of the order, for each of its values."""
        n = shapes[0][self.axis]
        return {"pcu.simd_operations": -(-_steps(n) * len(shapes) * n // (self.largest or n))}

    def lane_format(self, *operands: TensorType) -> Format:
        """See `OnLanes`: that of the places that go along."""
        return INT32

    def groups(self, config: pcu.Config, *operands: TensorType) -> tuple[Any, Any]:
        """See `OnLanes`: rows, each of so many vectors as often as there are steps, once for every key."""
        n = operands[0].shape[self.axis]
        vectors = ceil_div(n, pcu.lane_count(config, INT32))
        return operands[0].elements // n, vectors * _steps(n) * len(operands)

    def __str__(self) -> str:
        return f"{self.name}[{self.axis}]" + ("" if self.largest is None else f" {self.largest}")


def _steps(n: int) -> int:
    """Steps of the network for n values: p (p + 1) / 2 with 2^p >= n, one at least."""
    p = (n - 1).bit_length()
    return max(1, p * (p + 1) // 2)
