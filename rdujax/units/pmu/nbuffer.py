"""PMU as an N-buffer: a writer and a reader that take turns over N slots, kept apart by tokens.

What it is     The usual double buffer between two stages, and deeper ones: the writer fills a slot while the reader
               empties another; counter-done events are the tokens between them (MICRO 2024, IV-C and VII).

                   writer --> [ slot 0 | slot 1 | ... | slot N-1 ] --> reader
                      <-- token: a slot is free      token: a slot is full -->

The law        0 <= full slots <= N. A write without a free slot and a read without a full one change nothing and say
               so: the write is not accepted, the read delivers poison. A released slot is poison again, so a reader
               that runs ahead of its token never sees what an earlier turn left there (BOOL has no
               poison and reads False there: the token and the counts tell). No address leaves its slot.
Modelled       any N, any access pattern within a slot, the tokens, slots in banks of their own (`banks.halves`).
Not modelled   the time a token travels (see rdn.py).
Sources        MICRO 2024, IV-C and VII.

>>> import numpy as np
>>> from rdujax.machines import tiny
>>> from rdujax.numerics.formats import INT32
>>> double = NBuffer(scratchpad.pad(tiny().pmu, INT32), slots=2, slot_elements=2)
>>> at = np.asarray([[0, 1]], np.int32)
>>> state, accepted, _ = write(double, init(double), at, jnp.asarray([[5, 6]]))
>>> state, values, ready, _ = read(double, state, at)
>>> values.tolist(), bool(ready), bool(read(double, state, at)[2])
([[5, 6]], True, False)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, CapacityError, describe
from rdujax.ledger.counts import Counts
from rdujax.numerics import integer
from rdujax.streams.stream import POISON
from rdujax.units.pmu import alignment, scratchpad
from rdujax.units.pmu.scratchpad import Array, Pad


@dataclass(frozen=True)
class NBuffer:
    """N slots of equal size in one PMU. Raises CapacityError where they do not fit, ArgumentError for none."""

    pad: Pad
    slots: int
    slot_elements: int

    def __post_init__(self) -> None:
        needed = self.slots * self.slot_elements
        if min(self.slots, self.slot_elements) < 1:
            raise ArgumentError(describe("a buffer of nothing", given=str(self), allowed="1 slot and element or more"))
        if needed > self.pad.elements:
            width = self.pad.fmt.width_bytes
            raise CapacityError(
                describe(
                    "the slots of a buffer do not fit into one PMU",
                    given=f"{self.slots} slots of {self.slot_elements * width:,} bytes, {needed * width:,} in all",
                    allowed=f"{self.pad.elements * width:,} bytes",
                    do="split the tensor over several PMUs, or use fewer slots",
                )
            )


@partial(jax.tree_util.register_dataclass, data_fields=["memory", "write_slot", "read_slot", "full"], meta_fields=[])
@dataclass(frozen=True)
class State:
    """The memory, the slot of the next write, the slot of the next read, and how many are full: int32 scalars."""

    memory: scratchpad.State
    write_slot: Any
    read_slot: Any
    full: Any


def init(buffer: NBuffer) -> State:
    """All slots free, all memory poison."""
    zero = jnp.zeros((), jnp.int32)
    return State(scratchpad.init(buffer.pad), zero, zero, zero)


def write(
    buffer: NBuffer, state: State, addresses: Array, values: jax.Array, valid: Array | None = None
) -> tuple[State, jax.Array, Counts]:
    """Fills the next slot: int32 addresses [n, lanes] within the slot, carriers [n, lanes], validity.

    Returns the state, whether there was a free slot (bool scalar), and the counts (none where there was not).
    Raises ArgumentError for addresses outside of the slot that are known (NumPy, with NumPy's validity or none);
    JAX's are dropped.
    """
    alignment.refuse_outside(buffer.slot_elements, addresses, valid, where=_slot(buffer))
    return _write(buffer, state, addresses, values, valid)


def read(
    buffer: NBuffer, state: State, addresses: Array, valid: Array | None = None, *, release: bool = True
) -> tuple[State, jax.Array, jax.Array, Counts]:
    """Reads from the oldest full slot: int32 addresses [n, lanes] within the slot, in any pattern.

    release: the last read of the slot, which frees it. Returns the state, the carriers [n, lanes] (poison where no
    slot is full), whether there was a full slot (bool scalar), and the counts (none where there was not).
    Errors as `write`; what JAX's addresses ask outside of the slot is poison, and counts as read and not written.
    Derivative: in the memory.
    """
    alignment.refuse_outside(buffer.slot_elements, addresses, valid, where=_slot(buffer))
    return _read(buffer, release, state, addresses, valid)


def _slot(buffer: NBuffer) -> str:
    return f"a slot of {buffer.slot_elements:,} elements"


@partial(jax.jit, static_argnums=0)
def _write(
    buffer: NBuffer, state: State, addresses: jax.Array, values: jax.Array, valid: jax.Array | None
) -> tuple[State, jax.Array, Counts]:
    accepted = state.full < buffer.slots
    at, served = _placed(buffer, addresses, valid, state.write_slot, accepted)
    memory, counts = scratchpad.write(buffer.pad, state.memory, at, values, served)
    after = _next(buffer, state.write_slot, accepted)
    return State(memory, after, state.read_slot, _plus(state.full, 1, accepted)), accepted, _if(accepted, counts)


@partial(jax.jit, static_argnums=(0, 1))
def _read(
    buffer: NBuffer, release: bool, state: State, addresses: jax.Array, valid: jax.Array | None
) -> tuple[State, jax.Array, jax.Array, Counts]:
    ready = state.full > 0
    at, served = _placed(buffer, addresses, valid, state.read_slot, ready)
    values, counts = scratchpad.read(buffer.pad, state.memory, at, served)
    if release:
        memory = _emptied(buffer, state.memory, state.read_slot, ready)
        after = _next(buffer, state.read_slot, ready)
        state = State(memory, state.write_slot, after, _plus(state.full, -1, ready))
    return state, values, ready, _if(ready, counts)


def _placed(
    buffer: NBuffer, addresses: jax.Array, valid: jax.Array | None, slot: jax.Array, token: jax.Array
) -> tuple[jax.Array, jax.Array]:
    given = jnp.ones(addresses.shape, bool) if valid is None else valid
    there = alignment.inside(buffer.slot_elements, addresses, None)
    # An address of no slot would lie in another one: it goes where no memory is.
    return jnp.where(there, integer.add(addresses, integer.mul(slot, buffer.slot_elements)), -1), given & token


def _emptied(buffer: NBuffer, memory: scratchpad.State, slot: jax.Array, token: jax.Array) -> scratchpad.State:
    start, size = integer.mul(slot, buffer.slot_elements), buffer.slot_elements
    poison = jnp.asarray(POISON[buffer.pad.fmt], memory.data.dtype)

    def cleared(x: jax.Array, value: jax.Array) -> jax.Array:
        old = jax.lax.dynamic_slice_in_dim(x, start, size)
        return jax.lax.dynamic_update_slice_in_dim(x, jnp.where(token, value, old), start, 0)

    return scratchpad.State(cleared(memory.data, poison), cleared(memory.written, jnp.asarray(False)))


def _next(buffer: NBuffer, slot: jax.Array, token: jax.Array) -> jax.Array:
    after = integer.add(slot, 1)
    return jnp.where(token, jnp.where(after == buffer.slots, 0, after), slot)


def _plus(full: jax.Array, change: int, token: jax.Array) -> jax.Array:
    return jnp.where(token, integer.add(full, change), full)


def _if(token: jax.Array, counts: Counts) -> Counts:
    return Counts({name: jnp.where(token, amount, 0) for name, amount in counts.items()})
