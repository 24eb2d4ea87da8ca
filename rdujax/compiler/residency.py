"""What a program keeps in memory, for a person: which symbol is in which tier and why, and what is moved of it.

By tier: "peak_bytes", up to the highest address in use; "bound_bytes", the most that are ever alive at once;
"sum_bytes", what symbols would take that share no address; "read_only_bytes", which never have to be written back;
"read_bytes" and "written_bytes" of one run of the program, be it a step of training or a token.

And every symbol: where it is, when it is in use, its "read_bytes" and "written_bytes" of one run, and "reason", why it
is in its tier. "turnover" is what decides that: bytes moved for each byte that its tier holds. "moved_bytes" and
"turnover" are of all that rests in one tier with it, such as the carry of a loop and its first value.
"""

from typing import Any

from rdujax.base.words import counted
from rdujax.compiler.texts import ROWS, percent, table
from rdujax.estimate.price import ProgramCost
from rdujax.graph.memory import Memory
from rdujax.machines.machine import Machine
from rdujax.units.memory import TIERS


def rows(memory: Memory, machine: Machine, cost: ProgramCost) -> dict[str, Any]:
    """Plain values: {"tiers": {name: ...}, "symbols": [...]}; `cost` says how often each kernel runs."""
    runs = [kernel.runs for kernel in cost.kernels]
    symbols = [
        {
            "label": str(s), "tier": s.tier, "offset_bytes": s.offset_bytes, "size_bytes": s.size_bytes,
            "read_bytes": s.read_bytes(runs), "written_bytes": s.written_bytes(runs),
            "moved_bytes": s.moved_bytes, "turnover": s.turnover, "in_use": memory.in_use(s),
            "kernels": memory.runs(s), "read_only": s.is_read_only, "reason": s.reason,
        }
        for s in memory.symbols
    ]  # fmt: skip
    tiers = {name: _tier(name, memory, machine, cost) for name in TIERS if memory.of_tier(name)}
    return {"tiers": tiers, "symbols": symbols}


def _tier(name: str, memory: Memory, machine: Machine, cost: ProgramCost) -> dict[str, Any]:
    symbols, capacity_bytes = memory.of_tier(name), int(machine.tier(name).capacity_bytes.value)
    return {
        "symbols": len(symbols),
        "capacity_bytes": capacity_bytes,
        "peak_bytes": memory.peak_bytes(name),
        "bound_bytes": memory.bound_bytes[name],
        "sum_bytes": memory.sum_bytes(name),
        "read_only_bytes": sum(s.size_bytes for s in symbols if s.is_read_only),
        "read_bytes": cost.cost.read_bytes[name],
        "written_bytes": cost.cost.written_bytes[name],
        "share": memory.peak_bytes(name) / capacity_bytes,
    }


def text(m: dict[str, Any]) -> list[str]:
    """The same as lines: a sentence for each tier, then the largest symbols."""
    lines = [
        f"memory {name}: {t['peak_bytes']:,} of {t['capacity_bytes']:,} bytes ({percent(t['share'])}) for "
        f"{counted(t['symbols'], 'symbol')} of {t['sum_bytes']:,} bytes, {t['read_only_bytes']:,} of them read only; "
        f"{t['bound_bytes']:,} alive at once; {t['read_bytes']:,} read and {t['written_bytes']:,} written in a run"
        for name, t in m["tiers"].items()
    ]
    largest = sorted(m["symbols"], key=lambda s: -s["size_bytes"])
    shown = [_symbol(s) for s in largest[:ROWS]]
    if rest := largest[ROWS:]:
        amounts = [f"{sum(s[of] for s in rest):,}" for of in ("size_bytes", "read_bytes", "written_bytes")]
        shown.append([f"{len(rest)} more", "", "", *amounts, "", "", ""])
    head = ["symbol", "tier", "address", "bytes", "read", "written", "moved/byte", "in use", "why there"]
    return [*lines, table(head, shown)]


def _symbol(s: dict[str, Any]) -> list[str]:
    amounts = [f"{s[of]:,}" for of in ("offset_bytes", "size_bytes", "read_bytes", "written_bytes")]
    why = s["reason"] + ("; read only" if s["read_only"] else "")
    return [s["label"], s["tier"], *amounts, f"{s['turnover']:,.2f}", s["in_use"], why]
