"""Kernels of random programs, in every tiling that the compiler would try and many that it would not need."""

import random
from collections.abc import Iterator
from dataclasses import replace

import rdujax as rdu
from rdujax.base.errors import CapacityError
from rdujax.compiler import tile
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.axes import Way, streamable
from rdujax.compiler.stages import form
from rdujax.estimate.price import kernel_cycles
from rdujax.graph.graph import Graph
from rdujax.graph.plan import Kernel, PlannedKernel, Tiling
from rdujax.machines.machine import Machine
from tests.rooms.compiler.samples import random_sample, small

KERNELS_OF_A_PROGRAM = 6


def without_sums(program: rdu.Program, at: int = 0) -> rdu.Program:
    """The program of one of the kernels, in the cheapest tiling in which no turn adds to a sum."""
    plan, planned = list(program.plan.placed())[at]
    to, priced = Allocator(plan.graph, program.machine, plan.tiers), []
    ways = tuple(way for way in streamable(plan.graph, planned.kernel) if not way.sums)
    for bare in nests(planned.kernel, ways, program.machine):
        for tiling in tilings(plan.graph, planned.kernel, bare, program.machine):
            try:
                kernel = to.allocate(planned.kernel, tiling, planned.wide)
            except CapacityError:
                continue
            priced.append((kernel_cycles(plan.graph, kernel, program.machine), len(priced), kernel))
    return replace(program, plan=replace(plan, steps=(min(priced)[2],)))


def machines() -> list[Machine]:
    """One that holds little, one that moves little beside what it computes, and the real one."""
    slow = {"hbm.bandwidth_bytes_per_s": 4e6, "ddr.bandwidth_bytes_per_s": 1e6}
    return [small(), small("starved").replace(slow), rdu.machines.sn40l()]


def kind(tiling: Tiling) -> str:
    """How its loads arrive, and how often it turns."""
    if tiling.in_turn:
        return "in turn"
    turns = "one turn" if tiling.turns == 1 else "many turns, sums" if tiling.sums else "many turns"
    return f"{'by slices' if tiling.inner else 'whole'}, {turns}"


def planned_kernels(seed: int, machine: Machine) -> Iterator[tuple[Graph, PlannedKernel]]:
    """Stretches of a random program as kernels, in HBM alone or in two tiers, in all tilings that fit."""
    rng, sample = random.Random(seed), random_sample(seed)
    graph = rdu.compile(sample.fn, *sample.args, machine=machine, fusion="primitives").graph
    for i in range(KERNELS_OF_A_PROGRAM):
        first = rng.randrange(len(graph.nodes))
        end = rng.randrange(first + 1, len(graph.nodes) + 1)
        tiers = {value: rng.choice(("hbm", "ddr")) if i % 2 else "hbm" for value in graph.types}
        kernel, allocator = _kernel(graph, first, end, machine), Allocator(graph, machine, tiers)
        for tiling in _every(graph, kernel, machine):
            try:
                yield graph, allocator.allocate(kernel, tiling, frozenset())
            except CapacityError:
                continue


def _kernel(graph: Graph, first: int, end: int, machine: Machine) -> Kernel:
    nodes = graph.nodes[first:end]
    inside = {node.result for node in nodes}
    needed = {v for node in graph.nodes if node.result not in inside for v in node.operands} | set(graph.outputs)
    return form(graph, nodes, "kernel", frozenset(inside & needed), machine.agcu)


def nests(kernel: Kernel, ways: tuple[Way, ...], machine: Machine) -> list[Tiling]:
    """Every loop nest that the compiler knows, and not only those that it tries."""
    single = [bare for climb in tile.single_loops(kernel, ways, machine) for bare in climb]
    return [*single, *tile.double_loops(kernel, ways, machine)]


def tilings(graph: Graph, kernel: Kernel, bare: Tiling, machine: Machine) -> list[Tiling]:
    """Every tiling of a nest, likewise."""
    return [*tile.staying(kernel, bare), *tile.streaming(graph, kernel, bare, machine)]


def _every(graph: Graph, kernel: Kernel, machine: Machine) -> list[Tiling]:
    every = nests(kernel, streamable(graph, kernel), machine)
    return [tiling for bare in every for tiling in tilings(graph, kernel, bare, machine)]
