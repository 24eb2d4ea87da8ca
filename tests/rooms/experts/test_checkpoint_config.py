"""config.json: both dialects say the same; what asks for another arithmetic is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from experts import checkpoints
from experts.checkpoints import CheckpointError
from experts.checkpoints.config import NEUTRAL, SIZES
from experts.llama import Config
from tests.rooms.experts.crafted import edited

OLD = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 30,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 5e4,
    "rope_scaling": None,
    "torch_dtype": "bfloat16",
}
NEW = {key: value for key, value in OLD.items() if key not in ("rope_theta", "rope_scaling", "torch_dtype")} | {
    "rope_parameters": {"rope_theta": 5e4, "rope_type": "default"},
    "dtype": "bfloat16",
    "head_dim": 6,
}
MEANT = Config(24, 2, 4, 2, 30, 50, 64, 5e4, 1e-6)


def read(folder: Path, content: dict[str, Any], **changes: Any) -> Config:
    """What is read of that content with other values; `...` removes a key."""
    (folder / "config.json").write_text(json.dumps(content))
    edited(folder / "config.json", **changes)
    return checkpoints.read_config(folder)


def refusal(folder: Path, content: dict[str, Any] = OLD, **changes: Any) -> str:
    """The message, which always names the file."""
    with pytest.raises(CheckpointError) as caught:
        read(folder, content, **changes)
    assert str(folder / "config.json") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [OLD, NEW])
def test_both_dialects_say_the_same(content: dict, tmp_path: Path):
    assert read(tmp_path, content) == MEANT


@pytest.mark.parametrize("content", [OLD, NEW])
def test_what_is_missing_has_the_value_that_it_had_before_it_had_a_key(content: dict, tmp_path: Path):
    assert read(tmp_path, content, num_key_value_heads=...).kv_heads == 4
    assert read(tmp_path, content, num_key_value_heads=None).kv_heads == 4
    assert not read(tmp_path, content, tie_word_embeddings=...).tied
    assert read(tmp_path, content, rope_theta=..., rope_parameters=...).theta == 10000.0
    assert read(tmp_path, content, hidden_act=..., architectures=...) == MEANT
    assert read(tmp_path, content, dtype=..., torch_dtype=...).dtype == "float32"


def test_a_width_of_heads_is_kept_where_it_is_not_the_usual_one(tmp_path: Path):
    assert read(tmp_path, OLD, head_dim=6).head_dim is None
    assert read(tmp_path, OLD, head_dim=10).head_dim == 10
    assert read(tmp_path, OLD, head_dim=10, hidden_size=25).d_model == 25


@pytest.mark.parametrize("value", [None, {"rope_type": "default"}, {"type": "default"}, {"type": None}])
def test_no_scaling_may_be_said_in_any_way(value: object, tmp_path: Path):
    assert read(tmp_path, OLD, rope_scaling=value) == MEANT


def test_keys_that_change_nothing_are_ignored(tmp_path: Path):
    known = {"use_cache": False, "attention_dropout": 0.5, "pretraining_tp": 2, "bos_token_id": 7, "_name_or_path": "x"}
    assert read(tmp_path, OLD, **known, initializer_range=3, transformers_version="9", something_new=[1]) == MEANT
    assert read(tmp_path, OLD, quantization_config=None, sliding_window=None, attention_bias=False) == MEANT
    assert read(tmp_path, OLD, hidden_act="swish", partial_rotary_factor=1.0, logits_scaling=1) == MEANT


@pytest.mark.parametrize("key", NEUTRAL)
def test_keys_that_change_the_arithmetic_are_refused(key: str, tmp_path: Path):
    for value in ("gelu", 0.5, True, ["x"]):
        assert f"{key} changes the arithmetic" in refusal(tmp_path, **{key: value})


def test_other_models_are_refused(tmp_path: Path):
    assert "another kind" in refusal(tmp_path, model_type="mistral")
    assert "another kind" in refusal(tmp_path, model_type=...)
    assert "another kind" in refusal(tmp_path, architectures=["LlamaForSequenceClassification"])
    assert "another kind" in refusal(tmp_path, architectures="LlamaForCausalLM")


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
        {"rope_type": "default", "factor": 2.0},
        {"rope_type": "default", "partial_rotary_factor": 0.5},
        {"rope_type": "default", "type": "yarn"},
        {"rope_type": True},
        "linear",
        [],
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_every_scaling_of_rotations_is_refused(scaling: object, key: str, tmp_path: Path):
    assert key in refusal(tmp_path, **{key: scaling}) or "contradict" in refusal(tmp_path, **{key: scaling})


def test_contradictions_are_refused(tmp_path: Path):
    assert "contradict" in refusal(tmp_path, rope_parameters={"rope_theta": 1e4})
    assert "contradict" in refusal(tmp_path, rope_scaling={"rope_theta": 1e4})
    assert "contradict" in refusal(tmp_path, dtype="float32")
    assert read(tmp_path, OLD, dtype="bfloat16", rope_parameters={"rope_theta": 50000}) == MEANT


@pytest.mark.parametrize("key", [*SIZES, "num_key_value_heads", "head_dim"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "8", 10**12, 10**400, [8], {}])
def test_sizes_that_are_none_are_refused(key: str, value: object, tmp_path: Path):
    assert f"{key} is no size" in refusal(tmp_path, **{key: value})


@pytest.mark.parametrize("key", SIZES)
def test_sizes_that_are_missing_are_refused(key: str, tmp_path: Path):
    assert f"{key} is no size" in refusal(tmp_path, **{key: ...})


@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
@pytest.mark.parametrize("value", [0, -1e-5, True, "1e-5", 10**400, 1e300, [1]])
def test_numbers_that_are_none_are_refused(key: str, value: object, tmp_path: Path):
    assert f"{key} is no number" in refusal(tmp_path, **{key: value})


def test_an_epsilon_is_never_guessed(tmp_path: Path):
    assert "rms_norm_eps" in refusal(tmp_path, rms_norm_eps=...)


@pytest.mark.parametrize("value", ["float64", "int8", "torch.bfloat16", 16, ["bfloat16"]])
def test_other_dtypes_are_refused(value: object, tmp_path: Path):
    assert "bfloat16" in refusal(tmp_path, torch_dtype=value)


@pytest.mark.parametrize("value", [1, 0, "true", [True]])
def test_tied_is_true_or_false(value: object, tmp_path: Path):
    assert "tie_word_embeddings" in refusal(tmp_path, tie_word_embeddings=value)


def test_heads_that_do_not_divide_are_refused(tmp_path: Path):
    assert "kv_heads" in refusal(tmp_path, num_key_value_heads=3)
    assert "d_model" in refusal(tmp_path, hidden_size=25)
    assert "head_dim" in refusal(tmp_path, head_dim=7)


def test_a_table_of_angles_beyond_reason_is_refused_before_it_is_made(tmp_path: Path):
    message = refusal(tmp_path, max_position_embeddings=2**20, head_dim=2**14)
    assert "too many positions" in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe{}",
        b'{"rms_norm_eps": NaN}',
        b'{"rms_norm_eps": Infinity}',
        b'{"vocab_size": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"{" + b" " * 2**20 + b"}",
    ],
    ids=["empty", "half", "list", "number", "null", "utf16", "nan", "infinity", "digits", "deep", "large"],
)
def test_what_is_no_object_of_json_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="config.json"):
        checkpoints.read_config(tmp_path)


def test_a_missing_file_or_directory_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="config.json"):
        checkpoints.read_config(tmp_path)
    with pytest.raises(CheckpointError, match="no such directory"):
        checkpoints.read_config(tmp_path / "nowhere")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="regular"):
        checkpoints.read_config(tmp_path)
