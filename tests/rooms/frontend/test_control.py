"""Loops and branches of a function become regions: what goes in, what is left out, what is refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.graph.graph import Graph, Node, Region, all_nodes, check
from rdujax.graph.regions import Branch, Loop

X = jnp.asarray(np.random.default_rng(3).normal(size=(4, 6)), jnp.float32)
KEY = jax.random.key(5)


def graph(fn: Callable[..., Any], *args: Any) -> Graph:
    """The graph of a function, whose grammar holds."""
    found = rdu.compile(fn, *args, machine="tiny", fusion="none").graph
    check(found)
    return found


def regions(found: Graph) -> list[Node]:
    """The regions of a graph, those inside of others after them."""
    return [node for node in all_nodes(found) if isinstance(node.op, Region)]


def names(found: Graph) -> list[str]:
    """The operations of a graph."""
    return [node.op.name for node in found.nodes]


def agree(fn: Callable[..., Any], *args: Any, tolerance: float = 0.0) -> None:
    """The program gives what plain JAX gives."""
    got, want = rdu.compile(fn, *args, machine="sn40l")(*args), fn(*args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=0)


def test_a_scan_becomes_a_loop_over_slices():
    ws = jnp.stack([X, X, X])

    def fn(x, ws, bias):
        return lax.scan(lambda c, w: (c * w + bias, c), x, ws, reverse=True)

    found = graph(fn, X, ws, X)
    [node] = found.nodes
    loop = node.op
    assert isinstance(loop, Loop) and (loop.trips, loop.reverse, loop.n_consts, loop.n_carry) == (3, True, 1, 1)
    assert node.operands == tuple(found.inputs[i] for i in (2, 0, 1)) and node.label == "scan"
    assert [loop.body.labels[v] for v in loop.body.inputs] == ["bias", "x", "ws"]
    assert [loop.body.types[v].shape for v in loop.body.inputs] == [(4, 6)] * 3
    assert [inner.label for inner in loop.body.nodes] == ["scan/mul", "scan/add", "scan/copy/reshape"]
    assert all("test_control.py" in inner.source for inner in (node, *loop.body.nodes))
    agree(fn, X, ws, X, tolerance=1e-5)


def test_what_nobody_reads_is_left_out():
    """Of the carry, of the xs, of the ys; what does not change is a constant; what depends on nothing is no loop."""

    def fn(x, ws, unused):
        def step(c, w):
            a, same, dead, count = c
            return (a * w[0] + same, same, dead * 2, count + 1), (a * 3, dead)

        (a, same, _, _), (kept, _) = lax.scan(step, (x, x * 2, x, 0), (ws, unused))
        return a, same, kept

    found = graph(fn, X, jnp.stack([X, X]), jnp.ones((2, 5)))
    scale, node = found.nodes
    loop = node.op
    assert isinstance(loop, Loop) and (loop.n_consts, loop.n_carry) == (1, 1)
    assert node.operands == (scale.result, found.inputs[0], found.inputs[1])
    assert "add" in names(loop.body) and len(loop.body.outputs) == 2
    assert found.outputs == (node.results[0], scale.result, node.results[1])
    idle = graph(lambda x: lax.fori_loop(0, 4, lambda i, c: (c[0], c[1] + 1), (x, 0))[0], X)
    assert idle.nodes == () and idle.outputs == idle.inputs


def test_what_needs_another_part_of_the_carry_keeps_it():
    """a needs b, b needs c, and only a is read."""

    def fn(x):
        return lax.fori_loop(0, 3, lambda i, c: (c[1] + 1, c[2] * 2, -c[0], c[3] + 1), (x, x + 1, x + 2, x))[0]

    [loop] = [node.op for node in regions(graph(fn, X))]
    assert isinstance(loop, Loop) and loop.n_carry == 3
    agree(fn, X)


def test_arrays_of_a_body_become_constants_of_the_program():
    table = np.arange(24, dtype=np.float32).reshape(4, 6)

    def fn(x):
        inner = lambda c, _: (c + table, None)  # noqa: E731
        return lax.scan(lambda c, _: (lax.scan(inner, c, None, length=2)[0] * 1.5, None), x, None, length=2)[0]

    found = graph(fn, X)
    assert [a.shape for a in found.constants.values()] == [(4, 6)]
    outer, inner = regions(found)
    assert isinstance(outer.op, Loop) and not outer.op.body.constants
    assert (outer.label, inner.label) == ("scan", "scan/scan")
    assert outer.operands[0] in found.constants and inner.operands[0] == outer.op.body.inputs[0]
    agree(fn, X, tolerance=1e-6)


def test_scopes_and_labels_are_unique_through_all_bodies():
    @jax.named_scope("block")
    def block(x):
        return lax.scan(lambda c, _: (jnp.tanh(c) * 2, None), x, None, length=2)[0]

    labels = [node.label for node in all_nodes(graph(lambda x: block(block(x)), X))]
    assert labels == [
        "block/scan", "block/scan/tanh", "block/scan/mul", "block/scan#2", "block/scan#2/tanh", "block/scan#2/mul",
    ]  # fmt: skip


def test_a_while_loop_keeps_what_its_condition_reads():
    def fn(x, limit):
        return lax.while_loop(lambda c: c[1] < limit, lambda c: (c[0] * 2, c[1] + 1, c[2] * 3), (x, 0, x))[0]

    [node] = graph(fn, X, jnp.int32(3)).nodes
    loop = node.op
    assert isinstance(loop, Loop) and loop.trips is None and loop.condition is not None
    assert (loop.n_condition_consts, loop.n_consts, loop.n_carry) == (1, 0, 2)
    assert names(loop.condition) == ["less"] and names(loop.body) == ["mul", "add"]
    for limit in (0, 1, 4):
        agree(fn, X, jnp.int32(limit))


def test_many_while_loops_at_once_keep_what_they_ended_with():
    """vmap over the condition: one loop, in which each keeps its carry from when its condition fails."""

    def steps(x):
        return lax.while_loop(lambda c: c[0] < 10.0, lambda c: (c[0] * 2, c[1] + 1), (x, 0))

    agree(jax.vmap(steps), jnp.asarray([1.0, 20.0, 3.0]))
    agree(jax.vmap(jax.vmap(steps)), jnp.asarray([[1.0, 20.0], [3.0, 9.0]]))


def test_a_branch_takes_what_one_of_them_reads():
    def fn(i, x, y, z):
        return lax.switch(i, [lambda x, y, z: x * 2, lambda x, y, z: x + y, lambda x, y, z: x], x, y, z)

    found = graph(fn, jnp.int32(1), X, X, X)
    clamp, node = found.nodes
    assert isinstance(node.op, Branch) and node.operands == (clamp.result, found.inputs[1], found.inputs[2])
    assert [names(branch) for branch in node.op.branches] == [["mul"], ["add"], ["reshape"]]
    for i in range(-1, 4):
        agree(fn, jnp.int32(i), X, X * 3, X)


def test_a_choice_of_the_text_is_no_branch():
    fn = lambda x: lax.cond(True, lambda x: x * 2, jnp.sin, x)  # noqa: E731
    assert names(graph(fn, X)) == ["mul"]


def test_an_unread_result_of_a_branch_is_left_out():
    fn = lambda p, x: lax.cond(p, lambda x: (x * 2, jnp.sin(x)), lambda x: (x, x * 3), x)[0]  # noqa: E731
    [branch] = [node.op for node in regions(graph(fn, True * jnp.ones((), bool), X))]
    assert [names(body) for body in branch.bodies] == [["reshape"], ["mul"]]


def residual_of_a_key(p, x, key):
    """What a branch keeps for its derivative, a key among it, has no value in the other branch."""
    kept = jax.checkpoint(
        lambda x: jnp.sin(x) * jax.random.normal(jax.random.fold_in(key, 1), x.shape),
        policy=jax.checkpoint_policies.everything_saveable,
    )
    return jnp.sum(lax.cond(p, kept, lambda x: x - 1, x))


@pytest.mark.parametrize("fusion", ["streaming", "none"])
def test_branches_that_keep_different_values_have_derivatives(fusion):
    """JAX fills what a branch does not keep with values that are not defined, and reads none of them."""

    def spectrum(x):
        return jnp.real(jnp.fft.fft(x) * jnp.fft.fft(x * 2))

    def chosen(i, x):
        return jnp.sum(lax.switch(i, [jnp.sin, lambda x: x * x * x, lambda x: x - 1, spectrum], x))

    def in_a_loop(p, x):
        step = lambda c, row: (lax.cond(p, jnp.sin, lambda c: c - 1, c) + row, None)  # noqa: E731
        return jnp.sum(lax.scan(step, x[0], x)[0])

    derivative = jax.grad(chosen, argnums=1)
    program = rdu.compile(derivative, jnp.int32(0), X, fusion=fusion)
    for i in range(4):
        np.testing.assert_allclose(program(jnp.int32(i), X), derivative(jnp.int32(i), X), rtol=2e-5, atol=1e-5)
    for fn, *more in ((in_a_loop,), (residual_of_a_key, KEY)):
        derivative = jax.grad(fn, argnums=1)
        program = rdu.compile(derivative, jnp.array(True), X, *more, fusion=fusion)
        for p in (True, False):
            want = derivative(jnp.array(p), X, *more)
            np.testing.assert_allclose(program(jnp.array(p), X, *more), want, rtol=1e-5, atol=1e-6)


def test_what_is_not_defined_is_zero():
    program = rdu.compile(lambda x: x + lax.empty(x.shape, x.dtype), X)
    np.testing.assert_array_equal(program(X), X)


def test_random_keys_are_carried_and_sliced():
    def carried(key):
        def step(key, _):
            key, sub = jax.random.split(key)
            return key, jax.random.bits(sub, (3,))

        return lax.scan(step, key, None, length=3)

    def sliced(key):
        return lax.scan(lambda c, key: (c, jax.random.bits(key, (3,))), None, jax.random.split(key, 3))[1]

    def chosen(key, i):
        keys = jax.random.split(key)
        return lax.switch(i, [lambda keys: keys[0], lambda keys: keys[1]], keys)

    agree(carried, KEY)
    agree(sliced, KEY)
    agree(chosen, KEY, jnp.int32(1))


def test_complex_values_go_through_loops_and_branches():
    def turned(x, y, p):
        z = lax.complex(x, y)
        last, seen = lax.scan(lambda c, z: (c * z, jnp.imag(c)), z, lax.complex(jnp.stack([x, y]), jnp.stack([y, x])))
        either = lax.cond(p, lambda z: z * z, lambda z: jnp.conj(z), last)
        grown = lax.fori_loop(0, 2, lambda i, z: z * z, lax.complex(x, jnp.ones(3)))
        return jnp.real(either), jnp.imag(either), seen, jnp.real(grown)

    x, y = jnp.asarray([0.5, 1.0, -0.25]), jnp.asarray([1.5, -0.5, 0.75])
    for p in (True, False):
        agree(turned, x, y, jnp.asarray(p), tolerance=1e-6)


def test_a_loop_without_a_trip_is_refused_where_it_stands():
    with pytest.raises(rdu.UnsupportedError, match=r"scan: a loop without a trip\n(.|\n)*test_control.py"):
        rdu.compile(lambda x: lax.fori_loop(0, 0, lambda i, c: c * 2, x), X)


def test_a_function_for_other_platforms_is_refused():
    fn = lambda x: lax.platform_dependent(x, cpu=jnp.sin, tpu=jnp.cos)  # noqa: E731
    with pytest.raises(rdu.UnsupportedError, match=r"for (cpu, tpu|tpu, cpu) and no default(.|\n)*test_control.py"):
        rdu.compile(fn, X)


def test_what_has_no_rule_is_refused_in_a_body_with_its_place():
    def fn(x):
        return lax.scan(lambda c, _: (jax.pure_callback(lambda v: v, c, c), None), x, None, length=2)[0]

    with pytest.raises(rdu.UnsupportedError, match=r"'pure_callback'(.|\n)*scope scan"):
        rdu.compile(fn, X)


def test_an_effect_in_a_loop_that_nobody_reads_is_never_left_out():
    def fn(x):
        lax.scan(lambda c, _: (jax.debug.callback(lambda v: None, c), c)[1:] * 2, x, None, length=2)
        return x * 2

    with pytest.raises(rdu.UnsupportedError, match="no rule for 'debug_callback'"):
        rdu.compile(fn, X)
