"""Axes that a kernel can be streamed along: worked out by hand, class by class, for every way in which axes meet."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import rdujax as rdu
from rdujax.compiler.axes import Way, streamable
from rdujax.graph.graph import Graph

# Arguments by name with their shapes, the function, and every class as the label and axis of its members; behind ">"
# what is added up along it, and behind a second ">" what is made of that in the end.
CASES = {
    "rows and columns of a product, and what it adds up": (
        {"x": (4, 6), "w": (6, 5)}, lambda x, w: x @ w,
        ["w:0 x:1 > gemm", "gemm:1 w:1", "gemm:0 x:0"],
    ),
    "columns of a product that the next one adds up; along its own columns, the first is made once": (
        {"x": (4, 6), "w": (6, 5), "v": (5, 3)}, lambda x, w, v: jnp.tanh(x @ w) @ v,
        [
            "w:0 x:1 > gemm > tanh gemm#2", "gemm:1 tanh:1 v:0 w:1 > gemm#2", "gemm#2:0 gemm:0 tanh:0 x:0",
            "gemm#2:1 v:1",
        ],
    ),
    "what is made of sums is made in the end": (
        {"x": (4, 6), "w": (6, 5)}, lambda x, w: jnp.tanh(x @ w),
        ["w:0 x:1 > gemm > tanh", "gemm:1 tanh:1 w:1", "gemm:0 tanh:0 x:0"],
    ),
    "a result along the rows, and sums over them": (
        {"x": (4, 6), "y": (4, 5)}, lambda x, y: (jnp.tanh(x), jnp.tanh(x).T @ y),
        ["gemm:0 tanh:1 x:1", "tanh:0 x:0 y:0 > gemm"],
    ),
    "sums that rows need in the end are no sums turn by turn": (
        {"x": (4, 6), "y": (4, 5)}, lambda x, y: x @ (x.T @ y),
        ["gemm:0 x:1 > gemm#2", "gemm#2:1 gemm:1 y:1"],
    ),
    "of several summed axes, the outermost that is longer than one": (
        {"x": (1, 4, 3, 6), "y": (1, 4, 3, 5)}, lambda x, y: lax.dot_general(x, y, (((0, 1, 2),) * 2, ((), ()))),
        ["gemm:0 x:3", "gemm:1 y:3", "x:1 y:1 > gemm"],
    ),
    "what is spread over the summed axis does not walk along it": (
        {"b": (6,), "y": (4, 5)}, lambda b, y: jnp.broadcast_to(b, (4, 6)).T @ y,
        ["b:0 gemm:0", "gemm:1 y:1"],
    ),
    "what is made of weights alone is the same in every turn along rows": (
        {"x": (4, 6), "w": (6,)}, lambda x, w: x * jnp.exp(w)[None],
        ["exp:0 mul:1 w:0 x:1", "mul:0 x:0"],
    ),
    "but not where it is returned, too": (
        {"x": (4, 6), "w": (6,)}, lambda x, w: (x * jnp.exp(w)[None], jnp.exp(w)),
        ["exp:0 mul:1 w:0 x:1"],
    ),
    "a batch walks with both operands": (
        {"x": (2, 4, 6), "y": (2, 6, 5)}, lambda x, y: jax.lax.batch_matmul(x, y),
        ["x:2 y:1 > gemm", "gemm:2 y:2", "gemm:1 x:1", "gemm:0 x:0 y:0"],
    ),
    "element by element": (
        {"x": (4, 6), "y": (4, 6)}, lambda x, y: x + y,
        ["add:1 x:1 y:1", "add:0 x:0 y:0"],
    ),
    "what is spread over an axis does not walk along it": (
        {"x": (4, 6), "b": (6,)}, lambda x, b: x + b[None],
        ["add:1 b:0 x:1", "add:0 x:0"],
    ),
    "a transposed result is a value of its own": (
        {"x": (4, 6)}, lambda x: jnp.tanh(x).T,
        ["tanh:1 transpose:0 x:1", "tanh:0 transpose:1 x:0"],
    ),
    "beside what it is read from": (
        {"x": (4, 6)}, lambda x: (jnp.exp(x), jnp.exp(x).T),
        ["exp:1 transpose:0 x:1", "exp:0 transpose:1 x:0"],
    ),
    "an axis that a reduction sums is none": (
        {"x": (4, 6)}, lambda x: jnp.sum(x, 0),
        ["reduce_sum:0 x:1"],
    ),
    "nor where another result has it": (
        {"x": (4, 6)}, lambda x: (jnp.tanh(x), jnp.sum(x, 1)),
        ["reduce_sum:0 tanh:0 x:0"],
    ),
    "an axis of length one is none": (
        {"x": (1, 6)}, lambda x: jnp.tanh(x),
        ["tanh:1 x:1"],
    ),
    "axes that a view splits and joins are those of the result alone": (
        {"x": (4, 6)}, lambda x: x.reshape(2, 2, 6) * 2.0,
        ["mul:2 x:1", "mul:0", "mul:1"],
    ),
    "a result that is split after it is made can be cut nowhere else": (
        {"x": (4, 6)}, lambda x: jnp.tanh(x).reshape(2, 2, 6),
        ["reshape:2 tanh:1 x:1"],
    ),
    "what is joined, and read at two places of one result": (
        {"x": (4, 6)}, lambda x: jnp.concatenate([x, x], 0),
        ["concatenate:1 x:1"],
    ),
    "rows of which only some are written once more": (
        {"x": (4, 6)}, lambda x: (jnp.tanh(x), jnp.tanh(x)[1:3]),
        ["slice:1 tanh:1 x:1"],
    ),
    "rows read as rows and as columns": ({"x": (4, 4)}, lambda x: x + x.T, []),
    "rows that meet themselves in a product": ({"x": (4, 6)}, lambda x: x @ x.T, ["x:1 > gemm"]),
    "two results that have no axis in common": (
        {"x": (4, 6), "y": (5, 3)}, lambda x, y: (jnp.tanh(x), jnp.exp(y)),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_classes(name):
    shapes, fn, want = CASES[name]
    structs = {argument: jax.ShapeDtypeStruct(shape, jnp.float32) for argument, shape in shapes.items()}
    program = rdu.compile(fn, *structs.values(), machine="sn40l", fusion=rdu.cut_after())
    (planned,) = program.plan.kernels
    graph = program.graph
    found = streamable(graph, planned.kernel)
    assert [said(graph, way) for way in found] == want
    for way in found:
        assert {graph.types[v].shape[axis] for v, axis in way.members} == {way.length}


def said(graph: Graph, way: Way) -> str:
    """A class in words."""
    parts = [" ".join(sorted(f"{graph.labels[v]}:{axis}" for v, axis in way.members))]
    parts += [" ".join(graph.labels[v] for v in sorted(values)) for values in (way.sums, way.late) if values]
    return " > ".join(parts)
