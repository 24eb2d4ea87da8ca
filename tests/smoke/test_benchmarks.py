"""Benchmarks: asked in one way, rows of one shape; tables line up, JSON has the promised names, pictures are true."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from benchmarks import compile as compiling
from benchmarks import (
    execution,
    experts,
    fig2,
    fig6,
    fig7,
    fig8,
    fusion,
    generation,
    load,
    memory,
    monarch,
    placement,
    sensitivity,
    serving,
    speed,
    sweep,
    table2,
    tiling,
    training,
)
from benchmarks import time as timing
from benchmarks._bars import ROOM, bars
from benchmarks._rows import Column, Row, as_json, as_text, goals, heading, milliseconds, names
from benchmarks._run import parser, show
from benchmarks.units import __main__ as units
from benchmarks.units.row import row
from rdujax.compiler.drawing import Rectangle

ALL = {
    "compile": compiling, "execution": execution, "experts": experts, "fig2": fig2, "fig6": fig6,
    "fig7": fig7, "fig8": fig8, "fusion": fusion, "table2": table2,
    "generation": generation, "load": load, "memory": memory, "monarch": monarch, "placement": placement,
    "sensitivity": sensitivity, "serving": serving, "speed": speed, "sweep": sweep, "tiling": tiling, "time": timing,
    "training": training, "units": units,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run(Row):
    plain_s: float | None = None


COLUMNS = (
    names("case", 8),
    Column("value", "value", 7, ".2f", group="both"),
    Column("twice", lambda row: 2 * row.value, 7, ".1f", group="both"),
    *goals(),
    milliseconds("plain"),
)
GOOD, BAD = Run(row="good", value=1.5, unit="x", goal=2.0), Run(row="bad", value=2.5, unit="x", goal=2.0, plain_s=0.25)
FREE = Run(row="free", value=9.0, unit="x", published=6.0, kind="test")


def shown(capsys, *options: str, rows: tuple[Row, ...]) -> tuple[int, list[str]]:
    status = show("fake", parser("fake", "Which?").parse_args(list(options)), COLUMNS, rows)
    return status, capsys.readouterr().out.splitlines()


def test_all_of_them_are_here():
    folder = Path(compiling.__file__).parent
    files, folders = folder.glob("[!_]*.py"), folder.glob("[!_]*/__main__.py")
    assert set(ALL) == {path.stem for path in files} | {path.parent.name for path in folders}


@pytest.mark.parametrize("name", ALL)
def test_each_tells_its_question_and_takes_the_common_options(name, capsys):
    with pytest.raises(SystemExit) as done:
        ALL[name].main(["--help"])
    printed = capsys.readouterr().out
    assert done.value.code == 0 and f"./scripts/bench {name}" in printed and "--json" in printed and "--plot" in printed
    assert ALL[name].__doc__.partition("\n")[0] in printed


def test_a_table_lines_up(capsys):
    status, lines = shown(capsys, rows=(GOOD, BAD, FREE))
    assert status == 1
    assert lines == [
        "              both                   milliseconds",
        "case       value   twice goal              plain",
        "good        1.50     3.0    2 met",
        "bad         2.50     5.0    2 MISSED     250.000",
        "free        9.00    18.0",
    ]
    assert heading(COLUMNS[3:5]) == "goal"  # groups have no line of their own where there are none


def test_json_has_the_promised_names(capsys):
    status, lines = shown(capsys, "--json", rows=(GOOD, FREE))
    assert status == 0
    assert [json.loads(line) for line in lines] == [
        {"benchmark": "fake", "row": "good", "value": 1.5, "unit": "x", "published": None, "ratio": None,
         "kind": "measured", "goal": 2.0, "plain_s": None, "met": True},
        {"benchmark": "fake", "row": "free", "value": 9.0, "unit": "x", "published": 6.0, "ratio": 1.5,
         "kind": "test", "goal": None, "plain_s": None, "met": None},
    ]  # fmt: skip


def test_a_goal_is_met_when_it_is_reached():
    assert Row(row="", value=2.0, unit="s", goal=2.0).met is True
    assert Row(row="", value=2.0000001, unit="s", goal=2.0).met is False


def test_rows_are_printed_as_they_come(capsys):
    def rows() -> Iterator[Row]:
        yield GOOD
        assert "good" in capsys.readouterr().out
        yield FREE

    assert shown(capsys, rows=rows()) == (0, [as_text(COLUMNS, FREE)])  # pyright: ignore[reportArgumentType]


def test_a_number_that_json_does_not_have_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        as_json("fake", Row(row="none", value=float("nan"), unit="x"))


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_is_drawn(suffix, tmp_path, capsys):
    file = tmp_path / f"rows{suffix}"
    shown(capsys, "--plot", str(file), rows=(GOOD, BAD, FREE))
    assert file.read_bytes().startswith(b"<svg" if suffix == ".svg" else b"\x89PNG")


def test_bars_are_as_long_as_the_values_say(tmp_path, capsys):
    file = tmp_path / "rows.svg"
    shown(capsys, "--plot", str(file), rows=(GOOD, BAD, FREE, Run(row="time", value=3.0, unit="s")))
    drawing = ET.parse(file).getroot()
    bars = {
        title.text.partition(":")[0]: float(rectangle.get("width"))
        for rectangle in drawing.findall(".//{*}rect")
        if (title := rectangle.find("{*}title")) is not None
    }
    whole = bars["free"]
    assert bars == pytest.approx({"good": whole / 6, "bad": whole / 3.6, "free": whole, "time": whole}, rel=1e-3)


@pytest.mark.parametrize("given", ["rows.gif", "rows", "nowhere/rows.svg"])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        parser("fake", "Which?").parse_args(["--plot", given])
    assert done.value.code == 2 and "--plot" in capsys.readouterr().err


def test_a_unit_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit) as done:
        units.main(["tlm"])
    assert done.value.code == 2 and "did you mean 'tln'?" in capsys.readouterr().err


def test_a_mismatch_misses_the_goal():
    assert timing.Timed(row="", value=200.0, unit="x", goal=100.0, compared=9, mismatches=0).met is True
    assert timing.Timed(row="", value=99.0, unit="x", goal=100.0, compared=9, mismatches=0).met is False
    assert timing.Timed(row="", value=200.0, unit="x", compared=9, mismatches=1).met is False
    assert timing.Timed(row="", value=9.0, unit="s", goal=10.0, compared=9, mismatches=0).met is True
    assert timing.Timed(row="", value=9.0, unit="", compared=9, mismatches=0).met is None
    assert row("tln", "tiles", 9, "tiles", 1, 1.0).met is False


def test_the_units_check_themselves(capsys):
    assert units.main(["tln", "--quick", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["value"] for each in found] == [0, 0] and all(each["compared"] > 99 for each in found)


def test_the_monarch_study_counts_what_its_tensors_take(capsys):
    """The example by hand: four small tensors of 1/4 MiB, and square ones of 2 MiB where a kernel ends."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as a reader's JAX is set
        assert monarch.main(["--json"]) == 0
    rows = {line["row"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    small, square, flops = 128 * 1024 * 2, 1024 * 1024 * 2, 2 * 2 * 1024 * 128 * 1024 + 1024 * 1024
    counted = {"none": 4 * small + 6 * square, "partly": 4 * small + 2 * square, "streaming": 4 * small}
    for name, counted_bytes in counted.items():
        found = rows[f"example, {name}"]
        assert (found["counted_bytes"], found["moved_bytes"]) == (counted_bytes, counted_bytes + square)
        assert found["value"] == flops / counted_bytes and found["flops"] == flops
    unfused, fused = (rows[f"FlashFFTConv 1M, {fusion}"] for fusion in ("none", "streaming"))
    assert rows["FlashFFTConv 1M gains, HO"]["value"] == unfused["hardware_us"] / fused["hardware_us"] > 1
    # Four stages of 32-point transforms there and four back, each four real products of 2 x 32 FLOP for every point but
    # the last, of which only the real part is wanted; twiddles, the spectrum and sums are some percent.
    products = (8 * 4 - 2) * 2 * 32 * 32**4
    assert products < fused["flops"] == unfused["flops"] < 1.05 * products


def test_slopes_of_the_sensitivity_lie_between_the_differences():
    """A product whose weights stream by; all of one confidence is what each of it does."""
    x, w = (jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((8, 8192), (8192, 8192)))
    program = rdu.compile(lambda x, w: x @ w, x, w)
    rows = list(sensitivity.rows(program, 2.0))
    facts = {each.row: each for each in rows if each.unit == "1"}
    sizes = [abs(each.value) for each in facts.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert {"hbm.bandwidth_bytes_per_s", "clock_hz", "launch.program_load_s"} <= set(facts)
    for path, each in facts.items():
        assert each.source == program.machine.facts()[path].source
        if each.less is not None and each.more is not None:
            near = 0.02 * abs(each.value) + 1e-3
            assert min(each.less, each.more) - near <= each.value <= max(each.less, each.more) + near, path
    for confidence in ("stated", "assumed"):
        (whole,) = (each for each in rows if each.row == f"all {confidence}, off by 2")
        total = sum(abs(each.value) for each in facts.values() if each.confidence == confidence)
        assert whole.unit == "x" and whole.value == pytest.approx(2**total, rel=1e-3)


def test_what_assumptions_explain_of_a_printed_range():
    """By hand for the launches, which are all that differs between host and hardware here."""
    assert sensitivity.covered((2.0, 8.0), (1.0, 16.0)) == pytest.approx(0.5)
    assert sensitivity.covered((20.0, 30.0), (1.0, 16.0)) == 0.0 and sensitivity.covered((0.5, 99.0), (1.0, 16.0)) == 1
    assert sensitivity.covered((12.0, 14.0), (13.0, 13.0)) == 1.0 and sensitivity.covered((1.0, 2.0), (13.0, 13.0)) == 0
    x, w = (jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((8, 8192), (8192, 8192)))
    programs = fig6.programs_of(rdu.compile(lambda x, w: jnp.tanh(x @ w), x, w))
    over_unfused, over_software = sensitivity.gains(programs, "decode", 1.5)
    seconds = {name: float(program.cost().total_s) for name, program in programs.items()}
    assert over_unfused.value == pytest.approx(seconds["unfused"] / seconds["fused_ho"])
    assert over_software.value == pytest.approx(seconds["fused_so"] / seconds["fused_ho"])
    for each in (over_unfused, over_software):
        assert each.low < each.value < each.high and each.low * each.high == pytest.approx(each.value**2)
    same = list(sensitivity.gains(programs, "decode", 1.0))
    assert [each.low for each in same] == [each.value for each in same] == [each.high for each in same]


def test_a_sweep_says_what_it_is_compared_with():
    """Both kinds of facts; no goal of seconds on another number of machines than the question's."""
    x, w = (jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((8, 512), (512, 512)))
    program = rdu.compile(lambda x, w: x @ w, x, w)
    kept, planned = sweep.rows(program, 64, None)
    assert (kept.plans, planned.plans) == (1, sweep.PCU_COUNTS)
    for each in (kept, planned):
        assert each.machines == 64 and each.met is None and each.unit == "s"
        assert each.value > 0 and each.again_s > 0 and each.faster == each.one_by_one_s / each.value
        assert each.gap < 1e-12


def test_bars_of_negative_numbers_lie_left_of_zero():
    rows = [Run(row="up", value=1.0, unit="1"), Run(row="down", value=-3.0, unit="1")]
    boxes = [shape for shape in bars(rows).shapes if isinstance(shape, Rectangle) and shape.title]
    up, down = boxes
    assert down.x + down.width == pytest.approx(up.x) and down.width == pytest.approx(3 * up.width)
    assert up.width + down.width == pytest.approx(ROOM)


@pytest.mark.parametrize(
    ("benchmark", "options", "said"),
    [
        (monarch, ["--channels", "0"], "--channels"),
        (sensitivity, ["--spread", "0.5"], "--spread: '0.5' is no factor of 1 or more"),
        (sensitivity, ["--spread", "nan"], "--spread: 'nan' is no factor of 1 or more"),
        (sweep, ["--machines", "0"], "--machines: '0' is no number of machines"),
        (sweep, ["--machines", "1e5"], "--machines: '1e5' is no number of machines"),
        (sensitivity, ["Llama3"], "invalid choice: 'Llama3'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_compiled(benchmark, options, said, capsys):
    with pytest.raises(SystemExit) as done:
        benchmark.main(options)
    assert done.value.code == 2 and said in capsys.readouterr().err
