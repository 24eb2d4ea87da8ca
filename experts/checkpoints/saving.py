"""From a model to a directory, whole or not at all."""

import json
import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

# The writer belongs to the reader of `weights.py`: it orders and aligns tensors as every other reader expects.
from safetensors.numpy import save_file

from experts.checkpoints.config import NAME, written
from experts.checkpoints.errors import listed, refused
from experts.checkpoints.layout import Entry, entries
from experts.checkpoints.replacing import replaced, write
from experts.checkpoints.weights import INDEX, SINGLE
from experts.llama import Llama

# What other readers look for before they take a file for a model's: tensors are laid out as PyTorch's.
METADATA = {"format": "pt"}
OWN = (NAME, SINGLE, INDEX, "model-*-of-*.safetensors", "*.safetensors.index.json")


def save(model: Llama, directory: str | PathLike[str], *, shard_bytes: int = 5 * 2**30) -> None:
    """Writes config.json and the weights: model.safetensors, or shards of at most `shard_bytes` and their index.

    All is written beside the directory and takes its place in one step: whoever reads, or interrupts, finds the old
    checkpoint or the new one. Other files of the directory, a tokenizer's for instance, are kept. Takes memory for one
    shard. Raises CheckpointError for a model that has no values, or other weights than its configuration says; OSError
    as the system does.
    """
    if shard_bytes < 1:
        raise refused("shard_bytes is the size of a file", given=shard_bytes, allowed="1 or more")
    values = _values(model)
    shards = list(_shards(entries(model.config), jnp.dtype(model.config.dtype).itemsize, shard_bytes))
    names = [f"model-{at:05}-of-{len(shards):05}.safetensors" for at in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else [SINGLE]
    with replaced(Path(directory), OWN) as folder:
        for name, shard in zip(names, shards, strict=True):
            save_file({entry.name: _as_written(entry, values) for entry in shard}, folder / name, METADATA)
        if len(shards) > 1:
            write(folder / INDEX, _json(_index(names, shards, values)))
        write(folder / NAME, _json(written(model.config)))


def _values(model: Llama) -> dict[Any, Any]:
    """Weights by path. Refuses a model whose weights are not exactly those of its configuration."""
    values = {path: variable.get_value() for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    table = {entry.path: entry for entry in entries(model.config)}
    if strange := table.keys() ^ values.keys():
        paths = [".".join(map(str, path)) for path in strange]
        raise refused("the weights are not those of the configuration", given=listed(paths), do="merge adapters")
    for path, entry in table.items():
        value, shape = values[path], entry.shape[::-1] if entry.transposed else entry.shape
        if not isinstance(value, jnp.ndarray | np.ndarray):
            raise refused("the model has no values", given=f"{entry.name}: {value}", do="save one that has weights")
        if (value.shape, value.dtype) != (shape, jnp.dtype(model.config.dtype)):
            given, allowed = f"{value.dtype}{list(value.shape)}", f"{model.config.dtype}{list(shape)}"
            raise refused(f"{entry.name} is not as the model's configuration says", given=given, allowed=allowed)
    return values


def _shards(table: list[Entry], itemsize: int, most_bytes: int) -> Iterator[list[Entry]]:
    """The weights in order, as many together as fit; one that does not fit is alone."""
    shard, taken = [], 0
    for entry in table:
        size = math.prod(entry.shape) * itemsize
        if shard and taken + size > most_bytes:
            yield shard
            shard, taken = [], 0
        shard.append(entry)
        taken += size
    yield shard


def _as_written(entry: Entry, values: dict[Any, Any]) -> np.ndarray:
    value = np.asarray(values[entry.path])
    return np.ascontiguousarray(value.T if entry.transposed else value)


def _index(names: list[str], shards: list[list[Entry]], values: dict[Any, Any]) -> dict[str, Any]:
    total = sum(values[entry.path].nbytes for shard in shards for entry in shard)
    places = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
