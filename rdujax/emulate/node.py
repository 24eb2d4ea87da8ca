"""One operation by itself, on whole tensors: what `validate` uses to tell where a difference was made."""

from collections.abc import Sequence

import jax

from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.ops.op import TensorType, Work
from rdujax.streams import layout as layouts
from rdujax.streams.stream import tile, untile


def evaluate(op: Work, operands: Sequence[jax.Array], fmts: Sequence[Format], *, wide: bool = False) -> jax.Array:
    """The carriers of an operation's result from the carriers of its operands.

    wide: deliver FP32 where the operation would round to BF16, as a stage buffer in FP32 receives it.
    """
    streams = [tile(x, fmt=fmt) for x, fmt in zip(operands, fmts, strict=True)]
    result = op.infer(*(TensorType(x.shape, fmt) for x, fmt in zip(operands, fmts, strict=True)))
    output = FP32 if wide and result.fmt is BF16 else result.fmt
    return untile(op.run(streams, layouts.whole(result.shape), output, fmts, tally=False)[0])
