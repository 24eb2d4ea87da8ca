"""How long a compiled decoder layer takes beside plain `jax.jit` of the same function: traced, lowered, compiled, run.

Every ratio is time of the program over time of the plain function in bfloat16, in the same run: the two take turns and
the ratio is the median over the turns, so that what else the machine does meets both. Tracing is that of the compiled
program's call; planning is what `rdu.compile` adds before.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

import rdujax as rdu
from benchmarks._timing import progress
from benchmarks.models import decoder

LAYER = decoder.Config(1024, 1, 16, 16, 2816, 32000, positions=1024)
# Name, tokens at once, tokens in the cache before, the largest ratios of running and of compiling that are aimed at.
CASES = (("prefill of 512 tokens", 512, 0, 2.5, 3.0), ("one token after 511", 1, 511, 1.0, 3.0))
PHASES = ("trace", "lower", "compile")


@dataclass(frozen=True)
class Row:
    """Seconds of one phase for both, and the ratio with its goal if it has one; `plan` has no plain side."""

    case: str
    phase: str
    plain_s: float | None
    program_s: float
    ratio: float | None
    goal: float | None

    def as_json(self) -> str:
        """The row as one JSON object."""
        return json.dumps({"benchmark": "execution", "kind": "measured", **self.__dict__})

    def as_text(self) -> str:
        """The row of a table."""
        plain = "" if self.plain_s is None else f"{1e3 * self.plain_s:.1f}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        goal = "" if self.goal is None else f"{self.goal:g}"
        met = "" if self.goal is None or self.ratio is None else "met" if self.ratio <= self.goal else "MISSED"
        text = f"{self.case:<24} {self.phase:<8} {plain:>10} {1e3 * self.program_s:>10.1f} {ratio:>7} {goal:>5} {met}"
        return text.rstrip()


def arguments(config: decoder.Config, tokens: int, before: int) -> tuple[Any, ...]:
    """Weights, tables, hidden states, a cache that the tokens fill, and where they begin."""
    weights = jax.tree.map(lambda w: w[0], decoder.parameters(replace(config, vocab=8))["layers"])
    keys = jax.random.split(jax.random.key(1), 2)
    one = jax.random.normal(keys[0], (1, before + tokens, config.kv_heads, config.d_head), jnp.bfloat16)
    x = jax.random.normal(keys[1], (1, tokens, config.d_model), jnp.bfloat16)
    return weights, jax.tree.map(jnp.asarray, config.tables()), x, {"k": one, "v": one}, jnp.int32(before)


def built(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[dict[str, float], Callable[..., Any]]:
    """Seconds of each phase before the first run, nothing cached, and what they made."""
    jax.clear_caches()
    found, at = {}, time.perf_counter()

    def phase(name: str, made: Any) -> Any:
        nonlocal at
        found[name], at = time.perf_counter() - at, time.perf_counter()
        return made

    traced = phase("trace", jax.jit(fn).trace(*args))
    lowered = phase("lower", traced.lower())
    return found, phase("compile", lowered.compile())


def seconds(run: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """Wall-clock seconds of one run."""
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start


def row(case: str, phase: str, times: Mapping[str, list[float]], goal: float | None) -> Row:
    """Medians of both, and the median of the ratios of turns."""
    ratios = [program / plain for plain, program in zip(times["plain"], times["program"], strict=True)]
    return Row(case, phase, median(times["plain"]), median(times["program"]), median(ratios), goal)


def rows(config: decoder.Config, builds: int, turns: int) -> Iterator[Row]:
    """All measurements, one after the other."""
    built(lambda x: x + 1, (jnp.zeros(1),))  # what the first of all compilations takes is neither's
    for case, tokens, before, run_goal, compile_goal in CASES:
        progress(case)
        fn, args = partial(decoder.layer, config), arguments(config, tokens, before)
        start = time.perf_counter()
        program = rdu.compile(fn, *args)
        yield Row(case, "plan", None, time.perf_counter() - start, None, None)
        made: dict[str, Callable[..., Any]] = {}
        before_run: dict[str, dict[str, list[float]]] = {phase: {"plain": [], "program": []} for phase in PHASES}
        for _ in range(builds):
            for name, each in (("plain", fn), ("program", program.execute)):
                found, made[name] = built(each, args)
                for phase, taken in found.items():
                    before_run[phase][name].append(taken)
        for phase, times in before_run.items():
            yield row(case, phase, times, compile_goal if phase == "compile" else None)
        ran: dict[str, list[float]] = {name: [] for name in made}
        for turn in range(turns + 1):
            for name, run in made.items():
                taken = seconds(run, args)
                ran[name] += [taken] if turn else []
        yield row(case, "run", ran, run_goal)


def main(arguments: list[str]) -> None:
    """Prints a table, or one JSON object per row."""
    parser = argparse.ArgumentParser(prog="execution", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--builds", type=int, default=3, help="how often each is traced and compiled (3)")
    parser.add_argument("--turns", type=int, default=10, help="how often each is run (10)")
    options = parser.parse_args(arguments)
    if not options.json:
        print(f"{'':<24} {'':<8} {'plain ms':>10} {'program ms':>10} {'ratio':>7} {'goal':>5}")
    for each in rows(LAYER, options.builds, options.turns):
        progress("")
        print(each.as_json() if options.json else each.as_text(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
