"""Put: slices written to places given by an array of indices (`lax.scatter`), or combined with what is there.

Updates take their turn in increasing order, row-major over the indices: of two that meet, the later one finds what the
earlier one left. A sum is thus the tensor's value plus the first update plus the second ..., each one result rounded to
the format; of two that only write, the last stays.
"""

# not emulated: NumPy computes the float64 reference
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import BOOL, INT32, Format
from rdujax.numerics.functions import apply
from rdujax.ops.on_buffers import OnBuffers, Ports, vectors_of_slices
from rdujax.ops.op import TensorType
from rdujax.ops.take import Mode, Places
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import over_results
from rdujax.units import pcu
from rdujax.units.pcu.simd import Chain

REFERENCE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


@dataclass(frozen=True)
class Put(OnBuffers):
    """Operands: a tensor, INT32 indices [..., places of one slice], and the slices.

    places: as of `Take`, `offsets` being axes of the slices' array. function: "set", or how a slice is combined with
    what is there. A slice that would reach beyond the tensor is moved into it ("clip") or dropped.
    """

    places: Places
    function: str
    fmt: Format
    mode: Mode = "fill"

    @property
    def name(self) -> str:
        """See `Op`."""
        return "put" if self.function == "set" else f"put_{self.function}"

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`."""
        x, indices, updates = operands
        if indices.fmt is not INT32 or x.fmt is not updates.fmt or x.fmt is not self.fmt:
            raise FormatError(
                describe("formats of a scatter", given=", ".join(map(str, operands)),
                         allowed=f"{self.fmt}, int32, {self.fmt}", where=self.name)
            )  # fmt: skip
        if self.function != "set" and self.fmt is BOOL:
            raise FormatError(describe("a combination of bool", given=self.name, allowed="set", where=self.name))
        sizes = self._sizes(x.shape, updates.shape)
        if any(n > whole for n, whole in zip(sizes, x.shape, strict=True)):
            raise ShapeError(describe("slices that do not fit", given=str(updates), allowed=f"within {x}"))
        return x

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """See `Op`: update after update, by NumPy."""
        x, indices, updates = operands
        p, sizes, result = self.places, self._sizes(x.shape, updates.shape), x.copy()
        rows = [a for a in range(updates.ndim) if a not in p.offsets]
        slices = updates.transpose(*rows, *p.offsets)
        for row in np.ndindex(*slices.shape[: len(rows)]):
            first = dict(zip(p.named, indices[row].tolist(), strict=True))
            first |= {axis: row[i] for axis, i in zip(p.batch, p.index_batch, strict=True)}
            inside = all(0 <= int(place) <= x.shape[a] - sizes[a] for a, place in first.items())
            if not inside and self.mode != "clip":
                continue
            clipped = {a: min(max(int(place), 0), x.shape[a] - sizes[a]) for a, place in first.items()}
            at = tuple(slice(clipped.get(a, 0), clipped.get(a, 0) + n) for a, n in enumerate(sizes))
            piece = slices[row].reshape(sizes)
            result[at] = piece if self.function == "set" else REFERENCE[self.function](result[at], piece)
        if not self.fmt.is_float and self.fmt is not BOOL:
            least = -(2**31) if self.fmt is INT32 else 0
            result = (result - least) % 2**32 + least
        return result

    def flops(self, *operands: TensorType) -> int:
        """See `Op`: one for each element that is combined."""
        return operands[2].elements if self.function != "set" and self.fmt.is_float else 0

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: the axes that every slice has whole, and those of a batch."""
        x, indices, updates = shapes
        p, sizes = self.places, self._sizes(x, updates)
        free = tuple(a in p.batch or (a not in p.named and sizes[a] == n) for a, n in enumerate(x))
        whole = tuple(a if cut else None for a, cut in enumerate(free))
        rows = [a for a in range(len(updates)) if a not in p.offsets]
        place = dict(zip(p.offsets, (whole[a] for a in self._kept(len(x))), strict=True))
        batch = dict(zip(p.index_batch, p.batch, strict=True))
        place |= {rows[i]: a for i, a in batch.items()}
        return whole, tuple(batch.get(i) for i in range(len(indices))), tuple(place.get(a) for a in range(len(updates)))

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`: one update after the other."""
        x, indices, updates = operands
        p, sizes, count = self.places, self._sizes(x.shape, updates.shape), indices.shape[:-1]
        rows = [a for a in range(updates.ndim) if a not in p.offsets]
        pieces = updates.transpose(*rows, *p.offsets).reshape(-1, *sizes)
        along = dict(zip(p.named, jnp.moveaxis(indices, -1, 0), strict=True))
        along |= {a: jax.lax.broadcasted_iota(jnp.int32, count, i) for a, i in zip(p.batch, p.index_batch, strict=True)}
        asked = jnp.stack([along.get(a, jnp.zeros(count, jnp.int32)) for a in range(x.ndim)], -1).reshape(-1, x.ndim)
        last = np.subtract(x.shape, sizes).astype(np.int32)[None]
        starts = jnp.clip(asked, 0, last)  # not emulated: places
        inside = jnp.all(starts == asked, axis=-1)  # not emulated: which places exist

        def turn(kept: jax.Array, of: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            start, piece, valid = of
            there = jax.lax.dynamic_slice(kept, list(start), sizes)
            new = piece if self.function == "set" else apply(self.function, self.fmt, there, piece)
            if self.mode != "clip":
                new = jnp.where(valid, new, there)
            return jax.lax.dynamic_update_slice(kept, new, list(start)), None

        return jax.lax.scan(turn, x, (starts, pieces, inside))[0]

    def run(
        self,
        operands: Sequence[Stream],
        layout: Layout,
        output: Format,
        held: Sequence[Format],
        how: Executor = "whole",
        tally: bool = True,
    ) -> tuple[Stream, Counts]:
        """See `Work`."""
        walks = self.walks(*(o.shape for o in operands))
        each = {} if self.function == "set" else {"pcu.simd_operations": 1}
        return over_results(self, operands, walks, layout, output, held, how, tally, each, each_of=2)

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`: a combination for every element of the slices, those that are dropped included."""
        return Counts() if self.function == "set" else Counts({"pcu.simd_operations": operands[2].elements})

    def share(self, ports: int) -> Ports | Chain:
        """See `OnBuffers`: PCUs where slices are combined."""
        return Ports(ports) if self.function == "set" else Chain(1, ports)

    def cycles(self, machine: Machine, share: Ports | Chain, *operands: TensorType) -> Any:
        """See `Work`: the tensor's vectors, those of the slices, and the stages where they are combined.

        Updates are dealt out by their places, so that those of one place keep their order.
        """
        return super().cycles(machine, share, *operands) + (machine.pcu.simd_stages.value - 1 if share.pcus else 0)

    def vectors(self, config: pcu.Config, *operands: TensorType) -> Any:
        """See `OnBuffers`."""
        x, indices, updates = operands
        sizes, rows = self._sizes(x.shape, updates.shape), prod(indices.shape[:-1])
        slices = vectors_of_slices(config, sizes, x.shape, rows, x.fmt)
        return ceil_div(x.size_bytes, pcu.vector_bytes(config)) + slices

    def update_at(self, count: int) -> tuple[int, tuple[int, ...]] | None:
        """See `OnBuffers`: where slices are combined with what is there, that has to be read."""
        return (2, (1,)) if self.function == "set" else None

    def updated_bytes(self, *operands: TensorType) -> int:
        """See `OnBuffers`."""
        return prod(self._sizes(operands[0].shape, operands[2].shape)) * self.fmt.width_bytes

    def places_of(self, count: int) -> tuple[int, ...]:
        """See `OnBuffers`."""
        return (1,)

    def _kept(self, rank: int) -> tuple[int, ...]:
        """Axes of the tensor that the slices' array has."""
        return tuple(a for a in range(rank) if a not in (*self.places.collapsed, *self.places.batch))

    def _sizes(self, x: tuple[int, ...], updates: tuple[int, ...]) -> tuple[int, ...]:
        """Extent of one slice along every axis of the tensor."""
        lengths = dict(zip(self._kept(len(x)), (updates[a] for a in self.places.offsets), strict=True))
        return tuple(lengths.get(a, 1) for a in range(len(x)))

    def __str__(self) -> str:
        return f"{self.name}[{','.join(map(str, self.places.named))}] {self.mode}"
