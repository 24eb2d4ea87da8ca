"""The main job, at small sizes: its table is computed, its bits agree, and bad options are refused."""

import json

import pytest

from rdujax.cli import demo

SMALL = "--rows 48 --columns 40 --inner 24 --tokens 8 --width 16 --hidden 24".split()


def rows(capsys, *options):
    assert demo.main(["--json", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_partitions_have_the_same_bits_and_the_report_says_so(capsys):
    assert demo.main(SMALL) == 0
    printed = capsys.readouterr().out
    for part in (
        "kernels launched",
        "FLOP/byte",
        "bits against unfused",
        "k_splits gemm=4",
        "stage_buffer_format=fp32",
    ):
        assert part in printed
    for line in printed.splitlines():
        if line.strip().startswith(("partly fused", "fully fused")) and "x" not in line:
            assert line.split()[2] == "0"


def test_at_the_papers_size_traffic_is_what_the_shapes_say(capsys):
    by_name = {r["partition"]: r for r in rows(capsys) if "Figure 3" in r["job"]}
    small, square, flops = 128 * 1024 * 2, 1024 * 1024 * 2, 2 * 2 * 128 * 1024**2 + 1024**2
    expected = {
        "unfused": (2 * small + square) + 3 * square + 2 * square + (square + 2 * small),
        "partly fused": (2 * small + 2 * square) + (square + 2 * small),
        "fully fused": 4 * small + square,
    }
    for name, moved in expected.items():
        row = by_name[name]
        assert row["read_bytes"]["hbm"] + row["written_bytes"]["hbm"] == moved
        assert row["flops"] == flops
        assert row["flop_per_byte"] == pytest.approx(flops / moved)
    assert [by_name[n]["kernels"] for n in expected] == [4, 2, 1]
    assert round(by_name["unfused"]["flop_per_byte_without_side_input"], 1) == 39.5
    assert round(by_name["partly fused"]["flop_per_byte_without_side_input"], 1) == 102.6
    assert by_name["fully fused"]["published_flop_per_byte"] == 410.4


def test_nine_pcus_are_shared_as_the_paper_draws_them():
    job = demo.pipeline_job(*demo.PUBLISHED_SHAPES)
    assert "finds 4, 1 and 4" in demo.drawing_note(job, demo.machine_named("sn40l"))


def test_other_sizes_have_no_published_row(capsys):
    assert all(r["published_flop_per_byte"] is None for r in rows(capsys, *SMALL))


def test_fusion_never_moves_more_and_never_launches_more(capsys):
    for job in {r["job"] for r in rows(capsys, *SMALL)}:
        mine = [r for r in rows(capsys, *SMALL) if r["job"] == job]
        moved = [r["read_bytes"]["hbm"] + r["written_bytes"]["hbm"] for r in mine]
        assert moved == sorted(moved, reverse=True)
        assert [r["kernels"] for r in mine] == sorted((r["kernels"] for r in mine), reverse=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--machine", "sn40"], "did you mean 'sn40l'?"),
        (["--orchestration", "hardwar"], "did you mean 'hardware'?"),
        (["--rows", "0"], "an empty array"),
        (["--rows", "-4"], "an empty array"),
        (["--machine", "tiny"], "the symbols of the program do not fit into hbm"),
    ],
)
def test_bad_options_are_refused_in_words(capsys, options, message):
    assert demo.main(options) == 2
    assert message in capsys.readouterr().err
