"""PMUs together: one logical tensor that lives in several of them.

What it is     Each PMU sees every address of the tensor and drops those that are not its own, by a valid range or by a
               predicate on chosen bits (MICRO 2024, IV-B; Figure 4 keeps a 2 MiB tensor in four PMUs).

                   addresses --+--> [PMU 0: keeps 0 .. n-1   ]      split for capacity: ranges
                               +--> [PMU 1: keeps n .. 2n - 1]

                   addresses --+--> [PMU 0: keeps field = 0]        interleaved for bandwidth: a field of bits
                               +--> [PMU 1: keeps field = 1]

The law        Every address is kept by exactly one PMU, and no two addresses share a place in one. So what is written
               and read through the parts is what one large memory would hold, bit for bit. Lanes that no part keeps
               are poison; BOOL has none and reads False there.
Modelled       both ways of sharing, alone or one within the other, and the join of what the parts deliver.
Not modelled   the network on the way (see rdn.py); reordering by sequence identifiers.
Sources        MICRO 2024, IV-B and Figure 4.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, describe
from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import Format
from rdujax.streams.stream import POISON
from rdujax.units.pmu import scratchpad
from rdujax.units.pmu.address import Generator
from rdujax.units.pmu.expression import Address, constant
from rdujax.units.pmu.scratchpad import Array, Pad, State

Stream = tuple[Array, Array]  # int32 addresses and validity, both [n, lanes]


def split(generator: Generator, parts: int, elements: int) -> tuple[Generator, ...]:
    """The streams of PMUs that keep `elements` consecutive addresses each; what lies beyond the last is dropped.

    >>> from rdujax.units.pmu.address import Loop
    >>> from rdujax.units.pmu.expression import counter
    >>> print(split(Generator((Loop(8),), counter(0)), 2, 4)[1])
    c0<8: c0 - 4 if (c0 >= 4) & (c0 < 8)
    """
    _check(parts, elements)
    whole = generator.address
    return tuple(
        _kept(generator, whole - low if low else whole, (whole >= low) & (whole < low + elements))
        for low in range(0, parts * elements, elements)
    )


def interleaved(generator: Generator, parts: int, elements: int) -> tuple[Generator, ...]:
    """The streams of PMUs that keep every parts-th run of `elements` addresses: PMU i where the bits above a run are i.

    Both are powers of two. The bits of the run and those above the field make the address in the PMU.
    """
    _check(parts, elements)
    low, width = elements.bit_length() - 1, parts.bit_length() - 1
    if (parts, elements) != (1 << width, 1 << low):
        raise ArgumentError(
            describe("PMUs that no field of bits chooses", given=f"{parts} PMUs, runs of {elements} elements",
                     allowed="powers of two", do="split the tensor by ranges instead")
        )  # fmt: skip
    if width == 0:
        return (generator,)
    whole = generator.address
    upper = whole >> width
    local = upper.set(whole, 0, low) if low else upper
    return tuple(_kept(generator, local, whole.extract(low, width).equals(part)) for part in range(parts))


def _kept(generator: Generator, local: Address, mine: Address) -> Generator:
    predicate = mine if generator.predicate is None else generator.predicate & mine
    return replace(generator, address=local, predicate=predicate)


def _check(parts: int, elements: int) -> None:
    if parts < 1 or elements < 1:
        raise ArgumentError(
            describe("a tensor in no PMU", given=f"{parts} PMUs of {elements} elements", allowed="1 or more of each")
        )
    constant(parts * elements)


def write(
    pad: Pad, states: Sequence[State], streams: Sequence[Stream], values: jax.Array
) -> tuple[tuple[State, ...], tuple[Counts, ...]]:
    """Sends the vectors [n, lanes] to every part, which takes them by its own (addresses, validity).

    Returns the states and the counts of all parts, in their order.
    """
    written = [
        scratchpad.write(pad, state, addresses, values, valid)
        for state, (addresses, valid) in zip(states, streams, strict=True)
    ]
    return tuple(state for state, _ in written), tuple(counts for _, counts in written)


def read(pad: Pad, states: Sequence[State], streams: Sequence[Stream]) -> tuple[jax.Array, tuple[Counts, ...]]:
    """Reads the vectors from every part and joins them: carriers [n, lanes], poison in lanes that nobody keeps."""
    answers = [
        (*scratchpad.read(pad, state, addresses, valid), valid)
        for state, (addresses, valid) in zip(states, streams, strict=True)
    ]
    values = join(pad.fmt, [value for value, _, _ in answers], [valid for _, _, valid in answers])
    return values, tuple(counts for _, counts, _ in answers)


def join(fmt: Format, values: Sequence[jax.Array], valid: Sequence[Array]) -> jax.Array:
    """The lanes of each part where it answered; poison where none did. Derivative: in the part that answered."""
    joined = jnp.full_like(values[0], POISON[fmt])
    for value, answered in zip(values, valid, strict=True):
        joined = jnp.where(jnp.asarray(answered), value, joined)
    return joined
