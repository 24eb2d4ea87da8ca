"""Pass: from a set of nodes to one kernel of stages.

Access patterns become the read side of a stage buffer, and chains of element-wise operations with one reader become
one stage. Neither changes a bit: patterns move values, and every instruction of a chain still rounds to its format.
"""

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from rdujax.graph.graph import NO_PINS, Graph, Node
from rdujax.graph.plan import Kernel, Read, Stage, Write
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.units.pcu.expression import compose, share


def form(graph: Graph, nodes: Sequence[Node], name: str, materialised: frozenset[int]) -> Kernel:
    """The kernel that computes `nodes`; `materialised` are the values that it must leave in memory."""
    inside = {node.result for node in nodes}
    reads: dict[int, Read] = {}  # a value that is an access pattern away from what is really there
    stages: list[Stage] = []
    for node in nodes:
        operands = tuple(_resolve(reads, v) for v in node.operands)
        if isinstance(node.op, Move):
            reads[node.result] = Read(operands[0].value, (*operands[0].chain, node.op.access))
        else:
            stages.append(Stage(node.label, node.op, operands, node.result, (node.label,), node.pins))  # type: ignore[arg-type]
    writes = tuple(Write(v, _resolve(reads, v)) for v in sorted(materialised & inside))
    stages = _chain(stages, {w.read.value for w in writes})
    used = [r.value for s in stages for r in s.reads] + [w.read.value for w in writes]
    computed = {s.result for s in stages}
    loads = tuple(dict.fromkeys(v for v in used if v not in computed))
    return Kernel(name, loads, tuple(stages), writes, tuple(nodes))


def _resolve(reads: dict[int, Read], value: int) -> Read:
    return reads.get(value, Read(value))


def _chain(stages: list[Stage], written: set[int]) -> list[Stage]:
    """The stages, each merged into its reader where that may be; of several that may, the first one first."""
    at = {stage.result: i for i, stage in enumerate(stages)}
    now: dict[int, Stage] = dict(enumerate(stages))
    readers: dict[int, list[int]] = defaultdict(list)  # one entry for every read
    for i, stage in now.items():
        for read in stage.reads:
            readers[read.value].append(i)
    waiting = [i for i, stage in now.items() if isinstance(stage.op, Map)]
    while waiting:
        i = heappop(waiting)
        if i not in now or len(readers[now[i].result]) != 1 or now[i].result in written:
            continue
        [to] = readers[now[i].result]
        merged = _merge(now[i], now[to])
        if merged is None:
            continue
        for old in (now[i], now[to]):
            for read in old.reads:
                readers[read.value].remove(at[old.result])
        del now[i]
        now[to] = merged
        for read in merged.reads:
            readers[read.value].append(to)
            if read.value in at:  # it may have had two readers, which are one now
                heappush(waiting, at[read.value])
    return [now[i] for i in sorted(now)]


def _merge(stage: Stage, reader: Stage) -> Stage | None:
    """The reader with the stage's expression inside; None where one is no map, fixed by hand, or reads by a pattern."""
    if stage.pins != NO_PINS or reader.pins != NO_PINS:
        return None
    if not isinstance(stage.op, Map) or not isinstance(reader.op, Map):
        return None
    position = next(i for i, read in enumerate(reader.reads) if read.value == stage.result)
    if reader.reads[position].chain:
        return None
    expression = compose(reader.op.expression, position, stage.op.expression)
    reads = reader.reads[:position] + stage.reads + reader.reads[position + 1 :]
    distinct = list(dict.fromkeys(reads))
    expression = share(expression, [distinct.index(r) for r in reads])
    members = stage.members + reader.members
    label = "+".join(members)
    return Stage(label, Map(expression), tuple(distinct), reader.result, members)
