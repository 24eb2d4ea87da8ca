"""Every plan keeps the grammar of plans, and each way to break it is refused by name."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.graph.kernel import Read
from rdujax.graph.legality import check
from rdujax.graph.plan import Loop, Plan, PlannedKernel, PlannedRegion
from rdujax.streams.access import Reshape
from tests.rooms.compiler.samples import monarch, random_sample, samples, small

SAMPLES = [*samples(), *(random_sample(seed) for seed in range(8))]
FUSIONS = ("streaming", "none", "primitives", rdu.cut_after())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name.partition(":")[0])
def test_every_plan_keeps_the_grammar(sample):
    machine = rdu.machines.tiny().replace({"pmu.count": 4096, "pcu.count": 256, "agcu.count": 64})
    program = rdu.compile(sample.fn, *sample.args, machine=machine)
    plans = [program.replace(fusion=fusion).plan for fusion in FUSIONS]
    plans.append(program.replace(machine=small(), stage_buffer_format="fp32").plan)
    for plan in plans:
        check(plan)
    assert 1 == len(plans[3].kernels) <= len(plans[1].kernels) <= len(plans[2].kernels)


PLAN = rdu.compile(monarch, *samples()[0].args, machine=small(), fusion=rdu.cut_after("mul")).plan
FIRST, SECOND = PLAN.kernels


def first(**changes) -> Plan:
    """The plan with another first kernel."""
    return replace(PLAN, steps=(replace(FIRST, **changes), SECOND))


def kernel(**changes) -> Plan:
    """The plan with other stages, loads or writes in its first kernel."""
    return first(kernel=replace(FIRST.kernel, **changes))


def stage(**changes) -> Plan:
    """The plan with another last stage in its first kernel."""
    *before, last = FIRST.kernel.stages
    return kernel(stages=(*before, replace(last, **changes)))


def tiling(*loops: Loop, resident: frozenset[int] = frozenset()) -> Plan:
    """The plan with another nest in its first kernel."""
    return first(tiling=replace(FIRST.tiling, loops=loops, resident=resident))


LOOP = FIRST.tiling.loops[0]
GEMM, MUL = FIRST.kernel.stages
CHAINED = replace(MUL.reads[0], chain=(Reshape((20, 42)), Reshape((42, 20))))
X, W0 = GEMM.reads[1].value, GEMM.reads[0].value

BROKEN: dict[str, tuple[str, Callable[[], Plan]]] = {
    "kernels in another order": ("loads that are not in memory", lambda: replace(PLAN, steps=(SECOND, FIRST))),
    "a kernel left out": ("loads that are not in memory", lambda: replace(PLAN, steps=(SECOND,))),
    "the last kernel left out": ("outputs that no step leaves", lambda: replace(PLAN, steps=(FIRST,))),
    "a kernel twice": ("not computed once", lambda: replace(PLAN, steps=(FIRST, FIRST, SECOND))),
    "no tier": ("units for other", lambda: replace(PLAN, tiers={v: t for v, t in PLAN.tiers.items() if v != X})),
    "too many tiers": ("without a tier", lambda: replace(PLAN, tiers=PLAN.tiers | {GEMM.result: "hbm"})),
    "a tier unknown": ("tiers that do not exist", lambda: replace(PLAN, tiers=PLAN.tiers | {X: "tape"})),
    "no load": ("reads of what is not there", lambda: kernel(loads=FIRST.kernel.loads[1:])),
    "no stage": ("reads of what is not there", lambda: kernel(stages=(MUL,))),
    "stages in another order": ("reads of what is not there", lambda: kernel(stages=(MUL, GEMM))),
    "another type": ("a stage of another type", lambda: stage(result=W0)),
    "a stage twice": ("a second one of its result", lambda: kernel(stages=(GEMM, GEMM, MUL))),
    "a write of nothing": (
        "writes of what is not there",
        lambda: kernel(writes=(replace(FIRST.kernel.writes[0], read=Read(9999)),)),
    ),
    "a write of another type": (
        "a write of another type",
        lambda: kernel(writes=(replace(FIRST.kernel.writes[0], read=Read(MUL.result, (Reshape((20, 42)),))),)),
    ),
    "a loop of another length": ("axes that are not", lambda: tiling(replace(LOOP, length=LOOP.length + 1))),
    "no tiles": ("in no tiles", lambda: tiling(replace(LOOP, tile=0))),
    "tiles too large": ("in no tiles", lambda: tiling(replace(LOOP, tile=LOOP.length + 1))),
    "a result not walked": (
        "results that a loop does not walk",
        lambda: tiling(replace(LOOP, members=frozenset(m for m in LOOP.members if m[0] != MUL.result))),
    ),
    "an axis walked twice": ("axes that two loops walk", lambda: tiling(LOOP, LOOP)),
    "a pattern that mixes turns": (
        "a read across turns(.|\n)*made in the kernel",
        lambda: stage(reads=(CHAINED, *MUL.reads[1:])),
    ),
    "a write that mixes turns": (
        "a read across turns(.|\n)*made in the kernel",
        lambda: kernel(writes=(replace(FIRST.kernel.writes[0], read=replace(CHAINED, value=MUL.result)),)),
    ),
    "kept, but made anew in every turn": (
        "kept on chip that walk along a loop",
        lambda: tiling(LOOP, resident=frozenset({MUL.result})),
    ),
    "a share too few": ("units for other stages", lambda: first(shares=FIRST.shares[:-1])),
    "a buffer too few": ("units for other stages", lambda: first(buffers=FIRST.buffers[1:])),
    "a stream of another tier": (
        "units for other stages",
        lambda: first(streams=tuple(replace(s, tier="ddr") for s in FIRST.streams)),
    ),
    "a stream of another value": ("units for other stages", lambda: first(streams=FIRST.streams[::-1])),
    "a load kept wide": ("values kept wide", lambda: first(wide=frozenset({X}))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_break_of_the_grammar_is_refused(name: str):
    message, make = BROKEN[name]
    check(PLAN)
    with pytest.raises(rdu.ArgumentError, match=message):
        check(make())


def test_what_a_product_sums_over_is_not_cut():
    """A nest along the rows of both square operands; the second is summed over along them."""
    kinds = [jax.ShapeDtypeStruct((16, 16), jnp.float32)] * 2
    plan = rdu.compile(lambda x, w: jnp.tanh(x @ w), *kinds, machine=small(), fusion=rdu.cut_after()).plan
    (planned,) = plan.steps
    (loop,) = planned.tiling.loops
    other = next(v for v in planned.kernel.loads if v not in dict(loop.members))
    for axis in (0, 1):
        wrong = replace(loop, members=loop.members | {(other, axis)})
        with pytest.raises(rdu.ArgumentError, match=f"a read across turns(.|\n)*loaded, cut along axis {axis}"):
            check(replace(plan, steps=(replace(planned, tiling=replace(planned.tiling, loops=(wrong,))),)))


def test_slices_are_of_one_stage_and_one_load():
    """Columns of weights that stream slice by slice into the product they are made for, and nothing else."""
    kinds = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((4, 16), (16, 64))]
    plan = rdu.compile(lambda x, w: jnp.tanh(x @ w), *kinds, machine="tiny", fusion=rdu.cut_after()).plan
    (planned,) = plan.steps
    (loop,) = planned.tiling.inner
    gemm, tanh = (each.result for each in planned.kernel.stages)
    x, w = planned.kernel.loads
    assert loop.members == {(gemm, 1), (w, 1)}
    check(plan)
    broken = {
        "not of one stage and one load": [
            {(gemm, 1), (w, 1), (tanh, 1)}, {(gemm, 1), (tanh, 1)}, {(x, 0), (w, 1)}, {(gemm, 1)}, {(w, 1)},
        ],
        "axes that are not 64 long": [{(gemm, 0), (w, 1)}, {(gemm, 1), (w, 0)}],
    }  # fmt: skip
    for message, nests in broken.items():
        for members in nests:
            wrong = replace(planned.tiling, inner=(replace(loop, members=frozenset(members)),))
            with pytest.raises(rdu.ArgumentError, match=message):
                check(replace(plan, steps=(replace(planned, tiling=wrong),)))


def test_slices_are_not_cut_along_what_a_product_sums_over():
    square = [jax.ShapeDtypeStruct((64, 64), jnp.bfloat16)] * 2
    plan = rdu.compile(lambda x, w: jnp.tanh(x @ w), *square, machine="sn40l", fusion=rdu.cut_after()).plan
    (planned,) = plan.steps
    gemm, w = planned.kernel.stages[0].result, planned.kernel.loads[1]
    for members, legal in (({(gemm, 1), (w, 1)}, True), ({(gemm, 1), (w, 0)}, False), ({(gemm, 0), (w, 1)}, False)):
        tiling = replace(planned.tiling, loops=(), inner=(Loop(64, 16, frozenset(members)),))
        sliced = replace(plan, steps=(replace(planned, tiling=tiling),))
        if legal:
            check(sliced)
            continue
        with pytest.raises(rdu.ArgumentError, match="a read across turns(.|\n)*loaded, cut along axis"):
            check(sliced)


def test_bodies_of_regions_are_checked():
    x = jnp.asarray(np.ones((4, 4)), jnp.float32)
    plan = rdu.compile(lambda x: lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=3)[0], x).plan
    (step,) = plan.steps
    assert isinstance(step, PlannedRegion)
    check(plan)
    (body,) = step.plans
    broken = replace(step, plans=(replace(body, steps=()),))
    with pytest.raises(rdu.ArgumentError, match="outputs that no step leaves"):
        check(replace(plan, steps=(broken,)))
    with pytest.raises(rdu.ArgumentError, match="plans are not those of its bodies"):
        check(replace(plan, steps=(replace(step, plans=()),)))
    with pytest.raises(rdu.ArgumentError, match="operands that are not in memory"):
        check(replace(plan, steps=(replace(step, node=replace(step.node, operands=(77,))),)))


def test_the_compiler_checks_what_it_made(monkeypatch: pytest.MonkeyPatch):
    """A pass that forgets a kernel is caught before anybody runs or prices the plan."""
    from rdujax.compiler import driver

    whole = driver._Planning.planned

    def forgetful(*args):
        plan = whole(*args)
        assert all(isinstance(step, PlannedKernel) for step in plan.steps)
        return replace(plan, steps=plan.steps[1:])

    monkeypatch.setattr(driver._Planning, "planned", forgetful)
    with pytest.raises(rdu.ArgumentError, match="loads that are not in memory"):
        rdu.compile(lambda x: jnp.tanh(x @ x) @ x, jax.ShapeDtypeStruct((8, 8), jnp.float32), fusion="primitives")
