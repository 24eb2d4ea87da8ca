"""Operational intensity under fusion: the paper's simplified Monarch example, and FlashFFTConv of a million points.

Each is compiled for one SN40L socket operator by operator, partly fused, and fully fused. FLOP and the bytes that cross
the HBM are counted from the plan: all of them, and without the example's scale, which the paper leaves out. Memory
binds where the intensity of all bytes is below the ridge of a machine. The intensity that the paper prints for the
fully fused example is that of 1.25 MiB, where the tensors at its border are 1 MiB without the scale and 3 MiB with it:
no way of counting gives all three printed figures. FlashFFTConv is published to gain 13 times over unfused, whoever
launches, and to be a single launch.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

import rdujax as rdu
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.fftconv import ORDER_4, FlashFFTConv
from rdujax.cli.options import length

# Rows, columns and inner length of the example, and FLOP per byte as printed: MICRO 2024, Figure 3 and its text.
HEIGHT, WIDTH, INNER = 1024, 1024, 128
PRINTED = {"none": 39.5, "partly": 102.6, "streaming": 410.4}
GAIN = 13.0  # MICRO 2024, Section VI-A
FUSIONS = {"none": "none", "partly": rdu.cut_after("transpose"), "streaming": "streaming"}
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Mapped(Row):
    """One mapping. value: FLOP per byte as the paper counts, or how many times as fast as unfused.

    moved_bytes, counted_bytes: all that crosses the HBM, and what of it the paper counts. hardware_us, software_us:
    priced time by who launches. bound: what binds on the SN40L and on an A100.
    """

    kernels: int
    flops: int
    moved_bytes: int
    counted_bytes: int
    hardware_us: float
    software_us: float
    bound: str = ""
    bound_a100: str = ""

    @property
    def intensity(self) -> float:
        """FLOP per byte, every byte counted."""
        return self.flops / self.moved_bytes


COLUMNS = (
    names("mapping", 30),
    Column("kernels", "kernels", 7),
    Column("all", lambda row: row.moved_bytes / MIB, 8, ".2f", group="MiB moved"),
    Column("counted", lambda row: row.counted_bytes / MIB, 8, ".2f", group="MiB moved"),
    Column("all", "intensity", 7, ".1f", group="FLOP/byte"),
    Column("counted", lambda row: row.flops / row.counted_bytes, 7, ".1f", group="FLOP/byte"),
    Column("here", "value", 7, ".1f", group="against the paper"),
    Column("printed", "published", 7, ".1f", group="against the paper"),
    Column("ratio", "ratio", 6, ".3f", group="against the paper"),
    Column("HO", "hardware_us", 9, ",.1f", group="microseconds"),
    Column("SO", "software_us", 9, ",.1f", group="microseconds"),
    Column("sn40l", "bound", 7, left=True, group="bound by"),
    Column("a100", "bound_a100", 7, left=True, group="bound by"),
)


def example(x: jax.Array, w0: jax.Array, scale: jax.Array, w1: jax.Array) -> jax.Array:
    """Gemm0, Mul, Transpose, Gemm1."""
    return w1 @ ((w0 @ x) * scale).T


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    """A BF16 tensor, its shape only."""
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


def example_rows() -> Iterator[Mapped]:
    """The example in three mappings, held against the printed intensities."""
    args = struct(INNER, WIDTH), struct(HEIGHT, INNER), struct(HEIGHT, WIDTH), struct(INNER, WIDTH)
    for name, fusion in FUSIONS.items():
        program = rdu.compile(example, *args, fusion=fusion)
        streams = [stream for kernel in program.plan.kernels for stream in kernel.streams]
        scale_bytes = sum(stream.total_bytes for stream in streams if stream.label == "load scale")
        yield measured(f"example, {name}", program, scale_bytes, published=PRINTED[name])


def convolution_rows(channels: int) -> Iterator[Mapped]:
    """FlashFFTConv unfused and fused: how many times as fast, by either orchestration."""
    model = nnx.eval_shape(partial(FlashFFTConv, ORDER_4, channels))
    x = struct(1, channels, 32**4)
    programs = {fusion: rdu.compile(model, x, x, fusion=fusion) for fusion in ("none", "streaming")}
    unfused, fused = (measured(f"FlashFFTConv 1M, {fusion}", program) for fusion, program in programs.items())
    yield from (unfused, fused)
    for title, of in (("HO", "hardware_us"), ("SO", "software_us")):
        gain = getattr(unfused, of) / getattr(fused, of)
        yield replace(fused, row=f"FlashFFTConv 1M gains, {title}", value=gain, unit="x", published=GAIN, kind="test")


def measured(name: str, program: rdu.Program, aside_bytes: int = 0, published: float | None = None) -> Mapped:
    """The row of a mapping; so many bytes of what it moves are not counted."""
    progress(name)
    cost, software = program.cost(), program.replace(orchestration="software").cost()
    moved, intensity = cost.moved_bytes("hbm"), cost.operational_intensity()
    return Mapped(
        row=name,
        value=cost.flops / (moved - aside_bytes),
        unit="FLOP/byte",
        published=published,
        kind="measured" if published is None else "test",
        kernels=len(program.plan.kernels),
        flops=cost.flops,
        moved_bytes=moved,
        counted_bytes=moved - aside_bytes,
        hardware_us=float(cost.total_s) * 1e6,
        software_us=float(software.total_s) * 1e6,
        bound="compute" if intensity >= float(rdu.machines.sn40l().ridge()) else "memory",
        bound_a100="compute" if intensity >= float(rdu.machines.a100().ridge()) else "memory",
    )


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("monarch", __doc__)
    asked.add_argument("--channels", type=length, default=1, help="channels of FlashFFTConv (1)")
    options = asked.parse_args(arguments)

    def rows() -> Iterator[Mapped]:
        yield from example_rows()
        yield from convolution_rows(options.channels)

    return show("monarch", options, COLUMNS, rows())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
