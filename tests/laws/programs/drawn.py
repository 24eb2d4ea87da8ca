"""The program of a seed, from the recipes of all families."""

import numpy as np

from tests.laws.programs import elementwise, moves, regions, sums  # noqa: F401  (they fill the table)
from tests.laws.programs.draft import RECIPES, Draft
from tests.laws.programs.program import Function, Program


def draw(seed: int, first: str | None = None) -> Program:
    """A recipe of this name, or else of the seed's turn, so that none is left out; then others at random."""
    rng = np.random.default_rng(seed)
    draft, names = Draft(rng, wild=seed % 5 == 4), list(RECIPES)
    lines = draft.integer(4, 8)
    RECIPES[first or names[seed % len(names)]](draft)
    while len(draft.steps) < lines:
        RECIPES[str(rng.choice(names))](draft)
    read = {name for step in draft.steps for name in step.reads}
    made = [v.name for step in draft.steps for v in step.results]
    outputs = [name for name in made if name not in read or draft.chance(0.1)]
    parameters = tuple(v.name for v, _ in draft.arguments)
    return Program(seed, tuple(draft.arguments), Function("program", parameters, tuple(draft.steps), tuple(outputs)))
