"""Exact time of pipelines beside discrete-event simulation, in the same run: equal to the cycle, and how much faster.

Each pipeline is timed by the ledger and simulated with SimPy (processes written from the law in prose, those of
`tests/oracles/pipeline_simulation.py`). An event is the finish of one turn of one stage. The ratio is processor time of
the simulation over that of the ledger, both the shorter of some runs; above 1 the ledger is faster. Goals are those of
100,000 events. Turns that all differ cannot be extrapolated, so there the ratio is only that of two interpreters.

More rows: the error of the differentiable makespan of 10^12 iterations against the exact one, and the cycles of
one matrix product on one systolic array against SCALE-Sim's (for a single pass, K + rows + columns - 2); the time that
a timeline takes from the program to the file, held against the price in its last cycle.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, milliseconds, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from rdujax.ledger import Edge, Pipeline, Shared, Stage, makespan_cycles, schedule
from rdujax.units.pcu.contraction import Extent
from rdujax.units.pcu.systolic import Fork, cycles
from tests.oracles.pipeline_simulation import simulate

GOAL, TRACE_GOAL_S = 100.0, 10.0
EVENTS = 100_000
STAGES = 10


@dataclass(frozen=True, kw_only=True)
class Timed(Row):
    """One comparison. value: simulation time over ledger time, or what `unit` says.

    compared, mismatches: numbers compared, and how many of them differ. goal: the least ratio (the most seconds).
    """

    compared: int
    mismatches: int
    simulated_s: float | None = None
    ledger_s: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether nothing differs and the goal, if there is one, is met; None where there is none."""
        if self.mismatches or self.goal is None:
            return False if self.mismatches else None
        return self.value >= self.goal if self.unit == "x" else self.value <= self.goal


COLUMNS = (
    names("", 56),
    Column("compared", "compared", 9, ","),
    Column("mismatch", "mismatches", 9, ","),
    Column("value", "value", 10, ".4g"),
    Column("", "unit", 2, left=True),
    *goals(),
    milliseconds("SimPy", "simulated_s"),
    milliseconds("ledger", "ledger_s"),
)


def _services(count: int) -> list[int]:
    """Unequal services of 50 to 100 cycles, always the same."""
    return np.random.default_rng(0).integers(50, 101, count).tolist()


def chain_with_skips() -> Pipeline:
    """Ten stages, and two edges that skip over most of them."""
    stages = [Stage(f"s{i}", service) for i, service in enumerate(_services(STAGES))]
    edges = [Edge(f"s{i}", f"s{i + 1}", 2) for i in range(STAGES - 1)]
    return Pipeline(tuple(stages), (*edges, Edge("s0", f"s{STAGES - 1}", STAGES), Edge("s2", "s7", 3)))


def chain_with_a_port() -> Pipeline:
    """The same, with the first and the last stage at one port."""
    plain = chain_with_skips()
    return Pipeline(plain.stages, plain.edges, (Shared("port", ("s0", f"s{STAGES - 1}")),))


def rates_and_barriers() -> Pipeline:
    """A load of 20 tiles, a transpose of all of them, a sum over the stream and a store beside the load."""
    tiles = 20
    services = _services(5)
    names = ("load", "multiply", "across", "sum")
    stages = [Stage(name, service, repeats=tiles) for name, service in zip(names, services, strict=False)]
    edges = (
        Edge("load", "multiply", 2),
        Edge("multiply", "across", 2 * tiles, consumed=tiles, reuse=tiles),
        Edge("across", "sum", 2),
        Edge("sum", "store", 2, every=tiles),
    )
    return Pipeline((*stages, Stage("store", services[-1])), edges, (Shared("hbm", ("load", "store")),))


def _shortest(run: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """The result, and the shortest processor time: on a shared machine, wall-clock time measures the neighbours."""
    best, result = float("inf"), None
    for _ in range(rounds):
        start = time.process_time()
        result = run()
        best = min(best, time.process_time() - start)
    return result, best


def _against_simulation(name: str, pipeline: Pipeline, events: int, goal: float | None, ragged: bool) -> Timed:
    progress(name)
    turns = sum(stage.repeats for stage in pipeline.stages)
    iterations = events // turns
    rng = np.random.default_rng(1)
    drawn = {s.name: rng.integers(1, 101, iterations * s.repeats) for s in pipeline.stages}
    listed = {stage: services.tolist() for stage, services in drawn.items()} if ragged else None
    simulated, simulated_s = _shortest(lambda: simulate(pipeline, iterations, listed), 2)
    timed, ledger_s = _shortest(lambda: schedule(pipeline, iterations, drawn if ragged else None), 7)
    mismatches = sum(int((timed.finish[stage] != finish).sum()) for stage, finish in simulated.items())
    ratio = simulated_s / ledger_s
    return Timed(
        row=f"{name}, {events:,} events",
        value=ratio,
        unit="x",
        goal=goal,
        compared=iterations * turns,
        mismatches=mismatches,
        simulated_s=simulated_s,
        ledger_s=ledger_s,
    )


def _smooth(pipeline: Pipeline) -> Timed:
    """Relative error of the differentiable makespan."""
    iterations = 10**12
    relaxed = Pipeline(
        tuple(Stage(s.name, jnp.float32(s.service_cycles), repeats=s.repeats) for s in pipeline.stages),
        pipeline.edges,
        pipeline.shared,
    )
    exact, exact_s = _shortest(lambda: makespan_cycles(pipeline, iterations), 3)
    smooth = float(makespan_cycles(relaxed, iterations))
    name = "chain at a port, 10^12 iterations, float32"
    error = abs(smooth / exact - 1)
    return Timed(row=name, value=error, unit="", compared=1, mismatches=int(error > 1e-5), ledger_s=exact_s)


def _systolic() -> Timed:
    """Cycles of one pass, against the published form."""
    shapes = [(r, c, k) for r in (1, 4, 16, 32) for c in (1, 6, 16) for k in (1, 64, 2048)]
    differ = sum(cycles(r, c, Extent(1, r, c, k), Fork(1, 1)) != k + r + c - 2 for r, c, k in shapes)
    return Timed(row="one systolic pass, cycles", value=differ, unit="", compared=len(shapes), mismatches=differ)


def product(a: rdu.Stream, b: rdu.Stream) -> rdu.Stream:
    """A kernel of four stages, two loads and a store included."""
    return rdu.simd(lambda x, y: x * y, a, b)  # not emulated: this is what gets timed


def _traces(events: int, goal: float | None) -> Iterator[Timed]:
    """Seconds to time a program with so many turns of stages and to write its trace, in either format."""
    x = jax.ShapeDtypeStruct((events // 4, 64), jnp.bfloat16)
    program = rdu.kernel(tiles={"a": (1, 64), "b": (1, 64)})(product).program(x, x)
    cost, clock = program.cost(), program.machine.clock_hz.value
    with TemporaryDirectory() as folder:
        for suffix in (".json", ".pftrace"):
            progress(suffix)
            file = Path(folder) / f"trace{suffix}"
            _, seconds = _shortest(lambda file=file: program.timeline().save(file), 1)
            timeline = program.timeline()
            drawn = sum(len(track.turns) for kernel in timeline.kernels for track in kernel.tracks)
            wrong = int(drawn != events) + int(timeline.cycles != cost.total_s * clock)
            what = f"trace of {events:,} turns of stages, {suffix}"
            yield Timed(row=what, value=seconds, unit="s", goal=goal, compared=drawn, mismatches=wrong)


def rows(quick: bool) -> Iterator[Timed]:
    """All comparisons; `quick` times a tenth of the events, for which there is no goal."""
    events, goal = (EVENTS // 10, None) if quick else (EVENTS, GOAL)
    for name, pipeline in (
        ("chain with skips", chain_with_skips()),
        ("chain with a shared port", chain_with_a_port()),
        ("rates, a barrier and a port", rates_and_barriers()),
    ):
        yield _against_simulation(name, pipeline, events, goal, ragged=False)
    yield _against_simulation("chain with skips, every turn different", chain_with_skips(), events, goal, ragged=True)
    yield _smooth(chain_with_a_port())
    yield _systolic()
    yield from _traces(events, None if quick else TRACE_GOAL_S)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    options = parser("time", __doc__, quick="a tenth of the events").parse_args(arguments)
    return show("time", options, COLUMNS, rows(options.quick))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
