"""What the units of a tile are configured to for a kernel: all of its plan but which values it is about.

Two kernels of one configuration differ in addresses alone: the units that are configured for one are for the other.
"""

from collections.abc import Hashable, Iterable

from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Fetch, Read, Update
from rdujax.graph.plan import Loop, PlannedKernel
from rdujax.streams.access import Slice


def configuration(graph: Graph, planned: PlannedKernel) -> Hashable:
    """Equal for kernels that do the same on the same types, tied, tiled and placed on units in the same way.

    Values stand in it by the order in which the kernel's nodes name them, and names and labels do not; nor does where
    a slice of what rests in memory begins, for that is an address. Kernels whose nodes stand in another order count as
    different.
    """
    kernel, tiling = planned.kernel, planned.tiling
    names = dict.fromkeys(v for node in kernel.nodes for v in (*node.operands, *node.results))
    at = {value: i for i, value in enumerate(names)}
    units = {name: i for i, name in enumerate(dict.fromkeys(s.units for s in planned.streams))}

    def read(r: Read) -> Hashable:
        return at[r.value], r.chain

    def reads(rs: Iterable[Read]) -> Hashable:
        return tuple(map(read, rs))

    def part(f: Fetch) -> Hashable:
        *before, last = f.read.chain or (None,)
        if f.op is None and isinstance(last, Slice):
            return at[f.read.value], tuple(before), last.stride
        return read(f.read), f.op, reads(f.places)

    def update(u: Update | None) -> Hashable:
        return u and (at[u.over], u.op, reads(u.places), u.slice_bytes)

    def loops(ls: Iterable[Loop]) -> Hashable:
        return tuple((x.length, x.tile, frozenset((at[v], axis) for v, axis in x.members)) for x in ls)

    return (
        graph.types_of(tuple(names)),
        tuple(at[v] for v in kernel.loads),
        tuple((at[f.value], part(f), f.slice_bytes) for f in kernel.fetches),
        tuple((s.op, reads(s.reads), at[s.result], s.pins) for s in kernel.stages),
        tuple((at[w.value], read(w.read), update(w.update)) for w in kernel.writes),
        loops(tiling.loops), loops(tiling.inner),
        *(frozenset(at[v] for v in each) for each in (tiling.resident, tiling.sums, tiling.late, planned.wide)),
        planned.shares,
        tuple((at[b.value], b.tile_bytes, b.depth, b.fmt, b.pmus) for b in planned.buffers),
        tuple(
            (at[s.value], s.tier, s.is_store, s.total_bytes, s.turn_bytes, s.first_bytes, s.agcus, units[s.units])
            for s in planned.streams
        ),
    )  # fmt: skip
