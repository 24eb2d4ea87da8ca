"""Map: one SIMD expression applied to every element."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import Format
from rdujax.ops import reference
from rdujax.ops.op import Stairs, TensorType, Work
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.units import pcu
from rdujax.units.pcu import simd
from rdujax.units.pcu.expression import IMMEDIATE, Expression
from rdujax.units.pcu.simd import Chain


@dataclass(frozen=True)
class Map(Work):
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

    @property
    def reads_wide(self) -> bool:
        """See `Work`: every step computes in FP32."""
        return True

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: every axis of every operand."""
        return tuple(tuple(range(len(shape))) for shape in shapes)

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
        wide = output is not self.expression.output
        return simd.simd(self.expression, *operands, wide=wide, how=how, tally=tally)

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`."""
        return Counts({"pcu.simd_operations": operands[0].elements * len(self.expression.work)})

    def fewest(self, machine: Machine, *operands: TensorType) -> int:
        """See `Work`: the links of one chain."""
        return simd.links(self.expression, int(machine.pcu.simd_stages.value))

    def shares(self, machine: Machine, most: int, *operands: TensorType) -> Stairs:
        """See `Work`."""
        lanes = int(pcu.lane_count(machine.pcu, simd.widest(self.expression)))
        links = self.fewest(machine, *operands)
        return simd.chains(lanes, int(machine.pcu.simd_stages.value), links, operands[0].elements, most)

    def cycles(self, machine: Machine, share: Chain, *operands: TensorType) -> Any:
        """See `Work`."""
        return simd.cycles(machine.pcu, self.expression, operands[0].elements, share)

    def feeds(
        self, machine: Machine, share: Chain, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`."""
        rates = [simd.feed(machine.pcu, self.expression, share, fmt) for fmt in held]
        return rates, simd.feed(machine.pcu, self.expression, share, output)

    def __str__(self) -> str:
        return f"map {self.expression}"
