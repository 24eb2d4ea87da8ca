"""All models of small recipes: built once, killed and built again, and never over those of another recipe."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from experts import tokenizer as tokenizers
from experts.checkpoints import digest, load, load_router
from experts.data.corpus import library_texts
from experts.llama import Config
from experts.router import route
from experts.tokenizer import Tokenizer, prompt_ids
from experts.training import recipes as all_recipes
from experts.training import run
from experts.training.loop import Schedule
from experts.training.recipes import VOCAB, recipes
from experts.training.routing import LABELS

SMALL = Config(d_model=16, layers=1, heads=2, kv_heads=1, d_ff=24, vocab=VOCAB, positions=256, tied=True,
               dtype="float32")  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return run.trained_tokenizer(0)


@pytest.fixture(autouse=True)
def _small_recipes(monkeypatch, tokenizer):
    few_modules = list(islice(library_texts("train"), 5))
    monkeypatch.setattr(all_recipes, "library_texts", lambda part: iter(few_modules))
    monkeypatch.setattr(run, "trained_tokenizer", lambda seed: tokenizer)
    monkeypatch.setattr(run, "CONFIG", SMALL)
    few = tuple(replace(recipe, schedule=Schedule(6, 3e-3, warm=2, every=2)) for recipe in recipes()[:2])
    monkeypatch.setattr(run, "recipes", lambda: few)
    monkeypatch.setattr(run.routing, "SCHEDULE", Schedule(4, 3e-3, warm=2, every=2))
    monkeypatch.setattr(run.routing, "ROWS", 16)
    monkeypatch.setattr(run.routing, "CALIBRATED", 32)


ROUTER = [("router", at) for at in range(1, 5)]


def built(folder: Path, kill: tuple[str, int] | None = None) -> list[tuple[str, int]]:
    """Builds, and what was told: (model, step)."""
    told: list[tuple[str, int]] = []

    def tell(name: str, at: int, steps: int, loss: float) -> None:
        told.append((name, at))
        if (name, at) == kill:
            raise KeyboardInterrupt

    run.build(folder / "models", folder / "states", 0, tell)
    return told


def test_a_killed_build_ends_in_the_same_files(tmp_path):
    names = [recipe.name for recipe in run.recipes()]
    assert built(tmp_path / "whole") == [(name, at) for name in names for at in range(1, 7)] + ROUTER
    assert built(tmp_path / "whole") == []
    with pytest.raises(KeyboardInterrupt):
        built(tmp_path / "killed", kill=(names[1], 5))
    assert built(tmp_path / "killed") == [(names[1], 5), (names[1], 6), *ROUTER]
    for name in (*names, "router"):
        assert digest(tmp_path / "killed/models" / name) == digest(tmp_path / "whole/models" / name)


def test_a_published_model_is_the_trained_one_in_bf16_with_its_tokenizer(tmp_path):
    built(tmp_path)
    folder = tmp_path / "models" / "base"
    wide, narrow = load(folder, dtype="float32"), load(folder)
    assert narrow.config == replace(SMALL, dtype="bfloat16")
    again = run.in_dtype(wide, "bfloat16")
    for a, b in zip(*(nnx.to_flat_state(nnx.state(m, nnx.Param)) for m in (again, narrow)), strict=True):
        assert np.array_equal(np.asarray(a[1][...]), np.asarray(b[1][...]))
    tokenizer = tokenizers.load(folder)
    assert tokenizer.vocab == VOCAB and tokenizer.decode(tokenizer.encode("17*23=391")) == "17*23=391"


def test_a_model_of_another_recipe_is_not_written_over(tmp_path, monkeypatch):
    built(tmp_path)
    base, second = run.recipes()
    longer = replace(second, schedule=replace(second.schedule, steps=8))
    monkeypatch.setattr(run, "recipes", lambda: (base, longer))
    before = digest(tmp_path / "models" / second.name)
    with pytest.raises(run.MadeOtherwise, match=r"of another schedule than .* --out"):
        built(tmp_path)
    assert digest(tmp_path / "models" / second.name) == before
    shutil.rmtree(tmp_path / "models" / second.name)
    assert built(tmp_path) == [(second.name, at) for at in range(1, 9)]


def test_a_published_router_routes_as_it_says(tmp_path, tokenizer):
    built(tmp_path)
    router = load_router(tmp_path / "models" / "router")
    assert router.body.config.dtype == "bfloat16" and router.temperature > 0
    [found] = route(router, [prompt_ids(tokenizer, "What is 17 times 23?")])
    assert set(dict(found.shares)) == set(LABELS) and sum(dict(found.shares).values()) == pytest.approx(1, abs=1e-5)
