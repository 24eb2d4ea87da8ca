"""What the router is trained on: prompts of all domains and of none, each with its label.

Prompts alone, half of them as they are asked, half as they are typed in a hurry. Of every batch, as many are for each
label, give or take chance.
"""

from random import Random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experts.data.others import OTHER
from experts.data.rough import roughened
from experts.data.splits import DOMAINS, examples, others
from experts.data.tasks import Example
from experts.llama import Llama
from experts.router import Router, fitted_temperature, padded
from experts.tokenizer import Tokenizer, prompt_ids
from experts.training.loop import Schedule

LABELS = (*DOMAINS, OTHER)
ROWS, LENGTH = 64, 96  # prompts of a batch, tokens of one
CALIBRATED = 1024  # prompts to which the temperature is fitted
SCHEDULE = Schedule(300, 1e-3, warm=20)


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
    rng = Random(f"{seed} {step}")
    for row, (example, label) in enumerate(drawn("train", "seen", rng.getrandbits(62), ROWS)):
        prompt = roughened(example.prompt, rng) if row % 2 else example.prompt
        ids = prompt_ids(tokenizer, prompt)[-LENGTH:]
        tokens[row, : len(ids)], last[row], labels[row] = ids, len(ids) - 1, LABELS.index(label)
    return Prompts(tokens, last, labels)


def mistaken(router: Router, batch: Prompts) -> jax.Array:
    """The mean cross-entropy of the labels."""
    tokens, last, labels = map(jnp.asarray, batch)
    return optax.softmax_cross_entropy_with_integer_labels(router(tokens, last), labels).mean()


def temperature_of(router: Router, tokenizer: Tokenizer, seed: int) -> float:
    """The temperature at which confidence is right, on contents and wordings that were not trained on, in a hurry.

    Of wordings that were, a router is always sure, and always right: they tell nothing.
    """
    asked, rng = drawn("validation", "held", seed, CALIBRATED), Random(f"temperature {seed}")
    prompts = [prompt_ids(tokenizer, roughened(example.prompt, rng))[-LENGTH:] for example, _ in asked]
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
