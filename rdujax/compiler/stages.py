"""Pass: from a set of nodes to one kernel of stages.

Access patterns become the read side of a stage buffer, and chains of element-wise operations with one reader become
one stage. What is a slice of a value that rests in memory, at a fixed, a computed or a looked-up place, is loaded by
itself where that moves fewer bytes; an update whose result takes the place of its operand writes what is new and no
more. None of it changes a bit: patterns move values, and every instruction of a chain still rounds to its format.
"""

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from rdujax.graph.graph import NO_PINS, Graph, Node
from rdujax.graph.kernel import Fetch, Kernel, Read, Stage, Update, Write
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.ops.on_buffers import OnBuffers
from rdujax.streams.access import Detach, Reshape, Slice
from rdujax.units import agcu
from rdujax.units.pcu.expression import compose, share

VIEWS = (Reshape, Slice, Detach)  # patterns that leave what they deliver in the order in which it rests


def form(
    graph: Graph,
    nodes: Sequence[Node],
    name: str,
    materialised: frozenset[int],
    config: agcu.Config,
    in_place: frozenset[int] = frozenset(),
) -> Kernel:
    """The kernel that computes `nodes`.

    materialised: the values that it must leave in memory. in_place: results of updates that take the place of their
    first operand there (see `graph/inplace.py`).
    """
    whole: set[int] = set()
    while True:
        formed = _Formed(graph, nodes, materialised, config, in_place, whole)
        dear = formed.dear()
        if not dear:
            return formed.kernel(name)
        whole |= dear


class _Formed:
    """The nodes of one kernel as stages and loads. whole: values of which no part is loaded by itself."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        materialised: frozenset[int],
        config: agcu.Config,
        in_place: frozenset[int],
        whole: set[int],
    ):
        self.graph, self.nodes, self.config, self.whole = graph, nodes, config, whole
        self.inside = {node.result for node in nodes}
        self.updates: dict[int, Write] = {}
        self.reads: dict[int, Read] = {}  # of a value that is an access pattern away from what is really there
        self.parts: dict[int, Fetch] = {}  # what may be loaded by itself
        stages = []
        for node in nodes:
            operands = tuple(self._resolved(v) for v in node.operands)
            part = self._part(node, operands)
            if part is not None:
                self.parts[node.result] = part
            elif isinstance(node.op, Move):
                self.reads[node.result] = Read(operands[0].value, (*operands[0].chain, node.op.access))
            else:
                if node.result in in_place:
                    self._update(node, operands)
                stages.append(Stage(node.label, node.op, operands, node.result, (node.label,), node.pins))  # type: ignore[arg-type]
        written = sorted(materialised & self.inside | self.updates.keys())
        self.writes = tuple(self.updates.get(v) or Write(v, self._resolved(v)) for v in written)
        kept = {read.value for write in self.writes for read in (write.read, *write.places)}
        kept |= {place.value for part in self.parts.values() for place in part.places}
        self.stages = _chain(self._needed(stages, kept), kept)
        self.loads = self._loads()

    def kernel(self, name: str) -> Kernel:
        """The kernel that they are."""
        fetches = tuple(self.parts[v] for v in self.loads if v in self.parts)
        return Kernel(name, self.loads, tuple(self.stages), self.writes, tuple(self.nodes), fetches)

    def dear(self) -> set[int]:
        """Values whose parts, loaded by themselves, would move as much as the whole or more, or are not all of it."""
        moved: dict[int, int] = defaultdict(int)
        for value in self.loads:
            part = self.parts.get(value)
            if part is not None:
                moved[part.read.value] += self._charged_bytes(part)
        return {
            value for value, amount in moved.items()
            if value in self.loads or amount >= self.graph.types[value].size_bytes
        }  # fmt: skip

    def _resolved(self, value: int) -> Read:
        return self.reads.get(value, Read(value))

    def _part(self, node: Node, operands: Sequence[Read]) -> Fetch | None:
        """What a node takes out of a value in memory; None where it does something else, or takes it of a result."""
        if not operands:
            return None
        read = operands[0]
        outer = self.parts.get(read.value)
        if outer is not None and outer.op is None:  # a part of a part
            read = Read(outer.read.value, (*outer.read.chain, *read.chain))
        is_view = all(isinstance(access, VIEWS) for access in read.chain)
        if read.value in self.inside or read.value in self.whole or not is_view:
            return None
        if isinstance(node.op, Move):
            access = node.op.access
            types = self.graph.types
            cuts = isinstance(access, Slice) and types[node.result].elements < types[node.operands[0]].elements
            return Fetch(node.result, Read(read.value, (*read.chain, access))) if cuts else None
        if not isinstance(node.op, OnBuffers):
            return None
        size_bytes = node.op.slice_bytes(*self.graph.types_of(node.operands))
        if size_bytes is None:
            return None
        small = agcu.small_slice_bytes(self.config, size_bytes)
        return Fetch(node.result, read, node.op, tuple(operands[1:]), small)

    def _update(self, node: Node, operands: Sequence[Read]) -> None:
        """Notes what an update writes, if the value whose place its result takes is in memory, and whole."""
        assert isinstance(node.op, OnBuffers)
        at = node.op.update_at(len(operands))
        over = operands[0]
        if at is None or over.chain or (over.value in self.inside and over.value not in self.updates):
            return
        types = self.graph.types_of(node.operands)
        small = agcu.small_slice_bytes(self.config, node.op.updated_bytes(*types))
        places = tuple(operands[i] for i in at[1])
        self.updates[node.result] = Write(node.result, operands[at[0]], Update(over.value, node.op, places, small))

    def _needed(self, stages: list[Stage], kept: set[int]) -> list[Stage]:
        """The stages without updates that only memory needs, which has them without a stage."""
        read = kept | {part.read.value for part in self.parts.values()}
        found = []
        for stage in reversed(stages):
            if stage.result in self.updates and stage.result not in read:
                continue
            read |= {r.value for r in stage.reads}
            found.append(stage)
        return found[::-1]

    def _charged_bytes(self, part: Fetch) -> int:
        return agcu.charged_bytes(self.config, self.graph.types[part.value].size_bytes, part.slice_bytes)

    def _loads(self) -> tuple[int, ...]:
        """All that is read and not computed, what says where a part begins included."""
        computed = {stage.result for stage in self.stages}
        waiting = [r.value for s in self.stages for r in s.reads]
        waiting += [read.value for w in self.writes for read in (w.read, *w.places)]
        found: dict[int, None] = {}
        while waiting:
            new = list(dict.fromkeys(v for v in waiting if v not in computed and v not in found))
            found |= dict.fromkeys(new)
            waiting = [place.value for v in new if v in self.parts for place in self.parts[v].places]
        return tuple(found)


def _chain(stages: list[Stage], kept: set[int]) -> list[Stage]:
    """The stages, each merged into its reader where that may be; of several that may, the first one first.

    kept: results that are read by others than stages.
    """
    at = {stage.result: i for i, stage in enumerate(stages)}
    now: dict[int, Stage] = dict(enumerate(stages))
    readers: dict[int, list[int]] = defaultdict(list)  # one entry for every read
    for i, stage in now.items():
        for read in stage.reads:
            readers[read.value].append(i)
    waiting = [i for i, stage in now.items() if isinstance(stage.op, Map)]
    while waiting:
        i = heappop(waiting)
        if i not in now or len(readers[now[i].result]) != 1 or now[i].result in kept:
            continue
        [to] = readers[now[i].result]
        merged = _merge(now[i], now[to])
        if merged is None:
            continue
        for old in (now[i], now[to]):
            for read in old.reads:
                readers[read.value].remove(at[old.result])
        del now[i]
        now[to] = merged
        for read in merged.reads:
            readers[read.value].append(to)
            if read.value in at:  # it may have had two readers, which are one now
                heappush(waiting, at[read.value])
    return [now[i] for i in sorted(now)]


def _merge(stage: Stage, reader: Stage) -> Stage | None:
    """The reader with the stage's expression inside; None where one is no map, fixed by hand, or reads by a pattern."""
    if stage.pins != NO_PINS or reader.pins != NO_PINS:
        return None
    if not isinstance(stage.op, Map) or not isinstance(reader.op, Map):
        return None
    position = next(i for i, read in enumerate(reader.reads) if read.value == stage.result)
    if reader.reads[position].chain:
        return None
    expression = compose(reader.op.expression, position, stage.op.expression)
    reads = reader.reads[:position] + stage.reads + reader.reads[position + 1 :]
    distinct = list(dict.fromkeys(reads))
    expression = share(expression, [distinct.index(r) for r in reads])
    members = stage.members + reader.members
    label = "+".join(members)
    return Stage(label, Map(expression), tuple(distinct), reader.result, members)
