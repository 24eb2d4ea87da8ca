"""Trace files that ui.perfetto.dev opens: Perfetto's own protobuf, and the Chrome trace format.

    Group (tracks of slices, counters) --write--> .pftrace, .perfetto-trace | .json, .json.gz

A trace has no unit but time. One cycle is written as one microsecond: whole cycles are whole microseconds in both
formats (the Chrome format counts in them, and its readers truncate fractions), and zooming in on one cycle works.
"""

import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from rdujax.base.errors import ArgumentError, describe
from rdujax.compiler.files import with_whole_file
from rdujax.ledger.numbers import Exact

NS_PER_CYCLE = 1000
LAST_NS = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Track:
    """The turns of one stage.

    name, units: as reports call it, and what it runs on. turns, start_cycles, finish_cycles, waited_cycles: int64
    [drawn], in order of time; a stage waited for `waited_cycles` before the turn. cause: [drawn], what for, as an
    index into `causes`, or -1. gap: from and to which cycle turns are left out, and `hidden_turns` how many.
    waits_cycles: for each of `causes`, the cycles waited for it before all turns, those left out too. slices: how many
    slices the stage makes of a turn; where several, each is drawn by itself, and `slice` [drawn] tells which it is.
    source: the user's lines that the stage stems from, in few words.
    """

    name: str
    units: str
    turns: np.ndarray
    start_cycles: np.ndarray
    finish_cycles: np.ndarray
    waited_cycles: np.ndarray
    cause: np.ndarray
    causes: tuple[str, ...] = ()
    gap: tuple[int, int] | None = None
    hidden_turns: int = 0
    waits_cycles: tuple[int, ...] = ()
    slices: int = 1
    slice: np.ndarray | None = None
    source: str = ""


@dataclass(frozen=True, eq=False)
class Counter:
    """A quantity over time: from each of `times_cycles` (int64 [samples], rising) on it has the value beside it."""

    name: str
    unit: str
    times_cycles: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Tracks and counters that are shown together, `begin_cycles` after the trace begins.

    named: further tracks by title, shown first, their slices as (name, from, to) in cycles of the trace. counters: by
    name the parts that follow one another, each with the cycle at which it begins.
    """

    title: str
    begin_cycles: Exact
    tracks: tuple[Track, ...] = ()
    counters: tuple[tuple[str, list[tuple[Exact, Counter]]], ...] = ()
    named: Mapping[str, Sequence[tuple[str, Exact, Exact]]] = field(default_factory=dict)


class _Slice(NamedTuple):
    name: str
    start: int
    finish: int
    args: dict[str, Any]


def write(groups: list[Group], path: Path, clock_hz: Exact) -> Path:
    """Writes groups as a trace in the format of the path's suffix; the file appears complete or not at all.

    Raises ArgumentError for a suffix without a format, without the package `perfetto` where it is needed, and for
    times beyond a trace's 64 bits.
    """
    formats: dict[str, Callable[[list[Group], float, IO[bytes]], None]] = {
        ".pftrace": _write_perfetto,
        ".perfetto-trace": _write_perfetto,
        ".json": _write_chrome,
        ".json.gz": _write_chrome_zipped,
    }
    suffix = next((s for s in formats if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise ArgumentError(
            describe("no trace format has this suffix", given=repr(path.name), allowed=", ".join(formats))
        )
    last = max(
        (int(t.finish_cycles.max()) + g.begin_cycles for g in groups for t in g.tracks if t.turns.size), default=0
    )
    if last * NS_PER_CYCLE > LAST_NS:
        raise ArgumentError(
            describe(
                "a trace cannot tell times so late",
                given=f"{floor(last):,} cycles",
                allowed=f"{LAST_NS // NS_PER_CYCLE:,} cycles",
                do="look at fewer turns or kernels",
            )
        )
    with_whole_file(path, lambda file: formats[suffix](groups, 1e9 / float(clock_hz), file))
    return path


def _slices(group: Group, track: Track, ns_per_cycle: float) -> Iterator[_Slice]:
    """The slices of a track in order, in whole cycles of the trace; the gap is one of them."""
    gap = track.gap
    columns = (track.start_cycles, track.finish_cycles, track.waited_cycles, track.cause)
    rows = zip(_names(track), *(column.tolist() for column in columns), strict=True)
    for name, start, finish, waited, cause in rows:
        if gap is not None and start >= gap[1]:
            yield _slice(group.begin_cycles, f"{track.hidden_turns:,} turns not drawn", gap[0], gap[1], {})
            gap = None
        args: dict[str, Any] = {"cycles": finish - start, "ns": round((finish - start) * ns_per_cycle, 3)}
        if track.source:
            args["source"] = track.source
        if cause >= 0:
            args |= {"waited_cycles": waited, "waited_for": track.causes[cause]}
        yield _slice(group.begin_cycles, name, start, finish, args)


def _names(track: Track) -> Iterator[str]:
    """What the turns of a track are called: "turn 3", or "turn 3, slice 0 of 16"."""
    if track.slice is None or track.slices == 1:
        return (f"turn {turn}" for turn in track.turns.tolist())
    pairs = zip(track.turns.tolist(), track.slice.tolist(), strict=True)
    return (f"turn {turn}, slice {at} of {track.slices}" for turn, at in pairs)


def _slice(begin: Exact, name: str, start: Exact, finish: Exact, args: dict[str, Any]) -> _Slice:
    return _Slice(name, floor(begin + start), floor(begin + finish), args)


def _rows(group: Group, ns_per_cycle: float) -> Iterator[tuple[str, Iterator[_Slice]]]:
    """The tracks of a group by title, named slices first."""
    for title, slices in group.named.items():
        yield (
            title,
            (
                _slice(0, name, a, b, {"cycles": str(b - a), "ns": round(float(b - a) * ns_per_cycle, 3)})
                for name, a, b in slices
            ),
        )
    for track in group.tracks:
        yield f"{track.name} ({track.units})", _slices(group, track, ns_per_cycle)


def _samples(parts: list[tuple[Exact, Counter]]) -> Iterator[tuple[int, int | float]]:
    for begin, counter in parts:
        for at, value in zip(counter.times_cycles.tolist(), counter.values.tolist(), strict=True):
            yield floor(begin + at), value


def _write_chrome(groups: list[Group], ns_per_cycle: float, file: IO[bytes]) -> None:
    """The Chrome trace format: a process for each group, a thread for each track; `ts` and `dur` in microseconds."""
    text = io.TextIOWrapper(file, encoding="utf-8")
    meaning = json.dumps({"shown as 1 us": "1 cycle", "ns per cycle": ns_per_cycle})
    text.write(f'{{"displayTimeUnit":"ns","otherData":{meaning},"traceEvents":[')
    separator = "\n"
    for event in _chrome_events(groups, ns_per_cycle):
        text.write(separator + json.dumps(event, separators=(",", ":")))
        separator = ",\n"
    text.write("\n]}\n")
    text.flush()
    text.detach()


def _write_chrome_zipped(groups: list[Group], ns_per_cycle: float, file: IO[bytes]) -> None:
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as zipped:
        _write_chrome(groups, ns_per_cycle, zipped)  # type: ignore[arg-type]


def _chrome_events(groups: list[Group], ns_per_cycle: float) -> Iterator[dict[str, Any]]:
    for pid, group in enumerate(groups, 1):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": group.title}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
        for tid, (title, slices) in enumerate(_rows(group, ns_per_cycle), 1):
            yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": title}}
            yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}
            for s in slices:
                place = {"pid": pid, "tid": tid, "ts": s.start, "dur": s.finish - s.start}
                yield {"ph": "X", "name": s.name, **place, "args": s.args}
        for name, parts in group.counters:
            for at, value in _samples(parts):
                yield {"ph": "C", "pid": pid, "name": name, "ts": at, "args": {parts[0][1].unit: value}}


def _write_perfetto(groups: list[Group], ns_per_cycle: float, file: IO[bytes]) -> None:
    """Perfetto's own format: a track with children for each group, kept in order; times in nanoseconds."""
    try:
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
    except ImportError:
        raise ArgumentError(
            describe("Perfetto's own format needs the package perfetto", do="pip install perfetto, or write .json")
        ) from None
    _Perfetto(StreamingTraceProtoBuilder(file)).groups(groups, ns_per_cycle)


class _Perfetto:
    """Packets of one trace, through the package's builder; tracks are numbered, and ordered, as they are made."""

    def __init__(self, builder: Any) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

        self.builder, self.protos, self.uuid = builder, protos, 0

    def groups(self, groups: list[Group], ns_per_cycle: float) -> None:
        root = 0
        for group in groups:
            # All other groups hang on the first, for only the order of a track's children can be fixed.
            parent = self._track(group.title, root)
            root = root or parent
            for title, slices in _rows(group, ns_per_cycle):
                uuid = self._track(title, parent)
                for s in slices:
                    self._begin(uuid, s)
                    self._event(uuid, s.finish, self.protos.TrackEvent.TYPE_SLICE_END)
            for name, parts in group.counters:
                self._counter(name, parent, parts)

    def _packet(self) -> Any:
        packet = self.builder.create_packet()
        packet.trusted_packet_sequence_id = 1
        return packet

    def _track(self, name: str, parent: int, unit: str = "") -> int:
        self.uuid += 1
        packet = self._packet()
        track = packet.track_descriptor
        track.uuid = track.sibling_order_rank = self.uuid
        track.name = name
        track.child_ordering = self.protos.TrackDescriptor.EXPLICIT
        if parent:
            track.parent_uuid = parent
        if unit:
            track.counter.unit_name = unit
        self.builder.write_packet(packet)
        return self.uuid

    def _event(self, uuid: int, at: int, kind: int, **more: Any) -> None:
        packet = self._packet()
        packet.timestamp = at * NS_PER_CYCLE
        event = packet.track_event
        event.type, event.track_uuid = kind, uuid
        for name, value in more.items():
            setattr(event, name, value)
        self.builder.write_packet(packet)

    def _begin(self, uuid: int, piece: _Slice) -> None:
        packet = self._packet()
        packet.timestamp = piece.start * NS_PER_CYCLE
        event = packet.track_event
        event.type, event.track_uuid, event.name = self.protos.TrackEvent.TYPE_SLICE_BEGIN, uuid, piece.name
        for name, value in piece.args.items():
            note = event.debug_annotations.add()
            note.name = name
            if isinstance(value, str):
                note.string_value = value
            elif isinstance(value, int):
                note.int_value = value
            else:
                note.double_value = value
        self.builder.write_packet(packet)

    def _counter(self, name: str, parent: int, parts: list[tuple[Exact, Counter]]) -> None:
        uuid = self._track(name, parent, parts[0][1].unit)
        for at, value in _samples(parts):
            kind = "counter_value" if isinstance(value, int) else "double_counter_value"
            self._event(uuid, at, self.protos.TrackEvent.TYPE_COUNTER, **{kind: value})
