"""How long the exact arithmetic takes beside plain `jax.jit` on bfloat16, in the same run.

Every ratio is time of the exact form over time of the plain one: below 1 is faster than plain. Both sides take and
give what a program holds at its border: bfloat16 arrays, for the exact contraction a carrier and words at rest.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

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


@dataclass(frozen=True)
class Row:
    """One measurement: a ratio (unit "x") or a time ("s"), with its goal if it has one."""

    row: str
    value: float
    unit: str
    goal: float | None
    plain_s: float | None
    exact_s: float | None

    def as_json(self) -> str:
        """The row as one JSON object."""
        return json.dumps({"benchmark": "speed", "kind": "measured", "published": None, "ratio": None, **self.__dict__})

    def as_text(self) -> str:
        """The row of a table."""
        times = "".join(f" {1e3 * each:10.3f}" for each in (self.plain_s, self.exact_s) if each is not None)
        goal = "" if self.goal is None else f"{self.goal:g}"
        verdict = "" if self.goal is None else "met" if self.value <= self.goal else "MISSED"
        return f"{self.row:<44} {self.value:8.3f} {self.unit:<2} {goal:>5} {verdict:<6}{times}".rstrip()


def _normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16)


def _ratio(name: str, goal: float | None, plain: Contestant, exact: Contestant, rounds: int) -> Row:
    progress(name)
    times = race({"plain": plain, "exact": exact}, rounds)
    return Row(name, times["exact"] / times["plain"], "x", goal, times["plain"], times["exact"])


def _contraction(shape: tuple[int, int, int], goal: float, rounds: int) -> Iterator[Row]:
    m, k, n = shape
    name = f"contract {m}x{k}x{n}"
    a, b = _normal(0, m, k), _normal(1, k, n)
    # Until they are there, their making would compete with the compiler for the cores.
    carrier, words = jax.block_until_ready((enter(a), pack(enter(b))))
    plain = compiled(jnp.matmul, a, b)
    exact = compiled(contract, carrier, words)
    yield _ratio(name, goal, plain, exact, rounds)
    yield Row(f"{name}, compile", exact.compile_s, "s", COMPILE_GOAL_S, None, None)
    wide = compiled(contract, carrier, words, options=COMPILER_OPTIONS)
    yield _ratio(f"{name}, 512-bit vectors", None, plain, wide, rounds)
    # 2**-70 times the same numbers: outside the range where products need no isolation.
    tiny = compiled(contract, carrier * jnp.float32(2.0**-70), words)
    yield _ratio(f"{name}, isolated products", None, plain, tiny, rounds)


def _elementwise(name: str, rounds: int) -> Row:
    operands = [jnp.abs(_normal(seed, ELEMENTS)) for seed in range(FUNCTIONS[name].arity)]

    def exact(*operands: jax.Array) -> jax.Array:
        return leave(apply(name, BF16, *map(enter, operands)), BF16)

    return _ratio(
        f"{name}, bf16", ELEMENTWISE_GOAL, compiled(PLAIN[name], *operands), compiled(exact, *operands), rounds
    )


def _exp_fp32(rounds: int) -> Row:
    x = _normal(0, ELEMENTS).astype(jnp.float32)
    exact = compiled(lambda x: apply("exp", FP32, enter(x)), x)
    return _ratio("exp, fp32", None, compiled(jnp.exp, x), exact, rounds)


def _reduction(name: str, rounds: int) -> Row:
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


def rows(quick: bool) -> Iterator[Row]:
    """All measurements, one after the other; `quick` leaves out the largest and repeats less."""
    for shape, goal, rounds in CONTRACTIONS:
        if not quick or shape[0] < 2048:
            yield from _contraction(shape, goal, min(rounds, 3) if quick else rounds)
    for name in PLAIN:
        yield _elementwise(name, 5 if quick else 30)
    yield _exp_fp32(5 if quick else 30)
    for name in ("tree_sum", "tree_max"):
        yield _reduction(name, 5 if quick else 30)


def main(arguments: list[str]) -> None:
    """Prints a table, or one JSON object per row."""
    parser = argparse.ArgumentParser(prog="speed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, and not the largest shape")
    options = parser.parse_args(arguments)
    if not options.json:
        print(f"{'':<44} {'value':>8}    {'goal':>5} {'':<6} {'plain ms':>10} {'exact ms':>10}")
    for row in rows(options.quick):
        progress("")
        print(row.as_json() if options.json else row.as_text(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
