"""What every pass made of a program: its text before and after, and the difference.

    Graph --passes on graphs--> Graph --fuse--> groups of nodes --stages--> Kernels --tile--> loops --allocate--> units
    --memory--> addresses

A pass on graphs is run again to show what it did. The other passes call one another, for they price candidates; what
each of them decided is read from the plan. Which passes there are, in which order and why, stands in `driver.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any, Literal

from rdujax.base.errors import unknown
from rdujax.base.words import counted
from rdujax.compiler.report import when
from rdujax.graph.graph import Graph, header, node_text
from rdujax.graph.kernel import load_text
from rdujax.graph.plan import Plan, PlannedKernel

PLACED = ("allocate", "memory")  # levels at which units are known
Level = Literal["fuse", "stages", "tile", "allocate", "memory"]


@dataclass(frozen=True)
class Pass:
    """A pass of the compiler: its name, the function that does it, and why it stands where it does."""

    name: str
    function: Callable[..., Any]
    reason: str


@dataclass(frozen=True)
class PassText:
    """What one pass made of a program. `str()` is the unified difference of the two texts."""

    name: str
    reason: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether the pass changed anything."""
        return self.before != self.after

    def __str__(self) -> str:
        names = (f"before {self.name}", f"after {self.name}")
        lines = unified_diff(self.before.splitlines(), self.after.splitlines(), *names, lineterm="")
        return "\n".join([f"{self.name}: {self.reason}", *(lines if self.changed else ["nothing to change"])])


@dataclass(frozen=True)
class Passes:
    """All passes in their order; `passes["fuse"]` is one of them. Raises UnknownNameError for another name."""

    each: tuple[PassText, ...]

    def __iter__(self) -> Iterator[PassText]:
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)

    def __getitem__(self, name: str) -> PassText:
        found = {one.name: one for one in self.each}
        if name not in found:
            raise unknown("pass", name, found)
        return found[name]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.each))


def plan_text(plan: Plan, level: Level) -> str:
    """The text of a plan as far as it was decided after the pass `level`; bodies of regions stand below them."""
    symbols = plan.memory.symbols if level == "memory" else ()
    places = (f"symbol   {s.tier} {s.offset_bytes} to {s.offset_bytes + s.size_bytes}  {s}" for s in symbols)
    return "\n".join([*_lines(plan, level), *places])


def _lines(plan: Plan, level: Level) -> Iterator[str]:
    yield from header(plan.graph)
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            yield f"kernel {step.kernel.name}"
            yield from _nodes(plan.graph, step) if level == "fuse" else _kernel(plan.graph, step, level)
            continue
        yield node_text(plan.graph, step.node)
        for name, body in zip(step.op.body_names, step.plans, strict=True):
            yield f"  {name}"
            yield from ("    " + line for line in _lines(body, level))
    yield "output   " + " ".join(f"%{v}" for v in plan.graph.outputs)


def _nodes(graph: Graph, planned: PlannedKernel) -> Iterator[str]:
    yield from (node_text(graph, node) for node in planned.kernel.nodes)


def _kernel(graph: Graph, planned: PlannedKernel, level: Level) -> Iterator[str]:
    kernel, tiling = planned.kernel, planned.tiling
    if level != "stages":
        for loop in tiling.loops:
            walked = " ".join(f"%{v}.{axis}" for v, axis in sorted(loop.members))
            yield f"  loop  {loop.length} in tiles of {loop.tile}, along {walked}"
        for loop in tiling.inner:
            walked = " ".join(f"%{v}.{axis}" for v, axis in sorted(loop.members))
            yield f"  slice {loop.length} in slices of {loop.tile} within a turn, along {walked}"
    for value in kernel.loads:
        stays = ", kept on chip" if level != "stages" and value in tiling.resident else ""
        yield load_text(kernel, value) + stays
    for stage, share in zip(kernel.stages, planned.shares, strict=True):
        units = f" on {share}" if level in PLACED else ""
        once = when(tiling, stage.result) if level != "stages" else ""
        reads = ", ".join(map(str, stage.reads))
        yield f"  stage %{stage.result} = {stage.op} ({reads}){units}{once}  # {stage.label}"
    for write in kernel.writes:
        yield f"  store {write}"
    if level in PLACED:
        for b in planned.buffers:
            yield f"  buffer of %{b.value}: {b.depth} x {b.tile_bytes} bytes of {b.fmt} on {counted(b.pmus, 'PMU')}"
        for s in planned.streams:
            way = "to" if s.is_store else "from"
            yield f"  stream of %{s.value}: {s.total_bytes} bytes {way} {s.tier} through {counted(s.agcus, 'AGCU')}"
