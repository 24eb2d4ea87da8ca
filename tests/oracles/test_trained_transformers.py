"""The trained experts in transformers: they load through its Auto classes, and say the same.

Skipped without torch and transformers (dependency group `oracle`), which the project does not need.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experts.checkpoints import load
from experts.composition import TRAINED, Composition
from experts.data.splits import DOMAINS, examples
from experts.generate import generate
from experts.tokenizer import END, prompt_ids

TOLERANCE = 64 * 2.0**-24  # of the largest logit: FP32 sums in another order
QUESTIONS, TOKENS = 3, 20


@pytest.fixture(autouse=True)
def _as_a_user_runs_it():
    """FP32 means FP32 where products are narrower by default; the model adds axes as plain JAX lets it."""
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["base", *DOMAINS, "monolith"])
def test_a_trained_model_says_the_same_there(name: str):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(TRAINED / name, dtype=torch.float32).eval()
    words = transformers.AutoTokenizer.from_pretrained(TRAINED / name)
    ours, own_words = load(TRAINED / name, dtype="float32"), Composition().tokenizer
    for each in examples(name if name in DOMAINS else "math", "test", "held", 0, QUESTIONS):
        ids = prompt_ids(own_words, each.prompt)
        assert words(f"<s>{each.prompt}\n").input_ids == ids
        tokens = torch.tensor([ids])
        with torch.no_grad():
            expected = theirs(tokens).logits.numpy()
        shape = np.asarray([ids], np.int32)
        positions = np.arange(len(ids), dtype=np.int32)[None]
        found = np.asarray(ours.every(jnp.asarray(shape), jnp.asarray(positions), jnp.zeros_like(shape)))
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
        with torch.no_grad():
            written = theirs.generate(tokens, max_new_tokens=TOKENS, do_sample=False, eos_token_id=END, pad_token_id=3)
        behind = [token for token in written[0, len(ids) :].tolist() if token != END]
        assert generate(ours, [ids], most=TOKENS, stop={END}) == [behind]
        assert words.decode(behind, skip_special_tokens=True) == own_words.decode(behind)


@pytest.mark.filterwarnings("ignore")
def test_the_routers_body_and_scores_are_a_sequence_classifier_there():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    composition = Composition()
    router = composition.router
    config = transformers.AutoConfig.from_pretrained(TRAINED / "router", num_labels=len(router.labels), pad_token_id=3)
    theirs = transformers.LlamaForSequenceClassification(config).float().eval()
    body = transformers.AutoModelForCausalLM.from_pretrained(TRAINED / "router", dtype=torch.float32).model
    theirs.model.load_state_dict(body.state_dict())
    wide = load(TRAINED / "router", dtype="float32")
    score = torch.tensor(np.asarray(router.score.kernel[...], np.float32).T)
    theirs.score.weight.data.copy_(score)
    for domain in DOMAINS:
        [each] = examples(domain, "test", "held", 1, 1)
        ids = prompt_ids(composition.tokenizer, each.prompt)
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).logits[0].numpy()
        tokens, positions = jnp.asarray([ids], jnp.int32), jnp.arange(len(ids), dtype=jnp.int32)[None]
        hidden = np.asarray(wide.hidden(tokens, positions, jnp.zeros_like(tokens)))[0, -1]
        assert np.abs(hidden @ score.numpy().T - expected).max() <= TOLERANCE * np.abs(expected).max()
        [way] = composition.routes([each.prompt])
        assert way.label == router.labels[int(expected.argmax())]
