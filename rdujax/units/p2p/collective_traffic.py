"""Who sends what to whom in a collective, round by round; its counts, tallied on the way and predicted from shapes.

A tensor of E elements is cut into n chunks of ceil(E / n), one for each of the n sockets; the last chunks may be
shorter or empty, and what is empty is not sent. Socket s, in round r:

| phase   | route   | sends                            | to       | rounds  |
|---------|---------|----------------------------------|----------|---------|
| scatter | direct  | chunk s + r + 1                  | its owner| n - 1   |
|         | ring    | chunk s - 1 - r, summed so far   | s + 1    | n - 1   |
|         | halving | the half of s XOR d, summed      | s XOR d  | log2 n, d = n/2, n/4 ... 1 |
| gather  | direct  | its own chunk                    | s + r + 1| n - 1   |
|         | ring    | chunk s - r                      | s + 1    | n - 1   |
|         | halving | all chunks it holds              | s XOR d  | log2 n, d = 1, 2 ... n/2   |
| share   | oneshot | the whole tensor                 | s + r + 1| n - 1   |
| deal    | direct  | part s + r + 1                   | its owner| n - 1   |
| spread  | direct  | the whole tensor, from the root  | root + r + 1 | n - 1 |
|         | ring    | the whole tensor                 | s + 1    | n - 1   |

Sockets are counted modulo n. In scatter and share, what arrives is combined with what is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.ledger.counts import Counts
from rdujax.streams.lift import must_fit_int32
from rdujax.units import p2p, pcu  # noqa: F401  (both declare what is counted here)

Kind = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast"]
Route = Literal["direct", "ring", "halving", "oneshot"]
Phase = Literal["scatter", "gather", "share", "deal", "spread"]

ROUTES: dict[Kind, tuple[Route, ...]] = {
    "all_reduce": ("direct", "ring", "halving", "oneshot"),
    "reduce_scatter": ("direct", "ring", "halving"),
    "all_gather": ("direct", "ring", "halving"),
    "all_to_all": ("direct",),
    "broadcast": ("direct", "ring"),
}
_PHASES: dict[Kind, tuple[Phase, ...]] = {
    "all_reduce": ("scatter", "gather"),
    "reduce_scatter": ("scatter",),
    "all_gather": ("gather",),
    "all_to_all": ("deal",),
    "broadcast": ("spread",),
}
COMBINING: tuple[Phase, ...] = ("scatter", "share")


@dataclass(frozen=True)
class Collective:
    """One collective over the sockets of a node, as far as traffic and time go.

    elements: of the whole tensor: what one socket holds before (all_reduce, reduce_scatter, all_to_all, broadcast) or
        after (all_gather). element_bytes: width of an element while it travels. result_bytes: of an element of an
        all_reduce's result, which travels in the second half (default: the same).
    root: where a broadcast comes from.
    Raises UnknownNameError for a kind or route that does not exist, ArgumentError for a number that cannot be.
    """

    kind: Kind
    sockets: int
    elements: int
    element_bytes: int
    route: Route = "direct"
    result_bytes: int | None = None
    root: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ROUTES:
            raise unknown("collective", self.kind, ROUTES)
        if self.route not in ROUTES[self.kind]:
            raise unknown(f"route of {self.kind}", self.route, ROUTES[self.kind])
        if min(self.sockets, self.elements, self.element_bytes) < 1:
            raise ArgumentError(describe("a collective that cannot be", given=str(self), allowed="counts of 1 or more"))
        if not 0 <= self.root < self.sockets:
            raise ArgumentError(
                describe("a root that is none of the sockets", given=self.root, allowed=f"0 to {self.sockets - 1}",
                         where=self.kind)
            )  # fmt: skip
        if self.route == "halving" and self.sockets & (self.sockets - 1):
            raise ArgumentError(
                describe("halving needs a power of two of sockets", given=self.sockets, where=self.kind,
                         do='take order="chain" or order="ring"')
            )  # fmt: skip
        if self.kind == "all_to_all" and self.elements % self.sockets:
            raise ArgumentError(
                describe("an all_to_all of unequal parts", given=f"{self.elements} elements",
                         allowed=f"a multiple of {self.sockets} sockets")
            )  # fmt: skip

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases, one after the other."""
        return ("share",) if self.route == "oneshot" else _PHASES[self.kind]

    @property
    def chunk(self) -> int:
        """Elements of a chunk, the last ones perhaps shorter."""
        return -(-self.elements // self.sockets)

    @property
    def edges(self) -> tuple[int, ...]:
        """Where the chunks begin, and the end: [sockets + 1]."""
        return tuple(min(i * self.chunk, self.elements) for i in range(self.sockets + 1))

    def width_bytes(self, phase: Phase) -> int:
        """Width of an element that travels in a phase."""
        last = self.kind == "all_reduce" and phase == "gather"
        return self.result_bytes if last and self.result_bytes else self.element_bytes


class Send(NamedTuple):
    """Chunks first ... first + span - 1 go to `target`, if `active`. Numbers, or arrays over the sockets asked for."""

    target: Any
    first: Any
    span: int
    active: Any


def rounds(work: Collective, phase: Phase) -> int:
    """Rounds of a phase."""
    return work.sockets.bit_length() - 1 if work.route == "halving" else work.sockets - 1


def sent_in(work: Collective, phase: Phase, turn: int, me: Any) -> Send:
    """What socket `me` (a number, or int32 [...] of several) sends in round `turn` of a phase: the module's table."""
    n = work.sockets
    if work.route == "halving":
        span = n >> (turn + 1) if phase == "scatter" else 1 << turn
        target = me ^ span
        return Send(target, (target if phase == "scatter" else me) // span * span, span, True)
    target = (me + 1) % n if work.route == "ring" else (me + turn + 1) % n
    if phase == "share":
        return Send(target, 0 * me, n, True)
    if phase == "spread":
        sender = (work.root + turn) % n if work.route == "ring" else work.root
        return Send(target, 0 * me, n, me == sender)
    if work.route == "ring":
        behind = turn + 1 if phase == "scatter" else turn
        return Send(target, (me - behind) % n, 1, True)
    return Send(target, me if phase == "gather" else target, 1, True)


def source_of(work: Collective, phase: Phase, turn: int, me: Any) -> Any:
    """The socket that sends to `me` in round `turn`."""
    if work.route == "halving":
        return sent_in(work, phase, turn, me).target
    return (me - 1) % work.sockets if work.route == "ring" else (me - turn - 1) % work.sockets


def steps(work: Collective) -> Iterator[tuple[Phase, int]]:
    """(phase, round) of the whole collective, in order."""
    for phase in work.phases:
        for turn in range(rounds(work, phase)):
            yield phase, turn


def tally(work: Collective, me: jax.Array) -> Counts:
    """What the sockets `me`, int32 [...], send and combine: int32 [...] each, round by round as it happens.

    Raises ArgumentError where one socket sends 2 GiB or more.
    """
    must_fit_int32(2 * work.sockets * work.elements * work.element_bytes, "bytes that one socket may send")
    edges = jnp.asarray(np.asarray(work.edges, np.int32))

    def elements(send: Send) -> jax.Array:
        return jnp.where(send.active, edges[send.first + send.span] - edges[send.first], 0)

    sent = messages = operations = jnp.zeros_like(me)
    for phase, turn in steps(work):
        size = elements(sent_in(work, phase, turn, me))
        sent = sent + size * jnp.int32(work.width_bytes(phase))
        messages = messages + (size > 0).astype(jnp.int32)
        if phase in COMBINING:
            operations = operations + elements(sent_in(work, phase, turn, source_of(work, phase, turn, me)))
    counted = {"p2p.sent_bytes": sent, "p2p.messages": messages}
    return Counts(counted | ({"pcu.simd_operations": operations} if work.phases[0] in COMBINING else {}))


def predict(work: Collective) -> Counts:
    """The counts of all sockets together, in closed form.

    Whatever the route, n - 1 times the tensor is sent per phase, and combined n - 1 times; only a one-shot all_reduce
    sends n times as much.

    >>> predict(Collective("all_reduce", 8, 1000, element_bytes=4, result_bytes=2))
    Counts:
      p2p.messages            112 message
      p2p.sent_bytes       42,000 byte
      pcu.simd_operations   7,000 operation
    """
    n, amount, counts = work.sockets, work.elements, Counts()
    for phase in work.phases:
        times = (n - 1) * (n if phase == "share" else 1)
        named = {"p2p.sent_bytes": times * amount * work.width_bytes(phase), "p2p.messages": _messages(work, phase)}
        counts += Counts(named | ({"pcu.simd_operations": times * amount} if phase in COMBINING else {}))
    return counts


def _messages(work: Collective, phase: Phase) -> int:
    n, full = work.sockets, -(-work.elements // work.chunk)
    if work.route == "halving":
        # A block of d chunks is sent by d sockets, and there are ceil(full / d) blocks that are not empty.
        return sum(d * -(-full // d) for d in (1 << turn for turn in range(rounds(work, phase))))
    if phase == "spread":
        return n - 1
    return (n - 1) * (full if phase in ("scatter", "gather") else n)
