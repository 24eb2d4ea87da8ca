"""The family of machines: facts with provenance, overrides, a pytree, prices that follow the facts."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.base.facts import CONFIDENCES, COUNTED, Fact
from rdujax.machines import dgx
from rdujax.machines.machine import MACHINES, ORCHESTRATIONS, Machine, named
from rdujax.units.memory import TIERS

PHASES = ("host", "program_load", "argument_load", "execute")
PRESETS = [make() for _, make in MACHINES.items()]
NODES = [rdu.machines.sn40l_node(), *(make(stack) for make in (dgx.dgx_a100, dgx.dgx_h100) for stack in dgx.STACKS[:2])]
PRESET_FACTS = [pytest.param(m, path, id=f"{m.name}-{path}") for m in (*PRESETS, *NODES) for path in m.facts()]
each_preset = pytest.mark.parametrize("machine", PRESETS, ids=lambda m: m.name)


@pytest.mark.parametrize(("machine", "path"), PRESET_FACTS)
def test_every_fact_has_a_unit_a_source_and_a_confidence(machine, path):
    fact = machine.facts()[path]
    assert fact.unit.strip() and len(fact.source.split()) >= 2
    assert fact.confidence in set(CONFIDENCES) - {"overridden"}
    assert (fact.confidence == "assumed") == fact.source.startswith(("assumed", "chosen", "calibrated"))
    assert fact.value > 0 and fact.unit in COUNTED | {"Hz", "bytes/s", "s", "1", "FLOP/s"}
    assert {"_s": "s", "_hz": "Hz"}.get(path[path.rfind("_") :], fact.unit) in (fact.unit, "bytes/s", "s")
    assert str(fact) == f"{fact.value} {fact.unit} ({fact.confidence}: {fact.source})"


@each_preset
def test_a_preset_is_registered_under_its_name_and_made_anew(machine):
    assert named(machine.name) == machine == MACHINES[machine.name]() and named(machine) is machine
    assert isinstance(machine, Machine)


@each_preset
def test_a_machine_is_a_pytree_of_its_facts(machine):
    leaves, tree = jax.tree.flatten(machine)
    assert leaves == [fact.value for fact in machine.facts().values()]
    assert jax.tree.unflatten(tree, leaves) == machine
    relaxed = jax.jit(lambda m: m)(jax.tree.map(jnp.float32, machine))
    assert [f.source for f in relaxed.facts().values()] == [f.source for f in machine.facts().values()]
    assert {type(v) for v in jax.tree.leaves(machine)} <= {int, float}


@pytest.mark.parametrize(("machine", "path"), PRESET_FACTS)
def test_every_fact_can_be_overridden_and_remembers_what_it_was(machine, path):
    before = machine.facts()[path]
    value = before.value * 2 if before.unit != "1" else before.value / 2
    other = machine.replace({path: value})
    after = other.facts()[path]
    assert (after.value, after.confidence, after.unit) == (value, "overridden", before.unit)
    assert f"was {before.value}" in after.source and before.source in after.source
    assert {p: f for p, f in other.facts().items() if p != path} == {
        p: f for p, f in machine.facts().items() if p != path
    }
    assert machine.facts()[path] == before


@each_preset
def test_near_misses_are_named(machine):
    with pytest.raises(UnknownNameError, match=r"unknown fact\n  given:   'pcu.cont'(.|\n)*did you mean 'pcu.count'"):
        machine.replace({"pcu.cont": 9})
    with pytest.raises(UnknownNameError, match="did you mean 'clock_hz'"):
        machine.replace(clock_h=1.0)
    with pytest.raises(UnknownNameError, match="unknown fact"):
        machine.replace({"pcu": 9})
    with pytest.raises(UnknownNameError, match="unknown memory tier(.|\n)*did you mean 'hbm'"):
        machine.tier("hbn")
    with pytest.raises(UnknownNameError, match="unknown orchestration(.|\n)*did you mean 'hardware'"):
        machine.launch_s("hardwire")


def test_an_unknown_machine_is_refused_with_the_near_miss():
    with pytest.raises(UnknownNameError, match="unknown machine\n  given:   'sn40'(.|\n)*did you mean 'sn40l'"):
        named("sn40")


@each_preset
def test_names_and_several_facts_are_replaced_at_once(machine):
    other = machine.replace({"pcu.count": 3, "hbm.efficiency": 0.5}, clock_hz=10, name="mine")
    assert (other.name, other.pcu.count.value, other.hbm.efficiency.value, other.clock_hz.value) == ("mine", 3, 0.5, 10)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pcu.count", 0), ("pcu.count", -1), ("pcu.count", 1.5), ("pcu.count", True), ("pmu.capacity_bytes", "x"),
        ("hbm.efficiency", 1.01), ("hbm.efficiency", 0.0), ("hbm.bandwidth_bytes_per_s", 0), ("clock_hz", float("nan")),
        ("clock_hz", float("inf")), ("launch.execute_s", -1e-9),
    ],
)  # fmt: skip
@each_preset
def test_facts_that_cannot_be_are_refused(machine, path, value):
    with pytest.raises(ArgumentError, match=f"a fact that cannot be\n  given:   {value!r} (.|\n)*allowed: "):
        machine.replace({path: value})


def test_limits_of_facts_are_allowed():
    free = {f"launch.{phase}_s": 0 for phase in ("program_load", "argument_load", "execute")}
    machine = named("tiny").replace({"hbm.efficiency": 1, **free, "pcu.count": 1})
    assert (machine.hbm.efficiency.value, machine.launch_s("hardware"), machine.pcu.count.value) == (1, 0, 1)


def test_streams_of_host_memory_pass_the_memory_and_the_link():
    machine = named("tiny")  # 1 MHz; hbm 16 bytes per cycle, host memory 4, the host link 1 each way
    assert [machine.transfer_cycles("hbm", 160, 80), machine.transfer_cycles("host", 100)] == [15, 100]
    assert machine.transfer_cycles("host", 100, 100) == machine.transfer_cycles("host", 0, 100) == 100
    wide = machine.replace({"host_link.bandwidth_bytes_per_s": 100_000_000})
    assert wide.transfer_cycles("host", 100, 100) == 50
    slope = jax.grad(lambda m: m.transfer_cycles("host", 1000, 10))(machine.relaxed())
    assert slope.host_link.bandwidth_bytes_per_s.value < 0 and slope.host.bandwidth_bytes_per_s.value == 0


@each_preset
def test_derived_figures_follow_their_facts(machine):
    cells = machine.pcu.systolic_rows.value * machine.pcu.systolic_columns.value
    assert machine.peak_flops() == machine.pcu.count.value * cells * 2 * machine.clock_hz.value
    assert machine.sram_bytes() == machine.pmu.count.value * machine.pmu.capacity_bytes.value
    for tier in TIERS:
        assert machine.tier(tier) is getattr(machine, tier)
        bandwidth = machine.tier(tier).bandwidth_bytes_per_s.value
        if tier == "host":
            bandwidth = min(bandwidth, machine.host_link.bandwidth_bytes_per_s.value)
        assert machine.ridge(tier) == machine.peak_flops() / bandwidth
    parts = [Fraction(str(getattr(machine.launch, f"{phase}_s").value)) for phase in PHASES]
    assert [machine.launch_s(o) for o in ORCHESTRATIONS] == [sum(parts), *[sum(parts[1:])] * 2]
    again = {"argument": parts[2:], "advance": [Fraction(str(machine.launch.advance_s.value)), parts[3]]}
    assert [machine.launch_s("looped", 5, beginning) for beginning in again] == list(map(sum, again.values()))
    slope = jax.grad(lambda m: m.peak_flops())(jax.tree.map(jnp.float32, machine))
    assert slope.clock_hz.value == pytest.approx(machine.pcu.count.value * cells * 2, rel=1e-6)


def test_the_sn40l_has_its_published_peak_and_memory():
    machine = rdu.machines.sn40l()
    assert machine.peak_flops() == 638_976_000_000_000
    assert machine.sram_bytes() == 520 * 2**20
    assert (machine.hbm.capacity_bytes.value, machine.ddr.capacity_bytes.value) == (64 * 2**30, 3 * 2**39)
    assert machine.pcu.count.value == machine.pmu.count.value == 1040


@pytest.mark.parametrize("make", [rdu.machines.dgx_a100, rdu.machines.dgx_h100])
def test_a_node_of_gpus_is_a_pytree_and_refuses_an_unknown_stack(make):
    node = make("trtllm-2026")
    assert jax.tree.leaves(node) == [fact.value for fact in node.facts().values()]
    assert node.name.endswith("trtllm-2026") and node.replace({"stack.start_s": 0.5}).stack.start_s.value == 0.5
    assert 640e9 == node.gpus.value * node.hbm.capacity_bytes.value
    with pytest.raises(UnknownNameError, match="unknown stack"):
        make("nemo-2025")


def test_the_reference_gpu_has_the_published_ridge():
    gpu = rdu.machines.a100()
    assert gpu.ridge() == 312e12 / 2039e9
    assert {f.confidence for f in (gpu.peak_flops, gpu.bandwidth_bytes_per_s)} == {"stated"}
    assert all(isinstance(f, Fact) and "NVIDIA" in f.source for f in (gpu.peak_flops, gpu.bandwidth_bytes_per_s))


def layer(x, w):
    """A contraction and a table: memory-bound with few rows, compute-bound with many."""
    return jnp.tanh(x @ w)


def seconds(program):
    """The relaxed price as a function of a machine's facts."""
    return jax.jit(lambda machine: program.cost(machine).total_s)


# Shapes, and a bandwidth at which a turn of the pipeline takes so many cycles that rounding up is a trifle, and where
# memory and computing are not so evenly matched that the price has a kink nearby.
PROGRAMS = {"memory-bound": ((4, 4096, 4096), 18 * 10**9), "compute-bound": ((2048, 2048, 2048), 1_500 * 10**9)}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request):
    (m, k, n), bandwidth = PROGRAMS[request.param]
    machine = named("sn40l").replace({"hbm.bandwidth_bytes_per_s": bandwidth, "launch.program_load_s": 1e-6})
    shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((m, k), (k, n)))
    return rdu.compile(layer, *shapes, machine=machine)


FACTS_OF_TIME = ["clock_hz", "hbm.bandwidth_bytes_per_s", "hbm.efficiency", "launch.program_load_s"]


def test_the_gradient_of_a_price_is_its_finite_difference(program):
    """By 2 % on both sides: wide enough for whole cycles, narrow enough for the curve of 1/x."""
    machine = program.machine
    slope = jax.grad(seconds(program))(jax.tree.map(jnp.float32, machine)).facts()
    for path in FACTS_OF_TIME:
        value = machine.facts()[path].value
        above, below = (float(program.cost(machine.replace({path: value * f})).total_s) for f in (1.02, 0.98))
        difference = (above - below) / (0.04 * value)
        total = float(program.cost().total_s)
        assert float(slope[path].value) * value / total == pytest.approx(difference * value / total, abs=1e-3), path


def test_the_relaxed_price_is_the_exact_one(program):
    relaxed = seconds(program)(jax.tree.map(jnp.float32, program.machine))
    assert float(relaxed) == pytest.approx(float(program.cost().total_s), rel=1e-5)


def test_the_bottleneck_is_the_fact_with_the_largest_elasticity(program, request):
    """More bandwidth helps what is memory-bound, a faster clock what is compute-bound; no price rises with either."""
    slope = jax.grad(seconds(program))(jax.tree.map(jnp.float32, program.machine)).facts()
    elasticity = {path: float(slope[path].value) * program.machine.facts()[path].value for path in FACTS_OF_TIME[:2]}
    assert all(np.isfinite(float(f.value)) for f in slope.values())
    assert max(elasticity.values()) <= 0 < slope["launch.program_load_s"].value
    memory_bound = request.node.callspec.params["program"] == "memory-bound"
    assert (elasticity["hbm.bandwidth_bytes_per_s"] < elasticity["clock_hz"]) == memory_bound
