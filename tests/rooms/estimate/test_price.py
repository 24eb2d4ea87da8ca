"""What programs cost: launches, sums, critical paths, and pipelines against discrete-event simulation."""

import copy
import pickle
from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.estimate.pipeline import phases_of
from rdujax.estimate.price import kernel_cycles, price
from rdujax.graph.launches import Course
from rdujax.ledger import finish_times
from tests.oracles.pipeline_simulation import simulate
from tests.rooms.compiler.samples import Sample, middle, random_sample, samples, small, turns

ALL = [*samples(), *(random_sample(seed) for seed in range(6))]


def name(sample: Sample) -> str:
    """A short test id."""
    return sample.name.partition(":")[0]


@pytest.mark.parametrize("sample", ALL, ids=name)
def test_totals_are_sums_and_launches_are_counted(sample: Sample):
    """The host takes 10 us more for every stream of a kernel; the AGCUs do not."""
    said_s = Fraction(1, 100_000)
    for orchestration, each_s, argument_s in (
        ("software", Fraction(1, 1000), said_s), ("hardware", Fraction(1, 10_000), 0),
    ):  # fmt: skip
        for fusion in ("none", "streaming"):
            program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion=fusion, orchestration=orchestration)
            cost = program.cost()
            assert len(cost.kernels) == len(program.plan.kernels)
            arguments = sum(len(kernel.streams) for kernel in program.plan.kernels)
            assert cost.launch_s == len(cost.kernels) * each_s + arguments * argument_s
            assert cost.cycles == sum(k.cost.cycles for k in cost.kernels)
            assert cost.run_s == Fraction(cost.cycles, 1_000_000)
            assert cost.total_s == cost.run_s + cost.launch_s == sum(k.total_s for k in cost.kernels)
            assert cost.flops == program.graph.flops()
            for kernel in cost.kernels:
                assert sum(kernel.critical.values()) == kernel.cost.cycles > 0


@pytest.mark.parametrize("sample", ALL, ids=name)
@pytest.mark.parametrize("fusion", ["none", "streaming"])
def test_cycles_of_a_kernel_are_those_of_its_simulated_pipeline(sample: Sample, fusion: str):
    program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion=fusion)
    for planned, kernel in zip(program.plan.kernels, program.cost().kernels, strict=True):
        phases = phases_of(program.graph, planned, program.machine)
        assert kernel.cost.cycles == sum(finish_times(phase.pipeline, phase.turns).max() for phase in phases)
        simulated = [simulate(phase.pipeline, phase.turns) for phase in phases]
        assert kernel.cost.cycles == sum(max(finish.max() for finish in each.values()) for each in simulated)


@pytest.mark.parametrize("sample", ALL, ids=name)
def test_streaming_is_never_worse_than_the_partitions_by_hand(sample: Sample):
    """One kernel, a cut after every node, a cut in the middle: whichever of them fit."""
    best = rdu.compile(sample.fn, *sample.args, machine=small())
    every = rdu.cut_after(*(node.label for node in best.graph.nodes))
    tried = 0
    for cuts in (rdu.cut_after(), every, middle(best)):
        try:
            other = best.replace(fusion=cuts)
        except rdu.CapacityError:
            continue
        tried += 1
        assert best.cost().total_s <= other.cost().total_s, cuts
    assert tried >= 1


def test_fusion_moves_fewer_bytes_and_launches_less():
    for sample in samples()[:3]:
        fused = rdu.compile(sample.fn, *sample.args, machine="sn40l", fusion=rdu.cut_after()).cost()
        plain = rdu.compile(sample.fn, *sample.args, machine="sn40l", fusion="none").cost()
        at_the_border = sum(x.size * x.dtype.itemsize for x in (*sample.args, sample.fn(*sample.args)))
        assert fused.moved_bytes() == at_the_border < plain.moved_bytes()
        assert len(fused.kernels) == 1 < len(plain.kernels)
        assert fused.flops == plain.flops
        assert fused.operational_intensity() > plain.operational_intensity()


def test_a_price_is_differentiable_in_the_machine():
    """Twice the bandwidth where memory limits: the derivative agrees with a difference quotient's sign and size."""
    sample = samples()[0]
    program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion="none")

    def seconds(bandwidth: jax.Array) -> jax.Array:
        machine = program.machine.replace({"hbm.bandwidth_bytes_per_s": bandwidth})
        return program.cost(machine).total_s

    at = 16e6
    exact = float(program.cost().total_s)
    assert float(seconds(jax.numpy.float32(at))) == pytest.approx(exact, rel=1e-5)
    slope = float(jax.grad(seconds)(jax.numpy.float32(at)))
    slower = float(program.cost(program.machine.replace({"hbm.bandwidth_bytes_per_s": int(at * 0.8)})).total_s)
    assert slope < 0
    assert slope * (-0.2 * at) == pytest.approx(slower - exact, rel=0.5)


def chained(x, *weights):
    """x through one matrix after another."""
    for w in weights:
        x = x @ w
    return x


def test_readers_of_what_stays_on_chip_do_not_wait_for_one_another():
    """One matrix used four times takes no longer than four; a bias at both ends of a pipeline costs its load alone."""
    x, w = jax.ShapeDtypeStruct((4096, 256), "bfloat16"), jax.ShapeDtypeStruct((256, 256), "bfloat16")
    bias = jax.ShapeDtypeStruct((1, 256), "bfloat16")
    tied = rdu.compile(lambda x, w: chained(x, w, w, w, w), x, w)
    untied = rdu.compile(chained, x, w, w, w, w)
    twice = rdu.compile(lambda x, v, w, b: (x @ v + b) @ w + b, x, w, w, bias)
    apart = rdu.compile(lambda x, v, w, b, c: (x @ v + b) @ w + c, x, w, w, bias, bias)
    for once, more in ((tied, untied), (twice, apart)):
        assert len(once.plan.kernels) == 1 and turns(once.plan)[0] > 1
        assert once.cost().cycles <= more.cost().cycles
        relaxed = float(once.cost(once.machine.relaxed()).run_s)
        assert relaxed == pytest.approx(float(once.cost().run_s), rel=1e-5)


def test_a_price_has_a_derivative_by_every_fact_of_the_machine():
    """Zero by the facts that it does not rest on, and by all at once on a relaxed machine."""
    sample = samples()[0]
    program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion="none")
    slopes = jax.grad(lambda m: program.cost(m).total_s)(program.machine.relaxed()).facts()
    assert slopes["hbm.bandwidth_bytes_per_s"].value < 0 < slopes["launch.host_s"].value + 1
    for path, fact in program.machine.facts().items():
        slope = jax.grad(lambda x: program.cost(program.machine.replace({path: x})).total_s)(float(fact.value))  # noqa: B023
        assert float(slope) == pytest.approx(float(slopes[path].value), rel=1e-3, abs=1e-30), path


def test_a_traced_price_takes_layers_that_are_alike_once():
    """Under the names and launches of each; in float64 where that is what JAX traces, to its last bits."""

    def layers(x, weights):
        for w in weights:
            x = jax.nn.silu(x @ w)
        return x

    def program(count: int) -> rdu.Program:
        weights = [jax.ShapeDtypeStruct((16, 16), jnp.bfloat16)] * count
        x = jax.ShapeDtypeStruct((8, 16), jnp.bfloat16)
        return rdu.compile(layers, x, weights, machine="tiny", fusion="none")

    def equations(program: rdu.Program) -> int:
        fn = jax.make_jaxpr(lambda clock: program.cost(program.machine.replace(clock_hz=clock)).total_s)
        return len(fn(1e6).eqns)

    few, more, many = map(program, (2, 3, 4))
    assert equations(many) - equations(more) == equations(more) - equations(few) < 0.5 * equations(few)
    exact = many.cost()
    for wide in (False, True):
        with jax.enable_x64(wide):
            clock = jnp.asarray(1e6, jnp.float64 if wide else jnp.float32)
            traced = many.cost(many.machine.replace(clock_hz=clock))
            for ours, theirs in zip(traced.kernels, exact.kernels, strict=True):
                assert (ours.name, ours.launches, ours.inside) == (theirs.name, theirs.launches, theirs.inside)
                assert ours.run_s.dtype == ours.launch_s.dtype == clock.dtype
                near = 1e-14 if wide else 1e-6
                assert float(ours.run_s) == pytest.approx(float(theirs.run_s), rel=near)
                assert float(ours.launch_s) == pytest.approx(float(theirs.launch_s), rel=near)


def test_costs_need_no_arrays_and_scale_past_32_bits():
    huge = jax.ShapeDtypeStruct((16384, 16384), jax.numpy.bfloat16)
    program = rdu.compile(lambda a, b: a @ b, huge, huge, machine="sn40l", fusion="none")
    assert program.cost().flops == 2 * 16384**3 > 2**42
    assert program.predicted_counts()["pcu.macs"] == 16384**3
    assert max(turns(program.plan)) > 1
    assert "hbm" in str(program.cost()) and f"{2 * 16384**3:,} FLOP" in str(program.cost())


def test_the_report_says_what_the_plan_and_the_price_say():
    sample = samples()[0]
    program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion="none")
    data, cost = program.report().data, program.cost()
    assert data["total"]["cycles"] == cost.cycles and data["total"]["kernels"] == len(cost.kernels)
    for row, planned, kernel in zip(data["kernels"], program.plan.kernels, cost.kernels, strict=True):
        assert (row["pcus"], row["pmus"], row["agcus"]) == (planned.pcus, planned.pmus, planned.agcus)
        assert sum(s["critical_cycles"] for s in row["stages"]) == row["cycles"] == kernel.cost.cycles
        assert row["name"] in str(program.report())
    with pytest.raises(rdu.UnknownNameError, match="memory tier"):
        program.cost().cost.operational_intensity("hbn")


@pytest.mark.parametrize("far", ["a", "x", "w"])
def test_loads_of_two_tiers_stream_side_by_side(far):
    """What is compared is no more than what is priced, whichever of the loads comes from the other tier."""

    def fn(a, x, w):
        scale = jnp.sum(a, axis=-1, keepdims=True)
        return (x @ w) * scale

    shapes = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((1, 4096), (1, 512), (512, 4096))]
    program = rdu.compile(fn, *shapes, machine="sn40l", tiers={far: "ddr"})
    [kernel], [cost] = program.plan.kernels, program.cost().kernels
    assert kernel.tiling.in_turn or far == "w"
    assert {s.tier for s in kernel.streams} == {"hbm", "ddr"}
    assert kernel_cycles(program.graph, kernel, program.machine) <= cost.cost.cycles
    size_bytes = {name: s.size * 2 for name, s in zip("axw", shapes, strict=True)}
    assert cost.cost.cycles >= program.machine.transfer_cycles("ddr", size_bytes[far])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))])
def test_a_copy_of_a_plan_has_the_price_of_the_plan(copied):
    """Formats are told apart by identity, which a copy must keep."""
    x = jax.ShapeDtypeStruct((64, 64), jnp.bfloat16)
    program = rdu.compile(lambda x, w: jnp.tanh(x @ w), x, x, machine="tiny")
    again = copied(program.plan)
    assert again == program.plan and again is not program.plan
    assert all(again.graph.types[v].fmt is kind.fmt for v, kind in program.graph.types.items())
    assert price(again, program.machine, Course(again.graph)) == program.cost()
