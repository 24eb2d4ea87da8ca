"""Analysis: along which axes a kernel can be streamed.

Axes of values that walk together form a class: element-wise operands with their result, free axes of a contraction
with the result's, batch axes with one another. A kernel can be cut into tiles along a class that all it writes has
exactly once and that nothing contracts, merges or splits: then each turn of the loop makes its own part of every
result, and no turn needs what another made. Results that do not have it are the same in every turn, made of nothing
that walks: they are made once, before the first turn, and stay on chip. What is loaded from looked-up places walks with
what says where; the rest of memory stays where it is, whatever the turn.
"""

from collections import defaultdict
from collections.abc import Sequence

from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Fetch, Kernel, Read, Stage, Write
from rdujax.streams.access import Axes as Walked
from rdujax.streams.access import chain_axes

Axis = tuple[int, int]  # (value, axis)
Axes = tuple[int, frozenset[Axis]]  # a class: its length, its members
# The axes of a written value are kept apart from those of what it is read from: it may be read under a pattern.


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


def streamable(graph: Graph, kernel: Kernel) -> tuple[Axes, ...]:
    """The classes along which the kernel can be cut: (length, members), longest first.

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
        for i, axis in enumerate(delivered):
            if axis is not None and write.value != write.read.value:
                classes.join((write.value, i), axis)
            elif axis is None:
                classes.block((write.value, i))
    members: dict[Axis, set[Axis]] = defaultdict(set)
    for axis in list(classes.parent):
        members[classes.find(axis)].add(axis)
    written = {w.walking for w in kernel.writes}
    found = []
    for group in members.values():
        values = {v for v, _ in group}
        if not written <= values or len(values) < len(group) or group & classes.blocked:  # each of them once
            continue
        value, axis = min(group)
        length = graph.types[value].shape[axis]
        same = [s for s in kernel.stages if s.result not in values]
        if length > 1 and not any(read.value in values for stage in same for read in stage.reads):
            found.append((length, frozenset(group)))
    return tuple(sorted(found, key=lambda f: -f[0]))


def walk_alike(kernel: Kernel, several: Sequence[Axes]) -> bool:
    """Whether the same results walk along all of these classes, so that all the others are made once."""
    made = {stage.result for stage in kernel.stages}
    return len({frozenset(made & {v for v, _ in members}) for _, members in several}) <= 1


def _delivered(graph: Graph, classes: _Classes, read: Read) -> tuple[Axis | None, ...]:
    axes, merged = chain_axes(read.chain, graph.types[read.value].shape)
    for axis in merged:
        classes.find((read.value, axis))
        classes.block((read.value, axis))
    return tuple(None if a is None else (read.value, a) for a in axes)


def _relate(graph: Graph, classes: _Classes, stage: Stage) -> None:
    walks = stage.op.walks(*(read.shape(graph) for read in stage.reads))
    _join(graph, classes, stage.result, stage.reads, walks)
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


def _join(graph: Graph, classes: _Classes, result: int, reads: Sequence[Read], walks: Sequence[Walked]) -> None:
    """Joins the axes of what is read with those of the result that they walk along; blocks the others."""
    for i in range(len(graph.types[result].shape)):
        classes.find((result, i))
    for read, axes in zip(reads, walks, strict=True):
        for axis, along in zip(_delivered(graph, classes, read), axes, strict=True):
            if axis is None:
                continue
            if along is not None:
                classes.join((result, along), axis)
            else:
                classes.find(axis)
                classes.block(axis)
