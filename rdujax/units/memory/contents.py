"""What rests in a memory tier: symbols, their words, and who may write them.

    host --place--> | name: words at rest | --read--> AGCU
                    |         ^           |
                    |         +-- write --|<-- AGCU        (refused where the symbol is read only)
                    | name --copy--> name in another tier  (DMA: reads here, writes there)

A word that nobody wrote is poison: NaN, or a conspicuous word among integers. `Contents` is a value and a pytree:
words are traced, names, shapes and rights are static, so placing, writing and copying can be jitted, mapped and
differentiated. Words at rest are uint16 for BF16 and carriers for the other formats; carriers of BF16 may be kept
instead where a derivative has to pass. A carrier that no BF16 word holds does not fit into its place: it is refused
where its value is known, and becomes poison where JAX traces it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.compat import is_tracer
from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe, unknown
from rdujax.ledger.counts import Counts
from rdujax.numerics.bits import to_bits
from rdujax.numerics.formats import BF16, Format
from rdujax.streams.stream import POISON, POISON_WORD
from rdujax.units import memory, tally


@dataclass(frozen=True)
class Symbol:
    """A named tensor at rest. read_only: only `place` and `copy` fill it (weights), no kernel writes it."""

    shape: tuple[int, ...]
    fmt: Format
    read_only: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes at rest."""
        return prod(self.shape) * self.fmt.width_bytes


@partial(jax.tree_util.register_dataclass, data_fields=["words"], meta_fields=["tier", "symbols", "capacity_bytes"])
@dataclass(frozen=True)
class Contents:
    """The symbols of one tier. words: one array per name. tier: its name. symbols: pairs of name and symbol.

    capacity_bytes: what the tier holds in all.
    """

    words: dict[str, jax.Array]
    tier: str
    symbols: tuple[tuple[str, Symbol], ...]
    capacity_bytes: int

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name; raises UnknownNameError for any other."""
        table = dict(self.symbols)
        if name not in table:
            raise unknown(f"symbol in {self.tier}", name, table)
        return table[name]


def allocate(tier: str, config: memory.Config, symbols: Mapping[str, Symbol]) -> Contents:
    """A tier with room for the symbols, all of it poison. Raises CapacityError for a byte too many (law L6)."""
    memory.check_tier(tier)
    memory.check(tier, config, {name: symbol.size_bytes for name, symbol in symbols.items()})
    words = {name: _unwritten(symbol) for name, symbol in symbols.items()}
    return Contents(words, tier, tuple(symbols.items()), int(config.capacity_bytes.value))


def check_words(words: jax.Array, fmt: Format, where: str) -> None:
    """Refuses an array that cannot hold a format: FormatError unless it holds carriers, or BF16 words at rest."""
    kinds = (fmt.carrier, jnp.dtype(jnp.uint16)) if fmt is BF16 else (fmt.carrier,)
    if words.dtype not in kinds:
        allowed = " or ".join(jnp.dtype(kind).name for kind in kinds)
        given = jnp.dtype(words.dtype).name
        raise FormatError(describe(f"an array that holds no {fmt}", given=given, allowed=allowed, where=where))


def place(contents: Contents, name: str, words: jax.Array) -> Contents:
    """Contents with a symbol filled from outside, read only or not.

    words: [*shape], uint16 or carriers for BF16, carriers otherwise. Raises ShapeError, FormatError (also for carriers
    of BF16 that hold more than BF16, where they are known; where they are traced, such a word is poison) and
    UnknownNameError.
    """
    symbol = contents.symbol(name)
    if words.shape != symbol.shape:
        raise ShapeError(
            describe("an array of another shape than its symbol", given=words.shape, allowed=symbol.shape, where=name)
        )
    check_words(words, symbol.fmt, name)
    if symbol.fmt is BF16 and words.dtype != jnp.uint16:
        words = _narrow_enough(words, name)
    return replace(contents, words={**contents.words, name: words})


def _narrow_enough(carriers: jax.Array, name: str) -> jax.Array:
    """Carriers of BF16 as they are, if words of 16 bits hold them."""
    fits = (to_bits(carriers) & 0xFFFF) == 0
    if is_tracer(fits):
        return jnp.where(fits, carriers, jnp.asarray(POISON[BF16], carriers.dtype))
    wide = np.argwhere(~np.asarray(fits))
    if len(wide):
        raise FormatError(
            describe(
                "carriers that hold more than BF16",
                given=f"{len(wide):,} of {carriers.size:,}, the first at {wide[0].tolist()}",
                allowed="carriers whose low 16 bits are zero",
                where=name,
                do="round them first, with numerics.convert.round_to",
            )
        )
    return carriers


def write(contents: Contents, name: str, words: jax.Array) -> Contents:
    """Contents with a symbol written by a kernel; as `place`, and ArgumentError where the symbol is read only."""
    if contents.symbol(name).read_only:
        raise ArgumentError(
            describe(
                "a symbol that is read only cannot be written by a kernel",
                given=name,
                where=contents.tier,
                do="declare it without read_only, or fill it with place",
            )
        )
    return place(contents, name, words)


def read(contents: Contents, name: str) -> jax.Array:
    """The words of a symbol, poison where nobody wrote."""
    _ = contents.symbol(name)
    return contents.words[name]


def copy(source: Contents, target: Contents, names: Mapping[str, str]) -> tuple[Contents, Counts]:
    """Copies symbols between tiers, names in `source` to names in `target`: (target, counts in pieces of 1 GiB).

    Bits are kept. Every byte is read at the source and written at the target. Raises as `place`, and FormatError for
    symbols of different formats: a copy converts nothing.
    """
    _check_pairs(source, target, names)
    amounts = []
    for here, there in names.items():
        target = place(target, there, read(source, here))
        amounts.append(tally.piece_bytes(read(source, here), source.symbol(here).fmt))
    moved = jnp.concatenate(amounts) if amounts else 0
    return target, Counts({f"{source.tier}.read_bytes": moved}) + Counts({f"{target.tier}.written_bytes": moved})


def predict_copy(source: Contents, target: Contents, names: Mapping[str, str]) -> Counts:
    """The counts of `copy`, from shapes alone; raises as it does."""
    _check_pairs(source, target, names)
    moved = sum(source.symbol(name).size_bytes for name in names)
    return Counts({f"{source.tier}.read_bytes": moved}) + Counts({f"{target.tier}.written_bytes": moved})


def _check_pairs(source: Contents, target: Contents, names: Mapping[str, str]) -> None:
    for here, there in names.items():
        one, other = source.symbol(here), target.symbol(there)
        if one.fmt is not other.fmt:
            raise FormatError(
                describe(
                    "a copy between symbols of different formats",
                    given=f"{here} of {one.fmt}",
                    allowed=str(other.fmt),
                    where=f"{source.tier} to {target.tier}, {there}",
                    do="convert in a kernel: a copy keeps every bit",
                )
            )


def release(contents: Contents, *names: str) -> Contents:
    """Contents without the named symbols. Raises UnknownNameError for one that is not there."""
    for name in names:
        _ = contents.symbol(name)
    return replace(
        contents,
        words={name: words for name, words in contents.words.items() if name not in names},
        symbols=tuple((name, symbol) for name, symbol in contents.symbols if name not in names),
    )


def _unwritten(symbol: Symbol) -> jax.Array:
    if symbol.fmt is BF16:
        return jnp.full(symbol.shape, POISON_WORD, jnp.uint16)
    return jnp.full(symbol.shape, POISON[symbol.fmt], symbol.fmt.carrier)
