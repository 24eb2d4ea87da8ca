"""How often each kernel of a plan is launched: the product of the trips of the loops around it.

A `scan` says its trips itself. Those of a `while` loop, and which of several branches is taken, depend on values: who
asks for a price says them, by label. Nothing is guessed.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rdujax.base.errors import ArgumentError, describe, unknown
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
    """One kernel of a plan, in all its launches. plan: the one that it is a step of. inside: the regions around it."""

    plan: Plan
    kernel: PlannedKernel
    times: int
    inside: tuple[str, ...]


def launches(plan: Plan, course: Course) -> tuple[Launches, ...]:
    """Every kernel in the order of the text with how often it is launched; ArgumentError where nobody said it."""
    return tuple(_launches(plan, course, 1, ()))


def _launches(plan: Plan, course: Course, times: int, inside: tuple[str, ...]) -> Iterator[Launches]:
    for step in plan.steps:
        if isinstance(step, PlannedKernel):
            yield Launches(plan, step, times, inside)
            continue
        for name, body, turns in zip(step.op.body_names, step.plans, _turns(step, course, times), strict=True):
            yield from _launches(body, course, times * turns, (*inside, _named(step, name, turns)))


def _turns(step: PlannedRegion, course: Course, times: int) -> tuple[int, ...]:
    """The turns of the bodies; of what is not come to, nobody needs to say them."""
    return course.turns(step.node) if times else (0,) * len(step.plans)


def _named(step: PlannedRegion, body: str, turns: int) -> str:
    if isinstance(step.op, Branch):
        return f"{step.node.label}, {body}"
    return f"{step.node.label}, {body} x {turns:,}"
