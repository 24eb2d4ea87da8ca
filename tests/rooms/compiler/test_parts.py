"""Parts of what rests in memory: loaded by themselves where that moves fewer bytes, with the same bits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.estimate.pipeline import estimated_cycles, pipeline_of
from rdujax.graph.kernel import Fetch, Read
from rdujax.graph.legality import check
from rdujax.ledger.makespan import makespan_cycles
from rdujax.ledger.timetable import schedule
from tests.rooms.compiler.kernels import without_sums

KEYS = jax.random.split(jax.random.key(3), 4)
STACK = jax.random.normal(KEYS[0], (6, 16, 24), jnp.bfloat16)
TABLE = jax.random.normal(KEYS[1], (200, 24), jnp.bfloat16)
ROWS = jax.random.randint(KEYS[2], (10,), -3, 210)
X = jax.random.normal(KEYS[3], (10, 16), jnp.bfloat16)
PLACE = jnp.int32(4)


def kernels(program):
    return [k.kernel for k in program.plan.kernels]


def wide(x):
    return np.asarray(x.astype(jnp.float32))


def assert_same_bits(x, y):
    assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


def read_bytes(fn, *args, **choices) -> int:
    """What one kernel on the tiny machine reads of memory; the bits and counts are checked on the way."""
    program = rdu.compile(fn, *args, machine="tiny", fusion=rdu.cut_after(), **choices)
    result, plain = program(*args), jax.jit(fn)(*args)
    others = [program.execute(*args, executor=executor) for executor in ("vmap", "scan")]
    for other in (*others, program.replace(fusion="primitives")(*args)):
        jax.tree.map(assert_same_bits, other, result)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(wide(a), wide(b), rtol=0.02, atol=0.02), result, plain)
    counts = program.tally(*args)
    assert counts == program.predicted_counts()
    assert (
        counts["hbm.read_bytes"]
        == program.cost().cost.read_bytes["hbm"]
        == counts["agcu.moved_bytes"]
        - sum(s.total_bytes for k in program.plan.kernels for s in k.streams if s.is_store)
    )
    return counts["hbm.read_bytes"]


def test_a_slice_of_a_stacked_array_is_loaded_alone():
    assert read_bytes(lambda w, x: x @ w[3], STACK, X) == 2 * (16 * 24 + 10 * 16)
    assert read_bytes(lambda w, x: x @ w[3] + x @ w[5], STACK, X) == 2 * (2 * 16 * 24 + 10 * 16)
    # A slice of a slice, through views.
    assert read_bytes(lambda w, x: x @ w[3].reshape(2, 8, 24)[:, :, :7].reshape(16, 7), STACK, X) == 2 * (16 * 7 + 160)


def test_what_is_needed_whole_is_loaded_once():
    assert read_bytes(lambda w, x: (x @ w[3], w * 2), STACK, X) == 2 * (STACK.size + X.size)
    assert read_bytes(lambda x: x[:, :8] + x[:, 8:], X) == 2 * X.size  # both halves are all of it
    assert read_bytes(lambda x: x[1:] * x[:-1], X) == 2 * X.size  # together more than all of it


def test_a_slice_of_a_result_is_a_read_pattern_as_before():
    program = rdu.compile(lambda x: jnp.tanh(x * 2)[:, :4] * 3, X, machine="tiny")
    [kernel] = kernels(program)
    assert kernel.fetches == ()


def test_a_slice_at_a_computed_place_is_loaded_alone():
    def fn(w, x, i):
        return x @ lax.dynamic_index_in_dim(w, i * 2 - 5, 0, keepdims=False)

    # The place is an int32; 16 x 24 BF16 are more than a request of 16 bytes, and charged their own bytes.
    assert read_bytes(fn, STACK, X, PLACE) == 2 * (16 * 24 + 10 * 16) + 4


@pytest.mark.parametrize("mode", ["clip", "fill", "promise_in_bounds"])
def test_rows_that_are_looked_up_are_loaded_alone(mode):
    rows = jnp.clip(ROWS, 0, 199) if mode == "promise_in_bounds" else ROWS
    found = read_bytes(lambda table, rows: table.at[rows].get(mode=mode), TABLE, rows)
    assert found == 10 * 2 * 24 + 10 * 4


def test_a_row_is_looked_up_where_another_look_up_says():
    def fn(table, first, rows):
        return table[first[rows]]

    first = jnp.arange(500, dtype=jnp.int32) % 150
    # Numbers of 4 bytes are charged granules of 8.
    assert read_bytes(fn, TABLE, first, jnp.arange(10, dtype=jnp.int32)) == 10 * 48 + 10 * 8 + 10 * 4


def test_small_slices_are_charged_granules_and_a_table_is_loaded_where_that_is_less():
    numbers = jnp.arange(300, dtype=jnp.float32)
    few, many = jnp.arange(20, dtype=jnp.int32), jnp.arange(150, dtype=jnp.int32)
    assert read_bytes(lambda t, i: t[i] * 2, numbers, few) == 20 * 8 + 20 * 4
    assert read_bytes(lambda t, i: t[i] * 2, numbers, many) == 300 * 4 + 150 * 4  # 150 granules are 1,200 bytes


def test_a_batch_of_look_ups_and_scattered_offsets():
    def fn(tables, rows):
        return jax.vmap(lambda t, r: t[r, 2:6])(tables, rows)

    tables = jax.random.normal(KEYS[0], (3, 40, 24), jnp.float32)
    rows = jnp.array([[1, 39, 7, 7], [0, 3, 2, 1], [9, 8, 7, 6]], jnp.int32)
    # 12 slices of 16 bytes, the numbers of the rows, and the constant that says where the columns begin.
    assert read_bytes(fn, tables, rows) == 12 * 16 + 12 * 4 + 4


def streamed():
    """Look-ups in a kernel of several turns, whose places are computed in the turn before the load of the same turn."""
    rows = jax.random.randint(KEYS[2], (256,), 0, 900)
    table = jax.random.normal(KEYS[1], (1000, 24), jnp.bfloat16)
    w = jax.random.normal(KEYS[0], (24, 24), jnp.bfloat16)

    def fn(table, rows, w):
        return jnp.take(table, rows + 7, axis=0, mode="clip") @ w

    return fn, (table, rows, w)


def test_places_walk_with_the_tiles_of_what_they_find():
    fn, args = streamed()
    program = rdu.compile(fn, *args, machine="tiny", fusion=rdu.cut_after())
    small = program.replace(machine=rdu.machines.tiny().replace({"pmu.capacity_bytes": 2048}))
    [planned] = small.plan.kernels
    assert planned.tiling.turns > 1 and len(planned.kernel.fetches) == 1
    [fetch] = planned.kernel.fetches
    walked = {value for loop in planned.tiling.loops for value, _ in loop.members}
    assert {fetch.value, *(place.value for place in fetch.places)} <= walked
    for executor in ("vmap", "scan"):
        np.testing.assert_array_equal(small.execute(*args, executor=executor), program(*args))
    assert small.tally(*args) == small.predicted_counts()
    timeline = small.timeline()
    assert " of table" in str(timeline) and " of table" in str(small.report())


def test_a_load_waits_for_its_places():
    fn, args = streamed()
    program = rdu.compile(fn, *args, machine="sn40l", fusion=rdu.cut_after())
    [planned] = program.plan.kernels
    times = schedule(pipeline_of(program.graph, planned, program.machine), planned.tiling.turns)
    [fetch] = planned.kernel.fetches
    load = planned.kernel.stream_label(program.graph, fetch.value, False)
    [add] = [s.label for s in planned.kernel.stages if s.result == fetch.places[0].value]
    assert times.start[load][0] >= times.finish[add][0] > 0


@pytest.mark.parametrize("tiers", [{"w": "ddr", "table": "ddr"}, {"rows": "ddr"}, {"w": "ddr"}, {}], ids=str)
def test_places_may_rest_in_another_tier_than_what_they_find(tiers):
    """Loads slice by slice within one turn, in which each tier has its own order: the price is that of the pipeline."""
    numbers = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))

    def fn(x, w, table, rows, v):
        return (jnp.tanh(x @ w) + lax.gather(table, rows, numbers, (1, 8192), mode="clip")) @ v

    shapes = ((256, 4096), (4096, 8192), (5000, 8192), (8192, 4096))
    x, w, table, v = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes)
    rows = jax.ShapeDtypeStruct((256, 1), jnp.int32)
    program = rdu.compile(fn, x, w, table, rows, v, machine="sn40l", fusion=rdu.cut_after(), tiers=tiers)
    [planned] = without_sums(program).plan.kernels
    [fetch] = planned.kernel.fetches
    assert planned.tiling.in_turn and fetch.places[0].value in planned.kernel.loads
    exact = makespan_cycles(pipeline_of(program.graph, planned, program.machine), 1)
    assert estimated_cycles(program.graph, planned, program.machine) == exact


def test_the_gradient_of_rows_is_that_of_the_table():
    def loss(table, rows):
        return jnp.sum(jnp.take(table, rows, axis=0, mode="clip").astype(jnp.float32) ** 2)

    program = rdu.compile(loss, TABLE, ROWS, machine="tiny")
    assert any(kernel.fetches for kernel in kernels(program))
    got, want = jax.grad(program.__call__)(TABLE, ROWS), jax.grad(loss)(TABLE, ROWS)
    np.testing.assert_allclose(got.astype(jnp.float32), want.astype(jnp.float32), rtol=0.02, atol=0.02)


def test_equal_layers_that_look_up_are_planned_once_and_say_their_own_loads():
    def fn(stack, x):
        for layer in range(6):
            x = jnp.tanh(x @ stack[layer])
        return x

    stack = jax.random.normal(KEYS[0], (8, 64, 64), jnp.bfloat16)
    x = jax.random.normal(KEYS[1], (4, 64), jnp.bfloat16)
    program = rdu.compile(fn, stack, x, machine="tiny", fusion="none")
    loads = [kernel.fetches[0].read.chain[0].start[0] for kernel in kernels(program) if kernel.fetches]
    assert loads == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(program(stack, x), program.replace(fusion="streaming")(stack, x))


def broken(planned, **changes):
    return replace(planned, kernel=replace(planned.kernel, **changes))


def test_a_plan_that_looks_up_what_is_not_there_is_refused():
    fn, args = streamed()
    program = rdu.compile(fn, *args, machine="tiny", fusion=rdu.cut_after())
    [planned] = program.plan.kernels
    [fetch] = planned.kernel.fetches
    wrong = {
        "loads that are not in memory": replace(fetch, read=Read(fetch.places[0].value)),
        "whose place nothing says": replace(fetch, places=(Read(10**6),)),
        "a part of another type": replace(fetch, op=None, places=()),
    }
    check(program.plan)
    for problem, other in wrong.items():
        assert isinstance(other, Fetch)
        with pytest.raises(rdu.ArgumentError, match=problem):
            check(replace(program.plan, steps=(broken(planned, fetches=(other,)),)))
