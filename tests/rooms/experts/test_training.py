"""Packed rows against the same texts one by one, and a training that is killed against one that is not."""

import random
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experts import tokenizer as tokenizers
from experts.data import examples
from experts.llama import LLAMA2_TINY, Config, random_model
from experts.training.loop import Schedule, train
from experts.training.packing import Batch, Text, packed
from experts.training.recipes import recipes

CONFIG = Config(d_model=32, layers=2, heads=2, kv_heads=1, d_ff=64, vocab=32, positions=32, tied=True, dtype="float32")


def texts(seed: int):
    """Multiples of a number, modulo 31, behind a 1."""
    rng = random.Random(seed)
    while True:
        count, factor = rng.randrange(3, 14), rng.randrange(2, 31)
        tokens = [1, *(factor * i % 31 + 1 for i in range(count))]
        yield Text(tokens, [0.0, 0.0, *[1.0] * (count - 1)])


def batches(step: int) -> Batch:
    return packed(texts(step), 8, 32)


def test_rows_hold_whole_texts_and_nothing_is_lost():
    batch, placed = packed(texts(0), 5, 40), []
    for row in range(5):
        for segment in range(1, batch.segments[row].max() + 1):
            at = batch.segments[row] == segment
            placed.append((batch.tokens[row, at].tolist(), batch.targets[row, at].tolist()))
            assert batch.positions[row, at].tolist() == list(range(at.sum()))
    every = texts(0)
    wanted = [next(every) for _ in placed]
    assert sorted(placed) == sorted((list(text.tokens[:-1]), list(text.tokens[1:])) for text in wanted)
    assert len(placed) > 5 and (batch.weights[batch.segments == 0] == 0).all()


def test_a_text_in_a_packed_row_has_the_logits_that_it_has_alone():
    model, batch = random_model(CONFIG, 0), batches(3)
    together = model.every(batch.tokens, batch.positions, batch.segments)
    for row, segment in ((0, 1), (1, 2), (7, 1)):
        at = batch.segments[row] == segment
        alone = model.every(
            batch.tokens[row, at][None], batch.positions[row, at][None], np.zeros((1, at.sum()), np.int32)
        )
        np.testing.assert_allclose(together[row, at], alone[0], rtol=0, atol=2e-5)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        packed(iter([Text([1] * 42, [1.0] * 42)]), 5, 40)


def test_a_text_has_a_weight_for_every_token():
    with pytest.raises(ValueError, match="each with a weight"):
        Text([1, 2, 3], [1.0])


def run(folder: Path, kill: int | None = None) -> tuple[dict, list[float]]:
    losses: list[float] = []

    def told(steps: int, loss: float) -> None:
        losses.append(loss)
        if steps == kill:
            raise KeyboardInterrupt

    model = train(random_model(CONFIG, 0), batches, Schedule(40, 3e-3, warm=5, every=10), folder, told)
    return nnx.to_pure_dict(nnx.state(model, nnx.Param)), losses


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    whole, losses = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kill=23)
    (tmp_path / "killed" / "step-25.orbax-checkpoint-tmp").mkdir()  # as of one that was killed while it saved
    again, rest = run(tmp_path / "killed")
    assert rest == losses[20:] and losses[-1] < 0.8 * losses[0]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, again))
    assert [each.name for each in (tmp_path / "whole").iterdir()] == ["step-40"]
    finished, nothing = run(tmp_path / "whole")
    assert nothing == [] and jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, finished))


def test_a_tiny_expert_learns_its_questions(tmp_path):
    """By the recipe of a real one, on rows of its batches, with a tokenizer of its own."""
    recipe = next(each for each in recipes() if each.name == "roman")
    drawn = examples("roman", "train", "seen", 0, 300)
    tokenizer = tokenizers.train([f"{each.prompt}\n{each.answer}" for each in drawn], LLAMA2_TINY.vocab)
    losses: list[float] = []

    def few(step: int) -> Batch:
        return Batch(*(array[:6] for array in recipe.batch(tokenizer, 0, step)))

    model = random_model(replace(LLAMA2_TINY, dtype="float32"), 0)
    train(model, few, Schedule(24, 5e-3, warm=4, every=24), tmp_path, lambda steps, loss: losses.append(loss))
    assert losses[0] > 5 and np.mean(losses[-4:]) < 0.7 * losses[0]


def test_a_loss_that_is_no_number_ends_training_and_keeps_the_state_before(tmp_path):
    def broken(step: int) -> Batch:
        batch = batches(step)
        return batch._replace(weights=batch.weights * (np.nan if step == 12 else 1))

    with pytest.raises(FloatingPointError, match="step 12"):
        train(random_model(CONFIG, 0), broken, Schedule(40, 3e-3, warm=5, every=10), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["step-10"]


def test_norms_do_not_decay_and_matrices_do():
    schedule = Schedule(10, 1e-2, warm=1)
    weights = {"norm": jnp.ones(4), "matrix": jnp.ones((4, 4))}
    optimiser = schedule.optimiser()
    state = optimiser.init(weights)
    for _ in range(3):
        still = jax.tree.map(jnp.zeros_like, weights)
        updates, state = optimiser.update(still, state, weights)
    assert (updates["norm"] == 0).all() and (updates["matrix"] < 0).all()
