"""Reports: every cycle has one owner, shares are shares, and the text says what the data say."""

import json
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.base.words import counted
from rdujax.compiler.report import worked_cycles
from rdujax.compiler.texts import ROWS, percent
from rdujax.estimate.pipeline import phases_of
from rdujax.ledger.timetable import schedule
from tests.rooms.compiler.samples import samples, small


def compiled(sample, fusion="streaming", machine=None, **choices):
    return rdu.compile(sample.fn, *sample.args, machine=machine or small(), fusion=fusion, **choices)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0.0%"), (1e-9, "<0.1%"), (0.00049, "<0.1%"), (0.00051, "0.1%"), (0.5, "50.0%"), (1, "100.0%")],
)
def test_a_little_is_not_nothing(share, said):
    assert percent(share) == said


@pytest.mark.parametrize("clock_hz", [1_000_000, 1_234_567])
@pytest.mark.parametrize("orchestration", ["hardware", "software"])
@pytest.mark.parametrize("fusion", ["none", "streaming"])
@pytest.mark.parametrize("sample", samples(), ids=str)
def test_every_cycle_has_one_owner(sample, fusion, orchestration, clock_hz):
    program = compiled(sample, fusion, small().replace({"clock_hz": clock_hz}), orchestration=orchestration)
    cost, data = program.cost(), program.report().data
    total = (cost.run_s + cost.launch_s) * clock_hz
    assert sum(row["cycles"] for row in data["attribution"]) == total == data["total"]["cycles_with_launches"]
    assert sum(row["share"] for row in data["attribution"]) == pytest.approx(1)
    by_kind = {
        kind: sum(r["cycles"] for r in data["attribution"] if r["kind"] == kind) for kind in ("launch", "tier", "stage")
    }
    assert by_kind["launch"] == cost.launch_s * clock_hz
    assert by_kind["tier"] + by_kind["stage"] == cost.cycles
    loads = {s.label for k in program.plan.kernels for s in k.streams}
    assert by_kind["tier"] == sum(n for k in cost.kernels for label, n in k.critical.items() if label in loads)


def test_a_tier_and_a_stage_are_told_apart_where_each_limits():
    struct = jax.ShapeDtypeStruct((2**16, 64), jnp.bfloat16)
    program = rdu.compile(lambda x: -x, struct, machine="sn40l")
    rows = {row["name"]: row for row in program.report().data["attribution"]}
    assert rows["hbm"]["kind"] == "tier" and rows["hbm"]["share"] > 0.5
    starved = program.machine.replace({"pcu.count": 1})
    rows = {row["name"]: row for row in program.replace(machine=starved).report().data["attribution"]}
    assert rows["neg"]["kind"] == "stage" and rows["neg"]["share"] > 0.5


@pytest.mark.parametrize("sample", samples(), ids=str)
def test_busy_shares_are_those_of_the_schedule(sample):
    program = compiled(sample)
    for kernel, row in zip(program.plan.kernels, program.report().data["kernels"], strict=True):
        phases = phases_of(program.graph, kernel, program.machine)
        schedules = [schedule(phase.pipeline, phase.turns) for phase in phases]
        of_label = {label: times for times in schedules for label in times.start}
        for stage in row["stages"]:
            times = of_label[stage["label"]]
            busy = times.busy_cycles(stage["label"])
            assert worked_cycles(phases)[stage["label"]] == busy
            assert stage["busy"] == busy / sum(each.makespan_cycles for each in schedules) <= 1
            assert busy == stage["first_cycles"] + (row["turns"] * stage["slices"] - 1) * stage["cycles"]
            assert stage["first_cycles"] == times.finish[stage["label"]][0] - times.start[stage["label"]][0]


def test_a_share_of_the_peak_is_work_over_cells_and_cycles():
    program = compiled(samples()[0])
    cells = program.machine.pcu.systolic_rows.value * program.machine.pcu.systolic_columns.value
    seen = 0
    for kernel, row in zip(program.plan.kernels, program.report().data["kernels"], strict=True):
        macs = {
            s.label: s.op.config.extent(*(r.shape(program.graph) for r in s.reads)).macs
            for s in kernel.kernel.stages
            if hasattr(s.op, "config")
        }
        for stage in row["stages"]:
            if stage["label"] in macs:
                seen += 1
                assert stage["peak_share"] == macs[stage["label"]] / (stage["pcus"] * cells * row["cycles"])
                assert 0 < stage["peak_share"] <= stage["busy"]
            else:
                assert stage["peak_share"] is None
        assert row["peak_share"] == pytest.approx(row["flops"] / (row["run_us"] / 1e6 * program.machine.peak_flops()))
    assert seen == 2


def test_the_text_has_units_utilisation_and_owners():
    program = compiled(samples()[0], "none")
    text, data = str(program.report()), program.report().data
    for kernel in data["kernels"]:
        for stage in kernel["stages"]:
            units = counted(stage["pcus"], "PCU") if stage["pcus"] else counted(stage["agcus"], "AGCU")
            [line] = [
                x
                for x in text.splitlines()
                if x.split("  ")[2:3] == [stage["label"]] and units in x and percent(stage["busy"]) in x
            ][:1]
            cells = line.split(units)[1].split()
            assert cells[:4] == [
                f"{stage['first_cycles']:,}", f"{stage['cycles']:,}", percent(stage["busy"]),
                f"{stage['critical_cycles']:,}",
            ]  # fmt: skip
        assert f"most critical: {kernel['critical']}" in text
        cycles = {stage["label"]: stage["critical_cycles"] for stage in kernel["stages"]}
        assert cycles[kernel["critical"]] == max(cycles.values())
    for row in data["attribution"]:
        assert any(
            row["name"] in line and f"{row['cycles']:,}" in line and percent(row["share"]) in line
            for line in text.splitlines()
        )
    assert text.splitlines()[-1].split() == ["all", f"{data['total']['cycles_with_launches']:,}", "100.0%"]


def test_a_long_attribution_is_cut_and_still_sums():
    def chain(x):
        for _ in range(10):
            x = jnp.tanh(x @ x)
        return x

    program = rdu.compile(chain, jax.ShapeDtypeStruct((64, 64), jnp.bfloat16), machine="sn40l", fusion="none")
    data, text = program.report().data, str(program.report())
    assert len(data["attribution"]) > ROWS
    shown = text[text.index("where the cycles go") :].splitlines()[1:]
    assert len(shown) == ROWS + 2 and f"{len(data['attribution']) - ROWS} more" in shown[-2]
    numbers = [
        int(next(w for w in line.split()[::-1][1:] if w.replace(",", "").isdigit()).replace(",", "")) for line in shown
    ]
    assert sum(numbers[:-1]) == numbers[-1]


def test_cycles_of_launches_may_be_fractions():
    report = compiled(samples()[0], machine=small().replace({"clock_hz": 1_234_567})).report()
    cycles = report.data["total"]["cycles_with_launches"]
    assert isinstance(cycles, Fraction) and f"{float(cycles):,.3f}" in str(report)


def test_things_are_counted_in_words():
    assert [counted(n, "PCU") for n in (0, 1, 1040)] == ["0 PCUs", "1 PCU", "1,040 PCUs"]


def test_a_report_is_written_as_text_as_data_and_as_a_picture(tmp_path):
    program = compiled(samples()[0], "none")
    report, last = program.report(), len(program.plan.kernels) - 1
    assert report.save(tmp_path / "all.txt").read_text() == f"{report}\n"
    data = json.loads(report.save(str(tmp_path / "all.JSON")).read_text())
    assert data["total"]["cycles_with_launches"] == float(report.data["total"]["cycles_with_launches"])
    assert [k["name"] for k in data["kernels"]] == [k["name"] for k in report.data["kernels"]]
    for kernel in (0, last):
        drawn, direct = report.save(tmp_path / "a.svg", kernel), program.floorplan(kernel).save(tmp_path / "b.svg")
        assert drawn.read_bytes() == direct.read_bytes()
    with pytest.raises(rdu.ArgumentError, match=r"a report has this suffix(.|\n)*\.txt, \.json, \.svg, \.png"):
        report.save(tmp_path / "all.pdf")
    with pytest.raises(rdu.ArgumentError, match="no such kernel"):
        report.save(tmp_path / "a.svg", last + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "all.JSON", "all.txt", "b.svg"]


def two_lines(x: jax.Array, w: jax.Array) -> jax.Array:
    """A product, and a chain of maps that is written in two lines."""
    y = x @ w
    z = jnp.tanh(y)
    return z + z * x


def line_of(text: str) -> int:
    """The number of the line of this file that ends in a text."""
    [number] = [i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(text)]
    return number


def test_stages_name_the_lines_that_they_stem_from():
    first = line_of("y = x" + " @ w")
    square = jax.ShapeDtypeStruct((32, 32), jnp.bfloat16)
    report = rdu.compile(two_lines, square, square, machine=small(), fusion=rdu.cut_after()).report()
    [kernel] = report.data["kernels"]
    source = {stage["label"]: stage["source"] for stage in kernel["stages"]}
    assert source["load x"] == [] and len(source["gemm"]) == len(source["store add"]) == 1
    assert f"{Path(__file__)}:{first}:" in source["gemm"][0] and "(two_lines)" in source["gemm"][0]
    [chained] = [each for label, each in source.items() if "+" in label]
    assert len(chained) >= 2 and all(f":{first + i}:" in chained[i - 1] for i in (1, 2))
    text = str(report)
    assert f"test_report.py:{first}  " in text and f"test_report.py:{first + 1}, {first + 2}  " in text
    assert str(Path(__file__).parent) not in text
