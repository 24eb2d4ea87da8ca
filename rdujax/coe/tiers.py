"""The memory of a node in time: its clock, what is in HBM, what is on its way there, and who is told of what happens.

How experts come and go is a part of the law of `rdujax.coe.serving`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rdujax.base.errors import CapacityError
from rdujax.coe.copies import Copies
from rdujax.coe.nodes import Event, Kind, Node
from rdujax.coe.policies import Expert, Policy
from rdujax.coe.residency import Residency

Taken = TypeVar("Taken")


class Tiers:
    """HBM of a node, and copies into it, at `now_ps`. channels: copies at the same time. told: of what is over."""

    def __init__(
        self,
        node: Node,
        experts: Mapping[Expert, Kind],
        policy: Policy,
        channels: int,
        told: Callable[[Event], None] | None,
    ):
        self.residency = Residency(node.hbm_bytes, policy, node.pinned)
        self.now_ps = 0
        self._node, self._experts, self._told = node, experts, told
        self._copies = Copies(channels)
        self._begun: dict[Expert, tuple[str, int]] = {}

    def is_there(self, expert: Expert) -> bool:
        """Whether it is in HBM, and not only on its way."""
        return expert in self.residency and expert not in self._copies

    def bring(self, expert: Expert, needed_bytes: int, upcoming: Sequence[Expert]) -> bool:
        """Goes on to when it is there, with room for keys and values; whether it was there before."""
        self.advance(self.now_ps)
        is_hit = self.is_there(expert)
        if expert not in self.residency:
            self._when_there_is_room(lambda kept: self._copy("copy", expert, kept, upcoming))
        self.wait_for(expert)
        self.residency.use(expert)
        self._when_there_is_room(lambda kept: self._reserve(expert, needed_bytes, kept, upcoming))
        self.wait_for(expert)
        return is_hit

    def reserve(self, expert: Expert, needed_bytes: int, upcoming: Sequence[Expert]) -> None:
        """Room for more keys and values of an expert that runs. Raises CapacityError where there is none now."""
        self._reserve(expert, needed_bytes, frozenset(self._begun), upcoming)

    def prefetch(self, expert: Expert, kept: Sequence[Expert] = (), upcoming: Sequence[Expert] = ()) -> bool:
        """Begins to bring an expert in, if it is not there; False where there is no room without those to be kept."""
        if expert not in self.residency:
            try:
                self._copy("prefetch", expert, frozenset((*kept, *self._begun)), upcoming)
            except CapacityError:
                return False
        return True

    def wait_for(self, expert: Expert) -> None:
        """Until its copy, if there is one, is over."""
        while expert in self._copies:
            self.advance(self._copies.next_end_ps())

    def advance(self, now_ps: int) -> None:
        """Goes on to a moment; copies that end by then are over."""
        for expert, end_ps in self._copies.advance(now_ps):
            kind, first_ps = self._begun.pop(expert)
            if self._told is not None:
                self._told(Event(kind, expert, 0, first_ps, end_ps))
        self.now_ps = now_ps

    def idle(self, until_ps: int | None) -> None:
        """Goes on to a moment that is not over, or to when no copy is under way."""
        if until_ps is not None:
            self.advance(max(until_ps, self.now_ps))
        while until_ps is None and self._copies:
            self.advance(self._copies.next_end_ps())

    def tell(self, kind: str, what: Expert, prompts: int, first_ps: int) -> None:
        """Of something that is over now."""
        if self._told is not None:
            self._told(Event(kind, what, prompts, first_ps, self.now_ps))

    def _reserve(self, expert: Expert, needed: int, kept: frozenset[Expert], upcoming: Sequence[Expert]) -> None:
        """Room for keys and values of a run; begins to write back what those had changed that leave for it."""
        left = self.residency.reserve_cache(needed, kept | {expert}, upcoming)
        if state_bytes := sum(sizes.state_bytes for sizes in left.values()):
            self._begin("write back", expert, state_bytes)

    def _copy(self, kind: str, expert: Expert, kept: frozenset[Expert], upcoming: Sequence[Expert]) -> None:
        sizes = self._experts[expert].sizes
        left = self.residency.admit(expert, sizes, kept, upcoming)
        self._begin(kind, expert, sizes.in_bytes + sum(each.state_bytes for each in left.values()))

    def _begin(self, kind: str, expert: Expert, moved_bytes: int) -> None:
        self._begun[expert] = kind, self.now_ps
        self._copies.start(expert, self._node.copy_ps(moved_bytes))

    def _when_there_is_room(self, take: Callable[[frozenset[Expert]], Taken]) -> Taken:
        """Takes room, as soon as copies under way no longer stand in its way; take: is given who may not leave."""
        while True:
            try:
                return take(frozenset(self._begun))
            except CapacityError:
                if not self._copies:
                    raise
                self.advance(self._copies.next_end_ps())
