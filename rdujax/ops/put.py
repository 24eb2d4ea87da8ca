"""Put: slices written to places given by an array of indices (`lax.scatter`), or combined with what is there.

Updates take their turn in increasing order, row-major over the indices: of two that meet, the later one finds what the
earlier one left. A sum is thus the tensor's value plus the first update plus the second ..., each one result rounded to
the format; of two that only write, the last stays.
"""

# not emulated: NumPy computes the float64 reference
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics.formats import BOOL, INT32, Format
from rdujax.numerics.functions import apply
from rdujax.ops.on_buffers import OnBuffers, Ports
from rdujax.ops.op import Stairs, TensorType
from rdujax.ops.take import Mode, Places
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import over_results
from rdujax.units import pcu
from rdujax.units.pcu.simd import Chain

REFERENCE = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


@dataclass(frozen=True)
class Put(OnBuffers):
    """Operands: a tensor, INT32 indices [..., places of one slice], and the slices.

    places: as of `Take`, `offsets` being axes of the slices' array. function: "set", or how a slice is combined with
    what is there. A slice that would reach beyond the tensor is moved into it ("clip") or dropped ("fill").
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
            if not inside and self.mode == "fill":
                continue
            clipped = {a: min(max(int(place), 0), x.shape[a] - sizes[a]) for a, place in first.items()}
            at = tuple(slice(clipped.get(a, 0), clipped.get(a, 0) + n) for a, n in enumerate(sizes))
            piece = slices[row].reshape(sizes)
            result[at] = piece if self.function == "set" else REFERENCE[self.function](result[at], piece)
        if self.fmt is INT32:
            result = (result + 2**31) % 2**32 - 2**31
        return result

    def flops(self, *operands: TensorType) -> int:
        """See `Op`: one for each element that is combined."""
        return operands[2].elements if self.function != "set" and self.fmt.is_float else 0

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: the axes that every slice has whole."""
        x, indices, updates = shapes
        sizes, named = self._sizes(x, updates), (*self.places.named, *self.places.batch)
        whole = tuple(a if a not in named and sizes[a] == n else None for a, n in enumerate(x))
        place = dict(zip(self.places.offsets, (whole[a] for a in self._kept(len(x))), strict=True))
        return whole, (None,) * len(indices), tuple(place.get(a) for a in range(len(updates)))

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`: one update after the other."""
        x, indices, updates = operands
        p, sizes = self.places, self._sizes(x.shape, updates.shape)
        rows = [a for a in range(updates.ndim) if a not in p.offsets]
        count = indices.shape[:-1]
        pieces = updates.transpose(*rows, *p.offsets).reshape(-1, *sizes)
        starts = jnp.zeros((*count, x.ndim), jnp.int32).at[..., jnp.asarray(p.named, jnp.int32)].set(indices)
        for axis, i in zip(p.batch, p.index_batch, strict=True):
            starts = starts.at[..., axis].set(jax.lax.broadcasted_iota(jnp.int32, count, i))
        starts = starts.reshape(-1, x.ndim)
        last = jnp.asarray(x.shape, jnp.int32) - jnp.asarray(sizes, jnp.int32)
        inside = jnp.all((starts >= 0) & (starts <= last[None, :]), axis=-1)  # not emulated: which places exist

        def turn(kept: jax.Array, of: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            start, piece, valid = of
            there = jax.lax.dynamic_slice(kept, list(start), sizes)
            new = piece if self.function == "set" else apply(self.function, self.fmt, there, piece)
            if self.mode == "fill":
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
        return over_results(self, operands, walks, layout, output, held, how, tally)

    def shares(self, config: pcu.Config, most: int, *operands: TensorType) -> Stairs:
        """See `Work`: one PCU where slices are combined."""
        if self.function == "set":
            return super().shares(config, most, *operands)
        share = Chain(1, 1)
        return ((int(self.cycles(config, share, *operands)), share),) if most else ()

    def fewest(self, config: pcu.Config, *operands: TensorType) -> int:
        """See `Work`."""
        return 0 if self.function == "set" else 1

    def cycles(self, config: pcu.Config, share: Ports | Chain, *operands: TensorType) -> Any:
        """See `Work`: the tensor's vectors, then those of the slices, one after the other."""
        x, _, updates = operands
        ports = share.ports if isinstance(share, Ports) else 1
        vectors = ceil_div(x.size_bytes, pcu.vector_bytes(config) * ports)
        combined = ceil_div(updates.size_bytes, pcu.vector_bytes(config))
        return vectors + combined + (0 if self.function == "set" else config.simd_stages.value - 1)

    def feeds(
        self, config: pcu.Config, share: Any, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`."""
        return super().feeds(config, share if isinstance(share, Ports) else Ports(1), operands, held, output)

    def _kept(self, rank: int) -> tuple[int, ...]:
        """Axes of the tensor that the slices' array has."""
        return tuple(a for a in range(rank) if a not in (*self.places.collapsed, *self.places.batch))

    def _sizes(self, x: tuple[int, ...], updates: tuple[int, ...]) -> tuple[int, ...]:
        """Extent of one slice along every axis of the tensor."""
        lengths = dict(zip(self._kept(len(x)), (updates[a] for a in self.places.offsets), strict=True))
        return tuple(lengths.get(a, 1) for a in range(len(x)))

    def __str__(self) -> str:
        return f"{self.name}[{','.join(map(str, self.places.named))}] {self.mode}"
