"""A router's files: its body as a checkpoint of its own, and beside it the scores of the labels, and the labels.

model.safetensors, config.json   the body, as any other
score.safetensors                [labels, d_model], named as `LlamaForSequenceClassification` names it
router.json                      labels in order, and the temperature
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from experts.checkpoints.errors import refused
from experts.checkpoints.loading import load
from experts.checkpoints.replacing import write
from experts.checkpoints.saving import save
from experts.llama import DTYPES
from experts.router import Router

SCORE, LABELLED = "score.safetensors", "router.json"


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
