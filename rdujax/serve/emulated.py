"""The emulated node behind a server: what every answer takes there, and who is in its HBM.

Two clocks. "offline": time is that of the node alone; who asks while it answers arrives when it began to answer those.
"blocking": time is that of the wall; who asks arrives when he asks, and is told of each token when the node has it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdujax.base.errors import ArgumentError, CapacityError, describe
from rdujax.coe.nodes import Event, Options
from rdujax.coe.policies import Policy
from rdujax.coe.requests import PARTS, Refused, Request, Served
from rdujax.coe.serving import Server
from rdujax.coe.systems import System
from rdujax.coe.traffic import SECOND_PS, Open

CLOCKS = ("offline", "blocking")


@dataclass(frozen=True)
class Asked:
    """What the node is to answer. expert: None where the router found none; named: it was not asked."""

    arrival_ps: int
    expert: str | None
    tokens_in: int
    tokens_out: int
    named: bool


class EmulatedNode:
    """A `Server` that is asked batch by batch, by one thread.

    filled: experts that were asked once, one after the other, before anybody else came: HBM holds the last of them.
    """

    def __init__(
        self, system: System, policy: Policy, options: Options, clock: str = CLOCKS[0], filled: Sequence[str] = ()
    ):
        if clock not in CLOCKS:
            raise ArgumentError(describe("clock", given=repr(clock), allowed=", ".join(CLOCKS)))
        self.system, self.clock = system, clock
        self._copied: dict[str, int] = {}
        self._server = Server(system.node, system.experts, policy, options, self._happened)
        for name in filled:
            [found] = self.serve([Asked(self._server.now_ps, name, 1, 1, named=True)])
            if isinstance(found, CapacityError):
                raise found
        self._copied.clear()
        self._first_ps, self._first_s = self._server.now_ps, time.monotonic()
        self.state = self._state()

    @property
    def is_blocking(self) -> bool:
        """Whether answers are to come when the node has them."""
        return self.clock == "blocking"

    def arrival_ps(self) -> int:
        """When somebody arrives who asks now. From any thread."""
        if not self.is_blocking:
            return self._server.now_ps
        return self._first_ps + round((time.monotonic() - self._first_s) * SECOND_PS)

    def left_s(self, at_ps: int) -> float:
        """How long it is until then, on the clock of the wall; less than 0 for what is over."""
        return (at_ps - self.arrival_ps()) / SECOND_PS

    def serve(self, batch: Sequence[Asked]) -> list[Served | CapacityError]:
        """What each of them takes, in the order given; an error for one that has no room in HBM at all."""
        requests = [
            Request(number, each.arrival_ps, () if each.expert is None else (each.expert,), each.tokens_in,
                    max(1, each.tokens_out), each.named)
            for number, each in enumerate(batch)
        ]  # fmt: skip
        found = {each.request.number: each for each in self._server.serve(Open(sorted(requests, key=_arrival)))}
        self.state = self._state()
        return [_served(found[number]) for number in range(len(batch))]

    def prefetch(self, expert: str) -> bool:
        """Begins to bring an expert into HBM; False where it has no room. Raises UnknownNameError for none of ours.

        On a clock that stands still while nobody asks, it goes on to when the expert is there.
        """
        if self.is_blocking:
            self._server.idle(self.arrival_ps())
        begun = self._server.prefetch(expert)
        if not self.is_blocking:
            self._server.idle()
        self.state = self._state()
        return begun

    @property
    def resident(self) -> frozenset[str]:
        """Experts in HBM or on their way there."""
        pinned = (name for name in self.system.experts if name in self.system.node.pinned)
        return frozenset((*self._server.residency.experts, *pinned))

    def _happened(self, event: Event) -> None:
        if event.kind in ("copy", "prefetch"):
            moved = self.system.experts[event.what].sizes.in_bytes
            self._copied[event.kind] = self._copied.get(event.kind, 0) + moved

    def _state(self) -> dict[str, Any]:
        """What is where, for people and for other routers: nothing in it changes any more."""
        node, residency = self.system.node, self._server.residency
        sizes = {name: kind.sizes.in_bytes for name, kind in self.system.experts.items()}
        return {
            "node": node.name, "clock": self.clock, "now_ms": self._server.now_ps / 1e9,
            "hbm_bytes": residency.capacity_bytes, "hbm_used_bytes": residency.used_bytes,
            "hbm_pinned_bytes": dict(node.pinned), "ddr_bytes": node.ddr_bytes, "ddr_used_bytes": sum(sizes.values()),
            "experts": len(sizes),
            "resident": [{"expert": name, "bytes": sizes[name]} for name in residency.experts],
            "pinned": [name for name in sizes if name in node.pinned],
            "copied_bytes": dict(self._copied),
        }  # fmt: skip


def milliseconds(served: Served) -> Mapping[str, float]:
    """The parts of a request, their sum, and what its reader waited for."""
    parts = {part.replace("_ps", "_ms"): getattr(served, part) / 1e9 for part in PARTS}
    last = {"latency_ms": served.latency_ps / 1e9, "ttft_ms": served.first_token_ps / 1e9}
    return parts | last | {"tpot_ms": served.per_token_ps / 1e9 if served.request.experts else 0.0}


def _arrival(request: Request) -> int:
    return request.arrival_ps


def _served(each: Served | Refused) -> Served | CapacityError:
    if isinstance(each, Refused):
        return CapacityError(describe("a request that the emulated node refuses", given=each.reason))
    return each
