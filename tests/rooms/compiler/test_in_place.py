"""Updates that take the place of their operand: what they write, what they may not overwrite, on flat bytes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import rdujax as rdu
from benchmarks.models import calls, decoder
from rdujax.graph.inplace import overwritten
from rdujax.graph.legality import check
from tests.rooms.compiler.flat_memory import Flat
from tests.rooms.compiler.samples import assert_same, draw

RNG = np.random.default_rng(11)
CACHE, NEW, PLACE = draw(RNG, 16, 8, 6), draw(RNG, 2, 8, 6), jnp.int32(5)
CACHES, NEWS = draw(RNG, 4, 16, 6), draw(RNG, 4, 1, 6)
ROWS = jnp.array([3, 11, 3, 15], jnp.int32)  # one of them twice


def put(cache, new, at):
    return lax.dynamic_update_slice(cache, new, (at, 0, 0))


def written(cache, new, at):
    """Only written."""
    return put(cache, jnp.tanh(new), at - 1)


def read(cache, new, at):
    """Written, and read whole in the same program."""
    cache = put(cache, jnp.tanh(new), at)
    return cache, jnp.sum(cache.astype(jnp.float32), axis=0)


def twice(cache, new, at):
    """Two updates of which the second covers a part of the first."""
    return put(put(cache, jnp.tanh(new), at), new * 2, at + 1)


def read_between(cache, new, at):
    """What is needed as it was is left alone: the second update writes elsewhere."""
    first = put(cache, new, at)
    return put(first, new * 2, at + 1), first * 3


def read_after(cache, new, at):
    """The argument is read again, after its update."""
    return put(cache, new, at), cache * 2


def returned(cache, new, at):
    """The argument is a result as well."""
    return put(cache, new, at), cache


def rows(cache, new, at):
    """Rows scattered, one of them twice: the last one stays."""
    return cache.at[ROWS].set(jnp.concatenate([new, jnp.tanh(new)]) + at.astype(cache.dtype))


def combined(cache, new, at):
    """A sum needs what is there."""
    return cache.at[ROWS[:2]].add(new)


def made(cache, new, at):
    """The operand is a result."""
    return put(jnp.tanh(cache) @ jnp.ones((6, 6), cache.dtype), new, at)


def looped(cache, new, at):
    """The carry of a loop whose trips write one row after the other, and read the whole."""

    def step(cache, i):
        cache = put(cache, new[:1] * i.astype(cache.dtype), at + i)
        return cache, jnp.sum(cache.astype(jnp.float32))

    return lax.scan(step, cache, jnp.arange(5, dtype=jnp.int32))


def while_looped(cache, new, at):
    """The same, for as long as values say."""
    return lax.while_loop(lambda s: s[1] < 4, lambda s: (put(s[0], new * 2, s[1] + at), s[1] + 1), (cache, 0))[0]


def nested(cache, new, at):
    """A carry in a carry, and an update before and after."""
    inner = lambda cache, i: (put(cache, new, at + i), None)  # noqa: E731
    outer = lambda cache, i: (put(lax.scan(inner, cache, jnp.arange(3))[0], new * 3, i), None)  # noqa: E731
    return put(lax.scan(outer, put(cache, new, 0), jnp.arange(2))[0], new, 14)


def slices(cache, new, at):
    """Slices of an x become slices of a y."""

    def layer(x, of):
        kept, new = of
        kept = lax.dynamic_update_slice(kept, jnp.tanh(new + x), (at, 0))
        return x + jnp.sum(kept, 0, keepdims=True), kept

    return lax.scan(layer, new[0, :1], (cache[:4, :, :] + 0, cache[4:8, :1, :] * 2))


def swapped(cache, new, at):
    """Two carries that change places, both updated: neither comes back as itself."""
    step = lambda c, i: ((put(c[1], new, i), put(c[0], new * 2, i)), None)  # noqa: E731
    return lax.scan(step, (cache, cache * 2), jnp.arange(3))[0]


def scratch(cache, new, at):
    """A carry that is updated for something else than itself."""
    step = lambda c, i: ((c[0] + 1, jnp.sum(put(c[0], new, i), 0)), None)  # noqa: E731
    return lax.scan(step, (cache, cache[0]), jnp.arange(3))[0]


def branched(cache, new, at):
    """In a branch nothing outside is overwritten."""
    return lax.cond(at > 3, lambda c: put(c, new, at), lambda c: put(put(c * 2, new, at), new, 0), cache)


def once(cache, new, at):
    """A loop of one trip."""
    return lax.scan(lambda c, i: (put(c, new, i), jnp.sum(c)), cache, jnp.arange(1))


def never(cache, new, at):
    """A loop of no trip: the result lies where the first value does."""
    return lax.fori_loop(0, jnp.minimum(at, 0), lambda i, c: put(c, new, i), cache)


PROGRAMS = (
    written, read, twice, read_between, read_after, returned, rows, combined, made, looped, while_looped, nested,
    slices, swapped, scratch, branched, once, never,
)  # fmt: skip
ARGS = (CACHE, NEW, PLACE)


def compiled(fn, fusion="streaming", donate=(0,), **choices) -> rdu.Program:
    return rdu.compile(fn, *ARGS, machine="tiny", fusion=fusion, donate_argnums=donate, **choices)


QUICK = {"none": (rows, looped, nested, slices), "streaming": (twice, read_between, looped, nested, slices, scratch)}
CASES = [
    pytest.param(fn, fusion, marks=() if fn in QUICK[fusion] else pytest.mark.full, id=f"{fusion}-{fn.__name__}")
    for fusion in QUICK
    for fn in PROGRAMS
]


@pytest.mark.parametrize(("fn", "fusion"), CASES)
def test_bits_counts_and_bytes_in_memory_are_right(fn, fusion):
    program, want = compiled(fn, fusion), compiled(fn, fusion, ())(*ARGS)
    assert_same(program(*ARGS), want, fn.__name__)
    assert_same(program.execute(*ARGS, executor="scan"), want, fn.__name__)
    assert_same(Flat(program).run(*ARGS), want, fn.__name__)
    if fn not in (while_looped, branched, never):
        assert program.tally(*ARGS) == program.predicted_counts()


def stored_bytes(fn, fusion, donate=(0,)) -> int:
    return compiled(fn, fusion, donate).cost().cost.written_bytes["hbm"]


WHOLE, PART = 2 * 16 * 8 * 6, 2 * 2 * 8 * 6


def test_an_update_of_an_argument_given_away_writes_what_is_new():
    program = compiled(written, rdu.cut_after())
    assert program.cost().cost.written_bytes["hbm"] == PART
    assert program.cost().cost.read_bytes["hbm"] == PART + 4  # the cache is not even read
    assert stored_bytes(written, rdu.cut_after(), ()) == WHOLE
    for donate, size_bytes in (((0,), PART), ((), WHOLE)):
        [*_, last] = compiled(written, "none", donate).plan.kernels
        assert [s.total_bytes for s in last.streams if s.is_store] == [size_bytes]


def test_two_updates_are_two_writes_in_their_order():
    program = compiled(twice, rdu.cut_after())
    [kernel] = [planned.kernel for planned in program.plan.kernels]
    assert [write.update.over for write in kernel.writes] == [program.graph.inputs[0], kernel.writes[0].value]
    assert program.cost().cost.written_bytes["hbm"] == 2 * PART
    turns = {t.name: t for t in program.timeline().kernels[0].tracks}
    stores = [t for name, t in turns.items() if name.startswith("store")]
    assert len(stores) == 2 and "store" in str(program.timeline())


@pytest.mark.parametrize("fn", [read_after, returned, combined], ids=lambda fn: fn.__name__)
def test_what_somebody_needs_is_not_overwritten(fn):
    assert overwritten(compiled(fn).graph, frozenset(compiled(fn).graph.inputs)) == {}


def test_what_is_not_given_away_is_not_overwritten():
    assert stored_bytes(written, rdu.cut_after(), (1, 2)) == WHOLE
    assert compiled(written, donate=()).plan.overwritten == {}


def test_a_loop_writes_a_row_in_every_trip():
    row = 2 * 8 * 6
    program = compiled(looped, "none")
    stores = [s for k in program.plan.kernels for s in k.streams if s.is_store and "dynamic_update" in s.label]
    assert [s.total_bytes for s in stores] == [row]
    places = [s.label for s in program.plan.memory.symbols if s.size_bytes == WHOLE]
    assert places == ["cache"]  # neither the carry nor its result has a place of its own
    assert len([s for s in compiled(looped, "none", ()).plan.memory.symbols if s.size_bytes == WHOLE]) > 1


def test_the_ys_of_a_loop_may_be_its_xs():
    program = compiled(slices, "none")
    [loop] = [n for n in program.graph.nodes if n.label == "scan"]
    assert program.plan.overwritten[loop.results[1]] == loop.operands[-2]
    labels = {s.value for s in program.plan.memory.symbols}
    assert loop.operands[-2] in labels and loop.results[1] not in labels


@pytest.mark.parametrize("fn", [swapped, scratch], ids=lambda fn: fn.__name__)
def test_a_carry_that_does_not_come_back_as_itself_is_not_overwritten(fn):
    program = compiled(fn)
    [loop] = [n for n in program.graph.nodes if n.label == "scan"]
    assert not set(loop.op.carried(loop.op.body)) & set(overwritten(program.graph, program.plan.given_away).values())


def test_an_argument_given_away_is_alive_until_it_has_been_read():
    def fn(x, y):
        return jnp.tanh(jnp.tanh(x @ y) @ y) @ y

    x, y = draw(RNG, 12, 12), draw(RNG, 12, 12)
    kept, given = (rdu.compile(fn, x, y, machine="tiny", fusion="primitives", donate_argnums=d) for d in ((), 0))
    alive = [{s.label: s.alive for s in p.plan.memory.symbols}["x"] for p in (kept, given)]
    assert alive[0] != alive[1] and alive[1] & ~alive[0] == 0
    assert given.plan.peak_bytes("hbm") < kept.plan.peak_bytes("hbm")
    [symbol] = [s for s in given.plan.memory.symbols if s.label == "x"]
    assert not symbol.is_read_only
    assert_same(Flat(given).run(x, y), kept(x, y))


def test_an_update_stays_in_the_tier_of_what_it_updates():
    program = compiled(read, "none", tiers={"cache": "ddr"})
    assert program.cost().cost.written_bytes["ddr"] == PART
    assert_same(Flat(program).run(*ARGS), compiled(read)(*ARGS))
    [update] = [n.label for n in program.graph.nodes if "dynamic_update" in n.label]
    with pytest.raises(rdu.ArgumentError, match="cannot be in two tiers"):
        compiled(read, "none", tiers={"cache": "ddr", update: "hbm"})


@pytest.mark.parametrize("number", [3, -1, True, "0", 1.0])
def test_arguments_that_do_not_exist_cannot_be_given_away(number):
    with pytest.raises(rdu.ArgumentError, match=r"donate_argnums(.|\n)*integers from 0 to 2"):
        rdu.compile(written, *ARGS, machine="tiny", donate_argnums=(number,))


@pytest.mark.parametrize("given", [True, None, "0", 0.0, {0: 1}])
def test_what_is_given_away_is_said_by_numbers(given):
    with pytest.raises(rdu.ArgumentError, match=r"donate_argnums(.|\n)*an integer, or several"):
        compiled(written).replace(donate_argnums=given)
    assert compiled(written, donate=()).replace(donate_argnums=0).plan == compiled(written, donate=[0]).plan


def test_updates_compose_with_the_transformations():
    program = compiled(read)
    assert_same(jax.jit(program)(*ARGS), program(*ARGS))
    stacked = jax.vmap(program, in_axes=(0, None, None))(jnp.stack([CACHE, CACHE * 2]), NEW, PLACE)
    for i, cache in enumerate((CACHE, CACHE * 2)):
        assert_same(jax.tree.map(lambda x, i=i: x[i], stacked), program(cache, NEW, PLACE))
    loss = lambda fn: lambda cache, new: jnp.sum(fn(cache, new, PLACE)[1])  # noqa: E731
    got, want = (jax.grad(loss(fn), (0, 1))(CACHE, NEW) for fn in (program, read))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g.astype(jnp.float32), w.astype(jnp.float32), rtol=0.02, atol=0.02)


def test_a_store_that_streams_writes_each_part_once():
    """A long update in a kernel of several turns."""
    cache, new = draw(RNG, 512, 24), draw(RNG, 256, 24)
    w = draw(RNG, 24, 24)

    def fn(cache, new, w):
        return lax.dynamic_update_slice(cache, new @ w, (8, 0))

    tight = rdu.machines.tiny().replace({"pmu.capacity_bytes": 2048})
    program = rdu.compile(fn, cache, new, w, machine=tight, fusion=rdu.cut_after(), donate_argnums=0)
    [planned] = program.plan.kernels
    assert planned.tiling.turns > 1
    want = rdu.compile(fn, cache, new, w, machine="tiny")(cache, new, w)
    assert_same(program.execute(cache, new, w, executor="scan"), want)
    counts = program.tally(cache, new, w)
    assert counts == program.predicted_counts() and counts["hbm.written_bytes"] == new.size * 2


def test_rows_that_may_meet_are_not_written_turn_by_turn():
    """In a nest of two loops they could come in another order."""
    cache, new, at = draw(RNG, 64, 24), draw(RNG, 256, 24), jnp.asarray(RNG.integers(0, 64, 256), jnp.int32)

    def fn(cache, new, at):
        return cache.at[at].set(jnp.tanh(new), mode="drop")

    tight = rdu.machines.tiny().replace({"pmu.capacity_bytes": 2048})
    program = rdu.compile(fn, cache, new, at, machine=tight, donate_argnums=0)
    for planned in program.plan.kernels:
        for write in (w for w in planned.kernel.writes if w.update is not None):
            cut = {axis for loop in planned.tiling.loops for v, axis in loop.members if v == write.read.value}
            assert 0 not in cut
    assert_same(program(cache, new, at), rdu.compile(fn, cache, new, at, machine="tiny")(cache, new, at))
    assert_same(Flat(program).run(cache, new, at), program(cache, new, at))


def test_small_updates_are_charged_granules():
    numbers = jnp.arange(300, dtype=jnp.float32)
    program = rdu.compile(lambda x, i: x.at[i].set(7.0), numbers, ROWS, machine="tiny", donate_argnums=0)
    assert (
        sum(s.total_bytes for k in program.plan.kernels for s in k.streams if s.is_store and "put" in s.label) == 4 * 8
    )
    assert program.tally(numbers, ROWS) == program.predicted_counts()


def test_a_plan_that_overwrites_what_is_needed_is_refused():
    program = compiled(read, "none")
    plan = program.plan
    check(plan)
    with pytest.raises(rdu.ArgumentError, match="arguments that are overwritten"):
        check(replace(plan, given_away=frozenset()))
    at = next(i for i, step in enumerate(plan.steps) if step.kernel.overwritten)
    again = replace(plan.steps[at], kernel=replace(plan.steps[at].kernel, nodes=()))
    with pytest.raises(rdu.ArgumentError, match="is not in memory, or is read as it was"):
        check(replace(plan, steps=(*plan.steps[: at + 1], again, *plan.steps[at + 1 :])))


def test_decoding_moves_weights_and_the_cache_once():
    """The cache is read, and one position of it written; of the embedding one row is read."""
    config = decoder.Config(d_model=64, layers=3, heads=4, kv_heads=2, d_ff=96, vocab=61, positions=64)
    fn, (model, token, cache, start) = calls.model_call(config, 1, 64)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        program = rdu.compile(fn, model, token, cache, start, donate_argnums=calls.MODEL_CACHE)
    params = nnx.state(model, nnx.Param)
    size_bytes = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    cost = program.cost().cost
    weights = size_bytes(params) - size_bytes(params["embed"]) + 2 * 64
    position = size_bytes(cache) // 64
    inside = 3 * 64 * 2 * 2 + 4 * 200  # x from layer to layer; places, masks, tables of one position
    assert 0 <= cost.written_bytes["hbm"] - position - 61 * 4 <= inside
    assert 0 <= cost.read_bytes["hbm"] - weights - size_bytes(cache) <= inside + 3 * 1200
