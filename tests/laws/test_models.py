"""Every family of models keeps the laws: fused, unfused and strictly tile by tile the same bits, close to FP32."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rdujax as rdu
from benchmarks.models import decoder, fftconv, vision
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
# The largest root-mean-square error against FP32 that the formats leave, as a share of the values' own: BF16 keeps
# 8 bits, a layer rounds about ten times in a row, and errors of random signs add up as their root.
LAYER_ERROR = 2.0**-8 * 10**0.5
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


def singles(case: Case) -> Any:
    """The user's own function in plain JAX, every value in FP32: 2^16 times as fine as BF16."""
    wide = jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, case.args)
    return jax.tree.map(np.asarray, jax.jit(case.fn)(*wide))


@pytest.mark.parametrize("name", NAMES)
def test_every_fusion_and_executor_has_the_same_bits(name: str):
    case = CASES[name]()
    fused = rdu.compile(case.fn, *case.args)
    want = fused.replace(fusion="none")(*case.args)
    assert_same(fused(*case.args), want, "fused")
    assert_same(fused.execute(*case.args, executor="scan"), want, "tile by tile")


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_predicted(name: str):
    case = CASES[name]()
    program = rdu.compile(case.fn, *case.args)
    assert program.tally(*case.args) == program.predicted_counts()


@pytest.mark.parametrize("name", NAMES)
def test_values_are_as_close_to_plain_float32_as_the_formats_allow(name: str):
    case = CASES[name]()
    got = rdu.compile(case.fn, *case.args)(*case.args)
    for ours, exact in zip(jax.tree.leaves(got), jax.tree.leaves(singles(case)), strict=True):
        error = np.asarray(ours, np.float64) - exact
        assert 0 <= np.sqrt(np.mean(error**2)) <= LAYER_ERROR * np.sqrt(np.mean(exact**2))


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
