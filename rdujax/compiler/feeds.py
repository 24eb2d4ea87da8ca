"""The streams between the memory tiers and a kernel in one tiling: bytes, their share of a turn, AGCUs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod

from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Kernel
from rdujax.graph.plan import MemoryStream, Tiling
from rdujax.machines.machine import Machine
from rdujax.units import agcu


class Feeds:
    """The loads and stores of a kernel, whatever the shares of its stages. tiers: where each value rests."""

    def __init__(self, graph: Graph, machine: Machine, tiers: dict[int, str], kernel: Kernel, tiling: Tiling):
        self.graph, self.machine, self.tiers = graph, machine, tiers
        self.kernel, self.tiling = kernel, tiling
        self.flows = [*self._loads(), *self._stores()]

    def turn_cycles(self) -> int:
        """Cycles of a turn for which the slowest tier is busy, with loads and stores side by side."""
        return max([1, *(self.machine.transfer_cycles(tier, *moved) for tier, moved in self._turn_bytes().items())])

    def one_way_cycles(self) -> int:
        """Cycles of a turn for which the slowest tier is busy with its loads alone, or with its stores."""
        moved = self._turn_bytes().items()
        one_way = ((tier, *each) for tier, (read, written) in moved for each in ((read, 0), (0, written)))
        return max([1, *(self.machine.transfer_cycles(*each) for each in one_way)])

    def _turn_bytes(self) -> dict[str, tuple[int, int]]:
        """By tier, the bytes that a turn loads and stores."""
        found = {f.tier: (0, 0) for f in self.flows}
        for f in self.flows:
            read, written = found[f.tier]
            found[f.tier] = (read, written + f.turn_bytes) if f.is_store else (read + f.turn_bytes, written)
        return found

    def agcus(self, turn_cycles: int) -> list[int]:
        """Enough AGCUs for turns of `turn_cycles`, by stream; those of a tier share theirs where they take turns."""
        return self._in_turn if self.tiling.in_turn else self._side_by_side(turn_cycles)

    def agcus_together(self, agcus: Sequence[int]) -> int:
        """How many AGCUs these are."""
        if not self.tiling.in_turn:
            return sum(agcus)
        return sum({f.tier: each for f, each in zip(self.flows, agcus, strict=True)}.values())

    def with_agcus(self, agcus: Sequence[int]) -> tuple[MemoryStream, ...]:
        """The streams with these AGCUs."""
        pairs = zip(self.flows, agcus, strict=True)
        if self.tiling.in_turn:
            return tuple(replace(f, agcus=each, units=f"streams of {f.tier}") for f, each in pairs)
        return tuple(replace(f, agcus=each) for f, each in pairs)

    def _loads(self) -> Iterator[MemoryStream]:
        graph, tiling, tiers = self.graph, self.tiling, self.tiers
        for value in self.kernel.loads:
            label, tier = self.kernel.stream_label(graph, value, False), tiers[self.kernel.source(value)]
            total = self._charged_bytes(value, graph.types[value].size_bytes) * tiling.sweeps(value)
            streamed = tiling.is_streamed(value)
            turn_bytes = -(-total // tiling.turns) if streamed else 0
            first = self._first_bytes(value, total) if streamed else total
            yield MemoryStream(label, value, tier, False, total, turn_bytes, first, 1, label)

    def _stores(self) -> Iterator[MemoryStream]:
        graph, tiling, tiers = self.graph, self.tiling, self.tiers
        for write in self.kernel.writes:
            label, moved = self.kernel.stream_label(graph, write.value, True), write.kind(graph).size_bytes
            total = agcu.charged_bytes(self.machine.agcu, moved, write.slice_bytes)
            each, tier = 0 if tiling.is_late(write) else -(-total // tiling.turns), tiers[write.value]
            yield MemoryStream(label, write.value, tier, True, total, each, each, 1, label)

    def _first_bytes(self, value: int, total: int) -> int:
        """What of a stream the first turn waits for: a whole tile; later ones wait for their share of the next.

        Slices that have the tier to themselves are moved in equal parts.
        """
        kind, tiling = self.graph.types[value], self.tiling
        if tiling.in_turn:
            return -(-total // tiling.slices(value))
        return min(total, self._charged_bytes(value, prod(tiling.tile(value, kind.shape)) * kind.fmt.width_bytes))

    def _charged_bytes(self, value: int, asked_bytes: int) -> int:
        """What a tier moves for bytes of a load."""
        fetch = self.kernel.fetched.get(value)
        return agcu.charged_bytes(self.machine.agcu, asked_bytes, 0 if fetch is None else fetch.slice_bytes)

    def _side_by_side(self, turn_cycles: int) -> list[int]:
        """For every stream AGCUs of its own: for its bytes of a turn, or for what is moved ahead of or behind all."""
        config = self.machine.agcu
        return [agcu.units_for(config, moved, cycles or turn_cycles) for moved, cycles in self._moved]

    @cached_property
    def _moved(self) -> list[tuple[int, int]]:
        """For every stream its bytes and the cycles that they may take; 0 where these are those of a turn."""
        once: dict[tuple[str, bool], int] = {}
        for tier, is_store in {(f.tier, f.is_store) for f in self.flows}:
            peers = (f for f in self.flows if (f.tier, f.is_store) == (tier, is_store) and not f.turn_bytes)
            moved = sum(f.total_bytes if is_store else f.first_bytes for f in peers)
            once[tier, is_store] = max(self.machine.transfer_cycles(tier, moved), 1)
        return [
            (f.turn_bytes, 0) if f.turn_bytes
            else (f.total_bytes if f.is_store else f.first_bytes, once[f.tier, f.is_store])
            for f in self.flows
        ]  # fmt: skip

    @cached_property
    def _in_turn(self) -> list[int]:
        """Streams of a tier one after the other, all through the same AGCUs: enough for the tier, if there are."""
        tiers = {f.tier: max(g.total_bytes for g in self.flows if g.tier == f.tier) for f in self.flows}
        most = max(1, int(self.machine.agcu.count.value) // max(1, len(tiers)))
        units = {
            tier: min(most, agcu.units_for(self.machine.agcu, moved, max(1, self.machine.transfer_cycles(tier, moved))))
            for tier, moved in tiers.items()
        }
        return [units[f.tier] for f in self.flows]
