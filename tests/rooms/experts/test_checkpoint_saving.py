"""A save that is interrupted, wherever, leaves the old checkpoint or the new one; what is not a model is not saved."""

import os
import stat
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from experts import checkpoints
from experts.checkpoints import CheckpointError, replacing, saving
from experts.llama import Config, Llama, abstract_model
from tests.rooms.experts.crafted import TINY, assert_same_model, drawn_model, saved, tiny_model

SHARD = 1500


class Interrupted(BaseException):
    """What Ctrl-C raises is no Exception either."""


def fresh() -> Llama:
    """A model that may be changed."""
    return nnx.clone(tiny_model())


def stop_after(patched: pytest.MonkeyPatch, most: int) -> None:
    """Counts every call that changes the disk. Instead of the one after so many there is an interruption, once."""
    made = [0]

    def counted(module: object, name: str) -> None:
        real = getattr(module, name)

        def call(*args, **kwargs):
            made[0] += 1
            if made[0] == most + 1:
                raise Interrupted
            return real(*args, **kwargs)

        patched.setattr(module, name, call)

    for name in ("save_file", "write"):
        counted(saving, name)
    for name in ("_sync_one", "_carry_over", "exchange"):
        counted(replacing, name)
    counted(replacing.os, "rename")


def interrupted(folder: Path, most: int, model: Llama, *, killed: bool = False, in_steps: bool = False) -> bool:
    """Whether a save came to an interruption after so many calls."""
    with pytest.MonkeyPatch.context() as patched:
        if in_steps:
            patched.setattr(replacing, "exchange", replacing.replace_in_steps)
        stop_after(patched, most)
        if killed:
            patched.setattr(replacing.shutil, "rmtree", lambda *_, **__: None)
        try:
            checkpoints.save(model, folder, shard_bytes=SHARD)
        except Interrupted:
            return True
    return False


# A process that is killed cleans nothing up. Where a system cannot exchange in one step, being killed between the two
# steps is the one case in which the old checkpoint is left under another name.
@pytest.mark.parametrize(("killed", "in_steps"), [(False, False), (True, False), (False, True)])
def test_an_interrupted_save_leaves_the_old_or_the_new(killed: bool, in_steps: bool, tmp_path: Path):
    """At every step, of which some are before the exchange and some after it."""
    old, new = tiny_model(), tiny_model(tied=True)
    checkpoints.save(new, tmp_path / "new", shard_bytes=SHARD)
    whole = [checkpoints.digest(saved(tmp_path / "old")), checkpoints.digest(tmp_path / "new")]
    seen: list[str] = []
    checkpoints.save(old, folder := tmp_path / "0" / "model")
    while interrupted(folder, len(seen), new, killed=killed, in_steps=in_steps):
        seen.append(checkpoints.digest(folder))
        assert killed or [path.name for path in folder.parent.iterdir()] == ["model"]
        checkpoints.save(old, folder := tmp_path / str(len(seen)) / "model")
    assert len(seen) > 8 and set(seen) == set(whole) and seen == sorted(seen, key=whole.index)
    assert_same_model(checkpoints.load(folder), new)


def test_a_kill_between_two_steps_leaves_the_old_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, other, real = saved(tmp_path / "one"), saved(tmp_path / "other", tied=True), os.rename
    calls: list[object] = []

    def first_only(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) > 1:
            raise Interrupted
        real(source, target)

    monkeypatch.setattr(replacing.os, "rename", first_only)
    with pytest.raises(Interrupted):
        replacing.replace_in_steps(one, other)
    assert_same_model(checkpoints.load(tmp_path / "one.replaced"), tiny_model(tied=True))
    assert_same_model(checkpoints.load(one), tiny_model())


def test_an_interrupted_first_save_leaves_nothing_or_all(tmp_path: Path):
    there = []
    while interrupted(folder := tmp_path / str(len(there)) / "model", len(there), tiny_model()):
        there.append(folder.exists())
        assert list(folder.parent.iterdir()) == [folder] * there[-1]
        if folder.exists():
            assert_same_model(checkpoints.load(folder), tiny_model())
    assert there == sorted(there) and set(there) == {False, True}


def test_a_save_replaces_the_whole_checkpoint_and_nothing_else(tmp_path: Path):
    folder = tmp_path / "model"
    checkpoints.save(tiny_model(), folder, shard_bytes=SHARD)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "notes").mkdir()
    (folder / "notes" / "a").write_text("b")
    os.chmod(folder, 0o750)
    checkpoints.save(tiny_model(tied=True), folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "notes"}
    assert (folder / "notes" / "a").read_text() == "b"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert_same_model(checkpoints.load(folder), tiny_model(tied=True))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_was_loaded_stays_when_its_files_change(tmp_path: Path):
    folder = saved(tmp_path / "model")
    model = checkpoints.load(folder)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    with path.open("r+b") as file:  # in place, under the mapping
        file.write(content[:2000] + bytes(len(content) - 2000))
    assert_same_model(model, tiny_model())


def test_new_folders_are_made_and_open_to_others(tmp_path: Path):
    folder = saved(tmp_path / "a" / "b" / "model")
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((tmp_path / "a").stat().st_mode)


def test_files_and_links_are_not_replaced(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    saved(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    for name in ("file", "link"):
        with pytest.raises(CheckpointError, match="saved to a directory"):
            checkpoints.save(tiny_model(tied=True), tmp_path / name)
    assert_same_model(checkpoints.load(tmp_path / "link"), tiny_model())


def test_a_disk_that_is_full_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = saved(tmp_path / "model")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tiny_model(tied=True), folder)
    assert_same_model(checkpoints.load(folder), tiny_model())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_systems_without_links_and_exchange_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = saved(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")

    def none(*_args, **_kwargs):
        raise OSError("not here")

    monkeypatch.setattr(replacing.os, "link", none)
    monkeypatch.setattr(replacing.ctypes, "CDLL", none)
    checkpoints.save(tiny_model(tied=True), folder)
    assert (folder / "tokenizer.json").read_text() == "{}"
    assert_same_model(checkpoints.load(folder), tiny_model(tied=True))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_has_no_values_is_not_saved(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no values"):
        checkpoints.save(abstract_model(TINY), tmp_path / "model")
    with pytest.raises(CheckpointError, match="shard_bytes"):
        checkpoints.save(tiny_model(), tmp_path / "model", shard_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_what_its_configuration_says_is_not_saved(tmp_path: Path):
    wide, adapted, narrow = fresh(), fresh(), fresh()
    wide.norm.weight = nnx.Param(jnp.ones(16, jnp.float32))
    adapted.layers[1].adapter = nnx.Param(jnp.ones(3, jnp.bfloat16))
    narrow.layers[0].mlp.up.kernel = nnx.Param(jnp.ones((16, 9), jnp.bfloat16))
    for model, words in ((wide, "float32"), (adapted, "layers.1.adapter"), (narrow, "up_proj")):
        with pytest.raises(CheckpointError, match=words):
            checkpoints.save(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_unusual_sizes_are_saved(tmp_path: Path):
    config = Config(6, 1, 1, 1, 1, 1, 1, 123.25, 1e-6, 2, True, "float32")
    model = drawn_model(config)
    checkpoints.save(model, tmp_path / "model")
    assert_same_model(checkpoints.load(tmp_path / "model"), model)
