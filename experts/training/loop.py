"""The training loop: AdamW under a cosine, its state saved every so often.

Whoever kills it at any moment and starts it again gets the same final bits: a batch follows from the number of its step
alone, and a state is saved whole or not at all. Weights are FP32 here; what is published of them is BF16.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx

from experts.llama import Llama
from experts.training.packing import Batch

AHEAD = 4  # batches that are made while the ones before are trained on
Batches = Callable[[int], Any]  # a batch by the number of its step: arrays, in a tuple
Trained = TypeVar("Trained", bound=nnx.Module)
Told = Callable[[int, float], None]  # after a step: how many there were, and its loss


@dataclass(frozen=True)
class Schedule:
    """Steps, and the learning rate: up from 0 within `warm` of them, then down a cosine to a tenth.

    every: steps between two saved states.
    """

    steps: int
    rate: float
    warm: int = 50
    decay: float = 0.1
    every: int = 100

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW; gradients are clipped to a norm of 1, and norms' weights do not decay."""
        rate = optax.warmup_cosine_decay_schedule(0.0, self.rate, self.warm, self.steps, self.rate / 10)
        matrices = partial(jax.tree.map, lambda weight: weight.ndim > 1)
        return optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(rate, b2=0.98, weight_decay=self.decay, mask=matrices),
        )


def foreseen(model: Llama, batch: Batch) -> jax.Array:
    """The loss of a language model: the mean cross-entropy of what follows, by the weights of a batch."""
    tokens, targets, weights, positions, segments = map(jnp.asarray, batch)
    logits = model.every(tokens, positions, segments)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
    return (losses * weights).sum() / jnp.maximum(weights.sum(), 1e-9)


def train(
    model: Trained,
    batches: Batches,
    schedule: Schedule,
    folder: Path,
    told: Told | None = None,
    loss: Callable[[Trained, Any], jax.Array] = foreseen,
) -> Trained:
    """The model after all steps; folder: where states are saved, and from where it goes on, if there is one.

    loss: of a model and a batch. Raises FloatingPointError where the loss is no number: the state before that is kept.
    """
    form, weights, rest = nnx.split(model, nnx.Param, ...)
    optimiser = schedule.optimiser()
    state = {"weights": nnx.to_pure_dict(weights), "optimiser": optimiser.init(nnx.to_pure_dict(weights)), "step": 0}
    with ocp.StandardCheckpointer() as saver:
        state = _restored(saver, folder, state)
        first = int(state["step"])
        step = jax.jit(stepper(form, weights, rest, optimiser, loss), donate_argnums=(0, 1))
        for at, batch in _ahead(batches, first, schedule.steps):
            state["weights"], state["optimiser"], found = step(state["weights"], state["optimiser"], batch)
            state["step"] = at + 1
            if not jnp.isfinite(found):
                raise FloatingPointError(f"the loss of step {at} is {found}: try a smaller rate than {schedule.rate}")
            if told is not None:
                told(at + 1, float(found))
            if (at + 1) % schedule.every == 0 or at + 1 == schedule.steps:
                _save(saver, folder, state)
    nnx.replace_by_pure_dict(weights, state["weights"])
    return nnx.merge(form, weights, rest)


def stepper(
    form: nnx.GraphDef, weights: nnx.State, rest: nnx.State, optimiser: optax.GradientTransformation,
    loss: Callable[[Any, Any], jax.Array] = foreseen,
) -> Callable[[Any, optax.OptState, Any], tuple[Any, optax.OptState, jax.Array]]:  # fmt: skip
    """A step as a function of weights (a pure dict), the optimiser's state and a batch, to both new ones and the loss.

    form, weights, rest: of a model that is split into parameters and the rest.
    """

    def loss_of(pure: Any, batch: Any) -> jax.Array:
        own = jax.tree.map(lambda x: x, weights)
        nnx.replace_by_pure_dict(own, pure)
        return loss(nnx.merge(form, own, rest), batch)

    def step(pure: Any, kept: optax.OptState, batch: Any) -> tuple[Any, optax.OptState, jax.Array]:
        found, slopes = jax.value_and_grad(loss_of)(pure, batch)
        updates, kept = optimiser.update(slopes, kept, pure)
        return optax.apply_updates(pure, updates), kept, found

    return step


def _ahead(batches: Batches, first: int, steps: int) -> Iterator[tuple[int, Any]]:
    """The batches of all steps from `first` on, made by another thread a few steps before they are needed."""
    with ThreadPoolExecutor(1) as maker:
        waiting = {at: maker.submit(batches, at) for at in range(first, min(first + AHEAD, steps))}
        for at in range(first, steps):
            batch = waiting.pop(at).result()
            if at + AHEAD < steps:
                waiting[at + AHEAD] = maker.submit(batches, at + AHEAD)
            yield at, batch


def _restored(saver: ocp.StandardCheckpointer, folder: Path, state: dict) -> dict:
    """The latest state that was saved, or this one where there is none."""
    found = _saved(folder)
    return saver.restore(found[max(found)].absolute(), target=state) if found else state


def _saved(folder: Path) -> dict[int, Path]:
    """The states in a folder, by step; what a killed process left half written has another name."""
    names = ((each, each.name.removeprefix("step-")) for each in folder.glob("step-*"))
    return {int(step): path for path, step in names if step.isdecimal()}


def _save(saver: ocp.StandardCheckpointer, folder: Path, state: dict) -> None:
    """Saves a state, and removes those before it."""
    folder.mkdir(parents=True, exist_ok=True)
    before, path = list(folder.glob("step-*")), folder / f"step-{state['step']}"
    saver.save(path.absolute(), state, force=True)
    saver.wait_until_finished()
    for old in before:
        if old != path:
            shutil.rmtree(old)
