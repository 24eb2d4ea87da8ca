"""The kernel author's door: units on streams, by hand.

A function of `Stream`s that calls `gemm`, `simd` and `transpose` runs as it stands, tile by tile, and is read by the
same front end as any JAX function: its unit calls are visible by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base import compat
from rdujax.base.errors import ArgumentError, FormatError, ShapeError, UnsupportedError, describe, unknown
from rdujax.frontend.builder import Builder
from rdujax.frontend.rule import Operand
from rdujax.frontend.trace import Traced, argument_names, struct, trace, walk
from rdujax.graph.graph import Graph
from rdujax.numerics import convert, formats
from rdujax.numerics.formats import INT32, Format, format_of
from rdujax.ops.map import Map
from rdujax.streams import layout as layouts
from rdujax.streams import visible
from rdujax.streams.layout import Layout
from rdujax.streams.stream import Stream, transpose_read
from rdujax.streams.stream import tile as cut_tiles
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.expression import Expression, Instruction
from rdujax.units.pcu.simd import simd as simd_unit
from rdujax.units.pcu.systolic import systolic


def gemm(
    a: Stream, b: Stream, *, k_splits: int = 1, output: Format | str | None = None, pcus: int | None = None
) -> Stream:
    """Matrix product of two streams on systolic PCUs: [m, k] x [k, n] -> [m, n] (N8).

    Sums are FP32 in increasing k; the tail converts to `output` (the operands' format by default). k_splits: segments
    of K summed by different PCUs, visible in the bits. pcus: at most so many PCUs (the compiler's choice by default).
    Tiles: rows as `a` is cut, columns as `b` is cut. Raises ShapeError, FormatError, ArgumentError.
    """
    for name, s in (("a", a), ("b", b)):
        _check_stream(s, f"gemm, {name}")
        if len(s.shape) != 2:
            raise ShapeError(describe("gemm takes matrices", given=f"{name} of shape {s.shape}", allowed="two axes"))
    k = a.shape[1]
    if isinstance(k_splits, bool) or not isinstance(k_splits, int) or not 1 <= k_splits <= k:
        raise ArgumentError(describe("k_splits", given=repr(k_splits), allowed=f"1 to K = {k}", where="gemm"))
    config = Contraction((1,), (0,), k_splits=k_splits)
    shape = config.shape_of(a.shape, b.shape)
    if config.segments(k) != k_splits:
        raise ArgumentError(
            describe(
                f"K = {k} does not make {k_splits} segments of equal length, the last perhaps shorter",
                given=f"k_splits={k_splits}",
                do=f"k_splits={config.segments(k)} makes the same segments",
                where="gemm",
            )
        )
    out = a.fmt if output is None else formats.lookup(output)
    if not (out is INT32 if a.fmt is INT32 else out.is_float):
        raise FormatError(
            describe(
                "the output of a gemm",
                given=f"{a.fmt} to {out}",
                allowed="int32" if a.fmt is INT32 else "bf16 or fp32",
            )
        )
    layout = layouts.tiled(shape, config.shape_of(a.layout.tile, b.layout.tile))
    description = {
        "unit": "gemm",
        "contraction": [config.lhs_contract, config.rhs_contract, (), (), k_splits],
        "output": out.name,
        **_pinned(layout, pcus),
    }
    statics = (config, a.layout, b.layout, layout, a.fmt, b.fmt, out)
    return Stream(visible.call(description, _gemm, statics, a.data, b.data), layout, out)


def _gemm(
    config: Contraction, of_a: Layout, of_b: Layout, layout: Layout, fmt_a: Format, fmt_b: Format, out: Format,
    a: jax.Array, b: jax.Array,
) -> jax.Array:  # fmt: skip
    stream, _ = systolic(config, Stream(a, of_a, fmt_a), Stream(b, of_b, fmt_b), layout, out, "vmap", tally=False)
    return stream.data


def simd(fn: Callable[..., Any], *streams: Stream, pcus: int | None = None) -> Stream:
    """An element-wise JAX function on streams of one layout, on SIMD PCUs.

    fn: a function of arrays of one shape that is made of element-wise operations only, for example
    `lambda a, b: a * b`. pcus: at most so many PCUs (the compiler's choice by default).
    Raises UnsupportedError for anything that is not element-wise, ShapeError for streams that are cut differently.
    """
    if not streams:
        raise ArgumentError("simd needs at least one stream")
    for i, s in enumerate(streams):
        _check_stream(s, f"simd, stream {i}")
        if s.layout != streams[0].layout:
            raise ShapeError(
                describe(
                    "streams that are cut differently",
                    given=f"stream {i}: {s.layout}",
                    allowed=str(streams[0].layout),
                    where="simd",
                )
            )
    structs = [jax.ShapeDtypeStruct(s.layout.tile, s.fmt.dtype) for s in streams]
    expression = expression_of(trace(fn, structs).graph)
    layout = streams[0].layout
    description = {"unit": "simd", "expression": expression.to_json(), **_pinned(layout, pcus)}
    statics = (expression, tuple(s.layout for s in streams), tuple(s.fmt for s in streams))
    data = visible.call(description, _simd, statics, *(s.data for s in streams))
    return Stream(data, layout, expression.output)


def _simd(expression: Expression, cut: tuple[Layout, ...], fmts: tuple[Format, ...], *data: jax.Array) -> jax.Array:
    operands = [Stream(d, layout, fmt) for d, layout, fmt in zip(data, cut, fmts, strict=True)]
    return simd_unit(expression, *operands, how="vmap", tally=False)[0].data


def transpose(stream: Stream, permutation: Sequence[int] | None = None) -> Stream:
    """The stream read transposed from its stage buffer: no stage, no arithmetic (axes reversed by default)."""
    _check_stream(stream, "transpose")
    axes = tuple(reversed(range(len(stream.shape)))) if permutation is None else tuple(permutation)
    if sorted(axes) != list(range(len(stream.shape))):
        raise ShapeError(describe("not a permutation of the axes", given=axes, allowed=f"of {len(stream.shape)} axes"))
    return transpose_read(stream, axes)


def expression_of(graph: Graph) -> Expression:
    """The one expression that a graph of element-wise nodes computes; UnsupportedError for any other graph."""
    if len(graph.outputs) != 1 or graph.constants or not graph.nodes:
        raise UnsupportedError(
            describe(
                "a SIMD stage computes one result from its operands",
                given=f"{len(graph.outputs)} results of {len(graph.nodes)} operations, "
                f"{len(graph.constants)} captured arrays",
                do="return one computed array, and pass captured arrays as streams",
            )
        )
    places = {value: i for i, value in enumerate(graph.inputs)}
    inputs = tuple(graph.types[v].fmt for v in graph.inputs)
    steps: list[Instruction] = []
    for node in graph.nodes:
        if not isinstance(node.op, Map):
            raise UnsupportedError(
                describe(
                    "not element-wise",
                    given=str(node.op),
                    where=node.source,
                    do="use rdujax.gemm or rdujax.transpose for it",
                )
            )
        inner = node.op.expression
        mapping = {i: places[v] for i, v in enumerate(node.operands)}
        mapping |= {len(inner.inputs) + i: len(inputs) + len(steps) + i for i in range(len(inner.instructions))}
        for s in inner.instructions:
            steps.append(Instruction(s.function, s.fmt, tuple(mapping[i] for i in s.operands), s.immediate, s.target))
        places[node.result] = len(inputs) + len(steps) - 1
    return Expression(inputs, tuple(steps))


def trace_kernel(fn: Callable[..., Any], args: Sequence[Any], tiles: Mapping[str, tuple[int, ...]]) -> Traced:
    """Reads a kernel written by hand: `fn` is called with one `Stream` per argument, cut as `tiles` says by name.

    Raises UnknownNameError for a tile of an argument that does not exist, ShapeError for one that does not fit.
    """
    names = argument_names(fn, len(args))
    for name in tiles:
        if name not in names:
            raise unknown("argument of the kernel", name, names, where="tiles")
    builder, streams, values = Builder(), [], []
    for name, arg in zip(names, args, strict=True):
        kind = struct(arg, name)
        fmt = format_of(kind.dtype, where=f"argument {name}")
        layout = _layout(name, kind.shape, tiles)
        streams.append(Stream(jax.ShapeDtypeStruct((layout.n_tiles, *layout.tile), fmt.carrier), layout, fmt))
        values.append(builder.input(kind.shape, kind.dtype, name))
    jaxpr, consts, shapes = compat.trace(fn, *streams)
    results = jax.tree.leaves(shapes, is_leaf=_is_stream)
    if not results or not all(_is_stream(r) for r in results):
        raise ArgumentError(
            describe(
                "a kernel returns streams",
                given=[type(r).__name__ for r in results],
                where=getattr(fn, "__name__", repr(fn)),
            )
        )
    operands: list[Operand] = list(values)
    outputs = walk(builder, jaxpr, consts, operands, "", by_hand=True)
    in_tree = jax.tree.structure(tuple(args))
    graph = builder.graph([v for v in outputs if isinstance(v, int)])
    return Traced(graph, in_tree, jax.tree.structure(shapes, is_leaf=_is_stream))


def _layout(name: str, shape: tuple[int, ...], tiles: Mapping[str, tuple[int, ...]]) -> Layout:
    try:
        return layouts.tiled(shape, tiles.get(name, shape))
    except ShapeError as error:
        raise ShapeError(f"{error}\n  where:   tiles, argument {name}") from None


def _check_stream(x: Any, where: str) -> None:
    if not _is_stream(x):
        raise FormatError(
            describe("a unit takes streams", given=type(x).__name__, allowed="a Stream", where=where,
                     do="call it within a function under @rdujax.kernel, or make a stream with rdujax.as_stream")
        )  # fmt: skip


def _is_stream(x: Any) -> bool:
    return isinstance(x, Stream)


def _pinned(layout: Layout, pcus: int | None) -> dict[str, Any]:
    if pcus is not None and (isinstance(pcus, bool) or not isinstance(pcus, int) or pcus < 1):
        raise ArgumentError(describe("pcus", given=repr(pcus), allowed="an integer, 1 or more"))
    return {"pcus": pcus, "tile": layout.tile if layout.tile != layout.shape else None}


def as_stream(x: jax.Array, tile: tuple[int, ...] | None = None) -> Stream:
    """A public array as a stream of carriers, for running a kernel function by hand."""
    fmt = format_of(jnp.asarray(x).dtype)
    return cut_tiles(convert.enter(x, fmt), tile, fmt=fmt)
