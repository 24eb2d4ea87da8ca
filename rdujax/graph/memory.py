"""Where a program keeps what it keeps in memory: symbols with a tier, an address and a lifetime.

tier  | 0 ... offset | symbol ... | ... peak |     two symbols share addresses only where they are never both alive
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rdujax.ops.op import TensorType


@dataclass(frozen=True)
class Move:
    """Bytes that one launch of a kernel, by its number in the program, reads from a place and writes to it."""

    kernel: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Symbol:
    """One place in memory.

    value: the one that it is named after; a part of a loop's carry may have a second place, named after the body's
    output. offset_bytes: of its first byte within its tier. alive: the moments in which it is in use, as bits of a
    number (see `Memory.kernels`). moved_bytes: what all launches load and write of the values that rest in one tier
    with it (see `Lifetimes.moved_bytes`). together_bytes: the most of these that are alive at once. is_read_only: an
    argument or a constant, which no kernel writes, so that a copy of it never has to be written back. reason: why it is
    in its tier. moves: what is read and written there, kernel by kernel.
    """

    value: int
    label: str
    kind: TensorType
    tier: str
    offset_bytes: int
    alive: int
    moved_bytes: int
    together_bytes: int
    is_read_only: bool
    reason: str
    moves: tuple[Move, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Its bytes."""
        return self.kind.size_bytes

    @property
    def turnover(self) -> float:
        """Bytes moved for each byte that its tier holds for it: the bandwidth that it uses; the least goes to DDR."""
        return self.moved_bytes / max(self.together_bytes, 1)  # not emulated: sizes

    def read_bytes(self, runs: Sequence[int]) -> int:
        """Bytes read from it by kernels that run so often."""
        return sum(move.read_bytes * runs[move.kernel] for move in self.moves)

    def written_bytes(self, runs: Sequence[int]) -> int:
        """Bytes written to it by kernels that run so often."""
        return sum(move.written_bytes * runs[move.kernel] for move in self.moves)

    def __str__(self) -> str:
        return f"{self.label} {self.kind}"


@dataclass(frozen=True)
class Memory:
    """All symbols of a program.

    kernels: for each moment of the program, the number of the kernel that runs in it, or None where it or a body begins
    or ends. bound_bytes: by tier, the largest sum of bytes that are alive at once: no addresses need fewer.
    """

    symbols: tuple[Symbol, ...] = ()
    kernels: tuple[int | None, ...] = ()
    bound_bytes: Mapping[str, int] = field(default_factory=dict)

    def of_tier(self, tier: str) -> tuple[Symbol, ...]:
        """The symbols of a tier."""
        return tuple(symbol for symbol in self.symbols if symbol.tier == tier)

    def peak_bytes(self, tier: str) -> int:
        """Bytes that the symbols of a tier take: up to the highest address in use."""
        return max((symbol.offset_bytes + symbol.size_bytes for symbol in self.of_tier(tier)), default=0)

    def sum_bytes(self, tier: str) -> int:
        """Bytes that they would take if each kept its own addresses."""
        return sum(symbol.size_bytes for symbol in self.of_tier(tier))

    def runs(self, symbol: Symbol) -> list[tuple[int, int]]:
        """The kernels in which a symbol is alive, as (first, last) of every unbroken run of numbers."""
        found: list[tuple[int, int]] = []
        for number in self._numbers(symbol):
            if found and number == found[-1][1] + 1:
                found[-1] = (found[-1][0], number)
            else:
                found.append((number, number))
        return found

    def in_use(self, symbol: Symbol) -> str:
        """The lifetime of a symbol in words: "always", "kernels 2 to 5, 9", "after kernel 9" if none uses it."""
        if symbol.alive == (1 << len(self.kernels)) - 1:
            return "always"
        runs = self.runs(symbol)
        if not runs:
            before = [number for number in self.kernels[: _first(symbol.alive)] if number is not None]
            return f"after kernel {before[-1]}" if before else "no kernel"
        words = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)
        return f"kernel{'' if len(runs) == 1 and runs[0][0] == runs[0][1] else 's'} {words}"

    def _numbers(self, symbol: Symbol) -> Iterator[int]:
        for moment, number in enumerate(self.kernels):
            if number is not None and symbol.alive >> moment & 1:
                yield number


def _first(alive: int) -> int:
    """The first moment of a number's bits."""
    return (alive & -alive).bit_length() - 1


NOTHING = Memory()
