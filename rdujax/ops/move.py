"""Move: an access pattern; no arithmetic."""

from dataclasses import dataclass

import numpy as np

from rdujax.ops.op import TensorType
from rdujax.streams.access import Access, Pad, Reverse, Transpose, Window


@dataclass(frozen=True)
class Move:
    """Reads its operand under an access pattern."""

    access: Access

    @property
    def name(self) -> str:
        """See `Op`."""
        return type(self.access).__name__.lower()

    @property
    def is_view(self) -> bool:
        """True where an operator-by-operator framework moves no byte: all but these four patterns."""
        return not isinstance(self.access, Transpose | Pad | Reverse | Window)

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        return TensorType(self.access.shape_of(operands[0].shape), operands[0].fmt)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        return self.access.read(operands[0])

    def flops(self, *operands: TensorType) -> int:
        """See `Op`."""
        return 0

    def __str__(self) -> str:
        return str(self.access)
