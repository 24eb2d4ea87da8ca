"""One operation by itself: a stage of a pipeline with what it reads, and an operation on whole tensors.

Both are compiled once for all that are equal: the same work, with its parameters, on operands of the same shapes,
formats and tiles. A function that calls them is traced and lowered with each only once; outside of any `jit`, the
layers of a model share what was compiled for the first of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax

from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.ops.on_buffers import OnBuffers
from rdujax.ops.op import TensorType, Work
from rdujax.streams import layout as layouts
from rdujax.streams.access import Access
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor
from rdujax.streams.stream import Stream, tile, untile
from rdujax.units import pmu


@dataclass(frozen=True)
class StageRun:
    """What a stage does, apart from values.

    reads: for each operand the pattern under which its buffer is read, how it is cut then, and the format that arrives.
    held: the formats that these buffers hold. layout, output: of the result. capture: whether it is also wanted whole.
    """

    op: Work
    reads: tuple[tuple[tuple[Access, ...], Layout, Format], ...]
    held: tuple[Format, ...]
    layout: Layout
    output: Format
    how: Executor
    tally: bool
    capture: bool


@partial(jax.jit, static_argnums=0)
def run_stage(setup: StageRun, *buffers: Stream) -> tuple[Stream, tuple[Counts, ...], jax.Array | None]:
    """The stream of a stage's result from those of its operands' buffers, what the units count, and the result whole.

    The last two only where they are asked for.
    """
    operands = [pmu.buffer(s, *read) for s, read in zip(buffers, setup.reads, strict=True)]
    stream, counts = setup.op.run(operands, setup.layout, setup.output, setup.held, setup.how, setup.tally)
    counted = (counts, pmu.written(setup.layout, setup.output, setup.how)) if setup.tally else ()
    return stream, counted, untile(stream) if setup.capture else None


@partial(jax.jit, static_argnums=(0, 1))
def addressed(op: OnBuffers, fmt: Format, *operands: jax.Array) -> jax.Array:
    """What lies at the places that are among the operands, or what is in memory once something was written there."""
    return op.tile(fmt, *operands)


@partial(jax.jit, static_argnums=(0, 2), static_argnames="wide")
def evaluate(op: Work, operands: Sequence[jax.Array], fmts: tuple[Format, ...], *, wide: bool = False) -> jax.Array:
    """The carriers of an operation's result from the carriers of its operands.

    wide: deliver FP32 where the operation would round to BF16, as a stage buffer in FP32 receives it.
    """
    streams = [tile(x, fmt=fmt) for x, fmt in zip(operands, fmts, strict=True)]
    result = op.infer(*(TensorType(x.shape, fmt) for x, fmt in zip(operands, fmts, strict=True)))
    output = FP32 if wide and result.fmt is BF16 else result.fmt
    return untile(op.run(streams, layouts.whole(result.shape), output, fmts, tally=False)[0])
