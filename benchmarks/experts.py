"""How often the trained experts are right, by domain and wording: base, experts, a monolith, and all behind the router.

Recomputed from the committed checkpoints, on questions whose contents were never trained on: exact answers, results of
worked steps, and code and SQL by running them. "seen" wordings were trained on, "held" ones never. The composition is
asked as a user asks it: the router decides, its mistakes count. The monolith has the size of one expert, begins as the
same base model, and was trained as long as the router and all experts together. Other models' answers in an expert's
row are the matrix that shows why there is a router; they are of a quarter of the questions. The router is also asked
"rough" prompts, held-out wordings as typed in a hurry, and 72 that were written by hand; rows "... prompts go to" are
its confusion matrix.

Margins are over seeds: the least composition against the best monolith of those of which scores are kept in
experts/trained/seeds (made by ./scripts/train-experts --seed N --out FOLDER), and of these checkpoints, recomputed. Of
fewer than three seeds there is a margin, but no verdict.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from experts.composition import TRAINED, Composition
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, WORDINGS
from experts.exam import ROUTED, TOGETHER, Exam, Grades, Routing, mean
from rdujax.cli.options import length, seed
from rdujax.compiler.drawing import Drawing, Rectangle, Shape, Style, Words

COMPOSED = {"seen": 0.93, "held": 0.85}  # of the composition, on average over domains
GOOD, MANY = 0.9, 6  # so many domains are above that, in seen wordings
TOP = 0.95  # of prompts in held-out wordings that go to their expert
SEEDS = "seeds"  # beside the models: scores of other seeds
FEWEST = 3  # seeds without which there is no spread, and no verdict on what is beyond it
LOW = 6  # tasks that are named as the worst
INK = Style("#222222")


@dataclass(frozen=True, kw_only=True)
class Graded(Row):
    """A share of right answers, or a number of domains; a goal is the least that is aimed at.

    value: the mean over domains. shares: by domain. tasks: of the domains' own experts, "domain: task".
    """

    wordings: str
    shares: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached or passed."""
        return None if self.goal is None else self.value >= self.goal


def _shown(row: Graded, number: float) -> str:
    return f"{number:.1%}" if row.unit == "1" else f"{number:g}"


def _share(label: str) -> Column:
    return Column(label, lambda row: row.shares.get(label), max(6, len(label)), ".1%")


COLUMNS = (
    Column("", "wordings", 7, left=True),
    names("", 28),
    Column("mean", lambda row: _shown(row, row.value), 6),
    *map(_share, (*DOMAINS, OTHER)),
    Column("goal", lambda row: None if row.goal is None else _shown(row, row.goal), 6),
    goals()[1],
)


def rows(exam: Exam, kept: list[dict[str, dict[str, float]]]) -> Iterator[Graded]:
    """Both kinds of wordings after each other, then the router. kept: of other seeds, as `margins_of` gives them."""
    for wordings in WORDINGS:
        grades = exam.grades(wordings)
        yield from _grades(wordings, grades)
        yield from _margins(wordings, [*kept, margins_of(wordings, grades)])
    for kind in ROUTED:
        yield from _routing(kind, exam.routing(kind))


def margins_of(wordings: str, grades: Grades) -> dict[str, dict[str, float]]:
    """What the margin over seeds is made of."""
    return {wordings: {"composition": mean(grades.composition), "monolith": mean(grades.models["monolith"])}}


def _grades(wordings: str, grades: Grades) -> Iterator[Graded]:
    for name, shares in grades.models.items():
        title = name if name in TOGETHER else f"{name} expert"
        yield Graded(row=title, value=mean(shares), unit="1", wordings=wordings, shares=shares)
    tasks = {f"{domain}: {task}": share for domain, own in grades.tasks.items() for task, share in own.items()}
    own, composed = grades.perfect, grades.composition
    yield Graded(row="each domain by its expert", value=mean(own), unit="1", wordings=wordings, shares=own, tasks=tasks)
    yield Graded(
        row="composition", value=mean(composed), unit="1", wordings=wordings, shares=composed, goal=COMPOSED[wordings]
    )
    above = sum(share > GOOD for share in composed.values())
    goal = MANY if wordings == "seen" else None
    yield Graded(row=f"domains above {GOOD:.0%}", value=above, unit="domains", wordings=wordings, goal=goal)


def _margins(wordings: str, seeds: list[dict[str, dict[str, float]]]) -> Iterator[Graded]:
    own = [each[wordings] for each in seeds if wordings in each]
    least, best = min(each["composition"] for each in own), max(each["monolith"] for each in own)
    title = f"margin over monoliths, {len(own)} seed{'s' * (len(own) > 1)}"
    yield Graded(row=title, value=least - best, unit="1", wordings=wordings, goal=0.0 if len(own) >= FEWEST else None)


def _routing(wordings: str, routing: Routing) -> Iterator[Graded]:
    goal = TOP if wordings == "held" else None
    yield Graded(row="router, first choice", value=routing.top1, unit="1", wordings=wordings, goal=goal)
    yield Graded(row="router, first two", value=routing.top2, unit="1", wordings=wordings)
    yield Graded(row="router, calibration error", value=routing.ece, unit="1", wordings=wordings)
    for label, shares in routing.confusion.items():
        own = shares.get(label, 0.0)
        yield Graded(row=f"{label} prompts go to", value=own, unit="1", wordings=wordings, shares=shares)


def kept_seeds(folder: Path) -> list[dict[str, dict[str, float]]]:
    """What the margin is made of, from the scores of other seeds beside the models."""
    found = []
    for path in sorted((folder / SEEDS).glob("*.json")):
        scores = json.loads(path.read_text())
        found.append({
            wordings: {"composition": mean(each["composition"]), "monolith": mean(each["models"]["monolith"])}
            for wordings, each in scores["wordings"].items()
        })  # fmt: skip
    return found


def notes(found: list[Graded]) -> Iterator[str]:
    """The tasks at which experts are worst."""
    tasks = {(each.wordings, task): share for each in found for task, share in each.tasks.items()}
    worst = sorted(tasks, key=lambda at: tasks[at])[:LOW]
    yield ""
    yield "Worst tasks: " + ", ".join(
        f"{task} in {wordings} wordings {tasks[wordings, task]:.0%}" for wordings, task in worst
    )


def matrix(found: list[Graded]) -> Drawing:
    """Who is right where: a field for each model and domain, the darker the more often; both wordings side by side."""
    shapes: list[Shape] = []
    left, top, side, gap = 190.0, 60.0, 46.0, 40.0
    for block, wordings in enumerate(COMPOSED):
        x0 = left + block * (side * len(DOMAINS) + gap)
        asked = (row for row in found if row.wordings == wordings and row.shares)
        models = [row for row in asked if not row.row.endswith("go to")]
        shapes.append(Words(x0, top - 34, f"{wordings} wordings", 13, INK, bold=True))
        for i, domain in enumerate(DOMAINS):
            shapes.append(Words(x0 + side * (i + 0.5), top - 8, domain, 10, INK, anchor="middle"))
        for j, row in enumerate(models):
            y = top + j * side / 2
            if not block:
                shapes.append(Words(left - 8, y + 16, row.row, 12, INK, anchor="end"))
            for i, domain in enumerate(DOMAINS):
                shapes += _field(x0 + i * side, y, side, row.shares[domain])
    bottom = max((shape.y for shape in shapes if isinstance(shape, Rectangle)), default=top) + side / 2
    return Drawing(left + 2 * side * len(DOMAINS) + gap + 20, bottom + 20, tuple(shapes))


def _field(x: float, y: float, side: float, share: float) -> Iterator[Shape]:
    """One share: its colour, and the number in it."""
    red, green, blue = (round(255 + share * (end - 255)) for end in (0, 114, 178))
    yield Rectangle(x, y, side - 2, side / 2 - 2, Style(f"#{red:02x}{green:02x}{blue:02x}"), f"{share:.1%}")
    ink = Style("#ffffff") if share > 0.5 else INK
    yield Words(x + side / 2 - 1, y + 15, f"{share:.0%}", 10, ink, anchor="middle")


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("experts", __doc__)
    asked.add_argument("--models", type=Path, default=TRAINED, help="folder of the models (default experts/trained)")
    asked.add_argument("--count", type=length, default=200, help="questions of each domain and kind (default 200)")
    asked.add_argument("--seed", type=seed, default=0, help="seed of the questions (default 0)")
    options = asked.parse_args(arguments)
    exam = Exam(Composition(options.models), options.count, options.seed, progress)
    return show("experts", options, COLUMNS, rows(exam, kept_seeds(options.models)), matrix, notes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
