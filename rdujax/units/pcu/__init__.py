"""PCU: pattern compute unit. Header, body and tail, and the counters that drive them.

What it is     The unit that computes (MICRO 2024, section IV-A). Its parts have a file each:

                   operands > [ header.py: broadcast buffer ]
                                  |
                              [ body: systolic.py, an output-stationary array; or simd.py, lanes x stages,
                                      with lanes.py: sums in time and across lanes ]
                                  |
                              [ tail.py: special functions, conversion, random words ] > results
                   [ counters.py: loop nests ] > control events

               expression.py is what a SIMD body computes, parallel.py how several PCUs share work.
The law        The parts work at the same time on successive vectors. A PCU is busy for as long as its busiest part:
               price = max(header_bytes / vector bytes,
                           macs / cells + simd_operations / (lanes x stages) + lane_reductions / lanes,
                           tail_operations / lanes, random_words / lanes, turns / turns per cycle),
               each quotient rounded up.
Modelled       number of PCUs, cells of the array, SIMD lanes by width, SIMD stages, bytes of the broadcast buffer;
               the price is a lower bound from the work alone, at the rates of BF16: FP32 and INT32 run on fewer lanes
               and contract on the SIMD pipeline (see `array`), which counts do not tell apart. What a shape and a
               format cost, with filling, draining and idle cells, is said by `cycles` of each part.
Not modelled   context switching, stalls of the output FIFO.
Sources        peak and number of PCUs are stated (MICRO 2024, Table II); the shape of one PCU is an assumption that
               reproduces the peak: rows x columns x 2 x clock x PCUs.
"""

from typing import Any

from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import Priced, ceil_div, maximum
from rdujax.numerics.formats import BF16, Format
from rdujax.units import capacity
from rdujax.units.unit import UNITS, Unit

declare("pcu.macs", unit="MAC", doc="multiply-accumulates of contractions, padding not counted")
declare("pcu.simd_operations", unit="operation", doc="element-wise operations, padding not counted")
declare("pcu.lane_reductions", unit="operation", doc="pairs combined by reductions, in time and across lanes")
declare("pcu.tail_operations", unit="operation", doc="special functions and conversions of the tail, by element")
declare("pcu.random_words", unit="word", doc="words that the tail's generator gave")
declare("pcu.header_bytes", unit="byte", doc="bytes loaded into broadcast buffers")
declare("pcu.turns", unit="turn", doc="turns of counter nests")
declare("pcu.events", unit="event", doc="control events of counters; free: they leave with the turn that ends a count")


@record()
class Config:
    """Facts of one PCU and how many a socket has.

    count: PCUs per socket.
    systolic_rows, systolic_columns: cells of the BF16 array, one multiply-accumulate per cell and cycle.
    lanes_bf16, lanes_32bit: SIMD lanes for BF16 and for 32-bit operands (one 64-byte vector each).
    simd_stages: arithmetic stages of the SIMD pipeline.
    header_bytes: what the broadcast buffer of the header holds.
    turns_per_cycle: turns that a nest of counters makes.
    """

    count: Fact
    systolic_rows: Fact
    systolic_columns: Fact
    lanes_bf16: Fact
    lanes_32bit: Fact
    simd_stages: Fact
    header_bytes: Fact
    turns_per_cycle: Fact


def array(config: Config, fmt: Format) -> tuple[int, int]:
    """(rows, columns) of the array that contracts operands of `fmt`.

    BF16 runs on the systolic array. FP32 and INT32 run on the SIMD pipeline, where a multiply and an add take two
    stages, so that lanes x stages / 2 multiply-accumulates are made per cycle (assumption "no systolic FP32").
    """
    if fmt is BF16:
        return config.systolic_rows.value, config.systolic_columns.value
    return config.lanes_32bit.value, max(1, config.simd_stages.value // 2)


def lane_count(config: Config, fmt: Format) -> int:
    """SIMD lanes for values of `fmt`."""
    return config.lanes_bf16.value if fmt is BF16 else config.lanes_32bit.value


def vector_bytes(config: Config) -> Any:
    """Bytes of one vector, which is what a port of the PCU takes per cycle: a BF16 for each lane."""
    return config.lanes_bf16.value * BF16.width_bytes


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses more PCUs than the socket has, with the list of what is needed (law L6)."""
    capacity.check(
        "PCU", needs, int(config.count.value), where=where, do="cut the kernel, or ask for fewer PCUs per stage"
    )


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which the counted work keeps one PCU busy if all of it is BF16: a lower bound for other formats.

    See the law; 32-bit operands take longer (sn40l: 192 multiply-accumulates a cycle in BF16, 48 in FP32). The clock
    plays no part in it. Exact on plain facts, differentiable in facts that JAX traces.

    >>> from types import SimpleNamespace as Facts
    >>> one = {"systolic_rows": 32, "systolic_columns": 6, "lanes_bf16": 32, "simd_stages": 6, "turns_per_cycle": 1}
    >>> config = Facts(**{name: Facts(value=value) for name, value in one.items()})
    >>> price(config, Counts({"pcu.macs": 192_000, "pcu.random_words": 320}), 1_600_000_000)
    1000
    """
    lane_count, stages = config.lanes_bf16.value, config.simd_stages.value
    cells = config.systolic_rows.value * config.systolic_columns.value
    body_cycles = (
        ceil_div(counts["pcu.macs"], cells)
        + ceil_div(counts["pcu.simd_operations"], lane_count * stages)
        + ceil_div(counts["pcu.lane_reductions"], lane_count)
    )
    return maximum(
        ceil_div(counts["pcu.header_bytes"], vector_bytes(config)),
        body_cycles,
        ceil_div(counts["pcu.tail_operations"], lane_count),
        ceil_div(counts["pcu.random_words"], lane_count),
        ceil_div(counts["pcu.turns"], config.turns_per_cycle.value),
    )


COUNTERS = (
    "pcu.macs", "pcu.simd_operations", "pcu.lane_reductions", "pcu.tail_operations", "pcu.random_words",
    "pcu.header_bytes", "pcu.turns", "pcu.events",
)  # fmt: skip

UNIT = UNITS.add("pcu", Unit("pcu", Config, COUNTERS, price))
