"""Contraction: matrix products and everything `dot_general` says."""

# not emulated: NumPy computes the float64 reference
from dataclasses import dataclass

import numpy as np

from rdujax.base.errors import FormatError, describe
from rdujax.numerics.formats import INT32, Format
from rdujax.ops.op import TensorType
from rdujax.units.pcu.systolic import Contraction


@dataclass(frozen=True)
class Contract:
    """Sums of products in FP32 (INT32 for INT32 operands), converted to `output` (laws N8 and N6)."""

    config: Contraction
    output: Format

    @property
    def name(self) -> str:
        """See `Op`."""
        return "gemm"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        lhs, rhs = operands
        integral = lhs.fmt is INT32
        legal = self.output is INT32 if integral else lhs.fmt.is_float and self.output.is_float
        if lhs.fmt is not rhs.fmt or not legal:
            raise FormatError(
                describe("formats of a contraction", given=f"{lhs} and {rhs} to {self.output}",
                         allowed="both bf16 or both fp32 to bf16 or fp32, or both int32 to int32",
                         do="convert one operand to the other's dtype")
            )  # fmt: skip
        return TensorType(self.config.shape_of(lhs.shape, rhs.shape), self.output)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`."""
        lhs, rhs = operands
        c = self.config
        n = 0
        left, right = [""] * lhs.ndim, [""] * rhs.ndim
        for axes_l, axes_r in ((c.lhs_batch, c.rhs_batch), (c.lhs_contract, c.rhs_contract)):
            for i, j in zip(axes_l, axes_r, strict=True):
                left[i] = right[j] = chr(97 + n)
                n += 1
        for names, free in ((left, c.lhs_free(lhs.ndim)), (right, c.rhs_free(rhs.ndim))):
            for i in free:
                names[i] = chr(97 + n)
                n += 1
        kept = [left[i] for i in c.lhs_batch + c.lhs_free(lhs.ndim)] + [right[i] for i in c.rhs_free(rhs.ndim)]
        with np.errstate(all="ignore"):  # what overflows here is infinite in the reference, too
            return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", lhs, rhs, optimize=True)

    def flops(self, *operands: TensorType) -> int:
        """See `Op`."""
        return 2 * self.config.extent(operands[0].shape, operands[1].shape).macs if self.output.is_float else 0

    def __str__(self) -> str:
        c = self.config
        text = f"gemm[{_axes(c.lhs_batch, c.lhs_contract)}x{_axes(c.rhs_batch, c.rhs_contract)}]->{self.output}"
        return text + (f" k_splits={c.k_splits}" if c.k_splits > 1 else "")


def _axes(batch: tuple[int, ...], contracted: tuple[int, ...]) -> str:
    return "".join(f"b{i}" for i in batch) + "".join(f"k{i}" for i in contracted)
