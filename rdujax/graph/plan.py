"""What the compiler makes of a graph: kernels of stages, and the decisions that place them on a machine.

    Graph --cut--> Kernel (stages, loads, writes) --tile, allocate--> PlannedKernel --all of them--> Plan
    Loop, Branch --a Plan for each body--> PlannedRegion

Everything here is a value: it compares, prints, and is read alike by the executor and by the pricing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rdujax.graph import regions
from rdujax.graph.graph import NO_PINS, Graph, Node, Pins, Region
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.ops.op import Share, TensorType, Work, operand_tiles
from rdujax.streams.access import Access, chain_shape

BufferFormat = Literal["declared", "fp32"]


@dataclass(frozen=True)
class Read:
    """A value as it is read: under the access patterns of the buffer it lies in."""

    value: int
    chain: tuple[Access, ...] = ()

    def shape(self, graph: Graph) -> tuple[int, ...]:
        """The shape that is delivered."""
        return chain_shape(self.chain, graph.types[self.value].shape)

    def __str__(self) -> str:
        return ".".join([f"%{self.value}", *map(str, self.chain)])


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline: an operation on PCUs, its operands read from stage buffers.

    members: the labels of the graph's nodes that it computes (several where maps were chained).
    """

    label: str
    op: Work
    reads: tuple[Read, ...]
    result: int
    members: tuple[str, ...]
    pins: Pins = NO_PINS

    def operands(self, graph: Graph) -> tuple[TensorType, ...]:
        """The types of the operands as they are delivered."""
        return tuple(TensorType(read.shape(graph), graph.types[read.value].fmt) for read in self.reads)


@dataclass(frozen=True)
class Write:
    """A value that a kernel leaves in memory, and what it is read from."""

    value: int
    read: Read


@dataclass(frozen=True)
class Kernel:
    """One launch: values loaded, stages in order, values written."""

    name: str
    loads: tuple[int, ...]
    stages: tuple[Stage, ...]
    writes: tuple[Write, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Loop:
    """One loop of a kernel's nest: an axis that all its results share, cut into tiles."""

    length: int
    tile: int
    members: frozenset[tuple[int, int]]  # (value, axis) pairs that walk along it

    @property
    def trips(self) -> int:
        """Turns of the loop."""
        return -(-self.length // self.tile)


@dataclass(frozen=True)
class Tiling:
    """The loop nest of a kernel, outermost first, and which loads stay on chip for all of it."""

    loops: tuple[Loop, ...]
    resident: frozenset[int]

    @property
    def turns(self) -> int:
        """Turns of the whole nest: how many tiles go through the pipeline."""
        count = 1
        for loop in self.loops:
            count *= loop.trips
        return count

    def tile(self, value: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The tile of a value: cut along the loops that it walks, whole along its other axes."""
        cut = {axis: loop.tile for loop in self.loops for v, axis in loop.members if v == value}
        return tuple(min(cut.get(axis, length), length) for axis, length in enumerate(shape))

    def walks(self, value: int) -> tuple[bool, ...]:
        """For each loop, whether the value walks along it."""
        return tuple(any(v == value for v, _ in loop.members) for loop in self.loops)

    def sweeps(self, value: int) -> int:
        """How often the whole of a loaded value is moved.

        Once per turn of every loop that it does not walk outside the innermost one that it does; once where resident.
        """
        if value in self.resident:
            return 1
        walks = self.walks(value)
        innermost = max((i for i, own in enumerate(walks) if own), default=-1)
        count = 1
        for loop, own in list(zip(self.loops, walks, strict=True))[: innermost + 1]:
            count *= 1 if own else loop.trips
        return count

    def is_streamed(self, value: int) -> bool:
        """True where tiles of the value arrive while the pipeline runs; False where all of it is loaded ahead."""
        return value not in self.resident and (any(self.walks(value)) or self.turns == 1)


@dataclass(frozen=True)
class BufferPlan:
    """One stage buffer: whose value, how many bytes a tile has, how deep, in which format, on how many PMUs."""

    label: str
    value: int
    tile_bytes: int
    depth: int
    fmt: Format
    pmus: int


@dataclass(frozen=True)
class MemoryStream:
    """One stream between a tier and the tile: a load or a store, its bytes, and its AGCUs.

    turn_bytes: its share of every turn. first_bytes: what a load must deliver before the first turn can begin.
    """

    label: str
    value: int
    tier: str
    is_store: bool
    total_bytes: int
    turn_bytes: int
    first_bytes: int
    agcus: int


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
        """The format in which stage buffers hold a value: FP32 where it is kept wide, otherwise its own."""
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
        return sum(s.agcus for s in self.streams)

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


Step = PlannedKernel | PlannedRegion


@dataclass(frozen=True)
class Plan:
    """A whole program, or a body inside of it: the graph, its steps in order, the tier of every value in memory.

    fusion, orchestration, buffer_format: the choices as the user made them.
    """

    graph: Graph
    steps: tuple[Step, ...]
    tiers: dict[int, str]
    orchestration: str
    fusion: str
    buffer_format: BufferFormat

    @property
    def kernels(self) -> tuple[PlannedKernel, ...]:
        """Every kernel in the order of the text, those inside of regions included."""
        return tuple(kernel for _, kernel in self.placed())

    def placed(self) -> "Iterator[tuple[Plan, PlannedKernel]]":
        """Every kernel in the order of the text, with the plan that it is a step of."""
        for step in self.steps:
            if isinstance(step, PlannedKernel):
                yield self, step
            else:
                for plan in step.plans:
                    yield from plan.placed()

    def symbols(self) -> Iterator[tuple[str, str, int]]:
        """(tier, name, bytes) of everything that has a place in memory: every value keeps its own while it runs.

        Inside of a loop those are what the body's kernels write, but for slices of results. A part of the carry has the
        place of its result and, where the loop may turn more than once, another one, which its trips use in turn.
        Branches have their places one beside the other.
        """
        yield from self._symbols(frozenset())

    def _symbols(self, elsewhere: frozenset[int]) -> Iterator[tuple[str, str, int]]:
        for value, tier in self.tiers.items():
            if value not in elsewhere:
                kind = self.graph.types[value]
                yield tier, f"{self.graph.labels[value]} {kind}", kind.size_bytes
        for step in self.steps:
            if isinstance(step, PlannedRegion):
                for plan in step.plans:
                    given, made = plan.graph.inputs, plan.graph.outputs
                    if isinstance(step.op, regions.Loop):
                        made = made[step.op.n_carry :] if step.op.trips != 1 else made
                    yield from plan._symbols(frozenset((*given, *made)))

    def peak_bytes(self, tier: str) -> int:
        """Bytes that the values of a tier take together (see `symbols`)."""
        return sum(size_bytes for where, _, size_bytes in self.symbols() if where == tier)


def turn(graph: Graph, tiling: Tiling, stage: Stage) -> tuple[TensorType, ...]:
    """The tiles of the operands that one turn of a stage takes."""
    operands = stage.operands(graph)
    cut = tiling.tile(stage.result, graph.types[stage.result].shape)
    tiles = operand_tiles(stage.op, [o.shape for o in operands], cut)
    return tuple(TensorType(tile, o.fmt) for tile, o in zip(tiles, operands, strict=True))


def held(graph: Graph, wide: frozenset[int], value: int) -> Format:
    """The format in which stage buffers hold a value when the values of `wide` are kept in FP32."""
    fmt = graph.types[value].fmt
    return FP32 if value in wide and fmt is BF16 else fmt


def text(kernel: Kernel) -> str:
    """A kernel as stable text, one stage per line."""
    lines = [f"kernel {kernel.name}", *(f"  load  %{v}" for v in kernel.loads)]
    for s in kernel.stages:
        lines.append(f"  stage %{s.result} = {s.op} ({', '.join(map(str, s.reads))})  # {s.label}")
    return "\n".join([*lines, *(f"  store %{w.value} <- {w.read}" for w in kernel.writes)])


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
