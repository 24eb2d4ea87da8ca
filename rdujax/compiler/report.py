"""What a program is and what it costs, for a person: printable, and a dictionary of plain values."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from rdujax.base.errors import ArgumentError, describe
from rdujax.base.words import counted
from rdujax.compiler import residency
from rdujax.compiler.files import path_of, with_whole_file
from rdujax.compiler.texts import ROWS, percent, table
from rdujax.estimate.pipeline import Phase, phases_of
from rdujax.estimate.price import KernelCost, ProgramCost, launched
from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Stage
from rdujax.graph.plan import MemoryStream, Plan, PlannedKernel, Tiling
from rdujax.graph.sources import short
from rdujax.ledger.numbers import Exact, exact
from rdujax.machines.machine import Machine
from rdujax.ops.exchange import Links
from rdujax.ops.op import Share
from rdujax.units import pcu
from rdujax.units.memory import TIERS

TEXTS, PICTURES = (".txt", ".json"), (".svg", ".png")


class Drawn(Protocol):
    """A picture that can be written to a file."""

    def save(self, path: str | Path) -> Path:
        """Writes it; the suffix says how."""
        ...


@dataclass(frozen=True)
class Report:
    """`str(report)` is the text, `report.data` the same as nested dictionaries of plain values.

    data["attribution"] says where every cycle of the program goes: rows of kind "launch", "tier" (the streams of a
    memory tier on the critical path) or "stage", whose cycles sum to data["total"]["cycles_with_launches"] exactly.
    Both are ints, or Fractions where a launch takes no whole number of cycles.

    Of each kernel, "critical" names the stage with most cycles on the critical path. Where several paths are critical
    it is one of them, always the same, and the first of stages with equally many. A stage is busy for its
    "first_cycles" and, in each further turn, its "cycles"; "busy" is their share of the kernel's cycles. "source" has
    the lines of the user's source that it stems from; the text names them by their files.

    data["memory"] says what rests in memory and why, see `residency.py`.

    data["total"] is of one socket; where there are several, its "node" is of all of them.

    What is said of a kernel is said of one run; "launches" is how often it is launched, "runs" how often it runs (more
    often, where looped), "inside" names the loops and branches around it.
    """

    data: dict[str, Any]
    floorplan: Callable[[int], Drawn] = field(repr=False, compare=False)

    def save(self, path: str | PathLike[str], kernel: int = 0) -> Path:
        """Writes the report: .txt the text, .json the data, .svg or .png the floorplan of one of its kernels.

        Cycles that are Fractions are floats in JSON. Raises ArgumentError for another suffix, for a kernel that is not
        there, and for a file that cannot be written.
        """
        file = path_of(path)
        suffix = file.suffix.lower()
        if suffix in PICTURES:
            return self.floorplan(kernel).save(file)
        if suffix not in TEXTS:
            raise ArgumentError(
                describe("no form of a report has this suffix", given=str(path), allowed=", ".join((*TEXTS, *PICTURES)))
            )
        text = str(self) if suffix == ".txt" else json.dumps(self.data, indent=1, default=float)
        with_whole_file(file, lambda out: out.write(f"{text}\n".encode()))
        return file

    def __str__(self) -> str:
        d = self.data
        lines = [f"{d['program']} on {d['machine']}: fusion {d['fusion']}, {d['orchestration']}-orchestrated", ""]
        for k in d["kernels"]:
            lines += [*_kernel_text(k), ""]
        t = d["total"]
        lines.append(
            f"total  {launched(t['kernels'], t['launches'], t['runs'])}  {t['cycles']:,} cycles  "
            f"{t['run_us']:,.3f} us + {t['launch_us']:,.1f} us of launches"
        )
        for tier, moved in t["moved_bytes"].items():
            lines.append(
                f"       {tier}: {moved:,} bytes moved, {t['flops'] / moved:,.2f} FLOP/byte; {t['flops']:,} FLOP"
            )
        if t["sockets"] > 1:
            lines += _node_text(t["sockets"], t["node"])
        return "\n".join([*lines, "", *residency.text(d["memory"]), "", *_attribution_text(d)])


def _node_text(sockets: int, node: dict[str, Any]) -> list[str]:
    lines = [f"{sockets} sockets of which this is one, together  {node['flops']:,} FLOP"]
    for tier, moved in node["moved_bytes"].items():
        lines.append(f"       {tier}: {moved:,} bytes moved, {node['peak_bytes'][tier]:,} bytes held at most")
    return [*lines, f"       links: {node['sent_bytes']:,} bytes sent from socket to socket"]


def _attribution_text(d: dict[str, Any]) -> list[str]:
    rows = sorted(d["attribution"], key=lambda row: -row["cycles"])
    shown = [[row["name"], row["kind"], _cycles(row["cycles"]), percent(row["share"])] for row in rows[:ROWS]]
    if rest := rows[ROWS:]:
        cycles, share = sum(row["cycles"] for row in rest), sum(row["share"] for row in rest)
        shown.append([f"{len(rest)} more", "", _cycles(cycles), percent(share)])
    shown.append(["all", "", _cycles(d["total"]["cycles_with_launches"]), "100.0%"])
    return [table(["where the cycles go", "kind", "cycles", "share"], shown, indent="", right=True)]


def _cycles(cycles: Exact) -> str:
    return f"{cycles:,}" if isinstance(cycles, int) else f"{float(cycles):,.3f}"


def _kernel_text(k: dict[str, Any]) -> list[str]:
    loops = ", ".join(f"{length} in tiles of {tile}" for length, tile in k["loops"]) or "uncut"
    pcus, pmus, agcus = (
        f"{counted(k[f'{unit}s'], unit.upper())} ({percent(k[f'{unit}_share'])})" for unit in ("pcu", "pmu", "agcu")
    )
    lines = [
        f"kernel {k['name']}",
        *_launches_text(k),
        f"  {counted(k['turns'], 'turn')} ({loops})  {k['cycles']:,} cycles  {k['run_us']:,.3f} us  "
        f"most critical: {k['critical']}",
        f"  {pcus}  {pmus}  {agcus}  {k['sram_bytes']:,} bytes of stage buffers  "
        f"{percent(k['peak_share'])} of peak FLOP/s",
        table(
            ["stage", "units", "first turn", "cycles/turn", "busy", "critical", "of peak", "source", "what"],
            [_stage_text(s) for s in k["stages"]],
        ),
        table(
            ["buffer", "PMUs", "tile bytes", "depth", "format"],
            [[b["label"], b["pmus"], f"{b['tile_bytes']:,}", b["depth"], b["format"]] for b in k["buffers"]],
        ),
    ]
    return lines


def _launches_text(k: dict[str, Any]) -> list[str]:
    """How often a kernel is launched and runs: said of those in loops and branches, and of runs without a launch."""
    if not k["inside"] and k["runs"] == k["launches"]:
        return []
    runs = "" if k["runs"] == k["launches"] else f", runs {counted(k['runs'], 'time')}"
    inside = f": {'; '.join(k['inside'])}" if k["inside"] else ""
    return [f"  launched {counted(k['launches'], 'time')}{runs}{inside}"]


def _stage_text(s: dict[str, Any]) -> list[str]:
    counts = ((s["pcus"], "PCU"), (s["agcus"], "AGCU"))
    units = next((counted(number, thing) for number, thing in counts if number), "PMUs")  # those of its buffers
    peak = "" if s["peak_share"] is None else percent(s["peak_share"])
    times = f" x {s['slices']}" if s["slices"] > 1 else ""
    turns = f"{s['first_cycles']:,}", f"{s['cycles']:,}{times}"
    shares = percent(s["busy"]), f"{s['critical_cycles']:,}", peak
    return [s["label"], units, *turns, *shares, short(s["source"]), s["what"]]


def report(plan: Plan, machine: Machine, cost: ProgramCost, name: str, floorplan: Callable[[int], Drawn]) -> Report:
    """The report of a planned and priced program; `floorplan` draws one of its kernels, when it is asked to."""
    kernels = [_kernel(at.graph, p, c, machine) for (at, p), c in zip(plan.placed(), cost.kernels, strict=True)]
    moved = {tier: cost.moved_bytes(tier) for tier in cost.cost.tiers if tier != "sram" and cost.moved_bytes(tier)}
    total = {
        "kernels": len(kernels),
        "launches": cost.launches,
        "runs": cost.runs,
        "cycles": cost.cycles,
        "cycles_with_launches": exact(cost.total_s * exact(machine.clock_hz.value)),
        "run_us": float(cost.run_s) * 1e6,
        "launch_us": float(cost.launch_s) * 1e6,
        "flops": cost.flops,
        "moved_bytes": moved,
        "sockets": cost.sockets,
        "node": {
            "flops": cost.node.flops,
            "moved_bytes": {tier: cost.node.moved_bytes(tier) for tier in moved},
            "peak_bytes": {tier: cost.node.peak_bytes[tier] for tier in TIERS if tier in cost.node.peak_bytes},
            "sent_bytes": cost.sent_bytes,
        },
    }
    return Report(
        {
            "program": name,
            "machine": machine.name,
            "fusion": plan.fusion,
            "orchestration": plan.orchestration,
            "stage_buffer_format": plan.buffer_format,
            "kernels": kernels,
            "memory": residency.rows(plan.memory, machine, cost),
            "attribution": owners(plan, machine, cost),
            "total": total,
        },
        floorplan,
    )


def owners(plan: Plan, machine: Machine, cost: ProgramCost) -> list[dict[str, Any]]:
    """Where the cycles of a program go, launches included: one row per tier, per stage and for all launches.

    A stage or stream has the cycles that it is busy on the critical path of its kernel, on which nothing waits; the
    kernels run one after another. Rows without cycles are left out.
    """
    found: dict[tuple[str, str], Exact] = {("launch", "launches"): exact(cost.launch_s * exact(machine.clock_hz.value))}
    for planned, kernel in zip(plan.kernels, cost.kernels, strict=True):
        tiers = {stream.label: stream.tier for stream in planned.streams}
        place = f" (kernel {planned.kernel.name.partition(':')[0]})" if len(plan.kernels) > 1 else ""
        for label, cycles in kernel.critical.items():
            key = ("tier", tiers[label]) if label in tiers else ("stage", label + place)
            found[key] = found.get(key, 0) + cycles * kernel.runs
    total = sum(found.values())
    return [
        {"kind": kind, "name": name, "cycles": cycles, "share": float(cycles / total)}  # not emulated: sizes
        for (kind, name), cycles in found.items()
        if cycles
    ]


def worked_cycles(phases: Sequence[Phase]) -> dict[str, int]:
    """Cycles in which each stage works, over all turns; what remains of the kernel's time it waits."""
    return {
        s.name: int(exact(s.first_cycles)) + (phase.turns * s.repeats - 1) * int(exact(s.service_cycles))
        for phase in phases
        for s in phase.pipeline.stages
    }


def _kernel(graph: Graph, planned: PlannedKernel, cost: KernelCost, machine: Machine) -> dict[str, Any]:
    phases = phases_of(graph, planned, machine)
    timing = {stage.name: (stage, phase.turns) for phase in phases for stage in phase.pipeline.stages}
    loads = [_stream_row(graph, planned, s) for s in planned.streams if not s.is_store]
    stores = [_stream_row(graph, planned, s) for s in planned.streams if s.is_store]
    computed = [
        _stage_row(graph, planned, stage, share, cost, machine)
        for stage, share in zip(planned.kernel.stages, planned.shares, strict=True)
    ]
    rows = [*loads, *computed, *stores]
    worked = worked_cycles(phases)
    for row in rows:
        stage, turns = timing[row["label"]]
        row["first_cycles"] = int(exact(stage.first_cycles))
        row["cycles"] = int(exact(stage.service_cycles)) if turns > 1 or planned.tiling.turns == 1 else 0
        row["slices"] = stage.repeats
        row["busy"] = worked[row["label"]] / cost.cost.cycles  # not emulated: sizes
        row["critical_cycles"] = cost.critical.get(row["label"], 0)
    return {
        "name": planned.kernel.name,
        "launches": cost.launches,
        "runs": cost.runs,
        "inside": list(cost.inside),
        "turns": planned.tiling.turns,
        "loops": [(loop.length, loop.tile) for loop in planned.tiling.loops],
        "cycles": cost.cost.cycles,
        "run_us": float(cost.run_s) * 1e6,
        "launch_us": float(cost.launch_s) * 1e6,
        "critical": max(cost.critical, key=lambda label: cost.critical[label]),
        "pcus": planned.pcus,
        "pmus": planned.pmus,
        "agcus": planned.agcus,
        "pcu_share": planned.pcus / int(machine.pcu.count.value),
        "pmu_share": planned.pmus / int(machine.pmu.count.value),
        "agcu_share": planned.agcus / int(machine.agcu.count.value),
        "peak_share": float(cost.cost.flops / (cost.run_s * exact(machine.peak_flops()))),
        "sram_bytes": planned.sram_bytes,
        "flops": cost.cost.flops,
        "moved_bytes": {tier: cost.cost.moved_bytes(tier) for tier in cost.cost.tiers if tier != "sram"},
        "stages": rows,
        "buffers": [
            {"label": b.label, "pmus": b.pmus, "tile_bytes": b.tile_bytes, "depth": b.depth, "format": b.fmt.name}
            for b in planned.buffers
        ],
    }


def when(tiling: Tiling, value: int) -> str:
    """In which turns a result is made, where that is not each of them for itself."""
    kinds = ((tiling.resident, ", made once"), (tiling.sums, ", added up"), (tiling.late, ", once behind all turns"))
    return next((text for values, text in kinds if value in values), "")


def _stream_row(graph: Graph, planned: PlannedKernel, stream: MemoryStream) -> dict[str, Any]:
    what = f"{stream.total_bytes:,} bytes of {stream.tier}"
    source = list(planned.kernel.lines_of([graph.labels[stream.value]]))
    return {
        "label": stream.label, "pcus": 0, "agcus": stream.agcus, "peak_share": None, "source": source, "what": what
    }  # fmt: skip


def _stage_row(
    graph: Graph, planned: PlannedKernel, stage: Stage, share: Share, cost: KernelCost, machine: Machine
) -> dict[str, Any]:
    peak, macs = None, stage.op.work(*stage.operands(graph))["pcu.macs"]
    if macs:
        cells = share.pcus * prod(pcu.array(machine.pcu, graph.types[stage.reads[0].value].fmt))
        peak = float(macs / (cells * cost.cost.cycles))  # not emulated: sizes
    agcus = share.agcus if isinstance(share, Links) else 0
    what = f"{share}: {stage.op}{when(planned.tiling, stage.result)}"
    source = list(planned.kernel.lines_of(stage.members))
    return {
        "label": stage.label, "pcus": share.pcus, "agcus": agcus, "peak_share": peak, "source": source, "what": what
    }  # fmt: skip
