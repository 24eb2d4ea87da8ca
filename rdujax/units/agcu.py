"""AGCU: address generation and coalescing unit, the bridge between a tile and the memory tiers.

What it is     The unit at the edge of a tile that generates addresses for off-chip memory, coalesces requests and
               streams vectors in and out; it holds no SRAM (MICRO 2024, section IV-D).

                   tier (words at rest) --load-->  tile stream  -- ... -->  tile stream  --store--> tier

The law        A load delivers the tiles of a tensor in the order of a loop nest; a tile that the nest asks for again
               is moved again. Bytes moved = sum of the valid elements of all delivered tiles x bytes per element.
               cycles = ceil(bytes / (AGCUs x port bytes per cycle)), beside what the tier itself takes.
Modelled       tile order with repeats, ragged tails, bytes per tier, port width, number of units.
Not modelled   translation, segments, coalescing of partial vectors (bytes asked equal bytes moved).
Sources        MICRO 2024, section IV-D; number and width of the units are assumptions of the machine.
"""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.facts import Fact, record
from rdujax.ledger.counts import Counts, declare
from rdujax.ledger.numbers import ceil_div, exact
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16, Format
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.streams.stream import Stream
from rdujax.units import capacity
from rdujax.units.memory import TIERS  # noqa: F401  (declares the counters of the tiers)

declare("agcu.tiles", unit="tile", doc="tiles that AGCUs loaded or stored")


@record()
class Config:
    """Facts of the AGCUs of one socket: how many there are, and the width of one port."""

    count: Fact
    port_bytes_per_cycle: Fact


def to_rest(x: jax.Array, fmt: Format) -> jax.Array:
    """Carriers -> words at rest: uint16 for BF16, unchanged otherwise. Not differentiable in the words."""
    return convert.pack(x) if fmt is BF16 else x


def load(
    words: jax.Array,
    layout: Layout,
    fmt: Format,
    tier: str,
    visits: np.ndarray | None = None,
    how: Executor = "whole",
    tally: bool = True,
) -> tuple[Stream, Counts]:
    """Streams a tensor from a tier.

    words: [*shape], words at rest or carriers. layout: the tiles. visits: int [n_visits], the tiles that the loop
    nest asks for, as indices in order of arrival, repeats included (default: each once).
    Returns the stream (each tile once, in order of arrival) and the counts, one entry per visit (none without `tally`).
    """
    stream = Stream(streams.cut(words, layout, fmt), layout, fmt)
    return stream, _moved(layout, fmt, f"{tier}.read_bytes", visits, how) if tally else Counts()


def store(stream: Stream, tier: str, how: Executor = "whole", tally: bool = True) -> tuple[jax.Array, Counts]:
    """Streams a tensor to a tier: ([*shape] carriers, counts per tile). Ragged tails are cut off."""
    moved = _moved(stream.layout, stream.fmt, f"{tier}.written_bytes", None, how) if tally else Counts()
    return streams.untile(stream), moved


def _moved(layout: Layout, fmt: Format, counter: str, visits: np.ndarray | None, how: Executor) -> Counts:
    must_fit_int32(prod(layout.tile) * fmt.width_bytes, f"bytes of a tile of {layout}")
    extents = layout.extents if visits is None else layout.extents[visits]

    def step(extent: jax.Array) -> Counts:
        moved_bytes = jnp.prod(extent, dtype=jnp.int32) * jnp.int32(fmt.width_bytes)
        return Counts({"agcu.tiles": jnp.ones((), jnp.int32), counter: moved_bytes})

    return over_tiles(step, how, jnp.asarray(extents))


def predict(size_bytes: int, tiles: int, counter: str, sweeps: int = 1) -> Counts:
    """The counts of moving a tensor of `size_bytes`, cut into `tiles`, `sweeps` times, from its shape alone."""
    return Counts({"agcu.tiles": tiles * sweeps, counter: size_bytes * sweeps})


def cycles(config: Config, own_bytes: Any, units: int) -> Any:
    """Cycles that a stream of `own_bytes` occupies the ports of its AGCUs; exact, or differentiable in the facts."""
    return ceil_div(own_bytes, config.port_bytes_per_cycle.value * units)


def units_for(config: Config, bytes_per_turn: int, turn_cycles: Any) -> int:
    """AGCUs that one stream needs so that its ports carry `bytes_per_turn` within `turn_cycles`."""
    return max(1, ceil_div(bytes_per_turn, exact(config.port_bytes_per_cycle.value) * turn_cycles))


def check(config: Config, needs: dict[str, int], where: str) -> None:
    """Refuses more AGCUs than the socket has, with the list of what is needed (law L6)."""
    capacity.check("AGCU", needs, int(config.count.value), where=where, do="cut the kernel into several")
