"""Recorded traffic in the published formats, and files that are something else."""

from pathlib import Path

import pytest

from rdujax.base.errors import ArgumentError, FormatError
from rdujax.coe.traces import read_trace
from rdujax.coe.traffic import cyclic

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def read(path: Path, text: str, **options):
    file = path / "trace.csv"
    file.write_text(text)
    return list(read_trace(file, cyclic(["a", "b"]), **options))


def test_azure_dates_to_the_last_digit(tmp_path: Path):
    rows = "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n2023-11-17 00:00:00,5,6\n"
    found = read(tmp_path, AZURE + rows)
    assert [each.arrival_ps for each in found] == [0, 52_000_000_000, 20_576_020_040_000_000]
    assert [(each.number, each.experts, each.tokens_in, each.tokens_out) for each in found] == [
        (0, ("a",), 4808, 10), (1, ("b",), 3180, 8), (2, ("a",), 5, 6)
    ]  # fmt: skip
    zoned = read(tmp_path, AZURE + "2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10 00:00:00.020000+00:00,1,2\n")
    assert zoned[1].arrival_ps == 10_070_000_000


def test_burstgpt_seconds_and_more_columns(tmp_path: Path):
    rows = "5,ChatGPT,472,18,490,Conversation log\n45.5,GPT-4,1087,230,1317,API log\n"
    found = read(tmp_path, BURST + rows)
    assert [(each.arrival_ps, each.tokens_in, each.tokens_out) for each in found] == [
        (0, 472, 18), (40_500_000_000_000, 1087, 230)
    ]  # fmt: skip
    fast = read(tmp_path, BURST + rows, speed=10)
    assert [each.arrival_ps for each in fast] == [0, 4_050_000_000_000]


def test_failures_of_a_recording_are_passed_over_only_where_asked(tmp_path: Path):
    rows = "5,ChatGPT,472,18,490,log\n6,ChatGPT,3,0,3,log\n7,ChatGPT,4,2,6,log\n"
    with pytest.raises(FormatError, match=r"without tokens[\s\S]*line 3[\s\S]*skip_empty"):
        read(tmp_path, BURST + rows)
    found = read(tmp_path, BURST + rows, skip_empty=True)
    assert [(each.number, each.tokens_in) for each in found] == [(0, 472), (1, 4)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no known trace"),
        ("a,b\n1,2\n", r"no known trace[\s\S]*a, b"),
        (AZURE + "yesterday,1,2\n", r"cannot be read[\s\S]*line 2"),
        (AZURE + "2023-11-16 18:17:03.97x,1,2\n", "cannot be read"),
        (AZURE + "2023-11-16 18:17:03,1\n", "cannot be read"),
        (AZURE + "2023-11-16 18:17:03,one,2\n", "cannot be read"),
        (AZURE + "2023-11-16 18:17:03,-1,2\n", "fewer than no tokens"),
        (AZURE + "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:02,1,2\n", r"before the one before[\s\S]*line 3"),
        (BURST + "NaN,m,1,1,2,l\n", "cannot be read"),
        (BURST + "1e999999,m,1,1,2,l\n", "cannot be read"),
        (BURST + '1,"m,1,1,2,l\n', "no CSV"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path: Path, text: str, words: str):
    with pytest.raises(FormatError, match=words):
        read(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "trace.csv").write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(FormatError, match="no CSV"):
        list(read_trace(tmp_path / "trace.csv", cyclic(["a"])))
    with pytest.raises(ArgumentError, match="played"):
        list(read_trace(tmp_path / "trace.csv", cyclic(["a"]), speed=0))
