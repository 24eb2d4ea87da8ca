"""The program of a seed, from the recipes of all families; programs for the laws of transformations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.laws.programs import elementwise, moves, regions, sums  # noqa: F401  (they fill the table)
from tests.laws.programs.draft import RECIPES, Draft
from tests.laws.programs.program import Function, Program

# What each family's program begins with.
FAMILIES = {
    "functions": "tanh", "powers": "pow", "choices": "select_n", "clamps": "clamp",
    "contractions": "dot_general of a batch",
    "sums": "reduce_sum", "extremes": "reduce_max", "running sums": "cumsum", "running logs": "cumlogsumexp",
    "windows": "reduce_window_sum", "pooling": "select_and_scatter_add", "transforms": "fft", "random": "uniform",
    "views": "transpose", "padding": "pad", "joins": "concatenate", "look-ups": "gather of windows",
    "updates": "scatter-add", "places": "dynamic_update_slice", "sorting": "sort", "best": "top_k", "words": "rem",
    "loops": "scan", "whiles": "while", "branches": "cond", "batched whiles": "many whiles",
    "nested loops": "nested scan",
}  # fmt: skip


def draw(seed: int, first: str | None = None) -> Program:
    """A recipe of this name, or else of the seed's turn, so that none is left out; then others at random."""
    rng = np.random.default_rng(seed)
    draft, names = Draft(rng, wild=seed % 5 == 4), list(RECIPES)
    lines = draft.integer(2, 5)
    RECIPES[first or names[seed % len(names)]](draft)
    while len(draft.steps) < lines:
        RECIPES[str(rng.choice(names))](draft)
    read = {name for step in draft.steps for name in step.reads}
    made = [v.name for step in draft.steps for v in step.results]
    outputs = [name for name in made if name not in read or draft.chance(0.1)]
    parameters = tuple(v.name for v, _ in draft.arguments)
    return Program(seed, tuple(draft.arguments), Function("program", parameters, tuple(draft.steps), tuple(outputs)))


def of_family(name: str, without: str = "nothing") -> Program:
    """A program in which every argument is within its domain and some carry derivatives, `without` a function."""
    seeds = (seed for seed in range(1000, 1100) if seed % 5 != 4)
    drawn = (draw(seed, FAMILIES[name]) for seed in seeds)
    return next(p for p in drawn if of_floats(p, p.args)[1] and without not in p.source)


def is_float(x: Any) -> bool:
    """Whether it carries derivatives."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def of_floats(fn: Any, args: tuple[jax.Array, ...]) -> tuple[Callable[..., Any], list[jax.Array]]:
    """The function of those arguments that are arrays of floats, and these.

    Not of single numbers: JAX 0.10 has no derivative of `clamp` by limits that it spreads.
    """
    places = [i for i, x in enumerate(args) if is_float(x) and x.ndim]

    def of(*floats: jax.Array) -> Any:
        given = list(args)
        for i, x in zip(places, floats, strict=True):
            given[i] = x
        return fn(*given)

    return of, [args[i] for i in places]
