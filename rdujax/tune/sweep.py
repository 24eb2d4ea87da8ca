"""Design sweeps: what a compiled program would cost on very many machines, and which of them are the best.

A plan rests on how many units there are and how much they hold (`decides`). Variants that differ in such facts are
planned anew, once for all that have the same; those that differ in bandwidths, clocks, latencies and overheads keep the
plan, and are priced under `jax.vmap`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rdujax.base import compat
from rdujax.base.errors import ArgumentError, CapacityError, describe
from rdujax.base.progress import progress as on_terminal
from rdujax.compiler.program import Program, decides
from rdujax.graph.launches import Course, launches
from rdujax.tune.batch import relaxed_seconds
from rdujax.tune.result import Sweep
from rdujax.tune.variants import columns

Report = Callable[[str], None]
Planned = Program | CapacityError


def sweep(
    program: Program,
    values: Mapping[str, Any],
    *,
    grid: bool = False,
    trips: Mapping[str, int] | None = None,
    branches: Mapping[str, int] | None = None,
    mesh: jax.sharding.Mesh | None = None,
    most_plans: int = 64,
    progress: Report = on_terminal,
) -> Sweep:
    """Prices a compiled program on very many machines.

    values: numbers [n] by the path of a fact, for example {"hbm.bandwidth_bytes_per_s": [1.6e12, 2e12]}; all other
    facts are those of the program's machine. Rows of equal length are variants side by side; with `grid`, every value
    is priced with every other, one axis for each fact in their order.
    trips, branches: as for `Program.cost`. mesh: devices to share the variants out to, along all of its axes; the
    times are the same. progress: told in a few words how far the sweep is, and "" in the end; by default a line on a
    terminal.
    most_plans: how many combinations of facts that decide a plan there may be (of `pcu`, `pmu` and `agcu`, and
    capacities). The program is compiled again for each, which takes as long as `compile` did; where it does not fit,
    times are infinite and `planned` raises why. All other facts are priced under the plan that was made for the
    program's own: on a machine that is far from it, another plan may be faster (`Sweep.planned`).

    No derivatives: those of a price are `jax.grad` of `program.cost`. Raises as `columns` for values, and ArgumentError
    for loops and branches whose course is not said, for more plans than `most_plans`, and for a mesh without devices.
    """
    if not isinstance(program, Program):
        do = "rdujax.compile(...), or the .program(*args) of a kernel, gives one"
        raise ArgumentError(describe("what is swept is a program", given=repr(program)[:80], do=do))
    mesh = _checked_mesh(mesh)
    tuple(launches(program.plan, Course(program.graph, trips, branches)))  # raises for what is not said
    varied = columns(program.machine, values, grid)
    rows = {path: column.reshape(-1) for path, column in varied.items()}
    combinations, plan_of = _combinations(rows, most_plans)
    try:
        plans = tuple(_plans(program, combinations, progress))
        own = {"clock_hz": np.full(plan_of.size, float(program.machine.clock_hz.value))}
        kept = own | {path: row for path, row in rows.items() if not decides(path)}
        run_s, launch_s = _times(plans, plan_of, kept, {"trips": trips, "branches": branches}, mesh, progress)
    finally:
        progress("")
    shape = next(iter(varied.values())).shape
    run_s, launch_s, plan_of = (_read_only(each.reshape(shape)) for each in (run_s, launch_s, plan_of))
    return Sweep(program, varied, run_s, launch_s, plans, plan_of, trips, branches)


def _checked_mesh(mesh: Any) -> jax.sharding.Mesh | None:
    """The mesh, its axes left to XLA; ArgumentError for what has no devices."""
    if mesh is None:
        return None
    if not isinstance(mesh, jax.sharding.Mesh) or mesh.empty:
        raise ArgumentError(describe("a mesh of devices", given=repr(mesh), allowed="a jax.sharding.Mesh, or None"))
    return compat.automatic(mesh)


def _combinations(rows: Mapping[str, np.ndarray], most: int) -> tuple[list[dict[str, int]], np.ndarray]:
    """Every combination of values that decide a plan, and for every variant which it has [n]."""
    paths, count = [path for path in rows if decides(path)], len(next(iter(rows.values())))
    if not paths:
        return [{}], np.zeros(count, int)
    table, plan_of = np.unique(np.stack([rows[path] for path in paths], axis=1), axis=0, return_inverse=True)
    if len(table) > most:
        raise ArgumentError(
            describe(
                "more plans than a sweep makes: these facts decide how a program is planned",
                given=f"{len(table):,} combinations of {', '.join(paths)}",
                allowed=f"{most:,}, as most_plans says",
                do="take fewer values of them, or give a larger most_plans: each takes as long as to compile",
            )
        )
    return [dict(zip(paths, map(int, line), strict=True)) for line in table], plan_of.reshape(-1)


def _plans(program: Program, combinations: Sequence[Mapping[str, int]], progress: Report) -> Iterator[Planned]:
    """The program planned for each combination of facts, or why it does not fit."""
    own = program.machine.facts()
    for at, facts in enumerate(combinations):
        if all(own[path].value == value for path, value in facts.items()):
            yield program
            continue
        said = ", ".join(f"{path}={value:,}" for path, value in facts.items())
        progress(f"sweep: plan {at + 1} of {len(combinations)}, {said}")
        try:
            yield program.replace(machine=program.machine.replace(dict(facts)))
        except CapacityError as error:
            yield error


def _times(
    plans: Sequence[Planned], plan_of: np.ndarray, rows: Mapping[str, np.ndarray], numbers: Mapping[str, Any],
    mesh: jax.sharding.Mesh | None, progress: Report,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Seconds of kernels and of launches of every variant [n], infinite where it does not fit."""
    run_s, launch_s = np.full(plan_of.size, np.inf), np.full(plan_of.size, np.inf)
    done = 0
    for at, plan in enumerate(plans):
        mine = np.flatnonzero(plan_of == at)
        if isinstance(plan, CapacityError):
            done += mine.size
            continue
        progress(f"sweep: {done:,} of {plan_of.size:,} machines")
        own = {path: row[mine] for path, row in rows.items()}
        for part, run, launch in relaxed_seconds(plan, own, numbers, mesh):
            run_s[mine[part]], launch_s[mine[part]] = run, launch
            done += run.size
            progress(f"sweep: {done:,} of {plan_of.size:,} machines")
    return run_s, launch_s


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
