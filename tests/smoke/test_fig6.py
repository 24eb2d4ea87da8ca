"""Figure 6: a row says what its three programs cost; ranges are judged as printed; bars are as long as gains."""

import json
from dataclasses import replace
from functools import partial

import jax
import pytest

import rdujax as rdu
from benchmarks import fig6
from benchmarks.models import decoder, parallel
from benchmarks.models.table1 import BARS, Bar, convolution_call, llava_call
from rdujax.compiler.drawing import Rectangle
from rdujax.machines import calibration
from tests.oracles.harness import in_full

SMALL = decoder.Config(d_model=64, layers=3, heads=4, kv_heads=2, d_ff=96, vocab=128, positions=32)
DECODE = Bar("small", "decode", 32, 2, partial(parallel.parallel_call, SMALL, 2, 1, 32), (2,))
# MICRO 2024, the labels of Figure 10 from left to right.
PAPER = (
    "llama7B-4k-prefill llama7B-4k-decode sparseGPT-13B-train llama70B-4k-prefill llama70B-4k-decode llama7B-4k-train "
    "bloom176B-8k-prefill bloom176B-8k-decode mistral7B-2k-prefill mistral7B-2k-decode mistral7B-4k-prefill "
    "mistral7B-4k-decode falcon40B-2k-prefill falcon40B-2k-decode llava1.5-llama7B-prefill llava1.5-llama7B-decode "
    "FlashFFTConv-convolution"
).split()


@pytest.fixture(autouse=True)
def _promoted():
    """As a reader's JAX is set."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def row() -> fig6.Gain:
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return fig6.measured(DECODE)


def test_a_row_is_what_its_programs_cost(row):
    fn, args = DECODE.call()
    unfused, fused = (rdu.compile(fn, *args, donate_argnums=2, fusion=f, orchestration=o)
                      for f, o in (("none", "software"), ("streaming", "hardware")))  # fmt: skip
    assert row.value == float(unfused.cost().total_s) / float(fused.cost().total_s) > 1
    assert (row.unfused_launches, row.fused_ho_launches) == (unfused.cost().launches, fused.cost().launches)
    assert row.unfused_launches > 3 * 10 and row.kernel_ratio == row.unfused_launches / row.fused_ho_launches
    assert row.by_software * row.over_software == pytest.approx(row.value)
    assert row.unfused_hbm_gb > row.hbm_gb == fused.cost().moved_bytes("hbm") / 1e9 and row.ddr_gb == 0
    assert 0 < row.pcu_share <= 1 and 0 < row.pmu_share <= 1 and 0 < row.hbm_share < 0.85


def test_layers_of_one_kernel_are_launched_once(row):
    assert (row.fused_so_launches, row.fused_ho_launches, row.looped_launches) == (5, 5, 3)
    launch = rdu.machines.sn40l().launch
    saved_s = (
        launch.program_load_s.value + launch.argument_load_s.value - launch.advance_s.value
    )  # of two further trips
    assert row.fused_ho_ms - row.looped_ms == pytest.approx(2 * saved_s * 1e3)
    assert row.by_looping == row.unfused_ms / row.looped_ms > row.value


def test_kernels_that_are_kept_are_those_that_would_be_planned(monkeypatch):
    fn, args = DECODE.call()
    best = rdu.compile(fn, *args, donate_argnums=2)
    assert best.plan.is_uncut and not rdu.compile(fn, *args, donate_argnums=2, fusion="none").plan.is_uncut
    planned = {o: best.replace(orchestration=o).cost() for o in ("software", "looped")}
    monkeypatch.setattr(rdu.Program, "replace", lambda program, **choices: replace(program, name=str(choices)))
    programs = fig6.programs_of(best)
    assert programs["fused_so"].cost() == planned["software"] and programs["looped"].cost() == planned["looped"]
    cut = replace(best, plan=replace(best.plan, steps=best.plan.steps[:1] * 2))
    assert fig6.programs_of(cut)["fused_so"].name == "{'orchestration': 'software'}"


def test_a_range_includes_what_is_rounded_to_it(row):
    assert fig6.misses(3.004, (1.5, 3.0)) == fig6.misses(1.5, (1.5, 3.0)) == ""
    assert fig6.misses(3.6, (1.5, 3.0)) == "1.20 of 3" and fig6.misses(0.75, (1.5, 3.0)) == "0.50 of 1.5"
    inside = replace(row, value=5.0, fused_so_ms=2.0, fused_ho_ms=1.0)
    assert inside.met is True and fig6.outside(inside) == ""
    slow = replace(inside, value=0.5)
    assert slow.met is False and fig6.outside(slow) == "gain 0.50 of 1"
    assert fig6.outside(replace(inside, kind="calibrated")) == "calibrated"
    assert fig6.outside(replace(inside, row="llama7B-4k-prefill")).startswith("kernel ratio")


def test_what_misses_says_why(row):
    inside = replace(row, value=5.0, fused_so_ms=2.0, fused_ho_ms=1.0)
    (last,) = fig6.notes([inside])
    assert last.startswith("decoding, longest kernels: PCUs ") and "printed near 90%" in last
    few = replace(inside, fused_so_ms=1.2)
    assert list(fig6.reasons(few)) == [
        "the host takes 0.2 ms more for 5 launches, beside 1.0 ms; the printed range asks for more launches."
    ]
    prompt = replace(inside, phase="prefill", value=3.3, fused_so_ms=1.2)
    [high, launches] = fig6.reasons(prompt)
    assert "keeps its scores there" in high and "no more than 10%" in launches
    assert [*fig6.reasons(replace(prompt, value=1.2, fused_so_ms=1.0))][0].startswith("fused, ")
    [lines] = fig6.reasons(replace(inside, phase="convolution", value=26.0, fused_so_ms=1.0))
    assert "launches decide" in lines and len(list(fig6.notes([prompt, few]))) == 3


def test_bars_are_as_long_as_the_gains(row):
    other = replace(row, row="other", value=26.0)
    shapes = fig6.gains([row, other]).shapes
    lengths = [shape.width for shape in shapes if isinstance(shape, Rectangle) and shape.title]
    assert lengths[1] / lengths[4] == pytest.approx(row.value / 26.0)
    assert lengths[2] / lengths[1] == pytest.approx(row.by_looping / row.value)
    assert lengths[0] == pytest.approx(lengths[3]) and fig6.gains([]).width > 0


def test_benchmarks_are_those_of_the_paper_in_its_order():
    assert [bar.title for bar in BARS] == PAPER
    assert all(bar.sockets == (1 if bar.phase == "convolution" else 8) for bar in BARS)


def test_what_no_name_contains_is_refused(capsys):
    with pytest.raises(SystemExit) as done:
        fig6.main(["--only", "llama9"])
    assert done.value.code == 2 and "'llama9': none of llama7B-4k-prefill" in capsys.readouterr().err


@pytest.mark.parametrize("call", [convolution_call, *in_full(partial(llava_call, 8, 4096))])
def test_what_is_no_decoder_is_traced_at_its_published_size(call):
    fn, args = call()
    assert rdu.compile(fn, *args, fusion="none").cost().flops > 10**9


@pytest.mark.full
def test_the_calibrated_row_gives_the_number_it_was_solved_from(capsys, monkeypatch):
    for name in ("JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION"):
        monkeypatch.delenv(name)  # for the process that each benchmark is
    (fact,) = (each for each in calibration.CALIBRATED if each.benchmark.startswith("fig6"))
    name = fact.benchmark.partition(": ")[2]
    fig6.main(["--only", name, "--json"])
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["row"], found["kind"]) == (name, "calibrated")
    assert found["value"] == pytest.approx(fact.value, rel=0.005)


def test_calibrated_facts_say_so():
    machines = (rdu.machines.sn40l(), rdu.machines.sn40l_node(), rdu.machines.dgx_a100(), rdu.machines.dgx_h100())
    facts = {machine.name.partition(",")[0]: machine.facts() for machine in machines}
    said = {(name, path) for name, own in facts.items() for path, fact in own.items()
            if fact.source.startswith("calibrated")}  # fmt: skip
    said = {(name, path) for name, path in said if not path.startswith("socket.")}
    assert said | {("sn40l", "ddr.efficiency")} == {(each.machine, each.path) for each in calibration.CALIBRATED}
    assert len(calibration.CALIBRATED) <= 6
    later = (rdu.machines.dgx_a100("trtllm-2026"), rdu.machines.dgx_h100("trtllm-2026"))
    said = {(each.name.partition(",")[0], path) for each in later for path, fact in each.facts().items()
            if fact.source.startswith("calibrated")}  # fmt: skip
    assert said == {(each.machine, each.path) for each in calibration.CALIBRATED_2026}
