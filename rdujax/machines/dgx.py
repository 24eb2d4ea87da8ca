"""Nodes of GPUs that are compared with: what one GPU has, what joins eight of them, and the software on them.

A stack is dated software with its overheads: "nemo-2024" is what the paper compares with, "trtllm-2026" what its users
have by now, "roofline" is no software at all. Overheads are facts like all others; a calibrated one is in
`calibration.py`.
"""

from typing import Any

from rdujax.base.errors import unknown
from rdujax.base.facts import Fact, record
from rdujax.machines.machine import Facts
from rdujax.units import memory

GIGA, TERA = 1_000_000_000, 1_000_000_000_000
VIDUR = "Vidur's tables (2024), Llama2-7B at TP8, one token"
AICONFIGURATOR = "AIConfigurator 0.12, TensorRT-LLM, Llama2-7B at TP8"
STACKS = ("nemo-2024", "trtllm-2026", "roofline")


@record("name")
class Accelerator:
    """Facts for a roofline: dense BF16 peak in FLOP/s and HBM bandwidth in bytes/s."""

    name: str
    peak_flops: Fact
    bandwidth_bytes_per_s: Fact

    def ridge(self) -> Any:
        """Operational intensity (FLOP per byte) at which compute and bandwidth balance."""
        return self.peak_flops.value / self.bandwidth_bytes_per_s.value


@record("name")
class Stack:
    """What software takes beyond the work.

    kernel_s: of each kernel, launch and drain. collective_s: of each collective of all GPUs, beyond its bytes. start_s:
    of a run of a model, before its first kernel. compute_efficiency: the share of the peak that products reach.
    """

    name: str
    kernel_s: Fact
    collective_s: Fact
    start_s: Fact
    compute_efficiency: Fact


@record("name")
class Dgx(Facts):
    """A node of GPUs, as a pytree of facts.

    peak_flops, hbm, link_bytes_per_s: of one GPU; the link is NVLink, one way. host: memory of the node.
    copy_bytes_per_s: from there to the HBM of all GPUs together.
    """

    name: str
    gpus: Fact
    peak_flops: Fact
    hbm: memory.Config
    link_bytes_per_s: Fact
    host: memory.Config
    copy_bytes_per_s: Fact
    stack: Stack


# fmt: off
def a100() -> Accelerator:
    """One NVIDIA A100 80 GB SXM."""
    return Accelerator(
        name="a100",
        peak_flops=           Fact(312_000_000_000_000, "FLOP/s",  "NVIDIA A100 datasheet: BF16, dense", "stated"),
        bandwidth_bytes_per_s=Fact(2_039_000_000_000,   "bytes/s", "NVIDIA A100 80 GB SXM datasheet: HBM2e", "stated"),
    )


def dgx_a100(stack: str = "nemo-2024") -> Dgx:
    """Eight A100 of 80 GB, with 2 TB of host memory."""
    gpu = a100()
    return Dgx(
        name=f"dgx-a100, {stack}",
        gpus=            Fact(8, "GPUs", "NVIDIA DGX A100", "stated"),
        peak_flops=      gpu.peak_flops,
        hbm=             _hbm(gpu.bandwidth_bytes_per_s, stack),
        link_bytes_per_s=Fact(300 * GIGA, "bytes/s", "NVIDIA A100: NVLink 3, 300 GB/s each way", "stated"),
        host=            _host(),
        copy_bytes_per_s=Fact(32 * GIGA, "bytes/s", "MICRO 2024, section VI-C: what the paper lets an expert be copied at", "stated"),
        stack=           _stack("a100", stack),
    )


def dgx_h100(stack: str = "nemo-2024") -> Dgx:
    """Eight H100 of 80 GB, with 2 TB of host memory."""
    return Dgx(
        name=f"dgx-h100, {stack}",
        gpus=            Fact(8, "GPUs", "NVIDIA DGX H100", "stated"),
        peak_flops=      Fact(989 * TERA, "FLOP/s", "NVIDIA H100 SXM datasheet: BF16, dense", "stated"),
        hbm=             _hbm(Fact(3_350 * GIGA, "bytes/s", "NVIDIA H100 SXM datasheet: HBM3", "stated"), stack),
        link_bytes_per_s=Fact(450 * GIGA, "bytes/s", "NVIDIA H100: NVLink 4, 450 GB/s each way", "stated"),
        host=            _host(),
        copy_bytes_per_s=Fact(64 * GIGA, "bytes/s", "MICRO 2024, section VI-C: what the paper lets an expert be copied at", "stated"),
        stack=           _stack("h100", stack),
    )


def _hbm(bandwidth: Fact, stack: str) -> memory.Config:
    """Of one GPU; a roofline reaches its peak."""
    reached = Fact(1.0, "1", "assumed: a roofline, the peak", "assumed") if stack == "roofline" else Fact(0.85, "1", "assumed: as on the SN40L", "assumed")
    return memory.Config(
        capacity_bytes=       Fact(80 * GIGA, "bytes", "NVIDIA: 80 GB, read as decimal: 640 GB hold 47 experts of 7B, and the paper's latency jumps near 50", "derived"),
        bandwidth_bytes_per_s=bandwidth,
        efficiency=           reached,
        latency_s=            Fact(0.0000005, "s", "assumed: 0.5 us; a part of what a kernel takes", "assumed"),
    )


def _host() -> memory.Config:
    """Of the node."""
    return memory.Config(
        capacity_bytes=       Fact(2 * TERA,   "bytes",   "NVIDIA DGX A100: up to 2 TB, read as decimal: 148 experts of 7B, and the paper's DGX are out of memory at 150", "derived"),
        bandwidth_bytes_per_s=Fact(409 * GIGA, "bytes/s", "assumed: two sockets of eight channels of DDR4-3200", "assumed"),
        efficiency=           Fact(1.0,        "1",       "assumed: copies are slower", "assumed"),
        latency_s=            Fact(0.000001,   "s",       "assumed: 1 us", "assumed"),
    )


def _stack(gpu: str, name: str) -> Stack:
    """The software; UnknownNameError for another."""
    if name not in STACKS:
        raise unknown("stack", name, STACKS)
    none = Fact(0.0, "s", "assumed: a roofline, no overhead", "assumed")
    if name == "roofline":
        return Stack(name, none, none, none, Fact(1.0, "1", "assumed: a roofline, the peak", "assumed"))
    half = Fact(0.5, "1", "assumed: of large products in practice", "assumed")
    kernel, collective, start = {
        ("a100", "nemo-2024"): (
            Fact(0.000005, "s", f"{VIDUR}: a norm 5 us, products 4 to 7 us beyond their bytes", "derived"),
            Fact(0.0000396, "s", "calibrated: 200 tokens take 3.2 times as long as on the SN40L (calibration.py)", "assumed"),
            Fact(0.0251,    "s", "calibrated: 128 tokens in and 20 out take 136.5 ms (calibration.py)", "assumed"),
        ),
        ("h100", "nemo-2024"): (
            Fact(0.000003, "s", f"{VIDUR}: a norm 4 us, products 2 to 4 us beyond their bytes", "derived"),
            Fact(0.000033, "s", "calibrated: 200 tokens take 2.3 times as long as on the SN40L (calibration.py)", "assumed"),
            Fact(0.0251,    "s", "assumed: as of the DGX A100, for it is the host's", "assumed"),
        ),
        ("a100", "trtllm-2026"): (
            Fact(0.0000035, "s", f"calibrated: {AICONFIGURATOR}, 2.97 ms a token (calibration.py)", "assumed"),
            Fact(0.00001,   "s", "assumed: 10 us, custom all-reduce within one graph launch", "assumed"),
            Fact(0.005,     "s", f"calibrated: {AICONFIGURATOR}, 64.8 ms (calibration.py)", "assumed"),
        ),
        ("h100", "trtllm-2026"): (
            Fact(0.0000019, "s", f"calibrated: {AICONFIGURATOR}, 1.96 ms a token (calibration.py)", "assumed"),
            Fact(0.00001,   "s", "assumed: 10 us, custom all-reduce within one graph launch", "assumed"),
            Fact(0.0013,    "s", f"calibrated: {AICONFIGURATOR}, 40.7 ms (calibration.py)", "assumed"),
        ),
    }[gpu, name]
    return Stack(name, kernel, collective, start, half)
# fmt: on
