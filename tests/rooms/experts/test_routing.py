"""Batches of the router, a short training that learns, and its files."""

import json
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experts.checkpoints import CheckpointError, load_router, save_router
from experts.checkpoints.routers import LABELLED, SCORE
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, split_of
from experts.llama import Config, random_model
from experts.router import route
from experts.tokenizer import Tokenizer, prompt_ids
from experts.tokenizer import train as train_tokenizer
from experts.training import routing
from experts.training.loop import Schedule, train

SIZES = Config(d_model=32, layers=1, heads=2, kv_heads=1, d_ff=48, vocab=400, positions=96, tied=True, dtype="float32")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((example.prompt for example, _ in routing.drawn("train", "seen", 5, 400)), 400)


def test_all_labels_are_drawn_and_only_of_the_split():
    for split, wordings in (("train", "seen"), ("validation", "held"), ("test", "seen")):
        found = routing.drawn(split, wordings, 1, 900)
        counts = Counter(label for _, label in found)
        assert set(counts) == {*DOMAINS, OTHER} and min(counts.values()) > 60
        for example, label in found:
            assert example.domain == label and split_of(example.domain, example.content) == split


def test_a_batch_holds_its_prompts_and_is_the_same_again(tokenizer):
    batch = routing.batch(tokenizer, 0, 7)
    for one, other in zip(batch, routing.batch(tokenizer, 0, 7), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(batch.tokens, routing.batch(tokenizer, 0, 8).tokens)
    line = tokenizer.encode("a\n")[-1]
    for tokens, last in zip(batch.tokens, batch.last, strict=True):
        assert tokens[last] == line and not tokens[last + 1 :].any()


def test_a_router_learns_and_its_files_give_the_same_routes(tokenizer, tmp_path):
    losses: list[float] = []
    begins = routing.beginning(random_model(SIZES, 0), 0)
    batches, schedule = (lambda step: routing.batch(tokenizer, 0, step)), Schedule(60, 5e-3, warm=5, every=30)
    told = lambda at, loss: losses.append(loss)  # noqa: E731
    router = train(begins, batches, schedule, tmp_path / "states", told, routing.mistaken)
    assert losses[0] > 2 and np.mean(losses[-5:]) < 0.7 * losses[0]
    router.temperature = 1.5
    save_router(router, tmp_path / "router")
    prompts = [prompt_ids(tokenizer, example.prompt)[:96] for example, _ in routing.drawn("test", "held", 0, 20)]
    again = load_router(tmp_path / "router")
    assert again.labels == routing.LABELS and route(again, prompts) == route(router, prompts)


@pytest.mark.parametrize(
    "wrong",
    [{"labels": ["a", "b"]}, {"labels": []}, {"labels": "abc"}, {"labels": None}, {"temperature": 0},
     {"temperature": float("nan")}, {"temperature": "1"}],
)  # fmt: skip
def test_labels_of_another_router_are_refused(tmp_path, wrong):
    save_router(routing.beginning(random_model(SIZES, 0), 0), tmp_path)
    record = json.loads((tmp_path / LABELLED).read_text())
    (tmp_path / LABELLED).write_text(json.dumps(record | wrong))
    with pytest.raises(CheckpointError):
        load_router(tmp_path)


@pytest.mark.parametrize("name", [LABELLED, SCORE])
def test_files_that_are_missing_or_cut_off_are_refused(tmp_path, name):
    save_router(routing.beginning(random_model(SIZES, 0), 0), tmp_path)
    whole = (tmp_path / name).read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_router(tmp_path)


def test_a_router_begins_with_the_weights_of_the_base_model():
    base = random_model(SIZES, 3)
    router = routing.beginning(base, 0)
    for one, other in zip(nnx.to_flat_state(nnx.state(base)), nnx.to_flat_state(nnx.state(router.body)), strict=True):
        assert jnp.array_equal(one[1][...], other[1][...])
