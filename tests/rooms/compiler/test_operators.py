"""Operator by operator, one kernel is what a framework launches; how calls are told apart; no bit changes by it."""

from collections.abc import Callable
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

import rdujax as rdu
from experts.llama import Config, abstract_model, empty_cache, random_model
from rdujax.compiler.fuse import Left
from rdujax.frontend.trace import trace
from rdujax.graph.graph import Graph, all_nodes
from rdujax.ops.move import Move
from tests.rooms.compiler.samples import Sample, assert_same, random_sample, samples, small

X = jnp.asarray(np.random.default_rng(2).standard_normal((8, 8)), jnp.float32)
KEY = jax.random.key(1)


def parts(fn: Callable, *args) -> list[str]:
    """The operators of several nodes, in the order of the graph's text, bodies of regions included."""
    named = (node.operator for node in all_nodes(trace(fn, args).graph) if node.operator)
    return [name for name, _ in groupby(named)]


def kernels(fn: Callable, *args, **choices) -> int:
    return len(rdu.compile(fn, *args, **{"fusion": "none", "machine": "sn40l"} | choices).plan.kernels)


@rdu.operator("cube")
def cube(x):
    return x * x * x


ONE_OPERATOR = {
    "softmax": (jax.nn.softmax, X),
    "log_softmax": (jax.nn.log_softmax, X),
    "logsumexp": (jax.nn.logsumexp, X),
    "silu": (jax.nn.silu, X),
    "gelu": (jax.nn.gelu, X),
    "softplus": (jax.nn.softplus, X),
    "standardize": (jax.nn.standardize, X),
    "var": (jnp.var, X),
    "std": (jnp.std, X),
    "mean": (lambda x: x.mean(-1), X),
    "norm": (jnp.linalg.norm, X),
    "clip": (lambda x: jnp.clip(x, -1.0, 1.0), X),
    "normal": (lambda key: jax.random.normal(key, (4,)), KEY),
    "bernoulli": (lambda key: jax.random.bernoulli(key, 0.5, (4,)), KEY),
    "softmax_cross_entropy": (optax.softmax_cross_entropy, X, X),
    "cube": (cube, X),
}


@pytest.mark.parametrize("name", ONE_OPERATOR)
def test_a_named_function_is_one_operator(name: str):
    fn, *args = ONE_OPERATOR[name]
    assert parts(fn, *args) == [f"{name}#1"]
    assert kernels(fn, *args) == 1 < kernels(fn, *args, fusion="primitives")


LAYERS = {
    "RMSNorm": lambda rngs: nnx.RMSNorm(8, rngs=rngs),
    "LayerNorm": lambda rngs: nnx.LayerNorm(8, rngs=rngs),
    "GroupNorm": lambda rngs: nnx.GroupNorm(8, 2, rngs=rngs),
    "Linear": lambda rngs: nnx.Linear(8, 4, rngs=rngs),
    "Dropout": lambda rngs: lambda x: nnx.Dropout(0.5)(x, rngs=KEY),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_flax_is_one_operator(name: str):
    layer = LAYERS[name](nnx.Rngs(0))

    def fn(x):
        return layer(x)

    assert parts(fn, X) == [f"{name}#1"]
    assert kernels(fn, X) == 1 < kernels(fn, X, fusion="primitives")


def test_of_layers_within_layers_the_innermost_count():
    attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    found = parts(lambda x: attention(x[None]), X)
    assert [name.partition("#")[0] for name in found] == [*["LinearGeneral"] * 3, "MultiHeadAttention", "LinearGeneral"]
    embed = nnx.Embed(6, 8, rngs=nnx.Rngs(0))
    assert parts(lambda t: embed(t), jnp.arange(3)) == ["Embed#1"]


def test_a_primitive_is_an_operator_of_its_own():
    assert parts(lambda x: jnp.tanh(x @ x) + x, X) == []
    assert kernels(lambda x: jnp.tanh(x @ x) + x, X) == 3
    assert parts(lambda x: lax.rsqrt(lax.exp(x)), X) == []


def test_functions_of_the_user_are_none_whether_jitted_or_not():
    def mine(x):
        return jnp.sin(jax.nn.softmax(x)) * 2.0

    for fn in (
        mine,
        jax.jit(mine),
        jax.checkpoint(mine),
        jax.vmap(mine),
        jax.jit(jax.vmap(mine)),
    ):
        assert parts(fn, X) == ["softmax#1"]
        assert kernels(fn, X) == 3


def test_each_call_is_one_of_its_own():
    """On one line, one within the other, in a loop of Python, through a jitted function that is traced once."""

    def in_a_loop(x):
        for _ in range(3):
            x = jax.nn.softmax(x)
        return x

    cases = {
        "one line": (lambda x: jax.nn.softmax(x) + jax.nn.softmax(x * 2.0), 2),
        "within": (lambda x: jax.nn.softmax(jax.nn.softmax(x)), 2),
        "loop": (in_a_loop, 3),
        "jitted": (lambda x: jax.jit(jax.nn.softmax)(jax.jit(jax.nn.softmax)(x)), 2),
        "marked": (lambda x: cube(cube(x)) + cube(x), 3),
        "marked loop": (lambda x: [x := cube(x) for _ in range(4)], 4),
    }
    for name, (fn, count) in cases.items():
        word = "cube" if "marked" in name else "softmax"
        assert parts(fn, X) == [f"{word}#{i}" for i in range(1, count + 1)], name


def test_a_mark_takes_in_everything_within():
    def attend(x):
        with rdu.operator("attend"):
            return jax.nn.softmax(x @ x.T) @ jax.jit(lambda x: jnp.sin(x) + 1.0)(x)

    assert parts(attend, X) == ["attend#1"] and kernels(attend, X) == 1
    scoped = jax.named_scope("operator:rotary")(lambda x: jnp.sin(x) * jnp.cos(x))
    assert parts(scoped, X) == ["rotary#1"]
    labels = [node.label for node in trace(scoped, (X,)).graph.nodes]
    assert labels == ["rotary/sin", "rotary/cos", "rotary/mul"]

    @rdu.operator("outer")
    def outer(x):
        return cube(x) + 1.0

    assert parts(outer, X) == ["outer#1"]


@pytest.mark.parametrize("name", ["", "a/b", "f(x)", "two#2", 3])
def test_a_mark_has_a_name(name):
    with pytest.raises(rdu.ArgumentError, match="the name of an operator"):
        rdu.operator(name)


def test_in_loops_and_branches_too():
    def fn(x):
        x, _ = lax.scan(lambda c, _: (jax.nn.softmax(c @ x), None), x, None, length=2)
        x = lax.cond(x[0, 0] > 0, jax.nn.gelu, jax.nn.silu, x)
        with rdu.operator("loop"):
            return lax.fori_loop(0, 3, lambda i, c: jnp.sin(jax.nn.softmax(c)), x)

    found = [name.partition("#")[0] for name in parts(fn, X)]
    assert [name for name in found if name != "getitem"] == ["softmax", "silu", "gelu", "loop"]
    fused = rdu.compile(fn, X, machine="sn40l")
    assert_same(fused.replace(fusion="none")(X), fused(X))


def test_the_backward_pass_of_an_operator_is_another_one():
    def loss(w, x):
        return jnp.log(jax.nn.silu(cube(jax.nn.softmax(x @ w)))).sum()

    found = parts(jax.grad(loss), X, X)
    assert [n for n in found if "backward" in n] == [
        f"{name}_backward#1" for name in ("silu", "cube", "softmax", "matmul")
    ]
    both = parts(jax.grad(lambda w, x: jnp.sin(x @ w).sum(), (0, 1)), X, X)
    gemms = [n for n in all_nodes(trace(jax.grad(lambda w, x: jnp.sin(x @ w).sum(), (0, 1)), (X, X)).graph)]
    products = [node.operator or node.label for node in gemms if node.op.name == "gemm"]
    assert len(products) == len(set(products)) == 3 and len(both) <= 2


def test_views_cost_nothing_and_are_read_through_by_all():
    """A view inside of an operator that another one reads, too: what is under it is written, once."""

    def fn(x):
        with rdu.operator("first"):
            y = jnp.sin(x) * 2.0
            v = y.reshape(4, 16)
            w = jnp.cos(v) + 1.0
        return jnp.tanh(v) + w, v.reshape(16, 4)

    program = rdu.compile(fn, X, machine="sn40l", fusion="none")
    assert [len(k.kernel.stages) for k in program.plan.kernels] == [2, 1, 1, 0]
    assert_same(program(X), program.replace(fusion="primitives")(X))
    graph = program.graph
    group = program.plan.kernels[0].kernel.nodes
    names = {graph.labels[v] for v in Left(graph).by(group)}
    assert names == {"first/mul", "first/add"}


def memory_values(graph: Graph, program: rdu.Program) -> set[int]:
    return set(program.plan.tiers) - set(graph.inputs) - set(graph.constants)


@pytest.mark.parametrize("sample", [*samples(), *(random_sample(s) for s in range(2))], ids=lambda s: s.name[:9])
def test_no_bit_changes(sample: Sample):
    roomy = rdu.machines.tiny().replace({"pmu.count": 4096, "pcu.count": 256, "agcu.count": 64})
    program = rdu.compile(sample.fn, *sample.args, machine=roomy, fusion="none")
    finer = program.replace(fusion="primitives")
    assert_same(program(*sample.args), finer(*sample.args))
    assert memory_values(program.graph, program) <= memory_values(program.graph, finer)
    assert program.cost().moved_bytes() <= finer.cost().moved_bytes()


def test_what_does_not_fit_is_cut():
    """On a machine with room for a few tiles, an operator of three products is several kernels, of the same bits."""

    def fn(x):
        with rdu.operator("deep"):
            return jnp.sin(jnp.sin(jnp.sin(x @ x) @ x) @ x)

    x = jnp.asarray(np.random.default_rng(8).standard_normal((16, 16)), jnp.float32)
    roomy = rdu.compile(fn, x, machine="sn40l", fusion="none")
    tight = roomy.replace(machine=small())
    assert len(roomy.plan.kernels) == 1 < len(tight.plan.kernels)
    assert_same(tight(x), roomy(x))
    nothing = small().replace({"pmu.count": 2})
    with pytest.raises(rdu.CapacityError, match="PMU"):
        roomy.replace(machine=nothing)


def test_a_layer_of_llama_is_as_many_kernels_as_a_framework_launches():
    """25: two norms, seven products, two rotations, two updates of the cache, attention, a gate, two residuals.

    Attention is two products, three operators for its mask, one for the scale, a choice, a softmax and its rounding.
    """
    config = Config(d_model=64, layers=1, heads=4, kv_heads=2, d_ff=96, vocab=32, positions=16)
    layer, (cache,) = abstract_model(config).layers[0], jax.eval_shape(lambda: empty_cache(config, 1, 16))
    x = jax.ShapeDtypeStruct((1, 8, 64), jnp.bfloat16)
    angles = (jax.ShapeDtypeStruct((8, 8), jnp.float32),) * 2
    args = (layer, x, angles, cache, jax.ShapeDtypeStruct((), jnp.int32))
    with jax.numpy_rank_promotion("allow"):
        program = rdu.compile(*args, fusion="none")
    found = {f: len(program.replace(fusion=f).plan.kernels) for f in ("primitives", "none", "streaming")}
    assert found == {"primitives": 70, "none": 25, "streaming": 1}
    several = [name.partition("#")[0] for name, _ in groupby(n.operator for n in program.graph.nodes if n.operator)]
    marked = [name for name in several if name in ("rms_norm", "rotary", "softmax", "silu")]
    assert marked == ["rms_norm", "rotary", "rotary", "softmax", "rms_norm", "silu"]


@pytest.mark.full
def test_a_model_has_the_same_bits_by_operators_and_by_primitives():
    config = Config(d_model=32, layers=1, heads=2, kv_heads=1, d_ff=48, vocab=16, positions=8)
    args = (random_model(config, 0), jnp.ones((1, 4), jnp.int32), empty_cache(config, 1, 8), jnp.int32(0))
    with jax.numpy_rank_promotion("allow"):
        program = rdu.compile(*args, machine="sn40l", fusion="none")
    assert_same(program(*args), program.replace(fusion="primitives")(*args))
    assert_same(program(*args), program.replace(fusion="streaming")(*args))


def test_a_function_by_itself_is_an_operator_too():
    """There is no code of the user around it."""
    assert parts(jax.nn.softmax, X) == ["softmax#1"]
    assert [isinstance(n.op, Move) for n in trace(jax.nn.softmax, (X,)).graph.nodes].count(False) == 6
