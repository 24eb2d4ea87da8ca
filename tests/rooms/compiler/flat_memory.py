"""A program on flat arrays of bytes, one per tier: a slow, obvious machine that knows nothing but addresses.

Whatever a kernel loads is read from the bytes where the assignment says it lies, whatever it writes overwrites what is
there. If two symbols shared a byte while both were needed, the results would have other bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

import rdujax as rdu
from rdujax.emulate.run import enter, leave, run
from rdujax.graph.plan import Plan, PlannedKernel, PlannedRegion
from rdujax.graph.regions import Loop
from rdujax.numerics.formats import BF16, BOOL
from rdujax.ops.op import TensorType

JUNK = 0xA5


@dataclass(frozen=True)
class Address:
    """A byte of a tier."""

    tier: str
    offset: int

    def plus(self, offset: int) -> "Address":
        """So many bytes further."""
        return Address(self.tier, self.offset + offset)


class Flat:
    """The bytes of all tiers and where each symbol lies in them."""

    def __init__(self, program: rdu.Program):
        self.program, memory = program, program.plan.memory
        self.bytes = {t: np.full(memory.peak_bytes(t), JUNK, np.uint8) for t in ("hbm", "ddr", "host")}
        self.own = {s.value: Address(s.tier, s.offset_bytes) for s in memory.symbols}
        assert len(self.own) == len(memory.symbols)
        self.kernels: dict[int, Any] = {}

    def write(self, at: Address, array: Any, kind: TensorType) -> None:
        """Carriers as bytes at rest."""
        words = np.asarray(array)
        words = (words.view(np.uint32) >> 16).astype(np.uint16) if kind.fmt is BF16 else words
        octets = np.frombuffer(np.ascontiguousarray(words).tobytes(), np.uint8)
        assert octets.size == kind.size_bytes and at.offset + octets.size <= self.bytes[at.tier].size
        self.bytes[at.tier][at.offset : at.offset + octets.size] = octets

    def read(self, at: Address, kind: TensorType) -> np.ndarray:
        """Bytes at rest as carriers."""
        octets = self.bytes[at.tier][at.offset : at.offset + kind.size_bytes].tobytes()
        if kind.fmt is BF16:
            return (np.frombuffer(octets, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(kind.shape)
        if kind.fmt is BOOL:
            return (np.frombuffer(octets, np.uint8) != 0).reshape(kind.shape)
        return np.frombuffer(octets, kind.fmt.carrier).reshape(kind.shape)

    def run(self, *args: Any) -> Any:
        """The program's value; its arguments must still be there afterwards, but for those given away."""
        plan = self.program.plan
        graph, flat = plan.graph, jax.tree.leaves(args)
        given = enter(graph, graph.inputs, flat) | enter(graph, tuple(graph.constants), [*graph.constants.values()])
        for value, array in given.items():
            self.write(self.own[value], array, graph.types[value])
        where = self.body(plan, {value: self.own[value] for value in given}, {})
        for value, array in ((v, x) for v, x in given.items() if v not in plan.given_away):
            kept = self.read(self.own[value], graph.types[value])
            assert kept.tobytes() == np.asarray(array).tobytes(), graph.labels[value]
        arrays = [leave(graph, v, self.read(where[v], graph.types[v])) for v in graph.outputs]
        return jax.tree.unflatten(self.program.traced.out_tree, arrays)

    def body(self, plan: Plan, where: Mapping[int, Address], homes: Mapping[int, Address]) -> dict[int, Address]:
        """Where everything lies after a body; homes: where its outputs have to go."""
        where, outputs = dict(where), homes
        homes = dict(homes)
        for value, at in outputs.items():  # what an output is written over lies there from the beginning
            while value in plan.overwritten:
                value = plan.overwritten[value]
                homes[value] = at
        for step in plan.steps:
            if isinstance(step, PlannedKernel):
                where |= self.kernel(plan, step, where, homes)
            else:
                over = step.overwritten
                results = {v: where[over[v]] if v in over else homes.get(v) or self.own[v] for v in step.node.results}
                where |= self.region(plan, step, where, results)
        assert all(where[v] == at for v, at in outputs.items())
        return where

    def kernel(self, plan: Plan, step: PlannedKernel, where: Mapping[int, Address], homes: Mapping) -> dict:
        """One launch."""
        types = plan.graph.types
        if id(step) not in self.kernels:
            alone = replace(plan, steps=(step,))
            wanted = [w.value for w in step.kernel.writes]
            self.kernels[id(step)] = jax.jit(
                lambda loaded: {v: run(alone, self.program.machine, loaded).memory[v] for v in wanted}
            )
        over = step.kernel.overwritten
        there = {*step.kernel.sources, *over.values()} - over.keys()
        loaded = {v: self.read(where[v], types[v]) for v in there}
        assert all(plan.tiers[v] == where[v].tier for v in step.kernel.sources)
        places = {}
        for value, array in self.kernels[id(step)](loaded).items():
            if value in over:  # the whole of it, of which all but the update is there already
                assert value not in self.own
                places[value] = places.get(over[value]) or where[over[value]]
            else:
                places[value] = homes.get(value) or self.own[value]
            assert plan.tiers[value] == places[value].tier
            self.write(places[value], array, types[value])
        return places

    def region(self, plan: Plan, step: PlannedRegion, where: Mapping[int, Address], results: dict[int, Address]) -> Any:
        """A loop or branch; where its results lie."""
        operands = [where[v] for v in step.node.operands]
        if isinstance(step.op, Loop):
            return dict(zip(results, self.loop(step, step.op, operands, [*results.values()]), strict=True))
        index = int(self.read(operands[0], plan.graph.types[step.node.operands[0]]))
        taken = step.plans[index]
        homes = dict(zip(taken.graph.outputs, results.values(), strict=True))
        self.body(taken, dict(zip(taken.graph.inputs, operands[1:], strict=True)), homes)
        return results

    def loop(self, step: PlannedRegion, loop: Loop, operands: Sequence[Address], homes: list[Address]) -> list[Address]:
        """All trips of a loop."""
        asked, consts, carry, xs = loop.split(operands)
        graph, n = step.plans[0].graph, loop.n_carry
        slices = [graph.types[v].size_bytes for v in graph.inputs[len(consts) + n :]]
        rows = [graph.types[v].size_bytes for v in graph.outputs[n:]]
        trip = 0
        while trip < loop.trips if loop.trips is not None else self.holds(step.plans[1], [*asked, *carry]):
            at = list(loop.places())[trip] if loop.trips is not None else 0
            goes_to = []
            for value, home, now in zip(graph.outputs, homes[:n], carry, strict=False):
                other = self.own.get(value, home)
                last = now != home if loop.trips is None else (loop.trips - 1 - trip) % 2 == 0
                goes_to.append(home if last else other)
            given = [*consts, *carry, *(x.plus(at * size) for x, size in zip(xs, slices, strict=True))]
            made = [*goes_to, *(y.plus(at * size) for y, size in zip(homes[n:], rows, strict=True))]
            inputs, outputs = (dict(zip(*p, strict=True)) for p in ((graph.inputs, given), (graph.outputs, made)))
            self.body(step.plans[0], inputs, outputs)
            carry, trip = goes_to, trip + 1
            assert trip < 100, "a condition that was overwritten never ends its loop"
        return [*carry, *homes[n:]]

    def holds(self, condition: Plan, inputs: Sequence[Address]) -> bool:
        """Whether a `while` loop goes on."""
        graph = condition.graph
        where = self.body(condition, dict(zip(graph.inputs, inputs, strict=True)), {})
        return bool(self.read(where[graph.outputs[0]], graph.types[graph.outputs[0]]))
