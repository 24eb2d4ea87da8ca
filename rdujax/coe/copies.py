"""Copies between DDR and HBM that share its bandwidth, in whole picoseconds.

As many copies as there are channels go on at the same time, each at an equal share of the bandwidth; others wait,
first come, first served. A copy ends at the first whole picosecond at which all of it is there. Shares are exact:
nothing is lost or gained by dividing.
"""

from collections import deque
from math import lcm

from rdujax.base.errors import ArgumentError, describe
from rdujax.coe.policies import Expert


class Copies:
    """Copies under way. Time only goes forward: `advance` before anything that happens at a later moment."""

    def __init__(self, channels: int = 8):
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= 16:
            raise ArgumentError(describe("channels of copies", given=repr(channels), allowed="an integer, 1 to 16"))
        self._channels = channels
        self._scale = lcm(*range(1, channels + 1))  # so many units of work in a picosecond of the bandwidth
        self._at_ps = 0
        self._left: dict[Expert, int] = {}
        self._waiting: deque[tuple[Expert, int]] = deque()

    def __contains__(self, expert: Expert) -> bool:
        return expert in self._left or any(expert == name for name, _ in self._waiting)

    def __bool__(self) -> bool:
        return bool(self._left)

    def start(self, expert: Expert, work_ps: int) -> None:
        """Begins a copy, at the moment that was advanced to, that takes `work_ps` at the whole bandwidth.

        Raises ArgumentError for one under way.
        """
        if expert in self:
            raise ArgumentError(describe("a copy that is under way already", given=repr(expert)))
        self._waiting.append((expert, work_ps * self._scale))
        self._fill()

    def next_end_ps(self) -> int:
        """When the first of them ends, if none begins before. Raises ArgumentError where there is none."""
        if not self._left:
            raise ArgumentError(describe("the end of a copy is asked", given="no copy under way"))
        return self._at_ps - -min(self._left.values()) * len(self._left) // self._scale

    def advance(self, now_ps: int) -> list[tuple[Expert, int]]:
        """Goes on to a moment; (expert, when) of every copy that has ended by then, in order."""
        if now_ps < self._at_ps:
            raise ArgumentError(
                describe("time goes forward", given=f"{now_ps} ps", allowed=f"from {self._at_ps} ps on")
            )
        ended: list[tuple[Expert, int]] = []
        while self._left and (end := self.next_end_ps()) <= now_ps:
            self._pass(end)
            done = [expert for expert, left in self._left.items() if left <= 0]
            ended += [(expert, end) for expert in done]
            for expert in done:
                del self._left[expert]
            self._fill()
        self._pass(now_ps)
        return ended

    def _pass(self, now_ps: int) -> None:
        """Takes off what is copied until then."""
        if self._left:
            each = (now_ps - self._at_ps) * (self._scale // len(self._left))
            for expert in self._left:
                self._left[expert] -= each
        self._at_ps = now_ps

    def _fill(self) -> None:
        while self._waiting and len(self._left) < self._channels:
            expert, work = self._waiting.popleft()
            self._left[expert] = work
