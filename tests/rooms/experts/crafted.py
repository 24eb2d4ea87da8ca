"""Checkpoints to be broken: a small whole one, and files written byte by byte, without the library that checks them."""

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experts import checkpoints
from experts.llama import Config, Llama, abstract_model

TINY = Config(d_model=16, layers=2, heads=4, kv_heads=2, d_ff=10, vocab=17, positions=16, head_dim=6)


@cache
def tiny_model(**changes: Any) -> Llama:
    """A small random model; `changes` of its sizes."""
    return drawn_model(Config(**{**vars(TINY), **changes}))


def drawn_model(config: Config) -> Llama:
    """A model of random weights and true angles, drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(5)
    definition, state = nnx.split(abstract_model(config))
    filled = []
    for path, variable in nnx.to_flat_state(state):
        shape, dtype = variable.get_value().shape, variable.get_value().dtype
        values = rng.normal(size=shape)
        if path in (("cos",), ("sin",)):
            rates = config.theta ** (-np.arange(0, config.d_head, 2) / config.d_head)
            angles = np.arange(config.positions)[:, None] * rates[None, :]
            values = np.cos(angles) if path == ("cos",) else np.sin(angles)
        filled.append((path, variable.replace(jnp.asarray(values.astype(dtype)))))
    return nnx.merge(definition, nnx.from_flat_state(filled))


def saved(folder: Path, *, shard_bytes: int = 2**30, **changes: Any) -> Path:
    """A whole checkpoint of it."""
    checkpoints.save(tiny_model(**changes), folder, shard_bytes=shard_bytes)
    return folder


def edited(path: Path, **changes: Any) -> None:
    """The JSON object of a file with other values; a key whose value is `...` is removed."""
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: each for key, each in value.items() if each is not ...}))


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_raw(path: Path, header: object, data: bytes, *, length: int | None = None) -> None:
    """A file of any header and data, whether they fit each other or not."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A well-formed file of these tensors, whatever they are."""
    codes = {"bfloat16": "BF16", "float32": "F32", "float16": "F16", "float64": "F64", "int8": "I8"}
    header, data = {}, b""
    for name, value in tensors.items():
        code, begin = codes[value.dtype.name], len(data)
        data += value.tobytes()
        header[name] = {"dtype": code, "shape": list(value.shape), "data_offsets": [begin, len(data)]}
    write_raw(path, header, data)


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint, copied."""
    weights = checkpoints.open_weights(folder)
    return {name: weights.tensor(name).copy() for name in sorted(weights.names)}


def leaves(model: Llama) -> dict[tuple, jax.Array]:
    """Weights and tables of a model by path."""
    return {path: each.get_value() for path, each in nnx.to_flat_state(nnx.state(model))}


def same_bits(one: jax.Array, other: jax.Array) -> bool:
    """Equal in dtype, shape and every bit."""
    a, b = np.asarray(one), np.asarray(other)
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def assert_same_model(one: Llama, other: Llama) -> None:
    """The same configuration, and the same bits everywhere."""
    assert one.config == other.config
    ours, theirs = leaves(one), leaves(other)
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if not same_bits(ours[path], theirs[path])] == []
