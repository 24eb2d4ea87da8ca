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
from rdujax.units.agcu.coalesce import Nest
from rdujax.units.memory import TIERS


@dataclass(frozen=True)
class Segment:
    """`length_bytes` bytes of virtual memory from `base_bytes`, at rest in `tier` from `physical_bytes`.

    Raises UnknownNameError for a tier that does not exist, ArgumentError for an empty segment and a negative address.
    """

    name: str
    base_bytes: int
    length_bytes: int
    tier: str
    physical_bytes: int
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise unknown("memory tier", self.tier, TIERS, where=f"segment {self.name!r}")
        if self.length_bytes < 1 or self.base_bytes < 0 or self.physical_bytes < 0:
            raise ArgumentError(
                describe("a segment has one byte or more, and no negative address", given=str(self), where=self.name)
            )

    @property
    def end_bytes(self) -> int:
        """One past the last virtual address."""
        return self.base_bytes + self.length_bytes

    def __str__(self) -> str:
        rights = "read" if self.read_only else "read, write"
        return (
            f"[{self.base_bytes:#x}, {self.end_bytes:#x})  {self.name}, {self.length_bytes:,} bytes, "
            f"{self.tier} from {self.physical_bytes:#x}, {rights}"
        )


@dataclass(frozen=True)
class Table:
    """The segments that an AGCU can translate. Raises ArgumentError where two share a name or a virtual byte."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(sorted(self.segments, key=lambda s: s.base_bytes)))
        names = [segment.name for segment in self.segments]
        shared = any(a.end_bytes > b.base_bytes for a, b in pairwise(self.segments))
        if shared or len(set(names)) < len(names):
            raise ArgumentError(describe("two segments share a name or a virtual address", given=self._text()))

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
        """Refuses a segment that reaches past the end of its tier (law L6)."""
        for segment in self.segments:
            end, there = segment.physical_bytes + segment.length_bytes, capacity_bytes[segment.tier]
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


def translate(table: Table, address: int, length_bytes: int = 1, *, write: bool = False) -> tuple[str, int]:
    """(tier, physical address) of `length_bytes` bytes at a virtual address; refused as by `Table.find`.

    >>> table = Table((Segment("weights", 0x1000, 4096, "hbm", 0x40000),))
    >>> translate(table, 0x1010, 4080)
    ('hbm', 262160)
    """
    segment = table.find(address, address + length_bytes, write=write)
    return segment.tier, segment.physical_bytes + (address - segment.base_bytes)


def translate_nest(table: Table, nest: Nest, *, write: bool = False) -> tuple[str, Nest]:
    """The tier of a nest of virtual addresses, and the nest in physical ones; refused as by `Table.find`."""
    segment = table.find(nest.first_bytes, nest.end_bytes, write=write)
    return segment.tier, nest.moved(segment.physical_bytes - segment.base_bytes)
