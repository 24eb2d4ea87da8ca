"""Analysis: along which axes a kernel can be streamed.

Axes of values that walk together form a class: element-wise operands with their result, free axes of a contraction
with the result's, batch axes with one another, and the two that it sums along. A kernel can be cut into tiles along a
class that what it writes has exactly once and that nothing merges or splits: then each turn of the loop makes its own
part of every result, and no turn needs what another made. A contraction along the class adds the part of each turn to
its sums; what is made of these is made once, behind the last turn. Other results that do not have the class are the
same in every turn, made of nothing that walks: they are made once, before the first turn, and stay on chip. What is
loaded from looked-up places walks with what says where; the rest of memory stays where it is, whatever the turn.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Fetch, Kernel, Read, Stage, Write
from rdujax.streams.access import Axes as Walked
from rdujax.streams.access import chain_axes

Axis = tuple[int, int]  # (value, axis)


@dataclass(frozen=True)
class Way:
    """A class of axes that a kernel can be cut along. sums, late: see `Tiling`."""

    length: int
    members: frozenset[Axis]
    sums: frozenset[int] = frozenset()
    late: frozenset[int] = frozenset()


class _Classes:
    """Union-find over axes; a class is blocked where tiling along it would cut what must stay whole."""

    def __init__(self) -> None:
        self.parent: dict[Axis, Axis] = {}
        self.blocked: set[Axis] = set()

    def find(self, axis: Axis) -> Axis:
        parent = self.parent
        parent.setdefault(axis, axis)
        while parent[axis] != axis:
            parent[axis] = axis = parent[parent[axis]]  # shorter for the next one
        return axis

    def join(self, a: Axis, b: Axis) -> None:
        root_a, root_b = self.find(a), self.find(b)
        self.parent[root_b] = root_a

    def block(self, axis: Axis) -> None:
        self.blocked.add(axis)


def streamable(graph: Graph, kernel: Kernel) -> tuple[Way, ...]:
    """The classes along which the kernel can be cut, longest first.

    Of equal length, in the order in which the stages come to them: the same for kernels that do the same.
    """
    classes = _Classes()
    for fetch in kernel.fetches:
        _relate_places(graph, classes, fetch)
    for stage in kernel.stages:
        _relate(graph, classes, stage)
    for write in kernel.writes:
        if write.update is not None:
            _relate_update(graph, classes, write)
            continue
        delivered = _delivered(graph, classes, write.read)
        # The axes of a written value are kept apart from those of what it is read from, perhaps under a pattern.
        for i, axis in enumerate(delivered):
            if axis is not None and write.value != write.read.value:
                classes.join((write.value, i), axis)
            elif axis is None:
                classes.block((write.value, i))
    members: dict[Axis, set[Axis]] = defaultdict(set)
    for axis in list(classes.parent):
        members[classes.find(axis)].add(axis)
    found = []
    for group in members.values():
        value, axis = min(group)
        length = graph.types[value].shape[axis]
        if length > 1 and not group & classes.blocked:
            parts = _parts(graph, kernel, group)
            found += [] if parts is None else [Way(length, frozenset(group), *parts)]
    return tuple(sorted(found, key=lambda way: -way.length))


def walk_alike(kernel: Kernel, several: Sequence[Way]) -> bool:
    """Whether the same results walk along all of these classes, so that all the others are made once."""
    made = {stage.result for stage in kernel.stages}
    return len({frozenset(made & {v for v, _ in way.members}) for way in several}) <= 1


def _parts(graph: Graph, kernel: Kernel, group: set[Axis]) -> tuple[frozenset[int], frozenset[int]] | None:
    """What is summed along a class, and what is made of that; None where the kernel cannot be cut along it."""
    walking = {v for v, _ in group}
    if len(walking) < len(group):  # a value that has it twice
        return None
    sums: set[int] = set()
    late: set[int] = set()
    for stage in kernel.stages:
        read = {read.value for read in stage.reads}
        is_late, summed = not read.isdisjoint(sums | late), _summed(graph, stage)
        if stage.result in walking:
            if is_late or not group.isdisjoint(summed):
                return None
        elif read & walking:
            if not summed or not group.issuperset(summed):
                return None
            sums.add(stage.result)
        elif is_late:
            late.add(stage.result)
    made = sums | late
    if any(place.value in made for fetch in kernel.fetches for place in fetch.places):
        return None
    behind: set[int] = set()
    for write in kernel.writes:
        over = None if write.update is None else write.update.over
        if write.read.value in made:
            behind.add(write.value)
        elif write.walking not in walking or over in behind or any(place.value in made for place in write.places):
            return None
    return frozenset(sums), frozenset(late)


def _summed(graph: Graph, stage: Stage) -> list[Axis | None]:
    """The axes that a stage can add up along turn by turn, one for each operand; None for a mixture of several."""
    found: list[Axis | None] = []
    axes = stage.op.sums(*(read.shape(graph) for read in stage.reads))
    for read, axis in zip(stage.reads, axes, strict=bool(axes)):
        walked, _ = chain_axes(read.chain, graph.types[read.value].shape)
        own = walked[axis]
        found.append(None if own is None else (read.value, own))
    return found


def _delivered(graph: Graph, classes: _Classes, read: Read) -> tuple[Axis | None, ...]:
    axes, merged = chain_axes(read.chain, graph.types[read.value].shape)
    for axis in merged:
        classes.find((read.value, axis))
        classes.block((read.value, axis))
    return tuple(None if a is None else (read.value, a) for a in axes)


def _relate(graph: Graph, classes: _Classes, stage: Stage) -> None:
    walks = stage.op.walks(*(read.shape(graph) for read in stage.reads))
    summed = [axis for axis in _summed(graph, stage) if axis is not None]
    summed = summed if len(summed) == len(stage.reads) else []
    for axis in summed[1:]:
        classes.join(summed[0], axis)
    _join(graph, classes, stage.result, stage.reads, walks, summed)
    walked = {along for axes in walks for along in axes}
    for i in range(len(graph.types[stage.result].shape)):
        if i not in walked:
            classes.block((stage.result, i))


def _relate_places(graph: Graph, classes: _Classes, fetch: Fetch) -> None:
    walks = fetch.walks(graph)
    _join(graph, classes, fetch.value, fetch.places, walks)
    walked = {along for axes in walks for along in axes}
    for i in range(len(graph.types[fetch.value].shape)):
        if fetch.slice_bytes and i not in walked:  # within a slice that is too small to be cut
            classes.block((fetch.value, i))


def _relate_update(graph: Graph, classes: _Classes, write: Write) -> None:
    """An update is written in parts, each to its own places, but for what the order of writing matters for."""
    for i, axis in enumerate(_delivered(graph, classes, write.read)):
        if axis is not None:
            classes.find(axis)
            if write.is_whole_along(graph, i):
                classes.block(axis)
    for place in write.places:
        for axis in _delivered(graph, classes, place):
            if axis is not None:
                classes.find(axis)
                classes.block(axis)


def _join(
    graph: Graph,
    classes: _Classes,
    result: int,
    reads: Sequence[Read],
    walks: Sequence[Walked],
    summed: Sequence[Axis] = (),
) -> None:
    """Joins the axes of what is read with those of the result that they walk along; blocks what is not summed."""
    for i in range(len(graph.types[result].shape)):
        classes.find((result, i))
    for read, axes in zip(reads, walks, strict=True):
        for axis, along in zip(_delivered(graph, classes, read), axes, strict=True):
            if axis is None:
                continue
            if along is not None:
                classes.join((result, along), axis)
            elif axis not in summed:
                classes.find(axis)
                classes.block(axis)
