"""PMU, scratchpad: what its banks hold, one format at a time, and the accesses of every cycle.

What it is     The SRAM of a PMU behind its write and its read port (MICRO 2024, IV-B).

                   addresses, values, validity --write--> [ bank bank bank ... ] --read--> values
                                                 predicates drop addresses; single ports serve one access a cycle

The law        A read delivers what was written last before its cycle; reads of one cycle come before its writes.
               Memory that was never written is poison and is counted where it is read. BOOL has no poison: it reads
               as False, so for it `written_at` and `pmu.unwritten_reads` alone tell. What is written is converted
               to the format of the scratchpad (RNE); otherwise no bit changes.
               An address stream gives one address per vector where its words lie at one step, which striping turns
               by the words of a vector; each word off that step takes one more. Where every lane brings its own
               (`own`), as many lanes are served per cycle as the PMU generates addresses.
               Vector i arrives latency cycles after vectors 0 to i have been served.
Modelled       values, poison, dropped lanes, conflicts, address rate, arrival.
Not modelled   parity, queues before the banks.
Sources        MICRO 2024, IV-B; banks, address rate and latency are facts of the machine.

>>> from rdujax.ledger.counts import total
>>> from rdujax.machines import tiny
>>> from rdujax.numerics.formats import INT32
>>> one = pad(tiny().pmu, INT32)
>>> at = np.asarray([[0, 1], [4, 8]], np.int32)
>>> memory, written = write(one, init(one), at, jnp.asarray([[10, 11], [12, 13]]))
>>> total(written)["pmu.conflict_cycles"]  # 4 and 8 lie in the same of four banks
1
>>> values, counts = read(one, memory, at[:, ::-1])
>>> values.tolist(), total(counts)["pmu.unwritten_reads"]
([[11, 10], [13, 12]], 0)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.numerics import convert, integer
from rdujax.numerics.formats import BF16, Format
from rdujax.streams.lift import must_fit_int32
from rdujax.streams.stream import POISON
from rdujax.units import pmu
from rdujax.units.pmu import alignment, banks
from rdujax.units.pmu.banks import Banking, Geometry

Array = jax.Array | np.ndarray


@dataclass(frozen=True)
class Pad:
    """How software has set up one PMU: the format it holds, the bank bits, and the facts that follow from both."""

    geometry: Geometry
    fmt: Format
    banking: Banking
    addresses_per_cycle: int

    @property
    def word_elements(self) -> int:
        """Elements of one bank word."""
        return self.geometry.word_bytes // self.fmt.width_bytes

    @property
    def lanes(self) -> int:
        """Elements of one vector of the port."""
        return self.geometry.vector_words * self.word_elements

    @property
    def elements(self) -> int:
        """Elements that the memory holds."""
        return self.geometry.words * self.word_elements


@partial(jax.tree_util.register_dataclass, data_fields=["data", "written"], meta_fields=[])
@dataclass(frozen=True)
class State:
    """What the banks hold. data: carriers [elements]; written: bool [elements], False where `data` is poison."""

    data: Any
    written: Any


def pad(config: pmu.Config, fmt: Format, banking: Banking | None = None) -> Pad:
    """A PMU that holds `fmt`; neighbouring words lie in neighbouring banks unless `banking` says otherwise.

    Raises ArgumentError for bank bits or facts that do not fit each other.
    """
    geometry = banks.geometry(config)
    banking = banking or banks.interleaved(geometry)
    banks.check(geometry, banking)
    return Pad(geometry, fmt, banking, int(config.addresses_per_cycle.value))


def init(pad: Pad) -> State:
    """Memory that nobody has written: poison everywhere."""
    return State(jnp.full(pad.elements, POISON[pad.fmt], pad.fmt.carrier), jnp.zeros(pad.elements, bool))


def write(
    pad: Pad, state: State, addresses: Array, values: jax.Array, valid: Array | None = None, *, own: bool = False
) -> tuple[State, Counts]:
    """Writes vectors, one after another: int32 addresses [n, lanes], carriers [n, lanes], validity bool [n, lanes].

    own: every lane brings its own address (a scatter). Of several values for one place the last arrival stays.
    XLA folds long constant streams slowly: under jit, make them by `address.vectors` or hand them in as arguments.
    Raises ShapeError and FormatError for other operands, ArgumentError for NumPy addresses outside of the memory.
    Derivatives: in the memory and in the values.
    """
    check_vectors(pad, addresses, valid)
    if values.shape != addresses.shape or values.dtype != pad.fmt.carrier:
        raise FormatError(
            describe("values that are not carriers, one for each address", given=f"{values.dtype}{list(values.shape)}",
                     allowed=f"{pad.fmt.carrier_name}{list(addresses.shape)}", where=f"write, {pad.fmt}")
        )  # fmt: skip
    return _write(pad, own, state, addresses, values, valid)


def read(
    pad: Pad, state: State, addresses: Array, valid: Array | None = None, *, own: bool = False
) -> tuple[jax.Array, Counts]:
    """Reads vectors, one after another: carriers [n, lanes] of int32 addresses [n, lanes]; poison in dropped lanes.

    own: every lane brings its own address (a gather). Errors as `write`. Derivative: in the memory.
    """
    check_vectors(pad, addresses, valid)
    return _read(pad, own, state, addresses, valid)


def step(
    pad: Pad,
    state: State,
    writes: tuple[jax.Array, jax.Array, jax.Array],
    reads: tuple[jax.Array, jax.Array],
) -> tuple[State, jax.Array, Counts]:
    """One turn of a write and a read stream side by side: (addresses, values, valid) and (addresses, valid), [lanes].

    The read sees what earlier turns wrote. The banks take the turn's accesses together, so streams that meet in a bank
    wait for one another; streams that bank bits keep apart never do. Lift it over many turns with `together`.
    """
    to, values, write_valid = writes
    at, read_valid = reads
    delivered = alignment.gather(state.data, at, pad.fmt, read_valid)
    sides = {"written": (to, write_valid), "read": (at, read_valid)}
    cycles = banks.bank_cycles(pad.banking, *(_words(pad, *stream) for stream in sides.values()))
    counts = _banked(cycles) + _unwritten(state, at, read_valid)
    for port, stream in sides.items():
        words, served = _words(pad, *stream)
        counts += _port(pad, port, served, _generated(pad, words, served))
    return _written(pad, state, to, values, write_valid), delivered, counts


def together(
    pad: Pad,
    state: State,
    writes: tuple[Array, jax.Array, Array],
    reads: tuple[Array, Array],
) -> tuple[State, jax.Array, Counts]:
    """`step` turn by turn over [n, lanes]; counts are stacked, one entry per turn. Errors as `write`."""
    check_vectors(pad, writes[0], writes[2])
    check_vectors(pad, reads[0], reads[1])

    return _together(pad, state, writes, reads)


def arrival_cycles(config: pmu.Config, served_cycles: jax.Array) -> jax.Array:
    """int32 [n]: the cycle, counted from 0 at the first address, at whose end vector i of a read has arrived.

    served_cycles: int32 [n], of `vector_cycles`. A vector that was dropped takes no cycle.
    """
    return jnp.cumsum(served_cycles, dtype=jnp.int32) + jnp.int32(config.latency_cycles.value)


def vector_cycles(pad: Pad, addresses: Array, valid: Array | None = None, *, own: bool = False) -> jax.Array:
    """int32 [n]: cycles that each vector of a stream takes that runs alone: its banks', or its addresses' if longer.

    own: every lane brings its own address, as in `read`.
    """
    words, served = _words(pad, addresses, valid)
    if own:
        cycles = banks.bank_cycles(pad.banking, _groups(pad, words, served)).reshape(len(words), -1)
        return jnp.sum(cycles, axis=1, dtype=jnp.int32)
    generating = -(-_generated(pad, words, served) // pad.addresses_per_cycle)
    taken = jnp.maximum(banks.bank_cycles(pad.banking, (words, served)), generating)  # not emulated: cycles
    return jnp.where(served.any(axis=1), taken, 0)


def written_at(state: State, addresses: Array, valid: Array | None = None) -> jax.Array:
    """bool, of the addresses' shape: the lanes in which a read delivers what somebody wrote; all others are poison."""
    there = alignment.inside(state.written.shape[0], addresses, valid)
    return there & state.written[jnp.where(there, jnp.asarray(addresses), 0)]


def predict(
    pad: Pad, port: str, addresses: np.ndarray, valid: np.ndarray | None = None, *, own: bool = False
) -> Counts:
    """The counts of `write` (port "written") or `read` (port "read") from the addresses alone, as Python ints."""
    served = np.ones(addresses.shape, bool) if valid is None else valid
    lanes = int(np.count_nonzero(served))
    generated = lanes if own else _predicted_addresses(pad, addresses // pad.word_elements, served)
    counts = {f"pmu.{port}_bytes": lanes * pad.fmt.width_bytes, "pmu.addresses": generated}
    if own:
        addresses, served = _groups(pad, addresses, served)
    cycles = banks.predicted_cycles(pad.banking, (addresses // pad.word_elements, served))
    busy = int(cycles.sum())
    return Counts({**counts, "pmu.bank_cycles": busy, "pmu.conflict_cycles": busy - int(np.count_nonzero(cycles))})


def refuse_unwritten(counts: Counts, where: str) -> None:
    """Raises ArgumentError where folded counts say that memory was read that nobody had written.

    Called by whoever ran the program, on its `total` counts: nothing can be raised while XLA runs it.
    """
    read = counts["pmu.unwritten_reads"]
    if read:
        raise ArgumentError(
            describe("memory was read that nobody had written", given=f"{read:,} elements", allowed="none", where=where,
                     do="let the reader wait for the writer's token, or correct the addresses")
        )  # fmt: skip


@partial(jax.jit, static_argnums=(0, 1))
def _write(
    pad: Pad, own: bool, state: State, addresses: jax.Array, values: jax.Array, valid: jax.Array | None
) -> tuple[State, Counts]:
    return _written(pad, state, addresses, values, valid), _tally(pad, "written", addresses, valid, own)


@partial(jax.jit, static_argnums=(0, 1))
def _read(pad: Pad, own: bool, state: State, addresses: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, Counts]:
    values = alignment.gather(state.data, addresses, pad.fmt, valid)
    return values, _tally(pad, "read", addresses, valid, own) + _unwritten(state, addresses, valid)


@partial(jax.jit, static_argnums=0)
def _together(pad: Pad, state: State, writes: Any, reads: Any) -> tuple[State, jax.Array, Counts]:
    def turn(state: State, each: Any) -> tuple[State, tuple[jax.Array, Counts]]:
        after, delivered, counts = step(pad, state, *each)
        return after, (delivered, counts)

    after, (delivered, counts) = jax.lax.scan(turn, state, (writes, reads))
    return after, delivered, counts


def _written(pad: Pad, state: State, addresses: Array, values: jax.Array, valid: Array | None) -> State:
    places = alignment.surviving(pad.elements, addresses, valid)
    stored = convert.round_to(values, BF16) if pad.fmt is BF16 else values
    data = state.data.at[places].set(stored.reshape(-1), mode="drop", unique_indices=True)
    return State(data, state.written.at[places].set(True, mode="drop", unique_indices=True))


def check_vectors(pad: Pad, addresses: Array, valid: Array | None) -> None:
    """Refuses addresses and validity that are no vectors (ShapeError), and known addresses outside (ArgumentError)."""
    fits = addresses.ndim == 2 and 1 <= addresses.shape[1] <= pad.lanes and addresses.dtype == np.int32
    if not fits or (valid is not None and (valid.shape != addresses.shape or valid.dtype != bool)):
        given = f"{addresses.dtype}{list(addresses.shape)}" + (
            f", validity {valid.dtype}{list(valid.shape)}" if valid is not None else ""
        )
        raise ShapeError(
            describe("addresses that are not vectors", given=given, where=f"PMU, {pad.fmt}",
                     allowed=f"int32[n, 1 to {pad.lanes}] and bool of the same shape")
        )  # fmt: skip
    must_fit_int32(addresses.size * max(pad.fmt.width_bytes, pad.lanes), "bytes or cycles of the vectors at once")
    alignment.refuse_outside(pad.elements, addresses, valid, where=f"PMU, {pad.elements:,} elements of {pad.fmt}")


def _words(pad: Pad, addresses: Array, valid: Array | None) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(addresses // pad.word_elements), alignment.inside(pad.elements, addresses, valid)


def _groups(pad: Pad, *lanes: Any) -> tuple[Any, ...]:
    """[n, lanes] -> [n x groups, addresses per cycle]: the lanes that bring their own address, cycle by cycle."""
    size = pad.addresses_per_cycle
    fill = -lanes[0].shape[1] % size
    package = np if isinstance(lanes[0], np.ndarray) else jnp
    return tuple(package.pad(x, ((0, 0), (0, fill))).reshape(-1, size) for x in lanes)


def _tally(pad: Pad, port: str, addresses: Array, valid: Array | None, own: bool) -> Counts:
    words, served = _words(pad, addresses, valid)
    if own:
        asked = jnp.ones(addresses.shape, bool) if valid is None else jnp.asarray(valid)
        counts = _port(pad, port, served, asked)
        words, served = _groups(pad, words, served)
    else:
        counts = _port(pad, port, served, _generated(pad, words, served))
    return counts + _banked(banks.bank_cycles(pad.banking, (words, served)))


def _port(pad: Pad, port: str, served: jax.Array, generated: jax.Array) -> Counts:
    moved = jnp.sum(served, dtype=jnp.int32) * jnp.int32(pad.fmt.width_bytes)
    return Counts({f"pmu.{port}_bytes": moved, "pmu.addresses": jnp.sum(generated, dtype=jnp.int32)})


def _generated(pad: Pad, words: jax.Array, served: jax.Array) -> jax.Array:
    """int32 [...]: addresses of each vector [..., lanes] whose lanes follow from it: one, and one for each odd step."""
    lane = jnp.broadcast_to(jnp.arange(words.shape[-1], dtype=jnp.int32), words.shape)
    latest = jax.lax.cummax(jnp.where(served, lane, -1), axis=words.ndim - 1)  # not emulated: a tally
    before = jnp.concatenate([jnp.full_like(latest[..., :1], -1), latest[..., :-1]], axis=-1)
    step = integer.sub(words, jnp.take_along_axis(words, jnp.where(before < 0, 0, before), axis=-1))
    moved = served & (before >= 0) & (step != 0)
    first = jnp.argmax(moved, axis=-1, keepdims=True)  # not emulated: a tally
    off = integer.absolute(integer.sub(step, jnp.take_along_axis(step, first, axis=-1)))
    return 1 + jnp.sum(moved & (off != 0) & (off != pad.geometry.vector_words), axis=-1, dtype=jnp.int32)


def _predicted_addresses(pad: Pad, words: np.ndarray, served: np.ndarray) -> int:
    """`_generated` on the host, of all vectors together."""
    vector, wanted = np.nonzero(served)[0], words[served].astype(np.int64)
    step = np.diff(wanted)
    moved = (vector[1:] == vector[:-1]) & (step != 0)
    _, first, which = np.unique(vector[1:][moved], return_index=True, return_inverse=True)
    off = np.abs(step[moved] - step[moved][first][which])
    return len(words) + int(np.count_nonzero((off != 0) & (off != pad.geometry.vector_words)))


def _banked(cycles: jax.Array) -> Counts:
    busy = jnp.sum(cycles, dtype=jnp.int32)
    waited = busy - jnp.sum(cycles > 0, dtype=jnp.int32)
    return Counts({"pmu.bank_cycles": busy, "pmu.conflict_cycles": waited})


def _unwritten(state: State, addresses: Array, valid: Array | None) -> Counts:
    found = written_at(state, addresses, valid)
    asked = jnp.ones(addresses.shape, bool) if valid is None else jnp.asarray(valid)
    return Counts({"pmu.unwritten_reads": jnp.sum(asked & ~found, dtype=jnp.int32)})
