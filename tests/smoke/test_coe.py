"""The paper's comparison with DGX nodes, as benchmarks and the demo compute it; programs are priced once for all."""

import io
import json
from statistics import mean

import jax
import pytest

from benchmarks import fig2, fig7, fig8, load, serving, table2
from rdujax.cli import demo
from rdujax.machines.calibration import CALIBRATED


@pytest.fixture(autouse=True)
def _promotions_of_users():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def rows(benchmark, capsys, *options: str) -> dict[str, dict]:
    assert benchmark.main([*options, "--json"]) == 0
    return {each["row"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())}


def test_table2_is_within_its_goals_and_calibrated_rows_give_their_number_back(capsys):
    found = rows(table2, capsys, "--quick")
    assert len(found) == 14
    tests = [abs(each["ratio"] - 1) for each in found.values() if each["kind"] == "test"]
    assert len(tests) == 10 and max(tests) <= 0.10 and mean(tests) <= 0.05
    calibrated = {each.benchmark.partition(": ")[2]: each.value for each in CALIBRATED if "table2" in each.benchmark}
    assert {name for name, each in found.items() if each["kind"] == "calibrated"} == set(calibrated)
    for name, value in calibrated.items():
        assert found[name]["value"] == pytest.approx(value, rel=0.002)


def test_fig8_counts_the_published_nodes(capsys):
    found = rows(fig8, capsys)
    assert [found[f"{name}, 850 experts"]["value"] for name in ("SN40L", "DGX A100", "DGX H100")] == [1, 19, 19]
    assert found["SN40L holds"]["value"] == 979 and found["DGX A100 holds"]["value"] == 46


def test_fig7_jumps_where_experts_no_longer_fit_and_is_flat_elsewhere(capsys, tmp_path):
    found = rows(fig7, capsys, "--plot", str(tmp_path / "fig7.svg"))
    for batch in (1, 8):
        curve = {
            e["experts"]: e["value"]
            for e in found.values()
            if (e["node"], e["batch"]) == ("DGX A100", batch) and e["experts"]
        }
        first = found[f"DGX A100, BS {batch}: switches from"]["value"]
        before, after = ({v for n, v in curve.items() if (n < first) == side} for side in (True, False))
        assert len(before) == len(after) == 1 and max(after) > 3 * max(before) and max(curve) == 148
        for each in found.values():
            if each["experts"]:
                assert sum(each[part] for part in ("route_s", "switch_s", "run_s")) == pytest.approx(
                    each["value"] / 1e3
                )
    assert (tmp_path / "fig7.svg").read_text().count("out of memory") == 4


def test_fig2_shows_what_copying_ahead_hides(capsys):
    found = rows(fig2, capsys)
    for name in ("SN40L", "DGX A100", "DGX H100"):
        plain, ahead = (found[f"{name}, BS 8, 20 tokens{more}"] for more in ("", ", copied ahead"))
        assert plain["run_s"] == ahead["run_s"] and plain["route_s"] == ahead["route_s"]
        hidden = plain["switch_s"] - ahead["switch_s"]
        assert hidden == pytest.approx(7 * min(plain["switch_s"], plain["run_s"]) / 8, rel=1e-6)


def test_policies_rank_as_they_should_and_memory_does_not_grow(capsys):
    found = rows(serving, capsys, "--requests", "2000", "--many", "20000")
    for name, each in list(found.items())[:6]:
        hits = each["hits"]
        assert hits["lru"] <= hits["look-ahead"] <= hits["belady"] == each["value"] and hits["lfu"] <= hits["belady"], (
            name
        )
    assert found["Zipf 1.0"]["hits"]["lfu"] > found["Zipf 1.0"]["hits"]["lru"] + 0.03
    assert found["memory of twice as many more"]["met"]


def test_what_batches_and_copies_ahead_gain_under_load(capsys):
    found = rows(load, capsys, "--requests", "300")
    for name in ("SN40L", "DGX H100"):
        plain, ahead = (found[f"{name} at 130%, {way}"] for way in ("one by one", "copied ahead"))
        assert ahead["latency_p99_s"] < plain["latency_p99_s"] / 2 and ahead["value"] > plain["value"]
        assert found[f"{name} at 50%, one by one"]["attainment"] > 0.95


def test_the_demo_answers_and_prices_each_prompt_and_a_second_one_finds_its_expert_in_hbm(capsys):
    assert demo.main(["coe", "--json", *["What is 17 times 23?"] * 2, "How do I bake a cake for six people?"]) == 0
    first, second, other = map(json.loads, capsys.readouterr().out.splitlines())
    for answered in (first, second):
        assert answered["expert"] == "math" and answered["answer"] == "391"
        assert [node["node"] for node in answered["nodes"]] == ["SN40L", "DGX A100", "DGX H100"]
        for node in answered["nodes"]:
            parts = sum(node[f"{part}_ms"] for part in ("route", "switch", "prefill", "decode"))
            assert node["latency_ms"] == pytest.approx(parts) and node["in_hbm"] == (answered is second)
            spread = (node["latency_ms"] - node["first_token_ms"]) / (node["tokens_out"] - 1)
            assert node["per_token_ms"] == pytest.approx(spread)
    assert other["expert"] == "other" and [each["in_hbm"] for each in other["nodes"]] == [None] * 3
    assert all(each["latency_ms"] == each["route_ms"] > 0 == each["switch_ms"] for each in other["nodes"])


def test_the_demo_asks_until_an_empty_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Write 1994 as a Roman numeral.\n\nnever asked\n"))
    assert demo.main(["coe", "--experts", "150", "-i"]) == 0
    printed = capsys.readouterr().out
    assert "MCMXCIV" in printed and printed.count("out of memory") == 2 and "never asked" not in printed
    assert printed.count("SN40L") == 1 and "TPOT" in printed


def test_too_few_experts_are_refused(capsys):
    assert demo.main(["coe", "--experts", "3", "x"]) == 2
    assert "--experts 3" in capsys.readouterr().err
