"""The main job: the paper's pipeline Gemm0 > Mul > Transpose > Gemm1 and a small gated MLP, on one SN40L socket.

Each is compiled operator by operator, partly fused and fully fused, executed bit by bit on random BF16 data from a
seed, and priced. One table says what each partition needs, moves and takes; another compares the bits. A report of the
fused kernel says which units each stage has, how busy they are, and where every cycle goes.

`./scripts/demo llama` runs a small random Llama2 instead, `./scripts/demo experts "What is 17 times 23?"` asks trained
ones, and `./scripts/demo coe` says what that takes on nodes of the SN40L and of GPUs; each has a `--help` of its own.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import RduError
from rdujax.cli import llama
from rdujax.cli.bits import differing, elements
from rdujax.cli.options import add_machine, length, seed
from rdujax.compiler.driver import Fusion
from rdujax.compiler.fuse import cut_after
from rdujax.compiler.program import Program, compile
from rdujax.compiler.texts import table
from rdujax.compiler.validate import validate
from rdujax.machines import Machine, a100
from rdujax.machines import named as machine_named
from rdujax.ops.contract import Contract
from rdujax.units.pcu.contraction import Contraction

MIB = 1024**2
PUBLISHED = "MICRO 2024, Figure 3"
# FLOP per byte as printed in the paper, for its shapes only: what our own count is held against.
PUBLISHED_INTENSITY = {"unfused": 39.5, "partly fused": 102.6, "fully fused": 410.4}
PUBLISHED_SHAPES = (1024, 1024, 128)


def pipeline(x: jax.Array, w0: jax.Array, scale: jax.Array, w1: jax.Array) -> jax.Array:
    """Gemm0, Mul, Transpose, Gemm1: the simplified Monarch example of the paper."""
    return w1 @ ((w0 @ x) * scale).T  # not emulated: this is what gets compiled


def mlp(x: jax.Array, w_gate: jax.Array, w_up: jax.Array, w_down: jax.Array) -> jax.Array:
    """The gated MLP of a Llama decoder layer: matmul, silu, multiply, matmul."""
    return (jax.nn.silu(x @ w_gate) * (x @ w_up)) @ w_down  # not emulated: this is what gets compiled


@dataclass(frozen=True)
class Job:
    """One function, its arguments, and the partitions to compare."""

    title: str
    fn: Callable[..., Any]
    shapes: dict[str, tuple[int, ...]]
    partitions: dict[str, Fusion]
    side_input: str | None = None  # an input that the paper leaves out of its traffic

    def structs(self) -> list[jax.ShapeDtypeStruct]:
        """The arguments as shapes."""
        return [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in self.shapes.values()]

    def arrays(self, seed: int) -> list[jax.Array]:
        """Random BF16 arguments, the same for the same seed."""
        rng = np.random.default_rng(seed)
        drawn = [rng.standard_normal(shape, np.float32) for shape in self.shapes.values()]
        return [jnp.asarray(x, jnp.bfloat16) for x in drawn]  # not emulated: public input, made on the host


def pipeline_job(rows: int, columns: int, inner: int) -> Job:
    """The pipeline at any size: W0 [rows, inner], I0 [inner, columns], Scale [rows, columns], W1 [inner, columns]."""
    return Job(
        f"Figure 3 pipeline: Gemm0 {rows}x{inner}x{columns}, Mul, Transpose, Gemm1 {inner}x{columns}x{rows}",
        pipeline,
        {"x": (inner, columns), "w0": (rows, inner), "scale": (rows, columns), "w1": (inner, columns)},
        {"unfused": "none", "partly fused": cut_after("transpose"), "fully fused": "streaming"},
        side_input="scale",
    )


def mlp_job(tokens: int, width: int, hidden: int) -> Job:
    """The gated MLP at any size."""
    return Job(
        f"Llama-style MLP: {tokens} tokens, width {width}, hidden {hidden}",
        mlp,
        {"x": (tokens, width), "w_gate": (width, hidden), "w_up": (width, hidden), "w_down": (hidden, width)},
        {"unfused": "none", "fully fused": "streaming"},
    )


def compiled(job: Job, machine: Machine, orchestration: str) -> dict[str, Program]:
    """One program per partition."""
    return {
        name: compile(job.fn, *job.structs(), machine=machine, fusion=fusion, orchestration=orchestration, tier="hbm")
        for name, fusion in job.partitions.items()
    }


def rows_of(job: Job, programs: dict[str, Program], machine: Machine) -> list[dict[str, Any]]:
    """One row of plain values per partition; every figure is computed from the program."""
    costs = {name: p.cost() for name, p in programs.items()}
    first = next(iter(costs.values()))
    published = PUBLISHED_INTENSITY if job.fn is pipeline and _has_published_shapes(job) else {}
    rows = []
    for name, program in programs.items():
        cost, kernels = costs[name], program.plan.kernels
        intensity = cost.operational_intensity()
        rows.append(
            {
                "partition": name,
                "machine": machine.name,
                "kernels": len(kernels),
                "launches": cost.launches,
                "stages": sum(len(k.kernel.stages) for k in kernels),
                "pcus": max(k.pcus for k in kernels),
                "pmus": max(k.pmus for k in kernels),
                "sram_bytes": max(k.sram_bytes for k in kernels),
                "cycles": cost.cycles,
                "run_s": float(cost.run_s),
                "launch_s": float(cost.launch_s),
                "total_s": float(cost.total_s),
                "read_bytes": dict(cost.cost.read_bytes),
                "written_bytes": dict(cost.cost.written_bytes),
                "flops": cost.flops,
                "flop_per_byte": intensity,
                "flop_per_byte_without_side_input": _without(job, program, cost),
                "published_flop_per_byte": published.get(name),
                "speedup_run": float(first.run_s / cost.run_s),
                "speedup_total": float(first.total_s / cost.total_s),
                "regime": _regime(intensity, float(machine.ridge())),
                "regime_a100": _regime(intensity, float(a100().ridge())),
            }
        )
    return rows


def segments(program: Program, most: int = 4) -> int:
    """The largest number of segments, up to `most`, that K of every contraction of the program can be summed in."""
    graph = program.graph
    lengths = {
        node.op.config.extent(*(graph.types[v].shape for v in node.operands)).k
        for node in graph.nodes
        if isinstance(node.op, Contract)
    }
    return max(n for n in range(1, most + 1) if all(Contraction((), (), k_splits=n).segments(k) == n for k in lengths))


def _has_published_shapes(job: Job) -> bool:
    return job.shapes == pipeline_job(*PUBLISHED_SHAPES).shapes


def _without(job: Job, program: Program, cost: Any) -> float | None:
    """FLOP per byte when loads of the side input are not counted."""
    if job.side_input is None:
        return None
    label = f"load {job.side_input}"
    side = sum(s.total_bytes for k in program.plan.kernels for s in k.streams if s.label == label)
    return cost.flops / (cost.moved_bytes() - side)


def _regime(intensity: float, ridge: float) -> str:
    return "compute" if intensity >= ridge else "memory"


def cost_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a person: one column per partition."""
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("kernels launched", lambda r: f"{r['launches']}"),
        ("pipeline stages on PCUs", lambda r: f"{r['stages']}"),
        ("PCUs, largest kernel", lambda r: f"{r['pcus']:,}"),
        ("PMUs, largest kernel", lambda r: f"{r['pmus']:,}"),
        ("SRAM held, largest kernel", _sizes(rows, lambda r: r["sram_bytes"])),
        ("HBM read", _sizes(rows, lambda r: r["read_bytes"].get("hbm", 0))),
        ("HBM written", _sizes(rows, lambda r: r["written_bytes"].get("hbm", 0))),
        ("FLOP", lambda r: f"{r['flops']:,}"),
        ("cycles", lambda r: f"{r['cycles']:,}"),
        ("time running (us)", lambda r: f"{r['run_s'] * 1e6:,.2f}"),
        ("time of launches (us)", lambda r: f"{r['launch_s'] * 1e6:,.2f}"),
        ("speed against unfused, running", lambda r: f"{r['speedup_run']:.2f}x"),
        ("speed against unfused, with launches", lambda r: f"{r['speedup_total']:.2f}x"),
        ("FLOP/byte, every byte counted", lambda r: f"{r['flop_per_byte']:.2f}"),
        ("FLOP/byte, Scale not counted", lambda r: _number(r["flop_per_byte_without_side_input"])),
        ("FLOP/byte, printed in the paper", lambda r: _number(r["published_flop_per_byte"], 1)),
        (f"bound on {rows[0]['machine']} by", lambda r: r["regime"]),
        ("bound on a100 by", lambda r: r["regime_a100"]),
    ]
    cells = [[name, *(show(r) for r in rows)] for name, show in lines]
    kept = [row for row in cells if any(cell != "-" for cell in row[1:])]
    return table(["", *(r["partition"] for r in rows)], kept, indent="  ", right=True)


def _sizes(rows: Sequence[dict[str, Any]], size_bytes: Callable[[dict[str, Any]], int]) -> Callable[..., str]:
    """How a size is shown: in MiB, or in KiB for all rows where one of them has too little for MiB."""
    least = min(filter(None, map(size_bytes, rows)), default=0)
    unit, name = (MIB, "MiB") if least >= MIB // 16 else (1024, "KiB")
    return lambda row: f"{size_bytes(row) / unit:,.2f} {name}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def bits_table(job: Job, programs: dict[str, Program], args: Sequence[jax.Array]) -> tuple[str, bool]:
    """Bits of every partition against the unfused one, and of plain JAX; True where all partitions agree."""
    outputs = {name: p(*args) for name, p in programs.items()}
    first_name, first = next(iter(outputs.items()))
    plain = {"plain jax.jit, for comparison": jax.jit(job.fn)(*args)}
    rows = [[name, f"{differing(each, first):,}", f"{elements(each):,}"] for name, each in (outputs | plain).items()]
    equal = not any(differing(each, first) for each in outputs.values())
    return table([f"bits against {first_name}", "elements that differ", "of"], rows, indent="  ", right=True), equal


def ridge_note(machine: Machine) -> str:
    """Where the rooflines bend, and what the difference to the paper's intensities is."""
    return (
        f"  Ridges: {machine.name} {float(machine.ridge()):.0f} FLOP/byte, a100 {float(a100().ridge()):.0f} FLOP/byte "
        "(peak compute / peak HBM bandwidth)."
    )


def intensity_note(rows: Sequence[dict[str, Any]]) -> str:
    """Why our intensities differ from the printed ones, with every figure computed."""
    last = rows[-1]
    moved = sum(last["read_bytes"].values()) + sum(last["written_bytes"].values())
    printed_mib = last["flops"] / last["published_flop_per_byte"] / MIB
    boundary_mib = last["flops"] / last["flop_per_byte_without_side_input"] / MIB
    return (
        f"  {PUBLISHED} prints its first two rows without the traffic of Scale; not counting it, ours are the same.\n"
        f"  Its last row implies {printed_mib:.2f} MiB; the tensors at the border of the fused kernel are "
        f"{boundary_mib:.2f} MiB without Scale\n  and {moved / MIB:.2f} MiB with it, so that row counts one more small "
        "tensor. We count every byte that is moved."
    )


def drawing_note(job: Job, machine: Machine) -> str:
    """The allocation that the same allocator makes with as many PCUs as the paper draws."""
    program = compile(job.fn, *job.structs(), machine=machine.replace({"pcu.count": 9}), fusion=cut_after())
    shares = [share.pcus for share in program.plan.kernels[0].shares]
    return (
        "  Figure 4 draws this pipeline on 4, 1 and 4 PCUs. Given 9 PCUs, the allocator finds "
        f"{shares[0]}, {shares[1]} and {shares[2]};\n  given the whole socket, the shares in the report below, "
        "where HBM and not the PCUs is the limit."
    )


def show(job: Job, machine: Machine, args: argparse.Namespace) -> bool:
    """Prints one job; True where all partitions have the same bits."""
    programs = compiled(job, machine, args.orchestration)
    rows = rows_of(job, programs, machine)
    print(f"{job.title}\n{'=' * len(job.title)}\n")
    print(cost_table(rows) + "\n")
    print(ridge_note(machine))
    if rows[-1]["published_flop_per_byte"] is not None:
        print(intensity_note(rows))
        print(drawing_note(job, machine))
    data = job.arrays(args.seed)
    text, equal = bits_table(job, programs, data)
    print("\n" + text + "\n")
    print("  Choices that change bits, switched on one at a time, and where they do:\n")
    for choice in ({"stage_buffer_format": "fp32"}, {"k_splits": segments(programs["fully fused"])}):
        print(_indent(str(validate(programs["fully fused"].replace(**choice), *data))) + "\n")
    print(_indent(str(programs["fully fused"].report())) + "\n")
    return equal


def write_files(job: Job, machine: Machine, args: argparse.Namespace) -> None:
    """Writes the trace and the picture of the fused job that the options ask for, and says so on standard error."""
    if args.timeline is None and args.floorplan is None:
        return
    program = compiled(job, machine, args.orchestration)["fully fused"]
    if args.timeline is not None:
        print(f"wrote {program.timeline().save(args.timeline)}: open it in ui.perfetto.dev", file=sys.stderr)
    if args.floorplan is not None:
        print(f"wrote {program.floorplan().save(args.floorplan)}", file=sys.stderr)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(
        prog="./scripts/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--rows", type=length, default=1024, help="rows of W0 and Scale (default 1024, as in the paper)")
    p.add_argument("--columns", type=length, default=1024, help="columns of I0 and Scale (default 1024)")
    p.add_argument("--inner", type=length, default=128, help="columns of W0, rows of I0 and W1 (default 128)")
    p.add_argument("--tokens", type=length, default=128, help="tokens of the MLP (default 128)")
    p.add_argument("--width", type=length, default=512, help="width of the MLP (default 512)")
    p.add_argument("--hidden", type=length, default=1408, help="hidden width of the MLP (default 1408)")
    p.add_argument("--seed", type=seed, default=0, help="seed of the random BF16 input (default 0)")
    add_machine(p)
    p.add_argument(
        "--timeline",
        metavar="FILE",
        help="write a trace of the fused pipeline for ui.perfetto.dev: .pftrace, .json or .json.gz",
    )
    p.add_argument("--floorplan", metavar="FILE", help="draw the fused pipeline on the chip's grid: .svg or .png")
    return p


def llama_parser() -> argparse.ArgumentParser:
    """The options of `./scripts/demo llama`."""
    p = argparse.ArgumentParser(
        prog="./scripts/demo llama", description=llama.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    llama.add_options(p)
    add_machine(p)
    return p


def run(args: argparse.Namespace) -> int:
    """The main job; 0 where all partitions have the same bits, 1 where they differ."""
    machine = machine_named(args.machine)
    jobs = [pipeline_job(args.rows, args.columns, args.inner), mlp_job(args.tokens, args.width, args.hidden)]
    write_files(jobs[0], machine, args)
    if args.json:
        for job in jobs:
            for row in rows_of(job, compiled(job, machine, args.orchestration), machine):
                print(json.dumps({"job": job.title, **row}))
        return 0
    return 0 if all([show(job, machine, args) for job in jobs]) else 1


def experts_main(name: str, argv: Sequence[str]) -> int:
    """Runs `./scripts/demo experts` or `./scripts/demo coe`; 2 where models or prompts are refused."""
    # Here, for only these demos need the packages of the extra "experts".
    from experts.checkpoints import CheckpointError
    from rdujax.cli import coe, experts

    demo = {"experts": experts, "coe": coe}[name]
    p = argparse.ArgumentParser(
        prog=f"./scripts/demo {name}", description=demo.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    demo.add_options(p)
    args = p.parse_args(argv)
    try:
        return demo.main(args)
    except (CheckpointError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def command(argv: Sequence[str]) -> int:
    """Runs the demo that the first argument names, or the main one."""
    name, *rest = argv or [""]
    if name in ("experts", "coe"):
        return experts_main(name, rest)
    if name == "llama":
        args = llama_parser().parse_args(rest)
        return llama.main(args, machine_named(args.machine))
    return run(parser().parse_args(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a demo; 0 where all forms have the same bits, 1 where they differ, 2 for bad options."""
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except (RduError, llama.BadSizes) as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as in `./scripts/demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file that cannot be written
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
