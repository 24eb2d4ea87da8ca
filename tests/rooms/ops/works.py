"""One kind of work on every road: whole, all tiles at once, tile after tile; its counts; its price."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.ledger.counts import Counts, total
from rdujax.machines import tiny
from rdujax.numerics.formats import INT32, Format
from rdujax.ops.op import TensorType, Work, operand_tiles
from rdujax.streams import layout as layouts
from rdujax.streams.lift import Executor
from rdujax.streams.stream import untile
from tests.oracles.harness import assert_same_bits
from tests.rooms.units.streams_of import stream_of


def check_work(
    op: Work, operands: Sequence[np.ndarray], fmts: Sequence[Format], want: np.ndarray, tile: tuple[int, ...]
) -> None:
    """The bits of `want` (FP32 patterns, int32 or bool) whole and cut by `tile`, and the counts predicted."""
    types = [TensorType(x.shape, fmt) for x, fmt in zip(operands, fmts, strict=True)]
    result = op.infer(*types)
    shapes = [t.shape for t in types]
    roads: list[tuple[tuple[int, ...], Executor]] = [(result.shape, "whole"), (tile, "vmap"), (tile, "scan")]
    ran = jax.jit(lambda given: [_run(op, given, fmts, cut, how) for cut, how in roads])(operands)
    for (cut, how), (got, counts) in zip(roads, ran, strict=True):
        assert_same_bits(got, want, note=f"{op} {how}")
        grid, read_bytes = layouts.tiled(result.shape, cut).grid, 0
        for t, axes in zip(types, op.walks(*shapes), strict=True):
            again = prod(n for axis, n in enumerate(grid) if axis not in axes)
            read_bytes += t.size_bytes * again
        assert total(counts) == op.work(*types) + Counts({"pmu.read_bytes": read_bytes}), (str(op), how)


def _run(
    op: Work, operands: Sequence[Any], fmts: Sequence[Format], cut: tuple[int, ...], how: Executor
) -> tuple[jax.Array, Counts]:
    """(carriers of the result, counts) of operands that are cut as tiles `cut` of the result need them."""
    result = op.infer(*(TensorType(x.shape, fmt) for x, fmt in zip(operands, fmts, strict=True)))
    layout = layouts.tiled(result.shape, cut)
    streams = [
        stream_of(x, layouts.tiled(x.shape, needed), fmt)
        for x, fmt, needed in zip(operands, fmts, operand_tiles(op, [x.shape for x in operands], cut), strict=True)
    ]
    stream, counts = op.run(streams, layout, result.fmt, fmts, how)
    assert (stream.layout, stream.fmt) == (layout, result.fmt)
    return untile(stream), counts


def check_reference(op: Work, operands: Sequence[np.ndarray], fmts: Sequence[Format], rtol: float = 0.0) -> None:
    """The float64 value beside the emulated one, exactly or to a relative tolerance, with the type inferred."""
    wide = [x if x.dtype == bool else x.astype(np.float64 if x.dtype == np.float32 else np.int64) for x in operands]
    result = op.infer(*(TensorType(x.shape, fmt) for x, fmt in zip(operands, fmts, strict=True)))
    reference = op.reference(*wide)
    got = np.asarray(jax.jit(lambda given: _run(op, given, fmts, result.shape, "whole")[0])(operands))
    assert reference.shape == got.shape == result.shape
    np.testing.assert_allclose(got.astype(reference.dtype), reference, rtol=rtol, atol=rtol)


def check_price(op: Work, *types: TensorType) -> None:
    """Shares from fast to slow with fewer PCUs, each with its own cycles; more PCUs than useful change nothing."""
    machine = tiny()
    stairs = op.shares(machine, 64, *types)
    times, pcus = [t for t, _ in stairs], [share.pcus for _, share in stairs]
    assert times == sorted(set(times)) and pcus == sorted(set(pcus), reverse=True) and pcus[-1] == op.fewest(machine)
    for cycles, share in stairs:
        assert cycles == op.cycles(machine, share, *types) > 0
        rates, written = op.feeds(machine, share, types, [t.fmt for t in types], op.infer(*types).fmt)
        assert all(rate > 0 for rate in rates) and len(rates) == len(types) and written > 0
    assert op.shares(machine, 0, *types) == ()
    assert jnp.isfinite(op.cycles(machine, stairs[0][1], *types))


def assert_walks(op: Any, operands: Sequence[np.ndarray], want: np.ndarray) -> None:
    """A tile of the result is made of the tiles of the operands that `walks` names, for every axis that can be cut."""
    walks, tile = op.walks(*(o.shape for o in operands)), jax.jit(lambda *xs: op.tile(INT32, *xs))
    for axis in {a for axes in walks for a in axes if a is not None}:
        length = want.shape[axis]
        for at in range(length):
            parts = [o[tuple(slice(at, at + 1) if a == axis else slice(None) for a in axes)]
                     for o, axes in zip(operands, walks, strict=True)]  # fmt: skip
            whole = tuple(slice(at, at + 1) if a == axis else slice(None) for a in range(want.ndim))
            assert np.array_equal(tile(*parts), want[whole])
