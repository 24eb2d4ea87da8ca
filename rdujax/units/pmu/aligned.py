"""PMU, aligned reads: vectors from the banks through the data alignment unit to the read port, and what they cost.

What it is     A read whose vectors are permuted, dilated, converted, shifted or looked up on their way out. The moves
               of the bits are those of alignment.py, the accesses those of scratchpad.py.

                   addresses --> [ banks ] --vectors--> [ data alignment ] --vectors--> read port

The law        The unit takes one vector per cycle from the banks and gives one vector of the port per cycle:
               cycles = max(cycles of banks and addresses, ceil(delivered bytes / port)) + latency.
               An unaligned vector is two accesses, one after another: of the lanes that it has in either of the two
               vectors that it lies in; an access without lanes takes no cycle of the banks.
               A look-up is a gather: as many entries per cycle as the PMU generates addresses.
Modelled       values, poison, counts and their prediction. `pmu.read_bytes` are the bytes delivered, with the filling
               of a dilation, and after a conversion in its format.
Not modelled   the vector that the unit could hold from one access of a run to the next; the unit's own latency.
Sources        MICRO 2024, IV-B; IEEE Micro 2024. One vector per cycle, and two accesses, are assumptions.

>>> from rdujax.machines import tiny
>>> from rdujax.units import pmu
>>> from rdujax.numerics.formats import INT32
>>> one = scratchpad.pad(tiny().pmu, INT32)
>>> at = np.arange(6, dtype=np.int32).reshape(3, 2)
>>> memory, _ = scratchpad.write(one, scratchpad.init(one), at, jnp.asarray(at))
>>> unaligned(one, memory, at, 1)[0].tolist()
[[1, 2], [3, 4]]
>>> straight, shifted = scratchpad.predict(one, "read", at[1:]), predict_unaligned(one, at, 1)
>>> pmu.price(tiny().pmu, shifted, 1) - pmu.price(tiny().pmu, straight, 1)
2
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.numerics import integer
from rdujax.numerics.formats import Format
from rdujax.streams.stream import POISON
from rdujax.units.pmu import alignment, scratchpad
from rdujax.units.pmu.scratchpad import Array, Pad, State


def permute(
    pad: Pad, state: State, addresses: Array, lanes: Sequence[int], valid: Array | None = None
) -> tuple[jax.Array, Counts]:
    """Reads vectors [n, lanes] and delivers lane `lanes[i]` of each as lane i: carriers [n, len(lanes)].

    Errors as `scratchpad.read` and `alignment.permute`. Derivative: in the memory.
    """
    values, counts = scratchpad.read(pad, state, addresses, valid)
    there = alignment.permute(alignment.inside(pad.elements, addresses, valid), lanes)
    delivered = jnp.sum(there, dtype=jnp.int32) * jnp.int32(pad.fmt.width_bytes)
    return alignment.permute(values, lanes), _delivered(counts, delivered)


def predict_permute(pad: Pad, addresses: np.ndarray, lanes: Sequence[int], valid: np.ndarray | None = None) -> Counts:
    """The counts of `permute` from the addresses alone, as Python ints."""
    there = _valid(addresses, valid)[:, alignment.chosen_lanes(addresses.shape[1], lanes)]
    counts = scratchpad.predict(pad, "read", addresses, valid)
    return _delivered(counts, int(np.count_nonzero(there)) * pad.fmt.width_bytes)


def dilate(
    pad: Pad,
    state: State,
    addresses: Array,
    factors: tuple[int, int],
    filling: float | int = 0,
    valid: Array | None = None,
) -> tuple[jax.Array, Counts]:
    """Reads vectors [n, lanes] and delivers them with factors[i] - 1 elements of `filling` between along axis i.

    Errors as `scratchpad.read` and `alignment.dilate`. Derivative: in the memory.
    """
    values, counts = scratchpad.read(pad, state, addresses, valid)
    spread = alignment.dilate(values, factors, filling)
    more = jnp.int32((spread.size - values.size) * pad.fmt.width_bytes)
    return spread, _delivered(counts, counts["pmu.read_bytes"] + more)


def predict_dilate(
    pad: Pad, addresses: np.ndarray, factors: tuple[int, int], valid: np.ndarray | None = None
) -> Counts:
    """The counts of `dilate` from the addresses alone, as Python ints."""
    counts = scratchpad.predict(pad, "read", addresses, valid)
    vectors, lanes = ((size - 1) * factor + 1 for size, factor in zip(addresses.shape, factors, strict=True))
    return _delivered(counts, counts["pmu.read_bytes"] + (vectors * lanes - addresses.size) * pad.fmt.width_bytes)


def cast(
    pad: Pad, state: State, addresses: Array, target: Format, valid: Array | None = None
) -> tuple[jax.Array, Counts]:
    """Reads vectors [n, lanes] and delivers them in format `target` (N6); poison stays poison in every format.

    Errors as `scratchpad.read`. Derivative: in the memory, between floats.
    """
    values, counts = scratchpad.read(pad, state, addresses, valid)
    converted = alignment.cast(values, pad.fmt, target)
    poison = jnp.asarray(POISON[target], target.carrier)
    known = jnp.where(scratchpad.written_at(state, addresses, valid), converted, poison)
    elements = jnp.sum(alignment.inside(pad.elements, addresses, valid), dtype=jnp.int32)
    return known, _delivered(counts, elements * jnp.int32(target.width_bytes))


def predict_cast(pad: Pad, addresses: np.ndarray, target: Format, valid: np.ndarray | None = None) -> Counts:
    """The counts of `cast` from the addresses alone, as Python ints."""
    elements = int(np.count_nonzero(_valid(addresses, valid)))
    return _delivered(scratchpad.predict(pad, "read", addresses, valid), elements * target.width_bytes)


def unaligned(
    pad: Pad, state: State, addresses: Array, offset: int | jax.Array, valid: Array | None = None
) -> tuple[jax.Array, Counts]:
    """Of vectors [n, lanes], those that begin `offset` lanes into each and end in the next: carriers [n - 1, lanes].

    Errors as `scratchpad.read` and `alignment.unaligned`; a JAX offset outside of 0 to lanes gives poison.
    Derivative: in the memory.
    """
    scratchpad.check_vectors(pad, addresses, valid)
    count, lanes = addresses.shape
    start, lane = alignment.checked_offset(count, lanes, offset), np.arange(lanes)[None]
    given = jnp.ones(addresses.shape, bool) if valid is None else jnp.asarray(valid)
    first, one = scratchpad.read(pad, state, addresses[:-1], given[:-1] & (lane >= start))
    second, other = scratchpad.read(pad, state, addresses[1:], given[1:] & (lane < start))
    pairs = jnp.stack([first, second], axis=1)
    return jax.vmap(lambda pair: alignment.unaligned(pair, start, pad.fmt)[0])(pairs), one + other


def predict_unaligned(pad: Pad, addresses: np.ndarray, offset: int, valid: np.ndarray | None = None) -> Counts:
    """The counts of `unaligned` from the addresses alone, as Python ints."""
    lane, given = np.arange(addresses.shape[1])[None], _valid(addresses, valid)
    first = scratchpad.predict(pad, "read", addresses[:-1], given[:-1] & (lane >= offset))
    return first + scratchpad.predict(pad, "read", addresses[1:], given[1:] & (lane < offset))


def lookup(
    pad: Pad, state: State, x: jax.Array, entries: int, *, start: int = 0, valid: Array | None = None
) -> tuple[jax.Array, Counts]:
    """The table at elements [start, start + entries) of the memory at x [n, lanes]; poison beyond its entries.

    x: INT32 indices, or BF16 carriers, whose upper 16 bits are the index. What lies beyond the table counts as read
    and not written. Errors as `scratchpad.read`. Derivative: in the memory, none in x.
    """
    indices = alignment.indices_of(x)
    there = alignment.inside(entries, indices, None)
    at = jnp.where(there, integer.add(indices, start), -1)
    return scratchpad.read(pad, state, at, valid, own=True)


def predict_lookup(
    pad: Pad, indices: np.ndarray, entries: int, *, start: int = 0, valid: np.ndarray | None = None
) -> Counts:
    """The counts of `lookup` from the indices alone, as Python ints. Raises ArgumentError beyond the entries."""
    alignment.refuse_outside(entries, indices, valid, where=f"a table of {entries:,} entries")
    return scratchpad.predict(pad, "read", indices + start, valid, own=True)


def _valid(addresses: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    return np.ones(addresses.shape, bool) if valid is None else valid


def _delivered(counts: Counts, delivered_bytes: jax.Array | int) -> Counts:
    return Counts({**counts, "pmu.read_bytes": delivered_bytes})
