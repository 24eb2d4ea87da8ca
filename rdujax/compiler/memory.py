"""Pass: what rests in memory gets a tier and an address.

Everything rests in HBM where that suffices, and addresses are shared by what is never alive together. Where it does
not, what is moved least in all launches goes to DDR first, until the rest fits; then what need not have gone comes
back, the most moved first. Values that one launch or another finds in one place (see `tied`) go together.

Tilings and the cut into kernels depend on the tiers, and what is moved depends on those: the program is planned again
until the assignment that its plan asks for is the one that it was made with. From the third round on, what has gone
stays, so that this ends. A program that fits is planned once.

Not modelled: alignment of addresses; copies between tiers while a program runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from types import MappingProxyType

import numpy as np

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.compiler.packing import Packing, moments_of, pack
from rdujax.graph.graph import Graph, Region
from rdujax.graph.lifetimes import Place, lifetimes, tied
from rdujax.graph.memory import Memory, Symbol
from rdujax.graph.plan import Plan
from rdujax.machines.machine import Machine
from rdujax.units.memory import TIERS

AUTO = "auto"
HOME, SPILL = "hbm", "ddr"  # where everything rests if it fits, and where what does not fit goes
FREE_ROUNDS = 3  # in which a value that was spilled may come back
PINNED = "pinned"
SPILLED = f"spilled: {HOME} is full"
ROWS = 20  # of the table of symbols in a refusal

Make = Callable[[Mapping[int, str]], Plan]  # the plan with these tiers, by value


def planned(
    graph: Graph,
    machine: Machine,
    tier: str,
    pins: Mapping[str, str],
    make: Make,
    overwritten: Mapping[int, int] = MappingProxyType({}),
) -> Plan:
    """The plan whose tiers are those that it asks for, with its memory assigned.

    tier: where everything rests, or "auto". pins: tiers by label (see `pinned`). overwritten: values that take the
    place of others. Raises CapacityError where a tier is full, UnknownNameError for labels and tiers that do not exist,
    ArgumentError for pins that contradict one another.
    """
    groups = tied(graph, overwritten)
    fixed = pinned(graph, groups, pins)
    home = HOME if tier == AUTO else tier
    spilled: frozenset[int] = frozenset()
    for turn in count():
        of_group = dict.fromkeys(groups.values(), home) | dict.fromkeys(spilled, SPILL) | fixed
        plan = make({value: of_group[group] for value, group in groups.items()})
        needs = _Needs(plan, groups, of_group)
        reasons = dict.fromkeys(spilled, SPILLED) | dict.fromkeys(fixed, PINNED)
        if tier != AUTO:
            return _placed(plan, needs, machine, reasons)
        asked = _spills(needs, machine, fixed, spilled if turn >= FREE_ROUNDS else frozenset())
        if asked == spilled & needs.groups:
            return _placed(plan, needs, machine, reasons)
        spilled = asked
    raise AssertionError("unreachable")


def pinned(graph: Graph, groups: Mapping[int, int], pins: Mapping[str, str]) -> dict[int, str]:
    """The tiers that a user fixed, by group. A key is the label of a value, or the beginning of labels and "...".

    Raises UnknownNameError for a label or tier that does not exist, ArgumentError where values that rest in one place
    are sent to two tiers.
    """
    labels = _labels(graph)
    fixed: dict[int, tuple[str, str]] = {}
    for key, tier in pins.items():
        if tier not in TIERS:
            raise unknown("memory tier", tier, TIERS, where=f"tiers, {key}")
        begin = key.removesuffix("...")
        meant = [v for v, label in labels.items() if (label.startswith(begin) if key.endswith("...") else label == key)]
        if not meant:
            raise unknown("label of a value", key, dict.fromkeys(labels.values()), where="tiers")
        for value in meant:
            first, chosen = fixed.setdefault(groups[value], (key, tier))
            if chosen != tier:
                raise ArgumentError(
                    describe(
                        "values that rest in one place cannot be in two tiers",
                        given=f"{first!r} in {chosen}, {key!r} in {tier}", where="tiers", do="give both the same tier",
                    )
                )  # fmt: skip
    return {group: tier for group, (_, tier) in fixed.items()}


def _labels(graph: Graph) -> dict[int, str]:
    found = dict(graph.labels)
    for node in graph.nodes:
        if isinstance(node.op, Region):
            for body in node.op.bodies:
                found |= _labels(body)
    return found


class _Needs:
    """What a plan needs. groups: those that have a place. moved_bytes: by group."""

    def __init__(self, plan: Plan, group_of: Mapping[int, int], tier_of: Mapping[int, str]):
        self.lifetimes, self.group_of, self.tier_of = lifetimes(plan), group_of, tier_of
        self.groups = frozenset(group_of[place.value] for place in self.lifetimes.places)
        self.moved_bytes = dict.fromkeys(self.groups, 0)
        for value, amount_bytes in self.lifetimes.moved_bytes.items():
            self.moved_bytes[group_of[value]] += amount_bytes

    def places(self, of: frozenset[int]) -> list[Place]:
        """The places of some groups."""
        return [place for place in self.lifetimes.places if self.group_of[place.value] in of]

    def in_tier(self, tier: str) -> frozenset[int]:
        """The groups of a tier."""
        return frozenset(group for group in self.groups if self.tier_of[group] == tier)


def _packed(places: Sequence[Place]) -> Packing:
    return pack([place.kind.size_bytes for place in places], [place.alive for place in places])


def _spills(needs: _Needs, machine: Machine, fixed: Mapping[int, str], kept: frozenset[int]) -> frozenset[int]:
    """The groups that go to DDR so that HBM holds the others; all that may go, where even these do not fit.

    kept: groups that go in any case.
    """
    room = int(machine.tier(HOME).capacity_bytes.value)
    free = needs.groups - set(fixed)
    here = needs.in_tier(HOME) & set(fixed) | free
    kept = kept & free
    limit = room
    while True:
        spilled = _fewest(needs, here, free - kept, kept, limit)
        excess = _packed(needs.places(here - spilled)).peak_bytes - room
        if excess <= 0 or spilled >= free:
            return spilled
        limit -= excess  # addresses leave gaps: as many bytes more have to go


def _fewest(
    needs: _Needs, here: frozenset[int], free: frozenset[int], kept: frozenset[int], limit: int
) -> frozenset[int]:
    """The groups to spill so that no more than `limit` bytes are ever alive at once."""
    length = len(needs.lifetimes.kernels)
    alive = {group: np.zeros(length, np.int64) for group in here}
    for place in needs.places(here):
        alive[needs.group_of[place.value]] += place.kind.size_bytes * moments_of(place.alive, length)
    total = np.zeros(length, np.int64)
    for group in here - kept:
        total += alive[group]
    # Of groups that are moved equally, the largest first, so that fewer have to go.
    order = sorted(free, key=lambda group: (needs.moved_bytes[group], -int(alive[group].max(initial=0)), group))
    spilled: list[int] = []
    for group in order:
        if total.max(initial=0) <= limit:
            break
        if (alive[group] * (total > limit)).any():  # it takes room when there is too little
            spilled.append(group)
            total -= alive[group]
    for group in reversed(spilled[:]):
        if (total + alive[group]).max(initial=0) <= limit:
            spilled.remove(group)
            total += alive[group]
    return frozenset(spilled) | kept


def _placed(plan: Plan, needs: _Needs, machine: Machine, reasons: Mapping[int, str]) -> Plan:
    """The plan with the addresses of all tiers; raises CapacityError where a tier holds fewer bytes than it takes."""
    symbols: dict[Place, Symbol] = {}
    bounds: dict[str, int] = {}
    for tier in TIERS:
        places = needs.places(needs.in_tier(tier))
        packing = _packed(places)
        bounds[tier] = packing.bound_bytes
        symbols |= {p: _symbol(p, tier, at, needs, reasons) for p, at in zip(places, packing.offsets, strict=True)}
    in_order = tuple(symbols[place] for place in needs.lifetimes.places)
    memory = Memory(in_order, needs.lifetimes.kernels, bounds)
    for tier in TIERS:
        check(memory, tier, int(machine.tier(tier).capacity_bytes.value))
    return replace(plan, memory=memory)


def _symbol(place: Place, tier: str, offset_bytes: int, needs: _Needs, reasons: Mapping[int, str]) -> Symbol:
    group = needs.group_of[place.value]
    return Symbol(
        place.value, place.label, place.kind, tier, offset_bytes, place.alive, needs.moved_bytes[group],
        place.is_argument, reasons.get(group, ""),
    )  # fmt: skip


def check(memory: Memory, tier: str, capacity_bytes: int) -> None:
    """Raises CapacityError where a tier holds fewer bytes than the program takes of it, with the largest symbols."""
    peak_bytes = memory.peak_bytes(tier)
    if peak_bytes <= capacity_bytes:
        return
    largest = sorted(memory.symbols, key=lambda symbol: -symbol.size_bytes)
    rows = [(f"{s.size_bytes:,}", s.tier, str(s), memory.in_use(s)) for s in largest[:ROWS]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [f"{a:>{widths[0]}} bytes  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in rows]
    if len(largest) > ROWS:
        more_bytes = sum(symbol.size_bytes for symbol in largest[ROWS:])
        table.append(f"{more_bytes:,} bytes  and {len(largest) - ROWS:,} more")
    bound_bytes = memory.bound_bytes[tier]
    raise CapacityError(
        describe(
            f"the symbols of the program do not fit into {tier}",
            given=f"{peak_bytes:,} bytes, {peak_bytes - capacity_bytes:,} too many; {bound_bytes:,} are alive at once:"
            + "".join(f"\n    {row}" for row in table),
            allowed=f"{capacity_bytes:,} bytes",
            do=f"use smaller shapes, a machine with a larger tier, or another tier: tier={AUTO!r} spills to {SPILL}",
        )
    )
