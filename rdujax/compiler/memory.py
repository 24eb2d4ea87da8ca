"""Pass: what rests in memory gets a tier and an address.

Everything rests in HBM where that suffices, and addresses are shared by what is never alive together. Where it does
not, what costs the fewest bytes moved goes to DDR, and no more than must (`spill.py`). Values that one launch or
another finds in one place (see `tied`) go together.

Tilings and the cut into kernels depend on the tiers, and what is in memory at all depends on those: the program is
planned again with the tiers that its plan asks for, until it asks for what it has. A value that is no longer in memory
keeps the tier that it was last given, or a cut that flees from DDR would come back to it. Where no choice of tiers
holds a plan, one is made as if everything were in DDR, which leaves the fewest bytes in memory. After `ROUNDS` plans,
the last one that can be held keeps its cuts, and so the values that rest in memory: this always ends. A program that
fits is planned once.

Not modelled: alignment of addresses; copies between tiers while a program runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.compiler.packing import Packing, moments_of, pack
from rdujax.compiler.spill import Group, Tiers, spill
from rdujax.graph.graph import Graph, value_labels
from rdujax.graph.lifetimes import Place, lifetimes, tied
from rdujax.graph.memory import Memory, Symbol
from rdujax.graph.plan import Plan
from rdujax.machines.machine import Machine
from rdujax.units.memory import TIERS

AUTO = "auto"
HOME, SPILL = "hbm", "ddr"  # where everything rests if it fits, and where what does not fit goes
ROUNDS = 4  # plans in which cuts may change with the tiers
# Why a symbol is in its tier.
FITS = "fits"
STAYS = "stays: enough is spilled"
SPILLED = f"spilled: {HOME} is full"
PINNED = "pinned"
ROWS = 20  # of the table of symbols in a refusal

# The plan with these tiers, by value; with the cuts of another plan, where one is given.
Make = Callable[[Mapping[int, str], Plan | None], Plan]


def planned(
    graph: Graph,
    machine: Machine,
    tier: str,
    pins: Mapping[str, str],
    make: Make,
    together: Mapping[int, int] = MappingProxyType({}),
) -> Plan:
    """The plan whose tiers are those that it asks for, with its memory assigned.

    tier: where everything rests, or "auto". pins: tiers by label (see `pinned`). together: values that rest in the tier
    of others, the place of which they take now or in the next call. Raises CapacityError where a tier is full,
    UnknownNameError for labels and tiers that do not exist, ArgumentError for pins that contradict one another.
    """
    groups = tied(graph, together)
    fixed = pinned(graph, groups, pins)
    home = HOME if tier == AUTO else tier

    def needs(spilled: frozenset[int], cuts: Plan | None = None) -> _Needs:
        tier_of = dict.fromkeys(groups.values(), home) | dict.fromkeys(spilled, SPILL) | fixed
        at_home = f"{tier=}" if tier != AUTO else STAYS if spilled else FITS
        reasons = dict.fromkeys(groups.values(), at_home) | dict.fromkeys(spilled, SPILLED)
        reasons |= dict.fromkeys(fixed, PINNED)
        plan = make({value: tier_of[group] for value, group in groups.items()}, cuts)
        return _Needs(plan, groups, tier_of, reasons)

    if tier != AUTO:
        return _placed(needs(frozenset()), machine)
    return _placed(_settled(needs, machine, frozenset(groups.values()) - fixed.keys()), machine)


def _settled(needs: Callable[..., "_Needs"], machine: Machine, free: frozenset[int]) -> "_Needs":
    """What a plan needs that asks for the tiers with which it was made; of one that cannot be held, where none can."""
    spilled: frozenset[int] = frozenset()
    held: _Needs | None = None
    for _ in range(ROUNDS):
        found = needs(spilled)
        asked = _spills(found, machine, free & found.groups)
        if asked is not None:
            if asked == spilled & found.groups:
                return found
            held, spilled = found, asked | spilled - found.groups
        elif held is not None:
            break
        elif spilled == free:
            held, spilled = found, _least_refused(found, machine, free & found.groups)
            break
        else:
            spilled = free
    assert held is not None
    return needs(spilled, held.plan)


def pinned(graph: Graph, groups: Mapping[int, int], pins: Mapping[str, str]) -> dict[int, str]:
    """The tiers that a user fixed, by group. A key is the label of a value, or the beginning of labels and "...".

    Raises UnknownNameError for a label or tier that does not exist, ArgumentError where values that rest in one place
    are sent to two tiers.
    """
    labels = list(value_labels(graph))
    fixed: dict[int, tuple[str, str]] = {}
    for key, tier in pins.items():
        if tier not in TIERS:
            raise unknown("memory tier", tier, TIERS, where=f"tiers, {key}")
        begin = key.removesuffix("...")
        meant = [v for label, v in labels if (label.startswith(begin) if key.endswith("...") else label == key)]
        if not meant:
            raise unknown("label of a value", key, {label for label, _ in labels}, where="tiers")
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


class _Needs:
    """What a plan needs. groups: those that have a place. moved_bytes: by group. reasons: of tiers, by group."""

    def __init__(self, plan: Plan, group_of: Mapping[int, int], tier_of: Mapping[int, str], reasons: Mapping[int, str]):
        self.plan, self.group_of, self.tier_of, self.reasons = plan, group_of, tier_of, reasons
        self.lifetimes = lifetimes(plan)
        self.groups = frozenset(group_of[place.value] for place in self.lifetimes.places)
        self.moved_bytes = dict.fromkeys(self.groups, 0)
        for value, amount_bytes in self.lifetimes.moved_bytes.items():
            self.moved_bytes[group_of[value]] += amount_bytes

    @cached_property
    def alive_by_group(self) -> dict[int, np.ndarray]:
        """int64 [moments] of each group: its bytes that are alive."""
        length = len(self.lifetimes.kernels)
        alive = {group: np.zeros(length, np.int64) for group in self.groups}
        for place in self.lifetimes.places:
            alive[self.group_of[place.value]] += place.kind.size_bytes * moments_of(place.alive, length)
        return alive

    def places(self, of: frozenset[int]) -> list[Place]:
        """The places of some groups."""
        return [place for place in self.lifetimes.places if self.group_of[place.value] in of]

    def in_tier(self, tier: str) -> frozenset[int]:
        """The groups of a tier."""
        return frozenset(group for group in self.groups if self.tier_of[group] == tier)

    @property
    def sum_bytes(self) -> int:
        """Bytes of all places."""
        return sum(place.kind.size_bytes for place in self.lifetimes.places)

    def alive_bytes(self, of: frozenset[int]) -> np.ndarray:
        """int64 [moments]: bytes of some groups that are alive."""
        none = np.zeros(len(self.lifetimes.kernels), np.int64)
        return sum((self.alive_by_group[group] for group in of), none)


def _packed(places: Sequence[Place], enough_bytes: int = 0) -> Packing:
    return pack([place.kind.size_bytes for place in places], [place.alive for place in places], enough_bytes)


def _spills(needs: _Needs, machine: Machine, free: frozenset[int], more_bytes: int = 0) -> frozenset[int] | None:
    """The groups of `free` that go to DDR so that both tiers hold theirs; None where no choice does.

    more_bytes: by which DDR is taken to be larger.
    """
    alive = needs.alive_by_group
    places: dict[int, list[tuple[int, int]]] = {group: [] for group in needs.groups}
    for place in needs.lifetimes.places:
        places[needs.group_of[place.value]].append((place.kind.size_bytes, place.alive))
    stays = [needs.in_tier(tier) - free for tier in (HOME, SPILL)]
    rooms = (_room(machine, HOME), _room(machine, SPILL) + more_bytes)

    def excess_bytes(gone: frozenset[int]) -> tuple[int, int]:
        held = zip((stays[0] | free - gone, stays[1] | gone), rooms, strict=True)
        here, there = (_packed(needs.places(of), room).peak_bytes - room for of, room in held)
        return here, there

    may_go = [Group(g, alive[g], needs.moved_bytes[g], tuple(sorted(places[g]))) for g in sorted(free)]
    stay_bytes = np.stack([needs.alive_bytes(of) for of in stays])
    return spill(may_go, Tiers(stay_bytes, rooms, excess_bytes))


def _least_refused(needs: _Needs, machine: Machine, free: frozenset[int]) -> frozenset[int]:
    """Where DDR is too small, what would go if it were larger: by what is too much in sum, or by more."""
    alive_bytes = needs.alive_bytes(needs.in_tier(HOME) | needs.in_tier(SPILL))
    more_bytes = int(alive_bytes.max()) - _room(machine, HOME) - _room(machine, SPILL)
    for more in (max(more_bytes, 0), needs.sum_bytes):
        asked = _spills(needs, machine, free, more)
        if asked is not None:
            return asked
    return free  # what was pinned to HBM is too much


def _room(machine: Machine, tier: str) -> int:
    return int(machine.tier(tier).capacity_bytes.value)


def _placed(needs: _Needs, machine: Machine) -> Plan:
    """The plan with the addresses of all tiers; raises CapacityError where a tier holds fewer bytes than it takes."""
    symbols: dict[Place, Symbol] = {}
    bounds: dict[str, int] = {}
    for tier in TIERS:
        places = needs.places(needs.in_tier(tier))
        packing = _packed(places)
        bounds[tier] = packing.bound_bytes
        symbols |= {p: _symbol(p, tier, at, needs) for p, at in zip(places, packing.offsets, strict=True)}
    in_order = tuple(symbols[place] for place in needs.lifetimes.places)
    memory = Memory(in_order, needs.lifetimes.kernels, bounds)
    for tier in TIERS:
        check(memory, tier, {tier: _room(machine, tier) for tier in TIERS})
    return replace(needs.plan, memory=memory)


def _symbol(place: Place, tier: str, offset_bytes: int, needs: _Needs) -> Symbol:
    group = needs.group_of[place.value]
    return Symbol(
        place.value, place.label, place.kind, tier, offset_bytes, place.alive, needs.moved_bytes[group],
        int(needs.alive_by_group[group].max()), place.is_argument, needs.reasons[group], tuple(place.moves),
    )  # fmt: skip


def check(memory: Memory, tier: str, rooms_bytes: Mapping[str, int]) -> None:
    """Raises CapacityError where a tier holds fewer bytes than the program takes of it, with the largest symbols."""
    peak_bytes = memory.peak_bytes(tier)
    if peak_bytes <= rooms_bytes[tier]:
        return
    largest = sorted(memory.symbols, key=lambda symbol: -symbol.size_bytes)
    rows = [(f"{s.size_bytes:,}", s.tier, str(s), memory.in_use(s)) for s in largest[:ROWS]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [f"{a:>{widths[0]}} bytes  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in rows]
    if len(largest) > ROWS:
        more_bytes = sum(symbol.size_bytes for symbol in largest[ROWS:])
        table.append(f"{more_bytes:,} bytes  and {len(largest) - ROWS:,} more")
    spilled = any(symbol.reason == SPILLED for symbol in memory.symbols)
    full = (
        f"; {HOME}, with {memory.peak_bytes(HOME):,} of {rooms_bytes[HOME]:,}, has no room for them" if spilled else ""
    )
    other = "" if spilled else f", or another tier: tier={AUTO!r} spills to {SPILL}"
    raise CapacityError(
        describe(
            f"the symbols of the program do not fit into {tier}",
            given=f"{peak_bytes:,} bytes, {peak_bytes - rooms_bytes[tier]:,} too many; "
            + f"{memory.bound_bytes[tier]:,} are alive at once:" + "".join(f"\n    {row}" for row in table),
            allowed=f"{rooms_bytes[tier]:,} bytes{full}",
            do=f"use smaller shapes, or a machine with a larger tier{other}",
        )
    )  # fmt: skip
