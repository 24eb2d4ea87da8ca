"""What the router is trained on: prompts of all domains and of none, each with its label; and its files.

Prompts alone, as they are asked. Of every batch, as many are for each label, give or take chance.
"""

import json
from pathlib import Path
from random import Random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from experts.checkpoints import load, save
from experts.checkpoints.errors import refused
from experts.checkpoints.replacing import write
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, examples, others
from experts.data.tasks import Example
from experts.llama import DTYPES, Llama
from experts.router import Router, fitted_temperature, padded
from experts.tokenizer import Tokenizer
from experts.training.loop import Schedule
from experts.training.texts import prompt_ids

LABELS = (*DOMAINS, OTHER)
ROWS, LENGTH = 128, 96  # prompts of a batch, tokens of one
CALIBRATED = 1024  # prompts to which the temperature is fitted
SCHEDULE = Schedule(400, 1e-3, warm=20)
SCORE, LABELLED = "score.safetensors", "router.json"  # beside the body's checkpoint


class Prompts(NamedTuple):
    """Prompts, padded behind: int32 [rows, length], the place of each one's last token, and its label's number."""

    tokens: np.ndarray
    last: np.ndarray
    labels: np.ndarray


def drawn(split: str, wordings: str, seed: int, count: int) -> list[tuple[Example, str]]:
    """So many examples of a split, with their labels; all labels are equally likely."""
    rng = Random(f"router {split} {wordings} {seed}")
    sources = {domain: examples(domain, split, wordings, rng.getrandbits(62)) for domain in DOMAINS}
    sources[OTHER] = others(split, rng.getrandbits(62), wordings=wordings)
    labels = rng.choices(LABELS, k=count)
    return [(next(sources[label]), label) for label in labels]


def batch(tokenizer: Tokenizer, seed: int, step: int) -> Prompts:
    """The batch of a step, whatever was drawn before. Of a prompt that is too long, the end counts."""
    tokens = np.zeros((ROWS, LENGTH), np.int32)
    last, labels = np.zeros(ROWS, np.int32), np.zeros(ROWS, np.int32)
    own = Random(f"{seed} {step}").getrandbits(62)
    for row, (example, label) in enumerate(drawn("train", "seen", own, ROWS)):
        ids = prompt_ids(tokenizer, example.prompt)[-LENGTH:]
        tokens[row, : len(ids)], last[row], labels[row] = ids, len(ids) - 1, LABELS.index(label)
    return Prompts(tokens, last, labels)


def mistaken(router: Router, batch: Prompts) -> jax.Array:
    """The mean cross-entropy of the labels."""
    tokens, last, labels = map(jnp.asarray, batch)
    return optax.softmax_cross_entropy_with_integer_labels(router(tokens, last), labels).mean()


def temperature_of(router: Router, tokenizer: Tokenizer, seed: int) -> float:
    """The temperature at which confidence is right, on contents and wordings that were not trained on.

    Of wordings that were, a router is always sure, and always right: they tell nothing.
    """
    asked = drawn("validation", "held", seed, CALIBRATED)
    prompts = [prompt_ids(tokenizer, example.prompt)[-LENGTH:] for example, _ in asked]
    logits = np.concatenate([
        np.asarray(router(*map(jnp.asarray, padded(prompts[at : at + ROWS], LENGTH))))
        for at in range(0, CALIBRATED, ROWS)
    ])  # fmt: skip
    return router.temperature * fitted_temperature(logits, np.array([LABELS.index(label) for _, label in asked]))


def beginning(base: Llama, seed: int) -> Router:
    """A router with the base model's weights and random scores."""
    router = Router(base.config, LABELS, nnx.Rngs(seed))
    nnx.update(router.body, nnx.state(base))
    return router


def save_router(router: Router, folder: Path) -> None:
    """The body as a checkpoint, the scores and labels beside it."""
    save(router.body, folder)
    save_file({"score.weight": np.ascontiguousarray(np.asarray(router.score.kernel[...]).T)}, folder / SCORE)
    record = {"labels": list(router.labels), "temperature": router.temperature}
    write(folder / LABELLED, (json.dumps(record, indent=2) + "\n").encode())


def load_router(folder: Path, dtype: str | None = None) -> Router:
    """The router of a folder. Raises CheckpointError where files are broken or do not belong together."""
    body = load(folder, dtype=dtype)  # type: ignore[arg-type]
    labels, temperature = _labelled(folder / LABELLED)
    try:
        score = load_file(folder / SCORE)["score.weight"].T
    except (OSError, KeyError, SafetensorError) as error:
        raise refused("scores that cannot be read", given=error, where=folder / SCORE) from error
    if score.shape != (body.config.d_model, len(labels)):
        allowed = (body.config.d_model, len(labels))
        raise refused("scores of another router", given=score.shape, allowed=allowed, where=folder / SCORE)
    router = Router(body.config, labels, nnx.Rngs(0), temperature)
    nnx.update(router.body, nnx.state(body))
    router.score.kernel[...] = jnp.asarray(score, DTYPES[body.config.dtype])
    return router


def _labelled(path: Path) -> tuple[list[str], float]:
    """The labels and the temperature that a file says."""
    try:
        record = json.loads(path.read_text())
        labels, temperature = record["labels"], record["temperature"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise refused("labels that cannot be read", given=repr(error), where=path) from error
    named = isinstance(labels, list) and all(isinstance(label, str) for label in labels) and labels
    if not named or not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
        allowed = "names, and a temperature above 0"
        raise refused("no labels of a router", given=(labels, temperature), allowed=allowed, where=path)
    return labels, float(temperature)
