"""Timelines of kernels whose loads stream by: slices are counted, and a stream that waits names the one ahead of it."""

import json
from collections import Counter
from itertools import pairwise

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.compiler import timeline
from rdujax.compiler.tracefile import Track
from rdujax.estimate.pipeline import pipeline_of
from rdujax.estimate.queues import queues
from rdujax.graph.plan import PlannedKernel
from rdujax.ledger import makespan_cycles
from tests.rooms.compiler.kernels import kind, machines, planned_kernels
from tests.rooms.compiler.samples import mlp


def decoding() -> rdu.Program:
    """One row through a gated MLP: a kernel of one turn, whose weights stream by."""
    shapes = [(1, 512), (512, 1024), (512, 1024), (1024, 512)]
    return rdu.compile(mlp, *(jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes), machine="sn40l")


def causes(track: Track) -> list[str]:
    """What the drawn turns of a track waited for, "" where they did not."""
    return [track.causes[cause] if cause >= 0 else "" for cause in track.cause.tolist()]


def test_slices_are_counted_and_the_stream_whose_turn_it_is_is_named(tmp_path):
    program = decoding()
    [planned], [kernel] = program.plan.kernels, program.timeline().kernels
    assert planned.tiling.in_turn
    track = {t.name: t for t in kernel.tracks}
    [queue] = queues(planned).values()
    loads = [stream for stream in queue if not stream.is_store]
    assert [s.label for s in loads] == ["load x", "load gate", "load up", "load down"]
    for before, after in pairwise(loads):
        assert causes(track[after.label])[0] == f"the turn of {before.label}"
        assert track[after.label].start_cycles[0] == track[before.label].finish_cycles[-1]
    by = [s for s in loads if planned.tiling.slices(s.value) > 1]
    assert len(by) >= 2
    for stream in by:
        [reader] = [s for s in planned.kernel.stages if any(r.value == stream.value for r in s.reads)]
        assert causes(track[reader.label])[0] == f"a slice of {stream.label}"
        assert track[reader.label].slices == track[stream.label].slices == planned.tiling.slices(stream.value)
        [counter] = [c for c in kernel.buffers if c.name.startswith(f"buffer {stream.label.removeprefix('load ')},")]
        assert counter.unit == "slices" and " slices on " in counter.name and counter.values[-1] == 0
    most = max(planned.tiling.slices(s.value) for s in loads)
    assert f"1 turn of up to {most} slices" in str(program.timeline())
    events = json.loads(program.timeline().save(tmp_path / "trace.json").read_text())["traceEvents"]
    names = Counter(e["name"] for e in events if e["ph"] == "X")
    for t in kernel.tracks:
        for at in range(t.slices):
            assert names[f"turn 0, slice {at} of {t.slices}" if t.slices > 1 else "turn 0"] > 0


def staying(planned: PlannedKernel) -> set[str]:
    """Loads that stay on chip: they take no time after the first turn, which is what is drawn."""
    return {s.label for s in planned.streams if not s.turn_bytes}


def test_of_slices_whole_turns_are_left_out():
    seen = 0
    for seed in range(4):
        for machine in machines()[:2]:
            for graph, planned in planned_kernels(seed, machine):
                turns, slices = planned.tiling.turns, planned.tiling.slices
                if kind(planned.tiling) != "by slices, many turns" or turns < 3:
                    continue
                seen += 1
                exact = makespan_cycles(pipeline_of(graph, planned, machine), turns)
                whole, ends = (timeline._kernel(graph, planned, machine, {}, 0, keep) for keep in (None, 1))
                assert whole.cycles == ends.cycles == exact and whole.waits() == ends.waits()
                stages = {s.label: s.result for s in planned.kernel.stages}
                stages |= {s.label: s.value for s in planned.streams if not s.is_store}
                for every, few in zip(whole.tracks, ends.tracks, strict=True):
                    n = slices(stages[every.name]) if every.name in stages else 1
                    assert (every.slices, few.hidden_turns) == (n, turns - 2)
                    if every.name in staying(planned):
                        continue
                    assert every.turns.tolist() == [t for t in range(turns) for _ in range(n)]
                    assert few.turns.tolist() == [0] * n + [turns - 1] * n
                    assert every.slice is not None and every.slice.tolist() == list(range(n)) * turns
    assert seen > 10


def test_slices_count_for_what_a_viewer_shows(monkeypatch):
    program = decoding()
    [kernel] = program.timeline().kernels
    drawn = sum(track.turns.size for track in kernel.tracks)
    assert drawn > len(kernel.tracks)
    monkeypatch.setattr(timeline, "MOST_DRAWN", drawn - 1)
    with pytest.raises(rdu.ArgumentError, match=f"given:   {drawn}"):
        program.timeline()
    monkeypatch.setattr(timeline, "MOST_DRAWN", drawn)
    assert program.timeline().kernels
