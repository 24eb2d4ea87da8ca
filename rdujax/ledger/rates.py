"""How fast a pipeline can go for ever, what holds it back, and how deep its buffers must be to hold nothing back."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from rdujax.ledger.circuits import heaviest
from rdujax.ledger.pipeline import Edge, Pipeline
from rdujax.ledger.waits import Cause, Wait, expand, nominal_lengths


@dataclass(frozen=True)
class SteadyState:
    """The rate of a pipeline in the long run, and the circuit of waiting that decides it.

    cycles_per_iteration: exact. circuit: (stage, turn, what the turn waits for), each waiting for the one before it,
    the first for the last. iterations: how many pass on the way round; the services on the circuit, divided by them,
    are `cycles_per_iteration`. told: the waits of the circuit in words. Of circuits of the same rate, always the same
    one is named.
    """

    cycles_per_iteration: Fraction
    circuit: tuple[tuple[str, int, Wait], ...]
    iterations: int
    told: tuple[str, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages on the circuit, each once: the bottleneck."""
        return tuple(dict.fromkeys(stage for stage, _, _ in self.circuit))

    def __str__(self) -> str:
        cycles = float(self.cycles_per_iteration)
        lap = f", {self.iterations:,} iterations a lap" if self.iterations > 1 else ""
        return f"{cycles:,.6g} cycle{'s' * (cycles != 1)} per iteration{lap}: {'; '.join(self.told)}"


def steady_state(pipeline: Pipeline) -> SteadyState:
    """The cycles per iteration that a pipeline settles at: the maximum circuit ratio of its waits, exactly.

    A long stream takes `cycles_per_iteration` for each further iteration, on average over some laps. Raises
    ArgumentError for a deadlock, ConcretenessError where a stage holds a JAX value.
    """
    form, service = expand(pipeline), pipeline.service(1)
    found = heaviest([service[stage] for stage, _ in form.turns], form.arcs, form.order)
    circuit, iterations, told = [], 0, []
    for before, node in zip((found.circuit[-1], *found.circuit), found.circuit, strict=False):
        wait = min((wait for wait in form.waits[node] if wait.on == before), key=lambda wait: wait.delay)
        stage, turn = form.turns[node]
        circuit.append((form.stages[stage], turn, wait))
        iterations += wait.delay
        what = "the turn before" if wait.cause is Cause.STAGE else str(wait)
        told.append(f"{form.turn_name(node)} waits for {what}")
    return SteadyState(found.ratio, tuple(circuit), iterations, tuple(told))


def full_rate_depths(pipeline: Pipeline) -> dict[tuple[str, str], int]:
    """For every edge, the depth with which it never slows the pipeline below the rate of its slowest stage.

    With one tile a turn that is level(consumer) - level(producer) + 1: 2 between neighbours, d + 1 for an edge that
    skips to d levels on. In general it is the most slots that are taken at once if every stage takes one unit of time
    per iteration, in turns of equal length, each as early as its tiles allow: a barrier between neighbours needs
    the tiles of two iterations. Scaled to the cycles that the slowest stage needs for an iteration, this schedule is
    open to all the others, so no circuit of waiting is slower. With stages of one turn per iteration that share
    resources, the same depths suffice for the rate of the slowest stage or resource; with unequal rates at a shared
    resource, a turn that it cannot interrupt may need more (`steady_state` tells). The depths of the pipeline itself
    are not looked at; between two stages with several edges, the deepest counts.
    """
    ample = [replace(edge, depth=edge.depth + _tiles(pipeline, edge)) for edge in pipeline.edges]
    form = expand(replace(pipeline, edges=tuple(ample), shared=()))
    free = [[(wait.on, wait.delay) for wait in waits if wait.cause is not Cause.SLOT] for waits in form.waits]
    lengths = nominal_lengths(form)
    period = lengths[0] * pipeline.stages[0].repeats
    starts = heaviest(lengths, free, form.order).starts
    node = {turn: at for at, turn in enumerate(form.turns)}
    depths: dict[tuple[str, str], int] = {}
    for edge in pipeline.edges:
        producer, consumer = pipeline.index[edge.producer], pipeline.index[edge.consumer]
        takes = [
            starts[node[producer, turn]]
            for turn in range(edge.every - 1, pipeline.stages[producer].repeats, edge.every)
        ]
        gives = [
            starts[node[consumer, turn]] + lengths[node[consumer, turn]]
            for turn in range(edge.reuse - 1, pipeline.stages[consumer].repeats, edge.reuse)
        ]
        taken = max(
            edge.produced * emitted - edge.consumed * _events(gives, period, time)
            for emitted, time in enumerate(takes, start=1)
        )
        key = edge.producer, edge.consumer
        depths[key] = max(taken, depths.get(key, 0))
    return depths


def _events(times: Sequence[int], period: int, now: int) -> int:
    """How many of rising `times`, repeating for ever, have come by now; negative for those before the first lap."""
    laps, rest = divmod(now - times[0], period)
    return laps * len(times) + bisect_right(times, times[0] + rest)


def _tiles(pipeline: Pipeline, edge: Edge) -> int:
    """Tiles that pass an edge in one iteration."""
    return edge.produced * pipeline.stages[pipeline.index[edge.producer]].repeats // edge.every
