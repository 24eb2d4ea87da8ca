"""Training through the emulator: an expert's first steps, bit by bit, beside plain JAX, and what a step takes.

The step is that of experts/training (loss, gradients, clipping, AdamW) in FP32, on the batches of its recipe, beginning
as the base model, as the expert was really trained. It is compiled twice, fused and operator by operator; both run all
steps, and weights, moments and losses are compared bit by bit. Plain JAX (jax.jit) trains beside them: it sums in
another order, so that its losses drift apart slowly. Prices are of the SN40L, launches by hardware included.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from experts import tokenizer as tokenizers
from experts.checkpoints import load
from experts.composition import TRAINED
from experts.data.splits import DOMAINS
from experts.training.loop import stepper
from experts.training.recipes import LENGTH, ROWS, recipes
from rdujax.cli.bits import differing, elements
from rdujax.cli.options import length, seed
from rdujax.compiler.drawing import Disc, Drawing, Line, Shape, Style, Words

FUSIONS = {"fused": "streaming", "operator by operator": "none"}
DONATED = (0, 1)  # weights and moments


@dataclass(frozen=True, kw_only=True)
class Trained(Row):
    """A step's loss, a price, or how far two roads are apart. plain: the loss of plain JAX."""

    plain: float | None = None
    launches: int | None = None
    hbm_bytes: int | None = None


COLUMNS = (
    names("", 28),
    Column("", lambda row: row.value if row.unit != "words" else None, 11, ".6g"),
    Column("", lambda row: row.value if row.unit == "words" else None, 3, "g"),
    Column("", "unit", 5, left=True),
    Column("plain JAX", "plain", 10, ".6g"),
    Column("launches", "launches", 8, ","),
    Column("HBM bytes", "hbm_bytes", 14, ","),
    *goals(),
)


@dataclass(frozen=True)
class Job:
    """A step as a function, and what it begins with."""

    step: Any
    state: tuple[Any, Any]
    batches: list[Any]

    def ran(self, step: Any) -> Iterator[tuple[float, list[np.ndarray]]]:
        """(loss, all arrays) behind every step of one road."""
        state = self.state
        for batch in self.batches:
            *state, loss = step(*state, batch)
            yield float(loss), [np.asarray(x) for x in jax.tree.leaves((state, loss))]


def job(folder: Path, expert: str, steps: int, rows: int, seed: int) -> Job:
    """The first steps of an expert's recipe, on so many rows of its batches."""
    recipe = next(each for each in recipes() if each.name == expert)
    tokenizer, model = tokenizers.load(folder / "base"), load(folder / "base", dtype="float32")
    form, weights, rest = nnx.split(model, nnx.Param, ...)
    optimiser, pure = recipe.schedule.optimiser(), nnx.to_pure_dict(weights)
    batches = [jax.tree.map(lambda x: x[:rows], recipe.batch(tokenizer, seed, at)) for at in range(steps)]
    return Job(stepper(form, weights, rest, optimiser), (pure, optimiser.init(pure)), batches)


def rows(job: Job) -> Iterator[Trained]:
    """Every step, then how far roads are apart, then prices."""
    programs = {}
    for name, fusion in FUSIONS.items():
        progress(f"compile, {name}")
        programs[name] = rdu.compile(job.step, *job.state, job.batches[0], fusion=fusion, donate_argnums=DONATED)
    progress("first step")
    differ = words = 0
    apart = 0.0
    roads = (job.ran(each) for each in (*programs.values(), jax.jit(job.step)))
    for at, ((loss, ours), (_, theirs), (plain, _)) in enumerate(zip(*roads, strict=True)):
        differ, words = differ + differing(ours, theirs), words + elements(ours)
        apart = max(apart, abs(loss - plain))
        yield Trained(row=f"step {at + 1}", value=loss, unit="nats", plain=plain)
        progress(f"step {at + 2}")
    yield Trained(row=f"differ, of {words:,}", value=differ, unit="words", goal=0)
    yield Trained(row="losses within", value=apart, unit="nats")
    yield from (priced(name, program) for name, program in programs.items())


def priced(name: str, program: rdu.Program) -> Trained:
    """What a step takes on the machine, launches included."""
    cost = program.cost()
    return Trained(
        row=f"a step, {name}", value=1e3 * float(cost.total_s), unit="ms", launches=cost.launches,
        hbm_bytes=cost.moved_bytes("hbm"),
    )  # fmt: skip


def curves(found: list[Trained]) -> Drawing:
    """Both losses by step: a line for the emulated one, dots for plain JAX."""
    steps = [row for row in found if row.plain is not None]
    left, top, wide, high = 60.0, 30.0, 560.0, 260.0
    ink, ours, theirs = Style("#222222"), Style(stroke="#0072b2", width=2.0), Style("#d55e00")
    ends = [value for row in steps for value in (row.value, row.plain or 0.0)]
    most, least = max(ends, default=1.0), min(ends, default=0.0)
    room = most - least or 1.0

    def place(at: int, value: float) -> tuple[float, float]:
        return left + wide * (at + 0.5) / len(steps), top + high * (most - value) / room

    shapes: list[Shape] = [
        Words(left, top - 12, "loss (nats) by step: emulated (line), plain JAX (dots)", 12, ink, bold=True),
        Line(left, top, left, top + high, Style(stroke="#222222", width=1.0)),
        Line(left, top + high, left + wide, top + high, Style(stroke="#222222", width=1.0)),
        Words(left - 6, top + 4, f"{most:.3f}", 11, ink, anchor="end"),
        Words(left - 6, top + high, f"{least:.3f}", 11, ink, anchor="end"),
    ]
    places = [place(at, row.value) for at, row in enumerate(steps)]
    shapes += [Line(*a, *b, ours) for a, b in zip(places, places[1:], strict=False)]
    shapes += [Disc(*place(at, row.plain or 0.0), 3, theirs) for at, row in enumerate(steps)]
    for at in range(0, len(steps), max(1, len(steps) // 10)):
        shapes.append(Words(place(at, least)[0], top + high + 16, f"{at + 1}", 11, ink, anchor="middle"))
    return Drawing(left + wide + 20, top + high + 30, tuple(shapes))


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("training", __doc__)
    asked.add_argument("--models", type=Path, default=TRAINED, help="folder of the models (default experts/trained)")
    asked.add_argument("--expert", choices=DOMAINS, default="math", help="whose recipe (default math)")
    asked.add_argument("--steps", type=length, default=20, help="steps (default 20)")
    asked.add_argument("--rows", type=length, default=ROWS, help=f"rows of {LENGTH} tokens in a batch (default {ROWS})")
    asked.add_argument("--seed", type=seed, default=0, help="seed of the batches (default 0, that of the models)")
    options = asked.parse_args(arguments)
    if options.rows > ROWS:
        asked.error(f"argument --rows: {options.rows} given, a batch has {ROWS}")
    own = job(options.models, options.expert, options.steps, options.rows, options.seed)
    return show("training", options, COLUMNS, rows(own), curves)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
