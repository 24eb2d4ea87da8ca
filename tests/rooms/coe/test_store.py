"""Home copies: the bits of the original, whatever happens to it afterwards, and nothing of what was changed before."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from experts.checkpoints import digest, load, save
from experts.llama import Config, random_model
from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.coe.store import PREFIX, Store, StoreError

SMALL = Config(16, 1, 2, 1, 24, 64, 32)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / "disk" / name for name in ("a", "b", "c")}
    for seed, folder in enumerate(found.values()):
        save(random_model(SMALL, seed), folder)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def bits(folder: Path) -> bytes:
    return np.asarray(load(folder).layers[0].mlp.gate.kernel[...]).tobytes()


def test_a_home_copy_is_the_original_and_stays_so(folders, scratch):
    with Store.of_folders(folders, scratch) as store:
        assert store.names == ("a", "b", "c") and not store.is_home("a")
        before = bits(folders["a"])
        home = store.home("a")
        assert digest(home) == digest(folders["a"]) and store.is_home("a") and not store.is_home("b")
        (folders["a"] / "model.safetensors").write_bytes(b"")
        assert store.home("a") == home and bits(home) == before
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: os.truncate(folder / "model.safetensors", 100),
        lambda folder: (folder / "config.json").write_text("{}"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "another").write_text("more"),
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / "link").symlink_to("/etc/hostname"),
    ],
)
def test_what_was_changed_is_refused_and_others_go_on(folders, scratch, harm):
    with Store.of_folders(folders, scratch) as store:
        whole = digest(folders["b"])
        harm(folders["b"])
        for _ in range(2):
            with pytest.raises(StoreError, match="expert 'b'"):
                store.home("b")
            assert not store.is_home("b") and list(scratch.glob("*/*/*")) == []
        assert bits(store.home("c")) == bits(folders["c"])
        shutil.rmtree(folders["b"], ignore_errors=True)
        save(random_model(SMALL, 1), folders["b"])
        assert digest(store.home("b")) == whole


def test_a_single_flipped_bit_is_seen(folders, scratch):
    with Store.of_folders(folders, scratch) as store:
        path = folders["a"] / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(StoreError, match="SHA-256"):
            store.home("a")


def test_a_full_disk_is_an_error_of_this_expert_alone(folders, scratch):
    with Store.of_folders(folders, scratch) as store:
        store.home("a")
        most = (folders["b"] / "model.safetensors").stat().st_size // 2
        before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(StoreError, match="cannot be brought home"):
                store.home("b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert bits(store.home("a")) == bits(folders["a"]) and bits(store.home("b")) == bits(folders["b"])


def test_many_threads_bring_an_expert_home_once(folders, scratch, monkeypatch):
    copies, copy = [], shutil.copytree
    monkeypatch.setattr(shutil, "copytree", lambda *args: (copies.append(args), copy(*args))[1])
    with Store.of_folders(folders, scratch) as store:
        threads = [threading.Thread(target=store.home, args=("a",)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(copies) == 1 and store.is_home("a")


def test_what_a_killed_process_left_is_removed_by_the_next(folders, scratch):
    code = (
        "import os, signal; from pathlib import Path; from rdujax.coe.store import Store;"
        f"store = Store.of_folders({{'a': Path({str(folders['a'])!r})}}, Path({str(scratch)!r}));"
        "store.home('a'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3])
    assert killed.returncode == -signal.SIGKILL
    [left] = scratch.iterdir()
    (scratch / f"{PREFIX}{os.getpid()}-mine").mkdir()  # of a process that lives
    with Store.of_folders(folders, scratch):
        assert not left.exists() and (scratch / f"{PREFIX}{os.getpid()}-mine").exists()


def test_a_thousand_experts_take_the_memory_of_one(folders, scratch):
    def most(names: int) -> int:
        tracemalloc.start()
        with Store({str(n): original for n in range(names)}, scratch) as store:
            for name in store.names:
                store.home(name)
            found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    with Store.of_folders(folders, scratch) as one:
        original = one._originals["a"]
    few, many = most(10), most(1000)
    assert many - few < 1000 * 4096  # names and locks, no weights


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\0", "\\"])
def test_names_are_names(folders, scratch, name: str):
    with pytest.raises(ArgumentError, match="bare name"):
        Store.of_folders({name: folders["a"]}, scratch)
    assert list(scratch.iterdir()) == []


def test_an_unknown_expert_has_no_home(folders, scratch):
    with Store.of_folders(folders, scratch) as store:
        for ask in (store.home, store.is_home):
            with pytest.raises(UnknownNameError, match="unknown expert"):
                ask("d")
