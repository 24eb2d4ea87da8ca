"""Builds every model of the recipes and the router, one after the other, and publishes each: BF16, with its tokenizer.

What is published already with the same recipe and seed is left as it is; what was begun goes on where it was. A model
that was made otherwise is never written over: whoever wants that removes it first.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experts.checkpoints import load, save, save_router
from experts.checkpoints.weights import SINGLE
from experts.llama import DTYPES, Llama, abstract_model, random_model
from experts.tokenizer import Tokenizer
from experts.training import routing
from experts.training.loop import train
from experts.training.recipes import CONFIG, Recipe, recipes, trained_tokenizer

RECORD = "training.json"  # beside a published model: what it was made of
Told = Callable[[str, int, int, float], None]  # after a step: the model, steps so far and in all, the loss


class MadeOtherwise(FileExistsError):
    """A published model is in the place of another that is to be trained."""


def build(published: Path, states: Path, seed: int, told: Told | None = None) -> None:
    """All models under `published`, by name. states: where trainings keep their states, to go on after a kill.

    Raises MadeOtherwise where a model of the name is published that has another recipe, seed, beginning or data.
    """
    tokenizer = trained_tokenizer(seed)
    for recipe in recipes():
        folder = published / recipe.name
        made_of = _made_of(recipe, published, tokenizer, seed)
        if _is_published(folder, made_of):
            continue
        begins = load(published / recipe.begins, dtype="float32") if recipe.begins else random_model(CONFIG, seed)
        steps, name = recipe.schedule.steps, recipe.name
        own = None if told is None else partial(_tell, told, name, steps)
        kept = states / f"{name}-{_digest(made_of)}"  # never those of another recipe or seed
        model = train(begins, partial(recipe.batch, tokenizer, seed), recipe.schedule, kept, own)
        _publish(partial(save, in_dtype(model, "bfloat16")), tokenizer, folder, made_of)
    build_router(published, states, seed, tokenizer, told)


def build_router(published: Path, states: Path, seed: int, tokenizer: Tokenizer, told: Told | None = None) -> None:
    """The router, which begins as the base model, likewise."""
    folder, steps = published / "router", routing.SCHEDULE.steps
    made_of = {"name": "router", "seed": seed, "schedule": asdict(routing.SCHEDULE), "config": asdict(CONFIG)}
    made_of |= {"labels": list(routing.LABELS), "begins": "base", "begins_sha256": _weights_of(published, "base")}
    made_of |= {"first_batch_sha256": _digest_of(routing.batch(tokenizer, seed, 0))}
    if _is_published(folder, made_of):
        return
    begins = routing.beginning(load(published / "base", dtype="float32"), seed)
    own = None if told is None else partial(_tell, told, "router", steps)
    kept, batches = states / f"router-{_digest(made_of)}", partial(routing.batch, tokenizer, seed)
    router = train(begins, batches, routing.SCHEDULE, kept, own, routing.mistaken)
    router.temperature = routing.temperature_of(router, tokenizer, seed)
    router.body = in_dtype(router.body, "bfloat16")
    _publish(partial(save_router, router), tokenizer, folder, made_of)


def _publish(saved: Callable[[Path], None], tokenizer: Tokenizer, folder: Path, made_of: dict) -> None:
    """Writes a model with its tokenizer, and last its record: what has one is complete."""
    (folder / RECORD).unlink(missing_ok=True)
    saved(folder)
    tokenizer.save(folder)
    (folder / RECORD).write_text(json.dumps(made_of, indent=2) + "\n")


def in_dtype(model: Llama, dtype: str) -> Llama:
    """The same model with weights of another dtype, rounded to the nearest, ties to even."""
    form = nnx.graphdef(abstract_model(replace(model.config, dtype=dtype)))  # type: ignore[arg-type]
    cast = partial(jax.tree.map, lambda x: jnp.asarray(x, DTYPES[dtype]))
    _, weights, rest = nnx.split(model, nnx.Param, ...)
    return nnx.merge(form, cast(weights), rest)


def _tell(told: Told, name: str, steps: int, at: int, loss: float) -> None:
    told(name, at, steps, loss)


def _made_of(recipe: Recipe, published: Path, tokenizer: Tokenizer, seed: int) -> dict:
    """What decides about a model: its recipe, sizes, seed, what it begins as, and, by its first batch, its data."""
    own = {"name": recipe.name, "seed": seed, "schedule": asdict(recipe.schedule), "config": asdict(CONFIG)}
    own |= {"begins": recipe.begins, "begins_sha256": _weights_of(published, recipe.begins)}
    return own | {"first_batch_sha256": _digest_of(recipe.batch(tokenizer, seed, 0))}


def _weights_of(published: Path, name: str) -> str:
    """Of the weights of a model; "" for none."""
    return sha256((published / name / SINGLE).read_bytes()).hexdigest() if name else ""


def _digest_of(batch: Iterable[np.ndarray]) -> str:
    """Of the values of all arrays."""
    found = sha256()
    for array in batch:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _digest(made_of: dict) -> str:
    return sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


def _is_published(folder: Path, made_of: dict) -> bool:
    """Whether this very model is; False where none is. Raises MadeOtherwise where it is another."""
    path = folder / RECORD
    if not path.is_file():
        return False
    found = json.loads(path.read_text())
    other = [key for key in made_of | found if made_of.get(key) != found.get(key)]
    if other:
        raise MadeOtherwise(
            f"{folder} holds a model of another {', '.join(other)} than is to be trained (the library's sources, for "
            "one, are other texts in another Python version). Remove it, or train into another folder with --out"
        )
    return True
