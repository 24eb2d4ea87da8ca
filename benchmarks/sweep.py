"""How fast very many machines are priced: a compiled model on each of them, relaxed, and how far that is from exact.

Bandwidths, the clock, latencies and launches are drawn from half to twice those of the machine; in the second row, the
number of PCUs too, for each of which the model is planned again. Seconds are of the wall clock: of the first sweep of
its kind in this process, with all that it plans, traces and compiles, and of the same one again. Beside them, how long
exact prices one by one would take, from those of a few machines, and the largest difference between relaxed and exact
times among these, as a share of the exact one. The goal is that of decoding on 100,000 machines.
"""

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.calls import MODEL_CACHE, MODELS
from benchmarks.models.parallel import shared_call

CONTEXT = 4096  # positions of the cache, and tokens of the prompt
MACHINES, GOAL_S = 100_000, 10.0
SAMPLES = 24  # machines that are priced exactly
PCU_COUNTS = 8
VARIED = (
    "clock_hz", "hbm.bandwidth_bytes_per_s", "ddr.bandwidth_bytes_per_s", "p2p.bandwidth_bytes_per_s", "p2p.latency_s",
    "launch.program_load_s", "launch.argument_load_s", "launch.execute_s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Swept(Row):
    """One sweep. value, again_s: seconds of the first and of the second time. one_by_one_s: of exact prices.

    plans: how many it has. gap: the largest difference of a relaxed time from the exact one, as a share of that.
    """

    machines: int
    plans: int
    again_s: float
    one_by_one_s: float
    gap: float

    @property
    def faster(self) -> float:
        """How much faster the first sweep is than exact prices one by one."""
        return self.one_by_one_s / self.value


COLUMNS = (
    names("facts that vary", 36),
    Column("machines", "machines", 9, ","),
    Column("plans", "plans", 5),
    Column("again", "again_s", 7, ".2f", group="seconds"),
    Column("first", "value", 7, ".2f", group="seconds"),
    *goals(),
    Column("exact, s", "one_by_one_s", 9, ",.0f"),
    Column("faster", "faster", 7, ",.0f"),
    Column("gap", "gap", 8, ".1e"),
)


def rows(program: rdu.Program, machines: int, goal: float | None) -> Iterator[Swept]:
    """A sweep that keeps the plan, and one over PCUs too."""
    rng, facts = np.random.default_rng(0), program.machine.facts()
    values = {path: float(facts[path].value) * 2 ** rng.uniform(-1, 1, machines) for path in VARIED}
    yield _swept(f"{len(VARIED)} that keep the plan", program, values, goal)
    most = int(facts["pcu.count"].value)
    counts = [most * eighths // PCU_COUNTS for eighths in range(PCU_COUNTS // 2 + 1, PCU_COUNTS * 3 // 2 + 1)]
    yield _swept("and the number of PCUs", program, {**values, "pcu.count": rng.choice(counts, machines)}, goal)


def _swept(name: str, program: rdu.Program, values: Mapping[str, np.ndarray], goal: float | None) -> Swept:
    progress(name)
    start = time.perf_counter()
    found = rdu.sweep(program, values)
    first_s = time.perf_counter() - start
    start = time.perf_counter()
    rdu.sweep(program, values)
    again_s = time.perf_counter() - start
    some = np.linspace(0, len(found) - 1, SAMPLES).astype(int)
    start = time.perf_counter()
    for i in some:
        _ = found.exact(i).total_s
    exact_s = (time.perf_counter() - start) / len(some)
    return Swept(
        row=name,
        value=first_s,
        unit="s",
        goal=goal,
        machines=len(found),
        plans=len(found.plans),
        again_s=again_s,
        one_by_one_s=exact_s * len(found),
        gap=found.gap(SAMPLES),
    )


def count(text: str) -> int:
    """A number of machines from the command line: 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of machines")
    return int(text)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("sweep", __doc__)
    asked.add_argument("model", nargs="?", default="Llama2-7B", choices=MODELS, help="which model (Llama2-7B)")
    asked.add_argument("--phase", choices=("decode", "prefill"), default="decode", help="a token or a prompt (decode)")
    asked.add_argument("--sockets", type=int, choices=(1, 2, 4, 8), default=8, help="tensor-parallel on so many (8)")
    asked.add_argument("--machines", type=count, default=MACHINES, help=f"how many ({MACHINES:,})")
    options = asked.parse_args(arguments)
    config, tokens = MODELS[options.model], 1 if options.phase == "decode" else CONTEXT
    fn, args = shared_call(config, options.sockets, tokens, CONTEXT)
    progress(f"compile {options.model}")
    program = rdu.compile(fn, *args, donate_argnums=MODEL_CACHE)
    goal = GOAL_S if (options.machines, options.phase) == (MACHINES, "decode") else None
    return show("sweep", options, COLUMNS, rows(program, options.machines, goal))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
