"""Tensors of a directory of safetensors files, memory-mapped: bytes are read when somebody looks at them."""

import math
import mmap
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import ml_dtypes
import numpy as np

# The format's own library checks headers: lengths, offsets that overlap or leave holes, shapes that overflow. A second
# parser would have its own opinion of hostile files, and other programs would see other tensors than ours.
from safetensors import SafetensorError, safe_open

from experts.checkpoints.errors import listed, refused
from experts.checkpoints.files import inside, read_object
from experts.checkpoints.layout import ignored

SINGLE, INDEX, MOST_INDEX_BYTES = "model.safetensors", "model.safetensors.index.json", 2**26
DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
# Formats that run code of their author when they are opened, or that nobody else reads.
OTHERS = ("pytorch_model*.bin*", "consolidated*.pth", "*.pt", "*.pkl", "tf_model.h5", "flax_model.msgpack", "*.gguf")


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: file, first byte, shape, dtype."""

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Weights:
    """Tensors by name. Views are read-only, and valid as long as the files are not changed."""

    def __init__(self, places: dict[str, _Place]):
        self._places = places
        self._maps: dict[Path, mmap.mmap] = {}

    @property
    def names(self) -> frozenset[str]:
        """Names of all tensors."""
        return frozenset(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from its file's header."""
        return self._place(name).shape

    def dtype(self, name: str) -> np.dtype:
        """dtype of a tensor, from its file's header: bfloat16, float16 or float32."""
        return self._place(name).dtype

    def tensor(self, name: str) -> np.ndarray:
        """A view of a tensor. Raises CheckpointError for a name that is not there."""
        place = self._place(name)
        if 0 in place.shape:  # needs no bytes, and there may be none behind its address
            return np.empty(place.shape, place.dtype)
        return np.ndarray(place.shape, place.dtype, self._mapped(place.file), place.start)

    def part(self, name: str, axis: int, index: int, of: int) -> np.ndarray:
        """A view of part `index` of `of` equal ones along an axis. Raises CheckpointError for an uneven division."""
        shape = self.shape(name)
        if not 0 <= axis < len(shape) or of < 1 or not 0 <= index < of:
            raise refused("no such part", given=f"axis {axis} of {shape}, part {index} of {of}", where=name)
        if shape[axis] % of:
            raise refused("a tensor does not divide evenly", given=f"{shape[axis]} by {of}, axis {axis}", where=name)
        width = shape[axis] // of
        return self.tensor(name)[(slice(None),) * axis + (slice(index * width, (index + 1) * width),)]

    def release(self, name: str) -> None:
        """The memory of what was read of a tensor is given back. Views of it stay valid: they read again."""
        place, page = self._place(name), mmap.ALLOCATIONGRANULARITY
        if place.file in self._maps and hasattr(mmap, "MADV_DONTNEED"):  # where not, the system takes it when it must
            start = place.start // page * page
            size = place.start - start + _bytes(place.shape, place.dtype)
            self._maps[place.file].madvise(mmap.MADV_DONTNEED, start, size)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise refused("no such tensor", given=repr(name), allowed=listed(self._places))
        return self._places[name]

    def _mapped(self, path: Path) -> mmap.mmap:
        if path not in self._maps:
            with path.open("rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[path]


def open_weights(directory: str | PathLike[str]) -> Weights:
    """The tensors of model.safetensors, or of the files that model.safetensors.index.json names.

    Reads headers only. Raises CheckpointError for files that are missing, broken, of another format, outside of the
    directory, or not as the index says.
    """
    folder = Path(directory)
    single, index = (os.path.lexists(folder / name) for name in (SINGLE, INDEX))
    if single and index:
        raise refused("two sets of weights", given=f"{SINGLE} and {INDEX}", where=folder, do="remove one of them")
    if single:
        return Weights(_places(inside(folder, SINGLE, folder)))
    if index:
        return Weights(_indexed(folder))
    if others := listed({path.name for pattern in OTHERS for path in folder.glob(pattern)}):
        do = "convert them to safetensors with a program that you trust with them"
        raise refused("weights of another format", given=others, allowed=f"{SINGLE} or {INDEX}", where=folder, do=do)
    raise refused("no weights", allowed=f"{SINGLE} or {INDEX}", where=folder, do="copy the complete checkpoint")


def _indexed(folder: Path) -> dict[str, _Place]:
    """Tensors of all shards, each in the shard that the index names."""
    path = inside(folder, INDEX, folder)
    named = read_object(path, MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise refused("the index has no map of tensors to files", allowed="weight_map: {tensor: file}", where=path)
    expected: dict[str, set[str]] = {}
    for tensor, name in named.items():
        expected.setdefault(name, set()).add(tensor)
    files = {name: inside(folder, name, path) for name in sorted(expected)}
    places: dict[str, _Place] = {}
    for name, file in files.items():
        found = _places(file)
        if missing := {each for each in expected[name] - found.keys() if not ignored(each)}:
            raise refused(f"{name} lacks tensors of the index", given=listed(missing), where=path)
        if extra := {each for each in found.keys() - expected[name] if not ignored(each)}:
            raise refused(f"{name} has tensors that the index places elsewhere", given=listed(extra), where=path)
        places |= found
    return places


def _places(path: Path) -> dict[str, _Place]:
    """Where the tensors of a file lie. They follow each other without holes, as the library has checked."""
    try:
        with path.open("rb") as file:
            at = 8 + int.from_bytes(file.read(8), "little")
        with safe_open(path, framework="numpy") as opened:
            slices = [(name, opened.get_slice(name)) for name in opened.offset_keys()]
            headers = [(name, each.get_dtype(), tuple(each.get_shape())) for name, each in slices]
    except (SafetensorError, OSError, ValueError) as error:
        raise refused(f"not a whole safetensors file: {error}", where=path, do="copy the file again") from error
    places: dict[str, _Place] = {}
    for name, code, shape in headers:
        if code not in DTYPES:
            raise refused("a tensor of another dtype", given=f"{name}: {code}", allowed=listed(DTYPES), where=path)
        places[name] = _Place(path, at, shape, DTYPES[code])
        at += _bytes(shape, DTYPES[code])
    return places


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize
