"""Pass: from a set of nodes to one kernel of stages.

Access patterns become the read side of a stage buffer, and chains of element-wise operations with one reader become
one stage. Neither changes a bit: patterns move values, and every instruction of a chain still rounds to its format.
"""

from collections.abc import Sequence

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
    changed = True
    while changed:
        changed = False
        for stage in stages:
            merged = _merge_into_reader(stage, stages, written)
            if merged is not None:
                reader, new = merged
                stages = [new if s is reader else s for s in stages if s is not stage]
                changed = True
                break
    return stages


def _merge_into_reader(stage: Stage, stages: list[Stage], written: set[int]) -> tuple[Stage, Stage] | None:
    """(reader, reader with the stage's expression inside), where the stage's only reader is a map without a pattern."""
    readers = [(s, i) for s in stages for i, r in enumerate(s.reads) if r.value == stage.result]
    if not isinstance(stage.op, Map) or stage.result in written or len(readers) != 1 or stage.pins != NO_PINS:
        return None
    reader, position = readers[0]
    if not isinstance(reader.op, Map) or reader.reads[position].chain or reader.pins != NO_PINS:
        return None
    expression = compose(reader.op.expression, position, stage.op.expression)
    reads = reader.reads[:position] + stage.reads + reader.reads[position + 1 :]
    distinct = list(dict.fromkeys(reads))
    expression = share(expression, [distinct.index(r) for r in reads])
    members = stage.members + reader.members
    label = "+".join(members)
    return reader, Stage(label, Map(expression), tuple(distinct), reader.result, members)
