"""Models on several sockets have the bits of one socket that sums where they meet in as many segments (law L1)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rdujax as rdu
from benchmarks.models import calls, decoder, parallel, table1, vision
from tests.oracles.harness import in_full
from tests.rooms.compiler.samples import assert_same

SIZES = {"d_model": 32, "layers": 2, "heads": 8, "vocab": 64, "positions": 16}
FAMILIES = {
    "llama2": decoder.Config(kv_heads=4, d_ff=48, **SIZES),
    "falcon_40b": decoder.Config(
        kv_heads=4, d_ff=64, norm="layer", mlp="gelu", parallel="two norms", tied=True, **SIZES
    ),
    "bloom": decoder.Config(
        kv_heads=8, d_ff=64, norm="layer", position="alibi", mlp="gelu", embed_norm=True, bias=True, tied=True, **SIZES
    ),
}
LENGTH = 5
# Of values, as a share of them in the mean square: about thirty results in a row, each rounded to BF16 twice over (the
# reference is BF16, too), every one by 2^-8 / sqrt(12) and a little more.
CLOSE = 0.02


@pytest.fixture(autouse=True)
def _promoted():
    """Models are written as users write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Segmented(nnx.Module):
    """A projection as one socket does it alone: K in segments, each a sum from zero, these added in order."""

    def __init__(self, segments: int, rows: int, columns: int, bias: bool):
        self.segments = segments
        self.kernel = nnx.Param(jnp.zeros((rows, columns), jnp.bfloat16))
        self.bias = nnx.Param(jnp.zeros(columns, jnp.bfloat16)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        parts = zip(jnp.split(x, self.segments, -1), jnp.split(self.kernel[...], self.segments, 0), strict=True)
        first, *others = (jnp.matmul(*part, preferred_element_type=jnp.float32) for part in parts)
        for other in others:
            first = first + other
        result = first.astype(x.dtype)
        return result if self.bias is None else result + self.bias[...]


CASES = [
    pytest.param(family, sockets, marks=() if (family, sockets) == ("bloom", 2) else pytest.mark.full)
    for family in FAMILIES
    for sockets in (2, 4)
]


def on_one_socket(make: Callable[[], Any], state: Any, sockets: int) -> Any:
    """A model with this state, for one socket that sums in segments where several would meet."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoder, "joining", lambda c, rows, columns, rngs: Segmented(sockets, rows, columns, c.bias))
        return nnx.merge(nnx.split(make())[0], state)


@pytest.mark.parametrize(("family", "sockets"), CASES)
def test_sockets_have_the_bits_of_one_that_sums_in_segments(family: str, sockets: int):
    config = FAMILIES[family]
    model, cache = decoder.random_model(config), decoder.empty_cache(config, 1, 12)
    state = nnx.state(model)
    alone = on_one_socket(partial(decoder.abstract_model, config), state, sockets)
    prompt = jax.random.randint(jax.random.key(3), (1, LENGTH), 0, config.vocab)
    many = parallel.parallel(config, parallel.node(sockets))
    for tokens, start in ((prompt, 0), (prompt[:, -1:], LENGTH)):
        args = (tokens, cache, jnp.int32(start))
        want = rdu.compile(decoder.Decoder.__call__, alone, *args)(alone, *args)
        program = rdu.compile(many, state, *args)
        assert_same(program(state, *args), want, f"{tokens.shape[1]} tokens")
        _, cache = want
    assert any(name.startswith("all_") for name in (node.op.name for node in program.graph.nodes))


PICTURES = vision.Config(d_model=32, layers=2, heads=4, d_ff=48, side=8, patch=4)
TEXT = 3


@pytest.mark.parametrize("sockets", [2, *in_full(4)])
def test_a_picture_and_a_text_on_several_sockets(sockets: int):
    """LLaVA: fused and unfused bits, those of one socket that sums in segments, and values near to plain JAX."""
    reading = replace(FAMILIES["llama2"], layers=1)
    fn, shapes = table1.llava_call(sockets, PICTURES.patches + TEXT, PICTURES, reading)
    state = nnx.state(vision.Llava(PICTURES, reading, nnx.Rngs(0)))
    pixels = jax.random.normal(jax.random.key(1), (1, PICTURES.side, PICTURES.side, 3), jnp.bfloat16)
    tokens = jax.random.randint(jax.random.key(3), (1, TEXT), 0, reading.vocab)
    args = (pixels, tokens, decoder.empty_cache(reading, 1, PICTURES.patches + TEXT), jnp.int32(0))
    program = rdu.compile(fn, *shapes)
    got = program(state, *args)
    assert_same(program.replace(fusion="none")(state, *args), got, "unfused")
    alone = on_one_socket(partial(vision.abstract_llava, PICTURES, reading), state, sockets)
    assert_same(rdu.compile(vision.Llava.__call__, alone, *args)(alone, *args), got, "one socket")
    plain = nnx.merge(nnx.split(vision.abstract_llava(PICTURES, reading))[0], state)
    want = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.jit(vision.Llava.__call__)(plain, *args))
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        apart = np.asarray(ours, np.float64) - theirs
        assert np.sqrt(np.mean(apart**2)) < CLOSE * np.sqrt(np.mean(theirs**2))


def test_shares_have_the_whole_models_sizes_and_are_refused_where_uneven():
    config = FAMILIES["llama2"]
    share = parallel.share(config, 4)
    assert (share.heads, share.kv_heads, share.d_ff, share.vocab, share.d_head) == (2, 1, 12, 16, config.d_head)
    with pytest.raises(ValueError, match=r"kv_heads=4 cannot be shared out evenly over 8 sockets"):
        parallel.share(config, 8)
    with pytest.raises(ValueError, match="block-sparse"):
        parallel.share(decoder.SPARSE_GPT_13B, 1)


def test_a_socket_reads_its_share_of_the_weights():
    """Eight sockets: an eighth of the matrices and the cache each, all of the norms and tables."""
    call = partial(parallel.parallel_call, decoder.LLAMA2_7B)
    eight, one = (rdu.compile(fn, *args, donate_argnums=2).cost() for fn, args in (call(8, 1, 256), call(1, 1, 256)))
    assert 0.125 < eight.moved_bytes("hbm") / one.moved_bytes("hbm") < 0.13


@pytest.mark.parametrize("shared", ["model", *in_full("data")])
def test_a_train_step_on_several_sockets_is_that_of_one(shared: str):
    """The loss and the first moments, which are a tenth of the slopes, to the rounding of BF16."""
    config, mesh = FAMILIES["llama2"], parallel.node(2)
    model, tokens = decoder.random_model(config), jax.random.randint(jax.random.key(3), (2, LENGTH), 0, config.vocab)
    step, args = calls.train_call(model, tokens)
    _, state, loss = jax.jit(step)(*args)
    if shared == "model":
        many, own = parallel.parallel_train_call(config, mesh, model, tokens)
    else:
        many, own = parallel.replicated_train_call(mesh, model, tokens)
    program = rdu.compile(many, *own)
    _, found, found_loss = program(*own)
    np.testing.assert_allclose(found_loss, loss, rtol=2e-3)
    for ours, theirs in zip(jax.tree.leaves(found[0].mu), jax.tree.leaves(state[0].mu), strict=True):
        one, other = (np.asarray(x, np.float32) for x in (ours, theirs))
        np.testing.assert_allclose(one, other, rtol=0, atol=0.05 * np.abs(other).max())
    assert program.tally(*own) == program.predicted_counts()
