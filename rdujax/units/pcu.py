"""PCU: pattern compute unit. Header, body, tail; the body is a systolic array or a SIMD pipeline.

What it is     header (broadcast buffer) > body > tail (special functions, conversion, output FIFO). The body runs as an
               output-stationary array (see systolic.py) or as lanes x stages of SIMD pipeline (see simd.py)
               (MICRO 2024, section IV-A).
Modelled       how many PCUs there are, the array's rows and columns, SIMD lanes by width, SIMD stages.
Not modelled   counters and control events, context switching.
Sources        peak and number of PCUs are stated (MICRO 2024, Table II); the shape of one PCU is an assumption that
               reproduces the peak: rows x columns x 2 x clock x PCUs.
"""

from rdujax.base.facts import Fact, record
from rdujax.numerics.formats import BF16, Format
from rdujax.units import capacity


@record()
class Config:
    """Facts of one PCU and how many a socket has.

    count: PCUs per socket.
    systolic_rows, systolic_columns: cells of the BF16 array, one multiply-accumulate per cell and cycle.
    lanes_bf16, lanes_32bit: SIMD lanes for BF16 and for 32-bit operands (one 64-byte vector each).
    simd_stages: arithmetic stages of the SIMD pipeline.
    """

    count: Fact
    systolic_rows: Fact
    systolic_columns: Fact
    lanes_bf16: Fact
    lanes_32bit: Fact
    simd_stages: Fact


def array(config: Config, fmt: Format) -> tuple[int, int]:
    """(rows, columns) of the array that contracts operands of `fmt`.

    BF16 runs on the systolic array. FP32 and INT32 run on the SIMD pipeline, where a multiply and an add take two
    stages, so that lanes x stages / 2 multiply-accumulates are made per cycle (assumption "no systolic FP32").
    """
    if fmt is BF16:
        return config.systolic_rows.value, config.systolic_columns.value
    return config.lanes_32bit.value, max(1, config.simd_stages.value // 2)


def lanes(config: Config, fmt: Format) -> int:
    """SIMD lanes for values of `fmt`."""
    return config.lanes_bf16.value if fmt is BF16 else config.lanes_32bit.value


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses more PCUs than the socket has, with the list of what is needed (law L6)."""
    capacity.check(
        "PCU", needs, int(config.count.value), where=where, do="cut the kernel, or ask for fewer PCUs per stage"
    )
