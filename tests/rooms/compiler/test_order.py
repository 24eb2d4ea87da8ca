"""The order of nodes: depth first where far less waits between them, as written elsewhere, and always the same bits."""

import jax
import jax.numpy as jnp
import optax
import pytest

import rdujax as rdu
from rdujax.compiler.order import order
from rdujax.frontend.trace import trace
from rdujax.graph.graph import Graph, check
from rdujax.graph.regions import Loop
from tests.rooms.compiler.samples import Sample, assert_same, random_sample

SHAPES = {"a": (24, 8), "b": (16, 8), "c": (8, 8)}
OPTIMIZER = optax.adamw(1e-2)


@pytest.fixture(autouse=True)
def _promoted():
    """Optimisers are written as their authors write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def step(params, state, slopes):
    change, state = OPTIMIZER.update(slopes, state, params)
    return optax.apply_updates(params, change), state


def adam() -> tuple:
    params = {name: jax.random.normal(jax.random.key(i), shape) for i, (name, shape) in enumerate(SHAPES.items())}
    return params, OPTIMIZER.init(params), jax.tree.map(jnp.cos, params)


def sizes_in_order(graph: Graph) -> list[int]:
    """The elements of the parameters that nodes work on, each time that it is another one."""
    found = [graph.types[node.result].elements for node in graph.nodes]
    found = [n for n in found if n > 1]
    return [n for i, n in enumerate(found) if i == 0 or found[i - 1] != n]


def test_an_optimiser_goes_parameter_by_parameter():
    graph = trace(step, adam()).graph
    ordered = order(graph)
    check(ordered)
    assert len(sizes_in_order(graph)) > 9 and len(sizes_in_order(ordered)) == len(SHAPES)
    assert sorted(n.label for n in ordered.nodes) == sorted(n.label for n in graph.nodes)
    assert (ordered.types, ordered.outputs, ordered.labels) == (graph.types, graph.outputs, graph.labels)


def test_in_a_loop_too_and_the_bits_stay():
    def steps(params, state, slopes):
        body = lambda carry, _: (step(*carry, slopes), None)  # noqa: E731
        return jax.lax.scan(body, (params, state), None, length=2)[0]

    args = adam()
    program = rdu.compile(steps, *args)
    [loop] = [node.op for node in program.graph.nodes if isinstance(node.op, Loop)]
    assert len(sizes_in_order(loop.bodies[0])) == len(SHAPES)
    assert_same(program(*args), program.replace(fusion="none")(*args), "two steps")
    assert_same(program(*args), jax.jit(program)(*args), "jit")


def test_a_chain_and_what_is_asked_for_stay_as_they_are():
    def chain(x, w):
        for _ in range(3):
            x = jnp.tanh(x @ w)
        return x

    struct = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    graph = trace(chain, (struct, struct)).graph
    assert order(graph).nodes == graph.nodes
    args = adam()
    for fusion in ("none", "primitives", rdu.cut_after()):
        labels = [node.label for node in rdu.compile(step, *args, fusion=fusion).graph.nodes]
        assert labels == [n.label for n in rdu.compile(step, *args, fusion="none").graph.nodes]
    assert "order" in str(rdu.compile(step, *args).passes())


def test_fewer_bytes_are_moved():
    """A parameter's moments and steps are one kernel: it loads its four arrays and stores three."""
    structs = {name: jax.ShapeDtypeStruct((4096, 1024), jnp.float32) for name in SHAPES}
    state = jax.eval_shape(OPTIMIZER.init, structs)
    program = rdu.compile(step, structs, state, structs)
    each = 4096 * 1024 * 4
    assert program.cost().moved_bytes() < 1.01 * len(SHAPES) * 7 * each


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_stay_legal(seed: int):
    sample: Sample = random_sample(seed)
    graph = trace(sample.fn, sample.args).graph
    ordered = order(graph)
    check(ordered)
    assert {n.label for n in ordered.nodes} == {n.label for n in graph.nodes}
