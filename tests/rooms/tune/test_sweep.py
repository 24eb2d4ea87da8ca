"""Sweeps: every variant has the price that it has alone; what cannot be is refused; devices change no bit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.tune import batch
from tests.oracles.processes import printed, printed_by_all, start
from tests.rooms.compiler.samples import Sample, mlp, random_sample, samples, small
from tests.rooms.tune import on_devices

PATHS = ("clock_hz", "hbm.bandwidth_bytes_per_s", "hbm.efficiency", "launch.execute_s", "launch.host_argument_s")
BW = "hbm.bandwidth_bytes_per_s"
LAST_BITS = 1e-13  # of a time: what float64 rounds


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


def gated(machine: Any = "tiny", **choices: Any) -> rdu.Program:
    return rdu.compile(mlp, struct(8, 16), struct(16, 32), struct(16, 32), struct(32, 16), machine=machine, **choices)


def around(program: rdu.Program, count: int, paths: tuple[str, ...] = PATHS) -> dict[str, np.ndarray]:
    """Values of facts from a fifth of theirs to five times that, shares up to 1."""
    rng, facts = np.random.default_rng(11), program.machine.facts()
    drawn = {path: float(facts[path].value) * 5 ** rng.uniform(-1, 1, count) for path in paths}
    return {path: np.minimum(row, 1.0) if facts[path].unit == "1" else row for path, row in drawn.items()}


def quiet(text: str) -> None:
    """Says nothing."""


@pytest.mark.parametrize("orchestration", ["hardware", "software"])
@pytest.mark.parametrize("fusion", ["streaming", "none"])
def test_every_variant_has_its_own_price(fusion: str, orchestration: str):
    program = gated(fusion=fusion, orchestration=orchestration)
    values = around(program, 40)
    found = rdu.sweep(program, values)
    assert found.shape == (40,) == found.total_s.shape and len(found) == 40
    for i in range(40):
        machine = program.machine.replace({path: float(row[i]) for path, row in values.items()})
        exact = program.cost(machine)
        assert found.exact(i) == exact and found.machine(i).facts() == machine.facts()
        assert found.run_s[i] == pytest.approx(float(exact.run_s), rel=LAST_BITS)
        assert found.launch_s[i] == pytest.approx(float(exact.launch_s), rel=LAST_BITS)
    assert found.gap() <= LAST_BITS


@pytest.mark.parametrize("sample", [*samples(), *map(random_sample, range(3))], ids=lambda s: s.name.partition(":")[0])
def test_a_relaxed_time_is_never_more_than_the_exact_one(sample: Sample):
    """Kernels of many turns on a machine of little memory; not much less either."""
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    found = rdu.sweep(program, around(program, 12))
    assert max(kernel.tiling.turns for kernel in program.plan.kernels) > 1
    exact = np.array([float(found.exact(i).total_s) for i in range(12)])
    assert np.all(found.total_s <= exact * (1 + LAST_BITS))
    assert np.all(found.total_s >= 0.999 * exact)
    assert found.gap(12) == pytest.approx(np.max(1 - found.total_s / exact), abs=LAST_BITS)


def test_the_gap_is_where_stages_wait():
    """A product planned for other bandwidths: at some, a stage waits for a free slot, which relaxed times leave out."""
    program = rdu.compile(lambda a, b: a @ b, struct(16384, 16384), struct(16384, 32768))
    found = rdu.sweep(program, around(program, 64, ("clock_hz", BW)))
    exact = np.array([float(found.exact(i).total_s) for i in range(64)])
    assert np.all(found.total_s <= exact * (1 + LAST_BITS))
    assert 1e-8 < found.gap(64) < 1e-4


def test_a_grid_is_every_value_with_every_other():
    program = gated()
    clocks, bandwidths = [5e5, 1e6, 2e6], (1e7, 3e7)
    found = rdu.sweep(program, {"clock_hz": clocks, BW: bandwidths}, grid=True)
    assert found.shape == (3, 2) == found.values["clock_hz"].shape
    for i, clock in enumerate(clocks):
        for j, bandwidth in enumerate(bandwidths):
            exact = program.cost(program.machine.replace({"clock_hz": clock, BW: bandwidth}))
            assert found.exact((i, j)) == exact
            assert found.total_s[i, j] == pytest.approx(float(exact.total_s), rel=LAST_BITS)
    [best] = found.best()
    assert best.index == (2, 1) and best.values == {"clock_hz": 2e6, BW: 3e7}
    rows = list(found.rows())
    assert [row["clock_hz"] for row in rows] == [5e5, 5e5, 1e6, 1e6, 2e6, 2e6]
    assert [row["total_s"] for row in rows] == found.total_s.ravel().tolist()
    side_by_side = {path: [row[path] for row in rows] for path in ("clock_hz", BW)}
    assert np.array_equal(rdu.sweep(program, side_by_side).total_s, found.total_s.ravel())


def test_units_are_planned_anew():
    """Once for each combination of what decides a plan; the program's own is not."""
    program = gated(machine="tiny", fusion="none")
    counts = [4, 12, 8, 4, 8]
    found = rdu.sweep(program, {"pcu.count": counts, "clock_hz": [5e5, 1e6, 1e6, 2e6, 2e6]})
    assert len(found.plans) == 3 and found.planned(1) is program
    assert found.planned(0) is found.planned(3) is not found.planned(2)
    for i, count in enumerate(counts):
        again = program.replace(machine=program.machine.replace({"pcu.count": count}))
        exact = again.cost(again.machine.replace(clock_hz=float(found.values["clock_hz"][i])))
        assert found.total_s[i] == pytest.approx(float(exact.total_s), rel=LAST_BITS)
        assert found.exact(i).total_s == exact.total_s and found.exact(i).cycles == exact.cycles
    assert found.exact(0).cycles > found.exact(2).cycles  # PCUs do matter here


def test_units_alone_can_be_swept():
    program = gated(fusion="none")
    found = rdu.sweep(program, {"pcu.count": np.array([6.0, 12.0]), "pmu.count": [16, 12]})
    assert found.values["pcu.count"].dtype == np.int64
    assert found.total_s[1] == pytest.approx(float(found.exact(1).total_s), rel=LAST_BITS)


def test_what_does_not_fit_is_an_outcome():
    program = gated()
    sizes = [64, 1_048_576]
    found = rdu.sweep(program, {f"{tier}.capacity_bytes": sizes for tier in ("hbm", "ddr", "host")} | {BW: [1e8, 1e7]})
    assert np.isinf(found.total_s[0]) and np.isfinite(found.total_s[1])
    with pytest.raises(rdu.CapacityError, match="bytes"):
        found.exact(0)
    assert [each.index for each in found.best(5)] == [1]
    assert "on 1 of them it does not fit" in str(found) and found.gap() <= LAST_BITS
    none = rdu.sweep(program, {f"{tier}.capacity_bytes": [64] for tier in ("hbm", "ddr", "host")})
    assert none.best() == () and none.gap() == 0 and none.machine(0).hbm.capacity_bytes.value == 64
    assert "on 1 of them" in str(none)


def test_both_figures_of_the_best_are_shown():
    """And the best is the best of the exact prices too, where the relaxed ones say so by more than they are off."""
    program = rdu.compile(samples()[0].fn, *samples()[0].args, machine=small())
    found = rdu.sweep(program, around(program, 30))
    best = found.best(3)
    assert [each.relaxed_s for each in best] == sorted(found.total_s)[:3]
    for each in best:
        assert each.exact_s == float(found.exact(each.index).total_s)
        assert each.relaxed_s == found.total_s[each.index]
    text = str(found)
    assert "30 machines, 1 plan, relaxed times" in text and str(best[0]) in text
    assert f"{best[0].exact_s * 1e6:,.2f} us exact, {best[0].relaxed_s * 1e6:,.2f} us relaxed" in text


@pytest.mark.parametrize("count", [1, 5, 8, 9, 40])
def test_chunks_change_no_time(count: int, monkeypatch):
    """One chunk, operation by operation; or several, compiled."""
    program = gated()
    values = around(program, count)
    once = rdu.sweep(program, values)
    monkeypatch.setattr(batch, "SMALLEST_CHUNK", 8)
    monkeypatch.setattr(batch, "LARGEST_CHUNK", 8)
    assert np.allclose(rdu.sweep(program, values).total_s, once.total_s, rtol=LAST_BITS, atol=0)


def test_progress_is_told_and_ends(monkeypatch):
    monkeypatch.setattr(batch, "LARGEST_CHUNK", 256)
    said: list[str] = []
    rdu.sweep(gated(), {"clock_hz": np.full(600, 1e6), "pcu.count": [8] * 300 + [12] * 300}, progress=said.append)
    assert said == [
        "sweep: plan 1 of 2, pcu.count=8",
        "sweep: 0 of 600 machines", "sweep: 256 of 600 machines", "sweep: 300 of 600 machines",
        "sweep: 300 of 600 machines", "sweep: 556 of 600 machines", "sweep: 600 of 600 machines",
        "",
    ]  # fmt: skip


def test_a_sweep_that_is_interrupted_clears_its_line():
    said: list[str] = []

    def interrupt(text: str) -> None:
        said.append(text)
        if "machines" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rdu.sweep(gated(), {"clock_hz": [1e6]}, progress=lambda text: interrupt(text) if text else said.append(text))
    assert said == ["sweep: 0 of 1 machines", ""]


def test_loops_turn_as_often_as_is_said():
    def fn(x: jax.Array, n: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda s: s[1] < n, lambda s: (jnp.tanh(s[0]), s[1] + 1), (x, jnp.int32(0)))[0]

    program = rdu.compile(fn, struct(8, 16), jax.ShapeDtypeStruct((), jnp.int32), machine="tiny")
    with pytest.raises(rdu.ArgumentError, match="trips"):
        rdu.sweep(program, {"clock_hz": [1e6]})
    few, many = (rdu.sweep(program, {"clock_hz": [1e6, 2e6]}, trips={"while": n}) for n in (1, 9))
    assert np.all(many.total_s > few.total_s)
    assert many.exact(1) == program.cost(program.machine.replace(clock_hz=2e6), trips={"while": 9})
    assert many.gap() <= LAST_BITS
    with pytest.raises(rdu.UnknownNameError, match="while"):
        rdu.sweep(program, {"clock_hz": [1e6]}, trips={"whole": 1})


def test_a_kernel_by_hand_is_swept_too():
    @rdu.kernel(machine="tiny")
    def square(x: rdu.Stream) -> rdu.Stream:
        return rdu.simd(lambda a: a * a, x)

    found = rdu.sweep(square.program(struct(8, 16)), {"clock_hz": [1e6, 2e6], "pcu.count": [4, 12]})
    assert found.gap() <= LAST_BITS and found.total_s[0] > found.total_s[1]


def test_values_of_every_kind_of_row_are_the_same():
    program = gated()
    rows = (
        [1_000_000, 2_000_000], (1e6, 2e6), range(1_000_000, 3_000_000, 1_000_000), np.array([1e6, 2e6], np.float32),
        np.array([1_000_000, 2_000_000], np.uint32), jnp.array([1e6, 2e6]),
    )  # fmt: skip
    found = [rdu.sweep(program, {"clock_hz": row}).total_s.tolist() for row in rows]
    assert all(each == found[0] for each in found)


def test_what_was_found_cannot_be_changed():
    found = rdu.sweep(gated(), {"clock_hz": [1e6, 2e6]})
    for array in (found.run_s, found.launch_s, found.plan_of, found.values["clock_hz"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


REFUSED: dict[str, tuple[type[Exception], str, Any]] = {
    "nothing": (rdu.ArgumentError, "values of facts", {}),
    "no mapping": (rdu.ArgumentError, "values of facts", [1e6]),
    "unknown": (rdu.UnknownNameError, "did you mean 'clock_hz'", {"clock_hs": [1e6]}),
    "a group": (rdu.UnknownNameError, "unknown fact", {"hbm": [1e6]}),
    "empty": (rdu.ShapeError, "one or more", {"clock_hz": []}),
    "one number": (rdu.ShapeError, "row of one", {"clock_hz": 1e6}),
    "two axes": (rdu.ShapeError, "grid=True", {"clock_hz": np.ones((2, 2))}),
    "lengths": (
        rdu.ShapeError,
        "2 of clock_hz, 1 of hbm.efficiency",
        {"clock_hz": [1e6, 2e6], "hbm.efficiency": [0.5]},
    ),
    "NaN": (rdu.ArgumentError, "variant: 1 of 3", {"clock_hz": [1e6, np.nan, 2e6]}),
    "infinite": (rdu.ArgumentError, "variant: 2 of 3", {"clock_hz": [1e6, 2e6, np.inf]}),
    "infinite count": (rdu.ArgumentError, "whole number", {"pcu.count": [8, np.inf]}),
    "negative": (rdu.ArgumentError, "clock_hz.*\n.*-1.0 Hz", {"clock_hz": [1e6, -1.0]}),
    "zero": (rdu.ArgumentError, "greater than 0", {"clock_hz": [0, 1]}),
    "a share": (rdu.ArgumentError, "at most 1", {"hbm.efficiency": [0.5, 1.5]}),
    "a fraction of a unit": (rdu.ArgumentError, "whole number(.|\n)*variant: 1 of 2", {"pcu.count": [8, 8.5]}),
    "bools": (rdu.FormatError, "are numbers", {"clock_hz": [True, False]}),
    "a bool among numbers": (rdu.FormatError, "are numbers", {"clock_hz": [1e6, True]}),
    "words": (rdu.FormatError, "are numbers", {"clock_hz": ["fast", "slow"]}),
    "ragged": (rdu.FormatError, "are numbers", {"clock_hz": [[1e6], [1e6, 2e6]]}),
    "None": (rdu.FormatError, "are numbers", {"clock_hz": None}),
    "complex": (rdu.FormatError, "are numbers", {"clock_hz": np.array([1j])}),
    "beyond int64": (rdu.FormatError, "are numbers", {"clock_hz": [2**63]}),
    "name": (rdu.UnknownNameError, "unknown fact", {"name": ["tiny"]}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_values_that_cannot_be_are_refused(kind: str):
    error, match, values = REFUSED[kind]
    with pytest.raises(error, match=match):
        rdu.sweep(gated(), values, progress=quiet)


def test_traced_values_are_refused():
    program = gated()
    rows: list[Callable[[jax.Array], Any]] = [lambda x: x, lambda x: [x[0], 2e6], lambda x: list(x)]
    for row in rows:
        with pytest.raises(rdu.ConcretenessError, match="tracers"):
            jax.jit(lambda x, row=row: rdu.sweep(program, {"clock_hz": row(x)}).total_s)(jnp.array([1e6, 2e6]))


def test_more_than_can_be_done_is_refused():
    program = gated()
    with pytest.raises(rdu.ArgumentError, match=r"100 combinations of pcu.count(.|\n)*64, as most_plans says"):
        rdu.sweep(program, {"pcu.count": range(1, 101)})
    with pytest.raises(rdu.ArgumentError, match="2 combinations of pcu.count, pmu.count"):
        rdu.sweep(program, {"pcu.count": [12, 12], "pmu.count": [15, 16]}, most_plans=1)
    row = np.linspace(1e6, 2e6, 1000)
    with pytest.raises(rdu.ArgumentError, match="1,000 x 1,000 x 1,000"):
        rdu.sweep(program, {"clock_hz": row, BW: row, "ddr.bandwidth_bytes_per_s": row}, grid=True)


def test_what_is_no_program_or_mesh_is_refused():
    program, values = gated(), {"clock_hz": [1e6]}
    with pytest.raises(rdu.ArgumentError, match="compile"):
        rdu.sweep(mlp, values)  # pyright: ignore[reportArgumentType]
    mesh = jax.sharding.AbstractMesh((2,), ("x",))
    for given in (mesh, "cpu"):
        with pytest.raises(rdu.ArgumentError, match="a mesh of devices"):
            rdu.sweep(program, values, mesh=given)  # pyright: ignore[reportArgumentType]


NO_INDEX = {2: "no such", -1: "no such", True: "no index", 0.5: "no index", (0, 0): "1 whole number", "0": "no index"}


@pytest.mark.parametrize("index", NO_INDEX)
def test_an_index_that_is_not_there_is_refused(index: Any):
    found = rdu.sweep(gated(), {"clock_hz": [1e6, 2e6]})
    for asked in (found.exact, found.machine, found.planned):
        with pytest.raises(rdu.ArgumentError, match=NO_INDEX[index]):
            asked(index)
    assert found.exact(np.int64(1)) == found.exact((1,))


@pytest.mark.parametrize("count", [0, -1, True, 1.0])
def test_the_best_of_no_number_are_refused(count: Any):
    with pytest.raises(rdu.ArgumentError, match="how many variants"):
        rdu.sweep(gated(), {"clock_hz": [1e6]}).best(count)


def test_the_devices_of_a_mesh_change_no_bit():
    """Eight devices in two axes, left to XLA or explicit, and three of them."""
    found = printed(start(on_devices.__name__, 8))
    assert set(found) == {"one", "auto", "explicit", "row of three"}
    assert all(each == found["one"] for each in found.values()), found


@pytest.mark.full
def test_two_processes_change_no_bit():
    """Four devices each; every process has the times of all."""
    found = printed_by_all(on_devices.__name__, 2, 4)
    assert all(each == found[0]["one"] for one in found for each in one.values()), found
