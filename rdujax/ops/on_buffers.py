"""Kinds of work that only move data: address generation of PMUs, no PCU.

A result is written straight from the buffers of its operands into its own, vector by vector, over as many ports as are
asked for. In a pipeline such a stage takes its time like any other.

Assumption: a port generates one address per cycle, so that a slice that begins somewhere takes a cycle at least, and
no port waits for another: rows are interleaved over PMUs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import INT32, Format
from rdujax.ops.op import Stairs, TensorType, Work
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import TileWork, over_results
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


class OnBuffers(Work, TileWork):
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
        return over_results(self, operands, walks, layout, output, held, how, tally)

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`: nothing but the buffers' bytes."""
        return Counts()

    def fewest(self, machine: Machine, *operands: TensorType) -> int:
        """See `Work`."""
        return self.share(1).pcus

    def share(self, ports: int) -> Any:
        """What a stage is given that moves so many vectors per cycle."""
        return Ports(ports)

    def shares(self, machine: Machine, most: int, *operands: TensorType) -> Stairs:
        """See `Work`: ports by powers of two."""
        shares = [self.share(1 << i) for i in reversed(range(MOST_PORTS.bit_length()))]
        found = {int(self.cycles(machine, s, *operands)): s for s in shares if s.pcus <= most}
        return tuple(sorted(found.items(), key=lambda step: step[0]))  # of equal times, the fewest ports came last

    def cycles(self, machine: Machine, share: Any, *operands: TensorType) -> Any:
        """See `Work`: the vectors that are moved, over the ports."""
        return ceil_div(self.vectors(machine.pcu, *operands), ports_of(share))

    def vectors(self, config: pcu.Config, *operands: TensorType) -> Any:
        """Vectors moved in a turn; operands: tiles. Those of the result, where nothing else is said."""
        return ceil_div(self.infer(*operands).size_bytes, pcu.vector_bytes(config))

    def places_of(self, count: int) -> tuple[int, ...]:
        """Which of `count` operands say where something is: a word per port and cycle is read of them."""
        return ()

    def slice_bytes(self, *operands: TensorType) -> int | None:
        """Bytes of one of the slices that AGCUs can fetch straight from memory in its place, by the same addresses.

        None for a kind of work that reads more of its first operand than what it gives.
        """
        return None

    def update_at(self, count: int) -> tuple[int, tuple[int, ...]] | None:
        """Of `count` operands, which is written over a part of the first one, and which say where.

        None for a kind of work that gives another value than its first operand with a part overwritten.
        """
        return None

    def updated_bytes(self, *operands: TensorType) -> int:
        """Bytes of one of the slices that an update writes."""
        at = self.update_at(len(operands))
        assert at is not None
        return operands[at[0]].size_bytes

    def feeds(
        self, machine: Machine, share: Any, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`."""
        ports, places = ports_of(share), self.places_of(len(operands))
        width, words = int(pcu.vector_bytes(machine.pcu)) * ports, INT32.width_bytes * ports
        rates = [np.minimum(words, o.size_bytes) if i in places else width for i, o in enumerate(operands)]
        return rates, width


def ports_of(share: Any) -> int:
    """Vectors per cycle of a share: a PCU that combines them takes one as well."""
    return share.ports if isinstance(share, Ports) else share.copies


def vectors_of_slices(config: pcu.Config, sizes: Sequence[int], shape: Sequence[int], count: int, fmt: Format) -> Any:
    """Vectors of `count` slices of `sizes` out of a buffer of `shape`: each run of neighbours begins a new one."""
    run, runs = 1, 1
    whole = True  # of all axes behind
    for size, length in zip(reversed(sizes), reversed(shape), strict=True):
        run, runs = (run * size, runs) if whole else (run, runs * size)
        whole = whole and size == length
    return count * runs * ceil_div(run * fmt.width_bytes, pcu.vector_bytes(config))
