"""When every stage of a program turns: launches, turns, waits, what buffers hold and what the memory tiers move.

    plan --pipeline of each kernel--> start and finish of every turn --> Timeline --save--> a file for ui.perfetto.dev

The times are those that the price rests on: the recurrence of `ledger/timetable.py`, every turn of every stage. Nothing
is sampled, so what is drawn adds up: the slices of a track to the cycles that the stage is busy, the samples of a
buffer never pass its depth, a tier's counter integrates to the bytes that the cost counts, and the last slice ends
where the cost ends. Before a kernel stand the phases with which its run begins: of a launch, or where looped, of a run
of what is configured already. Of a loop, the first trip is drawn, and the others are one slice of the cycles that they
take, in which nothing else is drawn. Where only the first and last turns are drawn, the gap between them is a slice of
its own, on every track and under the name "not drawn", and counters stand at 0 in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from rdujax.base.errors import ArgumentError, describe
from rdujax.base.words import counted
from rdujax.compiler import counters, tracefile, tracks
from rdujax.compiler.files import path_of
from rdujax.compiler.tracefile import Counter, Group, Track
from rdujax.estimate.pipeline import phases_of
from rdujax.graph.graph import Graph
from rdujax.graph.launches import Configured, Course, Passed, beginning, launches, turns_of
from rdujax.graph.plan import Plan, PlannedKernel, PlannedRegion
from rdujax.graph.sources import short
from rdujax.ledger.numbers import Exact, exact
from rdujax.ledger.timetable import Schedule, schedule
from rdujax.machines.machine import Machine
from rdujax.units.agcu import launch

MOST_DRAWN, MOST_TIMED = 2_000_000, 50_000_000  # turns of stages
NOT_DRAWN = "not drawn"


@dataclass(frozen=True, eq=False)
class KernelTimeline:
    """One kernel of a program; its tracks and counters tell cycles from the kernel's first load on.

    launch: cycles of the phases before it runs, in order (Fractions where the clock makes them so). begin_cycles: its
    first load, from the start of the program. cycles: to its last store. hidden_turns: turns between the first and the
    last ones that are left out of the tracks. gap: from and to which cycle counters are left out with them.
    """

    name: str
    launch: dict[str, Exact]
    begin_cycles: Exact
    cycles: int
    turns: int
    hidden_turns: int
    tracks: tuple[Track, ...]
    buffers: tuple[Counter, ...]
    tiers: tuple[Counter, ...]
    gap: tuple[int, int] | None = None

    @property
    def launch_cycles(self) -> Exact:
        """Cycles of all that goes before the first load."""
        return exact(Fraction(sum(self.launch.values())))

    def waits(self) -> dict[tuple[str, str], int]:
        """Cycles that stages stood still, by stage and by what they waited for; most first.

        All turns count, whether they are drawn or not; those of a load that stays on chip only while it is loaded.
        """
        found = {
            (track.name, cause): cycles
            for track in self.tracks
            for cause, cycles in zip(track.causes, track.waits_cycles, strict=True)
            if cycles
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class Repeats:
    """What a loop does after its first trip, which is drawn, or sockets between kernels: cycles with their launches."""

    name: str
    begin_cycles: Exact
    cycles: Exact


@dataclass(frozen=True, eq=False)
class Timeline:
    """The turns of all kernels of a program, one kernel after another. `str` is a summary with the longest waits.

    repeats: the further trips of loops, in the order in which they begin. A loop inside of a loop is drawn in the first
    trip of that.
    """

    program: str
    machine: str
    clock_hz: Exact
    kernels: tuple[KernelTimeline, ...]
    repeats: tuple[Repeats, ...] = ()

    @property
    def cycles(self) -> Exact:
        """Cycles of the whole program, launches included."""
        return exact(Fraction(sum((k.launch_cycles + k.cycles for k in self.kernels), 0) + self._repeated_cycles))

    @property
    def _repeated_cycles(self) -> Exact:
        return sum((each.cycles for each in self.repeats), 0)

    def groups(self) -> list[Group]:
        """What a trace shows, in order: the launches and kernels with the tiers, then each kernel's own tracks."""
        return [_program_group(self), *map(_kernel_group, self.kernels)]

    def save(self, path: str | Path) -> Path:
        """Writes a trace that ui.perfetto.dev opens, and returns its path.

        The suffix chooses the format: .pftrace or .perfetto-trace is Perfetto's own (through the package `perfetto`),
        .json or .json.gz the Chrome trace format. One microsecond of the trace is one cycle, so that whole cycles stay
        whole; a slice names its true time beside. A file appears complete or not at all. Raises ArgumentError for
        another suffix, for a missing package, for a trace too long for the format's 64-bit nanoseconds, and for a path
        that no file can be written to.
        """
        return tracefile.write(self.groups(), path_of(path), self.clock_hz)

    def __str__(self) -> str:
        us = float(Fraction(self.cycles) / self.clock_hz * 10**6)
        slices = sum(track.turns.size for kernel in self.kernels for track in kernel.tracks)
        kernels = counted(len(self.kernels), "kernel")
        what = f"{kernels}, {_text(self.cycles)} cycles, {us:,.2f} us, {slices:,} turns and slices of stages drawn"
        lines = [(k.begin_cycles - k.launch_cycles, _summary(k)) for k in self.kernels]
        lines += [(r.begin_cycles, f"  {r.name}: {_text(r.cycles)} cycles, not drawn") for r in self.repeats]
        lines.sort(key=lambda line: line[0])
        return "\n".join([f"{self.program} on {self.machine}: {what}", *(text for _, text in lines)])


def _summary(kernel: KernelTimeline) -> str:
    hidden = f", {kernel.hidden_turns:,} of them not drawn" if kernel.hidden_turns else ""
    begins = "launched" if "program" in kernel.launch else f"configured already, begins ({' and '.join(kernel.launch)})"
    launch = f"{begins} in {_text(kernel.launch_cycles)} cycles"
    most = max((track.slices for track in kernel.tracks), default=1)
    turns = counted(kernel.turns, "turn") + (f" of up to {most:,} slices" if most > 1 else "")
    lines = [f"  kernel {kernel.name}: {launch}, {turns} in {kernel.cycles:,}{hidden}"]
    for (stage, cause), cycles in list(kernel.waits().items())[:3]:
        lines.append(f"    {stage} waits {counted(cycles, 'cycle')} ({cycles / kernel.cycles:.0%}) for {cause}")
    return "\n".join(lines)


def _text(cycles: Exact) -> str:
    return f"{cycles:,}" if isinstance(cycles, int) else f"{float(cycles):,.3f}"


def timeline(plan: Plan, machine: Machine, name: str, course: Course, turns: int | None = None) -> Timeline:
    """The timeline of a planned program.

    turns: of every kernel, only the first and the last so many turns are kept, and the gap is marked (all by default).
    Raises ArgumentError for turns < 1, and for more turns of stages than a viewer shows, with what to pass instead; for
    a loop or branch whose course is not said; ConcretenessError on a machine whose facts JAX traces.
    """
    clock = exact(machine.clock_hz.value, where="clock_hz")
    _check_size([each.kernel for each in launches(plan, course) if each.times], turns)
    drawing = _Drawing(machine, course, turns)
    drawing.draw(plan, 0)
    return Timeline(name, machine.name, clock, tuple(drawing.kernels), tuple(drawing.repeats))


class _Drawing:
    """The kernels and repeats that are drawn so far."""

    def __init__(self, machine: Machine, course: Course, keep: int | None):
        self.machine, self.course, self.keep = machine, course, keep
        self.kernels: list[KernelTimeline] = []
        self.repeats: list[Repeats] = []
        self.configured: Configured | None = None
        self.arguments: dict[str, int] = {}  # of the kernels that are drawn, by name
        self.run_cycles: dict[str, int] = {}

    def draw(self, plan: Plan, now: Exact) -> Exact:
        """Draws all steps of a plan from a cycle on; the cycle in which the last one ends."""
        for step in plan.steps:
            if isinstance(step, PlannedKernel):
                name, begins = step.kernel.name, beginning(plan, step, self.configured)
                phases = self._before(plan.orchestration, len(step.streams), begins)
                now = exact(Fraction(now + sum(phases.values())))
                self.kernels.append(_kernel(plan.graph, step, self.machine, phases, now, self.keep))
                self.arguments[name], self.run_cycles[name] = len(step.streams), self.kernels[-1].cycles
                now = exact(Fraction(now + self.kernels[-1].cycles))
                self.configured = Configured(plan, step)
            else:
                now = self._region(plan, step, now)
        return now

    def _before(self, orchestration: str, arguments: int, beginning: str) -> dict[str, Exact]:
        """Cycles of the phases before a kernel runs, in order."""
        phases, clock = launch.phases(self.machine.launch, orchestration, arguments, beginning), self.machine.clock_hz
        return {name: exact(Fraction(exact(seconds) * exact(clock.value))) for name, seconds in phases}

    def _region(self, plan: Plan, step: PlannedRegion, now: Exact) -> Exact:
        """The first trip as it is, a condition before the body, and the others as one block."""
        turns, turned = self.course.turns(step.node), turns_of(step, self.course, self.configured)
        for i in reversed(range(len(turns))):
            if turns[i]:
                self.configured = self.configured if turned.goes_on else None
                now = self.draw(step.plans[i], now)
        self.configured = turned.after
        further = [self._cycles(plan.orchestration, further) for _, further in turned.bodies]
        rest = exact(Fraction(sum((n - 1) * each for n, each in zip(turns, further, strict=True) if n)))
        if rest:
            further = counted(turns[0] - 1, "further trip") if turns[0] > 1 else "the condition again"
            self.repeats.append(Repeats(f"{further} of {step.node.label}", now, rest))
        return exact(Fraction(now + rest))

    def _cycles(self, orchestration: str, passed: Passed) -> Exact:
        """Cycles of all runs of kernels that are drawn, with what goes before them."""
        total: Exact = 0
        for (name, begins), times in passed.runs.items():
            before = sum(self._before(orchestration, self.arguments[name], begins).values())
            total += times * (self.run_cycles[name] + before)
        return total


def _check_size(kernels: Sequence[PlannedKernel], turns: int | None) -> None:
    if turns is not None and (isinstance(turns, bool) or not isinstance(turns, int) or turns < 1):
        raise ArgumentError(describe("turns to keep at each end", given=repr(turns), allowed="an int, 1 or more"))
    stages = [_turns_of_stages(k) for k in kernels]
    every = [k.tiling.turns for k in kernels]
    kept = [t if turns is None else min(t, 2 * turns) for t in every]
    drawn, timed = (sum(n * t for n, t in zip(stages, count, strict=True)) for count in (kept, every))
    if drawn > MOST_DRAWN:
        fit = MOST_DRAWN // (2 * sum(stages))
        raise ArgumentError(
            describe(
                "a timeline with more turns of stages than a viewer shows",
                given=f"{drawn:,}",
                allowed=f"{MOST_DRAWN:,}",
                do=f"keep the first and last turns of each kernel: turns={fit}" if fit else "draw fewer kernels",
            )
        )
    if timed > MOST_TIMED:
        raise ArgumentError(
            describe(
                "a timeline of more turns of stages than fit in memory",
                given=f"{timed:,}",
                allowed=f"{MOST_TIMED:,}",
                do="draw a shorter stream of the same tiles: its turns repeat",
            )
        )


def _turns_of_stages(kernel: PlannedKernel) -> int:
    """Turns of all stages and streams in one turn of the kernel: of those that work slice by slice, all slices."""
    slices = kernel.tiling.slices
    return sum(1 if s.is_store else slices(s.value) for s in kernel.streams) + sum(
        slices(stage.result) for stage in kernel.kernel.stages
    )


def _kernel(
    graph: Graph, planned: PlannedKernel, machine: Machine, before: dict[str, Exact], begin: Exact, keep: int | None
) -> KernelTimeline:
    turns = planned.tiling.turns
    phases = _schedules(graph, planned, machine)
    of_label = {label: times for times in phases for label in times.start}
    words = tracks.words(planned, phases[0])
    shown = np.arange(turns) if keep is None or 2 * keep >= turns else np.r_[0:keep, turns - keep : turns]
    streams = {s.label: f"{counted(s.agcus, 'AGCU')}, {s.tier}" for s in planned.streams}
    stages = {s.label: counted(n.pcus, "PCU") for s, n in zip(planned.kernel.stages, planned.shares, strict=True)}
    stores = {s.label for s in planned.streams if s.is_store}
    order = [
        *(label for label in streams if label not in stores),
        *stages,
        *(label for label in streams if label in stores),
    ]
    source = _sources(graph, planned)

    def track(label: str) -> Track:
        times, units = of_label[label], (streams | stages)[label]
        drawn = tracks.of_stage(times, label, units, shown, words, turning=times is phases[0])
        return replace(drawn, source=source[label])

    drawn = tuple(map(track, order))
    gap = _common_gap([track for track in drawn if of_label[track.name] is phases[0]])
    buffers = [counters.of_buffer(of_label, planned, plan) for plan in planned.buffers]
    names = dict.fromkeys(s.tier for s in planned.streams)
    tiers = [counters.of_tier(of_label, planned, machine, tier) for tier in names]
    return KernelTimeline(
        planned.kernel.name, before, begin, phases[-1].makespan_cycles, turns, turns - len(shown), drawn,
        tuple(_outside(counter, gap) for counter in buffers), tuple(_outside(counter, gap) for counter in tiers), gap,
    )  # fmt: skip


def _schedules(graph: Graph, planned: PlannedKernel, machine: Machine) -> list[Schedule]:
    """The times of all phases of a kernel, from its first load on."""
    found: list[Schedule] = []
    for phase in phases_of(graph, planned, machine):
        times, now = schedule(phase.pipeline, phase.turns), found[-1].makespan_cycles if found else 0
        start, finish = ({label: at + now for label, at in each.items()} for each in (times.start, times.finish))
        found.append(replace(times, start=start, finish=finish))
    return found


def _sources(graph: Graph, planned: PlannedKernel) -> dict[str, str]:
    """The user's lines of every stage and stream, in few words."""
    members = {s.label: (graph.labels[s.value],) for s in planned.streams}
    members |= {stage.label: stage.members for stage in planned.kernel.stages}
    return {label: short(planned.kernel.lines_of(nodes)) for label, nodes in members.items()}


def _common_gap(tracks: Sequence[Track]) -> tuple[int, int] | None:
    """The cycles in which no track has a turn that is drawn; None where there are none such."""
    gaps = [track.gap for track in tracks if track.gap is not None]
    if len(gaps) < len(tracks):
        return None
    begin, end = max(a for a, _ in gaps), min(b for _, b in gaps)
    return (begin, end) if begin < end else None


def _outside(counter: Counter, gap: tuple[int, int] | None) -> Counter:
    """A counter without its samples in a gap: there it is 0."""
    if gap is None:
        return counter
    times, values = counter.times_cycles, counter.values
    before, after = times < gap[0], times > gap[1]
    # What it stands at when the gap ends; a counter whose first sample comes later has not begun.
    [at_end] = values[np.searchsorted(times, gap[1:], side="right") - 1] if times[0] <= gap[1] else [0]
    edges = np.array([0, at_end], values.dtype)
    return replace(
        counter,
        times_cycles=np.concatenate([times[before], np.array(gap, times.dtype), times[after]]),
        values=np.concatenate([values[before], edges, values[after]]),
    )


def _program_group(timeline: Timeline) -> Group:
    """Launches, kernels and what of loops is not drawn on one track, and the bandwidth of every tier over all."""
    tiers: dict[str, list[tuple[Exact, Counter]]] = {}
    for kernel in timeline.kernels:
        for counter in kernel.tiers:
            tiers.setdefault(counter.name, []).append((kernel.begin_cycles, counter))
    slices: list[tuple[str, Exact, Exact]] = []
    gaps: list[tuple[str, Exact, Exact]] = []
    for kernel in timeline.kernels:
        gaps += _gap(kernel)
        now = kernel.begin_cycles - kernel.launch_cycles
        for phase, cycles in (*kernel.launch.items(), ("run", kernel.cycles)):
            slices.append((f"{phase} of kernel {kernel.name}", now, now + cycles))
            now += cycles
    slices += [
        (f"{each.name}, not drawn", each.begin_cycles, each.begin_cycles + each.cycles) for each in timeline.repeats
    ]
    slices.sort(key=lambda each: each[1])
    title = f"{timeline.program} on {timeline.machine}: 1 us shown is 1 cycle"
    named = {"kernels": slices} | ({NOT_DRAWN: gaps} if gaps else {})
    return Group(title, 0, named=named, counters=tuple((name, parts) for name, parts in tiers.items()))


def _gap(kernel: KernelTimeline) -> list[tuple[str, Exact, Exact]]:
    """The slice that says where the counters of a kernel are left out, if they are."""
    if kernel.gap is None:
        return []
    name = f"{counted(kernel.hidden_turns, 'turn')} of kernel {kernel.name} not drawn, counters at 0"
    return [(name, kernel.begin_cycles + kernel.gap[0], kernel.begin_cycles + kernel.gap[1])]


def _kernel_group(kernel: KernelTimeline) -> Group:
    counters = tuple((counter.name, [(kernel.begin_cycles, counter)]) for counter in kernel.buffers)
    named = {NOT_DRAWN: gap} if (gap := _gap(kernel)) else {}
    return Group(f"kernel {kernel.name}", kernel.begin_cycles, kernel.tracks, counters, named)
