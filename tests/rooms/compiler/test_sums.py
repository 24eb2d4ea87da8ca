"""What a kernel adds up turn by turn: the bits of whole operands, the counts, the times, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.base.errors import ArgumentError, CapacityError
from rdujax.compiler import timeline
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.axes import streamable
from rdujax.compiler.program import Program
from rdujax.estimate.pipeline import estimated_cycles, phases_of
from rdujax.graph.legality import check
from rdujax.graph.plan import PlannedKernel, Tiling
from tests.oracles.harness import in_full
from tests.oracles.test_kernels_simpy import agree
from tests.rooms.compiler.kernels import nests, tilings
from tests.rooms.compiler.samples import assert_same, small

ROWS = 36  # no multiple of a power of two above four: last tiles are ragged


def weights_gradient(x, dy, w):
    """Both gradients of a layer: one along the rows, one summed over them and rounded behind."""
    h = jnp.tanh(x)
    dw = lax.dot_general(h, dy, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return (dy @ w.T) * (1 - h * h), dw.astype(jnp.bfloat16)


def rounded_sum(x, dy, w):
    """A sum that is rounded to BF16 as it is written, with a transpose and an update rule behind it."""
    dw = x.T @ dy
    return jnp.exp(x), w - dw * 0.5


def attention_gradient(q, k, v, do):
    """Rows of queries are streamed; the gradients of keys and values are summed over them."""
    p = jax.nn.softmax((q @ k.T).astype(jnp.float32), axis=-1).astype(jnp.bfloat16)
    dp = do @ v.T
    ds = p * (dp - jnp.sum(p.astype(jnp.float32) * dp.astype(jnp.float32), -1, keepdims=True).astype(jnp.bfloat16))
    return ds @ k, ds.T @ q, p.T @ do


def integers(x, dy, w):
    """Wrapping sums."""
    return x * 3, lax.dot_general(x, dy, (((0,), (0,)), ((), ())), preferred_element_type=jnp.int32) + w


def deep(x, w, u):
    """K of a product streamed: what makes its rows is made turn by turn."""
    return jnp.tanh(jnp.exp(x) @ w) @ u


CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, int], ...], Any]] = {
    "weights": (weights_gradient, ((ROWS, 6), (ROWS, 5), (6, 5)), jnp.bfloat16),
    "rounded": (rounded_sum, ((ROWS, 6), (ROWS, 5), (6, 5)), jnp.bfloat16),
    "attention": (attention_gradient, ((ROWS, 4), (7, 4), (7, 3), (ROWS, 3)), jnp.bfloat16),
    "integers": (integers, ((ROWS, 6), (ROWS, 5), (6, 5)), jnp.int32),
    "deep": (deep, ((3, ROWS), (ROWS, 6), (6, 5)), jnp.bfloat16),
    "fp32": (rounded_sum, ((ROWS, 6), (ROWS, 5), (6, 5)), jnp.float32),
}


def arguments(name: str) -> list[jax.Array]:
    _, shapes, dtype = CASES[name]
    keys = jax.random.split(jax.random.key(7), len(shapes))
    if dtype is jnp.int32:
        return [jax.random.randint(k, s, -(2**31), 2**31 - 1, jnp.int32) for k, s in zip(keys, shapes, strict=True)]
    return [jax.random.normal(k, s, jnp.float32).astype(dtype) for k, s in zip(keys, shapes, strict=True)]


def adding(program: Program) -> list[PlannedKernel]:
    """The program's kernel in all tilings that add up along its rows and fit."""
    return adding_of(program, ROWS)


def adding_of(program: Program, rows: int) -> list[PlannedKernel]:
    """The same along an axis of another length."""
    (planned,), graph = program.plan.kernels, program.graph
    to = Allocator(graph, program.machine, program.plan.tiers)
    found = []
    for bare in nests(planned.kernel, streamable(graph, planned.kernel), program.machine):
        wanted = bare.sums and bare.loops[0].length == rows
        for tiling in tilings(graph, planned.kernel, bare, program.machine) if wanted else ():
            try:
                found.append(to.allocate(planned.kernel, tiling, planned.wide))
            except CapacityError:
                continue
    return found


def compiled(name: str, **choices: Any) -> Program:
    machine = rdu.machines.sn40l().replace({"pcu.systolic_rows": 4, "pcu.systolic_columns": 2})
    fn, _, _ = CASES[name]
    return rdu.compile(fn, *arguments(name), machine=machine, fusion=rdu.cut_after(), **choices)


def with_kernel(program: Program, planned: PlannedKernel) -> Program:
    return replace(program, plan=replace(program.plan, steps=(planned,)))


@pytest.mark.parametrize("name", ["attention", *in_full("weights", "rounded", "integers", "deep", "fp32")])
def test_added_up_turn_by_turn_has_the_bits_of_the_whole_and_counts_what_is_predicted(name: str):
    program, args = compiled(name), arguments(name)
    want = program.replace(fusion="primitives")(*args)
    kernels = adding(program)
    assert {k.tiling.loops[0].trips > 1 for k in kernels} == {True} and len(kernels) >= 3
    tiles = {k.tiling.loops[0].tile: k for k in kernels}
    tiles = {n: k for n, k in tiles.items() if name != "attention" or n in (8, 16)}  # all of them where there is time
    for planned in tiles.values():
        tiled = with_kernel(program, planned)
        check(tiled.plan)
        for executor in ("whole", "vmap", "scan"):
            assert_same(tiled.execute(*args, executor=executor), want, f"{name}, {executor}, {planned.tiling.loops}")
        assert tiled.tally(*args) == tiled.predicted_counts()


def test_what_sums_are_kept_wide_is_rounded_behind():
    """With stage buffers in FP32, what is rounded to BF16 in the end is what is rounded of whole operands."""
    program, args = compiled("rounded", stage_buffer_format="fp32"), arguments("rounded")
    want = program(*args)
    for planned in adding(program):
        assert_same(with_kernel(program, planned).execute(*args, executor="scan"), want, str(planned.tiling.loops))


@pytest.mark.parametrize("name", CASES)
def test_time_is_that_of_a_simulation_and_adds_up(name: str):
    program = compiled(name)
    for planned in adding(program):
        agree(program.graph, planned, program.machine)
        tiled = with_kernel(program, planned)
        (cost,) = tiled.cost().kernels
        assert estimated_cycles(program.graph, planned, program.machine) <= cost.cost.cycles
        assert sum(cost.critical.values()) == cost.cost.cycles
        drawn = timeline._kernel(program.graph, planned, program.machine, {}, 0, None)
        assert drawn.cycles == cost.cost.cycles == max(int(t.finish_cycles.max()) for t in drawn.tracks if t.turns.size)
        (row,) = tiled.report().data["kernels"]
        for stage, track in zip(
            sorted(row["stages"], key=lambda r: r["label"]), sorted(drawn.tracks, key=lambda t: t.name), strict=True
        ):
            assert stage["busy"] * cost.cost.cycles == pytest.approx((track.finish_cycles - track.start_cycles).sum())


def test_stores_of_sums_come_behind_the_last_turn():
    program = compiled("weights")
    planned = max(adding(program), key=lambda k: k.tiling.turns)
    assert len(planned.tiling.sums) == len(planned.tiling.late) == 1  # FP32 sums, and their rounding
    tracks = {t.name: t for t in timeline._kernel(program.graph, planned, program.machine, {}, 0, None).tracks}
    labels = {s.result: s.label for s in planned.kernel.stages}
    ends = tracks[labels[min(planned.tiling.sums)]].finish_cycles
    rounding = tracks[labels[min(planned.tiling.late)]]
    assert len(ends) == planned.tiling.turns and len(rounding.turns) == 1
    assert rounding.start_cycles[0] >= max(ends)
    buffers = {b.value: b for b in planned.buffers}
    kept = buffers[min(planned.tiling.sums)]
    assert (kept.depth, kept.tile_bytes, kept.fmt.name) == (1, 6 * 5 * 4, "fp32")
    report = str(with_kernel(program, planned).report())
    assert ", added up" in report and ", once behind all turns" in report


def test_rows_that_do_not_fit_are_summed_over_in_turns():
    """A gradient of weights joins the kernel that makes what it sums, where the rows of all of it do not fit."""
    fn, _, _ = CASES["weights"]
    args = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((4096, 32), (4096, 16), (32, 16))]
    program = rdu.compile(fn, *args, machine=rdu.machines.sn40l().replace({"pmu.count": 24}))
    (planned,) = program.plan.kernels
    assert planned.tiling.sums and planned.tiling.turns > 1
    apart = program.replace(fusion=rdu.cut_after("mul#2", "gemm#2"))
    assert program.cost().moved_bytes() < apart.cost().moved_bytes()


def test_split_sums_are_not_added_up_in_turns():
    program = compiled("deep", k_splits={"gemm": 2})
    ways = streamable(program.graph, program.plan.kernels[0].kernel)
    assert ways and not any(way.sums for way in ways if way.length == ROWS)


def test_a_plan_that_reads_sums_too_early_or_sums_other_parts_is_refused():
    program = compiled("weights")
    planned = adding(program)[0]
    tiling: Tiling = planned.tiling
    breaks = {
        "what reads sums before they are complete": replace(
            tiling, sums=tiling.sums | {planned.kernel.stages[0].result}
        ),
        "results that a loop does not walk": replace(tiling, sums=frozenset(), late=frozenset()),
        "sums over the turns of more or less than one loop": replace(tiling, loops=tiling.loops * 2),
        "results that are made in two ways": replace(tiling, resident=tiling.resident | tiling.sums),
        "what is made once, of what walks": replace(
            tiling, sums=frozenset(), late=tiling.sums | tiling.late
        ),
    }  # fmt: skip
    for message, broken in breaks.items():
        with pytest.raises(ArgumentError, match=message):
            check(replace(program.plan, steps=(replace(planned, tiling=broken),)))


def test_the_gradient_of_a_price_knows_what_comes_behind():
    """Slower memory makes the stores behind the last turn longer, too."""
    program = compiled("weights")
    program = with_kernel(program, max(adding(program), key=lambda k: k.tiling.turns))
    exact = float(program.cost().total_s)
    slope = jax.grad(lambda m: program.cost(m).total_s)(program.machine.relaxed()).hbm.bandwidth_bytes_per_s.value
    assert slope < 0
    np.testing.assert_allclose(float(program.cost(program.machine.relaxed()).total_s), exact, rtol=0.05)


def test_small_machines_sum_too():
    args = arguments("weights")
    fn, _, _ = CASES["weights"]
    program = rdu.compile(fn, *args, machine=small())
    assert_same(program(*args), program.replace(fusion="none")(*args), "small")


def test_what_turns_overwrite_is_not_written_behind_them():
    """Of two updates of one array the later one wins; here its rows are streamed, and those before are sums."""

    def fn(buffer, x, y):
        first = lax.dynamic_update_slice(buffer, x.T @ y, (0, 0))
        return lax.dynamic_update_slice(first, jnp.tanh(x), (0, 0))

    shapes = ((4096, 128), (2048, 128), (2048, 128))
    structs = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    for fusion in ("streaming", rdu.cut_after()):
        program = rdu.compile(fn, *structs, donate_argnums=0, fusion=fusion)
        for planned in program.plan.kernels:
            written = {w.value for w in planned.kernel.writes if planned.tiling.is_late(w)}
            turning = [w for w in planned.kernel.writes if not planned.tiling.is_late(w)]
            assert not any(w.update is not None and w.update.over in written for w in turning)
    (planned,) = program.plan.kernels
    assert not planned.tiling.sums


def test_exchanges_behind_the_last_turn_take_turns_on_the_links():
    """Two sums over sockets of gradients, one before and one behind a sum of rows that are streamed."""
    mesh = rdu.node(4)
    spec = jax.sharding.PartitionSpec()

    def one_socket(x, y):
        first = lax.psum(x.T @ y, "sockets")
        rows = lax.psum(jnp.tanh(x), "sockets")
        return first, rows, lax.psum(rows.T @ y, "sockets")

    fn = jax.shard_map(one_socket, mesh=mesh, in_specs=(spec, spec), out_specs=(spec,) * 3, check_vma=False)
    structs = [jax.ShapeDtypeStruct((4096, 64), jnp.bfloat16)] * 2
    program = rdu.compile(fn, *structs, fusion=rdu.cut_after())
    for planned in adding_of(program, 4096):
        (_, behind) = phases_of(program.graph, planned, program.machine)
        linked = [s.label for s in planned.kernel.stages if s.op.group > 1 and s.result in planned.tiling.late]
        assert len(linked) == 2
        assert [(e.producer, e.consumer) for e in behind.pipeline.edges if e.consumer == linked[1]] == [tuple(linked)]


def test_sums_of_a_turn_come_back_before_it():
    """A column per cycle, once a turn, for the arrays begin with what the turn before left."""
    program = compiled("weights")
    planned = max(adding(program), key=lambda k: k.tiling.turns)
    at = next(i for i, s in enumerate(planned.kernel.stages) if s.result in planned.tiling.sums)
    stage, share = planned.kernel.stages[at], planned.shares[at]
    turning = phases_of(program.graph, planned, program.machine)[0].pipeline
    own = stage.op.cycles(program.machine, share, *planned.turn(program.graph, stage))
    columns = program.machine.pcu.systolic_columns.value
    assert turning.stages[turning.index[stage.label]].service_cycles == own + columns
