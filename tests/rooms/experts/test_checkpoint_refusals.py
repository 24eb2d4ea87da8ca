"""Broken and hostile weights, one by one: refused with the file's name, before anything is loaded."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from experts import checkpoints
from experts.checkpoints import CheckpointError, loading
from tests.rooms.experts.crafted import edited, header_of, saved, tensors_of, write_raw, write_tensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NORM, DOWN = "model.norm.weight", "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in one file, and beside it one in shards."""
    folder = tmp_path_factory.mktemp("whole")
    saved(folder / "single")
    saved(folder / "shards", shard_bytes=1500)
    return folder


@pytest.fixture
def single(whole: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return shutil.copytree(whole / "single", tmp_path / "model")


@pytest.fixture
def shards(whole: Path, tmp_path: Path) -> Path:
    """A copy in several files."""
    return shutil.copytree(whole / "shards", tmp_path / "model")


def refusal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The message; no weight is read before it is raised."""
    with monkeypatch.context() as patched:
        patched.setattr(loading, "_read", lambda *_: pytest.fail("a weight was read"))
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(folder)
    return str(caught.value)


def test_the_copies_are_whole(single: Path, tmp_path: Path):
    assert checkpoints.load(single).config.layers == 2


def with_offsets(begin: int, end: int) -> Callable[[Path], None]:
    """Gives a tensor other offsets."""

    def change(path: Path) -> None:
        header, data = header_of(path)
        header[NORM]["data_offsets"] = [begin, end]
        write_raw(path, header, data)

    return change


def cut(path: Path, left: int) -> None:
    """Keeps the first bytes, or all but the last."""
    path.write_bytes(path.read_bytes()[:left])


def without_offsets(path: Path) -> None:
    """A header that lacks what every tensor has."""
    header, data = header_of(path)
    del header[NORM]["data_offsets"]
    write_raw(path, header, data)


def renamed(path: Path, dtype: str) -> None:
    """Calls a tensor's dtype something else."""
    header, data = header_of(path)
    header[NORM]["dtype"] = dtype
    write_raw(path, header, data)


BREAKERS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: cut(path, 0),
    "no header": lambda path: cut(path, 7),
    "half a header": lambda path: cut(path, 100),
    "truncated": lambda path: cut(path, -1),
    "longer than its header says": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "header beyond the file": lambda path: write_raw(path, {}, b"", length=10**6),
    "header beyond memory": lambda path: write_raw(path, {}, b"", length=2**64 - 1),
    "header is a list": lambda path: write_raw(path, [], b""),
    "header is no JSON": lambda path: path.write_bytes(b"\x04\0\0\0\0\0\0\0{{{{"),
    "header is not UTF-8": lambda path: path.write_bytes(b"\x04\0\0\0\0\0\0\0\xff\xff{}"),
    "overlapping": with_offsets(0, 32),
    "backwards": with_offsets(64, 32),
    "beyond the end": with_offsets(2**40, 2**40 + 32),
    "negative": with_offsets(-32, 0),
    "no offsets": without_offsets,
    "unknown dtype": lambda path: renamed(path, "BANANA"),
    "pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94."),
}


@pytest.mark.parametrize("how", BREAKERS)
def test_a_file_that_is_not_whole_is_refused(how: str, single: Path, monkeypatch: pytest.MonkeyPatch):
    BREAKERS[how](single / WEIGHTS)
    message = refusal(single, monkeypatch)
    assert "not a whole safetensors file" in message and str(single / WEIGHTS) in message


@pytest.mark.parametrize("how", ["empty", "truncated", "overlapping", "header beyond the file"])
def test_a_shard_that_is_not_whole_is_refused(how: str, shards: Path, monkeypatch: pytest.MonkeyPatch):
    last = max(shards.glob("model-*.safetensors"))
    renames = {"overlapping": with_offsets(0, 32)}
    renames.get(how, BREAKERS[how])(last)
    assert str(last) in refusal(shards, monkeypatch)


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    """Other tensors in the file; None takes one away. `__` in a name stands for a dot."""
    named = {name.replace("__", "."): value for name, value in tensors.items()}
    values = {**tensors_of(folder), **named}
    write_tensors(folder / WEIGHTS, {name: value for name, value in values.items() if value is not None})


def test_missing_tensors_are_named(single: Path, monkeypatch: pytest.MonkeyPatch):
    change(single, model__norm__weight=None)
    assert NORM in refusal(single, monkeypatch)


def test_a_missing_head_is_explained(single: Path, monkeypatch: pytest.MonkeyPatch):
    change(single, lm_head__weight=None)
    message = refusal(single, monkeypatch)
    assert "lm_head.weight" in message and "tie_word_embeddings" in message


def test_unknown_tensors_are_named(single: Path, monkeypatch: pytest.MonkeyPatch):
    bias = np.zeros(24, ml_dtypes.bfloat16)
    change(single, model__layers__0__self_attn__q_proj__bias=bias)
    assert "model.layers.0.self_attn.q_proj.bias" in refusal(single, monkeypatch)


def test_many_names_are_cut_short(single: Path, monkeypatch: pytest.MonkeyPatch):
    change(single, **{f"extra{at}": np.zeros(1, np.float32) for at in range(50)})
    message = refusal(single, monkeypatch)
    assert "and 45 more" in message and len(message) < 600


@pytest.mark.parametrize("shape", [(10, 16), (16, 10, 1), (160,), (16, 11), (0, 10)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...], single: Path, monkeypatch: pytest.MonkeyPatch):
    change(single, **{DOWN: np.zeros(shape, ml_dtypes.bfloat16)})
    message = refusal(single, monkeypatch)
    assert f"shape of {DOWN}" in message and str(shape) in message


def test_a_config_of_other_weights_is_refused(single: Path, monkeypatch: pytest.MonkeyPatch):
    for key, value in (("vocab_size", 18), ("intermediate_size", 12), ("num_hidden_layers", 1), ("head_dim", 8)):
        before = json.loads((single / "config.json").read_text())
        edited(single / "config.json", **{key: value})
        assert "config.json" in refusal(single, monkeypatch)
        edited(single / "config.json", **{key: before[key]})
    assert checkpoints.load(single).config.vocab == 17


def test_a_tied_config_with_another_head_is_refused(single: Path, monkeypatch: pytest.MonkeyPatch):
    edited(single / "config.json", tie_word_embeddings=True)
    message = refusal(single, monkeypatch)
    assert "lm_head.weight" in message and "tie_word_embeddings" in message


def test_a_dtype_that_config_does_not_name_is_refused_unless_asked_for(single: Path, monkeypatch: pytest.MonkeyPatch):
    change(single, model__norm__weight=np.ones(16, np.float32))
    assert NORM in refusal(single, monkeypatch)
    assert checkpoints.load(single, dtype="bfloat16").config.dtype == "bfloat16"
    with pytest.raises(CheckpointError, match="float64"):
        checkpoints.load(single, dtype="float64")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [np.float64, np.int8])
def test_dtypes_that_no_model_has_are_refused(dtype: type, single: Path, monkeypatch: pytest.MonkeyPatch):
    change(single, model__norm__weight=np.ones(16, dtype))
    assert "another dtype" in refusal(single, monkeypatch)
    with pytest.raises(CheckpointError, match="another dtype"):
        checkpoints.load(single, dtype="float32")


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"])
def test_huge_numbers_are_refused_before_anything_is_made(key: str, single: Path, monkeypatch: pytest.MonkeyPatch):
    for value in (10**12, 2**20 + 1):
        edited(single / "config.json", **{key: value})
        monkeypatch.setattr(loading, "abstract_model", lambda *_: pytest.fail("a model was made"))
        assert refusal(single, monkeypatch)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "x.gguf"]
)
def test_other_formats_are_refused_with_advice(name: str, single: Path, monkeypatch: pytest.MonkeyPatch):
    (single / WEIGHTS).rename(single / name)
    message = refusal(single, monkeypatch)
    assert name in message and "convert them to safetensors" in message


def test_no_weights_and_two_sets_of_weights_are_refused(shards: Path, whole: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(whole / "single" / WEIGHTS, shards)
    assert "two sets" in refusal(shards, monkeypatch)
    (shards / WEIGHTS).unlink()
    (shards / INDEX).unlink()
    assert "no weights" in refusal(shards, monkeypatch)


def named_elsewhere(folder: Path, name: object) -> None:
    """The index names another file for one tensor's shard."""
    index = json.loads((folder / INDEX).read_text())["weight_map"]
    shard = index[NORM]
    edited(folder / INDEX, weight_map={key: name if value == shard else value for key, value in index.items()})


@pytest.mark.parametrize("name", ["../secret.safetensors", "a/b.safetensors", "..", ".", "", "a\\b", "a\0b"])
def test_an_index_names_no_file_outside(name: str, shards: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(max(shards.glob("model-*.safetensors")), shards.parent / "secret.safetensors")
    named_elsewhere(shards, name)
    assert "files lie in the checkpoint's directory" in refusal(shards, monkeypatch)


def test_an_index_names_no_absolute_path(shards: Path, monkeypatch: pytest.MonkeyPatch):
    shard = max(shards.glob("model-*.safetensors"))
    named_elsewhere(shards, str(shard))
    assert "files lie in the checkpoint's directory" in refusal(shards, monkeypatch)


@pytest.mark.parametrize("file", ["config.json", INDEX, "a shard"])
def test_links_that_lead_out_are_refused_and_others_followed(file: str, shards: Path, monkeypatch: pytest.MonkeyPatch):
    file = min(shards.glob("model-*.safetensors")).name if file == "a shard" else file
    (shards / file).rename(shards / "moved")
    (shards / file).symlink_to("moved")
    assert checkpoints.load(shards).config.layers == 2
    (shards / file).unlink()
    (shards / "moved").rename(shards.parent / "moved")
    (shards / file).symlink_to("../moved")
    assert "leads out" in refusal(shards, monkeypatch)
    (shards / file).unlink()
    (shards / file).symlink_to(file)
    assert "cannot be opened" in refusal(shards, monkeypatch)


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
def test_pipes_are_refused_and_not_waited_for(file: str, single: Path, monkeypatch: pytest.MonkeyPatch):
    (single / file).unlink()
    os.mkfifo(single / file)
    assert "regular" in refusal(single, monkeypatch)


def test_a_missing_shard_is_named(shards: Path, monkeypatch: pytest.MonkeyPatch):
    last = max(shards.glob("model-*.safetensors"))
    last.unlink()
    assert last.name in refusal(shards, monkeypatch)


def test_an_index_that_disagrees_with_its_shards_is_refused(shards: Path, monkeypatch: pytest.MonkeyPatch):
    places = json.loads((shards / INDEX).read_text())["weight_map"]
    names = sorted(set(places.values()))
    edited(shards / INDEX, weight_map=places | {NORM: names[0]})
    assert "lacks tensors" in refusal(shards, monkeypatch)
    edited(shards / INDEX, weight_map={key: value for key, value in places.items() if key != NORM})
    assert "places elsewhere" in refusal(shards, monkeypatch)
    edited(shards / INDEX, weight_map=places | {"model.extra.weight": names[0]})
    assert "lacks tensors" in refusal(shards, monkeypatch)


@pytest.mark.parametrize("places", [..., {}, [], {"a": 1}, {"a": None}, {"a": {"b": "c"}}, "x"])
def test_an_index_without_a_map_is_refused(places: object, shards: Path, monkeypatch: pytest.MonkeyPatch):
    edited(shards / INDEX, weight_map=places)
    assert "no map of tensors" in refusal(shards, monkeypatch)


def test_an_index_that_is_no_json_is_refused(shards: Path, monkeypatch: pytest.MonkeyPatch):
    (shards / INDEX).write_text("{")
    assert INDEX in refusal(shards, monkeypatch)
