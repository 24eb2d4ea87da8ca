"""Every family of models keeps the laws: fused, unfused and strictly tile by tile the same bits, close to FP32."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rdujax as rdu
from benchmarks.models import calls, decoder, fftconv, vision
from benchmarks.models.parts import Sparse, count, one_layer
from rdujax.compiler.trips import of_float64
from rdujax.graph.graph import Graph
from rdujax.numerics.formats import BF16
from rdujax.ops.move import Move
from tests.rooms.compiler.samples import assert_same

SIZES = {"d_model": 32, "layers": 2, "heads": 4, "vocab": 61, "positions": 16}
FAMILIES = {
    "llama2": decoder.Config(kv_heads=2, d_ff=48, **SIZES),
    "mistral": decoder.Config(kv_heads=2, d_ff=48, window=5, **SIZES),
    "falcon": decoder.Config(kv_heads=1, d_ff=64, norm="layer", mlp="gelu", parallel="one norm", tied=True, **SIZES),
    "falcon_40b": decoder.Config(
        kv_heads=2, d_ff=64, norm="layer", mlp="gelu", parallel="two norms", tied=True, **SIZES
    ),
    "bloom": decoder.Config(
        kv_heads=4, d_ff=64, norm="layer", position="alibi", mlp="gelu", embed_norm=True, bias=True, tied=True, **SIZES
    ),
    "sparse_gpt": decoder.Config(
        kv_heads=4,
        d_ff=64,
        norm="layer",
        position="learned",
        mlp="gelu",
        bias=True,
        tied=True,
        block=8,
        sparsity=2,
        **SIZES,
    ),
}
# BF16 results in a row, of which each reads the one before, for every result of a case: hidden states (keys, values).
# Falcon's layer is short, for attention and MLP stand side by side; biases add to those of BLOOM and of the sparse GPT,
# and GELU takes ten steps where SiLU takes two; keys and values are early. A stage of a transform takes four: product,
# difference of the parts, and the same for the twiddles; there and back, the spectrum in between.
DEPTHS = {
    "llama2": (14, 3, 2), "mistral": (14, 3, 2), "falcon_40b": (12, 3, 2), "falcon": (12, 3, 2), "bloom": (22, 3, 3),
    "sparse_gpt": (22, 3, 3),
    "vision": (17,), "fftconv-2": (20,), "fftconv-3": (28,), "fftconv-4": (36,),
}  # fmt: skip
# The root mean square of what one result adds, as a share of it: errors are even up to half a step of BF16, 2^-8 / m of
# a mantissa m from 1 to 2; their mean square is a third of that squared, the mean of 1 / m^2 over evenly spread
# logarithms 3 / (8 log 2). Two operands bring such errors along, of random signs. FP32 keeps 16 bits more: norms,
# softmax and sums are exact beside this.
ROUNDING = 2.0**-8 * (1 / 3 * 3 / (8 * np.log(2)) * 2) ** 0.5
PICTURES = vision.Config(d_model=32, layers=3, heads=4, d_ff=64, side=8, patch=4)
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
    model = decoder.random_model(config)
    cache = jax.tree.map(
        lambda s: jax.random.normal(jax.random.key(2), s.shape[1:], s.dtype), decoder.cache_shapes(config, 2, 12)
    )
    length, start = (LENGTH, 0) if phase == "prefill" else (1, LENGTH)
    x = jax.random.normal(jax.random.key(1), (2, length, config.d_model), jnp.bfloat16)
    return Case(decoder.Layer.__call__, (one_layer(model.layers), x, model.data(), cache, jnp.int32(start)))


def vision_case() -> Case:
    x = jax.random.normal(jax.random.key(99), (2, 5, PICTURES.d_model), jnp.bfloat16)
    return Case(vision.Block.__call__, (vision.Block(PICTURES, nnx.Rngs(0)), x))


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
    model, cache = decoder.random_model(config), decoder.empty_cache(config, 1, 12)
    tokens = jax.random.randint(jax.random.key(3), (1, LENGTH), 0, config.vocab)
    args = (model, tokens, cache, jnp.int32(0))
    prefill = rdu.compile(decoder.Decoder.__call__, *args)
    logits, cache = prefill(*args)
    assert_same((logits, cache), prefill.replace(fusion="none")(*args), "prefill")
    args = (model, logits.argmax(-1)[:, None].astype(jnp.int32), cache, jnp.int32(LENGTH))
    decode = rdu.compile(decoder.Decoder.__call__, *args)
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
    model = decoder.random_model(config)
    tokens = jax.random.randint(jax.random.key(3), (1, LENGTH + 1), 0, config.vocab)

    def run(tokens: jax.Array, cache: Any, start: int) -> Any:
        args = (model, tokens, cache, jnp.int32(start))
        return rdu.compile(decoder.Decoder.__call__, *args)(*args)

    _, cache = run(tokens[:, :LENGTH], decoder.empty_cache(config, 1, 12), 0)
    one_more = run(tokens[:, LENGTH:], cache, LENGTH)
    logits, whole = run(tokens, decoder.empty_cache(config, 1, 12), 0)
    assert_same(one_more, (logits, whole), "prefill and decode")
    wider, _ = run(tokens, decoder.empty_cache(config, 1, 21), 0)
    assert_same(wider, logits, "a longer cache")


# As counted by who published them, tables of positions left out; the sparse GPT is given by its dense size.
PUBLISHED = {
    "Llama2-7B": (decoder.LLAMA2_7B, 6_738_415_616),
    "Llama2-13B": (decoder.LLAMA2_13B, 13_015_864_320),
    "Llama2-70B": (decoder.LLAMA2_70B, 68_976_648_192),
    "Mistral-7B": (decoder.MISTRAL_7B, 7_241_732_096),
    "Falcon-40B": (decoder.FALCON_40B, 41_303_293_952),
    "BLOOM-176B": (decoder.BLOOM_176B, 176_247_271_424),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_as_many_parameters_as_was_published(name: str):
    config, parameters = PUBLISHED[name]
    assert count(decoder.abstract_model(config)) == parameters


def test_llava_is_clip_a_projector_and_llama2():
    model = vision.abstract_llava()
    assert count(model.encoder) == 303_507_456  # ViT-L/14 at 336 pixels, its vision part
    projector = 1024 * 4096 + 4096 + 4096 * 4096 + 4096
    assert count(model) == 303_507_456 + projector + 6_738_415_616


def test_one_in_eight_blocks_of_the_sparse_gpt_is_stored():
    dense, sparse = (decoder.abstract_model(c).layers for c in (decoder.GPT_13B, decoder.SPARSE_GPT_13B))
    for part, name in (*(("attention", n) for n in "qkvo"), ("mlp", "up"), ("mlp", "down")):
        whole, stored = (getattr(getattr(layer, part), name) for layer in (dense, sparse))
        assert 8 * stored.weight.size == whole.kernel.size


def test_block_sparse_products_are_those_of_the_dense_matrix_with_zeros(rng: np.random.Generator):
    layer = Sparse(24, 16, 8, 3, True, nnx.Rngs(0))
    x = jnp.asarray(rng.standard_normal((5, 24)), jnp.float32)
    dense = np.zeros((24, 16))
    for column, rows in enumerate(layer.pattern()):
        for i, row in enumerate(rows):
            dense[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = layer.weight[column, i]
    want = np.asarray(x, np.float64) @ dense + np.asarray(layer.bias[...], np.float64)
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.full
def test_a_picture_and_a_text_are_read_with_the_same_bits():
    model = vision.Llava(PICTURES, FAMILIES["llama2"], nnx.Rngs(0))
    pixels = jax.random.normal(jax.random.key(1), (1, 8, 8, 3), jnp.bfloat16)
    tokens = jax.random.randint(jax.random.key(3), (1, 3), 0, FAMILIES["llama2"].vocab)
    args = (model, pixels, tokens, decoder.empty_cache(FAMILIES["llama2"], 1, 12), jnp.int32(0))
    program = rdu.compile(vision.Llava.__call__, *args)
    got = program(*args)
    assert_same(got, program.replace(fusion="none")(*args), "fused")
    plain, _ = vision.Llava.__call__(*args)
    assert length(np.asarray(got[0] - plain)) < 0.1 * length(plain)


@pytest.mark.full
def test_a_train_step_with_adamw_has_the_same_bits_fused_and_unfused():
    config = FAMILIES["llama2"]
    tokens = jax.random.randint(jax.random.key(3), (1, 5), 0, config.vocab)
    step, args = calls.train_call(decoder.random_model(config), tokens)
    fused = rdu.compile(step, *args)
    got = fused(*args)
    assert_same(got, fused.replace(fusion="none")(*args), "fused")
    assert abs(float(got[-1]) - float(step(*args)[-1])) < 0.02
