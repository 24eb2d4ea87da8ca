"""The compiler: from a graph to a plan. `GRAPH_PASSES` and `PLAN_PASSES` say the order of the passes, with the reasons.

A loop or branch is a border: the passes that make kernels run on each stretch of nodes between two of them, and on each
body by itself. The grammar of graphs is checked before the first pass and after each of them, that of plans at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import Any

from rdujax.base.errors import ArgumentError, ConcretenessError, describe, unknown
from rdujax.compiler import fuse, memory
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.narrow import narrow
from rdujax.compiler.order import order
from rdujax.compiler.passes import Pass, Passes, PassText, plan_text
from rdujax.compiler.planner import Planner, Seen
from rdujax.compiler.simplify import simplify
from rdujax.compiler.stages import form
from rdujax.compiler.tile import tile
from rdujax.graph.graph import Graph, Node, Region, all_nodes, node_labels, rewritten
from rdujax.graph.graph import check as check_graph
from rdujax.graph.graph import text as graph_text
from rdujax.graph.inplace import overwritten, succeeding
from rdujax.graph.legality import check as check_plan
from rdujax.graph.plan import BufferFormat, Plan, PlannedKernel, PlannedRegion, Step
from rdujax.graph.regions import Loop
from rdujax.ledger.numbers import is_exact
from rdujax.machines.machine import ORCHESTRATIONS, Machine
from rdujax.ops.contract import Contract
from rdujax.units.memory import TIERS

BUFFER_FORMATS: tuple[BufferFormat, ...] = ("declared", "fp32")
Fusion = str | fuse.Cuts


@dataclass(frozen=True)
class Choices:
    """What a user chose; each is checked when the record is made.

    fusion: "streaming", "greedy", "none", "primitives" or `cut_after(...)`, see `fuse.py`.
    orchestration: "hardware", "software" or "looped", see `units/agcu/launch.py`.
    stage_buffer_format: "declared", or "fp32" to keep in FP32 what a stage buffer holds of a BF16 value.
    k_splits: segments of K per contraction, one number for all or by label. tier: where values rest in memory, or
    "auto": in HBM, and what does not fit in DDR. tiers: tiers of single values by label, or by the beginning of labels
    followed by "...". donate_argnums: numbers of arguments that the caller needs no more, so that what updates them may
    take their place in memory.
    """

    fusion: Fusion = "streaming"
    orchestration: str = "hardware"
    stage_buffer_format: str = "declared"
    k_splits: int | Mapping[str, int] = 1
    tier: str = memory.AUTO
    tiers: Mapping[str, str] = field(default_factory=dict)
    donate_argnums: int | Sequence[int] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.fusion, fuse.Cuts) and self.fusion not in fuse.FUSIONS:
            raise unknown("fusion", self.fusion, fuse.FUSIONS, do="or pass rdujax.cut_after(label, ...)")
        if isinstance(self.k_splits, bool) or not isinstance(self.k_splits, int | Mapping):
            raise ArgumentError(
                describe("k_splits", given=repr(self.k_splits), allowed="an integer, or integers by label")
            )
        object.__setattr__(self, "tiers", _tiers(self.tiers))
        donated = self.donate_argnums
        if isinstance(donated, bool | str) or not isinstance(donated, int | Sequence):
            raise ArgumentError(describe("donate_argnums", given=repr(donated), allowed="an integer, or several"))
        object.__setattr__(self, "donate_argnums", (donated,) if isinstance(donated, int) else tuple(donated))
        for kind, given, allowed in (
            ("orchestration", self.orchestration, ORCHESTRATIONS),
            ("stage_buffer_format", self.stage_buffer_format, BUFFER_FORMATS),
            ("tier", self.tier, (memory.AUTO, *TIERS)),
        ):
            if given not in allowed:
                raise unknown(kind, given, allowed)


def _tiers(given: Any) -> dict[str, str]:
    """Tiers by label, none for None; ArgumentError for what is no mapping of labels."""
    found = {} if given is None else given
    if not isinstance(found, Mapping) or not all(isinstance(label, str) for label in found):
        do = f"tier={given!r} is where all values rest" if given in TIERS else ""
        raise ArgumentError(
            describe("tiers are names by the label of a value", given=repr(given), do=do,
                     allowed='a dictionary like {"x": "ddr", "params...": "host"}')
        )  # fmt: skip
    return dict(found)


CHOICES = tuple(each.name for each in fields(Choices))


# Each takes a graph and the choices, and gives a graph.
GRAPH_PASSES = (
    Pass(
        "split", lambda graph, choices: with_k_splits(graph, choices.k_splits),
        "k_splits are part of the meaning of the bits, and are named by the labels of the function as it was traced",
    ),
    Pass(
        "simplify", lambda graph, choices: simplify(graph),
        "what is computed twice would be priced and placed twice; before fusion, which would hide it inside of kernels",
    ),
    Pass(
        "narrow", lambda graph, choices: narrow(graph),
        "what sockets send is known before fusion prices it; after simplify, which leaves one reader of equal ones",
    ),
    Pass(
        "order", lambda graph, choices: order(graph) if choices.fusion in fuse.SEARCHED else graph,
        "kernels are of consecutive nodes; last, for it looks at what is left; not where a user or a framework says "
        "which nodes follow one another",
    ),
)  # fmt: skip
# What each of them does for one stretch of nodes; every one asks the next to price its candidates.
PLAN_PASSES = (
    Pass("fuse", Planner.groups, "which nodes make which kernel; all that follows is decided kernel by kernel"),
    Pass("stages", form, "patterns become buffer reads, chains of maps one stage: only then is there a thing to cut"),
    Pass("tile", tile, "the loop nest and what stays on chip: how much work a turn is"),
    Pass("allocate", Allocator.allocate, "PCUs, PMUs and AGCUs for the work of a turn"),
    Pass(
        "memory", memory.planned,
        "only whole plans tell what is alive when; where a tier is full, all is planned again with other tiers",
    ),
)  # fmt: skip


def plan(
    graph: Graph,
    machine: Machine,
    choices: Choices,
    given_away: frozenset[int] = frozenset(),
    seen: Seen | None = None,
) -> Plan:
    """The plan of a graph on a machine. given_away: the inputs that the caller needs no more.

    seen: kernels that were planned for the same graph, machine and choices, but with another fusion or orchestration.
    Raises CapacityError for what does not fit, UnknownNameError and ArgumentError for choices that name nothing.
    """
    check_machine(machine)
    check_graph(graph)
    for each in GRAPH_PASSES:
        graph = each.function(graph, choices)
        check_graph(graph)
    return placed(graph, machine, choices, given_away, seen)


def placed(
    graph: Graph,
    machine: Machine,
    choices: Choices,
    given_away: frozenset[int] = frozenset(),
    seen: Seen | None = None,
) -> Plan:
    """The plan of a graph that has been through the passes on graphs; raises as `plan`."""
    if isinstance(choices.fusion, fuse.Cuts):
        choices = replace(choices, fusion=_cuts_of_nodes(graph, choices.fusion))

    over, known = overwritten(graph, given_away), Seen() if seen is None else seen

    def made(tiers: Mapping[int, str], cuts: Plan | None) -> Plan:
        result = _Planning(machine, choices, tiers, frozenset(over), known).planned(graph, cuts, 1)
        result = replace(result, given_away=given_away)
        check_plan(result)
        return result

    together = over | succeeding(graph, given_away, over)
    return memory.planned(graph, machine, choices.tier, choices.tiers, made, together)


def passes(graph: Graph, choices: Choices, plan: Plan) -> Passes:
    """What each pass made of a traced graph on its way to its plan. The passes on graphs are run again for it."""
    found, text = [], graph_text(graph)
    for each in GRAPH_PASSES:
        graph = each.function(graph, choices)
        before, text = text, graph_text(graph)
        found.append(PassText(each.name, each.reason, before, text))
    for each in PLAN_PASSES:
        before, text = text, plan_text(plan, each.name)  # type: ignore[arg-type]
        found.append(PassText(each.name, each.reason, before, text))
    return Passes(tuple(found))


class _Planning:
    """One way to plan a program, graph by graph; its kernels are numbered in the order of the text.

    in_place: results that take the place of something else. seen: kernels that were planned before.
    """

    def __init__(
        self, machine: Machine, choices: Choices, tiers: Mapping[int, str], in_place: frozenset[int], seen: Seen
    ):
        self.machine, self.choices, self.tiers = machine, choices, tiers
        self.in_place, self.seen = in_place, seen
        self.numbers = count()

    def planned(self, graph: Graph, cuts: Plan | None, trips: int) -> Plan:
        """The plan of a graph, and of the bodies inside of it.

        cuts: a plan of the same graph, whose kernels have the nodes that those of this one are to have. trips: how
        often it runs with nothing in between.
        """
        steps: list[Step] = []
        there = {*graph.inputs, *graph.constants}
        parts = list(_stretches(graph))
        trips = trips if len(parts) == 1 else 1
        for stretch in parts:
            if isinstance(stretch, Node):
                steps.append(self._region(stretch, cuts, trips))
                there |= set(stretch.results)
                continue
            within = replace(self.choices, fusion=_cuts_within(stretch, self.choices.fusion))
            own = self.in_place & set(stretch.types)
            planner = Planner(stretch, self.machine, within, self.tiers, own, trips, self.seen)
            kernels = tuple(planner.planned(group) for group in _groups_of(cuts, stretch) or planner.groups())
            there |= planner.in_memory(kernels)
            names = [f"{next(self.numbers)}: {k.kernel.name}" for k in kernels]
            steps += [replace(k, kernel=replace(k.kernel, name=name)) for k, name in zip(kernels, names, strict=True)]
        choices = self.choices
        return Plan(
            graph, tuple(steps), {value: self.tiers[value] for value in sorted(there)}, choices.orchestration,
            str(choices.fusion), choices.stage_buffer_format,  # type: ignore[arg-type]
        )  # fmt: skip

    def _region(self, node: Node, cuts: Plan | None, trips: int) -> PlannedRegion:
        assert isinstance(node.op, Region)
        of_bodies = _bodies_of(cuts, node) or [None] * len(node.op.bodies)
        trips *= _trips(node.op)
        plans = (self.planned(body, own, trips) for body, own in zip(node.op.bodies, of_bodies, strict=True))
        return PlannedRegion(node, tuple(plans))


def _trips(region: Region) -> int:
    """How often a body runs with nothing in between, as far as it is known; 1 where values decide."""
    return region.trips or 1 if isinstance(region, Loop) else 1


def _bodies_of(cuts: Plan | None, node: Node) -> Sequence[Plan | None]:
    """The plans that another plan has for the bodies of a region."""
    steps = cuts.steps if cuts else ()
    return next((s.plans for s in steps if isinstance(s, PlannedRegion) and s.node.results == node.results), ())


def _groups_of(cuts: Plan | None, stretch: Graph) -> list[Sequence[Node]]:
    """The nodes of the kernels that another plan has for a stretch."""
    own = {node.result for node in stretch.nodes}
    steps = cuts.steps if cuts else ()
    return [s.kernel.nodes for s in steps if isinstance(s, PlannedKernel) and s.kernel.nodes[-1].result in own]


def _stretches(graph: Graph) -> Iterator[Graph | Node]:
    """The regions of a graph, and between them what lies there as graphs of their own, under the same numbers."""
    if not any(isinstance(node.op, Region) for node in graph.nodes):
        yield graph
        return
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.operands}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    begin = 0
    for i, node in enumerate((*graph.nodes, None)):
        if node is not None and not isinstance(node.op, Region):
            continue
        if begin < i:
            yield _stretch(graph, begin, i, last)
        if node is not None:
            yield node
        begin = i + 1


def _stretch(graph: Graph, begin: int, end: int, last: Mapping[int, int]) -> Graph:
    """Nodes begin..end of a graph without regions among them. last: the node that reads a value last."""
    nodes = graph.nodes[begin:end]
    made = [v for node in nodes for v in node.results]
    given = dict.fromkeys(v for node in nodes for v in node.operands if v not in set(made))
    values = {*made, *given}
    return Graph(
        {v: t for v, t in graph.types.items() if v in values},
        {v: t for v, t in graph.labels.items() if v in values},
        tuple(given),
        {},
        nodes,
        tuple(v for v in made if last.get(v, -1) >= end),
    )


def _cuts_of_nodes(graph: Graph, cuts: fuse.Cuts) -> fuse.Cuts:
    """The cuts by the labels of the nodes that are there; UnknownNameError for a label that none stands for."""
    labels = node_labels(graph)
    for label in cuts.after:
        if label not in labels:
            raise unknown("node to cut after", label, labels)
    return fuse.Cuts(tuple(dict.fromkeys(labels[label] for label in cuts.after)))


def _cuts_within(graph: Graph, fusion: Fusion) -> Fusion:
    """The fusion of a part of the program: of cuts by hand, those in it."""
    if not isinstance(fusion, fuse.Cuts):
        return fusion
    labels = {node.label for node in graph.nodes}
    return fuse.Cuts(tuple(label for label in fusion.after if label in labels))


def check_machine(machine: Machine) -> None:
    """Refuses a machine on which nothing can be planned, since some of its facts are JAX values; ConcretenessError."""
    for path, fact in machine.facts().items():
        if not is_exact(fact.value):
            raise ConcretenessError(
                describe(
                    "decisions need plain facts", given=f"a JAX value for {path}", allowed="Python numbers",
                    do="plan with numbers, then price with program.cost(machine.replace(...)), which may be traced",
                )
            )  # fmt: skip


def with_k_splits(graph: Graph, k_splits: int | Mapping[str, int]) -> Graph:
    """The graph with K of its contractions split; the segments become part of each node's meaning."""
    labels = [node.label for node in all_nodes(graph) if isinstance(node.op, Contract)]
    if not labels and k_splits not in (1, {}):
        raise ArgumentError(
            describe("k_splits where nothing is contracted", given=repr(k_splits), allowed="1", do="leave k_splits out")
        )
    if isinstance(k_splits, Mapping):
        for label in k_splits:
            if label not in labels:
                raise unknown("contraction", label, labels, where="k_splits")

    def split(graph: Graph, node: Node) -> Node:
        if not isinstance(node.op, Contract):
            return node
        wanted = k_splits.get(node.label, node.op.config.k_splits) if isinstance(k_splits, Mapping) else k_splits
        # A node whose author fixed its segments keeps them unless the caller asks for others.
        if isinstance(k_splits, Mapping) or isinstance(k_splits, bool) or k_splits != 1:
            return _split(graph, node, wanted)
        return node

    return rewritten(graph, split)


def _split(graph: Graph, node: Node, splits: int) -> Node:
    assert isinstance(node.op, Contract)
    k = node.op.config.extent(*(graph.types[v].shape for v in node.operands)).k
    if isinstance(splits, bool) or not isinstance(splits, int) or not 1 <= splits <= k:
        raise ArgumentError(
            describe(
                "k_splits of a contraction",
                given=repr(splits),
                allowed=f"an integer from 1 to K = {k}",
                where=node.label,
            )
        )
    config = replace(node.op.config, k_splits=splits)
    if config.segments(k) != splits:
        raise ArgumentError(
            describe(
                f"K = {k} does not make {splits} segments of equal length, the last perhaps shorter",
                given=f"k_splits={splits}",
                allowed=", ".join(str(n) for n in range(1, k + 1) if replace(config, k_splits=n).segments(k) == n),
                where=node.label,
            )
        )
    return replace(node, op=replace(node.op, config=config))
