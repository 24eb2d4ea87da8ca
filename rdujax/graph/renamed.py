"""A planned kernel with other values and labels in the place of its own: said of nodes that are like its nodes.

What the compiler plans for one stretch of a program holds for every stretch that is like it, and so does its price.
"""

from collections.abc import Sequence
from dataclasses import replace

from rdujax.graph.graph import Graph, Node
from rdujax.graph.kernel import Fetch, Kernel, Read, Stage, Update, Write
from rdujax.graph.plan import Loop, PlannedKernel, Tiling


def moved(planned: PlannedKernel, graph: Graph, nodes: Sequence[Node], name: str) -> PlannedKernel:
    """What was planned for one stretch, said of the nodes of another that is like it, under a name of its own."""
    values: dict[int, int] = {}
    labels: dict[str, str] = {}
    for old, new in zip(planned.kernel.nodes, nodes, strict=True):
        values |= dict(zip((*old.operands, *old.results), (*new.operands, *new.results), strict=True))
        labels[old.label] = new.label

    def read(r: Read) -> Read:
        return Read(values[r.value], r.chain)

    def loop(each: Loop) -> Loop:
        return replace(each, members=frozenset((values[v], axis) for v, axis in each.members))

    def stage(s: Stage) -> Stage:
        members = tuple(labels[m] for m in s.members)
        return Stage("+".join(members), s.op, tuple(map(read, s.reads)), values[s.result], members, s.pins)

    def fetch(f: Fetch) -> Fetch:
        return replace(f, value=values[f.value], read=read(f.read), places=tuple(map(read, f.places)))

    def update(u: Update) -> Update:
        return replace(u, over=values[u.over], places=tuple(map(read, u.places)))

    def write(w: Write) -> Write:
        return Write(values[w.value], read(w.read), w.update and update(w.update))

    old, tiling = planned.kernel, planned.tiling
    kernel = Kernel(
        name, tuple(values[v] for v in old.loads), tuple(map(stage, old.stages)),
        tuple(map(write, old.writes)), tuple(nodes), tuple(map(fetch, old.fetches)),
    )  # fmt: skip
    loops, inner = (tuple(map(loop, each)) for each in (tiling.loops, tiling.inner))
    streams = []
    for s in planned.streams:
        label = kernel.stream_label(graph, values[s.value], s.is_store)
        units = label if s.units == s.label else s.units
        streams.append(replace(s, label=label, value=values[s.value], units=units))
    buffers = tuple(replace(b, label=graph.labels[values[b.value]], value=values[b.value]) for b in planned.buffers)
    resident, sums, late, wide = (
        frozenset(values[v] for v in each) for each in (tiling.resident, tiling.sums, tiling.late, planned.wide)
    )
    tiling = Tiling(loops, resident, inner, sums, late)
    return PlannedKernel(kernel, tiling, planned.shares, buffers, tuple(streams), wide)
