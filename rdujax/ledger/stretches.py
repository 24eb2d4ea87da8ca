"""Stretches of a recurrence that can be told in advance: every node goes on by a constant of its own, lap after lap.

A pipeline that fills its buffers has its fast stages run ahead of the slow ones, by so many cycles a turn, until a
buffer is full; then they all keep the pace of the slowest. Either is a stretch of the recurrence in which

    finish[k, r + period] = finish[k, r] + step[k, r mod period]

What node k waits for then stays the same, until something that grows faster overtakes it; since all of them grow
evenly, the lap in which that happens first is a division. So a stream of any length is a handful of stretches, and the
last of them, in which all nodes of a connected pipeline have the same step, never ends.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from rdujax.ledger.waits import Form


@dataclass(frozen=True)
class Stretch:
    """Rows of rounds `begin`, `begin` + 1 ..., and from their end on `laps` laps of the last `period` of them.

    steps: what one lap adds, for every row of a lap and node. laps: None for a regime that never ends.
    """

    begin: int
    rows: list[list[int]] = field(default_factory=list)
    period: int = 0
    steps: Sequence[Sequence[int]] = ()
    laps: int | None = 0

    @property
    def told(self) -> int:
        """The first round that is not among the rows."""
        return self.begin + len(self.rows)

    def finish(self, round_: int, node: int) -> int:
        """Finish of a node in one round."""
        if round_ < self.told:
            return self.rows[round_ - self.begin][node]
        lap, phase = divmod(round_ - self.told, self.period)
        return self.rows[phase - self.period][node] + (lap + 1) * self.steps[phase][node]


def of_round(stretches: Sequence[Stretch], round_: int) -> int:
    """The position of the stretch that tells a round: the last one that has begun."""
    return bisect_right(stretches, round_, key=lambda stretch: stretch.begin) - 1


def may_repeat(rows: Sequence[Sequence[int]], period: int) -> bool:
    """True if the last row goes on from the one a lap before by what that did from the one before it."""
    if len(rows) <= 2 * period:
        return False
    last, before, first = rows[-1], rows[-1 - period], rows[-1 - 2 * period]
    return all(c - b == b - a for a, b, c in zip(first, before, last, strict=True))


def laps_ahead(
    form: Form, service: Sequence[int], rows: Sequence[Sequence[int]], period: int
) -> tuple[list[list[int]], int | None] | None:
    """What a lap adds, and for how many laps after `rows` it will, None for ever; or None if this is not even so now.

    A proof by induction over laps: the rows as far back as the law looks have been even, each node now waits for one
    with its own step, and until the lap that is returned nothing that it waits for is later.
    """
    reach = max(period, form.reach)
    if len(rows) < reach + period:
        return None
    base = rows[-period:]
    steps = [[b - a for a, b in zip(rows[at - 2 * period], base[at], strict=True)] for at in range(period)]
    for ago in range(period, reach):
        later, earlier = rows[-1 - ago], rows[-1 - ago - period]
        if any(b - a != s for a, b, s in zip(earlier, later, steps[-1 - ago % period], strict=True)):
            return None
    ends: int | None = None
    for phase in range(period):
        for node, waits in enumerate(form.waits):
            start, step, holds = base[phase][node] - service[node], steps[phase][node], False
            for wait in waits:
                lap, at = divmod(phase - wait.delay, period)
                more = steps[at][wait.on] - step
                spare = start - (base[at][wait.on] + lap * steps[at][wait.on])
                if spare < 0:
                    return None
                if more > 0:
                    ends = min(spare // more, spare // more if ends is None else ends)
                holds = holds or (more == 0 and spare == 0)
            if not holds:
                return None
    return steps, ends
