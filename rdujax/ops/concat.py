"""Concat: tensors one after the other along an axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import Format
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.op import TensorType
from rdujax.streams.access import Axes


@dataclass(frozen=True)
class Concat(OnBuffers):
    """Writes its operands into disjoint ranges of one buffer."""

    axis: int

    @property
    def name(self) -> str:
        """See `Op`."""
        return "concatenate"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        rest = {tuple(n for a, n in enumerate(o.shape) if a != self.axis) for o in operands}
        if len(rest) != 1 or any(not 0 <= self.axis < len(o.shape) for o in operands):
            raise ShapeError(
                describe("tensors that do not join", given=", ".join(map(str, operands)), allowed=f"along {self.axis}")
            )
        if len({o.fmt for o in operands}) != 1:
            raise FormatError(
                describe("tensors that do not join", given=", ".join(map(str, operands)), allowed="one format")
            )
        first = operands[0]
        length = sum(o.shape[self.axis] for o in operands)
        return TensorType(tuple(length if a == self.axis else n for a, n in enumerate(first.shape)), first.fmt)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        return np.concatenate(operands, self.axis)

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: every axis but the one that they are joined along."""
        return tuple(tuple(None if a == self.axis else a for a in range(len(shape))) for shape in shapes)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`."""
        return jnp.concatenate(operands, self.axis)

    def feeds(
        self, machine: Machine, share: Any, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`: all of them at once, each as fast as it takes to end with the others."""
        _, width = super().feeds(machine, share, operands, held, output)
        total_bytes = sum(o.size_bytes for o in operands)
        return [-(-width * o.size_bytes // total_bytes) for o in operands], width

    def __str__(self) -> str:
        return f"concatenate[{self.axis}]"
