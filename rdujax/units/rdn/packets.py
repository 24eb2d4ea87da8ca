"""Values on the network: tiles as packets, copies of a multicast, and many senders to one receiver.

        tile > [values | values | values, poison]  > mesh >  tile        one packet each; the tail is poison
        ids 0, 2 >
        ids 1, 3 > mesh > [1] [0] [2] [3] > PMU writes at the id > [0] [1] [2] [3]        whatever the order of arrival

No bit is changed on the way. The valid values of a tile travel densely, in row-major order; a vector packet carries
as many as fit into its payload, a scalar packet one. Where several senders write into one PMU, a packet carries a
programmable sequence id that the PMU takes as an address operand (MICRO 2024, section IV-C); what was never written, or
written twice, is poison. Derivatives pass through as in any move: those of the copies of a multicast are summed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.compat import is_tracer
from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe, unknown
from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import BF16, Format
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.streams.stream import POISON, POISON_WORD, Stream, valid
from rdujax.units import rdn
from rdujax.units.rdn.routing import Route
from rdujax.units.tally import tile_sizes


def lanes(config: rdn.Config, fabric: rdn.Fabric, fmt: Format) -> int:
    """Values of a format in one packet of a fabric: what fits into a vector packet, one in a scalar packet.

    Raises UnknownNameError for another fabric, FormatError for a value that is wider than the payload.
    """
    if fabric not in rdn.FABRICS:
        raise unknown("fabric of packets", fabric, rdn.FABRICS)
    payload_bytes = int(config.vector_bytes.value if fabric == "vector" else config.scalar_bytes.value)
    if payload_bytes < fmt.width_bytes:
        raise FormatError(
            describe(
                f"a value that does not fit into a {fabric} packet",
                given=f"{fmt}, {fmt.width_bytes} bytes",
                allowed=f"{payload_bytes} bytes",
            )
        )
    return payload_bytes // fmt.width_bytes if fabric == "vector" else 1


def packetize(tile: jax.Array, fmt: Format, width: int, extent: jax.Array | None = None) -> jax.Array:
    """[*tile] -> [packets, width]: the values in row-major order, poison behind the last one.

    tile: carriers or BF16 words at rest. width: values per packet (see `lanes`). extent: int32 [rank], how many
    elements along each axis belong to the tensor (default: all); the others do not travel.

    >>> from rdujax.numerics.formats import INT32
    >>> packetize(jnp.arange(3, dtype=jnp.int32), INT32, 2).tolist()
    [[0, 1], [2, -1515870811]]
    """
    packets = -(-tile.size // width)
    poison = _poison(tile.dtype, fmt)
    if extent is None:
        return jnp.pad(tile.ravel(), (0, packets * width - tile.size), constant_values=poison).reshape(packets, width)
    places = _places(extent, tile.shape, packets * width)
    empty = jnp.full(packets * width, poison)
    return empty.at[places.ravel()].set(tile.ravel(), mode="drop").reshape(packets, width)


def depacketize(packets: jax.Array, shape: tuple[int, ...], fmt: Format, extent: jax.Array | None = None) -> jax.Array:
    """[packets, width] -> [*shape]: the inverse of `packetize`, poison where nothing belongs to the tensor.

    Raises ShapeError where the packets are not as many as the tile needs.
    """
    count, width = packets.shape
    if count != -(-prod(shape) // width):
        raise ShapeError(
            describe(
                "packets that are not those of a tile", given=packets.shape, allowed=f"ceil({prod(shape)} / width)"
            )
        )
    if extent is None:
        return packets.ravel()[: prod(shape)].reshape(shape)
    places = _places(extent, shape, count * width)
    return jnp.take(packets.ravel(), places, mode="fill", fill_value=_poison(packets.dtype, fmt))


def _poison(dtype: np.dtype, fmt: Format) -> Any:
    return np.dtype(dtype).type(POISON_WORD if fmt is BF16 and dtype == jnp.uint16 else POISON[fmt])


def _places(extent: jax.Array, shape: tuple[int, ...], nowhere: int) -> jax.Array:
    """int32 [*shape]: the place of each valid element among the valid ones in row-major order, or `nowhere`."""
    place = jnp.zeros(shape, jnp.int32)
    for axis, length in enumerate(shape):
        index = jnp.arange(length, dtype=jnp.int32).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        place = place * extent[axis] + index
    return jnp.where(valid(extent, shape), place, nowhere)


def send(
    config: rdn.Config,
    route: Route,
    stream: Stream,
    fabric: rdn.Fabric = "vector",
    how: Executor = "whole",
    tally: bool = True,
) -> tuple[tuple[Stream, ...], Counts]:
    """Sends a stream over a route: one stream for each of its targets, with the same bits, and the counts per tile.

    Raises FormatError where a value does not fit into a packet.
    """
    width, layout = lanes(config, fabric, stream.fmt), stream.layout
    if tally:
        must_fit_int32(prod(layout.tile) * route.hops, f"hops of a tile of {layout}")

    def step(extent: jax.Array, tile: jax.Array) -> tuple[jax.Array, Counts]:
        ragged = extent if layout.is_ragged else None
        arrived = depacketize(packetize(tile, stream.fmt, width, ragged), layout.tile, stream.fmt, ragged)
        return arrived, _sent(extent, width, route.hops, fabric) if tally else Counts()

    data, counts = over_tiles(step, how, jnp.asarray(layout.extents), stream.data)
    return (Stream(data, layout, stream.fmt),) * len(route.targets), counts


def _sent(extent: jax.Array, width: int, hops: int, fabric: rdn.Fabric) -> Counts:
    packets = (jnp.prod(extent, dtype=jnp.int32) + jnp.int32(width - 1)) // jnp.int32(width)
    return Counts({f"rdn.{fabric}_packets": packets, "rdn.hops": packets * jnp.int32(hops)})


def predict(config: rdn.Config, route: Route, layout: Layout, fmt: Format, fabric: rdn.Fabric = "vector") -> Counts:
    """The counts of `send`, from shapes alone."""
    width_bytes = lanes(config, fabric, fmt) * fmt.width_bytes
    packets = sum(tiles * -(-size // width_bytes) for tiles, size in tile_sizes(layout, fmt))
    return Counts({f"rdn.{fabric}_packets": packets, "rdn.hops": packets * route.hops})


@partial(jax.tree_util.register_dataclass, data_fields=["words", "writes"], meta_fields=["fmt"])
@dataclass(frozen=True)
class Inbox:
    """The memory of a PMU that packets of many senders are written into.

    words: [places, width], carriers or words at rest, poison at first. writes: int32 [places], writes to each place.
    """

    words: jax.Array
    writes: jax.Array
    fmt: Format


def inbox(places: int, width: int, fmt: Format, *, packed: bool = False) -> Inbox:
    """An inbox into which nothing has been written. packed: of BF16 words at rest."""
    poison = _poison(jnp.dtype(jnp.uint16) if packed else fmt.carrier, fmt)
    return Inbox(jnp.full((places, width), poison), jnp.zeros(places, jnp.int32), fmt)


def receive(state: Inbox, packets: jax.Array, sequence_ids: jax.Array) -> Inbox:
    """Writes packets [n, width] at their sequence ids, int32 [n], in order of arrival.

    Ids outside the inbox are refused where they are known (ArgumentError), and written nowhere where JAX traces them.
    Raises ShapeError and FormatError for packets or ids of another shape or type.
    """
    places, width = state.words.shape
    ids = jnp.asarray(sequence_ids)
    if ids.dtype != jnp.int32 or packets.dtype != state.words.dtype:
        given = f"ids {ids.dtype.name}, packets {packets.dtype.name}"
        raise FormatError(describe("wrong types", given=given, allowed=f"ids int32, packets {state.words.dtype.name}"))
    if packets.shape != (*ids.shape, width) or ids.ndim != 1:
        given = f"ids {ids.shape}, packets {packets.shape}"
        raise ShapeError(describe("packets without their ids", given=given, allowed=f"ids [n], packets [n, {width}]"))
    if not is_tracer(ids):
        outside = [each for each in np.asarray(ids).tolist() if not 0 <= each < places]
        if outside:
            raise ArgumentError(
                describe("sequence ids outside the inbox", given=outside[:8], allowed=f"0 to {places - 1}")
            )
    ids = jnp.where(ids < 0, places, ids)
    words = state.words.at[ids].set(packets, mode="drop")
    writes = state.writes.at[ids].add(1, mode="drop")  # not emulated: how often a place was written
    return Inbox(words, writes, state.fmt)


def deliver(state: Inbox) -> jax.Array:
    """[places, width]: the packets in order of their ids, poison where there was none or more than one.

    Raises ArgumentError where the ids are known and some are missing or there twice.
    """
    if not is_tracer(state.writes):
        writes = np.asarray(state.writes)
        missing, twice = np.flatnonzero(writes == 0).tolist(), np.flatnonzero(writes > 1).tolist()
        if missing or twice:
            raise ArgumentError(
                describe(
                    "packets that are missing or came twice",
                    given=f"missing ids {missing[:8]}, repeated ids {twice[:8]}",
                    allowed=f"each of 0 to {len(writes) - 1} once",
                )
            )
    return jnp.where((state.writes == 1)[:, None], state.words, _poison(state.words.dtype, state.fmt))


def reorder(arrived: jax.Array, sequence_ids: jax.Array, fmt: Format) -> jax.Array:
    """Packets [n, width] in order of arrival -> in order of their ids, int32 [n], each of 0 to n - 1 once.

    Raises ArgumentError as `receive` and `deliver` do; where JAX traces the ids, a missing or repeated one is poison.
    """
    state = inbox(len(arrived), arrived.shape[1], fmt, packed=arrived.dtype == jnp.uint16)
    return deliver(receive(state, arrived, sequence_ids))


def many_to_one(
    config: rdn.Config,
    routes: Sequence[Route],
    packets: Sequence[jax.Array],
    sequence_ids: Sequence[jax.Array],
    fmt: Format,
    arrival: np.ndarray | None = None,
    fabric: rdn.Fabric = "vector",
) -> tuple[jax.Array, Counts]:
    """Packets of several senders, written into one PMU at their ids: ([n, width] in order of ids, counts).

    packets: [n_i, width] of each sender; sequence_ids: int32 [n_i] of each. arrival: int [n], indices into the packets
    of all senders one after another, in the order in which they arrive (default: sender by sender): no part of the
    meaning. Raises ArgumentError where the routes end at different units and for an arrival that loses or repeats a
    packet, ShapeError for a packet wider than the fabric's (`lanes`), and as `reorder`.
    """
    most = lanes(config, fabric, fmt)
    if len({route.targets for route in routes}) != 1 or len(routes[0].targets) != 1:
        given = "; ".join(map(str, routes)) or "no route"
        raise ArgumentError(describe("senders of several receivers", given=given, allowed="routes to one unit"))
    if not len(routes) == len(packets) == len(sequence_ids):
        given = f"{len(routes)} routes, {len(packets)} arrays of packets, {len(sequence_ids)} of ids"
        raise ShapeError(describe("packets and ids for each route", given=given))
    sent, ids = jnp.concatenate(list(packets)), jnp.concatenate(list(sequence_ids))
    if sent.ndim != 2 or sent.shape[1] > most:
        given = f"{list(sent.shape[1:])} values of {fmt} in one packet"
        raise ShapeError(
            describe(f"packets that the {fabric} fabric does not carry", given=given, allowed=f"1 to {most}")
        )
    if arrival is not None:
        _check_arrival(np.asarray(arrival), len(sent))
        sent, ids = sent[arrival], ids[arrival]
    hops = sum(route.hops * len(own) for route, own in zip(routes, packets, strict=True))
    must_fit_int32(hops, "hops of packets")
    counted = {f"rdn.{fabric}_packets": jnp.int32(len(sent)), "rdn.hops": jnp.int32(hops)}
    return reorder(sent, ids, fmt), Counts(counted)


def _check_arrival(arrival: np.ndarray, packets: int) -> None:
    if not np.issubdtype(arrival.dtype, np.integer) or sorted(arrival.ravel().tolist()) != list(range(packets)):
        raise ArgumentError(
            describe(
                "an order of arrival that loses or repeats a packet",
                given=f"{arrival.ravel()[:8].tolist()}, {arrival.size} in all",
                allowed=f"each of 0 to {packets - 1} once",
                where="many_to_one",
            )
        )
