"""Results that are the same in every turn of a kernel: made once, kept on chip, and priced so."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import rdujax as rdu
from rdujax.base.errors import ArgumentError
from rdujax.estimate.pipeline import pipeline_of
from rdujax.graph.legality import check
from rdujax.graph.plan import PlannedKernel
from tests.rooms.compiler.samples import assert_same


def scaled_product(x: jax.Array, scale: jax.Array, w: jax.Array) -> jax.Array:
    """A norm's weight is widened and shifted, which no row of x has a part in."""
    return jnp.tanh(x * (1.0 + scale.astype(jnp.float32))[None, :]) @ w


@pytest.fixture
def args(rng) -> tuple[jax.Array, ...]:
    x, scale, w = (rng.standard_normal(shape).astype("float32") for shape in ((96, 32), (32,), (32, 16)))
    return jnp.asarray(x), jnp.asarray(scale, jnp.bfloat16), jnp.asarray(w)


def planned(program: rdu.Program) -> tuple[PlannedKernel, int]:
    """The one kernel, cut into turns, and the result that is made once in it."""
    (kernel,) = program.plan.kernels
    (once,) = kernel.tiling.resident & {stage.result for stage in kernel.kernel.stages}
    assert kernel.tiling.turns > 1
    return kernel, once


def test_bits_and_counts_are_those_of_whole_tensors(args):
    program = rdu.compile(scaled_product, *args, machine="tiny", fusion=rdu.cut_after())
    kernel, once = planned(program)
    assert kernel.tiling.whole_tile(once, (32,)) == (32,)
    want = program(*args)
    for executor in ("scan", "vmap"):
        assert_same(program.execute(*args, executor=executor), want)
    assert_same(program.replace(fusion="none")(*args), want)
    assert program.tally(*args) == program.predicted_counts()


def test_it_takes_its_time_in_the_first_turn_and_none_later(args):
    program = rdu.compile(scaled_product, *args, machine="tiny", fusion=rdu.cut_after())
    kernel, once = planned(program)
    label = next(stage.label for stage in kernel.kernel.stages if stage.result == once)
    stage = next(s for s in pipeline_of(program.graph, kernel, program.machine).stages if s.name == label)
    assert stage.service_cycles == 0 < stage.first_cycles
    assert "made once" in str(program.passes()) and program.floorplan().cycles == program.cost().cycles


def test_what_sockets_sum_once_is_on_its_way_once(rng):
    mesh = AbstractMesh((2,), ("s",), axis_types=(AxisType.Auto,))
    fn = jax.shard_map(
        lambda x, scale: jnp.tanh(x * jax.lax.psum(scale, "s")[None]), mesh=mesh, in_specs=(P(), P("s")), out_specs=P()
    )
    x, scale = jnp.asarray(rng.standard_normal((2048, 32)), jnp.float32), jnp.ones(64, jnp.float32)
    program = rdu.compile(fn, x, scale, machine="tiny", fusion=rdu.cut_after())
    kernel, _ = planned(program)
    stages = {stage.name: stage for stage in pipeline_of(program.graph, kernel, program.machine).stages}
    for name in ("all_reduce", "all_reduce arriving"):
        assert stages[name].service_cycles == 0 < stages[name].first_cycles
    assert program.tally(x, scale) == program.predicted_counts()


def test_a_plan_in_which_it_reads_what_walks_is_refused(args):
    program = rdu.compile(scaled_product, *args, machine="tiny", fusion=rdu.cut_after())
    kernel, once = planned(program)
    walking = kernel.kernel.stages[-1].result
    wrong = replace(kernel.tiling, resident=kernel.tiling.resident | {walking})
    with pytest.raises(ArgumentError, match="results kept on chip that walk along a loop"):
        check(replace(program.plan, steps=(replace(kernel, tiling=wrong),)))
    lost = replace(kernel.tiling, resident=kernel.tiling.resident - {once})
    with pytest.raises(ArgumentError, match="results that a loop does not walk"):
        check(replace(program.plan, steps=(replace(kernel, tiling=lost),)))
