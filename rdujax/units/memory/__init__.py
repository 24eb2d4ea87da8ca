"""Memory tiers behind the top-level network: HBM, DDR and host memory.

What it is     64 GiB of HBM and up to 1.5 TiB of DDR per socket, both managed by software, in separate address
               spaces; HBM serves as a software cache over DDR (MICRO 2024, sections III and V).

                   streams of AGCUs --> | tier: symbols at rest | <-- copies, DMA of the host

The law        cycles = ceil(bytes x clock / (bandwidth x efficiency)); the first byte arrives after the latency;
               what holds no byte takes no time.
               Concurrent streams divide the bandwidth: in a pipeline's turn statically (each is busy for as long as all
               together take), otherwise max-min fairly from start to end (sharing.py).
Modelled       capacity in bytes, one bandwidth for reads and writes together, a share of it that can be reached,
               latency, sharing between streams. What rests in a tier, symbol by symbol, is in contents.py.
Not modelled   pages, channels, refresh, address interleaving. A program's price takes a kernel's first latency as
               part of its launch.
Sources        the facts of the machine carry their own.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rdujax.base.errors import unknown
from rdujax.base.facts import Fact, record
from rdujax.ledger import counts as ledger
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import Exact, Priced, ceil_div, common, exact, is_exact, ratio, whole
from rdujax.units import capacity, sharing
from rdujax.units.sharing import Flow, unless_nothing
from rdujax.units.unit import UNITS, Unit

TIERS = ("hbm", "ddr", "host")
for _tier in TIERS:
    ledger.declare(f"{_tier}.read_bytes", unit="byte", doc=f"bytes that were read from {_tier}")
    ledger.declare(f"{_tier}.written_bytes", unit="byte", doc=f"bytes that were written to {_tier}")
COUNTERS = tuple(f"{tier}.{side}_bytes" for tier in TIERS for side in ("read", "written"))


@record()
class Config:
    """Facts of one tier of one socket.

    capacity_bytes: how much it holds.
    bandwidth_bytes_per_s: peak, reads and writes together.
    efficiency: the share of the peak that long streams reach, between 0 and 1.
    latency_s: from a request to its first byte.
    """

    capacity_bytes: Fact
    bandwidth_bytes_per_s: Fact
    efficiency: Fact
    latency_s: Fact


def check_tier(tier: str, where: str = "") -> None:
    """Raises UnknownNameError for a tier that does not exist."""
    if tier not in TIERS:
        raise unknown("memory tier", tier, TIERS, where=where)


def transfer_cycles(config: Config, clock_hz: Any, amount_bytes: Any) -> Any:
    """Cycles to move `amount_bytes` at the reachable share of the bandwidth, the latency not included.

    Exact on plain facts (0.85 is 17/20), differentiable in the facts under a JAX transformation. Raises ArgumentError
    for a negative amount.
    """
    facts = clock_hz, config.bandwidth_bytes_per_s.value, config.efficiency.value
    amount = whole(amount_bytes, what="amount_bytes")
    if is_exact(amount, *facts):
        cycles, moved_bytes = _pace(*facts)
        return ceil_div(amount * cycles, moved_bytes)
    amount, clock, bandwidth, share = common(amount, *facts)
    return ceil_div(amount * clock, bandwidth * share)


@lru_cache(maxsize=256)
def _pace(clock_hz: Any, bandwidth_bytes_per_s: Any, efficiency: Any) -> tuple[int, int]:
    """In how many cycles a tier moves how many bytes, exactly: asked again and again of one machine."""
    clock, bandwidth, share = map(exact, (clock_hz, bandwidth_bytes_per_s, efficiency))
    pace = ratio(clock, bandwidth * share)
    return pace.numerator, pace.denominator


def arrival_cycles(config: Config, clock_hz: Any, amount_bytes: Any) -> Priced:
    """Cycles from a request to the last of its bytes, alone at the tier: latency and transfer, rounded up once.

    No bytes take no time. Exact on plain facts, differentiable in the facts. Raises ArgumentError for a negative
    amount.

    >>> from rdujax.machines import tiny
    >>> arrival_cycles(tiny().hbm, 1_000_000, 160)        # 10 cycles of latency, 16 bytes per cycle
    20
    """
    latency, amount, clock, bandwidth, share = common(
        config.latency_s.value,
        whole(amount_bytes, what="amount_bytes"),
        clock_hz,
        config.bandwidth_bytes_per_s.value,
        config.efficiency.value,
    )
    return unless_nothing(amount, ceil_div((latency * bandwidth * share + amount) * clock, bandwidth * share))


def finish_cycles(config: Config, clock_hz: Any, flows: Sequence[Flow]) -> dict[str, Exact]:
    """When the last byte of each concurrent stream has arrived, the tier shared fairly; exact Fractions of a cycle.

    >>> from rdujax.machines import tiny
    >>> finish_cycles(tiny().hbm, 1_000_000, [Flow("weights", 320), Flow("cache", 80)])
    {'weights': 35, 'cache': 20}
    """
    clock = exact(clock_hz)
    width = exact(config.bandwidth_bytes_per_s.value) * exact(config.efficiency.value)
    return sharing.finish_cycles(flows, ratio(width, clock), exact(config.latency_s.value) * clock)


def of_tier(counts: Counts, tier: str) -> Counts:
    """Only what was counted at one tier. Raises UnknownNameError for a tier that does not exist."""
    check_tier(tier)
    return Counts({name: counts[name] for name in COUNTERS if name.startswith(f"{tier}.")})


def price(config: Config, counts: Counts, clock_hz: Any) -> Priced:
    """Cycles for which everything that was counted would keep this tier busy: reads and writes over its bandwidth.

    Of a program's counts, take `of_tier`: each tier has its own facts. Exact, and differentiable in the facts.
    """
    moved: Priced = 0
    for name in COUNTERS:
        one, other = common(moved, counts[name])
        moved = one + other
    return transfer_cycles(config, clock_hz, moved)


def check(tier: str, config: Config, symbols: dict[str, int]) -> None:
    """Refuses more bytes than the tier holds, with the table of symbols (law L6)."""
    capacity.check(
        "byte",
        symbols,
        int(config.capacity_bytes.value),
        problem=f"the symbols of the program do not fit into {tier}",
        do="use smaller shapes, or a machine with a larger tier",
    )


UNIT = UNITS.add("memory", Unit("memory", Config, COUNTERS, price))
