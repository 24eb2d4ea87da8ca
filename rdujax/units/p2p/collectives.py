"""Collectives over the sockets of a node: values with a defined order of additions, and their counts.

What it is     All-reduce, reduce-scatter, all-gather, all-to-all and broadcast, built on P2P links and fused into the
               kernels on both sides (MICRO 2024, section VII).

                   socket 0  [x0] --+                             +--> [total]
                   socket 1  [x1] --+--> ((x0 + x1) + x2) + x3 >--+--> [total]       chain: each part of the tensor
                   socket 2  [x2] --+                             +--> [total]       is summed by the socket that
                   socket 3  [x3] --+                             +--> [total]       owns it, in this order

The law        The sum over n sockets is made by FP32 additions (N3), in the declared order:
                   chain  ((x_0 + x_1) + x_2) + ...                      as a contraction whose K is split (N8)
                   ring   ((x_c+1 + x_c+2) + ... + x_n-1 + x_0 ...) + x_c     in chunk c of n, indices modulo n
                   tree   x_i + x_(i + n/2), and so on by halves (N9); n is a power of two
               What a socket gives is rounded once to the wire's format; in a ring and in a tree every partial sum but
               the total is, too; the total is rounded once to the result's format. Maxima and minima (N5) and INT32
               sums (N7, wrapping) have the same bits in every order.
               The bits depend on nothing else: n virtual sockets on one device, one on each of n devices, or several
               on each of fewer give the same.
Modelled       values, formats on the wire, bytes and messages of each route (collective_traffic.py), time
               (collective_times.py). A defined derivative: what was copied is added up socket by socket, never by a
               reduction of the devices.
Not modelled   groups of sockets that run different collectives; unequal parts in all but all_reduce and broadcast.
Sources        MICRO 2024, section VII states that collectives are pipelined in the kernel; orders and formats are the
               library's choice.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe, unknown
from rdujax.ledger.counts import Counts
from rdujax.numerics import convert, reduce, registers
from rdujax.numerics.formats import BF16, FP32, INT32, Format
from rdujax.units.p2p import collective_traffic
from rdujax.units.p2p.collective_traffic import Collective, Kind, Route

Op = Literal["sum", "max", "min"]
Order = Literal["chain", "ring", "tree"]
OPS: tuple[Op, ...] = ("sum", "max", "min")
ROUTE_OF: dict[Order, Route] = {"chain": "direct", "ring": "ring", "tree": "halving"}


@dataclass(frozen=True)
class Group:
    """Where the sockets are: in the leading axis of the operands, along a named axis of vmap or shard_map, or both.

        Group()                     x [n, ...]   all sockets in the leading axis
        Group("s")                  x [...]      one socket for each index of axis "s"
        Group("s", stacked=True)    x [m, ...]   m sockets for each index of axis "s"

    Sockets are numbered in the order of the axis, the leading axis inside. Results are laid out as operands are.
    """

    axis_name: str | None = None
    stacked: bool = False

    @property
    def has_leading_axis(self) -> bool:
        """True where the first axis of an operand counts sockets."""
        return self.stacked or self.axis_name is None


ALL = Group()


class _Place(NamedTuple):
    """The sockets emulated here: how many indices the named axis has, how many sockets there are, which are mine."""

    axis_name: str | None
    devices: int
    sockets: int
    me: jax.Array


@partial(jax.jit, static_argnames=("fmt", "op", "order", "shots", "wire", "out", "group", "tally"))
def all_reduce(
    x: jax.Array,
    fmt: Format,
    *,
    op: Op = "sum",
    order: Order = "chain",
    shots: int = 2,
    wire: Format | None = None,
    out: Format | None = None,
    group: Group = ALL,
    tally: bool = True,
) -> tuple[jax.Array, Counts]:
    """The sum (or the largest, or the smallest) over all sockets, on every socket: (carriers of `out`, counts).

    x: carriers of `fmt` (FP32, BF16 or INT32), of any shape per socket, laid out as `group` says.
    shots: 2 reduces each chunk at its owner and gathers the chunks; 1 sends everything to everyone, with the same bits
        (chain only). wire: format of what is given and of partial sums; by default the one that loses nothing: `fmt`,
        or FP32 for a ring or tree of BF16. out: format of the result, by default `fmt`.
    Counts have one entry per socket that is emulated here. Derivatives: a sum's tangent is the sum of tangents, in the
    same order; equal maxima share. Raises ShapeError, FormatError, ArgumentError, UnknownNameError.

    >>> partial_sums = jnp.asarray([[2.0**24], [1.0], [1.0]])  # of three sockets; FP32 has 24 bits
    >>> [float(all_reduce(partial_sums, FP32, order=order)[0][0, 0]) for order in ("chain", "ring")]
    [16777216.0, 16777218.0]
    """
    wire, out = _formats(fmt, op, order, wire, out)
    if shots not in (1, 2) or (shots == 1 and order != "chain"):
        raise ArgumentError(
            describe(
                "a number of shots that cannot be", given=f"{shots} in order {order}", allowed="2, or 1 in a chain"
            )
        )
    local, place = _enter(x, fmt, group, where="all_reduce")
    shape = local.shape[1:]
    route: Route = "oneshot" if shots == 1 else ROUTE_OF[order]
    work = _work("all_reduce", place, prod(shape), wire, route)
    flat = local.reshape(local.shape[0], work.elements)
    tail = work.chunk * place.sockets - work.elements
    flat = jnp.pad(flat, ((0, 0), (0, tail)), constant_values=jnp.zeros((), flat.dtype)) if tail else flat
    total = _reduced(flat.reshape(local.shape[0], place.sockets, work.chunk), place, op, order, wire, out)
    gathered = _replicate(total, place).reshape(local.shape[0], -1)[:, : work.elements]
    return _leave(gathered.reshape(local.shape), group, replace(work, result_bytes=out.width_bytes), place, tally)


@partial(jax.jit, static_argnames=("fmt", "axis", "op", "order", "wire", "out", "group", "tally"))
def reduce_scatter(
    x: jax.Array,
    fmt: Format,
    *,
    axis: int = 0,
    op: Op = "sum",
    order: Order = "chain",
    wire: Format | None = None,
    out: Format | None = None,
    group: Group = ALL,
    tally: bool = True,
) -> tuple[jax.Array, Counts]:
    """The sum (or the largest, or the smallest) over all sockets, each of which gets its part of `axis`.

    `axis` counts without the axis of sockets; its length is a multiple of theirs. In a ring, chunk c is part c.
    Formats, derivatives and errors as `all_reduce`.
    """
    wire, out = _formats(fmt, op, order, wire, out)
    local, place = _enter(x, fmt, group, where="reduce_scatter")
    parts = _parts(local, axis, place.sockets, where="reduce_scatter")
    work = _work("reduce_scatter", place, prod(local.shape[1:]), wire, ROUTE_OF[order])
    total = _reduced(parts, place, op, order, wire, out)
    return _leave(total, group, work, place, tally)


@partial(jax.jit, static_argnames=("fmt", "axis", "route", "group", "tally"))
def all_gather(
    x: jax.Array,
    fmt: Format,
    *,
    axis: int = 0,
    route: Route = "direct",
    group: Group = ALL,
    tally: bool = True,
) -> tuple[jax.Array, Counts]:
    """What all sockets hold, joined along `axis` in the order of the sockets, on every socket: the same bits.

    x: carriers of `fmt`, or BF16 words at rest. `axis` counts without the axis of sockets. The route (direct, ring,
    halving) shows in counts and time only. The cotangents of the copies are added socket by socket.
    """
    local, place = _enter(x, fmt, group, where="all_gather", words=True)
    axis = _axis(axis, local, where="all_gather")
    work = _work("all_gather", place, prod(local.shape[1:]) * place.sockets, fmt, route)
    copies = jnp.moveaxis(_replicate(local, place), 1, axis + 1)
    joined = (*local.shape[: axis + 1], local.shape[axis + 1] * place.sockets, *local.shape[axis + 2 :])
    return _leave(copies.reshape(joined), group, work, place, tally)


@partial(jax.jit, static_argnames=("fmt", "split_axis", "concat_axis", "group", "tally"))
def all_to_all(
    x: jax.Array,
    fmt: Format,
    *,
    split_axis: int = 0,
    concat_axis: int = 0,
    group: Group = ALL,
    tally: bool = True,
) -> tuple[jax.Array, Counts]:
    """Socket s gets part s of every socket's `split_axis`, joined along `concat_axis` in the order of the sockets.

    x: carriers of `fmt`, or BF16 words at rest; axes count without that of the sockets, and `split_axis` is a multiple
    of their number long. Bits are moved; the derivative is the all_to_all back.
    """
    local, place = _enter(x, fmt, group, where="all_to_all", words=True)
    split, concat = (_axis(axis, local, where="all_to_all") for axis in (split_axis, concat_axis))
    parts = _parts(local, split, place.sockets, where="all_to_all")
    work = _work("all_to_all", place, prod(local.shape[1:]), fmt, "direct")
    received = jnp.moveaxis(_exchange(parts, place), 0, concat + 1)
    shape = list(parts.shape[:1] + parts.shape[2:])
    shape[concat + 1] *= place.sockets
    return _leave(received.reshape(shape), group, work, place, tally)


@partial(jax.jit, static_argnames=("fmt", "root", "route", "group", "tally"))
def broadcast(
    x: jax.Array,
    fmt: Format,
    *,
    root: int = 0,
    route: Route = "direct",
    group: Group = ALL,
    tally: bool = True,
) -> tuple[jax.Array, Counts]:
    """What socket `root` holds, on every socket: the same bits. x: carriers of `fmt`, or BF16 words at rest.

    The route (direct, ring) shows in counts and time only. The cotangents of the copies are added socket by socket.
    """
    local, place = _enter(x, fmt, group, where="broadcast", words=True)
    work = replace(_work("broadcast", place, prod(local.shape[1:]), fmt, route), root=root)
    return _leave(_replicate(local, place)[:, root], group, work, place, tally)


def _formats(fmt: Format, op: Op, order: Order, wire: Format | None, out: Format | None) -> tuple[Format, Format]:
    if op not in OPS:
        raise unknown("operation of a collective", op, OPS)
    if order not in ROUTE_OF:
        raise unknown("order of additions", order, ROUTE_OF)
    lossless = FP32 if fmt is BF16 and op == "sum" and order != "chain" else fmt
    wire, out = wire or lossless, out or fmt
    allowed = (INT32,) if fmt is INT32 else (BF16, FP32)
    for name, each in (("operands", fmt), ("wire", wire), ("result", out)):
        if each not in allowed:
            raise FormatError(
                describe(f"a format that the {name} of a reduction cannot have", given=each,
                         allowed=", ".join(map(str, allowed)) + (" with these operands" if each is not fmt else ""))
            )  # fmt: skip
    return wire, out


def _enter(x: jax.Array, fmt: Format, group: Group, where: str, words: bool = False) -> tuple[jax.Array, _Place]:
    """The operand as [sockets here, ...], and where here is."""
    x = jnp.asarray(x)
    if x.dtype != fmt.carrier and not (words and fmt is BF16 and x.dtype == jnp.uint16):
        raise FormatError(
            describe("not a carrier of the format", given=x.dtype.name, allowed=fmt.carrier_name, where=where)
        )
    if group.has_leading_axis and (not x.ndim or not x.shape[0]):
        raise ShapeError(
            describe(
                "an operand without an axis of sockets", given=list(x.shape), allowed="[sockets, ...]", where=where
            )
        )
    local = x if group.has_leading_axis else x[None]
    if 0 in local.shape:
        raise ShapeError(describe("nothing to send", given=list(x.shape), where=where))
    here = jnp.arange(local.shape[0], dtype=jnp.int32)
    if group.axis_name is None:
        return local, _Place(None, 1, local.shape[0], here)
    try:
        devices = jax.lax.axis_size(group.axis_name)
    except NameError:
        raise ArgumentError(
            describe("a group over an axis that is not there", given=repr(group.axis_name), where=where,
                     do="call it within jax.vmap(..., axis_name=...) or jax.shard_map over a mesh with that axis")
        ) from None  # fmt: skip
    me = jax.lax.axis_index(group.axis_name) * jnp.int32(local.shape[0]) + here
    return local, _Place(group.axis_name, devices, devices * local.shape[0], me)


def _work(kind: Kind, place: _Place, elements: int, fmt: Format, route: Route) -> Collective:
    return Collective(kind, place.sockets, elements, fmt.width_bytes, route)


def _leave(local: jax.Array, group: Group, work: Collective, place: _Place, tallied: bool) -> tuple[jax.Array, Counts]:
    """The result and the counts, laid out as the operand was."""
    counts = collective_traffic.tally(work, place.me) if tallied else Counts()
    if group.has_leading_axis:
        return local, counts
    return local[0], jax.tree.map(lambda amount: amount[0], counts)


def _axis(axis: int, local: jax.Array, where: str) -> int:
    rank = local.ndim - 1
    if not -rank <= axis < rank:
        raise ShapeError(
            describe("an axis that the operand of a socket does not have", given=axis,
                     allowed=f"{-rank} to {rank - 1} of {list(local.shape[1:])}", where=where)
        )  # fmt: skip
    return axis % rank


def _parts(local: jax.Array, axis: int, sockets: int, where: str) -> jax.Array:
    """[here, ...] -> [here, sockets, ...]: the parts of `axis`, one for each socket."""
    at = _axis(axis, local, where) + 1
    length = local.shape[at]
    if length % sockets:
        raise ShapeError(
            describe("parts of unequal length", given=f"axis {axis} of length {length}",
                     allowed=f"a multiple of {sockets} sockets", where=where)
        )  # fmt: skip
    cut = local.reshape(*local.shape[:at], sockets, length // sockets, *local.shape[at + 1 :])
    return jnp.moveaxis(cut, at, 1)


def _exchange(parts: jax.Array, place: _Place) -> jax.Array:
    """[here, sockets, ...] -> [sockets, here, ...]: from every socket the part that is for each of those here."""
    if place.axis_name is None:
        return parts
    here = parts.shape[0]
    by_device = jnp.moveaxis(parts.reshape(here, place.devices, here, *parts.shape[2:]), 1, 0)
    received = jax.lax.all_to_all(by_device, place.axis_name, split_axis=0, concat_axis=0)
    return received.reshape(place.sockets, here, *parts.shape[2:])


def _copies(local: jax.Array, place: _Place) -> jax.Array:
    here = local.shape[0]
    if place.axis_name is None:
        return jnp.broadcast_to(local[None], (here, *local.shape))
    gathered = jax.lax.all_gather(local, place.axis_name)
    # What is one's own does not travel. Under vmap this also makes the copies differ from socket to socket, which its
    # rule for custom derivatives needs: the tangents do.
    own = jnp.arange(place.devices, dtype=jnp.int32) == jax.lax.axis_index(place.axis_name)
    everyone = jnp.where(own.reshape(-1, *[1] * local.ndim), local[None], gathered)
    return jnp.broadcast_to(
        everyone.reshape(1, place.sockets, *local.shape[1:]), (here, place.sockets, *local.shape[1:])
    )


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _copied(local, place_of):
    return _copies(local, place_of)


@_copied.defjvp
def _copied_jvp(place_of, primals, tangents):
    # A copy for every socket, and each sends its copies out: backwards the copies come home and are added one after
    # the other, where the transpose of all_gather would leave the order to the devices.
    copies = jnp.stack([tangents[0]] * place_of.sockets, axis=1)
    return _copied(*primals, place_of), jnp.moveaxis(_exchange(copies, place_of), 0, 1)


def _replicate(local: jax.Array, place: _Place) -> jax.Array:
    """[here, ...] -> [here, sockets, ...]: what every socket holds, on each of those here."""
    differentiable = jnp.issubdtype(local.dtype, jnp.floating)
    static = place._replace(me=None)  # pyright: ignore[reportArgumentType]
    return _copied(local, static) if differentiable else _copies(local, static)


def _reduced(parts: jax.Array, place: _Place, op: Op, order: Order, wire: Format, out: Format) -> jax.Array:
    """[here, sockets, ...] -> [here, ...]: the part of each socket here, reduced over all."""
    given = _exchange(parts, place)
    if wire is INT32:
        whole = {"sum": reduce.integer_sum, "max": reduce.integer_max, "min": reduce.integer_min}
        return whole[op](given, axis=0)
    given = convert.round_to(given, wire)
    if op != "sum":
        return convert.round_to((reduce.tree_max if op == "max" else reduce.tree_min)(given, axis=0), out)
    held = partial(convert.round_to, fmt=BF16) if wire is BF16 and order != "chain" else _as_it_is
    if order == "ring":
        given = jax.vmap(lambda x, me: jnp.roll(x, -1 - me, axis=0), in_axes=(1, 0), out_axes=1)(given, place.me)
    return convert.round_to((_halved if order == "tree" else _chained)(given, held), out)


def _as_it_is(total: jax.Array) -> jax.Array:
    return total


def _chained(given: jax.Array, held: Callable[[jax.Array], Any]) -> jax.Array:
    total = given[0]
    for socket in range(1, given.shape[0]):
        total = registers.add(held(total), given[socket])
    return total


def _halved(given: jax.Array, held: Callable[[jax.Array], Any]) -> jax.Array:
    while given.shape[0] > 1:
        half = given.shape[0] // 2
        given = registers.add(held(given[:half]), held(given[half:]))
    return given[0]
