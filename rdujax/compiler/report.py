"""What a program is and what it costs, for a person: printable, and a dictionary of plain values."""

from dataclasses import dataclass
from typing import Any

from rdujax.estimate.pipeline import pipeline_of
from rdujax.estimate.price import KernelCost, ProgramCost
from rdujax.graph.graph import Graph
from rdujax.graph.plan import Plan, PlannedKernel
from rdujax.ledger.makespan import critical_stage
from rdujax.machines.machine import Machine
from rdujax.units.systolic import Fork


@dataclass(frozen=True)
class Report:
    """`str(report)` is the text, `report.data` the same as nested dictionaries of plain values."""

    data: dict[str, Any]

    def __str__(self) -> str:
        d = self.data
        lines = [f"{d['program']} on {d['machine']}: fusion {d['fusion']}, {d['orchestration']}-orchestrated", ""]
        for k in d["kernels"]:
            lines += [*_kernel_text(k), ""]
        t = d["total"]
        lines.append(
            f"total  {t['kernels']} kernels  {t['cycles']:,} cycles  "
            f"{t['run_us']:,.3f} us + {t['launch_us']:,.1f} us of launches"
        )
        for tier, moved in t["moved_bytes"].items():
            lines.append(
                f"       {tier}: {moved:,} bytes moved, {t['flops'] / moved:,.2f} FLOP/byte; {t['flops']:,} FLOP"
            )
        return "\n".join(lines)


def _kernel_text(k: dict[str, Any]) -> list[str]:
    loops = ", ".join(f"{length} in tiles of {tile}" for length, tile in k["loops"]) or "uncut"
    lines = [
        f"kernel {k['name']}",
        f"  {k['turns']:,} turns ({loops})  {k['cycles']:,} cycles  {k['run_us']:,.3f} us  slowest: {k['critical']}",
        f"  {k['pcus']} PCUs ({k['pcu_share']:.1%})  {k['pmus']} PMUs ({k['pmu_share']:.1%})  {k['agcus']} AGCUs"
        f"  {k['sram_bytes']:,} bytes of stage buffers",
        table(
            ["stage", "PCUs", "cycles/turn", "critical", "what"],
            [[s["label"], s["pcus"], f"{s['cycles']:,}", f"{s['critical_cycles']:,}", s["what"]] for s in k["stages"]],
        ),
        table(
            ["buffer", "PMUs", "tile bytes", "depth", "format"],
            [[b["label"], b["pmus"], f"{b['tile_bytes']:,}", b["depth"], b["format"]] for b in k["buffers"]],
        ),
    ]
    return lines


def table(head: list[str], rows: list[list[Any]], indent: str = "    ", *, right: bool = False) -> str:
    """Aligned text columns: the first left, the others right; the last left too unless `right`."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    to_left = {0} if right else {0, len(head) - 1}

    def line(row: list[str]) -> str:
        parts = [c.ljust(w) if i in to_left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return (indent + "  ".join(parts)).rstrip()

    return "\n".join(line(row) for row in cells)


def report(plan: Plan, machine: Machine, cost: ProgramCost, name: str) -> Report:
    """The report of a planned and priced program."""
    kernels = [_kernel(plan.graph, p, c, machine) for p, c in zip(plan.kernels, cost.kernels, strict=True)]
    moved = {tier: cost.moved_bytes(tier) for tier in cost.cost.tiers if tier != "sram" and cost.moved_bytes(tier)}
    total = {
        "kernels": len(kernels),
        "cycles": cost.cycles,
        "run_us": float(cost.run_s) * 1e6,
        "launch_us": float(cost.launch_s) * 1e6,
        "flops": cost.flops,
        "moved_bytes": moved,
    }
    return Report(
        {
            "program": name,
            "machine": machine.name,
            "fusion": plan.fusion,
            "orchestration": plan.orchestration,
            "stage_buffer_format": plan.buffer_format,
            "kernels": kernels,
            "total": total,
        }
    )


def _kernel(graph: Graph, planned: PlannedKernel, cost: KernelCost, machine: Machine) -> dict[str, Any]:
    timing = pipeline_of(graph, planned, machine)
    service = {s.name: int(s.service_cycles) for s in timing.stages}  # type: ignore[arg-type]
    stages = [
        _stream(s.label, s.agcus, s.total_bytes, s.tier, service, cost) for s in planned.streams if not s.is_store
    ]
    for stage, share in zip(planned.kernel.stages, planned.shares, strict=True):
        shape = (
            f"{share.rows}x{share.columns}x{share.splits}"
            if isinstance(share, Fork)
            else f"{share.links} x {share.copies}"
        )
        what = f"{'fork' if isinstance(share, Fork) else 'chain'} {shape}: {stage.op}"
        stages.append(_row(stage.label, share.pcus, what, service, cost))
    stages += [_stream(s.label, s.agcus, s.total_bytes, s.tier, service, cost) for s in planned.streams if s.is_store]
    return {
        "name": planned.kernel.name,
        "turns": planned.tiling.turns,
        "loops": [(loop.length, loop.tile) for loop in planned.tiling.loops],
        "cycles": cost.cost.cycles,
        "run_us": float(cost.run_s) * 1e6,
        "launch_us": float(cost.launch_s) * 1e6,
        "critical": critical_stage(timing, planned.tiling.turns),
        "pcus": planned.pcus,
        "pmus": planned.pmus,
        "agcus": planned.agcus,
        "pcu_share": planned.pcus / int(machine.pcu.count.value),
        "pmu_share": planned.pmus / int(machine.pmu.count.value),
        "sram_bytes": planned.sram_bytes,
        "flops": cost.cost.flops,
        "moved_bytes": {tier: cost.cost.moved_bytes(tier) for tier in cost.cost.tiers if tier != "sram"},
        "stages": stages,
        "buffers": [
            {"label": b.label, "pmus": b.pmus, "tile_bytes": b.tile_bytes, "depth": b.depth, "format": b.fmt.name}
            for b in planned.buffers
        ],
    }


def _stream(label: str, agcus: int, total: int, tier: str, service: dict[str, int], cost: KernelCost) -> dict[str, Any]:
    return _row(label, 0, f"{total:,} bytes of {tier} over {agcus} AGCUs", service, cost)


def _row(label: str, pcus: int, what: str, service: dict[str, int], cost: KernelCost) -> dict[str, Any]:
    return {
        "label": label,
        "pcus": pcus,
        "cycles": service[label],
        "critical_cycles": cost.critical.get(label, 0),
        "what": what,
    }
