"""Contraction: matrix products and everything `dot_general` says."""

# not emulated: NumPy computes the float64 reference
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdujax.base.errors import FormatError, describe
from rdujax.ledger.counts import Counts
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import INT32, Format
from rdujax.ops.op import Stairs, TensorType, Work
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.units import pcu
from rdujax.units.pcu import systolic
from rdujax.units.pcu.contraction import Contraction, Extent
from rdujax.units.pcu.systolic import Fork


@dataclass(frozen=True)
class Contract(Work):
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

    @property
    def reads_wide(self) -> bool:
        """See `Work`: the array takes what is declared."""
        return False

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: batch and free axes walk along the result's, contracted ones along none."""
        lhs, rhs = shapes
        c = self.config
        free_l, free_r = c.lhs_free(len(lhs)), c.rhs_free(len(rhs))
        left, right = (*c.lhs_batch, *free_l), (*c.rhs_batch, *free_r)
        n_batch = len(c.lhs_batch)
        places_r = (*range(n_batch), *range(n_batch + len(free_l), n_batch + len(free_l) + len(free_r)))
        of_left, of_right = dict(zip(left, range(len(left)), strict=True)), dict(zip(right, places_r, strict=True))
        return tuple(of_left.get(i) for i in range(len(lhs))), tuple(of_right.get(i) for i in range(len(rhs)))

    def sums(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """See `Work`: the axis that K runs along slowest; a split K is not added up in order."""
        at = self.config.outermost(shapes[0])
        if at is None or self.config.k_splits > 1:
            return ()
        return self.config.lhs_contract[at], self.config.rhs_contract[at]

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
        a, b = operands
        return systolic.systolic(self.config, a, b, layout, output, how, tally, (held[0], held[1]))

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`."""
        return Counts({"pcu.macs": self._extent(*operands).macs})

    def fewest(self, machine: Machine, *operands: TensorType) -> int:
        """See `Work`: one for each segment of K."""
        return self.config.segments(self._extent(*operands).k)

    def shares(self, machine: Machine, most: int, *operands: TensorType) -> Stairs:
        """See `Work`."""
        rows, columns = (int(n) for n in pcu.array(machine.pcu, operands[0].fmt))
        return systolic.forks(rows, columns, self._extent(*operands), self.fewest(machine, *operands), most)

    def cycles(self, machine: Machine, share: Fork, *operands: TensorType) -> Any:
        """See `Work`."""
        rows, columns = pcu.array(machine.pcu, operands[0].fmt)
        return systolic.cycles(rows, columns, self._extent(*operands), share)

    def resuming_cycles(self, machine: Machine, *operands: TensorType) -> Any:
        """See `Work`: the sums of the first pass come in as those of others leave, a column per cycle."""
        return pcu.array(machine.pcu, operands[0].fmt)[1]

    def feeds(
        self, machine: Machine, share: Fork, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`: sums leave once in as many cycles as their segment of K has steps."""
        rows, columns = (int(n) for n in pcu.array(machine.pcu, operands[0].fmt))
        rates = [systolic.feeds(rows, columns, share, fmt)[i] for i, fmt in enumerate(held)]
        outputs = rows * columns * share.rows * share.columns * share.batches
        segment = max(1, self._extent(*operands).k // share.splits)
        return rates, -(-outputs * output.width_bytes // segment)

    def _extent(self, *operands: TensorType) -> Extent:
        lhs, rhs = operands
        return self.config.extent(lhs.shape, rhs.shape)

    def __str__(self) -> str:
        c = self.config
        text = f"gemm[{_axes(c.lhs_batch, c.lhs_contract)}x{_axes(c.rhs_batch, c.rhs_contract)}]->{self.output}"
        return text + (f" k_splits={c.k_splits}" if c.k_splits > 1 else "")


def _axes(batch: tuple[int, ...], contracted: tuple[int, ...]) -> str:
    return "".join(f"b{i}" for i in batch) + "".join(f"k{i}" for i in contracted)
