"""Fair times on a shared machine: contestants take turns, and each keeps its shortest run."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from rdujax.base.progress import progress as progress


@dataclass(frozen=True)
class Contestant:
    """A compiled function, its arguments, and the seconds it took to compile."""

    run: Callable[..., Any]
    arguments: Sequence[Any]
    compile_s: float


def compiled(fn: Callable[..., Any], *arguments: Any, options: Mapping[str, Any] | None = None) -> Contestant:
    """Traces and compiles `fn` for the arguments, timed; options are XLA's."""
    start = time.perf_counter()
    run = jax.jit(fn).lower(*arguments).compile(compiler_options=dict(options or {}))
    return Contestant(run, arguments, time.perf_counter() - start)


def race(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, float]:
    """Shortest wall-clock seconds of each over that many rounds, after one round to warm up."""
    best = dict.fromkeys(contestants, float("inf"))
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            jax.block_until_ready(contestant.run(*contestant.arguments))
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best
