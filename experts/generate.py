"""Tokens from a model: a prompt is read at once, then one jitted scan writes a chunk of tokens after another.

Rows of a batch stand at the same position all the time, so that one cache serves all: where a row's prompt is longer
than what was read at once, its own tokens are taken in the place of chosen ones. What a row gets does not depend on
its neighbours, nor on the chunks: a token is chosen with a key of its own, by the seed, the row and the position.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experts.llama import Cache, Llama, empty_cache

CHUNK = 32  # tokens between two looks at whether all rows have ended
READ = 16  # prompts are read in multiples of so many tokens, and caches hold multiples of `CHUNK`: fewer compilations
COLDEST = np.float32(1e-6)  # temperatures below are this one, and all but greedy
FREE = -1  # in the place of a token: it is to be chosen

# New tokens by row, as they come: none for a row that has ended.
Streamed = Callable[[list[list[int]]], None]


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: of what is allowed, with the probabilities of logits / temperature; at 0, the likeliest.

    top_k: the so many likeliest are allowed, 0 for all. top_p: of these, the fewest likeliest that together have this
    probability. Raises ValueError for what is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is a finite number, 0 or more; given: {self.temperature!r}")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k is an int, 0 (for all) or more; given: {self.top_k!r}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and no more than 1; given: {self.top_p!r}")

    def drawn(self) -> tuple[np.generic, ...] | None:
        """What a compiled program is given, so that one serves all: (temperature, top_k, top_p); None for greedy."""
        if self.temperature == 0:
            return None
        return np.float32(self.temperature), np.int32(min(self.top_k, 2**31 - 1)), np.float32(self.top_p)


GREEDY = Sampling()


def generate(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    stop: Collection[int] = (),
    sampling: Sampling = GREEDY,
    seed: int = 0,
    streamed: Streamed | None = None,
) -> list[list[int]]:
    """What a model writes behind each prompt: up to `most` tokens, up to the first of `stop`, which is left out.

    prompts: token ids, one or more each; they need not be of one length. streamed: is called with new tokens as soon as
    they are there; whatever it raises ends all. Raises ValueError for no prompt, an empty one, ids outside of the
    vocabulary, and for prompts that leave no room for `most` tokens in the model's context; FloatingPointError where
    logits are no numbers, as of a broken model: then what was written since they last were is not shown.
    """
    lengths = _checked(model, prompts, most)
    total = max(lengths) + most
    chunk = 1 if streamed else CHUNK
    tokens = np.full((len(prompts), total + CHUNK), FREE, np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    read = max(1, min(lengths) // READ * READ)
    stops = np.array(sorted(stop), np.int32)
    ends = np.array(lengths) + most  # of each row, the position behind its last token
    form, weights = nnx.split(model)
    room = min(model.config.positions, -(-total // CHUNK) * CHUNK)
    logits, cache = _read(form, weights, tokens[:, :read], empty_cache(model.config, len(prompts), room))
    key = jax.random.key(seed)
    while read < ends.max():
        steps = min(chunk, room - read)
        wanted = jnp.asarray(tokens[:, read : read + steps])
        logits, cache, new = _write(form, weights, logits, cache, wanted, key, np.int32(read), sampling.drawn())
        if not np.isfinite(logits).all():  # a NaN in the cache makes one of every logit that follows
            raise FloatingPointError(f"logits behind {read + steps} tokens are no numbers: the model is broken")
        tokens[:, read : read + steps] = new
        ends = _ended(tokens, lengths, ends, stops, read, read + steps)
        if streamed:
            rows = zip(tokens, lengths, ends, strict=True)
            streamed([_part(row, max(read, length), min(read + steps, end)) for row, length, end in rows])
        read += steps
    return [_part(row, length, end) for row, length, end in zip(tokens, lengths, ends, strict=True)]


def _checked(model: Llama, prompts: Sequence[Sequence[int]], most: int) -> list[int]:
    """The lengths of prompts that a model can go on with."""
    lengths, config = [len(prompt) for prompt in prompts], model.config
    if not lengths or min(lengths) < 1:
        raise ValueError(f"prompts are one or more, of one token or more each; given lengths: {lengths}")
    if most < 1 or max(lengths) + most > config.positions:
        raise ValueError(
            f"a prompt and what is written behind it have room for {config.positions} tokens; "
            f"given: prompts of up to {max(lengths)}, most={most} (1 or more)"
        )
    wrong = sorted({int(t) for prompt in prompts for t in prompt if not 0 <= t < config.vocab})
    if wrong:
        raise ValueError(f"token ids are from 0 to {config.vocab - 1}; given: {wrong[:8]}")
    return lengths


def _ended(
    tokens: np.ndarray, lengths: list[int], ends: np.ndarray, stops: np.ndarray, begin: int, end: int
) -> np.ndarray:
    """Where the rows end, now that positions begin..end are written: at the first stop behind their prompts."""
    ends = ends.copy()
    for i, length in enumerate(lengths):
        found = np.flatnonzero(np.isin(tokens[i, max(begin, length) : end], stops))
        if len(found):
            ends[i] = min(ends[i], max(begin, length) + found[0])
    return ends


def _part(row: np.ndarray, begin: int, end: int) -> list[int]:
    return row[begin : max(begin, end)].tolist()


@partial(jax.jit, static_argnums=0)
def _read(form: nnx.GraphDef, weights: nnx.State, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
    """Logits behind the tokens [batch, length], and the cache with them."""
    return nnx.merge(form, weights)(tokens, cache, jnp.int32(0))


@partial(jax.jit, static_argnums=0)
def _write(
    form: nnx.GraphDef, weights: nnx.State, logits: jax.Array, cache: Cache, wanted: jax.Array, key: jax.Array,
    start: jax.Array, drawn: tuple[jax.Array, ...] | None,
) -> tuple[jax.Array, Cache, jax.Array]:  # fmt: skip
    """Logits and cache behind so many more tokens, and those [batch, length]; wanted: what they are, or `FREE`.

    drawn: see `Sampling.drawn`.
    """
    model = nnx.merge(form, weights)

    def step(carry: tuple[jax.Array, Cache, jax.Array], wanted: jax.Array) -> tuple[tuple, jax.Array]:
        logits, cache, at = carry
        chosen = _chosen(drawn, logits.astype(jnp.float32), jax.random.fold_in(key, at))
        token = jnp.where(wanted == FREE, chosen, wanted)
        logits, cache = model(token[:, None], cache, at)
        return (logits, cache, at + 1), token

    (logits, cache, _), tokens = jax.lax.scan(step, (logits, cache, start), wanted.T)
    return logits, cache, tokens.T


def _chosen(drawn: tuple[jax.Array, ...] | None, logits: jax.Array, key: jax.Array) -> jax.Array:
    """int32 [batch]: a token for each row of FP32 logits [batch, vocab]; drawn: see `Sampling.drawn`."""
    if drawn is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    temperature, top_k, top_p = drawn
    # From the largest down, so that no temperature, however small, makes ties of infinities.
    logits = (logits - logits.max(axis=-1, keepdims=True)) / jnp.maximum(temperature, COLDEST)
    order = jnp.argsort(logits, axis=-1, descending=True)
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    is_allowed = (top_k == 0) | (jnp.arange(logits.shape[-1]) < top_k)
    ranked = jnp.where(is_allowed, ranked, -jnp.inf)
    shares = jax.nn.softmax(ranked, axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares  # the likeliest is always allowed
    ranked = jnp.where(before < top_p, ranked, -jnp.inf)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(logits)))
    places = jax.vmap(jax.random.categorical)(keys, ranked)
    return jnp.take_along_axis(order, places[:, None], axis=-1)[:, 0].astype(jnp.int32)
