"""Kinds of work that only move data: address generation of PMUs, no PCU.

A result is written straight from the buffers of its operands into its own, vector by vector, over as many ports as are
asked for. In a pipeline such a stage takes its time like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics.formats import Format
from rdujax.ops.op import Stairs, TensorType, Work
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import over_results
from rdujax.units import pcu

MOST_PORTS = 64


@dataclass(frozen=True)
class Ports:
    """How many vectors a stage without PCUs moves per cycle."""

    ports: int

    @property
    def pcus(self) -> int:
        """None."""
        return 0

    def __str__(self) -> str:
        return f"moves {self.ports} vector{'' if self.ports == 1 else 's'} per cycle"


class OnBuffers(Work):
    """What all of them share; a kind adds its name, `infer`, `reference`, `walks` and `tile`."""

    @property
    def reads_wide(self) -> bool:
        """See `Work`: what is moved has the format that is declared."""
        return False

    def flops(self, *operands: TensorType) -> int:
        """See `Op`."""
        return 0

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
        walks = self.walks(*(o.shape for o in operands))
        return over_results(self, operands, walks, layout, output, held, how, tally)  # type: ignore[arg-type]

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`: nothing but the buffers' bytes."""
        return Counts()

    def fewest(self, config: pcu.Config, *operands: TensorType) -> int:
        """See `Work`."""
        return 0

    def shares(self, config: pcu.Config, most: int, *operands: TensorType) -> Stairs:
        """See `Work`: ports by powers of two."""
        ports = [Ports(1 << i) for i in reversed(range(MOST_PORTS.bit_length()))]
        found: dict[int, Ports] = {}
        for share in ports:  # of equal times, the fewest ports
            found[int(self.cycles(config, share, *operands))] = share
        return tuple(sorted(found.items(), key=lambda step: step[0]))

    def cycles(self, config: pcu.Config, share: Ports, *operands: TensorType) -> Any:
        """See `Work`: the vectors of the result over the ports."""
        return ceil_div(self.moved_bytes(*operands), pcu.vector_bytes(config) * share.ports)

    def moved_bytes(self, *operands: TensorType) -> int:
        """Bytes of the result's tile that the tiles of the operands make."""
        return self.infer(*operands).size_bytes

    def feeds(
        self, config: pcu.Config, share: Ports, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`."""
        width = int(pcu.vector_bytes(config)) * share.ports
        return [width] * len(operands), width
