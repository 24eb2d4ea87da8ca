"""Several experts for one prompt: one after the other, or beside each other.

chain      each prompt is made of what was found before, and the router reads it anew: what one expert says decides
           who is asked next
ensemble   the experts that the router finds likeliest all answer, and the one that is surest of its answer is right
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experts.composition import MOST, Answer, Composition
from experts.data.others import OTHER
from experts.generate import CHUNK
from experts.llama import Llama
from experts.router import Route
from experts.tokenizer import END, prompt_ids

BEFORE = "{}"  # in a prompt of a chain: what was found before

# Of a question in another language, and back: a translator, whoever can answer it, and the translator again.
CHAINS: Mapping[str, tuple[str, ...]] = {
    language.lower(): (
        f"Translate the following {language} text to English: {BEFORE}",
        BEFORE,
        f"Translate this text to {language}: The result is {BEFORE}.",
    )
    for language in ("French", "German")
}


@dataclass(frozen=True)
class Step:
    """One prompt of several, and its answer. named: the router was not asked about it again.

    score: of an ensemble, how sure its expert is, the higher the surer; else 0.
    """

    prompt: str
    answer: Answer
    named: bool = False
    score: float = 0.0


def chained(
    composition: Composition,
    prompts: Sequence[str],
    prompt: str,
    answered: Callable[[Composition, str], Answer] = Composition.answer,
) -> list[Step]:
    """Asks all prompts of a chain; it ends early where no expert is for one, and that one's answer is empty.

    prompts: each with `BEFORE` where the result of the one before is to stand, or, in the first, the prompt given.
    answered: how each is answered. Raises ValueError where one says nothing of what was before.
    """
    if not prompts or not all(BEFORE in each for each in prompts):
        raise ValueError(f"prompts of a chain are one or more, each with {BEFORE}; given: {list(prompts)}")
    steps, found = list[Step](), prompt
    for each in prompts:
        asked = each.replace(BEFORE, found)
        steps.append(Step(asked, answered(composition, asked)))
        found = steps[-1].answer.result
        if not found:
            break
    return steps


def ensemble(composition: Composition, prompt: str, count: int = 2, most: int = MOST) -> list[Step]:
    """Answers of the so many likeliest experts, the surest first; none where the router finds that no expert is for it.

    How sure: the logarithm of the router's share, plus the mean logarithm of the probabilities of the answer's tokens,
    its end included. Raises ValueError for a count below one, and as `Composition.answer`.
    """
    if count < 1:
        raise ValueError(f"an ensemble is of one expert or more; given: {count}")
    [way] = composition.routes([prompt])
    if way.label == OTHER:
        return []
    likeliest = [each for each in way.shares if each[0] != OTHER][:count]
    ids, steps = prompt_ids(composition.tokenizer, prompt), list[Step]()
    for at, (label, share) in enumerate(likeliest):
        answer = composition.answer_of(Route(label, share, way.shares), prompt, most=most)
        sure = mean_log_probability(composition.model(label), ids, [*answer.ids, END])
        steps.append(Step(prompt, answer, named=at > 0, score=log(max(share, 1e-12)) + sure))
    best = max(steps, key=lambda step: step.score)
    return [best, *(step for step in steps if step is not best)]


def mean_log_probability(model: Llama, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Of tokens behind a prompt, as far as the context reaches: the mean logarithm of their probabilities."""
    text = [*prompt, *tokens][: model.config.positions]
    room = min(model.config.positions, -(-len(text) // CHUNK) * CHUNK)
    padded = np.zeros((1, room), np.int32)
    padded[0, : len(text)] = text
    form, weights = nnx.split(model)
    logs = np.asarray(_logs(form, weights, padded))[0]
    return float(np.mean([logs[at - 1, text[at]] for at in range(len(prompt), len(text))]))


@partial(jax.jit, static_argnums=0)
def _logs(form: nnx.GraphDef, weights: nnx.State, tokens: jax.Array) -> jax.Array:
    """FP32 [batch, length, vocab]: logarithms of the probabilities of what follows each position."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    logits = nnx.merge(form, weights).every(tokens, positions, jnp.zeros_like(tokens))
    return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
