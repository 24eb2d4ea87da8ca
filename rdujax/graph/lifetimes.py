"""When each place in memory is in use: lifetimes over the launches of a planned program.

Time is a row of moments in the order of the text: one for each kernel, and one where the program or a body begins and
ends. A kernel holds what it loads and what it writes for its whole moment. Then

    a value      from the moment that writes it to the last that reads it
    arguments    always: the program only reads them, and the next call finds them as they were
    a body       runs many times, so that the constants, the xs and the ys of a loop are there for all of its moments;
                 a slice of an x or y is an address in the whole of it
    the carry    from its last writing to the end of the body, and from the beginning to its last reading. Where these
                 overlap it has two places, which the trips use in turn; otherwise one. The first trip reads it where
                 its first value lies. Those of a `while` loop are kept as long as the result: it lies where the last
                 trip left it, and where no trip turned, it is the first value
    branches     only one of them runs: what lies in one may lie where another has its own
    an update    whose result takes the place of its operand has no place of its own (see `inplace.py`), and neither has
                 the carry, or the ys, that come of it
    given away   an argument that nobody needs afterwards: from the beginning to the last that reads it

Two places may share addresses where they have no moment in common.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rdujax.base.errors import ArgumentError, describe
from rdujax.graph.graph import Graph, Region
from rdujax.graph.memory import Move
from rdujax.graph.plan import Plan, PlannedKernel, PlannedRegion
from rdujax.graph.regions import Loop
from rdujax.ops.op import TensorType

# Turns that a `while` loop is taken to make where what is moved most is sought; how often it turns only a run decides.
ASSUMED_TRIPS = 16


@dataclass(eq=False)
class Place:
    """One place in memory. value: the one that it is named after.

    alive: its moments, as bits of a number. is_argument: an input or a constant, which nothing writes. moves: what
    kernels load and store there. What is read where a carry has two places, in turns, is said of one of them.
    """

    value: int
    label: str
    kind: TensorType
    alive: int = 0
    is_argument: bool = False
    moves: list[Move] = field(default_factory=list)


@dataclass(frozen=True)
class Lifetimes:
    """All places of a program, in the order in which they are met.

    kernels: for each moment, the number of the kernel that runs in it, or None. moved_bytes: by value, what all
    launches load and write of it; a `while` loop counts as ASSUMED_TRIPS turns, and every branch as taken.
    """

    places: tuple[Place, ...]
    kernels: tuple[int | None, ...]
    moved_bytes: Mapping[int, int]


def lifetimes(plan: Plan) -> Lifetimes:
    """The places of a planned program and when each is in use.

    Raises ArgumentError where a body returns what is not its own, which would mean a mistake of the compiler.
    """
    walk = _Walk()
    walk.body(plan, {}, 1)
    always = _moments(0, walk.now)
    for place in walk.places:
        if place.is_argument:
            place.alive = always
    return Lifetimes(tuple(walk.places), tuple(walk.kernels), walk.moved_bytes)


def tied(graph: Graph, together: Mapping[int, int] = MappingProxyType({})) -> dict[int, int]:
    """Which values rest in one tier together: for every value, also of graphs inside, one that stands for all of them.

    A body's inputs and outputs are tied to what they are, or are slices of, outside; a loop's carry to its first value;
    and what takes the place of another value, now or in the next call, to that: `together`, see `inplace.py`.
    """
    parents: dict[int, int] = {}
    _tie(graph, parents)
    _join(parents, list(together), list(together.values()))
    return {value: _end(parents, value) for value in sorted(parents)}


def _tie(graph: Graph, parents: dict[int, int]) -> None:
    parents |= {value: value for value in graph.types}
    for node in graph.nodes:
        if not isinstance(node.op, Region):
            continue
        for body, given in zip(node.op.bodies, node.op.given(node.operands), strict=True):
            _tie(body, parents)
            _join(parents, given, body.inputs)
        for body in node.op.bodies[:1] if isinstance(node.op, Loop) else node.op.bodies:
            _join(parents, node.results, body.outputs)
        if isinstance(node.op, Loop):
            carry = node.op.split(node.operands)[2]
            _join(parents, carry, node.results[: len(carry)])


def _join(parents: dict[int, int], ones: Sequence[int], others: Sequence[int]) -> None:
    for one, other in zip(ones, others, strict=True):
        a, b = _end(parents, one), _end(parents, other)
        parents[max(a, b)] = min(a, b)


def _end(parents: dict[int, int], value: int) -> int:
    while parents[value] != value:
        parents[value] = parents[parents[value]]
        value = parents[value]
    return value


class _Walk:
    """Goes through a plan moment by moment."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.kernels: list[int | None] = []
        self.launched = 0
        self.moved_bytes: dict[int, int] = {}
        self.where: dict[int, tuple[Place, ...]] = {}  # all places in which a value may lie
        self.spans: dict[int, tuple[int, int]] = {}  # first and last moment of a value in the plan that it belongs to

    @property
    def now(self) -> int:
        """The last moment so far."""
        return len(self.kernels) - 1

    def body(self, plan: Plan, homes: Mapping[int, Place], times: int) -> None:
        """A whole plan. homes: the places of its outputs, where they have been chosen. times: how often it runs."""
        graph = plan.graph
        homes = _from_the_first(plan, homes)
        self._next()
        for value in (*graph.inputs, *graph.constants):
            if value not in self.where:
                self.where[value] = (self._place(graph, value, is_argument=value not in plan.given_away),)
            self._use(value)
        for step in plan.steps:
            if isinstance(step, PlannedKernel):
                self._kernel(plan, step, homes, times)
            else:
                self._region(plan, step, homes, times)
        self._next()
        for value in graph.outputs:
            self._use(value)
        for value in (v for v in graph.types if v in self.spans):
            _keep(self.where[value], _moments(*self.spans[value]))
        wrong = [graph.labels[v] for v in graph.outputs if v in homes and self.where[v] != (homes[v],)]
        if wrong or (homes and len(set(graph.outputs)) != len(graph.outputs)):
            raise ArgumentError(
                describe(
                    "a body returns what is not its own", given=", ".join(wrong) or "one value twice", do="copy it"
                )
            )

    def _next(self, kernel: int | None = None) -> None:
        self.kernels.append(kernel)

    def _use(self, value: int) -> None:
        self.spans[value] = (self.spans.get(value, (self.now, self.now))[0], self.now)

    def _place(self, graph: Graph, value: int, *, is_argument: bool = False) -> Place:
        place = Place(value, graph.labels[value], graph.types[value], is_argument=is_argument)
        self.places.append(place)
        return place

    def _made(self, plan: Plan, value: int, homes: Mapping[int, Place]) -> Place:
        """The place of a value that is written: that of what it overwrites, the one that was chosen, or a new one."""
        if value in plan.overwritten:
            (place,) = self.where[plan.overwritten[value]]
            self._use(plan.overwritten[value])
        else:
            place = homes.get(value) or self._place(plan.graph, value)
        self.where[value] = (place,)
        return place

    def _kernel(self, plan: Plan, step: PlannedKernel, homes: Mapping[int, Place], times: int) -> None:
        self._next(self.launched)
        self.launched += 1
        for value in step.kernel.sources:
            self._use(value)
        for write in step.kernel.writes:
            self._made(plan, write.value, homes)
            self._use(write.value)
        for stream in step.streams:
            value = stream.value if stream.is_store else step.kernel.source(stream.value)
            self.moved_bytes[value] = self.moved_bytes.get(value, 0) + stream.total_bytes * times
            read_bytes, written_bytes = (0, stream.total_bytes) if stream.is_store else (stream.total_bytes, 0)
            self.where[value][-1].moves.append(Move(self.launched - 1, read_bytes, written_bytes))

    def _region(self, plan: Plan, step: PlannedRegion, homes: Mapping[int, Place], times: int) -> None:
        self._next()
        for value in step.node.operands:
            self._use(value)
        results = {value: self._made(plan, value, homes) for value in step.node.results}
        if isinstance(step.op, Loop) and step.op.trips != 1:
            self._loop(step, step.op, results, times)
        else:
            for body, given in zip(step.plans, step.op.given(step.node.operands), strict=True):
                self._enter(body.graph.inputs, given)
                self.body(body, dict(zip(body.graph.outputs, results.values(), strict=True)), times)
        self._next()
        for value in step.node.results:
            self._use(value)

    def _enter(self, inputs: Sequence[int], given: Sequence[int]) -> None:
        for inside, outside in zip(inputs, given, strict=True):
            self.where[inside] = self.where[outside]

    def _loop(self, step: PlannedRegion, loop: Loop, results: Mapping[int, Place], times: int) -> None:
        """A loop that may turn more than once."""
        trips, first = ASSUMED_TRIPS if loop.trips is None else loop.trips, self.now
        of_condition, of_body, carry, xs = loop.split(step.node.operands)
        body, homes = step.plans[0], list(results.values())
        # Where a trip finds the carry, if not where it leaves it.
        found = [
            home if result in step.overwritten else Place(v, body.graph.labels[v], body.graph.types[v])
            for v, result, home in zip(body.graph.outputs[: len(carry)], results, homes, strict=False)
        ]
        for plan, given in zip(step.plans, loop.given(step.node.operands), strict=True):
            self._enter(plan.graph.inputs, given)
            for inside, place in zip(loop.carried(plan.graph), found, strict=True):
                self.where[inside] = tuple(dict.fromkeys((*self.where[inside], place)))
        self.body(body, dict(zip(body.graph.outputs, homes, strict=True)), times * trips)
        asked = self.now + 1
        for plan in step.plans[1:]:
            self.body(plan, {}, times * (trips + 1))
        if loop.condition is not None:  # while it is asked whether to go on, the carry stays
            for whole, place in zip(carry, found, strict=True):
                _keep((*self.where[whole], place), _moments(asked, self.now))
        stay = [self.where[v] for v in (*of_condition, *of_body, *xs, *list(results)[len(carry) :])]
        loop_moments = _moments(first, self.now)
        _keep((place for places in stay for place in places), loop_moments)
        for result, home, other, whole in zip(results, homes, found, carry, strict=False):
            if home is other:
                _keep((home,), loop_moments)
                continue
            places = self._in_turn(home, other, loop_moments)
            if not loop.trips:
                self.where[result] = tuple(dict.fromkeys((*places, *self.where[whole])))

    def _in_turn(self, home: Place, other: Place, loop_moments: int) -> tuple[Place, ...]:
        """The places of a carry: that of the result, and another one where its old and its new value overlap."""
        both = (home.alive | other.alive) & loop_moments
        overlap = home.alive & other.alive
        home.alive |= both
        if not overlap:
            home.moves += other.moves
            return (home,)
        other.alive = both
        self.places.append(other)
        return home, other


def _from_the_first(plan: Plan, homes: Mapping[int, Place]) -> dict[int, Place]:
    """The places chosen for values, and for those that they overwrite, if these are made in the plan itself."""
    found = dict(homes)
    for value, place in homes.items():
        while value in plan.overwritten:
            value = plan.overwritten[value]
            found[value] = place
    return found


def _keep(places: Iterable[Place], moments: int) -> None:
    for place in places:
        place.alive |= moments


def _moments(first: int, last: int) -> int:
    """The moments from the first to the last, as bits."""
    return (1 << (last + 1)) - (1 << first)
