"""What a sweep found: relaxed times of a program on many machines, and exact prices of those that are asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rdujax.base.errors import ArgumentError, CapacityError, describe
from rdujax.compiler.program import Program
from rdujax.estimate.price import ProgramCost
from rdujax.machines.machine import Machine

Index = int | tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """One machine of a sweep. relaxed_s: its time as the sweep has it. exact_s: the exact price of the same plan."""

    index: Index
    values: dict[str, int | float]
    relaxed_s: float
    exact_s: float

    def __str__(self) -> str:
        facts = ", ".join(f"{path}={value:.6g}" for path, value in self.values.items())
        return f"{facts}: {self.exact_s * 1e6:,.2f} us exact, {self.relaxed_s * 1e6:,.2f} us relaxed"


@dataclass(frozen=True, eq=False)
class Sweep:
    """Relaxed times of a program on many machines.

    They are of the closed form of a pipeline, in float64: the same as the exact price but for the last bits, or less
    where a stage waits for a free slot of a buffer (a float may also take a whole quotient for one cycle more).
    `exact`, `best` and `gap` price variants exactly. An index is a number, or one for every axis of a grid.

    program: the one that was asked about. values: of every fact that varies, by path, of the shape of the sweep.
    run_s, launch_s: seconds of kernels and of launches, float64 of that shape; infinite where the program does not fit
    on the machine. plans: the program planned for every combination of facts that decide a plan, or why it does not
    fit; plan_of: which of them a variant has. Arrays are read only.
    """

    program: Program
    values: Mapping[str, np.ndarray]
    run_s: np.ndarray
    launch_s: np.ndarray
    plans: tuple[Program | CapacityError, ...]
    plan_of: np.ndarray
    trips: Mapping[str, int] | None
    branches: Mapping[str, int] | None

    @property
    def total_s(self) -> np.ndarray:
        """Seconds of everything, relaxed."""
        return self.run_s + self.launch_s

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,) for variants side by side, or the lengths of the axes of a grid in the order of the facts."""
        return self.run_s.shape

    def __len__(self) -> int:
        return self.run_s.size

    def machine(self, index: Index) -> Machine:
        """The machine of a variant; ArgumentError for an index that the sweep does not have, here and below."""
        return self.program.machine.replace(self._values(self._place(index)))

    def planned(self, index: Index) -> Program:
        """The program under the plan that a variant is priced with; raises its CapacityError where it does not fit.

        `program.replace(machine=sweep.machine(index))` is planned for all facts of the variant.
        """
        plan = self.plans[self.plan_of[self._place(index)]]
        if isinstance(plan, CapacityError):
            raise plan
        return plan

    def exact(self, index: Index) -> ProgramCost:
        """The exact price of a variant under the plan of the sweep; raises as `planned`."""
        return self.planned(index).cost(self.machine(index), trips=self.trips, branches=self.branches)

    def best(self, count: int = 1) -> tuple[Variant, ...]:
        """The fastest variants in the order of their relaxed times, equal ones in that of the sweep, priced exactly.

        Fewer where the program fits on fewer. Raises ArgumentError for a count that is none.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ArgumentError(describe("how many variants", given=repr(count), allowed="an int, 1 or more"))
        order = np.argsort(self.total_s, axis=None, kind="stable")[: min(count, self._fitting().size)]
        return tuple(map(self._variant, order))

    def gap(self, samples: int = 32) -> float:
        """The largest share of the exact time by which the relaxed one differs, of some variants all over the sweep."""
        fitting = self._fitting()
        some = fitting[np.unique(np.linspace(0, fitting.size - 1, min(samples, fitting.size)).astype(int))]
        found = [self._variant(at) for at in some]
        return max((abs(v.relaxed_s - v.exact_s) / v.exact_s for v in found if v.exact_s), default=0.0)

    def rows(self) -> Iterator[dict[str, float]]:
        """Every variant as a row of a table: its facts, then run_s, launch_s and total_s, relaxed."""
        for place in np.ndindex(self.shape):
            times = {"run_s": self.run_s[place], "launch_s": self.launch_s[place], "total_s": self.total_s[place]}
            yield {**self._values(place), **{name: float(time) for name, time in times.items()}}

    def __str__(self) -> str:
        plans = [plan for plan in self.plans if isinstance(plan, Program)]
        lines = [f"{len(self):,} machines, {len(plans):,} plan{'' if len(plans) == 1 else 's'}, relaxed times"]
        if missing := len(self) - self._fitting().size:
            lines.append(f"on {missing:,} of them it does not fit")
        lines += [f"{path} from {row.min():.6g} to {row.max():.6g}" for path, row in self.values.items()]
        return "\n  ".join([*lines, *(f"best {each}" for each in self.best())])

    def _fitting(self) -> np.ndarray:
        return np.flatnonzero(np.isfinite(self.run_s))

    def _variant(self, at: Any) -> Variant:
        place = tuple(map(int, np.unravel_index(at, self.shape)))
        index = place[0] if len(place) == 1 else place
        return Variant(index, self._values(place), float(self.total_s[place]), float(self.exact(index).total_s))

    def _values(self, place: tuple[int, ...]) -> dict[str, int | float]:
        return {path: row[place].item() for path, row in self.values.items()}

    def _place(self, index: Any) -> tuple[int, ...]:
        """An index as one number for every axis."""
        place = index if isinstance(index, tuple) else (index,)
        known = [isinstance(i, int | np.integer) and not isinstance(i, bool) for i in place]
        if not all(known) or len(place) != len(self.shape):
            given, allowed = repr(index), f"{len(self.shape)} whole number{'' if len(self.shape) == 1 else 's'}"
            raise ArgumentError(describe("no index of a variant", given=given, allowed=allowed))
        if not all(0 <= i < n for i, n in zip(place, self.shape, strict=True)):
            raise ArgumentError(
                describe("no such variant", given=repr(index), allowed=f"less than {self.shape}, from 0")
            )
        return tuple(map(int, place))
