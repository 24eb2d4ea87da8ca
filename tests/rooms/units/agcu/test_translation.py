"""Segments: every byte of a small memory is looked up, on both sides of every edge."""

import pytest

from rdujax.base.errors import ArgumentError, CapacityError, UnknownNameError
from rdujax.machines import tiny
from rdujax.units.agcu.coalesce import Walk
from rdujax.units.agcu.translation import Segment, Table, translate, translate_walk

WEIGHTS = Segment("weights", 16, 32, "hbm", 100, read_only=True)
CACHE = Segment("cache", 48, 8, "ddr", 0)
HOST = Segment("host", 60, 4, "host", 7)
TABLE = Table((HOST, WEIGHTS, CACHE))


def test_every_address_is_where_a_table_of_bytes_says():
    home = {}
    for segment in (WEIGHTS, CACHE, HOST):
        for i in range(segment.length_bytes):
            home[segment.base_bytes + i] = (segment.tier, segment.physical_bytes + i)
    for address in range(80):
        if address in home:
            assert translate(TABLE, address) == home[address]
        else:
            with pytest.raises(ArgumentError, match="addresses outside every segment"):
                translate(TABLE, address)


def test_a_run_may_end_with_its_segment_and_not_one_byte_later():
    assert translate(TABLE, 16, 32) == ("hbm", 100) and translate(TABLE, 47, 1) == ("hbm", 131)
    for first, length in ((16, 33), (15, 2), (47, 2), (56, 1), (59, 2)):
        with pytest.raises(ArgumentError, match="outside every segment") as caught:
            translate(TABLE, first, length)
        message = str(caught.value)
        assert f"[{first:#x}, {first + length:#x}), {length} bytes" in message
        assert message.index("weights, 32 bytes, hbm from 0x64, read\n") < message.index("cache, 8 bytes, ddr from 0x0")
        assert "read, write" in message


def test_a_walk_is_translated_whole():
    walk = Walk(47, (3, 2), (-8, 2), 2)
    with pytest.raises(ArgumentError, match="outside every segment"):
        translate_walk(TABLE, walk)
    tier, moved = translate_walk(TABLE, Walk(44, (3, 2), (-8, 2), 2))
    assert (tier, moved) == ("hbm", Walk(128, (3, 2), (-8, 2), 2))
    assert (moved.first_bytes, moved.end_bytes) == (112, 132)


def test_what_is_read_only_is_not_written():
    with pytest.raises(ArgumentError, match="read only cannot be written\n  given:   .*weights, 32 bytes"):
        translate(TABLE, 16, write=True)
    with pytest.raises(ArgumentError, match="read only cannot be written"):
        translate_walk(TABLE, Walk(16, (), (), 4), write=True)
    assert translate(TABLE, 48, 8, write=True) == ("ddr", 0)


def test_as_many_segments_as_an_agcu_holds_and_not_one_more():
    most = tiny().agcu.segments.value
    many = [Segment(f"s{i}", 8 * i, 8, "hbm", 8 * i) for i in range(most + 1)]
    assert Table(tuple(many[:-1])).check(most, "kernel 3") is None
    with pytest.raises(CapacityError, match=f"{most + 1} segments, 1 too many:(.|\n)*s0, 8 bytes(.|\n)*kernel 3"):
        Table(tuple(many)).check(most, "kernel 3")


def test_a_segment_ends_within_its_tier():
    there = {tier: tiny().tier(tier).capacity_bytes.value for tier in ("hbm", "ddr", "host")}
    last = Segment("last", 0, 16, "hbm", there["hbm"] - 16)
    assert Table((last,)).check_tiers(there, "kernel 3") is None
    with pytest.raises(CapacityError, match="past the end of hbm(.|\n)*which ends 1 bytes too far(.|\n)*1,048,576 by"):
        Table((Segment("last", 0, 17, "hbm", there["hbm"] - 16),)).check_tiers(there, "kernel 3")


def test_tables_and_segments_that_cannot_be_are_refused():
    with pytest.raises(ArgumentError, match="two segments share a name or a virtual address"):
        Table((WEIGHTS, Segment("other", 47, 1, "ddr", 0)))
    with pytest.raises(ArgumentError, match="two segments share a name"):
        Table((CACHE, Segment("cache", 0, 1, "ddr", 0)))
    with pytest.raises(UnknownNameError, match="unknown memory tier(.|\n)*did you mean 'hbm'"):
        Segment("x", 0, 1, "hbn", 0)
    for bad in ((-1, 1, 0), (0, 0, 0), (0, 1, -1)):
        with pytest.raises(ArgumentError, match="one byte or more, and no negative address"):
            Segment("x", bad[0], bad[1], "hbm", bad[2])
    with pytest.raises(ArgumentError, match="allowed: within one of: no segment"):
        translate(Table(()), 0)


def test_two_segments_rest_in_the_same_bytes_only_if_both_say_so(rng):
    """Every pair of a few random segments, byte by byte."""
    refused = 0
    for _ in range(300):
        segments = tuple(
            Segment(
                f"s{i}",
                100 * i,
                int(rng.integers(1, 20)),
                str(rng.choice(["hbm", "ddr"])),
                int(rng.integers(0, 60)),
                shared=bool(rng.integers(2)),
            )
            for i in range(int(rng.integers(2, 6)))
        )
        places = [{(s.tier, s.physical_bytes + i) for i in range(s.length_bytes)} for s in segments]
        clash = any(
            places[i] & places[j] and not (segments[i].shared and segments[j].shared)
            for i in range(len(segments))
            for j in range(i)
        )
        refused += clash
        if clash:
            with pytest.raises(ArgumentError, match="two segments rest in the same bytes(.|\n)*shared=True in both"):
                Table(segments)
        else:
            Table(segments)
    assert 50 < refused < 250


def test_segments_may_touch_and_not_overlap_by_a_byte():
    first = Segment("a", 0, 16, "hbm", 8)
    Table((first, Segment("b", 16, 8, "hbm", 24), Segment("c", 32, 8, "ddr", 8), Segment("d", 48, 8, "hbm", 0)))
    with pytest.raises(ArgumentError, match=r"a, 16 bytes, hbm from 0x8, read, write\n.*b, 8 bytes, hbm from 0x17"):
        Table((first, Segment("b", 16, 8, "hbm", 23)))
    assert "read, shared" in str(Segment("a", 0, 16, "hbm", 8, read_only=True, shared=True))


def test_a_tier_without_a_capacity_is_refused():
    with pytest.raises(UnknownNameError, match="unknown memory tier here\n  given:   'hbm'(.|\n)*segment 'weights'"):
        TABLE.check_tiers({"ddr": 100, "host": 100}, "kernel 3")
