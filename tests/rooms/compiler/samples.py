"""Programs, machines and comparisons that the tests of the compiler share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rdujax as rdu
from rdujax.compiler.fuse import Cuts
from rdujax.graph.plan import Plan
from rdujax.ops.contract import Contract


@dataclass(frozen=True)
class Sample:
    """A function and the arguments that it is tried on."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return self.name


def draw(rng: np.random.Generator, *shape: int, dtype: Any = jnp.bfloat16) -> jax.Array:
    """Normal values, or small integers for int32."""
    if dtype == jnp.int32:
        return jnp.asarray(rng.integers(-50, 50, shape), jnp.int32)
    return jnp.asarray(rng.standard_normal(shape), dtype)


def monarch(x: jax.Array, w0: jax.Array, scale: jax.Array, w1: jax.Array) -> jax.Array:
    """Two products around a scale and a transpose."""
    return w1 @ ((w0 @ x) * scale).T


def mlp(x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """A Llama-style gated MLP."""
    return (jax.nn.silu(x @ gate) * (x @ up)) @ down


def heads(x: jax.Array, w: jax.Array, bias: jax.Array) -> jax.Array:
    """Per-head products, a bias spread over rows, heads joined again."""
    split = jnp.transpose(x.reshape(x.shape[0], 2, -1), (1, 0, 2))
    each = jnp.einsum("hmk,hkn->hmn", split, w) + bias[None, None, :]
    return jnp.transpose(each, (1, 0, 2)).reshape(x.shape[0], -1)


def words(x: jax.Array, w: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Integer work: a wrapping product, remainders, shifts and a choice."""
    z = x @ w
    return jnp.where(z > y, lax_rem(z, y), z << 3), jax.lax.shift_right_arithmetic(z, y & 7)


def lax_rem(z: jax.Array, y: jax.Array) -> jax.Array:
    """Remainder with the sign of the dividend."""
    return jax.lax.rem(z, y)


def samples() -> list[Sample]:
    """The fixed programs, in every format; odd lengths so that tails are ragged."""
    rng = np.random.default_rng(7)
    matrices = (draw(rng, 24, 20), draw(rng, 42, 24), draw(rng, 42, 20), draw(rng, 12, 20))
    layer = (draw(rng, 21, 16), draw(rng, 16, 36), draw(rng, 16, 36), draw(rng, 36, 16))
    single = tuple(x.astype(jnp.float32) for x in matrices)
    split = (draw(rng, 19, 12), draw(rng, 2, 6, 10), draw(rng, 10))
    integers = tuple(draw(rng, *s, dtype=jnp.int32) for s in ((22, 17), (17, 9), (22, 9)))
    return [
        Sample("monarch", monarch, matrices),
        Sample("monarch_fp32", monarch, single),
        Sample("mlp", mlp, layer),
        Sample("heads", heads, split),
        Sample("words", words, integers),
    ]


def small(name: str = "cramped") -> rdu.machines.Machine:
    """The tiny machine with so little SRAM that the samples must be cut into tiles."""
    return rdu.machines.tiny().replace({"pmu.count": 14, "pmu.capacity_bytes": 256, "name": name})


def random_sample(seed: int) -> Sample:
    """A program of five to eight random steps, matrices all along; the values stay of moderate size."""
    rng = np.random.default_rng(1000 + seed)
    rows, columns = (int(n) for n in rng.integers(14, 28, 2))
    args, steps, shape = [draw(rng, rows, columns)], [], (rows, columns)
    names = ["matmul", *rng.permutation(list(STEPS))[: int(rng.integers(4, 7))], "self"]
    for name in rng.permutation(names):
        step, extra, shape = (STEPS | FIXED)[str(name)](rng, shape)
        steps.append((step, len(args), len(extra)))
        args += extra

    def fn(*arrays: jax.Array) -> jax.Array:
        x = arrays[0]
        for step, at, count in steps:
            x = step(x, *arrays[at : at + count])
        return x

    return Sample(f"random{seed}:" + ".".join(map(str, names)), fn, tuple(args))


Shape = tuple[int, int]
Made = tuple[Callable[..., Any], list[Any], Shape]


def _matmul(rng: np.random.Generator, shape: Shape) -> Made:
    n = int(rng.integers(3, 24))
    if rng.random() < 0.5:
        return (lambda x, w: jnp.tanh(x @ w)), [draw(rng, shape[1], n)], (shape[0], n)
    return (lambda x, w: jnp.tanh(w @ x)), [draw(rng, n, shape[0])], (n, shape[1])


def _self(rng: np.random.Generator, shape: Shape) -> Made:
    return (lambda x: jnp.tanh(x @ x.T)), [], (shape[0], shape[0])


def _batch(rng: np.random.Generator, shape: Shape) -> Made:
    n = int(rng.integers(2, 9))

    def step(x: jax.Array, w: jax.Array) -> jax.Array:
        doubled = jnp.broadcast_to(x[None], (2, *x.shape))
        return jnp.einsum("bmk,bkn->mbn", doubled, w).reshape(x.shape[0], -1)

    return step, [draw(rng, 2, shape[1], n)], (shape[0], 2 * n)


def _binary(rng: np.random.Generator, shape: Shape) -> Made:
    function = [jnp.add, jnp.multiply, jnp.subtract, jnp.maximum][int(rng.integers(4))]
    return function, [draw(rng, *shape)], shape


def _unary(rng: np.random.Generator, shape: Shape) -> Made:
    function = [jax.nn.silu, jnp.tanh, jax.nn.sigmoid, lambda x: -abs(x) * 0.75][int(rng.integers(4))]
    return function, [], shape


def _bias(rng: np.random.Generator, shape: Shape) -> Made:
    return (lambda x, b: x + b[None, :]), [draw(rng, shape[1])], shape


def _column(rng: np.random.Generator, shape: Shape) -> Made:
    return (lambda x, b: x * b[:, None]), [draw(rng, shape[0])], shape


def _transpose(rng: np.random.Generator, shape: Shape) -> Made:
    return (lambda x: x.T), [], (shape[1], shape[0])


def _reshape(rng: np.random.Generator, shape: Shape) -> Made:
    new = (shape[1], shape[0])
    return (lambda x: x.reshape(new)), [], new


def _residual(rng: np.random.Generator, shape: Shape) -> Made:
    return (lambda x: x + jnp.tanh(x)), [], shape


STEPS = {
    "batch": _batch, "binary": _binary, "unary": _unary, "bias": _bias, "column": _column,
    "transpose": _transpose, "reshape": _reshape, "residual": _residual,
}  # fmt: skip
FIXED = {"matmul": _matmul, "self": _self}


def turns(plan: Plan) -> list[int]:
    """Turns of every kernel."""
    return [k.tiling.turns for k in plan.kernels]


def gemms(program: rdu.Program) -> list[str]:
    """Labels of the contractions."""
    return [node.label for node in program.graph.nodes if isinstance(node.op, Contract)]


def middle(program: rdu.Program) -> Cuts:
    """One cut in the middle of the program."""
    nodes = program.graph.nodes
    return rdu.cut_after(nodes[(len(nodes) - 1) // 2].label)


def raw(x: Any) -> np.ndarray:
    """The bits of an array as integers."""
    array = np.asarray(x)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind not in "iub" else array


def assert_same(got: Any, want: Any, note: str = "") -> None:
    """Every leaf has the same dtype, shape and bits."""
    ours, theirs = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(ours) == len(theirs) and ours, note
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, (note, a.dtype, b.dtype, a.shape, b.shape)
        wrong = int((raw(a) != raw(b)).sum())
        assert wrong == 0, f"{note}: {wrong} of {a.size} elements differ"
