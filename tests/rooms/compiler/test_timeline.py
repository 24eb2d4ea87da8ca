"""Traces add up: what is read back from the files equals the cost, turn for turn and byte for byte."""

import errno
import gzip
import json
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.compiler import files, timeline, tracefile
from rdujax.compiler.counters import turn_bytes
from rdujax.estimate.pipeline import pipeline_of
from rdujax.ledger.timetable import schedule
from tests.rooms.compiler.samples import samples, small

FUSIONS = ("none", "streaming")
MONARCH = samples()[0]


def compiled(sample=MONARCH, fusion="streaming", machine=None, **choices):
    return rdu.compile(sample.fn, *sample.args, machine=machine or small(), fusion=fusion, **choices)


def long_stream(rows: int = 1024):
    """A kernel of rows / 4 * 4 turns on a machine whose buffers hold one tile of four elements."""
    machine = rdu.machines.tiny().replace({"pmu.capacity_bytes": 8, "pmu.count": 4})
    return rdu.compile(lambda x: jnp.tanh(x) + x, jax.ShapeDtypeStruct((rows, 4), jnp.bfloat16), machine=machine)


def chrome(path):
    """(slices by track, counters by name) of a Chrome trace; a track is (process, thread), both by name."""
    opened = gzip.open(path) if path.name.endswith(".gz") else path.open("rb")
    with opened as file:
        events = json.load(file)["traceEvents"]
    names = {
        (e["name"], e["pid"], e.get("tid")): e["args"]["name"] for e in events if e["ph"] == "M" and "name" in e["args"]
    }
    slices, counters = defaultdict(list), defaultdict(list)
    for e in events:
        process = names["process_name", e["pid"], None]
        if e["ph"] == "X":
            track = process, names["thread_name", e["pid"], e["tid"]]
            slices[track].append((e["name"], e["ts"], e["ts"] + e["dur"], e["args"]))
        elif e["ph"] == "C":
            [value] = e["args"].values()
            counters[process, e["name"]].append((e["ts"], value))
    return dict(slices), dict(counters)


def perfetto(path):
    """The same of a Perfetto trace, its nanoseconds in cycles."""
    protos = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    tracks, slices, counters, opened = {}, defaultdict(list), defaultdict(list), {}
    for packet in protos.Trace.FromString(path.read_bytes()).packet:
        if packet.HasField("track_descriptor"):
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            continue
        event = packet.track_event
        track = tracks[event.track_uuid]
        name = tracks[track.parent_uuid].name, track.name
        cycle, rest = divmod(packet.timestamp, 1000)
        assert rest == 0
        if event.type == event.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in opened
            values = {a.name: a.int_value or a.double_value or a.string_value for a in event.debug_annotations}
            opened[event.track_uuid] = event.name, cycle, values
        elif event.type == event.TYPE_SLICE_END:
            begun, start, values = opened.pop(event.track_uuid)
            slices[name].append((begun, start, cycle, values))
        else:
            value = event.counter_value if event.HasField("counter_value") else event.double_counter_value
            counters[name].append((cycle, value))
    assert not opened
    return dict(slices), dict(counters)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("sample", samples(), ids=str)
def test_a_trace_adds_up_to_the_cost(sample, fusion, tmp_path):
    program = compiled(sample, fusion)
    cost = program.cost()
    slices, counters = chrome(program.timeline().save(tmp_path / "trace.json"))
    ends = [finish for track in slices.values() for _, _, finish, _ in track]
    clock = program.machine.clock_hz.value
    assert max(ends) == cost.cycles + cost.launch_s * clock
    for track in slices.values():
        assert all(before[2] <= after[1] for before, after in zip(track, track[1:], strict=False))
    for planned in program.plan.kernels:
        pipeline = pipeline_of(program.graph, planned, program.machine)
        for stage in pipeline.stages:
            busy = stage.first_cycles + (planned.tiling.turns * stage.repeats - 1) * stage.service_cycles
            [drawn] = (
                [
                    t
                    for (kernel, name), t in slices.items()
                    if kernel == f"kernel {planned.kernel.name}" and name.startswith(f"{stage.name} (")
                ]
                if busy
                else [[]]
            )
            assert sum(finish - start for _, start, finish, _ in drawn) == busy
            assert sum(args["cycles"] for *_, args in drawn) == busy
        for buffer in planned.buffers:
            [samples_] = [
                c
                for (kernel, name), c in counters.items()
                if kernel == f"kernel {planned.kernel.name}" and name.startswith(f"buffer {buffer.label},")
            ]
            held = [tiles for _, tiles in samples_]
            assert max(held) <= buffer.depth and min(held) == held[-1] == 0 < max(held)
    [moved] = [c for (_, name), c in counters.items() if name.startswith("hbm")]
    reach = program.machine.hbm.bandwidth_bytes_per_s.value / 1e9
    assert max(rate for _, rate in moved) <= reach * (1 + 1e-9)
    integral = sum(rate * (after - at) for (at, rate), (after, _) in zip(moved, moved[1:], strict=False))
    assert integral / clock * 1e9 == pytest.approx(cost.moved_bytes("hbm"), rel=1e-9)


def test_both_formats_tell_the_same(tmp_path):
    shown = compiled(fusion="none").timeline()
    slices, counters = chrome(shown.save(tmp_path / "trace.json"))
    assert chrome(shown.save(tmp_path / "trace.json.gz")) == (slices, counters)
    for suffix in (".pftrace", ".perfetto-trace"):
        assert perfetto(shown.save(tmp_path / f"trace{suffix}")) == (slices, counters)
    assert len(slices) > 4 and len(counters) > 4
    cut = long_stream().timeline(turns=3)
    assert perfetto(cut.save(tmp_path / "cut.pftrace")) == chrome(cut.save(tmp_path / "cut.json"))


def test_every_wait_has_a_cause_that_ended_when_the_turn_began():
    kernel = compiled(samples()[2]).timeline().kernels[0]
    ends = {track.name: set(track.finish_cycles.tolist()) for track in kernel.tracks}
    waits = 0
    for track in kernel.tracks:
        assert ((track.waited_cycles > 0) == (track.cause >= 0)).all()
        for cause, start in zip(track.cause, track.start_cycles, strict=True):
            if cause >= 0:
                waits += 1
                assert (
                    int(start)
                    in ends[track.causes[cause].removeprefix("a tile of ").removeprefix("a free slot, full for ")]
                )
        worked = int((track.finish_cycles - track.start_cycles).sum())
        assert worked + int(track.waited_cycles.sum()) <= kernel.cycles
    assert waits > 0


def test_a_full_buffer_holds_its_producer_back():
    [kernel] = long_stream(8).timeline().kernels
    load, work, _ = kernel.tracks
    assert kernel.waits()["load x", "a free slot, full for tanh+add"] > 0
    # Two slots: from its third turn on, the load starts when the turn two before it has been worked off.
    assert load.start_cycles[2:].tolist() == work.finish_cycles[:-2].tolist()


def test_occupancy_counts_slots_that_are_taken_at_each_cycle():
    [kernel] = long_stream(8).timeline().kernels
    load, work, _ = kernel.tracks
    counter = kernel.buffers[0]
    for cycle in range(kernel.cycles):
        taken = sum(a <= cycle < b for a, b in zip(load.start_cycles, work.finish_cycles, strict=True))
        assert counter.values[np.searchsorted(counter.times_cycles, cycle, side="right") - 1] == taken


def test_kernels_follow_one_another_after_their_launches():
    program = compiled(fusion="none", orchestration="software")
    shown, cost = program.timeline(), program.cost()
    now = 0
    for kernel, priced in zip(shown.kernels, cost.kernels, strict=True):
        assert list(kernel.launch) == ["host", "program", "argument", "execute"]
        assert kernel.launch_cycles == priced.launch_s * program.machine.clock_hz.value
        assert (kernel.begin_cycles, kernel.cycles) == (now + kernel.launch_cycles, priced.cost.cycles)
        now = kernel.begin_cycles + kernel.cycles
    assert shown.cycles == now


def test_launches_of_a_fraction_of_a_cycle_stay_exact(tmp_path):
    program = compiled(fusion="none", machine=small().replace({"clock_hz": 1_234_567}))
    shown, cost = program.timeline(), program.cost()
    assert isinstance(shown.cycles, Fraction)
    assert shown.cycles == (cost.run_s + cost.launch_s) * 1_234_567
    slices, _ = chrome(shown.save(tmp_path / "trace.json"))
    for track in slices.values():
        assert all(before[2] <= after[1] for before, after in zip(track, track[1:], strict=False))
    turns = [s for (process, _), track in slices.items() if process.startswith("kernel ") for s in track]
    assert all(finish - start == args["cycles"] for _, start, finish, args in turns)


def test_only_the_ends_of_a_long_stream_are_drawn_and_the_gap_is_marked(tmp_path):
    program = long_stream()
    [whole], [ends] = program.timeline().kernels, program.timeline(turns=3).kernels
    assert (ends.turns, ends.hidden_turns, ends.cycles) == (1024, 1018, whole.cycles)
    slices, counters = chrome(program.timeline(turns=3).save(tmp_path / "trace.json"))
    for all_turns, few in zip(whole.tracks, ends.tracks, strict=True):
        [drawn] = [t for (_, name), t in slices.items() if name.startswith(f"{few.name} (")]
        assert [name for name, *_ in drawn] == [f"turn {t}" for t in (0, 1, 2)] + ["1,018 turns not drawn"] + [
            f"turn {t}" for t in (1021, 1022, 1023)
        ]
        assert few.start_cycles.tolist() == all_turns.start_cycles[[0, 1, 2, -3, -2, -1]].tolist()
        assert all(before[2] <= after[1] for before, after in zip(drawn, drawn[1:], strict=False))
    assert max(map(len, counters.values())) < 60
    begin, end = (kernel_at + ends.begin_cycles for kernel_at in ends.gap)
    assert end - begin > ends.cycles // 2
    text = f"1,018 turns of kernel {ends.name} not drawn, counters at 0"
    groups = {process for process, _ in slices}
    assert len(groups) == 2
    assert {group: slices[group, "not drawn"] for group in groups} == {
        group: [(text, begin, end, {"cycles": str(end - begin), "ns": (end - begin) * 1000})] for group in groups
    }
    every = chrome(program.timeline().save(tmp_path / "whole.json"))[1]
    for name, samples_ in counters.items():
        assert [value for at, value in samples_ if begin <= at < end] == [0]
        assert dict(samples_).items() >= {s for s in every[name] if not begin <= s[0] <= end}
        times, values = zip(*every[name], strict=True)
        assert dict(samples_)[end] == values[np.searchsorted(times, end, side="right") - 1]
        assert max(values[np.searchsorted(times, begin, side="right") - 1 : np.searchsorted(times, end)]) > 0
    assert program.timeline(turns=512).kernels[0].hidden_turns == 0
    assert "1,018 of them not drawn" in str(program.timeline(turns=3))


def test_waits_are_those_of_all_turns_however_few_are_drawn():
    program = long_stream()
    [whole], [ends] = program.timeline().kernels, program.timeline(turns=1).kernels
    by_hand = {}
    for track in whole.tracks:
        for cause, cycles in zip(track.cause.tolist(), track.waited_cycles.tolist(), strict=True):
            if cause >= 0:
                by_hand[track.name, track.causes[cause]] = by_hand.get((track.name, track.causes[cause]), 0) + cycles
    assert ends.waits() == whole.waits() == by_hand
    assert max(by_hand.values()) > 1000
    few, all_ = str(program.timeline(turns=1)).splitlines(), str(program.timeline()).splitlines()
    assert [line for line in few if " waits " in line] == [line for line in all_ if " waits " in line] != []


def test_a_gap_that_no_track_shares_leaves_counters_whole():
    def track(gap):
        none = np.array([], np.int64)
        return tracefile.Track("s", "", none, none, none, none, none, gap=gap)

    assert timeline._common_gap([track((3, 9)), track((5, 12))]) == (5, 9)
    assert timeline._common_gap([track((3, 5)), track((5, 12))]) is None
    assert timeline._common_gap([track((3, 5)), track(None)]) is None
    counter = tracefile.Counter("c", "tiles", np.array([2, 6, 8]), np.array([1, 2, 3]))

    def samples_(gap):
        cut = timeline._outside(counter, gap)
        return list(zip(cut.times_cycles.tolist(), cut.values.tolist(), strict=True))

    assert samples_(None) == [(2, 1), (6, 2), (8, 3)]
    assert samples_((3, 7)) == [(2, 1), (3, 0), (7, 2), (8, 3)]
    assert samples_((2, 8)) == [(2, 0), (8, 3)]
    assert samples_((0, 1)) == [(0, 0), (1, 0), (2, 1), (6, 2), (8, 3)]


def test_what_stays_on_chip_is_held_once_until_its_last_reader_ends():
    struct = jax.ShapeDtypeStruct((64, 16), jnp.bfloat16)
    square, row = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((16, 16), (16,)))
    program = rdu.compile(
        lambda x, w, b: jnp.tanh(jnp.tanh(x @ w) @ w + b[None]) @ w, struct, square, row,
        machine=small().replace({"pmu.count": 40, "pcu.count": 40}), fusion=rdu.cut_after(),
    )  # fmt: skip
    [planned], [kernel] = program.plan.kernels, program.timeline().kernels
    stay = [b for b in planned.buffers if b.value in planned.tiling.resident]
    assert stay and planned.tiling.turns > 1 and {b.depth for b in stay} == {1}
    times = schedule(pipeline_of(program.graph, planned, program.machine), planned.tiling.turns)
    for buffer in stay:
        readers = [e.consumer for e in times.pipeline.edges if e.producer == f"load {buffer.label}"]
        [counter] = [c for c in kernel.buffers if c.name.startswith(f"buffer {buffer.label}, of 1 tile on")]
        assert counter.values.tolist() == [1, 0]
        assert counter.times_cycles.tolist() == [0, max(times.finish[reader][-1] for reader in readers)]
    assert len({len([e for e in times.pipeline.edges if e.producer == f"load {b.label}"]) for b in stay}) > 1


@pytest.mark.parametrize("turns", [0, -1, 1.5, True])
def test_a_number_of_turns_that_is_none_is_refused(turns):
    with pytest.raises(rdu.ArgumentError, match="turns to keep at each end"):
        compiled().timeline(turns=turns)


def test_more_than_a_viewer_shows_is_refused_with_what_fits(monkeypatch):
    monkeypatch.setattr(timeline, "MOST_DRAWN", 1000)
    with pytest.raises(rdu.ArgumentError, match="turns=166") as error:
        long_stream().timeline()
    assert "3,072" in str(error.value) and "1,000" in str(error.value)
    assert long_stream().timeline(turns=166).kernels[0].hidden_turns == 1024 - 332
    monkeypatch.setattr(timeline, "MOST_TIMED", 2000)
    with pytest.raises(rdu.ArgumentError, match="fit in memory"):
        long_stream().timeline(turns=3)


def test_the_summary_names_the_longest_waits_first():
    shown = long_stream(64).timeline()
    waits = list(shown.kernels[0].waits().values())
    assert waits == sorted(waits, reverse=True)
    text = str(shown)
    assert (
        f"{shown.cycles:,} cycles" in text and "load x waits" in text and "for a free slot, full for tanh+add" in text
    )


@pytest.mark.parametrize("turns", [1, 2, 7])
@pytest.mark.parametrize("is_store", [False, True])
def test_bytes_of_turns_sum_to_the_stream(turns, is_store):
    stream = rdu.compile(MONARCH.fn, *MONARCH.args, machine=small()).plan.kernels[0].streams[0]
    first = 100 if turns == 1 else 30
    stream = type(stream)("s", 0, "hbm", is_store, 100, -(-100 // turns), first, 1, "s")
    moved = turn_bytes(stream, turns)
    assert moved.shape == (turns,) and moved.sum() == 100
    assert is_store or moved[0] == first
    assert np.ptp(moved[1:] if turns > 1 and not is_store else moved) <= 1


def test_a_file_without_a_format_is_refused(tmp_path):
    with pytest.raises(rdu.ArgumentError, match=r"no trace format has this suffix[\s\S]*\.pftrace"):
        compiled().timeline().save(tmp_path / "trace.txt")
    with pytest.raises(rdu.ArgumentError, match="no folder to write the file into"):
        compiled().timeline().save(tmp_path / "nowhere" / "trace.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["TRACE.JSON", "Trace.Json.GZ"])
def test_suffixes_are_read_in_any_case(name, tmp_path):
    path = compiled().timeline().save(tmp_path / name)
    assert path == tmp_path / name and (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith("GZ")


@pytest.mark.parametrize("path", [None, 3, b"trace.json", "", "a\0b.json"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(rdu.ArgumentError, match="no path to write a file to") as error:
        compiled().timeline().save(path)
    assert repr(path) in str(error.value)


def test_where_no_file_can_be_written_the_users_path_is_named(tmp_path):
    taken, long = tmp_path / "taken.json", tmp_path / f"{'x' * 300}.json"
    taken.mkdir()
    for path, problem in (
        (taken, "a folder where the file would be"),
        (long, "the file cannot be written: File name too long"),
        (Path("/proc/trace.json"), "the file cannot be written: No such file or directory"),
    ):
        with pytest.raises(rdu.ArgumentError, match=problem) as error:
            compiled().timeline().save(path)
        assert f"given:   {path}" in str(error.value) and ".partial" not in str(error.value)
    assert list(tmp_path.iterdir()) == [taken] and list(taken.iterdir()) == []
    assert compiled().timeline().save(tmp_path / f"{'x' * 250}.json").exists()


def test_times_beyond_a_trace_are_refused(tmp_path):
    late = np.array([2**62], np.int64)
    track = tracefile.Track("s", "", late * 0, late - 1, late, late * 0, late * 0 - 1)
    with pytest.raises(rdu.ArgumentError, match="cannot tell times so late"):
        tracefile.write([tracefile.Group("g", 0, (track,))], tmp_path / "trace.json", 1)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(file):
        file.write(b"half")
        raise KeyError("stop")

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(KeyError, match="stop"):
        files.with_whole_file(path, fail)
    with pytest.raises(rdu.ArgumentError, match="cannot be written: No space left on device"):
        files.with_whole_file(path, full)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    files.with_whole_file(path, lambda file: file.write(b"after"))
    assert path.read_bytes() == b"after" and list(tmp_path.iterdir()) == [path]


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".json", ".pftrace"])
def test_a_hundred_thousand_turns_are_written_whole(suffix, tmp_path):
    shown = long_stream(2**15).timeline()
    slices, _ = (chrome if suffix == ".json" else perfetto)(shown.save(tmp_path / f"trace{suffix}"))
    assert sum(len(track) for (process, _), track in slices.items() if process.startswith("kernel ")) == 3 * 2**15


def test_turns_name_the_line_of_their_stage(tmp_path):
    program = rdu.compile(MONARCH.fn, *MONARCH.args, machine=small(), fusion=rdu.cut_after())
    line = MONARCH.fn.__code__.co_firstlineno + 2
    for name, read in (("trace.json", chrome), ("trace.pftrace", perfetto)):
        slices, _ = read(program.timeline().save(tmp_path / name))
        named = {track[1].split(" (")[0]: turns[0][3].get("source") for track, turns in slices.items()}
        assert named["gemm"] == named["store gemm#2"] == f"samples.py:{line}" and named["load x"] is None
