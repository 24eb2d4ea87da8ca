"""Generation against the slow way: the whole text through the model again for every token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experts.generate import CHUNK, Sampling, _chosen, generate
from experts.llama import Config, Llama, empty_cache, random_model

CONFIG = Config(d_model=32, layers=2, heads=4, kv_heads=2, d_ff=48, vocab=61, positions=96, tied=True, dtype="float32")
PROMPTS = [[1, 5, 9], list(range(3, 40)), [7] * 20, [2] * 16]


@pytest.fixture(scope="module")
def model() -> Llama:
    return random_model(CONFIG, 1)


def slowly(model: Llama, prompt: list[int], most: int) -> list[int]:
    text = list(prompt)
    for _ in range(most):
        cache = empty_cache(model.config, 1, len(text))
        logits, _ = model(jnp.asarray([text]), cache, jnp.int32(0))
        text.append(int(jnp.argmax(logits[0])))
    return text[len(prompt) :]


def test_greedy_tokens_are_those_of_the_whole_text_read_again(model):
    found = generate(model, PROMPTS, most=CHUNK + 3)
    assert found == [slowly(model, prompt, CHUNK + 3) for prompt in PROMPTS]


def test_a_row_does_not_depend_on_its_neighbours(model):
    together = generate(model, PROMPTS, most=20)
    assert together == [generate(model, [prompt], most=20)[0] for prompt in PROMPTS]


def test_a_row_ends_before_its_first_stop(model):
    whole = generate(model, PROMPTS, most=20)
    for stop in {token for row in whole for token in row}:
        cut = [row[: row.index(stop)] if stop in row else row for row in whole]
        assert generate(model, PROMPTS, most=20, stop={stop}) == cut


def test_a_stop_inside_of_a_prompt_stops_nothing(model):
    free = generate(model, PROMPTS, most=20)
    assert generate(model, PROMPTS, most=20, stop={7} - {token for row in free for token in row}) == free


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.3), Sampling(0.8, top_k=5), Sampling(1.0, top_p=0.6)])
def test_what_is_streamed_is_what_is_returned(model, sampling):
    parts: list[list[int]] = [[] for _ in PROMPTS]

    def streamed(new: list[list[int]]) -> None:
        assert max(map(len, new)) <= 1
        for part, tokens in zip(parts, new, strict=True):
            part.extend(tokens)

    found = generate(model, PROMPTS, most=12, stop={3}, sampling=sampling, seed=5, streamed=streamed)
    assert parts == found == generate(model, PROMPTS, most=12, stop={3}, sampling=sampling, seed=5)


def test_tokens_come_as_often_as_their_probabilities_say(rng):
    """Of 20,000 rows, against NumPy's probabilities: within 4.5 standard deviations, and never what is not allowed."""
    logits, rows = rng.standard_normal(12).astype(np.float32) * 2, 20_000
    for sampling in (
        Sampling(1.0),
        Sampling(0.5),
        Sampling(2.0, top_k=4),
        Sampling(1.0, top_p=0.7),
        Sampling(1, 6, 0.8),
    ):
        shares = np.exp(logits / sampling.temperature - (logits / sampling.temperature).max())
        order = np.argsort(-shares)
        allowed = order[: sampling.top_k or None]
        ranked = shares[allowed] / shares[allowed].sum()
        allowed = allowed[: int(np.searchsorted(np.cumsum(ranked), sampling.top_p)) + 1]
        wanted = np.zeros(12)
        wanted[allowed] = shares[allowed] / shares[allowed].sum()
        found = _chosen(sampling.drawn(), jnp.tile(jnp.asarray(logits), (rows, 1)), jax.random.key(3))
        counts = np.bincount(np.asarray(found), minlength=12)
        assert (counts[wanted == 0] == 0).all()
        assert (abs(counts - rows * wanted) <= 4.5 * np.sqrt(rows * wanted * (1 - wanted)) + 1e-9).all()


def test_other_seeds_give_other_tokens(model):
    texts = [generate(model, PROMPTS, most=12, sampling=Sampling(1.0), seed=seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("prompts", "most", "said"),
    [
        ([], 3, "one or more"),
        ([[1], []], 3, "one or more"),
        ([[1, 61]], 3, "from 0 to 60"),
        ([[1, -2]], 3, "from 0 to 60"),
        ([[1]], 0, "room for 96"),
        ([[1] * 90], 7, "room for 96"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(model, prompts, most, said):
    with pytest.raises(ValueError, match=said):
        generate(model, prompts, most=most)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_k": 1.5},
                                   {"top_p": 0}, {"top_p": 1.1}])  # fmt: skip
def test_a_sampling_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_a_context_that_is_full_to_the_last_position_is_written(model):
    assert generate(model, [[1] * 90], most=6)[0] == slowly(model, [1] * 90, 6)


def test_the_coldest_temperature_is_greedy_and_no_tie():
    logits = jnp.asarray([[-5.0, 1.0, 2.0, 9.0, 3.0]])
    for temperature in (1e-300, 1e-40, 1e-38, 1e-7):
        drawn = Sampling(temperature).drawn()
        assert [int(_chosen(drawn, logits, jax.random.key(seed))[0]) for seed in range(3)] == [3, 3, 3]


def test_a_model_of_no_numbers_is_told_and_shows_nothing():
    broken, shown = random_model(CONFIG, 1), []
    kernel = broken.layers[1].mlp.down.kernel
    kernel.set_value(kernel[...].at[0, 0].set(jnp.nan))
    for streamed in (None, shown.append):
        with pytest.raises(FloatingPointError, match="broken"):
            generate(broken, PROMPTS[:1], most=4, streamed=streamed)
    assert shown == []
