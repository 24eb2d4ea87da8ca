"""How long a compiled decoder layer takes beside plain `jax.jit` of the same function: traced, lowered, compiled, run.

Every ratio is time of the program over time of the plain function in bfloat16, in the same run: the two take turns and
the ratio is the median over the turns, so that what else the machine does meets both. Tracing is that of the compiled
program's call; planning is what `rdu.compile` adds before. XLA gets the same options for both, those that the README
advises: vectors as wide as AVX-512 has them, from which plain JAX gains and loses nothing.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, milliseconds, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models import decoder
from benchmarks.models.parts import one_layer
from rdujax.numerics.contract import COMPILER_OPTIONS

LAYER = decoder.Config(1024, 1, 16, 16, 2816, 32000, positions=1024)
# Name, tokens at once, tokens in the cache before, the largest ratios of running and of compiling that are aimed at.
CASES = (("prefill of 512 tokens", 512, 0, 2.5, 3.0), ("one token after 511", 1, 511, 1.0, 3.0))
STEPS = ("trace", "lower", "compile")


@dataclass(frozen=True, kw_only=True)
class Phase(Row):
    """One phase. value: the ratio with its goal if it has one; seconds of planning, which has no plain side."""

    plain_s: float | None
    program_s: float


COLUMNS = (
    names("case: phase", 32),
    milliseconds("plain"),
    milliseconds("program"),
    Column("ratio", lambda row: row.value if row.unit == "x" else None, 7, ".2f"),
    *goals(),
)


def arguments(config: decoder.Config, tokens: int, before: int) -> tuple[Any, ...]:
    """A layer, hidden states, tables, a cache that the tokens fill, and where they begin."""
    model = decoder.random_model(replace(config, layers=1, vocab=8))
    keys = jax.random.split(jax.random.key(1), 2)
    one = jax.random.normal(keys[0], (1, before + tokens, config.kv_heads, config.d_head), jnp.bfloat16)
    x = jax.random.normal(keys[1], (1, tokens, config.d_model), jnp.bfloat16)
    return one_layer(model.layers), x, model.data(), {"k": one, "v": one}, jnp.int32(before)


def built(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[dict[str, float], Callable[..., Any]]:
    """Seconds of each phase before the first run, nothing cached, and what they made."""
    jax.clear_caches()
    found, at = {}, time.perf_counter()

    def step(name: str, made: Any) -> Any:
        nonlocal at
        found[name], at = time.perf_counter() - at, time.perf_counter()
        return made

    traced = step("trace", jax.jit(fn).trace(*args))
    lowered = step("lower", traced.lower())
    return found, step("compile", lowered.compile(compiler_options=dict(COMPILER_OPTIONS)))


def seconds(run: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """Wall-clock seconds of one run."""
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start


def phase(label: str, times: Mapping[str, list[float]], goal: float | None) -> Phase:
    """Medians of both, and the median of the ratios of turns."""
    ratios = [program / plain for plain, program in zip(times["plain"], times["program"], strict=True)]
    plain_s, program_s = median(times["plain"]), median(times["program"])
    return Phase(row=label, value=median(ratios), unit="x", goal=goal, plain_s=plain_s, program_s=program_s)


def rows(config: decoder.Config, builds: int, turns: int) -> Iterator[Phase]:
    """All measurements, one after the other."""
    built(lambda x: x + 1, (jnp.zeros(1),))  # what the first of all compilations takes is neither's
    for case, tokens, before, run_goal, compile_goal in CASES:
        progress(case)
        fn, args = decoder.Layer.__call__, arguments(config, tokens, before)
        start = time.perf_counter()
        program = rdu.compile(fn, *args)
        planned_s = time.perf_counter() - start
        yield Phase(row=f"{case}: plan", value=planned_s, unit="s", plain_s=None, program_s=planned_s)
        made: dict[str, Callable[..., Any]] = {}
        before_run: dict[str, dict[str, list[float]]] = {step: {"plain": [], "program": []} for step in STEPS}
        for _ in range(builds):
            for name, each in (("plain", fn), ("program", program.execute)):
                found, made[name] = built(each, args)
                for step, taken in found.items():
                    before_run[step][name].append(taken)
        for step, times in before_run.items():
            yield phase(f"{case}: {step}", times, compile_goal if step == "compile" else None)
        ran: dict[str, list[float]] = {name: [] for name in made}
        for turn in range(turns + 1):
            for name, run in made.items():
                taken = seconds(run, args)
                ran[name] += [taken] if turn else []
        yield phase(f"{case}: run", ran, run_goal)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("execution", __doc__)
    asked.add_argument("--builds", type=int, default=3, help="how often each is traced and compiled (3)")
    asked.add_argument("--turns", type=int, default=10, help="how often each is run (10)")
    options = asked.parse_args(arguments)
    return show("execution", options, COLUMNS, rows(LAYER, options.builds, options.turns))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
