"""Kinds of work: what a node of a program computes, apart from where and how it runs.

Every kind answers the same questions: the type of its result, its value in float64 (the reference that emulated
values are held against), its floating operations, and its text.
"""

from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from rdujax.numerics.formats import Format


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
    """One kind of work."""

    @property
    def name(self) -> str:
        """Short name for labels and reports."""
        ...

    def infer(self, *operands: TensorType) -> TensorType:
        """The type of the result; raises ShapeError or FormatError where the operands do not fit."""
        ...

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """The value in float64 (int64 for INT32), without any rounding to the machine's formats."""
        ...

    def flops(self, *operands: TensorType) -> int:
        """Floating operations; a multiply-accumulate is two."""
        ...
