"""How often each kernel of a plan runs, the product of the trips of the loops around it, and how these runs begin.

A `scan` says its trips itself. Those of a `while` loop, and which of several branches is taken, depend on values: who
asks for a price says them, by label. Nothing is guessed.

Each run is a launch, by software and by hardware. Where looped, a run of the kernel that is configured already is none:

    scan of 3 trips, body A       launch A | advance, A | advance, A            one launch
    scan of 2 trips, body A, B    launch A | launch B | launch A | launch B     the tile is configured anew each time
    A, A', B    (A' as A, but      launch A | argument, A' | launch B
                 for addresses)
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.graph.configuration import configuration
from rdujax.graph.graph import Graph, Node, all_nodes, node_labels
from rdujax.graph.plan import Plan, PlannedKernel, PlannedRegion
from rdujax.graph.regions import Branch, Loop


class Course:
    """What a person says of the course of a program: trips of `while` loops and indices of branches, by label.

    A loop or branch inside of a loop takes the same course in every trip of it. Equal loops that were joined turn as
    one, under the label of each. Raises UnknownNameError for a label that names none, ArgumentError for a number that
    cannot be, and for two numbers of one loop.
    """

    def __init__(self, graph: Graph, trips: Mapping[str, int] | None = None, branches: Mapping[str, int] | None = None):
        node_of, nodes = node_labels(graph), {node.label: node for node in all_nodes(graph)}
        op = {label: nodes[stands].op for label, stands in node_of.items()}
        loops = {label for label, each in op.items() if isinstance(each, Loop) and each.trips is None}
        choices = {label: len(each.branches) for label, each in op.items() if isinstance(each, Branch)}
        trips, branches = _by_label("trips", trips, loops), _by_label("branches", branches, choices)
        for label, number in trips.items():
            if label not in loops:
                raise unknown("while loop", label, loops, where="trips")
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ArgumentError(
                    describe("trips of a loop", given=repr(number), allowed="an int, 0 or more", where=label)
                )
        for label, index in branches.items():
            if label not in choices:
                raise unknown("branch", label, choices, where="branches")
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < choices[label]:
                allowed = f"an int from 0 to {choices[label] - 1}"
                raise ArgumentError(describe("index of a branch", given=repr(index), allowed=allowed, where=label))
        self.trips, self.branches = (_by_node(each, node_of) for each in (trips, branches))

    def turns(self, node: Node) -> tuple[int, ...]:
        """How often each body of a region runs when it is come to; ArgumentError where nobody said it."""
        if isinstance(node.op, Branch):
            count = len(node.op.branches)
            if node.label not in self.branches:
                raise _not_said("which branch is taken depends on values", "branches", node, f"0 to {count - 1}")
            return tuple(int(i == self.branches[node.label]) for i in range(count))
        assert isinstance(node.op, Loop)
        if node.op.trips is not None:
            return (node.op.trips,)
        if node.label not in self.trips:
            raise _not_said("how often a while loop turns depends on values", "trips", node, "a number")
        return self.trips[node.label], self.trips[node.label] + 1  # the condition is asked once more


def _by_label(argument: str, said: Any, labels: Collection[str]) -> Mapping[str, int]:
    """What is said, nothing for None; ArgumentError for what is no mapping."""
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        known = ", ".join(map(repr, sorted(labels)))
        example = f"for example {argument}={{{min(labels)!r}: 1}}" if labels else f"leave {argument} out"
        raise ArgumentError(
            describe(f"{argument} are numbers by label", given=repr(said), do=example,
                     allowed=f"a dictionary by the labels {known}" if known else "none: the program has no such label")
        )  # fmt: skip
    return said


def _by_node(said: Mapping[str, int], node_of: Mapping[str, str]) -> dict[str, int]:
    """What is said by the labels of nodes; ArgumentError where two labels of one node say different numbers."""
    found: dict[str, tuple[str, int]] = {}
    for label, number in said.items():
        first, other = found.setdefault(node_of[label], (label, number))
        if other != number:
            raise ArgumentError(
                describe("equal work was joined and takes one course", given=f"{first!r}: {other}, {label!r}: {number}",
                         do="give both the same number")
            )  # fmt: skip
    return {node: number for node, (_, number) in found.items()}


def _not_said(problem: str, argument: str, node: Node, what: str) -> ArgumentError:
    return ArgumentError(
        describe(
            problem,
            given=f"no entry for {node.label!r} in {argument}",
            allowed=what,
            where=node.source or node.label,
            do=f"say it: cost({argument}={{{node.label!r}: ...}})",
        )
    )


@dataclass(frozen=True)
class Launches:
    """One kernel of a plan, in all its runs.

    plan: the one that it is a step of. times: how often it runs. beginnings: how many of these runs begin with each of
    `units.agcu.launch.BEGINNINGS`; but where looped, all with a launch. inside: the regions around it.
    """

    plan: Plan
    kernel: PlannedKernel
    times: int
    beginnings: Mapping[str, int]
    inside: tuple[str, ...]


def launches(plan: Plan, course: Course) -> tuple[Launches, ...]:
    """Every kernel in the order of the text with how often it runs; ArgumentError where nobody said it."""
    begun: dict[str, dict[str, int]] = defaultdict(dict)
    for (name, beginning), times in passed(plan, course, None).runs.items():
        begun[name][beginning] = times
    return tuple(_launches(plan, course, 1, (), begun))


def _launches(
    plan: Plan, course: Course, times: int, inside: tuple[str, ...], begun: Mapping[str, Mapping[str, int]]
) -> Iterator[Launches]:
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            yield Launches(plan, step, times, begun.get(step.kernel.name, {}), inside)
            continue
        for name, body, turns in zip(step.op.body_names, step.plans, _turns(step, course, times), strict=True):
            yield from _launches(body, course, times * turns, (*inside, _named(step, name, turns)), begun)


def _turns(step: PlannedRegion, course: Course, times: int) -> tuple[int, ...]:
    """The turns of the bodies; of what is not come to, nobody needs to say them."""
    return course.turns(step.node) if times else (0,) * len(step.plans)


def _named(step: PlannedRegion, body: str, turns: int) -> str:
    if isinstance(step.op, Branch):
        return f"{step.node.label}, {body}"
    return f"{step.node.label}, {body} x {turns:,}"


@dataclass(frozen=True)
class Configured:
    """The kernel that the tile is configured for, and the plan that it is a step of."""

    plan: Plan
    kernel: PlannedKernel


@dataclass(frozen=True)
class Passed:
    """What running a plan once does. runs: of each kernel, by its name and their beginning. after: what is configured.

    None where that depends on values, or nothing is.
    """

    runs: Mapping[tuple[str, str], int]
    after: Configured | None


@dataclass(frozen=True)
class Turned:
    """What a region does: for each of its bodies, what its first run does and what each further one; and after all.

    goes_on: whether what is configured before it, and in one trip, is so in the next.
    """

    bodies: tuple[tuple[Passed, Passed], ...]
    after: Configured | None
    goes_on: bool


def passed(plan: Plan, course: Course, before: Configured | None) -> Passed:
    """What running a plan once does; before: what is configured then."""
    runs: Counter[tuple[str, str]] = Counter()
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            runs[step.kernel.name, beginning(plan, step, before)] += 1
            before = Configured(plan, step)
            continue
        turned = turns_of(step, course, before)
        for (first, further), turns in zip(turned.bodies, course.turns(step.node), strict=True):
            runs.update(first.runs)
            runs.update({key: (turns - 1) * times for key, times in further.runs.items()})
        before = turned.after
    return Passed(runs, before)


def turns_of(step: PlannedRegion, course: Course, before: Configured | None) -> Turned:
    """What a region does; before: what is configured when it begins.

    The AGCUs' schedule goes on from trip to trip of a loop whose trips are known. What values decide, whether a `while`
    loop turns again or which branch is taken, is launched anew.
    """
    goes_on = isinstance(step.op, Loop) and step.op.trips is not None
    before = before if goes_on else None
    bodies = []
    for body, turns in zip(step.plans, course.turns(step.node), strict=True):
        first = passed(body, course, before) if turns else Passed({}, before)
        further = passed(body, course, first.after) if turns and goes_on else first
        bodies.append((first, further))
    return Turned(tuple(bodies), bodies[0][1].after if goes_on else None, goes_on)


def beginning(plan: Plan, kernel: PlannedKernel, before: Configured | None) -> str:
    """How a run of a kernel begins: one of `units.agcu.launch.BEGINNINGS`.

    Where looped, a kernel is not launched that is configured already: its addresses advance, if it is the very kernel,
    which comes back in the next trip of a loop; they are loaded, if it is another one that differs in them alone.
    """
    if plan.orchestration != "looped" or before is None:
        return "launch"
    if before.kernel is kernel:
        return "advance"
    same = configuration(plan.graph, kernel) == configuration(before.plan.graph, before.kernel)
    return "argument" if same else "launch"
