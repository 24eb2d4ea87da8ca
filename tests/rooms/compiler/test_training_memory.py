"""Training where HBM is too small: the optimiser's state rests in DDR, from step to step, at the price of its bytes."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import rdujax as rdu
from benchmarks.models import calls, decoder
from rdujax.graph.inplace import overwritten, succeeding
from tests.rooms.compiler.flat_memory import Flat
from tests.rooms.compiler.samples import assert_same

LAYERS, WIDTH = 3, 64
OPTIMIZER = optax.adamw(1e-2, mu_dtype=jnp.float32)  # first moments in FP32, second ones as the weights
WEIGHT_BYTES = LAYERS * WIDTH**2 * 2
MOMENT_BYTES = 3 * WEIGHT_BYTES


def loss(weights: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Of layers in a loop: weights are read there, on the way back, and by the optimiser."""
    x, _ = jax.lax.scan(lambda x, w: (jax.nn.silu(x @ w), None), x, weights)
    return ((x.astype(jnp.float32) - y) ** 2).mean()


def step(weights: jax.Array, state: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
    """One of AdamW."""
    value, slope = jax.value_and_grad(loss)(weights, x, y)
    change, state = OPTIMIZER.update(slope, state, weights)
    return optax.apply_updates(weights, change), state, value


def arguments() -> tuple[Any, ...]:
    keys = jax.random.split(jax.random.key(0), 3)
    weights = (jax.random.normal(keys[0], (LAYERS, WIDTH, WIDTH)) / 8).astype(jnp.bfloat16)
    x = jax.random.normal(keys[1], (8, WIDTH), jnp.bfloat16)
    return weights, OPTIMIZER.init(weights), x, jax.random.normal(keys[2], (8, WIDTH))


@cache
def programs() -> tuple[rdu.Program, rdu.Program]:
    """On a machine with enough HBM, and on one that lacks room for the moments."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        enough = rdu.compile(step, *arguments(), donate_argnums=(0, 1))
    small = enough.machine.replace({"hbm.capacity_bytes": enough.plan.peak_bytes("hbm") // 2})
    return enough, enough.replace(machine=small)


def test_the_moments_are_spilled_and_nothing_else():
    """They are moved once for each place, weights and slopes more often; new ones are left where the next step asks."""
    enough, spilled = programs()
    assert enough.plan.memory.of_tier("ddr") == ()
    memory, graph = spilled.plan.memory, spilled.graph
    old = {graph.labels[v]: v for v in graph.inputs if graph.labels[v] in ("state[0].mu", "state[0].nu")}
    new = [v for v, replaced in succeeding(graph, spilled.plan.given_away, {}).items() if replaced in old.values()]
    gone = memory.of_tier("ddr")
    assert len(old) == len(new) == 2 and {s.value for s in gone} == {*old.values(), *new}
    assert {s.reason for s in gone} == {"spilled: hbm is full"}
    assert max(s.turnover for s in gone) == 1 < min(s.turnover for s in memory.of_tier("hbm") if s.size_bytes > 9999)
    rows = {row["label"].split()[0]: row for row in spilled.report().data["memory"]["symbols"]}
    for label in old:
        assert (rows[label]["read_bytes"], rows[label]["written_bytes"]) == (rows[label]["size_bytes"], 0)
    assert rows["weights"]["read_bytes"] == 3 * WEIGHT_BYTES


def test_steps_have_the_same_bits():
    """Also on flat bytes, and when the second step begins with what the first has left."""
    enough, spilled = programs()
    args = arguments()
    want = enough(*args)
    assert_same(spilled(*args), want, "a step")
    assert_same(Flat(spilled).run(*args), want, "on flat bytes")
    second = (*want[:2], *args[2:])
    assert_same(spilled(*second), enough(*second), "the next step")
    assert spilled.tally(*args) == spilled.predicted_counts()


def test_the_price_is_that_of_the_bytes_at_the_bandwidth_of_ddr():
    enough, spilled = programs()
    fast, slow = enough.cost(), spilled.cost()
    assert slow.moved_bytes("ddr") == 2 * MOMENT_BYTES and fast.moved_bytes("ddr") == 0
    assert slow.moved_bytes("ddr") + slow.moved_bytes("hbm") == fast.moved_bytes("hbm")
    assert spilled.plan.peak_bytes("ddr") == 2 * MOMENT_BYTES  # the new ones while the old ones are read
    ddr = spilled.machine.ddr
    seconds = slow.moved_bytes("ddr") / (ddr.bandwidth_bytes_per_s.value * ddr.efficiency.value)

    def more_s(machine: Any) -> float:
        return float(spilled.cost(machine).run_s - fast.run_s)

    assert more_s(spilled.machine) > 0.8 * seconds  # the other streams of the kernel no longer wait for one another
    halved = spilled.machine.replace({"ddr.bandwidth_bytes_per_s": ddr.bandwidth_bytes_per_s.value // 2})
    assert more_s(halved) - more_s(spilled.machine) == pytest.approx(seconds, rel=0.02)


@pytest.mark.full
def test_seven_billion_parameters_are_trained_with_a_part_of_the_state_in_ddr():
    """Operator by operator, with FP32 first moments: 90 GiB are alive at once, of which HBM has 64.

    What goes is the largest first moments, and what the optimiser leaves between two of its operators; no weights.
    """
    tokens = calls.tokens_of(4097)
    fn, args = calls.train_call(decoder.abstract_model(decoder.LLAMA2_7B), tokens, calls.WIDE_OPTIMIZER)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        program = rdu.compile(fn, *args, fusion="none", donate_argnums=calls.TRAINED)
    memory, cost = program.plan.memory, program.cost()
    weights = [s for s in memory.symbols if s.label.startswith("params")]
    first = [s for s in memory.symbols if s.label.startswith("state[0].mu")]
    gone = memory.of_tier("ddr")
    assert len(weights) == len(first) == 12 and not set(weights) & set(gone)
    assert max(s.turnover for s in gone) < min(s.turnover for s in weights if s.size_bytes > 2**28)
    assert sum(s.size_bytes for s in set(first) & set(gone)) > 2**33
    assert 0.98 * 2**36 < memory.peak_bytes("hbm") <= 2**36 and 2**34 < memory.peak_bytes("ddr") < 2**36
    assert 0 < cost.moved_bytes("ddr") < 0.05 * cost.moved_bytes("hbm")


def test_what_was_given_away_is_succeeded_by_the_first_result_that_it_fits():
    def fn(a, b, c, d):
        return c, b * 2, a + b, d.astype(jnp.bfloat16), jnp.tanh(a)

    long, short = (jax.ShapeDtypeStruct((n,), jnp.float32) for n in (8, 4))
    graph = rdu.compile(fn, long, long, short, short, machine="tiny").graph
    a, b, c, d = graph.inputs
    _, twice, total, _, squashed = graph.outputs
    assert succeeding(graph, frozenset({a, b, c, d}), {}) == {twice: a, total: b}  # c is a result itself
    assert succeeding(graph, frozenset({b}), {}) == {twice: b}
    assert succeeding(graph, frozenset({a, b}), {squashed: b}) == {squashed: b, twice: a}
    assert succeeding(graph, frozenset(), {}) == {} == overwritten(graph, frozenset({a, b, c, d}))


def test_a_result_that_succeeds_an_argument_goes_where_that_is_pinned():
    struct = jax.ShapeDtypeStruct((64,), jnp.float32)
    program = rdu.compile(lambda x: x * 2, struct, machine="tiny", tiers={"x": "ddr"}, donate_argnums=0)
    assert {s.label: (s.tier, s.reason) for s in program.plan.memory.symbols} == {
        "x": ("ddr", "pinned"), "mul": ("ddr", "pinned"),
    }  # fmt: skip
    kept = program.replace(donate_argnums=())
    assert {s.label: s.tier for s in kept.plan.memory.symbols} == {"x": "ddr", "mul": "hbm"}
