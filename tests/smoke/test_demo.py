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
        "of peak FLOP/s",
        "where the cycles go",
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


def test_sizes_of_a_row_have_one_unit():
    def shown(*sizes):
        rows = [{"n": n} for n in sizes]
        return [demo._sizes(rows, lambda row: row["n"])(row) for row in rows]

    assert shown(43 * 1024, 80 * 1024, 2 * 1024**2) == ["43.00 KiB", "80.00 KiB", "2,048.00 KiB"]
    assert shown(80 * 1024, 1024**2, 0) == ["0.08 MiB", "1.00 MiB", "0.00 MiB"]
    assert shown(0, 0) == ["0.00 KiB", "0.00 KiB"]


def test_sizes_are_printed_in_one_unit_a_row():
    machine, job = demo.machine_named("sn40l"), demo.pipeline_job(128, 100, 40)
    priced = demo.rows_of(job, demo.compiled(job, machine, "hardware"), machine)
    sizes = [row["sram_bytes"] for row in priced]
    assert min(sizes) < demo.MIB // 16 <= max(sizes)  # a row in which each size by itself has another unit
    [held] = [line for line in demo.cost_table(priced).splitlines() if line.strip().startswith("SRAM held")]
    assert held.split()[4:] == [text for size in sizes for text in (f"{size / 1024:,.2f}", "KiB")]


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


def test_who_launches_changes_launches_alone(capsys):
    by_hardware, looped = (rows(capsys, "--orchestration", name, *SMALL) for name in ("hardware", "looped"))
    assert all(row["launches"] == row["kernels"] for row in by_hardware)
    launching = {"launches", "launch_s", "total_s", "speedup_total"}
    for row, other in zip(by_hardware, looped, strict=True):
        assert other["launches"] <= row["launches"] and other["launch_s"] <= row["launch_s"]
        assert all(other[name] == row[name] for name in row if name not in launching)


def test_the_trace_and_the_floorplan_are_those_of_the_fused_pipeline(capsys, tmp_path):
    trace, plan = tmp_path / "trace.json", tmp_path / "plan.svg"
    cycles = {r["partition"]: r["cycles"] for r in rows(capsys, *SMALL) if "Figure 3" in r["job"]}["fully fused"]
    assert demo.main(["--json", *SMALL, "--timeline", str(trace), "--floorplan", str(plan)]) == 0
    printed = capsys.readouterr()
    assert all(json.loads(line) for line in printed.out.splitlines())
    assert f"wrote {trace}: open it in ui.perfetto.dev" in printed.err and f"wrote {plan}" in printed.err
    runs = [e for e in json.loads(trace.read_text())["traceEvents"] if e["name"].startswith("run of kernel")]
    assert [e["dur"] for e in runs] == [cycles]
    assert f"{cycles:,} cycles" in plan.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--machine", "sn40"], "did you mean 'sn40l'?"),
        (["--orchestration", "hardwar"], "did you mean 'hardware'?"),
        (["--timeline", "trace.txt"], "no trace format has this suffix"),
        (["--timeline", ""], "no path to write a file to"),
        (["--floorplan", ""], "no path to write a file to"),
        (["--floorplan", "/nowhere/at/all.svg"], "no folder to write the file into"),
        (["--machine", "tiny"], "the symbols of the program do not fit into hbm"),
    ],
)
def test_bad_options_are_refused_in_words(capsys, options, message):
    assert demo.main(options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "--rows: '0' given, a whole number of 1 or more"),
        (["--width", "-4"], "--width: '-4' given, a whole number of 1 or more"),
        (["--inner", "2.5"], "--inner: '2.5' given"),
        (["--seed", "-1"], "--seed: '-1' given, a whole number of 0 or more"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_printed(capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        demo.main(options)
    printed = capsys.readouterr()
    assert message in printed.err and printed.out == ""


def test_the_smallest_sizes_are_compared_too(capsys):
    ones = ["--rows", "1", "--columns", "1", "--inner", "1", "--tokens", "1", "--width", "1", "--hidden", "1"]
    assert demo.main(ones) == 0
    assert "Choices that change bits" in capsys.readouterr().out
    by_lengths = [demo.mlp_job(1, width, hidden) for width, hidden in ((7, 8), (5, 9))]
    programs = [demo.compiled(job, demo.machine_named("sn40l"), "hardware") for job in by_lengths]
    assert [demo.segments(each["fully fused"]) for each in programs] == [4, 3]
