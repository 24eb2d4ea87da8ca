"""The router against the same prompts one by one, and its confidence against a search over temperatures."""

import numpy as np
import pytest
from flax import nnx
from scipy.optimize import minimize_scalar

from experts.llama import Config
from experts.router import Router, calibration_error, fitted_temperature, route

CONFIG = Config(d_model=32, layers=1, heads=2, kv_heads=1, d_ff=48, vocab=61, positions=64, tied=True, dtype="float32")
LABELS = ("math", "code", "other")


@pytest.fixture(scope="module")
def router() -> Router:
    return Router(CONFIG, LABELS, nnx.Rngs(0))


def test_padding_and_neighbours_change_nothing(router, rng):
    prompts = [rng.integers(0, 61, n).tolist() for n in (1, 5, 33, 64)]
    for prompt, found in zip(prompts, route(router, prompts), strict=True):
        tokens = np.array([prompt])
        logits = np.asarray(router(tokens, np.array([len(prompt) - 1])))[0]
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert dict(found.shares) == pytest.approx(dict(zip(LABELS, shares, strict=True)), abs=1e-5)
        assert (found.label, found.confidence) == found.shares[0] and sorted(dict(found.shares)) == sorted(LABELS)
        assert [share for _, share in found.shares] == sorted(dict(found.shares).values(), reverse=True)


def test_what_cannot_be_routed_is_refused(router):
    for prompts in ([], [[]], [[1] * 65]):
        with pytest.raises(ValueError, match="1 to 64 tokens"):
            route(router, prompts)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_the_best_likelihood(true, rng):
    logits = rng.standard_normal((3000, 5)) * 3
    shares = np.exp(logits / true)
    shares /= shares.sum(-1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in shares])

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        right = (1 - 1 / 3002) * scaled[np.arange(3000), labels]
        wrong = (scaled.sum(-1) - scaled[np.arange(3000), labels]) / 3002 / 4
        return float((np.log(np.exp(scaled).sum(-1)) - right - wrong).mean())

    best = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    found = fitted_temperature(logits, labels)
    assert found == pytest.approx(best, rel=1e-3) and found == pytest.approx(true, rel=0.2)


def test_who_was_always_right_is_not_quite_sure(rng):
    logits, labels = rng.standard_normal((100, 5)), rng.integers(0, 5, 100)
    logits[np.arange(100), labels] += 20
    shares = np.exp(logits / fitted_temperature(logits, labels))
    shares /= shares.sum(-1, keepdims=True)
    assert shares[np.arange(100), labels].mean() == pytest.approx(1 - 1 / 102, rel=3e-3)


def test_calibration_error_is_the_gap_between_confidence_and_success():
    sure, right = np.array([0.9] * 10 + [0.3] * 10), np.array([1] * 5 + [0] * 5 + [1] * 3 + [0] * 7)
    assert calibration_error(sure, right) == pytest.approx((0.4 * 10 + 0.0 * 10) / 20)
    assert calibration_error(np.array([1.0, 1.0]), np.array([1, 1])) == 0
