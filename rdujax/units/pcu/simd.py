"""PCU as a SIMD pipeline: element-wise expressions over tile streams.

What it is     The body of a PCU configured as lanes x stages with pipeline registers between the stages, and the tail
               behind it with special functions and format conversion (MICRO 2024, section IV-A).

                   vector > [stage > stage > ... ] > tail        one vector per cycle

The law        Every lane evaluates one expression (see expression.py), each instruction rounded to its format (N4, N5,
               N10). A longer expression takes more PCUs in chain: a chain link ends after `simd_stages` instructions
               of the body or after one of the tail.
               cycles = ceil(vectors / copies of the chain) + stages x links - 1
Modelled       lanes by width (the widest format of the expression decides), chains, copies side by side.
Not modelled   shorter last vectors of a ragged tile (a ragged turn is paid in full).
Sources        MICRO 2024, IV-A; lanes and stages are assumptions of the machine.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.streams.stream import Stream, poisoned
from rdujax.units import pcu, pmu  # noqa: F401  (pmu declares what a stage reads)
from rdujax.units.pcu.expression import TAIL, Expression, evaluate


@dataclass(frozen=True)
class Chain:
    """How many PCUs run an expression: `links` in a row, `copies` of that row side by side."""

    links: int
    copies: int

    @property
    def pcus(self) -> int:
        """PCUs in all."""
        return self.links * self.copies

    def __str__(self) -> str:
        return f"chain {self.links} x {self.copies}"


def simd(
    expression: Expression,
    *operands: Stream,
    wide: bool = False,
    how: Executor = "whole",
    tally: bool = True,
) -> tuple[Stream, Counts]:
    """Evaluates an expression on streams of one layout; returns a stream of that layout and the counts per tile.

    What a ragged tile holds beyond the tensor is poison again, whatever the expression makes of it.
    wide: deliver FP32 values where the last instruction would round to BF16 (see `expression.evaluate`).
    Raises ShapeError for streams that are cut differently, FormatError for a wrong format.
    Derivatives: those of the instructions.
    """
    _check(expression, operands)
    layout = operands[0].layout
    output = FP32 if wide and expression.output is BF16 else expression.output
    wide_operands = any(s.fmt is not fmt for s, fmt in zip(operands, expression.inputs, strict=True))
    read_bytes = sum(s.fmt.width_bytes for s in operands)
    if tally:
        must_fit_int32(prod(layout.tile) * max(len(expression.work), read_bytes), "operations or bytes of a tile")
    setup = _Setup(expression, layout, output, wide_operands, wide, read_bytes, how, tally)
    values, counts = _run(setup, layout.extents, *(streams.carriers(s).data for s in operands))
    return Stream(values, layout, output), counts


@dataclass(frozen=True)
class _Setup:
    """All that does not change while the tiles of a stream pass."""

    expression: Expression
    layout: Layout
    output: Format
    wide_operands: bool
    wide: bool
    read_bytes: int
    how: Executor
    tally: bool


@partial(jax.jit, static_argnums=0)
def _run(setup: _Setup, extents: jax.Array, *data: jax.Array) -> tuple[jax.Array, Counts]:
    def tile_step(extent: jax.Array, *tiles: jax.Array) -> tuple[jax.Array, Counts]:
        value = evaluate(setup.expression, tiles, wide_operands=setup.wide_operands, wide=setup.wide)
        value = poisoned(value, extent, setup.layout, setup.output)
        if not setup.tally:
            return value, Counts()
        elements = jnp.prod(extent, dtype=jnp.int32)
        operations, read_bytes = len(setup.expression.work), setup.read_bytes
        return value, Counts({"pcu.simd_operations": elements * operations, "pmu.read_bytes": elements * read_bytes})

    return over_tiles(tile_step, setup.how, extents, *data)


def _check(expression: Expression, operands: tuple[Stream, ...]) -> None:
    if len(operands) != len(expression.inputs):
        raise ShapeError(describe("wrong number of operands", given=len(operands), allowed=len(expression.inputs)))
    if not operands:
        raise ShapeError("a SIMD stage needs at least one operand stream")
    for i, (stream, fmt) in enumerate(zip(operands, expression.inputs, strict=True)):
        if stream.layout != operands[0].layout:
            raise ShapeError(
                describe(
                    "operands are cut differently",
                    given=f"operand {i}: {stream.layout}",
                    allowed=str(operands[0].layout),
                )
            )
        held_wide = fmt is BF16 and stream.fmt is FP32
        if stream.fmt is not fmt and not held_wide:
            raise FormatError(
                describe("wrong format of an operand", given=f"operand {i}: {stream.fmt}", allowed=str(fmt))
            )


def widest(expression: Expression) -> Format:
    """The format whose lanes the expression runs on: BF16 only if all its floating values are BF16."""
    formats = [*expression.inputs, *(step.fmt for step in expression.work), expression.output]
    return next((f for f in formats if f.width_bytes == 4), BF16)


def links(expression: Expression, stages: int) -> int:
    """PCUs in chain: a link holds at most `stages` instructions of the body and ends with its tail."""
    count, used = 1, 0
    for step in expression.work:
        if used == stages or used < 0:
            count, used = count + 1, 0
        used = -1 if step.function in TAIL else used + 1
    return count


def cycles(config: pcu.Config, expression: Expression, elements: int, chain: Chain) -> Any:
    """Cycles that one turn of `elements` keeps the PCUs of `chain` busy."""
    vectors = ceil_div(elements, pcu.lane_count(config, widest(expression)))
    return ceil_div(vectors, chain.copies) + config.simd_stages.value * chain.links - 1


def feed(config: pcu.Config, expression: Expression, chain: Chain, fmt: Format) -> int:
    """Bytes per cycle that the buffer of one operand in `fmt` must deliver (or that the result's must take)."""
    return pcu.lane_count(config, widest(expression)) * chain.copies * fmt.width_bytes


@lru_cache(maxsize=4096)
def chains(lane_count: int, stages: int, n_links: int, elements: int, most: int) -> tuple[tuple[int, Chain], ...]:
    """The useful numbers of copies: (cycles, chain), fewer PCUs later. Empty where no chain fits into `most`."""
    vectors = -(-elements // lane_count)
    found: list[tuple[int, Chain]] = []
    for copies in range(min(most // n_links, vectors), 0, -1):
        time = -(-vectors // copies) + stages * n_links - 1
        if found and found[-1][0] == time:
            found.pop()
        found.append((time, Chain(n_links, copies)))
    return tuple(found)
