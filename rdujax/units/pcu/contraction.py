"""What a contraction sums: which axes of its operands, and the sizes of the matrix product that it is."""

from dataclasses import dataclass
from math import prod

from rdujax.base.errors import ArgumentError, ShapeError, describe


@dataclass(frozen=True)
class Contraction:
    """Which axes of the operands are contracted and which are batch; the result is [batch, lhs free, rhs free].

    k_splits: consecutive segments of K that different PCUs sum; part of the meaning of the bits (N8).
    Axes count from 0. Raises ArgumentError for an axis named twice or from the end, for operands that name different
    numbers of axes, and for less than one segment.
    """

    lhs_contract: tuple[int, ...]
    rhs_contract: tuple[int, ...]
    lhs_batch: tuple[int, ...] = ()
    rhs_batch: tuple[int, ...] = ()
    k_splits: int = 1

    def __post_init__(self) -> None:
        for name, axes in self._sides():
            if len(set(axes)) != len(axes) or any(axis < 0 for axis in axes):
                raise ArgumentError(
                    describe(f"axes of the {name} operand", given=axes, allowed="each axis once, counted from 0")
                )
        for name, left, right in self._pairs():
            if len(left) != len(right):
                raise ArgumentError(
                    describe(f"the {name} axes do not pair up", given=f"{left} and {right}", allowed="as many of each")
                )
        if self.k_splits < 1:
            raise ArgumentError(describe("segments of K", given=f"k_splits={self.k_splits}", allowed="1 or more"))

    def _sides(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return ("left", self.lhs_contract + self.lhs_batch), ("right", self.rhs_contract + self.rhs_batch)

    def _pairs(self) -> tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]:
        return ("contracted", self.lhs_contract, self.rhs_contract), ("batch", self.lhs_batch, self.rhs_batch)

    def segments(self, k: int) -> int:
        """Segments of K that exist: `k_splits` of ceil(k / k_splits) values, empty ones left out."""
        return -(-k // -(-k // self.k_splits))

    def lhs_free(self, rank: int) -> tuple[int, ...]:
        """Axes of the left operand that the result keeps."""
        return tuple(a for a in range(rank) if a not in self.lhs_contract + self.lhs_batch)

    def rhs_free(self, rank: int) -> tuple[int, ...]:
        """Axes of the right operand that the result keeps."""
        return tuple(a for a in range(rank) if a not in self.rhs_contract + self.rhs_batch)

    def outermost(self, lhs: tuple[int, ...]) -> int | None:
        """Which of the contracted axes K runs along slowest: the first longer than one. None where none is.

        Tiles along it, one after another, are K in increasing order.
        """
        return next((i for i, axis in enumerate(self.lhs_contract) if lhs[axis] > 1), None)

    def shape_of(self, lhs: tuple[int, ...], rhs: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result; raises ShapeError where the operands do not meet."""
        self._check_ranks(lhs, rhs)
        for name, left, right in self._pairs():
            if [lhs[a] for a in left] != [rhs[a] for a in right]:
                given = f"{lhs} at {left} against {rhs} at {right}"
                raise ShapeError(describe(f"the {name} axes have different lengths", given=given))
        kept = [lhs[a] for a in self.lhs_batch] + [lhs[a] for a in self.lhs_free(len(lhs))]
        return tuple(kept + [rhs[a] for a in self.rhs_free(len(rhs))])

    def extent(self, lhs: tuple[int, ...], rhs: tuple[int, ...]) -> "Extent":
        """Sizes of the equivalent batched matrix product. Raises ShapeError for an axis that does not exist."""
        self._check_ranks(lhs, rhs)
        return Extent(
            prod(lhs[a] for a in self.lhs_batch),
            prod(lhs[a] for a in self.lhs_free(len(lhs))),
            prod(rhs[a] for a in self.rhs_free(len(rhs))),
            prod(lhs[a] for a in self.lhs_contract),
        )

    def _check_ranks(self, *shapes: tuple[int, ...]) -> None:
        for (name, axes), shape in zip(self._sides(), shapes, strict=True):
            if any(axis >= len(shape) for axis in axes):
                raise ShapeError(
                    describe(f"an axis that the {name} operand does not have", given=f"{shape} at {axes}",
                             allowed=f"axes below {len(shape)}")
                )  # fmt: skip


@dataclass(frozen=True)
class Extent:
    """Sizes of a batched matrix product: batch x [m, k] x [k, n]."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.m * self.n * self.k
