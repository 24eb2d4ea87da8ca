"""Llama2 against transformers: what that library computed on models that it wrote, and where it is installed, anew.

Both sides compute in FP32 on the same weights, and add the same products in another order. A sum is then off by a few
times 2^-24 of the largest value, and up to three layers of sums of up to 90 products by 4 to 27 times (measured on the
logits, whose largest is the measure). TOLERANCE allows 64. A wrong position or norm is off by many thousands.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experts import checkpoints, tokenizer
from experts.llama import Cache, Config, Llama, empty_cache, random_model

FOLDER = Path(__file__).parent / "goldens_llama"
NAMES = ("grouped", "multi_head_tied", "multi_query", "sharded", "wide_heads_tied")
TOLERANCE = 64 * 2.0**-24
LAYERS = 3  # of the model whose sub-layers were listened to
LIVE = 6


@pytest.fixture(autouse=True)
def _as_a_user_runs_it():
    """FP32 means FP32 where products are narrower by default; the model adds axes as plain JAX lets it."""
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        yield


def golden(name: str) -> tuple[Llama, dict[str, np.ndarray]]:
    """The model, and what transformers computed with it."""
    with np.load(FOLDER / name / "expected.npz") as file:
        return checkpoints.load(FOLDER / name, dtype="float32"), dict(file)


def every(model: Llama, tokens: np.ndarray) -> jax.Array:
    """Logits of all positions."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    return model.every(jnp.asarray(tokens), positions, jnp.zeros_like(positions))


@nnx.jit
def step(model: Llama, tokens: jax.Array, cache: Cache, start: jax.Array) -> tuple[jax.Array, Cache]:
    """One call of the model."""
    return model(tokens, cache, start)


def assert_rounded_alike(found: jax.Array | np.ndarray, expected: np.ndarray):
    """Equal but for the order of sums, and of the same shape and dtype."""
    found = np.asarray(found)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def greedy(model: Llama, prompt: np.ndarray, steps: int) -> list[int]:
    """Tokens [steps], each the best after all before it: one prefill, then one token at a time."""
    cache = empty_cache(model.config, 1, prompt.shape[1] + steps)
    tokens, start, found = jnp.asarray(prompt), 0, []
    for _ in range(steps):
        logits, cache = step(model, tokens, cache, jnp.int32(start))
        start += tokens.shape[1]
        tokens = jnp.argmax(logits, axis=-1, keepdims=True).astype(jnp.int32)
        found.append(int(tokens[0, 0]))
    return found


def test_every_golden_is_tested_and_all_are_small():
    assert sorted(path.name for path in FOLDER.iterdir()) == list(NAMES)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 400_000


def test_sizes_are_read_as_transformers_means_them():
    read = {name: checkpoints.read_config(FOLDER / name) for name in NAMES}
    assert read["grouped"] == Config(24, 3, 4, 2, 90, 257, 64)
    assert read["multi_head_tied"] == Config(16, 2, 2, 2, 40, 257, 64, tied=True, dtype="float32")
    assert read["multi_query"] == Config(21, 1, 3, 1, 33, 97, 64, 5e5, head_dim=16)
    assert read["sharded"] == Config(18, 2, 3, 3, 31, 65, 64, 300.0, dtype="float32")
    assert read["wide_heads_tied"] == Config(12, 1, 2, 1, 17, 131, 64, 1234.5, head_dim=10, tied=True)


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_all_positions_are_those_of_transformers(name: str):
    model, expected = golden(name)
    assert_rounded_alike(every(model, expected["tokens"]), expected["logits"])


@pytest.mark.parametrize("name", NAMES)
def test_logits_with_a_cache_are_those_of_transformers(name: str):
    """Eleven tokens at once, then one by one, so that both ways of filling a cache are seen."""
    model, expected = golden(name)
    tokens, cache = jnp.asarray(expected["tokens"]), empty_cache(model.config, 2, 17)
    logits, cache = step(model, tokens[:, :11], cache, jnp.int32(0))
    assert_rounded_alike(logits, expected["logits"][:, 10])
    for at in range(11, 17):
        logits, cache = step(model, tokens[:, at : at + 1], cache, jnp.int32(at))
        assert_rounded_alike(logits, expected["logits"][:, at])


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_are_those_of_transformers(name: str):
    model, expected = golden(name)
    assert greedy(model, expected["tokens"][:1], 20) == expected["greedy"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_model_is_noticed(name: str):
    """The smallest changes of the arithmetic that a loader could make are far beyond the tolerance."""
    model, expected = golden(name)
    for table in (model.cos, model.sin):
        table.set_value(jnp.roll(table[...], 1, axis=0))  # a position too late
    model.layers[0].norm_mlp.weight.set_value(model.layers[0].norm_attention.weight[...])
    with pytest.raises(AssertionError):
        assert_rounded_alike(every(model, expected["tokens"]), expected["logits"])


def test_the_embedding_and_the_last_norm_are_those_of_transformers():
    model, expected = golden("grouped")
    np.testing.assert_array_equal(model.embed(jnp.asarray(expected["tokens"])), expected["model.embed_tokens"])
    assert_rounded_alike(model.norm(stream(expected)[-1]), expected["model.norm"])


def stream(expected: dict[str, np.ndarray]) -> list[jax.Array]:
    """What runs past the sub-layers: the embedding, and after each attention and each MLP its sum with that."""
    names = [f"model.layers.{layer}.{part}" for layer in range(LAYERS) for part in ("self_attn", "mlp")]
    sums = [jnp.asarray(expected["model.embed_tokens"])]
    for name in names:
        sums.append(sums[-1] + expected[name])
    return sums


@pytest.mark.parametrize("layer", range(LAYERS))
def test_each_sublayer_is_that_of_transformers(layer: int):
    """Each on the input that it had there, so that no difference is another one's."""
    model, expected = golden("grouped")
    ours, theirs = model.layers[layer], f"model.layers.{layer}."
    before, between = stream(expected)[2 * layer : 2 * layer + 2]
    assert_rounded_alike(ours.norm_attention(before), expected[theirs + "input_layernorm"])
    normed = jnp.asarray(expected[theirs + "input_layernorm"])
    angles, cache = (model.cos[...][:17], model.sin[...][:17]), empty_cache(model.config, 2, 17)[layer]
    assert_rounded_alike(ours.attention(normed, angles, cache, jnp.int32(0))[0], expected[theirs + "self_attn"])
    assert_rounded_alike(ours.norm_mlp(between), expected[theirs + "post_attention_layernorm"])
    assert_rounded_alike(ours.mlp(jnp.asarray(expected[theirs + "post_attention_layernorm"])), expected[theirs + "mlp"])


# With the library itself. Its own warnings are not ours to mend.
live = pytest.mark.filterwarnings("ignore")


def library():
    """transformers, or a skip that says what is missing."""
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="the packages of the group `oracle` are not installed")
    return pytest.importorskip("transformers")


def their_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Logits of all positions by transformers, in FP32."""
    torch = pytest.importorskip("torch")
    model = library().AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.from_numpy(tokens).long()).logits.numpy()


@live
@pytest.mark.parametrize("seed", range(LIVE))
def test_fresh_models_of_transformers_agree(seed: int, tmp_path: Path):
    library()
    from tests.oracles.make_llama_goldens import Sizes, random_model

    rng = np.random.default_rng([seed, 8])
    kv_heads, group, width = (int(n) for n in rng.integers(1, 4, 3))
    heads, head_dim = kv_heads * group, 2 * int(rng.integers(2, 9))
    d_ff, vocab, layers = (int(rng.integers(*between)) for between in ((5, 60), (10, 300), (1, 4)))
    theta = float(10 ** rng.uniform(2, 6))
    sizes = Sizes(heads * width * 2, d_ff, vocab, layers, heads, kv_heads, head_dim, theta, bool(seed % 2))
    random_model(sizes, seed).save_pretrained(tmp_path, max_shard_size=("1GB", "20kB")[seed % 3 == 0])
    tokens = rng.integers(0, vocab, (3, 19), dtype=np.int32)
    assert_rounded_alike(every(checkpoints.load(tmp_path), tokens), their_logits(tmp_path, tokens))


@live
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_bytes", [2**30, 9000])
def test_transformers_reads_what_we_save(dtype, tied: bool, shard_bytes: int, tmp_path: Path, rng: np.random.Generator):
    config = Config(24, 2, 4, 2, 50, 133, 64, 4e4, 1e-6, 10, tied, dtype)
    checkpoints.save(random_model(config, 3), tmp_path, shard_bytes=shard_bytes)
    tokens = rng.integers(0, config.vocab, (2, 21), dtype=np.int32)
    theirs = their_logits(tmp_path, tokens)
    assert_rounded_alike(every(checkpoints.load(tmp_path, dtype="float32"), tokens), theirs)


@live
def test_transformers_reads_our_tokenizer_beside_a_model(tmp_path: Path):
    text = "def f(x): return x + 1234  # naïve, 数 🙂\n\n\tSELECT * FROM t WHERE id = 42;"
    ours = tokenizer.train([text, "the cat sat on the mat"] * 5, 400)
    ours.save(tmp_path)
    checkpoints.save(random_model(Config(24, 1, 2, 1, 20, ours.vocab, 64), 0), tmp_path)
    theirs = library().AutoTokenizer.from_pretrained(tmp_path)
    for each in (text, "  two  spaces ", "2024-01-02", "A" * 50):
        assert theirs(each)["input_ids"] == ours.encode(each)
        assert theirs.decode(ours.encode(each)) == each
    ids = (theirs.unk_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert ids == (tokenizer.UNKNOWN, tokenizer.BEGIN, tokenizer.END, tokenizer.PAD)
