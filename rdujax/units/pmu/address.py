"""PMU, address generation: loop counters, a pipeline of integer ALU stages, addresses and predicates.

What it is     The address side of a PMU: counters step through a loop nest, integer ALUs make an address and a
               predicate of them, with bit-field extract and shift-and-set beside ordinary arithmetic, and operands
               from the scalar network (MICRO 2024, IV-B). Software cuts the stages into fragments, one for each
               concurrent read or write stream; up to 4 addresses per cycle (Hot Chips 2024).

                   counters --+--> [ALU][ALU] ... | ... [ALU] --> addresses, predicates --> banks
                   scalars  --+    write fragment | read fragment

The law        The innermost counters may be lanes, which run at once: what a lane adds to the address of its vector is
               done beside the banks and takes no stage. What an operation is, and takes, stands in expression.py.
               stages of all streams <= stages of the PMU; streams <= addresses per cycle.
Modelled       affine and other addresses, predicates, the nest step by step or at once, fragments and their limits.
Not modelled   results sent to the scalar network.
Sources        MICRO 2024, IV-B; the number of stages is an assumption of the machine, and so is "lanes take no stage".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.numerics import integer
from rdujax.units import capacity, pmu
from rdujax.units.pmu.expression import Address, constant, evaluate, stages


@dataclass(frozen=True)
class Loop:
    """A counter: start, start + step, ... for `length` turns, then its control event.

    Raises ArgumentError for no turn, and for numbers that are not whole or beyond INT32.
    """

    length: int
    step: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        for word in (self.length, self.step, self.start):
            constant(word)
        if self.length < 1:
            raise ArgumentError(describe("a counter that never counts", given=self.length, allowed="1 turn or more"))


@dataclass(frozen=True)
class Generator:
    """One address stream: a loop nest, outermost counter first, the address, and a predicate (0 drops the address).

    lane_loops: how many of the innermost counters are lanes of one vector; all others count vectors.

    >>> from rdujax.units.pmu.expression import counter
    >>> rows = Generator((Loop(2, step=8), Loop(4)), counter(0) + counter(1))
    >>> static(rows)[0].tolist()
    [[0, 1, 2, 3], [8, 9, 10, 11]]
    """

    nest: tuple[Loop, ...]
    address: Address
    predicate: Address | None = None
    lane_loops: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.lane_loops <= len(self.nest):
            raise ShapeError(
                describe("more lane counters than counters", given=self.lane_loops, allowed=f"0 to {len(self.nest)}")
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(vectors, lanes of one vector)."""
        lengths, cut = [loop.length for loop in self.nest], len(self.nest) - self.lane_loops
        return prod(lengths[:cut]), prod(lengths[cut:])

    def __str__(self) -> str:
        nest = " ".join(f"c{i}<{loop.length}" for i, loop in enumerate(self.nest))
        return f"{nest}: {self.address}" + (f" if {self.predicate}" if self.predicate else "")


def at(
    generator: Generator, turns: Sequence[jax.Array], scalars: Sequence[jax.Array | int] = ()
) -> tuple[jax.Array, jax.Array]:
    """(int32 addresses, bool validity) at the given turns of the counters: int32 from 0, of one broadcast shape."""
    counters = [
        integer.add(integer.mul(turn, loop.step), loop.start) for turn, loop in zip(turns, generator.nest, strict=True)
    ]
    shape = jnp.broadcast_shapes(*(c.shape for c in counters), *(jnp.shape(s) for s in scalars))
    address = jnp.broadcast_to(evaluate(generator.address, counters, scalars), shape)
    if generator.predicate is None:
        return address, jnp.ones(shape, bool)
    return address, jnp.broadcast_to(evaluate(generator.predicate, counters, scalars) != 0, shape)


def vectors(generator: Generator, scalars: Sequence[jax.Array | int] = ()) -> tuple[jax.Array, jax.Array]:
    """The whole stream at once: int32 addresses and bool validity, both [vectors, lanes], in order of arrival."""
    rank = len(generator.nest)
    turns = [
        jnp.arange(loop.length, dtype=jnp.int32).reshape([-1 if i == axis else 1 for i in range(rank)])
        for axis, loop in enumerate(generator.nest)
    ]
    address, valid = at(generator, turns, scalars)
    return address.reshape(generator.shape), valid.reshape(generator.shape)


@lru_cache(maxsize=128)
def static(generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """`vectors` on the host, as NumPy arrays, also while JAX traces; for streams without scalars.

    Computed once for equal streams; the arrays are shared and cannot be written.
    """
    with jax.ensure_compile_time_eval():
        address, valid = jax.jit(lambda: vectors(generator))()
        return np.asarray(address), np.asarray(valid)


def advance(nest: tuple[Loop, ...], turns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of the counters: int32 [len(nest)] turns -> (the next turns, done: the outermost one has wrapped).

    The innermost counter steps; each that reaches its end starts again and steps the one outside of it.
    """
    carry, after = jnp.asarray(True), []
    for axis in reversed(range(len(nest))):
        stepped = integer.add(turns[axis], 1)
        ends = carry & (stepped == nest[axis].length)
        after.append(jnp.where(ends, 0, jnp.where(carry, stepped, turns[axis])))
        carry = ends
    return jnp.stack(after[::-1]), carry


def stages_of(generator: Generator) -> int:
    """ALU stages that a stream's fragment takes."""
    rank = len(generator.nest)
    return stages(generator.address, generator.predicate, lanes=range(rank - generator.lane_loops, rank))


def check(config: pmu.Config, streams: Mapping[str, Generator], where: str) -> None:
    """Refuses address streams that one PMU cannot run at once (law L6), with the list of what each needs.

    Called by whoever sets up a PMU, with all its streams at once: `scratchpad`, `nbuffer` and `parts` are handed
    addresses, turn by turn, and cannot know which streams share a pipeline.
    """
    capacity.check(
        "address stream", dict.fromkeys(streams, 1), int(config.addresses_per_cycle.value), where=where,
        do="serve fewer readers and writers from one PMU",
    )  # fmt: skip
    capacity.check(
        "address stage", {f"{name}: {g}": stages_of(g) for name, g in streams.items()},
        int(config.address_stages.value), where=where, do="simplify an address, or let counters step by its strides",
    )  # fmt: skip
