"""Facts that nobody published and that were solved from one published number each.

To find such a number again says nothing for the emulator; everything else that is published is a test of it. Where the
benchmarks print one, they mark its row "calibrated".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Calibrated:
    """One fact, by the machine that has it and its path there, and the number that it was solved from.

    benchmark: the row that computes it again, empty where none does.
    """

    machine: str
    path: str
    published: str
    value: float
    source: str
    benchmark: str


TABLE = "MICRO 2024, Table V"
CALIBRATED: tuple[Calibrated, ...] = (
    Calibrated(
        "sn40l",
        "launch.host_argument_s",
        "decoding is up to 13 times as fast as unfused, Mistral the most",
        13.0,
        "MICRO 2024, section VI-A",
        "fig6: mistral7B-2k-decode",
    ),
    Calibrated(
        "sn40l",
        "ddr.efficiency",
        "an expert is switched 31 times as fast as on a DGX A100, which copies at 32 GB/s",
        31.0,
        TABLE,
        "table2: switching, DGX A100",
    ),
    Calibrated(
        "sn40l-node",
        "start_s",
        "an expert writes 20 tokens 2.0 times as fast as on a DGX A100",
        2.0,
        TABLE,
        "table2: expert only, BS 1, 20 tokens, DGX A100",
    ),
    Calibrated(
        "dgx-a100",
        "stack.start_s",
        "a DGX A100 takes 136.5 ms for 128 tokens in and 20 out",
        0.1365,
        "NVIDIA NeMo user guide, Llama2 inference, TP8",
        "",
    ),
    Calibrated(
        "dgx-a100",
        "stack.collective_s",
        "an expert writes 200 tokens 3.2 times as fast as on a DGX A100",
        3.2,
        TABLE,
        "table2: expert only, BS 1, 200 tokens, DGX A100",
    ),
    Calibrated(
        "dgx-h100",
        "stack.collective_s",
        "an expert writes 200 tokens 2.3 times as fast as on a DGX H100",
        2.3,
        TABLE,
        "table2: expert only, BS 1, 200 tokens, DGX H100",
    ),
)

# Software of 2026 on the DGX, which the paper does not know: no number of the paper rests on these.
AICONFIGURATOR = "AIConfigurator 0.12, TensorRT-LLM, Llama2-7B at TP8, one prompt"
CALIBRATED_2026: tuple[Calibrated, ...] = tuple(
    Calibrated(machine, path, published, value, AICONFIGURATOR, "")
    for machine, path, published, value in (
        ("dgx-a100", "stack.kernel_s", "a DGX A100 takes 2.97 ms a token", 0.00297),
        ("dgx-a100", "stack.start_s", "a DGX A100 takes 64.8 ms for 128 tokens in and 20 out", 0.0648),
        ("dgx-h100", "stack.kernel_s", "a DGX H100 takes 1.96 ms a token", 0.00196),
        ("dgx-h100", "stack.start_s", "a DGX H100 takes 40.7 ms for 128 tokens in and 20 out", 0.0407),
    )
)
