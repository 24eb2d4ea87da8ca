"""How long the exact arithmetic takes beside plain `jax.jit` on bfloat16, in the same run.

Every ratio is time of the exact form over time of the plain one: below 1 is faster than plain. Both sides take and
give what a program holds at its border: bfloat16 arrays, for the exact contraction a carrier and words at rest.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks._rows import Column, Row, goals, milliseconds, names
from benchmarks._run import parser, show
from benchmarks._timing import Contestant, compiled, progress, race
from rdujax.numerics import reduce
from rdujax.numerics.contract import COMPILER_OPTIONS, contract
from rdujax.numerics.convert import enter, leave, pack
from rdujax.numerics.formats import BF16, FP32
from rdujax.numerics.functions import FUNCTIONS, apply

# Shape (M, K, N), the largest ratio aimed at, rounds.
CONTRACTIONS = (
    ((512, 512, 512), 4.0, 20),
    ((1024, 1024, 1024), 4.0, 10),
    ((128, 512, 1408), 4.0, 30),
    ((2048, 2048, 2048), 4.0, 3),
    ((1, 4096, 4096), 1.0, 10),
    ((8, 4096, 11008), 1.0, 6),
)
COMPILE_GOAL_S = 1.0
ELEMENTWISE_GOAL = 1.5
ELEMENTS = 1 << 21
PLAIN = {
    "add": jnp.add,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "max": jnp.maximum,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "reciprocal": jnp.reciprocal,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "sin": jnp.sin,
    "cos": jnp.cos,
}


@dataclass(frozen=True, kw_only=True)
class Speed(Row):
    """A ratio with the times it is of, or the seconds that the exact form takes to compile."""

    plain_s: float | None = None
    exact_s: float | None = None


COLUMNS = (
    names("", 44),
    Column("value", "value", 8, ".3f"),
    Column("", "unit", 2, left=True),
    *goals(),
    milliseconds("plain"),
    milliseconds("exact"),
)


def _normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16)


def _ratio(name: str, goal: float | None, plain: Contestant, exact: Contestant, rounds: int) -> Speed:
    progress(name)
    times = race({"plain": plain, "exact": exact}, rounds)
    ratio = times["exact"] / times["plain"]
    return Speed(row=name, value=ratio, unit="x", goal=goal, plain_s=times["plain"], exact_s=times["exact"])


def _contraction(shape: tuple[int, int, int], goal: float, rounds: int) -> Iterator[Speed]:
    m, k, n = shape
    name = f"contract {m}x{k}x{n}"
    a, b = _normal(0, m, k), _normal(1, k, n)
    # Until they are there, their making would compete with the compiler for the cores.
    carrier, words = jax.block_until_ready((enter(a), pack(enter(b))))
    plain = compiled(jnp.matmul, a, b)
    of_bf16 = partial(contract, fmt=BF16)
    exact = compiled(of_bf16, carrier, words)
    yield _ratio(name, goal, plain, exact, rounds)
    yield Speed(row=f"{name}, compile", value=exact.compile_s, unit="s", goal=COMPILE_GOAL_S)
    wide = compiled(of_bf16, carrier, words, options=COMPILER_OPTIONS)
    yield _ratio(f"{name}, 512-bit vectors", None, plain, wide, rounds)
    # 2**-70 times the same numbers: outside the range where products need no isolation.
    tiny = compiled(of_bf16, carrier * jnp.float32(2.0**-70), words)
    yield _ratio(f"{name}, isolated products", None, plain, tiny, rounds)


def _elementwise(name: str, rounds: int) -> Speed:
    operands = [jnp.abs(_normal(seed, ELEMENTS)) for seed in range(FUNCTIONS[name].arity)]

    def exact(*operands: jax.Array) -> jax.Array:
        return leave(apply(name, BF16, *map(enter, operands)), BF16)

    return _ratio(
        f"{name}, bf16", ELEMENTWISE_GOAL, compiled(PLAIN[name], *operands), compiled(exact, *operands), rounds
    )


def _exp_fp32(rounds: int) -> Speed:
    x = _normal(0, ELEMENTS).astype(jnp.float32)
    exact = compiled(lambda x: apply("exp", FP32, enter(x)), x)
    return _ratio("exp, fp32", None, compiled(jnp.exp, x), exact, rounds)


def _reduction(name: str, rounds: int) -> Speed:
    x = _normal(0, 2048, 1024).astype(jnp.float32)
    plain = {"tree_sum": jnp.sum, "tree_max": jnp.max}[name]
    exact = getattr(reduce, name)
    return _ratio(
        f"{name} 2048x1024 fp32",
        None,
        compiled(lambda x: plain(x, 1), x),
        compiled(lambda x: exact(x, 1), x),
        rounds,
    )


def rows(quick: bool) -> Iterator[Speed]:
    """All measurements, one after the other; `quick` leaves out the largest and repeats less."""
    for shape, goal, rounds in CONTRACTIONS:
        if not quick or shape[0] < 2048:
            yield from _contraction(shape, goal, min(rounds, 3) if quick else rounds)
    for name in PLAIN:
        yield _elementwise(name, 5 if quick else 30)
    yield _exp_fp32(5 if quick else 30)
    for name in ("tree_sum", "tree_max"):
        yield _reduction(name, 5 if quick else 30)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    options = parser("speed", __doc__, quick="fewer repeats, and not the largest shape").parse_args(arguments)
    return show("speed", options, COLUMNS, rows(options.quick))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
