"""Fused, unfused, cut by hand, whole, tile by tile: the same bits (laws L1 and L2), and the same counts (L3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from tests.rooms.compiler.samples import (
    Sample,
    assert_same,
    middle,
    mlp,
    monarch,
    random_sample,
    samples,
    small,
    turns,
)

IN_FULL = ("monarch_fp32", "heads", *(f"random{seed}" for seed in range(1, 16)))


def as_parameter(sample: Sample):
    """The sample under its name; some of them only in the full run."""
    name = sample.name.partition(":")[0]
    return pytest.param(sample, id=name, marks=pytest.mark.full if name in IN_FULL else ())


FIXED = [as_parameter(sample) for sample in samples()]
SAMPLES = [*FIXED, *(as_parameter(random_sample(seed)) for seed in range(16))]


def programs(sample: Sample, machine: rdu.machines.Machine) -> dict[str, rdu.Program]:
    """The sample under every fusion that fits the machine."""
    found = {"none": rdu.compile(sample.fn, *sample.args, machine=machine, fusion="none")}
    found["streaming"] = found["none"].replace(fusion="streaming")
    found["cut in the middle"] = found["none"].replace(fusion=middle(found["none"]))
    return found


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_fusion_gives_the_same_bits(sample: Sample):
    """Two machines, three fusions, the fused form also on one that holds everything at once."""
    roomy = rdu.machines.tiny().replace({"pmu.count": 4096, "pcu.count": 256, "agcu.count": 64})
    found = programs(sample, roomy)
    want = found.pop("none")(*sample.args)
    found["one kernel"] = next(iter(found.values())).replace(fusion=rdu.cut_after())
    for name, program in found.items():
        assert_same(program(*sample.args), want, name)


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_executor_gives_the_same_bits_and_the_predicted_counts(sample: Sample):
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    want = program(*sample.args)
    for executor in ("vmap", "scan"):  # the call above took "whole"
        run = jax.jit(lambda *xs, e=executor: program.execute(*xs, executor=e))
        assert_same(run(*sample.args), want, executor)
    predicted = program.predicted_counts()
    for executor in ("vmap", "scan"):
        assert program.tally(*sample.args, executor=executor) == predicted, executor


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_unfused_program_counts_as_predicted(sample: Sample):
    program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion="none")
    predicted = program.predicted_counts()
    assert program.tally(*sample.args) == predicted
    cost = program.cost().cost
    assert cost.read_bytes["hbm"] == predicted["hbm.read_bytes"] > 0
    assert cost.written_bytes["hbm"] == predicted["hbm.written_bytes"] > 0


@pytest.mark.parametrize("sample", samples(), ids=str)
def test_bytes_of_the_price_are_those_of_the_counts(sample: Sample):
    for fusion in ("none", "streaming"):
        for tier in ("hbm", "ddr"):
            program = rdu.compile(sample.fn, *sample.args, machine=small(), fusion=fusion, tier=tier)
            cost, counts = program.cost().cost, program.predicted_counts()
            assert cost.read_bytes[tier] == counts[f"{tier}.read_bytes"] > 0
            assert cost.written_bytes[tier] == counts[f"{tier}.written_bytes"] > 0
            assert program.cost().moved_bytes("host") == 0


def test_the_small_machine_forces_tiles():
    """Every sample, and three of four random programs (the rest have no axis that all results share)."""
    assert all(max(turns(rdu.compile(s.fn, *s.args, machine=small()).plan)) > 1 for s in samples())
    drawn = [random_sample(seed) for seed in range(8)]
    cut = [max(turns(rdu.compile(s.fn, *s.args, machine=small()).plan)) > 1 for s in drawn]
    assert sum(cut) >= 6


def test_eager_execution_gives_the_same_bits():
    """Operation by operation, without any jit of ours or of the library."""
    sample = samples()[4]
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    want = program(*sample.args)
    assert_same(program.execute(*sample.args, executor="scan"), want)
    with jax.disable_jit():
        assert_same(program(*sample.args), want)


def test_some_tiling_of_the_samples_is_ragged():
    tilings = [k.tiling for s in samples() for k in rdu.compile(s.fn, *s.args, machine=small()).plan.kernels]
    assert any(loop.length % loop.tile for tiling in tilings for loop in tiling.loops)


@pytest.mark.parametrize("sample", FIXED)
def test_transformations_give_the_same_bits(sample: Sample):
    """vmap, scan, jit of them, and arguments that became constants."""
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    want = program(*sample.args)
    stacked = jax.tree.map(lambda x: jnp.stack([x, jnp.zeros_like(x), x]), sample.args)
    batched = jax.jit(jax.vmap(lambda *xs: program(*xs)))(*stacked)
    looped = jax.jit(lambda xs: jax.lax.scan(lambda carry, x: (carry, program(*x)), 0, xs)[1])(stacked)
    for place in (0, 2):
        assert_same(jax.tree.map(lambda y, i=place: y[i], batched), want, "vmap")
        assert_same(jax.tree.map(lambda y, i=place: y[i], looped), want, "scan")
    first, *rest = sample.args
    closed = rdu.compile(lambda x: sample.fn(x, *rest), first, machine=small())
    assert len(closed.graph.constants) == len(rest)
    assert_same(closed(first), want, "constants")
    assert_same(jax.jit(lambda: program(*sample.args))(), want, "folded by XLA")


def test_a_pytree_goes_in_and_a_pytree_comes_out(rng: np.random.Generator):
    x = jnp.asarray(rng.standard_normal((4, 6)), jnp.float32)

    def fn(p: dict) -> dict:
        return {"y": p["a"] @ p["b"].T, "rest": (p["a"], 2.0 * p["b"], jnp.float32(3))}

    program = rdu.compile(fn, {"a": x, "b": 2 * x}, machine="tiny")
    assert_same(program({"a": x, "b": 2 * x})["rest"], (x, 4 * x, jnp.float32(3)))
    assert sorted(program.graph.labels[v] for v in program.graph.inputs) == ["p['a']", "p['b']"]


def test_denormals_and_nans_are_canonical_at_the_border():
    x = jnp.asarray(np.array([[0x80000001, 0x7F812345, 0xFFC00001, 0x3F800000]], np.uint32).view(np.float32))
    got = rdu.compile(lambda x: x * 1.0, x, machine="tiny")(x)
    assert np.asarray(got).view(np.uint32).tolist() == [[0x80000000, 0x7FC00000, 0x7FC00000, 0x3F800000]]


@pytest.mark.parametrize("fn", [monarch, mlp])
def test_shapes_alone_are_enough_to_compile(fn):
    sample = next(s for s in samples() if s.fn is fn)
    structs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in sample.args]
    program = rdu.compile(fn, *structs, machine=small())
    assert str(program) == str(rdu.compile(fn, *sample.args, machine=small()))
    assert_same(program(*sample.args), rdu.compile(fn, *sample.args, machine="sn40l")(*sample.args))
