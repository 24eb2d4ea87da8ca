"""From a directory to a model, tensor by tensor."""

from dataclasses import replace
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experts.checkpoints.config import NAME, Stored, read_stored, with_dtype
from experts.checkpoints.errors import listed, refused
from experts.checkpoints.layout import EMBEDDING, HEAD, Entry, entries, ignored, rank_config
from experts.checkpoints.weights import Weights, open_weights
from experts.llama import Config, Llama, abstract_model

Shard = tuple[int, int]
TILE = 128


def load(
    directory: str | PathLike[str], *, dtype: Literal["bfloat16", "float32"] | None = None, shard: Shard = (0, 1)
) -> Llama:
    """The model of a checkpoint. Raises CheckpointError where files are broken, or config and tensors disagree.

    dtype: of the model; None takes the files' own, BF16 for FP16. Tensors in another dtype than config.json names are
    refused unless one is asked for; they are then rounded to the nearest, ties to even.
    shard: (index, of), one rank of tensor parallelism: its share of the heads and of the hidden units, as a model of
    those sizes. Attention and MLP of a rank give summands, to be added over the ranks. All else is whole on each.

    Takes memory for the weights and one tensor more; everything is checked before the first is read.
    """
    folder = Path(directory)
    stored = read_stored(folder)
    config = with_dtype(stored, dtype)
    rank = rank_config(config, *shard)
    weights = open_weights(folder)
    table = entries(config)
    _check_tensors(weights, table, config, folder)
    if dtype is None:
        _check_dtypes(weights, table, stored, folder / NAME)
    return _filled(rank, {entry.path: _read(weights, entry, config, shard) for entry in table})


def _check_tensors(weights: Weights, table: list[Entry], config: Config, folder: Path) -> None:
    """The tensors are those of the configuration: names and shapes."""
    expected = {entry.name: entry.shape for entry in table}
    if missing := expected.keys() - weights.names:
        do = "set tie_word_embeddings if the head is the embedding" if missing == {HEAD} else "copy all files"
        raise refused(f"tensors are missing that {NAME} asks for", given=listed(missing), where=folder, do=do)
    extra = {name for name in weights.names - expected.keys() if not ignored(name)}
    if config.tied and HEAD in extra and _same_bytes(weights, HEAD, EMBEDDING):
        extra.remove(HEAD)
    if extra:
        do = f"this is another model than {NAME} says" if HEAD not in extra else "tie_word_embeddings is set: unset it"
        raise refused("tensors that the model does not have", given=listed(extra), where=folder, do=do)
    for name, shape in expected.items():
        if weights.shape(name) != shape:
            do = f"{NAME} belongs to other weights"
            raise refused(f"shape of {name}", given=weights.shape(name), allowed=shape, where=folder, do=do)


def _same_bytes(weights: Weights, one: str, other: str) -> bool:
    if (weights.shape(one), weights.dtype(one)) != (weights.shape(other), weights.dtype(other)):
        return False
    pairs = zip(weights.tensor(one), weights.tensor(other), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def _check_dtypes(weights: Weights, table: list[Entry], stored: Stored, path: Path) -> None:
    wrong = {entry.name for entry in table if weights.dtype(entry.name).name != stored.dtype}
    if wrong:
        given = f"{weights.dtype(min(wrong)).name}: {listed(wrong)}"
        do = "correct it, or ask for a dtype, which converts"
        raise refused(
            f"tensors of another dtype than {NAME} names", given=given, allowed=stored.dtype, where=path, do=do
        )


def _read(weights: Weights, entry: Entry, config: Config, shard: Shard) -> jax.Array:
    """One weight of one rank as the model has it."""
    name, axis = entry.name, entry.split
    view = weights.tensor(name) if axis is None else weights.part(name, axis, *shard)
    # A copy in any case: a model must not change when its file does. JAX may keep it without copying once more.
    value = jnp.asarray(_copied(view, jnp.dtype(config.dtype), entry.transposed))
    weights.release(name)
    return value


def _copied(view: np.ndarray, dtype: np.dtype, transposed: bool) -> np.ndarray:
    """A new array of that dtype. Matrices are turned tile by tile: the file is read in order, and caches suffice."""
    if not transposed:
        return np.array(view, dtype=dtype, order="C")
    made = np.empty(view.shape[::-1], dtype)
    for i, j in product(*(range(0, size, TILE) for size in view.shape)):
        made[j : j + TILE, i : i + TILE] = view[i : i + TILE, j : j + TILE].T
    return made


def _filled(config: Config, values: dict[Any, jax.Array]) -> Llama:
    """A model of these weights; random ones are never made."""
    definition, state = nnx.split(abstract_model(config))
    values = values | _angles(config)
    filled = [(path, variable.replace(values[path])) for path, variable in nnx.to_flat_state(state)]
    return nnx.merge(definition, nnx.from_flat_state(filled))


def _angles(config: Config) -> dict[Any, jax.Array]:
    """Tables of angles, as a model of the same rotations and else of the least sizes computes them."""
    small = replace(config, d_model=1, layers=1, heads=1, kv_heads=1, d_ff=1, vocab=1, head_dim=config.d_head)
    model = Llama(small, nnx.Rngs(0))
    return {("cos",): model.cos[...], ("sin",): model.sin[...]}
