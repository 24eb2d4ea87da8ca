"""What buffers hold and tiers move while a kernel runs: the counters of a timeline."""

from collections.abc import Mapping

import numpy as np

from rdujax.base.words import counted
from rdujax.compiler.tracefile import Counter
from rdujax.estimate.pipeline import fillers
from rdujax.graph.plan import BufferPlan, MemoryStream, PlannedKernel
from rdujax.ledger.numbers import exact
from rdujax.ledger.timetable import Schedule
from rdujax.machines.machine import Machine

GIGA, ROUNDING = 1e9, 1e-12


Times = Mapping[str, Schedule]  # of every stage and stream, by label, those of the phase that it belongs to


def of_buffer(of_label: Times, planned: PlannedKernel, plan: BufferPlan) -> Counter:
    """Tiles that a buffer holds, those in the making included: until the last of its readers gives a slot back.

    Slices, of a load that streams by. What stays on chip whole is held from its first turn on until its last reader
    ends, whatever turns the pipeline gives it. A tile that is made in slices is there from its first slice on.
    """
    sources = fillers(planned)
    by_slices = plan.value in planned.kernel.loads and planned.tiling.slices(plan.value) > 1
    unit = "slice" if by_slices else "tile"
    name = f"buffer {plan.label}, of {counted(plan.depth, unit)} on {counted(plan.pmus, 'PMU')}"
    stores = {s.value: s.label for s in planned.streams if s.is_store}
    readers = {s.label for s in planned.kernel.stages if any(r.value == plan.value for r in s.reads)}
    writes = {stores[w.value]: (w.read, *w.places) for w in planned.kernel.writes}
    others = writes | {sources[f.value]: f.places for f in planned.kernel.fetches}
    readers |= {label for label, reads in others.items() if any(read.value == plan.value for read in reads)}
    source = sources[plan.value]
    times = of_label[source]
    if plan.value in planned.tiling.whole:
        ends = times.start[source][0], max(of_label[reader].finish[reader][-1] for reader in readers)
        return Counter(name, f"{unit}s", np.array(ends, np.int64), np.array([plan.depth, 0], np.int64))
    edges = [e for e in times.pipeline.edges if e.producer == source and e.consumer in readers]
    slices = 1 if by_slices else planned.tiling.slices(plan.value)
    by_edge = [(when, -(-held // slices)) for when, held in map(times.occupancy, edges)]
    at = np.unique(np.concatenate([when for when, _ in by_edge]))
    tiles = np.max([held[np.searchsorted(when, at, side="right") - 1] for when, held in by_edge], axis=0)
    return _changes(name, f"{unit}s", at, tiles)


def of_tier(of_label: Times, planned: PlannedKernel, machine: Machine, tier: str) -> Counter:
    """Bytes per second that the streams of a tier move; each turn's bytes are spread evenly over its cycles."""
    config, clock = machine.tier(tier), float(exact(machine.clock_hz.value))
    at, change = [], []
    for stream in (s for s in planned.streams if s.tier == tier):
        times = of_label[stream.label]
        start, finish = times.start[stream.label], times.finish[stream.label]
        moves = finish > start
        rate = turn_bytes(stream, len(start))[moves] * (clock / GIGA) / (finish - start)[moves]
        at += [start[moves], finish[moves]]
        change += [rate, -rate]
    when, where = np.unique(np.concatenate(at), return_inverse=True)
    rates = np.zeros(len(when))
    np.add.at(rates, where, np.concatenate(change))
    reach = float(exact(config.bandwidth_bytes_per_s.value) * exact(config.efficiency.value)) / GIGA
    rates = np.cumsum(rates)
    rates[rates < ROUNDING * rates.max()] = 0  # sums of differences end near zero, not at it
    return _changes(f"{tier}, reaches {reach:,.6g} GB/s", "GB/s", when, rates)


def _changes(name: str, unit: str, at: np.ndarray, values: np.ndarray) -> Counter:
    changed = np.r_[True, np.abs(values[1:] - values[:-1]) > ROUNDING * values.max()]
    return Counter(name, unit, at[changed], values[changed])


def turn_bytes(stream: MemoryStream, turns: int) -> np.ndarray:
    """Bytes that a stream moves in each of its turns, int64 [turns]; they sum to the stream's total exactly.

    A load's first turn brings the first tile whole, or all of what stays on chip; the rest is spread evenly.
    """
    first = stream.total_bytes if turns == 1 else 0 if stream.is_store else stream.first_bytes
    even = turns if stream.is_store else max(turns - 1, 1)
    rest = stream.total_bytes - first
    shares = np.array([rest * (t + 1) // even - rest * t // even for t in range(even)], np.int64)
    if turns == 1:
        return np.array([first], np.int64)
    return shares if stream.is_store else np.r_[np.int64(first), shares]
