"""Loops and branches run bit by bit as the same program without them, and count as predicted (laws L1, L3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.graph.regions import Loop
from tests.rooms.compiler.samples import assert_same, draw, small

RNG = np.random.default_rng(11)
X, W = draw(RNG, 9, 12), draw(RNG, 12, 12)
WS = draw(RNG, 3, 12, 12)
BIAS = draw(RNG, 12)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    """One layer of a model."""
    return jnp.tanh(x @ w + BIAS[None, :])


def layers(x: jax.Array, ws: jax.Array, reverse: bool = False) -> tuple[jax.Array, jax.Array]:
    """A scan over layers that also returns what each of them read, scaled."""
    return lax.scan(lambda x, w: (layer(x, w), x * 0.5), x, ws, reverse=reverse)


def unrolled(x: jax.Array, ws: jax.Array, reverse: bool = False) -> tuple[jax.Array, jax.Array]:
    """The same without a loop."""
    seen = [x] * len(ws)
    for i in reversed(range(len(ws))) if reverse else range(len(ws)):
        seen[i], x = x * 0.5, layer(x, ws[i])
    return x, jnp.stack(seen)


def zeros_and_signs(x: jax.Array) -> jax.Array:
    """Sums that begin at 0 and meet -0: what XLA makes of `0 + p` where it takes a loop apart would show."""
    return lax.scan(lambda total, p: (total + p, None), jnp.zeros_like(x[0]), -x * 0.0)[0]


def zeros_and_signs_unrolled(x: jax.Array) -> jax.Array:
    """The same without a loop."""
    total, parts = jnp.zeros_like(x[0]), -x * 0.0
    for i in range(len(x)):
        total = total + parts[i]
    return total


def nested(x: jax.Array, ws: jax.Array) -> Any:
    """A loop in a loop, with a constant that only the inner one reads; the carry swaps its parts."""
    scale = jnp.asarray(np.linspace(0.5, 1.5, 12), jnp.bfloat16)

    def inner(pair: Any, w: jax.Array) -> Any:
        a, b = pair
        return (b, layer(a, w) * scale[None, :]), None

    return lax.fori_loop(0, 2, lambda i, pair: lax.scan(inner, pair, ws)[0], (x, x * 2))


def nested_unrolled(x: jax.Array, ws: jax.Array) -> Any:
    """The same without a loop."""
    scale = jnp.asarray(np.linspace(0.5, 1.5, 12), jnp.bfloat16)
    a, b = x, x * 2
    for _ in range(2):
        for i in range(len(ws)):
            a, b = b, layer(a, ws[i]) * scale[None, :]
    return a, b


def counted(x: jax.Array, ws: jax.Array) -> Any:
    """A loop that reads its counter, and one whose slices are what it read."""
    first = lax.fori_loop(1, 3, lambda i, x: layer(x, ws[i]) * i.astype(x.dtype), x)
    return first, lax.scan(lambda c, w: (c + 1, w), jnp.int32(3), ws)


def counted_unrolled(x: jax.Array, ws: jax.Array) -> Any:
    """The same without a loop."""
    for i in (1, 2):
        x = layer(x, ws[i]) * jnp.asarray(i, x.dtype)
    return x, (jnp.int32(3 + len(ws)), ws)


@dataclass(frozen=True)
class Pair:
    """A function with loops, and the same without."""

    name: str
    fn: Callable[..., Any]
    plain: Callable[..., Any]
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return self.name


def backwards(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its loop from the last to the first."""
    return lambda x, ws: fn(x, ws, reverse=True)


PAIRS = [
    *(Pair(f"layers of {n}", layers, unrolled, (X, WS[:n])) for n in (1, 2, 3)),
    *(Pair(f"reverse layers of {n}", backwards(layers), backwards(unrolled), (X, WS[:n])) for n in (1, 3)),
    *(
        Pair(f"zeros of {n}", zeros_and_signs, zeros_and_signs_unrolled, (draw(RNG, n, 40, dtype=jnp.float32),))
        for n in (1, 2, 3)
    ),
    Pair("nested", nested, nested_unrolled, (X, WS[:2])),
    Pair("counted", counted, counted_unrolled, (X, WS)),
]
QUICK = [p for p in PAIRS if p.name in ("layers of 1", "reverse layers of 3", "zeros of 1")]
CHOSEN = [pytest.param(p, id=str(p), marks=() if p in QUICK else pytest.mark.full) for p in PAIRS]


@pytest.mark.parametrize("pair", CHOSEN)
def test_a_loop_has_the_bits_of_the_program_without_it(pair: Pair):
    """Fused and unfused, on a machine that forces tiles; as arguments, as constants of XLA, in a jit, by hand."""
    want = rdu.compile(pair.plain, *pair.args, machine=small(), fusion="none")(*pair.args)
    fused = rdu.compile(pair.fn, *pair.args, machine=small())
    assert any(node.op.name == "scan" for node in fused.graph.nodes)
    assert_same(fused(*pair.args), want, "fused")
    assert_same(fused.replace(fusion="none")(*pair.args), want, "unfused")
    assert_same(jax.jit(lambda: fused(*pair.args))(), want, "folded by XLA")
    assert_same(jax.jit(lambda *xs: fused.execute(*xs, executor="vmap"))(*pair.args), want, "vmap")


@pytest.mark.parametrize("pair", CHOSEN)
def test_a_loop_counts_as_predicted(pair: Pair):
    for fusion in ("none", "streaming")[-1 if pair in QUICK else 0 :]:
        program = rdu.compile(pair.fn, *pair.args, machine=small(), fusion=fusion)
        counts, cost = program.predicted_counts(), program.cost().cost
        assert program.tally(*pair.args) == counts
        assert cost.read_bytes["hbm"] == counts["hbm.read_bytes"] > 0
        assert cost.written_bytes["hbm"] == counts["hbm.written_bytes"] > 0


def test_operation_by_operation_the_bits_are_the_same():
    """Without any jit of ours or of the library, and strictly tile by tile."""
    xs = draw(RNG, 2, 40, dtype=jnp.float32)
    program = rdu.compile(zeros_and_signs, xs, machine=small())
    want = program(xs)
    with jax.disable_jit():
        assert_same(program(xs), want)
    assert_same(program.execute(xs, executor="scan"), want)


def test_transformations_of_a_program_with_a_loop():
    """jit, vmap and scan of it give its bits; its gradient is that of the program without a loop."""
    program, plain = (rdu.compile(fn, X, WS[:2], machine="tiny") for fn in (layers, unrolled))
    want = program(X, WS[:2])
    stacked = jnp.stack([X, X * 0, X])
    batched = jax.jit(jax.vmap(program, (0, None)))(stacked, WS[:2])
    looped = jax.jit(lambda xs: lax.scan(lambda c, x: (c, program(x, WS[:2])), 0, xs)[1])(stacked)
    for place in (0, 2):
        assert_same(jax.tree.map(lambda y, i=place: y[i], batched), want, "vmap")
        assert_same(jax.tree.map(lambda y, i=place: y[i], looped), want, "scan")

    def loss(program: Any) -> Callable[..., jax.Array]:
        return lambda x, ws: program(x, ws)[0].astype(jnp.float32).sum()

    ours, theirs = (jax.grad(loss(p), (0, 1))(X, WS[:2]) for p in (program, plain))
    for a, b in zip(ours, theirs, strict=True):
        assert np.isfinite(np.asarray(a, np.float32)).all() and np.any(np.asarray(a, np.float32))
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=2**-6, atol=2**-6)


def doubled(x: jax.Array, w: jax.Array, limit: jax.Array) -> Any:
    """Doubles for as long as the largest stays below a limit; then one product."""
    scale = jnp.float32(2)
    last = lax.while_loop(
        lambda c: c[1] < limit,
        lambda c: (c[0] * 2, c[1] * scale, c[2] + 1),
        (x, x[0, 0].astype(jnp.float32) * 0 + 1, 0),
    )
    return last[0] @ w, last[2]


@pytest.mark.parametrize("trips", [pytest.param(0, marks=pytest.mark.full), pytest.param(1, marks=pytest.mark.full), 5])
def test_a_while_loop_turns_as_often_as_it_should_and_counts_what_ran(trips: int):
    limit = jnp.float32(2.0**trips)
    program = rdu.compile(doubled, X, W, limit, machine=small())
    product, count = program(X, W, limit)
    assert int(count) == trips
    plain = rdu.compile(lambda x, w: x @ w, X, W, machine=small())
    assert_same(product, plain(X * jnp.bfloat16(2.0**trips), W))
    counts = program.predicted_counts(trips={"while": trips})
    assert program.tally(X, W, limit) == counts
    assert program.cost(trips={"while": trips}).cost.read_bytes["hbm"] == counts["hbm.read_bytes"]


def test_a_while_loop_of_many_runs_at_once():
    """Under vmap each takes its own trips; forward derivatives pass."""
    program = rdu.compile(doubled, X, W, jnp.float32(1), machine="tiny")
    limits = jnp.asarray([1.0, 8.0, 2.0], jnp.float32)
    each = [program(X, W, limit) for limit in limits]
    assert_same(jax.vmap(program, (None, None, 0))(X, W, limits), jax.tree.map(lambda *ys: jnp.stack(ys), *each))
    _, (tangent, _) = jax.jvp(lambda x: program(x, W, limits[1]), (X,), (X,))
    np.testing.assert_allclose(np.asarray(tangent, np.float32), np.asarray(each[1][0], np.float32), rtol=0.1, atol=1.0)


def collatz(xs: jax.Array) -> jax.Array:
    """Steps of every number to 1: a branch in a `while` loop in a scan."""

    def steps(x: jax.Array) -> jax.Array:
        def step(c: Any) -> Any:
            n, count = c
            return lax.cond((n & 1) == 1, lambda n: n * 3 + 1, lambda n: lax.shift_right_logical(n, 1), n), count + 1

        return lax.while_loop(lambda c: c[0] > 1, step, (x, jnp.int32(0)))[1]

    return lax.scan(lambda c, x: (c, steps(x)), None, xs)[1]


def test_loops_that_turn_differently_each_time_are_tallied_as_they_ran():
    xs = np.array([1, 6, 7, 27][:3], np.int32)
    program = rdu.compile(collatz, xs, machine="tiny")
    assert program(xs).tolist() == [0, 8, 16]
    odd = {1: 0, 6: 2, 7: 5}  # how many steps are from an odd number
    tallied, run = program.tally(xs), program.captured(xs)
    trips, index = run.turned["scan/while"], run.turned["scan/while/cond"]
    assert trips.tolist() == [0, 8, 16]
    assert [int(index[i, :n].sum()) for i, n in enumerate(trips)] == list(odd.values())
    plan = rdu.compile(collatz, xs[:1], machine="tiny")  # one trip of the scan: its counts for any course
    expected = [
        sum((_once(plan, 1, b) for b in (0, 1) for _ in range(odd[int(x)] if b else n - odd[int(x)])), _rest(plan))
        for x, n in zip(xs, (0, 8, 16), strict=True)
    ]
    assert tallied == sum(expected[1:], expected[0])


def _rest(program: rdu.Program) -> Any:
    """Counts of a run in which the loop inside never turns."""
    return program.predicted_counts(trips={"scan/while": 0})


def _once(program: rdu.Program, trips: int, branch: int) -> Any:
    """What a trip of the loop inside adds."""
    more = program.predicted_counts(trips={"scan/while": trips}, branches={"scan/while/cond": branch})
    less = _rest(program)
    return type(more)({name: more[name] - less[name] for name in more})


BRANCHES = (
    lambda x, w: (x, x),  # it gives back what it was given, once under each name
    lambda x, w: (x @ w, x * 2),
    lambda x, w: (jnp.tanh(x), jnp.ones_like(x)),
)


def switched(i: jax.Array, x: jax.Array, w: jax.Array) -> Any:
    """One of three functions."""
    return lax.switch(i, BRANCHES, x, w)


@pytest.mark.parametrize("fusion", [pytest.param("none", marks=pytest.mark.full), "streaming"])
def test_a_branch_has_the_bits_of_the_function_that_it_is(fusion: str):
    program = rdu.compile(switched, jnp.int32(0), X, W, machine=small(), fusion=fusion)
    every = jax.vmap(program, (0, None, None))(jnp.arange(3), X, W)
    for i in (-1, 0, 1, 2, 9):
        taken = min(max(i, 0), 2)
        alone = rdu.compile(BRANCHES[taken], X, W, machine=small(), fusion=fusion)(X, W)
        assert_same(program(jnp.int32(i), X, W), alone, str(i))
        assert_same(jax.tree.map(lambda y, i=taken: y[i], every), alone, f"vmap {i}")
    for i in range(3):
        assert program.tally(jnp.int32(i), X, W) == program.predicted_counts(branches={"cond": i})


def test_a_derivative_goes_through_a_branch():
    program = rdu.compile(switched, jnp.int32(0), X, W, machine="tiny")
    for i, fn in ((0, lambda x: x), (2, jnp.tanh)):
        got = jax.grad(lambda x, i=i: program(jnp.int32(i), x, W)[0].astype(jnp.float32).sum())(X)
        want = jax.grad(lambda x, fn=fn: fn(x).astype(jnp.float32).sum())(X)
        np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), atol=2**-6)


def test_the_gradient_of_a_loop_compiles():
    """grad through scan over layers, then traced: forward and backward loops with what passes between them."""

    def loss(x: jax.Array, ws: jax.Array) -> jax.Array:
        return layers(x, ws)[0].astype(jnp.float32).sum()

    grad = jax.grad(loss, (0, 1))
    program = rdu.compile(grad, X, WS, machine="sn40l")
    loops = [node.op for node in program.graph.nodes if isinstance(node.op, Loop)]
    assert [(loop.trips, loop.reverse) for loop in loops] == [(3, False), (3, True)]
    for got, want in zip(program(X, WS), grad(X, WS), strict=True):
        np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(want, np.float32), rtol=0.1, atol=0.2)
    assert program.tally(X, WS) == program.predicted_counts()
