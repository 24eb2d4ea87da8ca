"""Every family of models keeps the laws: fused, unfused and strictly tile by tile the same bits, close to FP32."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rdujax as rdu
from benchmarks.models import decoder, fftconv, vision
from rdujax.compiler.trips import of_float64
from rdujax.graph.graph import Graph
from rdujax.numerics.formats import BF16
from rdujax.ops.move import Move
from tests.rooms.compiler.samples import assert_same

SIZES = {"d_model": 32, "layers": 2, "heads": 4, "vocab": 61, "positions": 16}
FAMILIES = {
    "llama2": decoder.Config(kv_heads=2, d_ff=48, **SIZES),
    "mistral": decoder.Config(kv_heads=2, d_ff=48, window=5, **SIZES),
    "falcon": decoder.Config(kv_heads=1, d_ff=64, norm="layer", mlp="gelu", parallel=True, tied=True, **SIZES),
    "bloom": decoder.Config(kv_heads=4, d_ff=64, norm="layer", position="alibi", mlp="gelu", bias=True, **SIZES),
    "sparse_gpt": decoder.Config(
        kv_heads=4, d_ff=64, norm="layer", position="learned", mlp="gelu", bias=True, block=8, stored=2, **SIZES
    ),
}
# BF16 results in a row, of which each reads the one before, for every result of a case: hidden states (keys, values).
# Falcon's layer is short, for attention and MLP stand side by side; biases add to those of BLOOM and of the sparse GPT,
# and GELU takes ten steps where SiLU takes two; keys and values are early. A stage of a transform takes four: product,
# difference of the parts, and the same for the twiddles; there and back, the spectrum in between.
DEPTHS = {
    "llama2": (14, 3, 2), "mistral": (14, 3, 2), "falcon": (12, 3, 2), "bloom": (22, 3, 3), "sparse_gpt": (22, 3, 3),
    "vision": (17,), "fftconv-2": (20,), "fftconv-3": (28,), "fftconv-4": (36,),
}  # fmt: skip
# The root mean square of what one result adds, as a share of it: errors are even up to half a step of BF16, 2^-8 / m of
# a mantissa m from 1 to 2; their mean square is a third of that squared, the mean of 1 / m^2 over evenly spread
# logarithms 3 / (8 log 2). Two operands bring such errors along, of random signs. FP32 keeps 16 bits more: norms,
# softmax and sums are exact beside this.
ROUNDING = 2.0**-8 * (1 / 3 * 3 / (8 * np.log(2)) * 2) ** 0.5
MOVED = ("take", "dynamic_slice", "dynamic_update_slice", "concatenate")  # they round nothing
LENGTH = 7


@pytest.fixture(autouse=True)
def _promoted():
    """Models are written as users write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@dataclass(frozen=True)
class Case:
    """A function of arrays and the arrays."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]


def layer_case(family: str, phase: str) -> Case:
    """One decoder layer with its cache: seven tokens at once, or one token after seven."""
    config = FAMILIES[family]
    weights = jax.tree.map(lambda w: w[0], decoder.parameters(config)["layers"])
    tables = jax.tree.map(jnp.asarray, config.tables())
    cache = jax.tree.map(
        lambda s: jax.random.normal(jax.random.key(2), s.shape[1:], s.dtype), decoder.cache_shapes(config, 2, 12)
    )
    length, start = (LENGTH, 0) if phase == "prefill" else (1, LENGTH)
    x = jax.random.normal(jax.random.key(1), (2, length, config.d_model), jnp.bfloat16)
    return Case(partial(decoder.layer, config), (weights, tables, x, cache, jnp.int32(start)))


def vision_case() -> Case:
    config = vision.Config(d_model=32, layers=2, heads=4, d_ff=64, side=8, patch=4, d_text=16)
    leaves, tree = jax.tree.flatten(vision.shapes(config)["blocks"])
    drawn = [jax.random.normal(jax.random.key(i), s.shape[1:], s.dtype) * 0.3 for i, s in enumerate(leaves)]
    x = jax.random.normal(jax.random.key(99), (2, 5, config.d_model), jnp.bfloat16)
    return Case(partial(vision.block, config), (jax.tree.unflatten(tree, drawn), x))


def convolution_case(factors: tuple[int, ...], dtype: Any = jnp.bfloat16) -> Case:
    rng, points = np.random.default_rng(0), int(np.prod(factors))
    x, gate = (jnp.asarray(rng.standard_normal((2, 3, points)), dtype) for _ in range(2))
    spectrum = fftconv.transformed_filter(rng.standard_normal((3, points)) / points**0.5, factors, dtype)
    return Case(fftconv.convolve, (x, gate, spectrum, fftconv.tables(factors, dtype)))


CASES = {
    **{
        f"{family}-{phase}": partial(layer_case, family, phase)
        for family in FAMILIES
        for phase in ("prefill", "decode")
    },
    "vision": vision_case,
    **{f"fftconv-{len(f)}": partial(convolution_case, f) for f in ((4, 4), (4, 2, 4), (2, 4, 2, 4))},
}
IN_QUICK = ("llama2-decode", "vision")
NAMES = [pytest.param(name, marks=() if name in IN_QUICK else pytest.mark.full) for name in CASES]


@cache
def compiled(name: str) -> tuple[Case, rdu.Program]:
    """A case and its program, which is run by several tests and compiled by the first."""
    case = CASES[name]()
    return case, rdu.compile(case.fn, *case.args)


def singles(case: Case) -> Any:
    """The user's own function in plain JAX, every value in FP32: 2^16 times as fine as BF16."""
    wide = jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, case.args)
    return jax.tree.map(np.asarray, jax.jit(case.fn)(*wide))


@pytest.mark.parametrize("name", NAMES)
def test_every_fusion_and_executor_has_the_same_bits(name: str):
    case, fused = compiled(name)
    want = fused.replace(fusion="none")(*case.args)
    assert_same(fused(*case.args), want, "fused")
    assert_same(jax.jit(partial(fused.execute, executor="scan"))(*case.args), want, "tile by tile")


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_predicted(name: str):
    case, program = compiled(name)
    assert program.tally(*case.args) == program.predicted_counts()


def depths(graph: Graph) -> tuple[int, ...]:
    """The longest chain of BF16 results that leads to each result, itself included."""
    found: dict[int, int] = {}
    for node in graph.nodes:
        rounds = graph.types[node.result].fmt is BF16 and not isinstance(node.op, Move) and node.op.name not in MOVED
        found[node.result] = rounds + max((found.get(v, 0) for v in node.operands), default=0)
    return tuple(found.get(v, 0) for v in graph.outputs)


def length(x: Any) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.asarray(x, np.float64) ** 2)))


@pytest.mark.parametrize("name", NAMES)
def test_values_are_as_close_to_float64_as_the_formats_allow(name: str):
    """Two roads: the graph in float64, and the user's function in plain FP32, which differ by constants of the text.

    Those are BF16 numbers beside BF16 values, as GELU's are; each is half a step off, in FP32 it is not.
    """
    case, program = compiled(name)
    expected = next(each for key, each in DEPTHS.items() if name.startswith(key))
    assert depths(program.graph) == expected
    values = of_float64(program.graph, jax.tree.leaves(case.args))
    exact = [values[v][()] for v in program.graph.outputs]
    results = jax.tree.leaves(program(*case.args)), jax.tree.leaves(singles(case))
    for ours, single, double, depth in zip(*results, exact, expected, strict=True):
        assert length(single - double) <= 2.0**-9 * length(double)
        assert 0 < length(np.asarray(ours, np.float64) - double) <= ROUNDING * depth**0.5 * length(double)


@pytest.mark.parametrize("family", [pytest.param(f, marks=() if f == "llama2" else pytest.mark.full) for f in FAMILIES])
def test_a_whole_model_under_scan_prefills_and_decodes_with_the_same_bits(family: str):
    config = FAMILIES[family]
    params, tables = decoder.parameters(config), jax.tree.map(jnp.asarray, config.tables())
    cache = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), decoder.cache_shapes(config, 1, 12))
    tokens = jax.random.randint(jax.random.key(3), (1, LENGTH), 0, config.vocab)
    args = (params, tables, tokens, cache, jnp.int32(0))
    prefill = rdu.compile(partial(decoder.forward, config), *args)
    logits, cache = prefill(*args)
    assert_same((logits, cache), prefill.replace(fusion="none")(*args), "prefill")
    args = (params, tables, logits.argmax(-1)[:, None].astype(jnp.int32), cache, jnp.int32(LENGTH))
    decode = rdu.compile(partial(decoder.forward, config), *args)
    assert_same(decode(*args), decode.replace(fusion="none")(*args), "decode")
    assert decode.cost().total_s < decode.replace(fusion="none").cost().total_s


@pytest.mark.parametrize("family", [pytest.param(f, marks=pytest.mark.full) for f in FAMILIES])
def test_prefill_and_decode_have_the_bits_of_a_longer_prefill(family: str):
    """Eight tokens at once, or seven and one; and with a cache of another length.

    A row of a product does not depend on other rows. The keys that a token does not see weigh exp(-1e30) = +0, so that
    sums of any length get zeros for them, and the tree of a longer row begins by adding those to the others (N9).
    That is for one sum over K: segments of K (`k_splits`) are shares of the cache's length, which orders the sum anew.
    """
    config = FAMILIES[family]
    params, tables = decoder.parameters(config), jax.tree.map(jnp.asarray, config.tables())
    tokens = jax.random.randint(jax.random.key(3), (1, LENGTH + 1), 0, config.vocab)

    def run(tokens: jax.Array, cache: Any, start: int) -> Any:
        args = (params, tables, tokens, cache, jnp.int32(start))
        return rdu.compile(partial(decoder.forward, config), *args)(*args)

    def empty(places: int) -> Any:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), decoder.cache_shapes(config, 1, places))

    _, cache = run(tokens[:, :LENGTH], empty(12), 0)
    one_more = run(tokens[:, LENGTH:], cache, LENGTH)
    logits, whole = run(tokens, empty(12), 0)
    assert_same(one_more, (logits, whole), "prefill and decode")
    wider, _ = run(tokens, empty(21), 0)
    assert_same(wider, logits, "a longer cache")


@pytest.mark.full
def test_a_train_step_with_adamw_has_the_same_bits_fused_and_unfused():
    config = FAMILIES["llama2"]
    params, tables = decoder.parameters(config), jax.tree.map(jnp.asarray, config.tables())
    tokens = jax.random.randint(jax.random.key(3), (1, 5), 0, config.vocab)
    optimizer = optax.adamw(1e-3)

    def step(params, state, tokens):
        loss, slope = jax.value_and_grad(lambda p: decoder.loss(config, p, tables, tokens))(params)
        change, state = optimizer.update(slope, state, params)
        return loss, optax.apply_updates(params, change), state

    args = (params, optimizer.init(params), tokens)
    fused = rdu.compile(step, *args)
    got = fused(*args)
    assert_same(got, fused.replace(fusion="none")(*args), "fused")
    assert abs(float(got[0]) - float(step(*args)[0])) < 0.02
