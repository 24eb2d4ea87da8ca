"""GPUs that serve as references of a roofline: peak and bandwidth of one accelerator, nothing else."""

from typing import Any

from rdujax.base.facts import Fact, record


@record("name")
class Accelerator:
    """Facts for a roofline: dense BF16 peak in FLOP/s and HBM bandwidth in bytes/s."""

    name: str
    peak_flops: Fact
    bandwidth_bytes_per_s: Fact

    def ridge(self) -> Any:
        """Operational intensity (FLOP per byte) at which compute and bandwidth balance."""
        return self.peak_flops.value / self.bandwidth_bytes_per_s.value


# fmt: off
def a100() -> Accelerator:
    """One NVIDIA A100 80 GB SXM."""
    return Accelerator(
        name="a100",
        peak_flops=           Fact(312_000_000_000_000, "FLOP/s",  "NVIDIA A100 datasheet: BF16, dense", "stated"),
        bandwidth_bytes_per_s=Fact(2_039_000_000_000,   "bytes/s", "NVIDIA A100 80 GB SXM datasheet: HBM2e", "stated"),
    )
# fmt: on
