"""Memory tiers behind the top-level network: HBM, DDR and host memory.

What it is     64 GiB of HBM and up to 1.5 TiB of DDR per socket, both managed by software, in separate address
               spaces; HBM serves as a software cache over DDR (MICRO 2024, sections III and V).
The law        cycles = ceil(bytes x clock / (bandwidth x efficiency))
Modelled       capacity in bytes, one bandwidth for reads and writes together, a share of it that can be reached.
Not modelled   pages, channels, refresh, address interleaving.
Sources        the facts of the machine carry their own.
"""

from typing import Any

from rdujax.base.errors import CapacityError, describe
from rdujax.base.facts import Fact, record
from rdujax.ledger import counts as ledger
from rdujax.ledger.numbers import ceil_div, common

TIERS = ("hbm", "ddr", "host")
for _tier in TIERS:
    ledger.declare(f"{_tier}.read_bytes", unit="byte", doc=f"bytes that AGCUs loaded from {_tier}")
    ledger.declare(f"{_tier}.written_bytes", unit="byte", doc=f"bytes that AGCUs stored to {_tier}")


@record()
class Config:
    """Facts of one tier of one socket.

    capacity_bytes: how much it holds.
    bandwidth_bytes_per_s: peak, reads and writes together.
    efficiency: the share of the peak that long streams reach, between 0 and 1.
    """

    capacity_bytes: Fact
    bandwidth_bytes_per_s: Fact
    efficiency: Fact


def transfer_cycles(config: Config, clock_hz: Any, amount_bytes: Any) -> Any:
    """Cycles to move `amount_bytes` at the reachable share of the bandwidth.

    Exact on plain facts (0.85 is 17/20), differentiable in the facts under a JAX transformation.
    """
    amount, clock, bandwidth, share = common(
        amount_bytes, clock_hz, config.bandwidth_bytes_per_s.value, config.efficiency.value
    )
    return ceil_div(amount * clock, bandwidth * share)


def check(tier: str, config: Config, symbols: dict[str, int]) -> None:
    """Refuses more bytes than the tier holds, with the table of symbols (law L6)."""
    needed, there = sum(symbols.values()), int(config.capacity_bytes.value)
    if needed > there:
        table = "".join(
            f"\n    {size:>20,} bytes  {name}" for name, size in sorted(symbols.items(), key=lambda s: -s[1])
        )
        raise CapacityError(
            describe(
                f"the symbols of the program do not fit into {tier}",
                given=f"{needed:,} bytes needed, {needed - there:,} too many:{table}",
                allowed=f"{there:,} bytes",
                do="use smaller shapes, or a machine with a larger tier",
            )
        )
