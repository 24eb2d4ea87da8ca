"""Virtual memory as an AGCU sees it: addresses of counters through segments into the symbols of several tiers.

    walk of virtual addresses --> segment --> tier, physical addresses --> requests --> words of a symbol --> tile

A segment bears the name of the symbol that it maps. What is refused: an address outside every segment or beyond the
one it begins in, a write where a segment or a symbol is read only, a segment longer than its symbol or past the end of
its tier. Requests are cut
where the symbol physically rests, so a symbol that begins within a granule costs what it would there.
"""

from collections.abc import Mapping

import jax

from rdujax.base.errors import CapacityError, describe
from rdujax.ledger.counts import Counts
from rdujax.units import agcu
from rdujax.units.agcu.coalesce import Walk
from rdujax.units.agcu.translation import Segment, Table
from rdujax.units.memory import contents
from rdujax.units.memory.contents import Contents, Symbol

Memory = Mapping[str, Contents]


def load(config: agcu.Config, table: Table, memory: Memory, walk: Walk) -> tuple[jax.Array, Counts]:
    """One tile from virtual addresses: ([*trips, elements of a run], counts as scalars).

    memory: contents of every tier that the table maps. Raises as `Table.find`, `Table.check`, `Table.check_tiers` and
    `agcu.load_strided`; derivatives pass to the words.
    """
    segment, symbol = _mapped(config, table, memory, walk, write=False)
    words = contents.read(memory[segment.tier], segment.name).reshape(-1)
    inner = walk.moved(-segment.base_bytes)
    return agcu.load_strided(config, words, inner, symbol.fmt, segment.tier, segment.physical_bytes)


def store(
    config: agcu.Config, table: Table, memory: Memory, walk: Walk, tile: jax.Array
) -> tuple[dict[str, Contents], Counts]:
    """One tile to virtual addresses: (memory with the symbol written, counts as scalars).

    tile: [*trips, elements of a run], of the kind of the words there. Raises as `load` and `agcu.store_strided`, and
    ArgumentError for what is read only.
    """
    segment, symbol = _mapped(config, table, memory, walk, write=True)
    tier = memory[segment.tier]
    words = contents.read(tier, segment.name).reshape(-1)
    inner = walk.moved(-segment.base_bytes)
    new, counts = agcu.store_strided(config, words, tile, inner, symbol.fmt, segment.tier, segment.physical_bytes)
    return {**memory, segment.tier: contents.write(tier, segment.name, new.reshape(symbol.shape))}, counts


def _mapped(config: agcu.Config, table: Table, memory: Memory, walk: Walk, *, write: bool) -> tuple[Segment, Symbol]:
    table.check(int(config.segments.value), "the segments of an AGCU")
    table.check_tiers({tier: held.capacity_bytes for tier, held in memory.items()}, "the segments of an AGCU")
    segment = table.find(walk.first_bytes, walk.end_bytes, write=write)
    symbol = memory[segment.tier].symbol(segment.name)
    if segment.length_bytes > symbol.size_bytes:
        raise CapacityError(
            describe(
                "a segment is longer than its symbol",
                given=str(segment),
                allowed=f"{symbol.size_bytes:,} bytes",
                where=segment.name,
            )
        )
    return segment, symbol
