"""What is saved is loaded bit by bit, in little memory; a part is a slice of the whole; files are as others want."""

import hashlib
import json
import os
import struct
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from experts import checkpoints
from experts.checkpoints import CheckpointError
from experts.checkpoints.layout import entries, rank_config
from experts.llama import LLAMA2_7B, LLAMA2_13B, LLAMA2_70B, LLAMA2_TINY, Config, abstract_model
from tests.rooms.experts.crafted import (
    assert_same_model,
    edited,
    header_of,
    leaves,
    same_bits,
    saved,
    tensors_of,
    tiny_model,
    write_raw,
    write_tensors,
)

KINDS = [{}, {"tied": True}, {"dtype": "float32"}, {"dtype": "float32", "tied": True}, {"head_dim": None}]


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("shard_bytes", [2**30, 600, 1])
def test_a_model_comes_back_bit_by_bit(changes: dict, shard_bytes: int, tmp_path: Path):
    folder = saved(tmp_path / "model", shard_bytes=shard_bytes, **changes)
    assert_same_model(checkpoints.load(folder), tiny_model(**changes))
    assert checkpoints.read_config(folder) == tiny_model(**changes).config


def test_every_bit_pattern_of_bf16_survives(tmp_path: Path):
    """NaNs with payloads, denormals and both zeros too."""
    folder = saved(tmp_path / "model", vocab=2**14, d_model=4, heads=2, tied=True)
    tensors = tensors_of(folder)
    patterns = np.arange(2**16, dtype=np.uint16).reshape(2**14, 4)
    tensors["model.embed_tokens.weight"] = patterns.view(ml_dtypes.bfloat16)
    write_tensors(folder / "model.safetensors", tensors)
    model = checkpoints.load(folder)
    np.testing.assert_array_equal(np.asarray(model.embed.embedding[...]).view(np.uint16), patterns)
    checkpoints.save(model, tmp_path / "again")
    again = checkpoints.open_weights(tmp_path / "again").tensor("model.embed_tokens.weight")
    np.testing.assert_array_equal(again.view(np.uint16), patterns)


def test_files_are_named_and_turned_as_other_readers_expect(tmp_path: Path):
    folder, model = saved(tmp_path / "model"), tiny_model()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    header, _ = header_of(folder / "model.safetensors")
    assert header.pop("__metadata__") == {"format": "pt"}
    assert len(header) == 2 * 9 + 3
    assert header["model.layers.1.self_attn.q_proj.weight"]["shape"] == [24, 16]
    assert header["model.layers.1.self_attn.k_proj.weight"]["shape"] == [12, 16]
    assert header["model.layers.0.mlp.down_proj.weight"]["shape"] == [16, 10]
    assert {each["dtype"] for each in header.values()} == {"BF16"}
    down = checkpoints.open_weights(folder).tensor("model.layers.0.mlp.down_proj.weight")
    assert same_bits(jnp.asarray(down), model.layers[0].mlp.down.kernel[...].T)


def test_shards_are_no_larger_than_asked_and_the_index_names_them(tmp_path: Path):
    folder = saved(tmp_path / "model", shard_bytes=800)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert files == [f"model-{at:05}-of-{len(files):05}.safetensors" for at in range(1, len(files) + 1)]
    assert set(index["weight_map"].values()) == set(files) and len(files) > 3
    data = [header_of(folder / name)[1] for name in files]
    assert max(map(len, data)) <= 800
    assert index["metadata"]["total_size"] == sum(map(len, data))


def test_the_same_model_gives_the_same_bytes(tmp_path: Path):
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other")
    assert checkpoints.digest(one) == checkpoints.digest(other)


def test_other_dtypes_are_rounded_to_nearest_when_asked(tmp_path: Path):
    folder = saved(tmp_path / "model", dtype="float32")
    narrow, wide = checkpoints.load(folder, dtype="bfloat16"), tiny_model(dtype="float32")
    assert narrow.config.dtype == "bfloat16"
    rounded = wide.layers[0].mlp.up.kernel[...].astype(jnp.bfloat16)
    assert same_bits(narrow.layers[0].mlp.up.kernel[...], rounded)
    back = saved(tmp_path / "narrow")
    exact = tiny_model().layers[0].mlp.up.kernel[...].astype(jnp.float32)
    assert same_bits(checkpoints.load(back, dtype="float32").layers[0].mlp.up.kernel[...], exact)


def test_fp16_files_become_bf16_or_are_exact_in_fp32(tmp_path: Path, rng: np.random.Generator):
    folder = saved(tmp_path / "model")
    half = {name: rng.normal(size=each.shape).astype(np.float16) for name, each in tensors_of(folder).items()}
    write_tensors(folder / "model.safetensors", half)
    edited(folder / "config.json", torch_dtype="float16")
    expected = half["lm_head.weight"].T
    assert checkpoints.read_config(folder).dtype == "bfloat16"
    narrow = checkpoints.load(folder).head.kernel[...]
    np.testing.assert_array_equal(narrow, expected.astype(ml_dtypes.bfloat16))
    wide = checkpoints.load(folder, dtype="float32").head.kernel[...]
    np.testing.assert_array_equal(wide, expected.astype(np.float32))


def test_tables_of_older_checkpoints_are_ignored(tmp_path: Path):
    folder = saved(tmp_path / "model")
    tables = {f"model.layers.{at}.self_attn.rotary_emb.inv_freq": np.zeros(2, np.float32) for at in range(2)}
    write_tensors(folder / "model.safetensors", tensors_of(folder) | tables)
    assert_same_model(checkpoints.load(folder), tiny_model())


def test_a_tied_head_may_be_in_the_file_if_it_is_the_embedding(tmp_path: Path):
    folder = saved(tmp_path / "model", tied=True)
    tensors = tensors_of(folder)
    write_tensors(folder / "model.safetensors", tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert_same_model(checkpoints.load(folder), tiny_model(tied=True))


def test_a_header_of_odd_length_is_read(tmp_path: Path):
    """Tensors then lie at addresses that are no multiple of their width."""
    folder = saved(tmp_path / "model", dtype="float32")
    path = folder / "model.safetensors"
    header, data = header_of(path)
    text = json.dumps(header).encode()
    text += b" " * (3 - len(text) % 4)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    assert_same_model(checkpoints.load(folder), tiny_model(dtype="float32"))


def test_views_are_read_only_and_parts_are_slices(tmp_path: Path):
    weights = checkpoints.open_weights(saved(tmp_path / "model", shard_bytes=600))
    name = "model.layers.0.self_attn.q_proj.weight"
    whole = weights.tensor(name)
    assert (whole.shape, whole.dtype, whole.flags.writeable) == ((24, 16), ml_dtypes.bfloat16, False)
    assert (weights.shape(name), weights.dtype(name)) == ((24, 16), ml_dtypes.bfloat16)
    for axis in range(2):
        parts = [weights.part(name, axis, index, 4) for index in range(4)]
        assert all(not part.flags.owndata for part in parts)
        np.testing.assert_array_equal(np.concatenate(parts, axis), whole)


def test_a_view_reads_again_what_was_released(tmp_path: Path):
    folder, name = saved(tmp_path / "model", shard_bytes=800), "model.layers.1.mlp.up_proj.weight"
    weights, expected = checkpoints.open_weights(folder), tensors_of(folder)[name]
    weights.release(name)  # nothing was read yet
    view = weights.tensor(name)
    for _ in range(2):
        np.testing.assert_array_equal(view, expected)
        weights.release(name)


def test_matrices_larger_than_a_tile_are_turned(tmp_path: Path):
    sizes = {"d_model": 130, "d_ff": 257, "vocab": 300, "layers": 1}
    assert_same_model(checkpoints.load(saved(tmp_path / "model", **sizes)), tiny_model(**sizes))


@pytest.mark.parametrize(("axis", "index", "of"), [(0, 0, 5), (2, 0, 2), (-1, 0, 2), (0, 2, 2), (0, -1, 2), (0, 0, 0)])
def test_parts_that_are_none_are_refused(axis: int, index: int, of: int, tmp_path: Path):
    weights = checkpoints.open_weights(saved(tmp_path / "model"))
    with pytest.raises(CheckpointError, match="no such part|evenly"):
        weights.part("model.layers.0.self_attn.q_proj.weight", axis, index, of)
    with pytest.raises(CheckpointError, match="no such tensor"):
        weights.tensor("model.layers.9.self_attn.q_proj.weight")


@pytest.mark.parametrize("changes", [{}, {"tied": True, "dtype": "float32"}, {"head_dim": None}])
def test_a_rank_has_its_slices_of_the_whole(changes: dict, tmp_path: Path):
    folder, whole = saved(tmp_path / "model", **changes), leaves(tiny_model(**changes))
    ranks = [leaves(checkpoints.load(folder, shard=(index, 2))) for index in range(2)]
    for path, expected in whole.items():
        axis = 1 if {"q", "k", "v", "gate", "up"} & set(path) else 0 if {"o", "down"} & set(path) else None
        pieces = [rank[path] for rank in ranks]
        found = pieces[:1] if axis is None else [jnp.concatenate(pieces, axis)]
        assert same_bits(found[0], expected)
        assert axis is not None or same_bits(pieces[1], expected)


def test_a_rank_is_a_model_of_its_share_whose_summands_add_up(tmp_path: Path, rng: np.random.Generator):
    whole, folder = tiny_model(dtype="float32"), saved(tmp_path / "model", dtype="float32")
    ranks = [checkpoints.load(folder, shard=(index, 2)) for index in range(2)]
    config = ranks[0].config
    assert (config.heads, config.kv_heads, config.d_ff, config.d_head, config.d_model) == (2, 1, 5, 6, 16)
    x = jnp.asarray(rng.normal(size=(1, 3, 16)), jnp.float32)
    angles, seen = (whole.cos[...][:3], whole.sin[...][:3]), jnp.tri(3, dtype=bool)[None, None, None]
    angles = tuple(each[None] for each in angles)
    first = [model.layers[0] for model in (whole, *ranks)]
    for each in (lambda layer: layer.mlp(x), lambda layer: layer.attention.every(x, angles, seen)):
        expected, *summands = map(each, first)
        np.testing.assert_allclose(sum(summands[1:], summands[0]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shard", [(0, 4), (0, 3), (2, 2), (-1, 2), (0, 0)])
def test_uneven_and_unknown_ranks_are_refused(shard: tuple[int, int], tmp_path: Path):
    with pytest.raises(CheckpointError, match="do not divide|no such shard"):
        checkpoints.load(saved(tmp_path / "model"), shard=shard)


def test_loading_takes_one_copy_and_one_tensor(tmp_path: Path):
    """tracemalloc counts NumPy's arrays, in which every weight is made; a mapped file is no memory of the process."""
    config = {"d_model": 64, "d_ff": 512, "vocab": 3000, "layers": 4, "dtype": "float32"}
    folder = saved(tmp_path / "model", **config)
    checkpoints.load(folder)
    every = {path: each.nbytes for path, each in leaves(tiny_model(**config)).items()}
    tracemalloc.start()
    try:
        model = checkpoints.load(folder)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(every.values()) < most <= sum(every.values()) + max(every.values()) + 1_000_000
    assert model.config.layers == 4


def test_a_part_reads_nothing_of_the_rest(tmp_path: Path):
    """A file with a hole of 64 GiB in it: more than could be read."""
    path = tmp_path / "model.safetensors"
    shape = [2**24, 2**10]
    write_raw(path, {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 2**36]}}, b"")
    os.truncate(path, path.stat().st_size + 2**36)
    weights = checkpoints.open_weights(tmp_path)
    assert weights.tensor("w").shape == tuple(shape)
    assert not weights.part("w", 0, 2**23 - 1, 2**23).any()
    assert not weights.part("w", 1, 7, 2**10)[:4].any()


def test_the_tensors_of_llama2_7b_have_all_its_parameters():
    table = entries(LLAMA2_7B)
    assert len(table) == 32 * 9 + 3
    assert sum(int(np.prod(entry.shape)) for entry in table) == LLAMA2_7B.parameters == 6_738_415_616
    eighth = rank_config(LLAMA2_7B, 7, 8)
    assert (eighth.heads, eighth.d_ff, eighth.d_head) == (4, 1376, 128)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (LLAMA2_TINY, 312_000),
        (LLAMA2_7B, 6_738_415_616),  # the others: as published, and as transformers counts them without weights
        (LLAMA2_13B, 13_015_864_320),
        (LLAMA2_70B, 68_976_648_192),
    ],
)
def test_presets_have_the_published_number_of_parameters(config: Config, count: int):
    weights = nnx.state(abstract_model(config), nnx.Param)
    assert config.parameters == sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(weights)) == count


def test_a_digest_is_that_of_sha256sum(tmp_path: Path):
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c").write_bytes(b"one")
    lines = [f"{hashlib.sha256(each).hexdigest()}  {name}\n" for name, each in (("a/c", b"one"), ("b", b"two"))]
    assert checkpoints.digest(tmp_path) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_digest_sees_names_bytes_and_borders(tmp_path: Path):
    def of(**files: bytes) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return checkpoints.digest(folder)

    same = of(a=b"xy", b=b"z")
    assert same == of(b=b"z", a=b"xy")
    assert len({same, of(a=b"x", b=b"yz"), of(a=b"xy", c=b"z"), of(a=b"xy", b=b"Z"), of(a=b"xyz"), of()}) == 6


def test_a_digest_refuses_what_is_not_in_the_directory(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "link").symlink_to("../secret")
    with pytest.raises(CheckpointError, match="leads out"):
        checkpoints.digest(folder)
    with pytest.raises(CheckpointError, match="no such directory"):
        checkpoints.digest(tmp_path / "nothing")
    (folder / "link").unlink()
    (folder / "two\nlines").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="line break"):
        checkpoints.digest(folder)


def test_published_sizes_are_read_from_an_older_config(tmp_path: Path):
    """As Llama-2-7b is published: no theta, no head_dim, FP16."""
    published = {
        "_name_or_path": "Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.31.0.dev0",
        "use_cache": True, "vocab_size": 32000,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(published))
    assert checkpoints.read_config(tmp_path) == LLAMA2_7B
    edited(tmp_path / "config.json", num_key_value_heads=..., head_dim=128)
    assert checkpoints.read_config(tmp_path) == LLAMA2_7B
