"""What the compiler makes of a graph: kernels of stages, and the decisions that place them on a machine.

    Graph --cut--> Kernel (stages, loads, writes) --tile, allocate--> PlannedKernel --all of them--> Plan
    Loop, Branch --a Plan for each body--> PlannedRegion

Everything here is a value: it compares, prints, and is read alike by the executor and by the pricing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

from rdujax.graph import regions
from rdujax.graph.graph import Graph, Node, Region
from rdujax.graph.inplace import end
from rdujax.graph.kernel import Kernel, Read, Stage, Write, text
from rdujax.graph.memory import NOTHING, Memory
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.ops.exchange import Links
from rdujax.ops.op import Share, TensorType, operand_tiles
from rdujax.streams.access import chain_axes
from rdujax.streams.layout import Layout

BufferFormat = Literal["declared", "fp32"]
LINKS = "links to sockets"  # the name of the AGCUs that all exchanges of a kernel share


@dataclass(frozen=True)
class Loop:
    """One loop of a kernel's nest: an axis cut into tiles, and the values that walk along it."""

    length: int
    tile: int
    members: frozenset[tuple[int, int]]  # (value, axis) pairs that walk along it

    @property
    def trips(self) -> int:
        """Turns of the loop."""
        return -(-self.length // self.tile)


@dataclass(frozen=True)
class Tiling:
    """The loop nest of a kernel, outermost first, and what stays on chip for all of it.

    loops: one turn of all of them makes a tile of every result that walks along them. resident: loads that are moved
    once, and results that are the same in every turn, made once before the first. inner: loops of one stage each,
    inside of a turn: the stage makes its tile in slices, from slices of one load, which stream by, while its other
    operands wait whole. Its readers wait for the whole tile. sums: results that every turn adds its part to, as a
    contraction along the one loop does. late: results that are made of sums, once, behind the last turn.
    """

    loops: tuple[Loop, ...]
    resident: frozenset[int]
    inner: tuple[Loop, ...] = ()
    sums: frozenset[int] = frozenset()
    late: frozenset[int] = frozenset()

    @property
    def turns(self) -> int:
        """Turns of the outer loops: how many tiles go through the pipeline."""
        count = 1
        for loop in self.loops:
            count *= loop.trips
        return count

    @property
    def in_turn(self) -> bool:
        """True where all is loaded within one turn, slice by slice: streams of a tier go one after the other."""
        return self.turns == 1 and bool(self.inner)

    @property
    def whole(self) -> frozenset[int]:
        """Values that are on chip whole, in one slot: nobody gives it back before the kernel ends."""
        return self.resident | self.sums | self.late

    def is_late(self, write: Write) -> bool:
        """True for a write behind the last turn: of sums, and of what is made of them."""
        return write.read.value in self.sums | self.late

    def nest(self, value: int) -> tuple[Loop, ...]:
        """The loops that a value is moved or made in, outermost first: the outer ones, and its inner one, if any."""
        own = self._inner_of.get(value)
        return self.loops if own is None else (*self.loops, own)

    @cached_property
    def _inner_of(self) -> dict[int, Loop]:
        return {value: loop for loop in self.inner for value, _ in loop.members}

    def slices(self, value: int) -> int:
        """In how many slices a tile of the value is made or moved: the trips of its inner loop, or 1."""
        own = self._inner_of.get(value)
        return 1 if own is None else own.trips

    def tile(self, value: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What of a value is moved or made at once: cut along the loops that it walks, whole along its other axes."""
        return _cut(self.nest(value), value, shape)

    def whole_tile(self, value: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What of a value one turn of the outer loops makes or needs: its slices together."""
        return _cut(self.loops, value, shape)

    def walks(self, value: int) -> tuple[bool, ...]:
        """For each loop of the value's nest, whether the value walks along it."""
        return tuple(any(v == value for v, _ in loop.members) for loop in self.nest(value))

    def sweeps(self, value: int) -> int:
        """How often the whole of a loaded value is moved.

        Once per turn of every loop that it does not walk outside the innermost one that it does; once where resident.
        """
        if value in self.resident:
            return 1
        walks = self.walks(value)
        innermost = max((i for i, own in enumerate(walks) if own), default=-1)
        count = 1
        for loop, own in list(zip(self.nest(value), walks, strict=True))[: innermost + 1]:
            count *= 1 if own else loop.trips
        return count

    def is_streamed(self, value: int) -> bool:
        """True where tiles of the value arrive while the pipeline runs; False where all of it is loaded ahead."""
        return value not in self.resident and (any(self.walks(value)) or self.turns == 1)


def _cut(loops: tuple[Loop, ...], value: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    cut = {axis: loop.tile for loop in loops for v, axis in loop.members if v == value}
    return tuple(min(cut.get(axis, length), length) for axis, length in enumerate(shape))


@dataclass(frozen=True)
class BufferPlan:
    """One stage buffer: whose value, how many bytes a tile has, how deep, in which format, on how many PMUs.

    A tile is what one turn makes or needs; of a load that streams through an inner loop, a slice of it.
    """

    label: str
    value: int
    tile_bytes: int
    depth: int
    fmt: Format
    pmus: int


@dataclass(frozen=True)
class MemoryStream:
    """One stream between a tier and the tile: a load or a store, its bytes, and its AGCUs.

    turn_bytes: its share of every turn, 0 of a store behind the last one. first_bytes: what a load must deliver before
    the first turn can begin. units: the name of its AGCUs; streams that take turns at a tier share theirs, others have
    their own.
    """

    label: str
    value: int
    tier: str
    is_store: bool
    total_bytes: int
    turn_bytes: int
    first_bytes: int
    agcus: int
    units: str


@dataclass(frozen=True)
class PlannedKernel:
    """A kernel with every decision made.

    wide: values kept in FP32 in their stage buffers though the program declares BF16.
    """

    kernel: Kernel
    tiling: Tiling
    shares: tuple[Share, ...]
    buffers: tuple[BufferPlan, ...]
    streams: tuple[MemoryStream, ...]
    wide: frozenset[int]

    def held(self, graph: Graph, value: int) -> Format:
        """The format in which stage buffers hold a value: FP32 where it is kept wide, otherwise its own.

        Of sums, what the last turn leaves: while they are not complete, their buffer holds four bytes of each.
        """
        return held(graph, self.wide, value)

    def turn(self, graph: Graph, stage: Stage) -> tuple[TensorType, ...]:
        """The tiles of the operands that one turn of a stage takes."""
        return turn(graph, self.tiling, stage)

    @property
    def pcus(self) -> int:
        """PCUs of all stages."""
        return sum(share.pcus for share in self.shares)

    @property
    def pmus(self) -> int:
        """PMUs of all stage buffers."""
        return sum(b.pmus for b in self.buffers)

    @property
    def agcus(self) -> int:
        """AGCUs of all streams."""
        return sum(self.bridges.values())

    @property
    def bridges(self) -> dict[str, int]:
        """How many AGCUs streams and the links to other sockets have, by the name of these (see `MemoryStream`)."""
        linked = [share.agcus for share in self.shares if isinstance(share, Links)]
        to_sockets = {LINKS: max(linked)} if any(linked) else {}
        return {s.units: s.agcus for s in self.streams} | to_sockets

    @property
    def sram_bytes(self) -> int:
        """Bytes that the stage buffers hold."""
        return sum(b.tile_bytes * b.depth for b in self.buffers)


@dataclass(frozen=True)
class PlannedRegion:
    """A loop or branch with every decision made: a plan for each of its bodies, in their order.

    Kernels never span its border, and it moves no byte itself: what goes in and out rests in memory, where a slice is
    an address and the carry stays.
    """

    node: Node
    plans: "tuple[Plan, ...]"

    @property
    def op(self) -> Region:
        """The loop or branch."""
        assert isinstance(self.node.op, Region)
        return self.node.op

    @cached_property
    def overwritten(self) -> dict[int, int]:
        """Results that take the place of an operand: of a loop, in whose body they take that of the input it is."""
        if not isinstance(self.op, regions.Loop):
            return {}
        body = self.plans[0]
        ends = dict(zip(body.graph.inputs, self.op.given(self.node.operands)[0], strict=True))
        returned = zip(self.node.results, body.graph.outputs, strict=True)
        begins = {result: end(body.overwritten, v) for result, v in returned if v in body.overwritten}
        return {result: ends[v] for result, v in begins.items() if v in ends}


Step = PlannedKernel | PlannedRegion


@dataclass(frozen=True)
class Plan:
    """A whole program, or a body inside of it: the graph, its steps in order, the tier of every value in memory.

    fusion, orchestration, buffer_format: the choices as the user made them. memory: the places of all values, those of
    bodies included; without symbols in a body itself. given_away: the inputs that may be overwritten; empty in a body.
    """

    graph: Graph
    steps: tuple[Step, ...]
    tiers: dict[int, str]
    orchestration: str
    fusion: str
    buffer_format: BufferFormat
    memory: Memory = NOTHING
    given_away: frozenset[int] = frozenset()

    @property
    def kernels(self) -> tuple[PlannedKernel, ...]:
        """Every kernel in the order of the text, those inside of regions included."""
        return tuple(kernel for _, kernel in self.placed())

    @cached_property
    def overwritten(self) -> dict[int, int]:
        """For every value that takes the place of another in memory, regions' results included: which."""
        found: dict[int, int] = {}
        for step in self.steps:
            found |= step.kernel.overwritten if isinstance(step, PlannedKernel) else step.overwritten
        return found

    @property
    def is_uncut(self) -> bool:
        """Whether no kernel follows another, here and in all bodies: between loops and branches all is one kernel."""
        kinds = [isinstance(step, PlannedKernel) for step in self.steps]
        bodies = (plan for step in self.steps if isinstance(step, PlannedRegion) for plan in step.plans)
        return not any(a and b for a, b in pairwise(kinds)) and all(plan.is_uncut for plan in bodies)

    def launched(self, orchestration: str) -> "Plan":
        """The same kernels, those of bodies included, launched otherwise."""

        def of(step: Step) -> Step:
            if isinstance(step, PlannedKernel):
                return step
            return replace(step, plans=tuple(plan.launched(orchestration) for plan in step.plans))

        return replace(self, steps=tuple(map(of, self.steps)), orchestration=orchestration)

    def placed(self) -> "Iterator[tuple[Plan, PlannedKernel]]":
        """Every kernel in the order of the text, with the plan that it is a step of."""
        for step in self.steps:
            if isinstance(step, PlannedKernel):
                yield self, step
            else:
                for plan in step.plans:
                    yield from plan.placed()

    def peak_bytes(self, tier: str) -> int:
        """Bytes that the program takes of a tier; known of a whole program, 0 of a body."""
        return self.memory.peak_bytes(tier)


def stored(graph: Graph, tiling: Tiling, write: Write) -> Layout:
    """What a store moves and in which tiles: all of a value, or what an update writes, as its buffer delivers it.

    It waits for all slices of a tile, and moves them together.
    """
    tiling = replace(tiling, inner=())
    if write.update is None:
        return layout_of(tiling, write.value, graph.types[write.value].shape)
    return delivered(graph, tiling, write.read)


def delivered(graph: Graph, tiling: Tiling, read: Read) -> Layout:
    """The tiles of a buffer as a read under an access pattern delivers them."""
    source = layout_of(tiling, read.value, graph.types[read.value].shape)
    axes, _ = chain_axes(read.chain, source.shape)
    return source.of_walking(read.shape(graph), axes)


def layout_of(tiling: Tiling, value: int, shape: tuple[int, ...]) -> Layout:
    """The layout of a value in a kernel: cut along the loops that it walks, tiles in the order of the nest."""
    walked = [axis for loop in tiling.nest(value) for v, axis in sorted(loop.members) if v == value]
    order = [axis for axis in range(len(shape)) if axis not in walked] + walked
    return Layout(shape, tiling.tile(value, shape), tuple(order))


def turn(graph: Graph, tiling: Tiling, stage: Stage) -> tuple[TensorType, ...]:
    """The tiles of the operands that one turn of a stage takes."""
    operands = stage.operands(graph)
    if stage.result in tiling.sums:
        tiles = [delivered(graph, tiling, read).tile for read in stage.reads]
    else:
        cut = tiling.tile(stage.result, graph.types[stage.result].shape)
        tiles = operand_tiles(stage.op, [o.shape for o in operands], cut)
    return tuple(TensorType(tile, o.fmt) for tile, o in zip(tiles, operands, strict=True))


def held(graph: Graph, wide: frozenset[int], value: int) -> Format:
    """The format in which stage buffers hold a value when the values of `wide` are kept in FP32."""
    fmt = graph.types[value].fmt
    return FP32 if value in wide and fmt is BF16 else fmt


def texts(plan: Plan, indent: str = "") -> Iterator[str]:
    """All steps of a plan as stable text; the steps of a region's bodies stand below it."""
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            yield "\n".join(indent + line for line in text(step.kernel).splitlines())
        else:
            yield f"{indent}{step.op}  # {step.node.label}"
            for name, body in zip(step.op.body_names, step.plans, strict=True):
                yield f"{indent}  {name}"
                yield from texts(body, indent + "    ")
