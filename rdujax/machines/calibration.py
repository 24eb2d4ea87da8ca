"""Facts of the SN40L that nobody published and that were solved from one published number each.

To find such a number again says nothing for the emulator; everything else that is published is a test of it. Where the
benchmarks print one, they mark its row "calibrated".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Calibrated:
    """One fact, by its path, and the number that it was solved from.

    benchmark: the row that computes it again, empty where none does.
    """

    path: str
    published: str
    value: float
    source: str
    benchmark: str


SN40L: tuple[Calibrated, ...] = (
    Calibrated(
        "launch.host_argument_s",
        "decoding is up to 13 times as fast as unfused, Mistral the most",
        13.0,
        "MICRO 2024, section VI-A",
        "fig6: mistral7B-2k-decode",
    ),
    Calibrated(
        "ddr.efficiency",
        "an expert is switched 31 times as fast as on a DGX A100, which copies at 32 GB/s",
        31.0,
        "MICRO 2024, Table V",
        "",
    ),
)
