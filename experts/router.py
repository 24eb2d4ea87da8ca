"""The router: a small Llama that says which expert a prompt is for, and how sure it is.

The last token of a prompt is classified, as `LlamaForSequenceClassification` does. Logits over a temperature, which is
fitted on prompts that were not trained on, are the confidence: of prompts with 0.9, nine in ten go to the right expert.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experts.llama import Config, Llama, linear

WIDTH = 32  # prompts are padded to multiples of so many tokens: fewer compilations


class Router(nnx.Module):
    """A Llama with a score for each of `labels` in the place of its head. temperature: divides the logits."""

    def __init__(self, config: Config, labels: Sequence[str], rngs: nnx.Rngs, temperature: float = 1.0):
        self.labels, self.temperature = tuple(labels), temperature
        self.body = Llama(config, rngs)
        self.score = linear(config.d_model, len(self.labels), config, rngs)

    def __call__(self, tokens: jax.Array, last: jax.Array) -> jax.Array:
        """FP32 logits [batch, labels]. tokens: int32 [batch, length], padded behind; last: int32 [batch], see above."""
        batch, length = tokens.shape
        positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
        hidden = self.body.hidden(tokens, positions, jnp.zeros_like(positions))
        return self.score(hidden[jnp.arange(batch), last]).astype(jnp.float32) / self.temperature


@dataclass(frozen=True)
class Route:
    """Where a prompt goes. shares: the confidence in every label, the highest first."""

    label: str
    confidence: float
    shares: tuple[tuple[str, float], ...]


def route(router: Router, prompts: Sequence[Sequence[int]]) -> list[Route]:
    """Where prompts go, given as token ids. Raises ValueError for none, an empty one, and one beyond the context."""
    lengths = [len(prompt) for prompt in prompts]
    if not lengths or not 0 < min(lengths) <= max(lengths) <= router.body.config.positions:
        allowed = router.body.config.positions
        raise ValueError(f"prompts are one or more, of 1 to {allowed} tokens each; given lengths: {lengths}")
    form, weights = nnx.split(router)
    shares = np.asarray(_shares(form, weights, *padded(prompts, router.body.config.positions)))
    return [_route(router.labels, row) for row in shares]


def padded(prompts: Sequence[Sequence[int]], most: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens int32 [batch, length], place of the last one of each); the length is a multiple of `WIDTH` up to most."""
    last = np.array([len(prompt) - 1 for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), min(most, -(-(int(last.max()) + 1) // WIDTH) * WIDTH)), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens, last


def _route(labels: Sequence[str], shares: np.ndarray) -> Route:
    order: list[int] = np.argsort(-shares, kind="stable").tolist()
    ranked = tuple((labels[i], float(shares[i])) for i in order)
    return Route(*ranked[0], ranked)


@partial(jax.jit, static_argnums=0)
def _shares(form: nnx.GraphDef, weights: nnx.State, tokens: jax.Array, last: jax.Array) -> jax.Array:
    return jax.nn.softmax(nnx.merge(form, weights)(tokens, last), axis=-1)


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which logits [prompts, labels] say best how often they are right (labels: int [prompts]).

    Who was right n times of n is not always right: as Platt does, each right label counts for 1 - 1 / (n + 2), the
    others for the rest, so that confidence stays below one. The likelihood is log-concave in 1 / temperature: its
    maximum is found by bisection of the slope.
    """
    wide, (count, options) = logits.astype(np.float64), logits.shape
    unsure = 1 / (count + 2)
    targets = np.full(wide.shape, unsure / (options - 1))
    targets[np.arange(count), labels] = 1 - unsure

    def slope(inverse: float) -> float:
        scaled = inverse * wide
        shares = np.exp(scaled - scaled.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return float(((targets - shares) * wide).sum(-1).mean())

    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 1 / (low * high) ** 0.5


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """ECE: how far confidence [prompts] is from the share of right ones, over bins of equal width, by their prompts."""
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = (abs(confidence[at == i].sum() - right[at == i].sum()) for i in range(bins))
    return float(sum(gaps)) / len(confidence)
