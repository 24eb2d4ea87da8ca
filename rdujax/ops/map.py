"""Map: one SIMD expression applied to every element."""

from dataclasses import dataclass

import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.ops import reference
from rdujax.ops.op import TensorType
from rdujax.units.pcu.expression import IMMEDIATE, Expression


@dataclass(frozen=True)
class Map:
    """An element-wise expression on operands of one shape."""

    expression: Expression

    @property
    def name(self) -> str:
        """See `Op`: the functions in order."""
        return "_".join(step.function for step in self.expression.work) or IMMEDIATE

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        if len({o.shape for o in operands}) != 1:
            raise ShapeError(
                describe(
                    "operands of an element-wise operation", given=", ".join(map(str, operands)), allowed="one shape"
                )
            )
        if tuple(o.fmt for o in operands) != self.expression.inputs:
            raise FormatError(
                describe("operands of an element-wise operation", given=", ".join(map(str, operands)),
                         allowed=", ".join(map(str, self.expression.inputs)))
            )  # fmt: skip
        return TensorType(operands[0].shape, self.expression.output)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        return reference.evaluate(self.expression, operands)

    def flops(self, *operands: TensorType) -> int:
        """See `Op`: one per floating instruction and element."""
        return self.expression.flops * operands[0].elements

    def __str__(self) -> str:
        return f"map {self.expression}"
