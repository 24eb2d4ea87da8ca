"""One operation by itself, on whole tensors: what `validate` uses to tell where a difference was made."""

from collections.abc import Sequence

import jax

from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.ops.contract import Contract
from rdujax.ops.map import Map
from rdujax.streams import layout as layouts
from rdujax.streams.stream import tile, untile
from rdujax.units.pcu.simd import simd
from rdujax.units.pcu.systolic import systolic


def evaluate(
    op: Contract | Map, operands: Sequence[jax.Array], fmts: Sequence[Format], *, wide: bool = False
) -> jax.Array:
    """The carriers of an operation's result from the carriers of its operands.

    wide: deliver FP32 where the operation would round to BF16, as a stage buffer in FP32 receives it.
    """
    streams = [tile(x, fmt=fmt) for x, fmt in zip(operands, fmts, strict=True)]
    if isinstance(op, Map):
        return untile(simd(op.expression, *streams, wide=wide, tally=False)[0])
    a, b = streams
    output = FP32 if wide and op.output is BF16 else op.output
    layout = layouts.whole(op.config.shape_of(a.shape, b.shape))
    return untile(systolic(op.config, a, b, layout, output, tally=False)[0])
