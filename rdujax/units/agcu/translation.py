"""Segments of virtual memory and their translation: which byte of which tier an address of an AGCU stands for.

    virtual   [ weights ........ ]      [ cache .... ]           an address in a gap, or a run past an end, is refused
                 |                         |
    physical  hbm: 4096 ...             ddr: 0 ...               address - segment's base + its physical base

A segment lookaside buffer holds at most `segments` entries (Hot Chips 2024 names the buffer; its size is an
assumption). Tables are static: they are checked on the host, before anything runs. Addresses that are values of a
program select rows of one segment (`agcu.gather`), where a row out of bounds is poison.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from rdujax.base.errors import ArgumentError, CapacityError, describe, unknown
from rdujax.units.agcu.coalesce import Walk
from rdujax.units.memory import check_tier


@dataclass(frozen=True)
class Segment:
    """`length_bytes` bytes of virtual memory from `base_bytes`, at rest in `tier` from `physical_bytes`.

    read_only: no store may go there. shared: its bytes may also be those of other segments that say so: the same memory
    under two addresses, for example a buffer that is written under one and read under another. Raises UnknownNameError
    for a tier that does not exist, ArgumentError for an empty segment and a negative address.
    """

    name: str
    base_bytes: int
    length_bytes: int
    tier: str
    physical_bytes: int
    read_only: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        check_tier(self.tier, where=f"segment {self.name!r}")
        if self.length_bytes < 1 or self.base_bytes < 0 or self.physical_bytes < 0:
            raise ArgumentError(
                describe("a segment has one byte or more, and no negative address", given=str(self), where=self.name)
            )

    @property
    def end_bytes(self) -> int:
        """One past the last virtual address."""
        return self.base_bytes + self.length_bytes

    @property
    def physical_end_bytes(self) -> int:
        """One past the last byte in its tier."""
        return self.physical_bytes + self.length_bytes

    def __str__(self) -> str:
        rights = ("read" if self.read_only else "read, write") + (", shared" if self.shared else "")
        return (
            f"[{self.base_bytes:#x}, {self.end_bytes:#x})  {self.name}, {self.length_bytes:,} bytes, "
            f"{self.tier} from {self.physical_bytes:#x}, {rights}"
        )


@dataclass(frozen=True)
class Table:
    """The segments that an AGCU can translate.

    Raises ArgumentError where two share a name or a virtual byte, or a byte of a tier without both being `shared`.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(sorted(self.segments, key=lambda s: s.base_bytes)))
        names = [segment.name for segment in self.segments]
        shared = any(a.end_bytes > b.base_bytes for a, b in pairwise(self.segments))
        if shared or len(set(names)) < len(names):
            raise ArgumentError(describe("two segments share a name or a virtual address", given=self._text()))
        overlap = _overlap(self.segments)
        if overlap:
            raise ArgumentError(
                describe(
                    "two segments rest in the same bytes",
                    given="".join(f"\n    {segment}" for segment in overlap),
                    allowed="segments of one tier one after another, or both of them shared",
                    do="place one of them elsewhere, or say shared=True in both",
                )
            )

    def check(self, most: int, where: str) -> None:
        """Refuses more segments than an AGCU can hold (law L6); `most` is its fact `segments`."""
        if len(self.segments) > most:
            raise CapacityError(
                describe(
                    "an AGCU cannot hold so many segments",
                    given=f"{len(self.segments)} segments, {len(self.segments) - most} too many:{self._text()}",
                    allowed=f"{most} segments",
                    where=where,
                    do="place symbols of one tier side by side in one segment",
                )
            )

    def check_tiers(self, capacity_bytes: Mapping[str, int], where: str) -> None:
        """Refuses a segment that reaches past the end of its tier (law L6).

        Raises UnknownNameError for a segment of a tier whose capacity is not given.
        """
        for segment in self.segments:
            if segment.tier not in capacity_bytes:
                raise unknown("memory tier here", segment.tier, capacity_bytes, where=f"segment {segment.name!r}")
            end, there = segment.physical_end_bytes, capacity_bytes[segment.tier]
            if end > there:
                raise CapacityError(
                    describe(
                        f"a segment reaches past the end of {segment.tier}",
                        given=f"{segment}, which ends {end - there:,} bytes too far",
                        allowed=f"{there:,} bytes",
                        where=where,
                    )
                )

    def find(self, first_bytes: int, end_bytes: int, *, write: bool = False) -> Segment:
        """The segment that holds the addresses from `first_bytes` up to, and without, `end_bytes`.

        Raises ArgumentError, with the table, where no single segment holds them all, and for a write into a read-only
        one.
        """
        for segment in self.segments:
            if segment.base_bytes <= first_bytes and end_bytes <= segment.end_bytes:
                if write and segment.read_only:
                    raise ArgumentError(describe("a segment that is read only cannot be written", given=str(segment)))
                return segment
        raise ArgumentError(
            describe(
                "addresses outside every segment",
                given=f"[{first_bytes:#x}, {end_bytes:#x}), {end_bytes - first_bytes:,} bytes",
                allowed=f"within one of:{self._text()}",
                do="an address may neither lie in a gap nor run past the end of its segment",
            )
        )

    def _text(self) -> str:
        return "".join(f"\n    {segment}" for segment in self.segments) or " no segment"


def _overlap(segments: tuple[Segment, ...]) -> tuple[Segment, Segment] | None:
    """Two segments that rest in a common byte of a tier and are not both shared, if there are such."""
    reach: dict[tuple[str, bool], Segment] = {}
    for segment in sorted(segments, key=lambda s: s.physical_bytes):
        for shared in (False, True):
            before = reach.get((segment.tier, shared))
            if before and before.physical_end_bytes > segment.physical_bytes and not (shared and segment.shared):
                return before, segment
        mine = reach.get((segment.tier, segment.shared))
        if mine is None or mine.physical_end_bytes < segment.physical_end_bytes:
            reach[segment.tier, segment.shared] = segment
    return None


def translate(table: Table, address: int, length_bytes: int = 1, *, write: bool = False) -> tuple[str, int]:
    """(tier, physical address) of `length_bytes` bytes at a virtual address; refused as by `Table.find`.

    >>> table = Table((Segment("weights", 0x1000, 4096, "hbm", 0x40000),))
    >>> translate(table, 0x1010, 4080)
    ('hbm', 262160)
    """
    segment = table.find(address, address + length_bytes, write=write)
    return segment.tier, segment.physical_bytes + (address - segment.base_bytes)


def translate_walk(table: Table, walk: Walk, *, write: bool = False) -> tuple[str, Walk]:
    """The tier of a walk of virtual addresses, and the walk in physical ones; refused as by `Table.find`."""
    segment = table.find(walk.first_bytes, walk.end_bytes, write=write)
    return segment.tier, walk.moved(segment.physical_bytes - segment.base_bytes)
