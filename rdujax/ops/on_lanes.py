"""Kinds of work that make one value, or a row of them, of a whole row: the lanes of PCUs, by groups of values.

A group is what one pass through the lanes takes, and groups are dealt out to copies of the PCU:
cycles = ceil(groups / copies) x cycles of a group + stages of the pipeline - 1 + what follows the last group.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div, minimum
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import Format
from rdujax.ops.op import Stairs, TensorType, Work
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import TileWork, over_results
from rdujax.units import pcu
from rdujax.units.pcu import simd
from rdujax.units.pcu.simd import Chain


class OnLanes(Work, TileWork):
    """What all of them share; a kind adds its name, `infer`, `reference`, `walks`, `tile`, `each` and `groups`."""

    @abstractmethod
    def each(self, *shapes: tuple[int, ...]) -> Mapping[str, int]:
        """What is counted for every element of the result, given the shapes of the operands."""
        ...

    def lane_format(self, *operands: TensorType) -> Format:
        """The format whose lanes are taken: that of the first operand."""
        return operands[0].fmt

    @abstractmethod
    def groups(self, config: pcu.Config, *operands: TensorType) -> tuple[Any, Any]:
        """(groups of a turn, cycles of each)."""
        ...

    def after_cycles(self, config: pcu.Config, *operands: TensorType) -> Any:
        """Cycles from the last group to the last result, beyond the pipeline's own."""
        return 0

    @property
    def reads_wide(self) -> bool:
        """See `Work`: what is ordered is ordered as it is declared."""
        return False

    def flops(self, *operands: TensorType) -> int:
        """See `Op`: what is counted of floating operands."""
        return sum(map(int, self.work(*operands).values())) if operands[0].fmt.is_float else 0

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
        shapes = [o.shape for o in operands]
        walks, each = self.walks(*shapes), self.each(*shapes)
        return over_results(self, operands, walks, layout, output, held, how, tally, each)

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`."""
        elements = self.infer(*operands).elements
        return Counts({name: elements * n for name, n in self.each(*(o.shape for o in operands)).items() if n})

    def fewest(self, machine: Machine, *operands: TensorType) -> int:
        """See `Work`."""
        return 1

    def shares(self, machine: Machine, most: int, *operands: TensorType) -> Stairs:
        """See `Work`: as many copies as there are groups."""
        groups, _ = self.groups(machine.pcu, *operands)
        found = simd.chains(1, 1, 1, int(groups), most)
        return tuple((int(self.cycles(machine, chain, *operands)), chain) for _, chain in found)

    def cycles(self, machine: Machine, share: Chain, *operands: TensorType) -> Any:
        """See `Work`: see the head."""
        groups, cycles = self.groups(machine.pcu, *operands)
        after = machine.pcu.simd_stages.value - 1 + self.after_cycles(machine.pcu, *operands)
        return ceil_div(groups, share.copies) * cycles + after

    def feeds(
        self, machine: Machine, share: Chain, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`: a vector of every operand in per cycle and copy; results leave in proportion."""
        values = int(pcu.lane_count(machine.pcu, self.lane_format(*operands))) * share.copies
        results = -(-values * self.infer(*operands).elements // operands[0].elements)
        return [values * fmt.width_bytes for fmt in held], results * output.width_bytes


def vectors_of_rows(config: pcu.Config, fmt: Format, rows: int, n: int) -> Any:
    """Vectors of `rows` rows of `n` values: across the lanes, or a row per lane, whichever are fewer.

    The second reads the rows transposed from their buffer.
    """
    lane_count = pcu.lane_count(config, fmt)
    return minimum(rows * ceil_div(n, lane_count), rows_on_lanes(config, fmt, rows) * n)


def rows_on_lanes(config: pcu.Config, fmt: Format, rows: int) -> Any:
    """Groups of rows, a row per lane."""
    return ceil_div(rows, pcu.lane_count(config, fmt))
