"""A kernel as data: what it loads, its stages in order, what it writes; no decision yet about units or tiles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from rdujax.graph.graph import NO_PINS, Graph, Node, Pins, T
from rdujax.graph.sources import lines, short
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.op import TensorType, Work
from rdujax.streams.access import Access, Axes, chain_shape


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
        asked, types = self.__dict__.get("_asked", (None, ()))
        if asked is not graph:  # a stage is asked time and again, of the graph that it belongs to
            types = tuple(TensorType(read.shape(graph), graph.types[read.value].fmt) for read in self.reads)
            self.__dict__["_asked"] = graph, types
        return types


@dataclass(frozen=True)
class Fetch:
    """A load of a part of what rests in memory, by addresses that AGCUs generate.

    value: the part, a value of the graph. read: what it is a part of; where `op` is None, the last of its patterns is a
    slice. op: the kind of work that says which slices (a look-up, a slice at a computed place), and places: the
    buffers that say where they begin. slice_bytes: of one slice, where it is less than a request of an AGCU: then
    it is charged whole granules, and no tile cuts it. 0 for larger ones, which are charged their own bytes.
    """

    value: int
    read: Read
    op: OnBuffers | None = None
    places: tuple[Read, ...] = ()
    slice_bytes: int = 0

    def operands(self, graph: Graph) -> tuple[TensorType, ...]:
        """The types of what `op` takes: of the whole, and of the places."""
        return tuple(TensorType(r.shape(graph), graph.types[r.value].fmt) for r in (self.read, *self.places))

    def walks(self, graph: Graph) -> tuple[Axes, ...]:
        """For every axis of every one of the places, the axis of the part that it walks along, or None."""
        return () if self.op is None else self.op.walks(*(o.shape for o in self.operands(graph)))[1:]

    def __str__(self) -> str:
        places = "".join(f", {place}" for place in self.places)
        return f"{self.read}{places}" if self.op is None else f"{self.op} ({self.read}{places})"


@dataclass(frozen=True)
class Update:
    """Where a write goes that is only a part of its value: over a part of what rests in memory.

    over: the value whose place it takes, the rest of which stays as it is. op: the kind of work that overwrites, and
    places: the buffers that say where. slice_bytes: as of a `Fetch`.
    """

    over: int
    op: OnBuffers
    places: tuple[Read, ...] = ()
    slice_bytes: int = 0


@dataclass(frozen=True)
class Write:
    """A value that a kernel leaves in memory, and what it is read from: all of it, or what an update writes."""

    value: int
    read: Read
    update: Update | None = None

    @property
    def places(self) -> tuple[Read, ...]:
        """What says where it goes; nothing where it is a whole value."""
        return () if self.update is None else self.update.places

    @property
    def slice_bytes(self) -> int:
        """See `Update`; 0 for a whole value."""
        return 0 if self.update is None else self.update.slice_bytes

    @property
    def walking(self) -> int:
        """The value that walks along the loops of its kernel: what an update writes has no axis of its own."""
        return self.value if self.update is None else self.read.value

    def kind(self, graph: Graph) -> TensorType:
        """The type of what is written."""
        return TensorType(self.read.shape(graph), graph.types[self.read.value].fmt)

    def is_whole_along(self, graph: Graph, axis: int) -> bool:
        """Whether no tile cuts an axis of what an update writes.

        Small slices are whole. Slices at an array of places are written one after the other, for two may meet: only
        the axes that all of them have whole can be cut without a change of their order.
        """
        if self.update is None:
            return False
        over, places = graph.types[self.update.over].shape, [place.shape(graph) for place in self.places]
        shapes = self.operands(over, self.read.shape(graph), places)
        slices, _ = _update_at(self.update.op, len(shapes))
        in_order = any(places) and self.update.op.walks(*shapes)[slices][axis] is None
        return bool(self.update.slice_bytes) or in_order

    def operands(self, over: T, written: T, places: Sequence[T]) -> list[T]:
        """What the operation of an update takes, in its order."""
        assert self.update is not None
        count = 2 + len(places)
        slices, where = _update_at(self.update.op, count)
        found = {0: over, slices: written} | dict(zip(where, places, strict=True))
        return [found[i] for i in range(count)]

    def __str__(self) -> str:
        if self.update is None:
            return f"%{self.value} <- {self.read}"
        places = "".join(f", {place}" for place in self.places)
        return f"%{self.value} <- {self.read} over a part of %{self.update.over}, {self.update.op}{places}"


def _update_at(op: OnBuffers, count: int) -> tuple[int, tuple[int, ...]]:
    found = op.update_at(count)
    assert found is not None
    return found


@dataclass(frozen=True)
class Kernel:
    """One launch: values loaded, stages in order, values written.

    fetches: what the loads are that are no whole values in memory.
    """

    name: str
    loads: tuple[int, ...]
    stages: tuple[Stage, ...]
    writes: tuple[Write, ...]
    nodes: tuple[Node, ...]
    fetches: tuple[Fetch, ...] = ()

    @cached_property
    def fetched(self) -> dict[int, Fetch]:
        """The fetches by the value that they load."""
        return {fetch.value: fetch for fetch in self.fetches}

    def source(self, value: int) -> int:
        """What a load reads of memory: the value itself, or what it is a part of."""
        fetch = self.fetched.get(value)
        return value if fetch is None else fetch.read.value

    def lines_of(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The user's lines that some of its nodes stem from, by label; () for what is none of its nodes."""
        return lines(self._lines.get(label, "") for label in labels)

    @cached_property
    def where(self) -> str:
        """Its name and its lines, for an error."""
        at = short(self._lines.values())
        return f"kernel {self.name}" + (f", at {at}" if at else "")

    @cached_property
    def _lines(self) -> dict[str, str]:
        return {node.label: node.source for node in self.nodes}

    @cached_property
    def overwritten(self) -> dict[int, int]:
        """For every value that it writes in the place of another: which."""
        return {write.value: write.update.over for write in self.writes if write.update is not None}

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """The values that the kernel reads in memory, each once."""
        return tuple(dict.fromkeys(map(self.source, self.loads)))

    @cached_property
    def in_order(self) -> "tuple[int | Stage, ...]":
        """Loads, as values, and stages, in an order in which all that either reads is there before it."""
        found: list[int | Stage] = [v for v in self.loads if v not in self.fetched or not self.fetched[v].places]
        there = set(found)
        waiting = [fetch for fetch in self.fetches if fetch.places]
        for stage in (*self.stages, None):
            while ready := [f for f in waiting if all(place.value in there for place in f.places)]:
                waiting = [f for f in waiting if f not in ready]
                found += [f.value for f in ready]
                there |= {f.value for f in ready}
            if stage is not None:
                found.append(stage)
                there.add(stage.result)
        return tuple(found)

    def stream_label(self, graph: Graph, value: int, is_store: bool) -> str:
        """What the stream of a value is called in reports and timelines."""
        if is_store:
            over = self.overwritten.get(value)
            return f"store {graph.labels[value]}" + ("" if over is None else f" in {graph.labels[over]}")
        fetch = self.fetched.get(value)
        return f"load {graph.labels[value]}" + ("" if fetch is None else f" of {graph.labels[fetch.read.value]}")


def text(kernel: Kernel) -> str:
    """A kernel as stable text, one stage per line."""
    lines = [f"kernel {kernel.name}", *(load_text(kernel, v) for v in kernel.loads)]
    for s in kernel.stages:
        lines.append(f"  stage %{s.result} = {s.op} ({', '.join(map(str, s.reads))})  # {s.label}")
    return "\n".join([*lines, *(f"  store {w}" for w in kernel.writes)])


def load_text(kernel: Kernel, value: int) -> str:
    """The line of a kernel's text that says what a load is."""
    fetch = kernel.fetched.get(value)
    return f"  load  %{value}" + ("" if fetch is None else f" = {fetch}")
