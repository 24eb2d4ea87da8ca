"""PMU, scratchpad: what its banks hold, one format at a time, and the accesses of every cycle.

What it is     The SRAM of a PMU behind its write and its read port (MICRO 2024, IV-B).

                   addresses, values, validity --write--> [ bank bank bank ... ] --read--> values
                                                 predicates drop addresses; single ports serve one access a cycle

The law        A read delivers what was written last before its cycle; reads of one cycle come before its writes.
               Memory that was never written is poison and is counted where it is read. What is written is converted
               to the format of the scratchpad (RNE); otherwise no bit changes.
               An address stream gives one address per vector (lanes follow from it) or, where every lane brings its
               own, as many lanes per cycle as the PMU generates addresses.
               Vector i arrives latency cycles after the banks have served vectors 0 to i.
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
from rdujax.numerics import convert
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
    _check(pad, addresses, valid)
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
    _check(pad, addresses, valid)
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
    ports = [_port(pad, port, alignment.inside(pad.elements, *stream), 1) for port, stream in sides.items()]
    counts = ports[0] + ports[1] + _banked(cycles) + _unwritten(state, at, read_valid)
    return _written(pad, state, to, values, write_valid), delivered, counts


def together(
    pad: Pad,
    state: State,
    writes: tuple[Array, jax.Array, Array],
    reads: tuple[Array, Array],
) -> tuple[State, jax.Array, Counts]:
    """`step` turn by turn over [n, lanes]; counts are stacked, one entry per turn. Errors as `write`."""
    _check(pad, writes[0], writes[2])
    _check(pad, reads[0], reads[1])

    def turn(state: State, each: Any) -> tuple[State, tuple[jax.Array, Counts]]:
        after, delivered, counts = step(pad, state, *each)
        return after, (delivered, counts)

    streams = jax.tree.map(jnp.asarray, (writes, reads))
    after, (delivered, counts) = jax.lax.scan(turn, state, streams)
    return after, delivered, counts


def arrival_cycles(config: pmu.Config, bank_cycles: jax.Array) -> jax.Array:
    """int32 [n]: the cycle, counted from 0 at the first address, at whose end vector i of a read has arrived.

    bank_cycles: int32 [n], of `vector_cycles`. A vector that was dropped takes no cycle.
    """
    return jnp.cumsum(bank_cycles, dtype=jnp.int32) + jnp.int32(config.latency_cycles.value)


def vector_cycles(pad: Pad, addresses: Array, valid: Array | None = None) -> jax.Array:
    """int32 [n]: cycles that the banks take for each vector of a stream that runs alone."""
    return banks.bank_cycles(pad.banking, _words(pad, addresses, valid))


def predict(
    pad: Pad, port: str, addresses: np.ndarray, valid: np.ndarray | None = None, *, own: bool = False
) -> Counts:
    """The counts of `write` (port "written") or `read` (port "read") from the addresses alone, as Python ints."""
    served = np.ones(addresses.shape, bool) if valid is None else valid
    lanes = int(np.count_nonzero(served))
    counts = {f"pmu.{port}_bytes": lanes * pad.fmt.width_bytes, "pmu.addresses": lanes if own else len(addresses)}
    if own:
        addresses, served = _groups(pad, addresses, served)
    cycles = banks.predicted_cycles(pad.banking, (addresses // pad.word_elements, served))
    busy = int(cycles.sum())
    return Counts({**counts, "pmu.bank_cycles": busy, "pmu.conflict_cycles": busy - int(np.count_nonzero(cycles))})


def refuse_unwritten(counts: Counts, where: str) -> None:
    """Raises ArgumentError where folded counts say that memory was read that nobody had written."""
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


def _written(pad: Pad, state: State, addresses: Array, values: jax.Array, valid: Array | None) -> State:
    places = alignment.surviving(pad.elements, addresses, valid)
    stored = convert.round_to(values, BF16) if pad.fmt is BF16 else values
    data = state.data.at[places].set(stored.reshape(-1), mode="drop", unique_indices=True)
    return State(data, state.written.at[places].set(True, mode="drop", unique_indices=True))


def _check(pad: Pad, addresses: Array, valid: Array | None) -> None:
    fits = addresses.ndim == 2 and addresses.shape[1] <= pad.lanes and addresses.dtype == np.int32
    if not fits or (valid is not None and (valid.shape != addresses.shape or valid.dtype != bool)):
        given = f"{addresses.dtype}{list(addresses.shape)}" + (
            f", validity {valid.dtype}{list(valid.shape)}" if valid is not None else ""
        )
        raise ShapeError(
            describe("addresses that are not vectors", given=given, where=f"PMU, {pad.fmt}",
                     allowed=f"int32[n, up to {pad.lanes}] and bool of the same shape")
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
    generated = jnp.ones(addresses.shape, bool) if valid is None else jnp.asarray(valid)
    counts = _port(pad, port, served, jnp.sum(generated, dtype=jnp.int32) if own else len(addresses))
    if own:
        words, served = _groups(pad, words, served)
    return counts + _banked(banks.bank_cycles(pad.banking, (words, served)))


def _port(pad: Pad, port: str, served: jax.Array, generated: jax.Array | int) -> Counts:
    moved = jnp.sum(served, dtype=jnp.int32) * jnp.int32(pad.fmt.width_bytes)
    return Counts({f"pmu.{port}_bytes": moved, "pmu.addresses": jnp.asarray(generated, jnp.int32)})


def _banked(cycles: jax.Array) -> Counts:
    busy = jnp.sum(cycles, dtype=jnp.int32)
    waited = busy - jnp.sum(cycles > 0, dtype=jnp.int32)
    return Counts({"pmu.bank_cycles": busy, "pmu.conflict_cycles": waited})


def _unwritten(state: State, addresses: Array, valid: Array | None) -> Counts:
    there = alignment.inside(state.written.shape[0], addresses, valid)
    found = there & state.written[jnp.where(there, jnp.asarray(addresses), 0)]
    asked = jnp.ones(addresses.shape, bool) if valid is None else jnp.asarray(valid)
    return Counts({"pmu.unwritten_reads": jnp.sum(asked & ~found, dtype=jnp.int32)})
